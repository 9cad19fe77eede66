//! `backup restore`: a snapshot, or a part of it, back into a folder or a database.

use std::ffi::OsString;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use backup_core::contracts::{Target as _, TargetError};
use backup_core::model::{Snapshot, SnapshotId, SnapshotPath, format_timestamp};
use backup_core::observe::Observer;
use backup_core::pipeline::{Compare, RestoreOptions, RestoreOutcome, restore, restore_by};
use backup_core::repository::{FirstLook, Repository};
use backup_sources::databases::url::DatabaseUrl;
use backup_sources::files::{self, Extra, FilesTarget, Owner, SpaceCheck, Zeros};
use serde_json::json;

use crate::args::Which;
use crate::console::{amounts, say, table::Table};
use crate::databases::{self, DumpFolder, LoadArgs};
use crate::exit::{Exit, Failure};
use crate::session::Session;
use crate::thawing::{Asking, ThawArgs, Thawed, Wanted, restore_failed, thawed};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A snapshot: the beginning of its id, or `latest`
    #[arg(value_name = "SNAP")]
    snapshot: String,
    /// Restore what is in this folder, or this file, directly into DIR; without it, absolute paths appear below DIR
    #[arg(long, value_name = "PATH")]
    path: Option<OsString>,
    /// The folder to restore into; `/` restores in place, after asking. Or a database, as postgres://user@host/new
    #[arg(long, value_name = "TARGET")]
    to: PathBuf,
    /// Show what would be restored, and write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Read everything again afterwards and compare
    #[arg(long)]
    verify: bool,
    /// Remove what the snapshot does not have, in the folders that it has
    #[arg(long)]
    delete: bool,
    /// What happens to files that are there already
    #[arg(long, value_enum, default_value_t)]
    overwrite: Existing,
    /// Whose the restored files are
    #[arg(long, value_enum, default_value_t)]
    owner: Ownership,
    /// Write zeros where the files may have had holes
    #[arg(long)]
    no_sparse: bool,
    /// Begin even if the space left does not seem to be enough
    #[arg(long)]
    no_space_check: bool,
    /// Do not ask before restoring in place
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    databases: LoadArgs,
    #[command(flatten)]
    thaw: ThawArgs,
}

/// What happens to files that are there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Existing {
    /// They are compared, and only what differs is written
    #[default]
    Always,
    /// Those with the right size and time are taken for right, others are compared
    IfChanged,
    /// Only those that are older than the snapshot's become as in the snapshot
    IfNewer,
    /// They stay
    Never,
}

/// Whose the restored files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Ownership {
    /// The numbers in the snapshot
    #[default]
    Number,
    /// The names in the snapshot, where this machine knows them
    Name,
    /// Who runs this
    Me,
}

impl Args {
    fn target_options(&self) -> files::RestoreOptions {
        files::RestoreOptions {
            overwrite: match self.overwrite {
                Existing::Always | Existing::IfChanged => files::Overwrite::Always,
                Existing::IfNewer => files::Overwrite::IfNewer,
                Existing::Never => files::Overwrite::Never,
            },
            extra: if self.delete { Extra::Delete } else { Extra::Keep },
            zeros: if self.no_sparse { Zeros::Written } else { Zeros::Holes },
            owner: match self.owner {
                Ownership::Number => Owner::ByNumber,
                Ownership::Name => Owner::ByName,
                Ownership::Me => Owner::Restorer,
            },
            space: if self.no_space_check { SpaceCheck::Skip } else { SpaceCheck::Refuse },
            stay: files::Stay::Lasting,
        }
    }

    /// What is needed of an archive, once it can be read; `None` when nobody asked for it.
    fn thawed(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        path: Option<&SnapshotPath>,
        observer: &dyn Observer,
        session: &Session,
    ) -> Result<Option<Thawed>, Failure> {
        if !self.thaw.thaw {
            return Ok(None);
        }
        let archive = session.locate(session.place()?)?.archive(session)?;
        let asking = if self.dry_run { Asking::DryRun } else { Asking::Now };
        thawed(&self.thaw, &archive, Wanted { repository, snapshot, path }, asking, session, observer).map(Some)
    }

