//! A backup: the walk beside the parent snapshot, the threads that read, and the commit.
//!
//! In which order things become durable stands in `new_snapshot.rs`.

use std::num::NonZeroUsize;
use std::sync::{Arc, PoisonError};

use crossbeam_channel::{Sender, bounded};
use jiff::Timestamp;

use super::blob_store::{BlobStore, Writing};
use super::fan_out::{FanOut, Scratch};
use super::new_snapshot::{Entered, NewSnapshot};
use super::parent::{Ignored, ParentWalk, is_unchanged, read_ahead};
use super::reader::{FileTask, Shared, read_file, work};
use super::tree_assembly::Folder;
use super::walk::TreeReader;
use crate::cancel::Cancel;
use crate::codec::{Compression, Proof};
use crate::contracts::{self, Entry, Report, Source, SourceError, SourceEvent};
use crate::limits::{CHUNKS_WAITING_PER_WORKER, DESTINATIONS_MAX, ENTRIES_AHEAD_MAX, PARENT_FOLDERS_AHEAD_MAX};
use crate::model::{BlobId, BlobKind, Node, NodeKind, SnapshotId, SnapshotPath, Summary};
use crate::observe::{EntryOutcome, Event, Observer, Phase};
use crate::repository::{Index, LockMode, Repository};
use crate::{Error, ErrorKind, Result};

/// How a backup is made.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// The tags of the snapshot. A job's identity is `job:NAME`.
    pub tags: Vec<String>,
    /// The instant that the snapshot carries; the clock's when not given.
    pub time: Option<Timestamp>,
    /// Which snapshot unchanged files are taken from.
    pub parent: Parent,
    /// zstd's level for data and trees; the source's own when not given.
    pub level: Option<i32>,
    /// Whether every sealed blob is opened again and compared.
    pub proof: Proof,
    /// The lock to take: [`LockMode::Shared`], or none for credentials that cannot delete.
    pub lock: LockMode,
    /// Which of several repositories, counted from 0, take no lock whatever `lock` says: their credentials cannot delete it
    /// again.
    pub lock_free: Vec<usize>,
    /// Threads that read, hash, compress and seal; as many as there are cores when not given.
    pub workers: Option<NonZeroUsize>,
    /// A file counts as unchanged even if its ctime differs (for sources whose ctimes mean nothing).
    pub ignore_ctime: bool,
    /// A file counts as unchanged even if its inode differs (network file systems, snapshots mounted anew).
    pub ignore_inode: bool,
    /// A file that vanished before it was read, or changed while it was, is a loss and not a note.
    pub strict: bool,
    /// Nothing is written; the outcome says what would have been.
    pub dry_run: bool,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            tags: Vec::new(),
            time: None,
            parent: Parent::Newest,
            level: None,
            proof: Proof::Each,
            lock: LockMode::Shared,
            lock_free: Vec::new(),
            workers: None,
            ignore_ctime: false,
            ignore_inode: false,
            strict: false,
            dry_run: false,
        }
    }
}

/// Which snapshot unchanged files are taken from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Parent {
    /// The newest of the same group: the same job, or the same host and paths.
    #[default]
    Newest,
    /// This one.
    Given(SnapshotId),
    /// None: everything is read again.
    None,
}

/// What a backup did.
#[derive(Clone, Debug)]
pub struct BackupOutcome {
    /// The snapshot; `None` for a dry run.
    pub snapshot: Option<SnapshotId>,
    /// The snapshot that it was compared with.
    pub parent: Option<SnapshotId>,
    /// What was read, new and stored; also written into the snapshot.
    pub summary: Summary,
    /// Entries that could not be read or kept as they are: exit code 3 when not 0.
    pub losses: u64,
    /// Which step of proof the snapshot reached.
    pub reached: contracts::Proof,
    /// The source's last word.
    pub report: Report,
}

