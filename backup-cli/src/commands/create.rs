//! `backup create`: takes a snapshot.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use backup_core::ErrorKind;
use backup_core::clock::{Clock as _, SystemClock};
use backup_core::codec::Proof;
use backup_core::contracts::{SinkErrorKind, Source};
use backup_core::model::{SnapshotId, SnapshotPath};
use backup_core::pipeline::{BackupOptions, BackupOutcome, Parent, backup_to_all};
use backup_core::repository::{RecordBody, Repository};
use backup_sources::command::{CommandSource, ReaderSource};
use backup_sources::files::{FilesSource, step_back};
use jiff::Timestamp;
use serde_json::{Map, json};

use super::destinations::Destinations;
use super::selection::Selection;
use crate::args::parse_time;
use crate::console::{amounts, progress::Reporter, table::Table};
use crate::exit::{Exit, Failure};
use crate::session::Session;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "-r may be given several times: the source is read once and backed up to all. A repository that \
    fails gets no snapshot and the others do (exit code 5); the next run makes up for it. Files are cut as the first \
    repository cuts them. --password-file or --password-command is given once for all, or once for each in the order \
    of -r."
)]
#[command(group = clap::ArgGroup::new("what").args(["sources", "shell_command", "program"]).required(true))]
pub(crate) struct Args {
    /// Files and folders; `-` for standard input
    #[arg(value_name = "SOURCE")]
    sources: Vec<OsString>,
    /// Back up what this command, run by /bin/sh, prints; its failure makes no snapshot
    #[arg(long = "command", value_name = "COMMAND")]
    shell_command: Option<String>,
    /// Back up what this program prints; its failure makes no snapshot
    #[arg(value_name = "PROGRAM", last = true)]
    program: Vec<OsString>,
    /// The name that standard input or a command's output gets in the snapshot
    #[arg(long, visible_alias = "stdin-name", value_name = "NAME")]
    name: Option<String>,
    /// The name of the job: the tag job:NAME, by which snapshots are found and grouped
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// A tag; may be given several times
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// The machine's name, where a container's changes at every start
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// The time that the snapshot carries
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    time: Option<Timestamp>,
    /// Read everything again, whatever the last snapshot says
    #[arg(long, conflicts_with = "parent")]
    force: bool,
    /// Compare with this snapshot, not with the newest of the same job, or host and paths
    #[arg(long, value_name = "SNAP")]
    parent: Option<String>,
    /// Write nothing, show what would have been written
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// zstd's level: more is smaller and slower
    #[arg(long, value_name = "LEVEL", default_value_t = BackupOptions::default().level,
        value_parser = clap::value_parser!(i32).range(-7..=22), allow_hyphen_values = true)]
    compression: i32,
    /// Let everybody else go first, at the disk and the processor
    #[arg(long)]
    idle: bool,
    /// A file whose ctime alone changed counts as unchanged
    #[arg(long)]
    ignore_ctime: bool,
    /// A file whose inode alone changed counts as unchanged
    #[arg(long)]
    ignore_inode: bool,
    /// Do not open every sealed piece again and compare: faster, and bad memory becomes a bad backup
    #[arg(long)]
    skip_proof: bool,
    #[command(flatten)]
    selection: Selection,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    if let Some(tag) = args.tag.iter().find(|tag| tag.contains(',') || tag.trim().is_empty()) {
        return Err(Failure::usage(format!("{tag:?} cannot be a tag"), "tags are words without commas; repeat --tag"));
    }
    // Before any thread is started: threads take over the priority of who starts them.
    if args.idle
        && let Err(error) = step_back()
    {
        session.console.warn(&format!("it runs at the usual priority: {}", Failure::from(error).what));
    }
    let mut what = What::of(args, session)?;
    let mut destinations = Destinations::open(session, args.host.as_deref())?;
    let repositories = destinations.repositories();
    let parent = match &args.parent {
        _ if args.force => Parent::None,
        Some(text) => Parent::Given(find_in(&repositories, text)?),
        None => Parent::Newest,
    };
    let options = BackupOptions {
        tags: args.tag.iter().cloned().chain(args.job.iter().map(|job| format!("job:{job}"))).collect(),
        time: args.time,
        parent,
        level: args.compression,
        proof: if args.skip_proof { Proof::Off } else { Proof::Each },
        lock: session.globals.shared_lock(),
        ignore_ctime: args.ignore_ctime,
        ignore_inode: args.ignore_inode,
        dry_run: args.dry_run,
        ..BackupOptions::default()
    };
    let reporter = session.console.reporter();
    let began = Instant::now();
    let outcomes = backup_to_all(&repositories, what.source(), &options, &session.cancel, &*reporter)?;
    let seconds = began.elapsed().as_secs_f64();
    reporter.finish();
    destinations.settle(outcomes);
    let is_one_behind = destinations.tell_behind();
    for (repository, outcome) in destinations.done() {
        keep_figures(repository, outcome, &reporter, seconds, session);
    }
    let Some((_, outcome)) = destinations.done().next() else {
        return Err(Failure::new("no repository got a snapshot"));
    };
    let document = document(outcome, &destinations, &reporter, seconds);
    session.console.summary(&document, || text(outcome, &destinations, &reporter, seconds, &what))?;
    Ok(if is_one_behind { Exit::Behind } else { Exit::with_losses(outcome.losses) })
}