    fn options(&self, session: &Session) -> RestoreOptions {
        RestoreOptions {
            path: self.path.as_ref().map(|path| SnapshotPath::parse(path.as_encoded_bytes())),
            compare: match self.overwrite {
                Existing::IfChanged => Compare::SizeAndTime,
                Existing::Always | Existing::IfNewer | Existing::Never => Compare::Content,
            },
            verify: self.verify,
            dry_run: self.dry_run,
            lock: session.globals.shared_lock(),
            workers: None,
        }
    }
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    if args.to.as_os_str().is_empty() {
        return Err(Failure::usage("--to is empty", "give the folder to restore into"));
    }
    if DatabaseUrl::is_one(&args.to) {
        return into_database(args, session);
    }
    args.databases.refuse()?;
    if args.to.exists() && !args.to.is_dir() {
        return Err(Failure::usage(format!("{} is not a folder", args.to.display()), "give a folder to restore into"));
    }
    let repository = session.open_to(&[FirstLook::Snapshots])?;
    let (id, snapshot) = session.find(&repository, &args.snapshot, &args.which)?;
    if is_in_place(&args.to) && !args.dry_run && !args.yes {
        confirm(args, &format!("{id:.8} of {}", amounts::local_time(snapshot.time)))?;
    }
    let target = FilesTarget::new(args.to.clone(), args.target_options());
    let reporter = session.console.reporter();
    let options = args.options(session);
    let thawed = args.thawed(&repository, &snapshot, options.path.as_ref(), &*reporter, session)?;
    let began = Instant::now();
    let wanted = Wanted { repository: &repository, snapshot: &snapshot, path: options.path.as_ref() };
    let outcome = restore(&repository, &snapshot, &target, &options, &session.cancel, &*reporter)
        .map_err(|error| refused(error, wanted, session))?;
    let seconds = began.elapsed().as_secs_f64();
    reporter.finish();
    let document = json!({
        "event": "summary",
        "snapshot": id,
        "target": target.location(),
        "dry_run": args.dry_run,
        "files": outcome.files,
        "dirs": outcome.dirs,
        "others": outcome.others,
        "bytes": outcome.bytes,
        "bytes_written": outcome.bytes_written,
        "files_kept": outcome.files_kept,
        "deleted": outcome.deleted,
        "verified": outcome.verified,
        "thaw": thawed.as_ref().map(Thawed::document),
        "seconds": seconds,
        "losses": outcome.losses,
    });
    session.console.summary(&document, || text(args, &outcome, thawed.as_ref(), seconds))?;
    Ok(Exit::with_losses(outcome.losses))
}

/// Restores into a database.
fn into_database(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let url = DatabaseUrl::parse(&args.to)?;
    if args.delete || args.overwrite != Existing::default() || args.owner != Ownership::default() || args.no_sparse {
        let hint = "leave it away; --clean replaces a database";
        return Err(Failure::usage("an option for files was given for a database", hint));
    }
    if args.verify {
        args.databases.require_whole()?;
    }
    let repository = session.open_to(&[FirstLook::Snapshots])?;
    let (id, snapshot) = session.find(&repository, &args.snapshot, &args.which)?;
    let reporter = session.console.reporter();
    let path = match &args.path {
        Some(path) => SnapshotPath::parse(path.as_encoded_bytes()),
        None => folder_of(&snapshot, &url, id)?,
    };
    // Before the manifest, which lies in the archive too.
    let thawed = args.thawed(&repository, &snapshot, Some(&path), &*reporter, session)?;
    if let Some(thawed) = thawed.as_ref().filter(|thawed| thawed.is_to_come()) {
        reporter.finish();
        let document = json!({
            "event": "summary", "snapshot": id, "target": url.to_string(), "dry_run": true, "thaw": thawed.document(),
        });
        session.console.summary(&document, || format!("thaw  {}\n", thawed.text()))?;
        return Ok(Exit::Done);
    }
    let lock = session.lock(&repository, &*reporter)?;
    let index = repository.load_index(&*reporter)?;
    let known = DumpFolder::open(&repository, &index, &snapshot, &path).and_then(|folder| folder.known(url.engine()));
    // The manifest lies in the archive with the rest: what is told is how much of all does.
    let wanted = Wanted { repository: &repository, snapshot: &snapshot, path: Some(&path) };
    let known = known.map_err(|error| restore_failed(error, wanted, session))?;
    let manifest = known.manifest.clone();
    let space = if args.no_space_check { SpaceCheck::Skip } else { SpaceCheck::Refuse };
    let target = databases::target(&url, &args.databases, known, space, &session.console)?;
    let began = Instant::now();
    let options = RestoreOptions { path: Some(path), verify: false, ..args.options(session) };
    let wanted = Wanted { repository: &repository, snapshot: &snapshot, path: options.path.as_ref() };
    lock.confirm(&*reporter)?;
    let outcome = restore_by(&index, &repository, &snapshot, &*target, &options, &session.cancel, &*reporter)
        .map_err(|error| refused(error, wanted, session))?;
    drop(lock);
    let seconds = began.elapsed().as_secs_f64();
    reporter.finish();
    let verified = match args.verify && !args.dry_run {
        true => Some(databases::verify(&url, &args.databases, &manifest, &session.console)?),
        false => None,
    };
    let found = verified.clone().unwrap_or_default();
    let losses = outcome.losses + found.losses.len() as u64;
    let point = manifest.report.recovery_point.as_ref().map(|point| format_timestamp(point.time));
    let document = json!({
        "event": "summary",
        "snapshot": id,
        "target": target.location(),
        "dry_run": args.dry_run,
        "files": outcome.files,
        "dirs": outcome.dirs,
        "others": outcome.others,
        "bytes": outcome.bytes,
        "bytes_written": outcome.bytes_written,
        "files_kept": outcome.files_kept,
        "deleted": outcome.deleted,
        "verified": verified.as_ref().map(|verified| verified.objects),
        "differences": found.losses,
        "notes": found.notes,
        "warnings": target.warnings(),
        "recovery_point": point,
        "thaw": thawed.as_ref().map(Thawed::document),
        "seconds": seconds,
        "losses": losses,
    });
    session.console.summary(&document, || {
        let mut table = Table::new(&["", ""]);
        let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
        thawed.iter().for_each(|thawed| row("thawed", thawed.text()));
        row(if args.dry_run { "would restore" } else { "restored" }, amounts::size(outcome.bytes));
        row("into", target.location());
        if let Some(point) = &manifest.report.recovery_point {
            row("state of", amounts::local_time(point.time));
        }
        row("time", format!("{} ({})", amounts::span(seconds), amounts::rate(outcome.bytes, seconds)));
        target.warnings().into_iter().for_each(|warning| row("warning", warning));
        if let Some(verified) = &verified {
            row("verified", amounts::counted(verified.objects as u64, "object"));
        }
        found.losses.iter().for_each(|loss| row("differs", loss.clone()));
        found.notes.iter().for_each(|note| row("note", note.clone()));
        table.text()
    })?;
    Ok(Exit::with_losses(losses))
}

