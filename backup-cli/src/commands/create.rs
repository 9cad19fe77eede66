//! `backup create`: takes a snapshot.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use backup_core::ErrorKind;
use backup_core::clock::{Clock as _, SystemClock};
use backup_core::codec::Proof;
use backup_core::contracts::{Report, SinkErrorKind, Source};
use backup_core::model::{SnapshotId, SnapshotPath, format_timestamp};
use backup_core::pipeline::{BackupOptions, BackupOutcome, Parent, backup_to_all};
use backup_core::repository::{RecordBody, Repository};
use backup_sources::command::{CommandSource, ReaderSource};
use backup_sources::databases::url::DatabaseUrl;
use backup_sources::files::{FilesSource, LeftOut, step_back};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::counting::while_counting;
use super::destinations::Destinations;
use super::selection::{Selection, told};
use crate::args::parse_time;
use crate::console::{amounts, progress::Reporter, table::Table};
use crate::databases::{self, DumpArgs};
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
    /// Files and folders; `-` for standard input; or databases, as postgres://user@host/db: a snapshot of each
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
    /// zstd's level: more is smaller and slower [default: 3; for databases 1]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(i32).range(-7..=22), allow_hyphen_values = true)]
    compression: Option<i32>,
    /// Let everybody else go first, at the disk and the processor
    #[arg(long)]
    idle: bool,
    /// A file whose ctime alone changed counts as unchanged
    #[arg(long)]
    ignore_ctime: bool,
    /// A file whose inode alone changed counts as unchanged
    #[arg(long)]
    ignore_inode: bool,
    /// A file that vanishes before it is read, or changes while it is, counts as lost: exit code 3
    #[arg(long)]
    strict: bool,
    /// Do not open every sealed piece again and compare: faster, and bad memory becomes a bad backup
    #[arg(long)]
    skip_proof: bool,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    databases: DumpArgs,
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
    let whats = What::all(args, session)?;
    if whats.len() > 1 && args.parent.is_some() {
        return Err(Failure::usage("--parent is for one snapshot", "create the others without it"));
    }
    let mut destinations = Destinations::open(session, args.host.as_deref())?;
    let parent = match &args.parent {
        _ if args.force => Parent::None,
        Some(text) => Parent::Given(find_in(&destinations.repositories(), text)?),
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
        strict: args.strict,
        ignore_inode: args.ignore_inode,
        dry_run: args.dry_run,
        ..BackupOptions::default()
    };
    let is_one = whats.len() == 1;
    let mut worst = Exit::Done;
    for what in whats {
        let exit = match take(what, args, &options, &mut destinations, session) {
            // One database that fails costs the others nothing.
            Err(failure) if !is_one && failure.exit != Exit::Interrupted => {
                session.console.failure(&failure);
                failure.exit
            }
            ended => ended?,
        };
        worst = worst.graver(exit);
    }
    Ok(worst)
}