/// The snapshot that people call `text`, in the first repository that has it.
fn find_in(repositories: &[Repository], text: &str) -> Result<SnapshotId, Failure> {
    let mut failure = None;
    for repository in repositories {
        match repository.find_snapshot(text, &Default::default()) {
            Ok((id, _)) => return Ok(id),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.map_or_else(|| Failure::new("no repository"), Failure::from))
}

/// What is backed up.
enum What {
    Files(FilesSource),
    Stream(Box<dyn Source>),
}

impl What {
    fn of(args: &Args, session: &Session) -> Result<Self, Failure> {
        if let Some(command) = &args.shell_command {
            let mut program = Command::new("/bin/sh");
            program.arg("-c").arg(command);
            return Self::command(args, program, command.split_whitespace().next().unwrap_or("command"));
        }
        if let Some((first, arguments)) = args.program.split_first() {
            let mut program = Command::new(first);
            program.args(arguments);
            return Self::command(args, program, &first.to_string_lossy());
        }
        if args.sources.iter().any(|source| source == "-") {
            if args.sources.len() > 1 {
                return Err(Failure::usage("standard input cannot be mixed with files", "take a snapshot of each"));
            }
            let name = args.name.as_deref().unwrap_or("stdin");
            let path = SnapshotPath::parse(name.as_bytes());
            return Ok(Self::Stream(Box::new(ReaderSource::new(path, io::stdin(), SystemClock.now())?)));
        }
        if args.name.is_some() {
            return Err(Failure::usage("--name is for standard input and commands", "files keep their own names"));
        }
        if let Some(url) = args.sources.iter().find(|source| is_database(&source.to_string_lossy())) {
            // The whole URL may hold a password.
            let scheme = url.to_string_lossy().split(':').next().unwrap_or_default().to_owned();
            return Err(Failure::usage(
                format!("sources of the kind {scheme}: are not supported by this version"),
                "back up the output of its dump program: create --name app.sql --command 'pg_dump app'",
            ));
        }
        let options = args.selection.options(&args.sources, session)?;
        let paths = args.sources.iter().map(PathBuf::from).collect();
        Ok(Self::Files(FilesSource::new(paths, &options)?))
    }

    fn command(args: &Args, program: Command, word: &str) -> Result<Self, Failure> {
        let default = word.rsplit('/').next().unwrap_or(word);
        let name = args.name.as_deref().unwrap_or(default);
        if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
            return Err(Failure::usage(format!("{name:?} is no name of a file"), "--name app.sql gives it one"));
        }
        Ok(Self::Stream(Box::new(CommandSource::new(name, program, SystemClock.now())?)))
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Files(source) => source,
            Self::Stream(source) => &mut **source,
        }
    }
}

/// Whether a source is written as databases are.
fn is_database(text: &str) -> bool {
    ["postgres:", "postgresql:", "mysql:", "mongodb:", "mongodb+srv:", "sqlite:", "redis:"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
}

/// Records what the run read and how long it took, for `snapshots`. The snapshot is safe without it.
fn keep_figures(
    repository: &Repository,
    outcome: &BackupOutcome,
    reporter: &Reporter,
    seconds: f64,
    session: &Session,
) {
    let Some(snapshot) = outcome.snapshot else { return };
    let figures = Map::from_iter([
        ("bytes_read".to_owned(), reporter.bytes_read().into()),
        ("seconds".to_owned(), seconds.into()),
        ("losses".to_owned(), outcome.losses.into()),
    ]);
    let body = RecordBody::Run { verb: "create".into(), outcome: "done".into(), snapshot: Some(snapshot), figures };
    // A store that keeps no records has said so already, of the record that the backup itself writes.
    if let Err(error) = repository.save_record(body)
        && *error.kind() != ErrorKind::Sink(SinkErrorKind::Unsupported)
    {
        session.console.note(&format!("the record of this run could not be kept: {}", Failure::from(error).what));
    }
}

fn document(
    outcome: &BackupOutcome,
    destinations: &Destinations,
    reporter: &Reporter,
    seconds: f64,
) -> serde_json::Value {
    let summary = &outcome.summary;
    json!({
        "event": "summary",
        "snapshot": outcome.snapshot,
        "parent": outcome.parent,
        "proof": outcome.reached,
        "files_new": summary.files_new,
        "files_changed": summary.files_changed,
        "files_unmodified": summary.files_unmodified,
        "dirs_new": summary.dirs_new,
        "dirs_changed": summary.dirs_changed,
        "dirs_unmodified": summary.dirs_unmodified,
        "bytes_total": summary.total_bytes_processed,
        "bytes_read": reporter.bytes_read(),
        "bytes_new": summary.data_added,
        "bytes_stored": summary.data_added_packed,
        "seconds": seconds,
        "losses": outcome.losses,
        "warnings": outcome.report.warnings,
        "repositories": destinations.document(),
    })
}

fn text(
    outcome: &BackupOutcome,
    destinations: &Destinations,
    reporter: &Reporter,
    seconds: f64,
    what: &What,
) -> String {
    let summary = &outcome.summary;
    let mut table = Table::new(&["", ""]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    let counts =
        [(summary.files_new, "new"), (summary.files_changed, "changed"), (summary.files_unmodified, "unmodified")];
    row("files", counts.map(|(count, word)| format!("{} {word}", amounts::count(count))).join(", "));
    if let What::Files(source) = what {
        let left_out = super::selection::told(&source.left_out());
        if !left_out.is_empty() {
            row("left out", left_out);
        }
    }
    let total = summary.total_bytes_processed;
    row("read", format!("{} of {}", amounts::size(reporter.bytes_read()), amounts::size(total)));
    row("new", amounts::size(summary.data_added));
    row("stored", format!("{} compressed and encrypted", amounts::size(summary.data_added_packed)));
    row("time", format!("{} ({})", amounts::span(seconds), amounts::rate(total, seconds)));
    for warning in &outcome.report.warnings {
        row("warning", warning.clone());
    }
    if outcome.losses > 0 {
        row("losses", format!("{} not read: see above", amounts::counted(outcome.losses, "file")));
    }
    format!("{}{}", table.text(), destinations.text())
}