/// Backs up `source` as one snapshot.
///
/// Files that cannot be read are told to `observer` and counted in [`BackupOutcome::losses`]; the snapshot is made
/// without them. Any failure of the repository or of the source as a whole makes no snapshot; what was stored stays
/// and is not stored again by the next run.
pub fn backup(
    repository: &Repository,
    source: &mut dyn Source,
    options: &BackupOptions,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<BackupOutcome> {
    let mut outcomes = backup_to_all(std::slice::from_ref(repository), source, options, cancel, observer)?;
    outcomes.pop().unwrap_or_else(|| Err(Error::new(ErrorKind::Broken("a backup without an outcome"), "backup")))
}

/// Backs up `source` as one snapshot in each of several repositories, reading it once: what is read is cut as the first
/// repository cuts, hashed and compressed once, sealed once for each key, and stored where it is not known yet.
///
/// The outcomes stand in the order of `repositories`. One that fails costs only itself, the first too: the others go on,
/// and the next run stores there what is missing. The whole call fails only with the source, on request, or when every
/// repository has failed, with the first one's failure. A file counts as unchanged where the first repository that has a
/// parent snapshot says so and all others know its data; else it is read again.
///
/// The snapshots are one backup under several ids: from the second on they name the first in their `original`, so that
/// neither a copy between these repositories nor restic's takes them for something new.
///
/// ```no_run
/// # use backup_core::{Result, cancel::Cancel, observe::Silent, repository::Repository, contracts::Source};
/// use backup_core::pipeline::{BackupOptions, backup_to_all};
///
/// fn to_both(near: Repository, far: Repository, source: &mut dyn Source) -> Result<()> {
///     let options = BackupOptions::default();
///     for outcome in backup_to_all(&[near, far], source, &options, &Cancel::new(), &Silent)? {
///         match outcome {
///             Ok(outcome) => println!("{:?}", outcome.snapshot),
///             Err(error) => println!("behind until the next run: {error}"),
///         }
///     }
///     Ok(())
/// }
/// ```
pub fn backup_to_all(
    repositories: &[Repository],
    source: &mut dyn Source,
    options: &BackupOptions,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<Vec<Result<BackupOutcome>>> {
    let first = different(repositories)?;
    let started = first.clock().now();
    let info = source.info();
    let (mut entered, mut outcomes) = (Vec::new(), Vec::new());
    for (number, repository) in repositories.iter().enumerate() {
        let lock = if options.lock_free.contains(&number) { LockMode::None } else { options.lock };
        match Entered::enter(repository, lock, options, &info, observer) {
            Ok(ready) => {
                entered.push((number, ready));
                outcomes.push(None);
            }
            Err(error) => outcomes.push(Some(Err(error))),
        }
    }
    cancel.check()?;
    if entered.is_empty() {
        return Err(first_failure(outcomes));
    }
    for (repository, failure) in repositories.iter().zip(&outcomes) {
        if let Some(Err(error)) = failure {
            let what = format!("{} gets no snapshot, the others go on: {error}", repository.store().location());
            observer.event(Event::Notice(&what));
        }
    }
    let parent = entered.iter().find_map(|(_, one)| Some((one, one.parent.as_ref()?)));
    if let (Parent::Given(id), None) = (&options.parent, parent) {
        // Says why.
        repositories[entered[0].0].find_snapshot(&id.to_string(), &Default::default())?;
    }
    let tree_before = parent.map(|(_, (_, snapshot))| snapshot.tree);
    let nothing = Index::default();
    let (reader_of, reader_index) = match parent {
        Some((one, _)) => (one.repository, &one.index),
        None => (first, &nothing),
    };
    let reader = TreeReader::new(reader_of, reader_index);
    let writing = if options.dry_run { Writing::DryRun } else { Writing::Real };
    let stores = entered.iter().map(|(_, one)| {
        let Entered { repository, index, lock, .. } = one;
        (*repository, BlobStore::new(repository, index, lock, writing, observer))
    });
    let level = options.level.or_else(|| source.level()).unwrap_or(Compression::DEFAULT_LEVEL);
    let fan_out = FanOut::new(stores.collect(), level, options.proof, observer);
    let shared = Shared::new(&fan_out, first.config().chunking()?, options.strict, cancel, observer);
    observer.event(Event::Phase { phase: Phase::Backup, total: None });
    let ignored = Ignored { ctime: options.ignore_ctime, inode: options.ignore_inode };
    let mut run = || {
        let last = run_threads(&shared, &reader, tree_before, ignored, source, workers(options.workers))?;
        read_last(&shared, last)?;
        let report = source.finish().map_err(|error| source_failed(&error))?;
        fan_out.flush()?;
        cancel.check()?;
        Ok(report)
    };
    let ran = run();
    if ran.is_err() || !(0..entered.len()).all(|place| fan_out.works(place)) {
        fan_out.keep();
    }
    let mut new = NewSnapshot { shared: &shared, options, info: &info, started, tree_before, first: None };
    for (place, (number, one)) in entered.iter().enumerate() {
        let committed = match &ran {
            Ok(report) if fan_out.works(place) => new.commit(one, fan_out.blobs(place), report, observer).map(Some),
            _ => Ok(None),
        };
        let outcome = committed.unwrap_or_else(|error| {
            // That it was the last is told by what all of them have come to.
            let _ = fan_out.lose(place, error);
            None
        });
        let why = || fan_out.take_failure(place).unwrap_or_else(|| Error::new(ErrorKind::Cancelled, "backup"));
        let outcome = outcome.ok_or_else(why);
        outcomes[*number] = Some(outcome);
    }
    match ran {
        // A repository's failure is told as what it is, and not as that of the run that had no other.
        Err(error) if (0..entered.len()).any(|place| fan_out.works(place)) => Err(error),
        _ if outcomes.iter().all(|outcome| matches!(outcome, Some(Err(_)))) => Err(first_failure(outcomes)),
        _ => Ok(outcomes.into_iter().flatten().collect()),
    }
}

/// The first of several repositories, none of which is given twice.
fn different(repositories: &[Repository]) -> Result<&Repository> {
    if repositories.len() > DESTINATIONS_MAX {
        return Err(Error::new(ErrorKind::Limit("repositories at once"), "backup"));
    }
    let place = |repository: &Repository| (repository.config().id, repository.store().location());
    for (number, repository) in repositories.iter().enumerate() {
        if repositories[..number].iter().any(|other| place(other) == place(repository)) {
            return Err(Error::invalid(repository.store().location(), "given twice").with_hint("name it once"));
        }
    }
    repositories.first().ok_or_else(|| Error::invalid("backup", "no repository was given"))
}

fn first_failure(outcomes: Vec<Option<Result<BackupOutcome>>>) -> Error {
    let failure = outcomes.into_iter().flatten().find_map(Result::err);
    failure.unwrap_or_else(|| Error::new(ErrorKind::Broken("a failure without a reason"), "backup"))
}

/// As many as asked for, else as there are cores.
pub(crate) fn workers(wanted: Option<NonZeroUsize>) -> usize {
    wanted.or_else(|| std::thread::available_parallelism().ok()).map_or(2, NonZeroUsize::get)
}

/// The walk on this thread, the reading on others, and one that reads the parent snapshot ahead. Returns what may only
/// be read after all that.
fn run_threads(
    shared: &Shared<'_>,
    reader: &TreeReader<'_>,
    tree_before: Option<BlobId>,
    ignored: Ignored,
    source: &mut dyn Source,
    workers: usize,
) -> Result<Vec<FileTask>> {
    let (folders, parent_folders) = bounded(PARENT_FOLDERS_AHEAD_MAX);
    let (files, file_tasks) = bounded(ENTRIES_AHEAD_MAX);
    let (waiting, chunk_tasks) = bounded(CHUNKS_WAITING_PER_WORKER * workers);
    let mut last = Vec::new();
    std::thread::scope(|scope| {
        for number in 0..workers {
            let (file_tasks, chunk_tasks, waiting) = (file_tasks.clone(), chunk_tasks.clone(), waiting.clone());
            let thread = std::thread::Builder::new().name(format!("backup-read-{number}"));
            let spawned = thread.spawn_scoped(scope, move || work(shared, &file_tasks, &chunk_tasks, waiting));
            if let Err(error) = spawned {
                shared.fail(Error::new(ErrorKind::Broken("no thread could be started"), "backup").caused_by(error));
            }
        }
        drop(waiting);
        if let Some(tree) = tree_before {
            scope.spawn(move || read_ahead(reader, &tree, &folders, shared.observer));
        } else {
            drop(folders);
        }
        let walker = Walker {
            shared,
            parent: ParentWalk::new(parent_folders),
            ignored,
            path: SnapshotPath::root(),
            folders: vec![Level { folder: Folder::root(tree_before), last_name: None }],
            last: Vec::new(),
            scratch: Scratch::default(),
        };
        // The walk's end of every queue goes with it, which ends the threads.
        match walker.walk(source, &files) {
            Ok(tasks) => last = tasks,
            Err(error) => shared.fail(error),
        }
        drop(files);
    });
    shared.cancel.check()?;
    match shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) => Err(error),
        None => Ok(last),
    }
}

