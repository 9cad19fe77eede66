//! `--thaw`: what a restore needs of an archive is asked for and waited for, before anything else is done; and what is told
//! where nobody asked, and something lies there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backup_core::care::{ThawOptions, ThawOutcome, thaw};
use backup_core::contracts::{Archive, ObjectKey, SinkErrorKind, ThawRequest, ThawSpeed};
use backup_core::model::{Snapshot, SnapshotPath};
use backup_core::observe::{Observer, Silent};
use backup_core::pipeline::restored_packs;
use backup_core::repository::Repository;
use backup_core::{Error, ErrorKind};
use serde_json::{Value, json};

use crate::config;
use crate::console::amounts;
use crate::exit::Failure;
use crate::session::Session;

/// Packs that are named when nothing is asked for.
const NAMED_MAX: usize = 10;

/// Packs that are named when a restore has met one that lies in the archive.
const NAMED_IN_ERROR_MAX: usize = 3;

/// Packs that are looked at for that: some seconds of requests, for about 16 GB.
const LOOKED_AT_MAX: usize = 1_000;

/// What commands take that read content which may lie in an archive.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Archives")]
pub(crate) struct ThawArgs {
    /// Ask for the packs that lie in an archive class (S3), and wait until they can be read
    #[arg(long)]
    pub(crate) thaw: bool,
    /// How soon they are wanted, which decides what it costs
    #[arg(long, value_enum, default_value_t, requires = "thaw")]
    thaw_speed: Speed,
    /// For how many days they stay readable
    #[arg(long, value_name = "NUMBER", default_value_t = 7, requires = "thaw",
        value_parser = clap::value_parser!(u32).range(1..=365))]
    thaw_days: u32,
    /// How long to wait at most; what was asked for comes out all the same: 30min, 12h, 3d
    #[arg(long, value_name = "TIME", default_value = "3d", requires = "thaw", value_parser = limit)]
    thaw_limit: Duration,
}

/// How soon packs are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Speed {
    /// Within a day or two, for the least
    Bulk,
    /// Within hours
    #[default]
    Standard,
    /// Within minutes, where the store can
    Expedited,
}

fn limit(text: &str) -> Result<Duration, String> {
    config::length(text)?.try_into().map_err(|_| "too long".to_owned())
}

impl ThawArgs {
    /// That it is asked for, with nothing else said.
    pub(crate) fn usual() -> Self {
        const DAYS: u32 = 7;
        const LIMIT: Duration = Duration::from_secs(3 * 86_400);
        Self { thaw: true, thaw_speed: Speed::default(), thaw_days: DAYS, thaw_limit: LIMIT }
    }

    fn options(&self, dry_run: bool) -> ThawOptions {
        let speed = match self.thaw_speed {
            Speed::Bulk => ThawSpeed::Bulk,
            Speed::Standard => ThawSpeed::Standard,
            Speed::Expedited => ThawSpeed::Expedited,
        };
        ThawOptions { request: ThawRequest { days: self.thaw_days, speed }, limit: self.thaw_limit, dry_run }
    }
}

/// What came of the waiting.
#[derive(Debug)]
pub(crate) struct Thawed {
    packs: usize,
    outcome: ThawOutcome,
    is_dry: bool,
    seconds: f64,
}

impl Thawed {
    /// For programs; `docs/json/restore.md`.
    pub(crate) fn document(&self) -> Value {
        let ThawOutcome { ready, thawing, frozen } = &self.outcome;
        let names: Vec<_> = frozen.iter().map(|key| key.as_str()).collect();
        json!({
            "packs": self.packs, "ready": ready, "thawing": thawing, "frozen": names, "asked": !self.is_dry,
            "seconds": self.seconds,
        })
    }