/// Takes one snapshot, in every repository.
fn take(
    what: What,
    args: &Args,
    options: &BackupOptions,
    destinations: &mut Destinations,
    session: &Session,
) -> Result<Exit, Failure> {
    let mut source = what.open(args, session)?;
    let repositories = destinations.repositories();
    let reporter = session.console.reporter();
    let began = Instant::now();
    let outcomes = while_counting(source.again(), &reporter, || {
        backup_to_all(&repositories, source.source(), options, &session.cancel, &*reporter)
    })?;
    let seconds = began.elapsed().as_secs_f64();
    reporter.finish();
    destinations.settle(outcomes);
    let is_one_behind = destinations.tell_behind();
    for (repository, outcome) in destinations.done() {
        let paths = &source.source().info().paths;
        keep_figures(repository, outcome, (args.job.as_deref(), paths), &reporter, seconds, session);
    }
    let Some(done) = destinations.done().next() else {
        return Err(Failure::new("no repository got a snapshot"));
    };
    let (repository, outcome) = done;
    let suspicion = databases::emptied(repository, outcome, &source.source().info().paths, &session.console);
    if let Some(suspicion) = &suspicion {
        session.console.warn(&format!("this looks wrong: it holds {suspicion}"));
    }
    let mut document = document(outcome, destinations, &source.source().info().paths, &reporter, seconds);
    document["left_out"] = json!(source.left_out());
    document["suspicion"] = json!(suspicion.map(|suspicion| suspicion.to_string()));
    session.console.summary(&document, || text(outcome, destinations, &reporter, seconds, &source))?;
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

/// What is backed up. What holds a connection, or a program, is opened when its turn comes.
enum What {
    /// To be read, and to be counted.
    Files(FilesSource, FilesSource),
    Stream(Box<dyn Source>),
    Database(DatabaseUrl),
}

/// The same, opened.
enum Opened {
    Files(Box<FilesSource>, Option<Box<FilesSource>>),
    Other(Box<dyn Source>),
}

impl What {
    /// What the command line names: one thing, or several databases.
    fn all(args: &Args, session: &Session) -> Result<Vec<Self>, Failure> {
        let urls = databases::among(&args.sources)?;
        if urls.is_empty() {
            args.databases.refuse()?;
        }
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
                return Err(Failure::usage("standard input cannot be mixed with others", "take a snapshot of each"));
            }
            let name = args.name.as_deref().unwrap_or("stdin");
            let path = SnapshotPath::parse(name.as_bytes());
            return Ok(vec![Self::Stream(Box::new(ReaderSource::new(path, io::stdin(), SystemClock.now())?))]);
        }
        if args.name.is_some() {
            return Err(Failure::usage("--name is for standard input and commands", "others keep their own names"));
        }
        if !urls.is_empty() {
            if args.selection != Selection::default() {
                return Err(Failure::usage("patterns leave out files, not parts of databases", "leave them away"));
            }
            let mut whats = Vec::new();
            for url in urls {
                let each = databases::each(&url, &args.databases, &session.console)?;
                whats.extend(each.into_iter().map(Self::Database));
            }
            return Ok(whats);
        }
        let options = args.selection.options(&args.sources, session)?;
        let paths: Vec<PathBuf> = args.sources.iter().map(PathBuf::from).collect();
        Ok(vec![Self::Files(FilesSource::new(paths.clone(), &options)?, FilesSource::new(paths, &options)?)])
    }

    fn command(args: &Args, program: Command, word: &str) -> Result<Vec<Self>, Failure> {
        let default = word.rsplit('/').next().unwrap_or(word);
        let name = args.name.as_deref().unwrap_or(default);
        if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
            return Err(Failure::usage(format!("{name:?} is no name of a file"), "--name app.sql gives it one"));
        }
        Ok(vec![Self::Stream(Box::new(CommandSource::new(name, program, SystemClock.now())?))])
    }

    fn open(self, args: &Args, session: &Session) -> Result<Opened, Failure> {
        Ok(match self {
            Self::Files(source, again) => Opened::Files(Box::new(source), Some(Box::new(again))),
            Self::Stream(source) => Opened::Other(source),
            Self::Database(url) => Opened::Other(databases::source(&url, &args.databases, &session.console)?),
        })
    }
}

impl Opened {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Files(source, _) => &mut **source,
            Self::Other(source) => &mut **source,
        }
    }

    /// What of the files was left out.
    fn left_out(&self) -> Option<LeftOut> {
        match self {
            Self::Files(source, _) => Some(source.left_out()),
            Self::Other(_) => None,
        }
    }

    /// The same files once more, to be counted.
    fn again(&mut self) -> Option<FilesSource> {
        match self {
            Self::Files(_, again) => again.take().map(|again| *again),
            Self::Other(_) => None,
        }
    }
}

/// Records what the run read and how long it took, for `snapshots`. The snapshot is safe without it.
fn keep_figures(
    repository: &Repository,
    outcome: &BackupOutcome,
    (job, paths): (Option<&str>, &[String]),
    reporter: &Reporter,
    seconds: f64,
    session: &Session,
) {
    let Some(snapshot) = outcome.snapshot else { return };
    let figures = figures(outcome, job, paths, reporter.bytes_read(), seconds);
    let body = RecordBody::Run { verb: "create".into(), outcome: "done".into(), snapshot: Some(snapshot), figures };
    // A store that keeps no records has said so already, of the record that the backup itself writes.
    if let Err(error) = repository.save_record(body)
        && *error.kind() != ErrorKind::Sink(SinkErrorKind::Unsupported)
    {
        session.console.note(&format!("the record of this run could not be kept: {}", Failure::from(error).what));
    }
}