/// Reads the contents that had to wait for all others.
fn read_last(shared: &Shared<'_>, last: Vec<FileTask>) -> Result<()> {
    let mut scratch = Scratch::default();
    // Nobody is left who could take a piece: this thread stores them all.
    let (nobody, _) = bounded(0);
    for task in last {
        read_file(shared, task, &nobody, &mut scratch)?;
    }
    shared.cancel.check()
}

/// The walk through the source.
struct Walker<'a> {
    shared: &'a Shared<'a>,
    parent: ParentWalk,
    ignored: Ignored,
    path: SnapshotPath,
    folders: Vec<Level>,
    /// What is read after everything else.
    last: Vec<FileTask>,
    scratch: Scratch,
}

/// A folder that the walk is in.
struct Level {
    folder: Arc<Folder>,
    last_name: Option<Vec<u8>>,
}

impl Walker<'_> {
    fn walk(mut self, source: &mut dyn Source, files: &Sender<FileTask>) -> Result<Vec<FileTask>> {
        while !self.shared.is_over() {
            match source.next().map_err(|error| source_failed(&error))? {
                Some(SourceEvent::Enter(node)) => self.enter(node)?,
                Some(SourceEvent::Entry(entry)) => self.entry(entry, files)?,
                Some(SourceEvent::Problem(problem)) => self.shared.report(problem),
                Some(SourceEvent::Leave) => self.leave()?,
                None => {
                    if self.folders.len() != 1 {
                        return Err(broken_source("it ended inside a folder"));
                    }
                    self.leave()?;
                    break;
                }
            }
        }
        Ok(self.last)
    }

    fn enter(&mut self, node: Node) -> Result<()> {
        let before = self.begin(&node)?.filter(Node::is_dir);
        self.parent.enter(&self.path, before.as_ref());
        let level = self.level()?;
        let folder = Folder::child(&level.folder, node, before.as_ref().and_then(Node::subtree));
        self.folders.push(Level { folder, last_name: None });
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        let level = self.folders.pop().ok_or_else(|| broken_source("it left a folder that it had not entered"))?;
        self.parent.leave();
        self.path.pop();
        self.shared.finish_folders(level.folder.close(), &mut self.scratch)
    }

    fn entry(&mut self, entry: Entry, files: &Sender<FileTask>) -> Result<()> {
        let Entry { mut node, content } = entry;
        let before = self.begin(&node)?;
        let path = self.path.clone();
        self.path.pop();
        let folder = Arc::clone(&self.level()?.folder);
        let slot = folder.reserve();
        let shared = self.shared;
        let Some(content) = content else {
            let outcome = match &before {
                None => EntryOutcome::New,
                Some(before) if before.kind == node.kind && before.metadata == node.metadata => {
                    EntryOutcome::Unmodified
                }
                Some(_) => EntryOutcome::Changed,
            };
            return shared.settle(&path, &node, outcome, &folder, slot, &mut self.scratch);
        };
        let mut outcome = EntryOutcome::New;
        if let Some(before) = before.filter(|before| matches!(before.kind, NodeKind::File { .. })) {
            outcome = EntryOutcome::Changed;
            let is_known = |node: &Node| node.content().iter().all(|blob| shared.blobs.rely_on(BlobKind::Data, blob));
            if content.is_proven_by_metadata() && is_unchanged(&before, &node, self.ignored) && is_known(&before) {
                node.kind = before.kind;
                return shared.settle(&path, &node, EntryOutcome::Unmodified, &folder, slot, &mut self.scratch);
            }
        }
        let task = FileTask { path, node, content, outcome, folder, slot };
        if task.content.comes_last() {
            self.last.push(task);
            return Ok(());
        }
        // The readers leave only when this end is dropped, or when one of them could not be started.
        files.send(task).map_err(|_| Error::new(ErrorKind::Broken("all readers are gone"), "backup"))
    }

    /// Goes down to an entry and finds its counterpart.
    fn begin(&mut self, node: &Node) -> Result<Option<Node>> {
        if !node.has_safe_name() {
            return Err(broken_source("it gave a name that is none"));
        }
        let level = self.level()?;
        if level.last_name.as_deref().is_some_and(|last| last >= node.name.as_slice()) {
            return Err(broken_source("its entries are out of order"));
        }
        level.last_name = Some(node.name.clone());
        self.path.push(&node.name);
        Ok(self.parent.find(&node.name))
    }

    fn level(&mut self) -> Result<&mut Level> {
        self.folders.last_mut().ok_or_else(|| broken_source("it went on after its end"))
    }
}

fn broken_source(what: &str) -> Error {
    Error::new(ErrorKind::Source(format!("the source broke its contract: {what}")), "source")
}

fn source_failed(error: &SourceError) -> Error {
    let what = format!("failed to {}: {}", error.action, error.reason);
    let failed = Error::new(ErrorKind::Source(what), error.path.to_string());
    match &error.hint {
        Some(hint) => failed.with_hint(hint.clone()),
        None => failed,
    }
}
