//! `--thaw`: what a restore needs of an archive is asked for and waited for, before anything else is done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backup_core::care::{ThawOptions, ThawOutcome, thaw};
use backup_core::contracts::{Archive, ThawRequest, ThawSpeed};
use backup_core::model::{Snapshot, SnapshotPath};
use backup_core::observe::Observer;
use backup_core::pipeline::restored_packs;
use backup_core::repository::Repository;
use serde_json::{Value, json};

use crate::config;
use crate::console::amounts;
use crate::exit::Failure;
use crate::session::Session;

/// Packs that are named when nothing is asked for.
const NAMED_MAX: usize = 10;

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