/// The figures of a run's record, as `docs/format.md` has them.
pub(crate) fn figures(
    outcome: &BackupOutcome,
    job: Option<&str>,
    paths: &[String],
    bytes_read: u64,
    seconds: f64,
) -> Map<String, Value> {
    let mut figures = Map::from_iter([
        ("bytes_read".to_owned(), bytes_read.into()),
        ("seconds".to_owned(), seconds.into()),
        ("losses".to_owned(), outcome.losses.into()),
        ("paths".to_owned(), json!(paths)),
        ("files".to_owned(), outcome.summary.total_files_processed.into()),
        ("bytes_total".to_owned(), outcome.summary.total_bytes_processed.into()),
        ("bytes_new".to_owned(), outcome.summary.data_added.into()),
        ("bytes_stored".to_owned(), outcome.summary.data_added_packed.into()),
    ]);
    figures.extend(outcome.report.rows().map(|rows| ("rows".to_owned(), rows.into())));
    // Retention may remove the snapshot that says so too.
    figures.extend(job.map(|job| ("job".to_owned(), job.into())));
    // What a restore must show is in the snapshot, beside the data: it may be long.
    figures.extend(report(&outcome.report));
    figures
}

/// A source's last word, without what a restore must show.
fn report(report: &Report) -> Map<String, Value> {
    let point = report.recovery_point.as_ref();
    let point = point.map(|point| json!({"time": format_timestamp(point.time), "position": point.position}));
    Map::from_iter([
        ("recovery_point".to_owned(), point.into()),
        ("consistency".to_owned(), json!(report.consistency)),
        ("warnings".to_owned(), json!(report.warnings)),
        ("tools".to_owned(), json!(report.tools)),
    ])
}

fn document(
    outcome: &BackupOutcome,
    destinations: &Destinations,
    paths: &[String],
    reporter: &Reporter,
    seconds: f64,
) -> Value {
    let summary = &outcome.summary;
    let mut document = json!({
        "event": "summary",
        "snapshot": outcome.snapshot,
        "paths": paths,
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
        "repositories": destinations.document(),
    });
    if let Value::Object(document) = &mut document {
        document.extend(report(&outcome.report));
    }
    document
}

fn text(
    outcome: &BackupOutcome,
    destinations: &Destinations,
    reporter: &Reporter,
    seconds: f64,
    source: &Opened,
) -> String {
    let summary = &outcome.summary;
    let mut table = Table::new(&["", ""]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    let counts =
        [(summary.files_new, "new"), (summary.files_changed, "changed"), (summary.files_unmodified, "unmodified")];
    row("files", counts.map(|(count, word)| format!("{} {word}", amounts::count(count))).join(", "));
    if let Some(left_out) = source.left_out().filter(|left_out| !left_out.is_empty()) {
        row("left out", told(&left_out));
    }
    let total = summary.total_bytes_processed;
    row("read", format!("{} of {}", amounts::size(reporter.bytes_read()), amounts::size(total)));
    row("new", amounts::size(summary.data_added));
    row("stored", format!("{} compressed and encrypted", amounts::size(summary.data_added_packed)));
    row("time", format!("{} ({})", amounts::span(seconds), amounts::rate(total, seconds)));
    if let Some(point) = &outcome.report.recovery_point {
        let position = point.position.as_ref().map(|position| format!(", {position}")).unwrap_or_default();
        row("state of", format!("{}{position}", amounts::local_time(point.time)));
    }
    for warning in &outcome.report.warnings {
        row("warning", warning.clone());
    }
    if outcome.losses > 0 {
        row("losses", format!("{} not read whole: see above", amounts::counted(outcome.losses, "file")));
    }
    format!("{}{}", table.text(), destinations.text())
}