/// The folder of the one database of the URL's engine that a snapshot holds.
fn folder_of(snapshot: &Snapshot, url: &DatabaseUrl, id: SnapshotId) -> Result<SnapshotPath, Failure> {
    let engine = url.engine().name();
    let prefix = format!("/{engine}/");
    let mut found = snapshot.paths.iter().filter(|path| path.starts_with(&prefix));
    match (found.next(), found.next()) {
        (Some(path), None) => Ok(SnapshotPath::parse(path.as_bytes())),
        (None, _) => Err(Failure::usage(
            format!("snapshot {id:.8} holds no database of {engine}, but {}", snapshot.paths.join(", ")),
            "`snapshots` lists the others; --path names a folder with a manifest.json",
        )),
        (Some(_), Some(_)) => Err(Failure::usage(
            format!("snapshot {id:.8} holds several databases: {}", snapshot.paths.join(", ")),
            "name the folder of one with --path",
        )),
    }
}

/// A target that refuses for want of space can be told to try; of what lies in an archive more is told.
fn refused(error: backup_core::Error, wanted: Wanted<'_>, session: &Session) -> Failure {
    use std::error::Error as _;
    let is_space = error
        .source()
        .and_then(|cause| cause.downcast_ref::<TargetError>())
        .is_some_and(|cause| cause.reason.contains("space"));
    let failure = restore_failed(error, wanted, session);
    if is_space && failure.hint.is_none() {
        return failure.with_hint("free some space, restore a part with --path, or try it with --no-space-check");
    }
    failure
}

fn is_in_place(to: &Path) -> bool {
    to.canonicalize().is_ok_and(|to| to == Path::new("/"))
}

fn confirm(args: &Args, what: &str) -> Result<(), Failure> {
    let refused = || Failure::usage("nothing was restored: in place means over what is there", "--yes, if it is meant");
    if !io::stdin().is_terminal() {
        return Err(refused());
    }
    let delete = if args.delete { ", and remove what it does not have," } else { "" };
    say(&format!("This will restore snapshot {what}{delete} over the files of this machine. Go on? [y/N]"));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(refused()) }
}

fn text(args: &Args, outcome: &RestoreOutcome, thawed: Option<&Thawed>, seconds: f64) -> String {
    let RestoreOutcome { files, dirs, others, bytes, bytes_written, files_kept, deleted, losses, verified } = outcome;
    let mut table = Table::new(&["", ""]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    thawed.into_iter().for_each(|thawed| row("thawed", thawed.text()));
    let verb = if args.dry_run { "would restore" } else { "restored" };
    let (files, dirs) = (amounts::counted(*files, "file"), amounts::counted(*dirs, "folder"));
    row(verb, format!("{files}, {dirs}, {}, {}", amounts::counted(*others, "other"), amounts::size(*bytes)));
    let kept = amounts::counted(*files_kept, "file");
    let (write, delete) = if args.dry_run { ("would write", "would delete") } else { ("written", "deleted") };
    row(write, format!("{}; {kept} were there already", amounts::size(*bytes_written)));
    if args.delete {
        row(delete, amounts::count(*deleted));
    }
    if !args.dry_run {
        if let Some(verified) = verified {
            row("verified", amounts::counted(*verified, "file"));
        }
        row("time", format!("{} ({})", amounts::span(seconds), amounts::rate(*bytes, seconds)));
    }
    if *losses > 0 {
        row("losses", format!("{} not restored as they were: see above", amounts::count(*losses)));
    }
    table.text()
}