    /// Whether it was only looked, and something cannot be read yet.
    pub(crate) fn is_to_come(&self) -> bool {
        self.is_dry && (self.outcome.thawing > 0 || !self.outcome.frozen.is_empty())
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let ThawOutcome { ready, thawing, frozen } = &self.outcome;
        if !self.is_dry {
            let (asked, of) = (amounts::count(frozen.len() as u64), amounts::counted(self.packs as u64, "pack"));
            return format!("{asked} of {of} asked for, all readable after {}", amounts::span(self.seconds));
        }
        let mut text = format!(
            "{} in the archive, {} on their way, {} readable",
            amounts::counted(frozen.len() as u64, "pack"),
            amounts::count(*thawing),
            amounts::count(*ready),
        );
        for key in frozen.iter().take(NAMED_MAX) {
            text.push_str("\n  ");
            text.push_str(key.as_str());
        }
        text
    }
}

/// Whether something is asked for and waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    /// It is.
    Now,
    /// It is only looked.
    DryRun,
}

/// What is to be restored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) snapshot: &'a Snapshot,
    /// What of it; all when not given.
    pub(crate) path: Option<&'a SnapshotPath>,
}

/// The failure of a restore. When it has met the archive, it tells how much lies there, where that can be asked.
pub(crate) fn restore_failed(error: Error, wanted: Wanted<'_>, session: &Session) -> Failure {
    let frozen = is_frozen(&error).then(|| looked(wanted, session)).and_then(Result::ok);
    let mut failure = Failure::from(error);
    if let Some((Thawed { packs: looked_at, outcome, .. }, packs)) = frozen
        && !outcome.frozen.is_empty()
    {
        let (count, first) = (outcome.frozen.len(), if packs > looked_at { "the first " } else { "" });
        let names: Vec<_> = outcome.frozen.iter().take(NAMED_IN_ERROR_MAX).map(ObjectKey::as_str).collect();
        let more = match count - names.len() {
            0 => String::new(),
            more => format!(" and {} more", amounts::count(more as u64)),
        };
        let (count, of) = (amounts::count(count as u64), amounts::counted(looked_at as u64, "pack"));
        failure.what += &format!("; {count} of {first}{of} that it needs: {}{more}", names.join(", "));
    }
    failure
}

/// The failure of a verb that reads content and does not thaw.
pub(crate) fn reading_failed(error: Error) -> Failure {
    let is_frozen = is_frozen(&error);
    let failure = Failure::from(error);
    if !is_frozen {
        return failure;
    }
    failure.with_hint(
        "`restore SNAPSHOT --to FOLDER --thaw --thaw-limit 0s` asks for what a snapshot needs (S3); when it is out, run this again",
    )
}

fn is_frozen(error: &Error) -> bool {
    *error.kind() == ErrorKind::Sink(SinkErrorKind::Frozen)
}

/// How it stands with the first packs, and how many there are.
fn looked(wanted: Wanted<'_>, session: &Session) -> Result<(Thawed, usize), Failure> {
    let Wanted { repository, snapshot, path } = wanted;
    let archive = session.locate(session.place()?)?.archive(session)?;
    let index = repository.load_index(&Silent)?;
    let mut packs = restored_packs(&index, repository, snapshot, path, &session.cancel)?;
    let count = packs.len();
    packs.truncate(LOOKED_AT_MAX);
    let options = ThawArgs::usual().options(true);
    let outcome = thaw(repository, &archive, &packs, &options, &session.cancel, &Silent)?;
    Ok((Thawed { packs: packs.len(), outcome, is_dry: true, seconds: 0.0 }, count))
}

/// Waits until everything can be read that a restore reads from the archive.
pub(crate) fn thawed(
    args: &ThawArgs,
    archive: &Arc<dyn Archive>,
    wanted: Wanted<'_>,
    asking: Asking,
    session: &Session,
    observer: &dyn Observer,
) -> Result<Thawed, Failure> {
    let Wanted { repository, snapshot, path } = wanted;
    let began = Instant::now();
    // Held while it waits: what it waits for is not to be removed meanwhile.
    let lock = session.lock(repository, observer)?;
    let index = repository.load_index(observer)?;
    lock.confirm(observer)?;
    let packs = restored_packs(&index, repository, snapshot, path, &session.cancel)?;
    let options = args.options(asking == Asking::DryRun);
    let outcome = thaw(repository, archive, &packs, &options, &session.cancel, observer)?;
    let seconds = began.elapsed().as_secs_f64();
    Ok(Thawed { packs: packs.len(), outcome, is_dry: asking == Asking::DryRun, seconds })
}
