//! A backup: the walk beside the parent snapshot, the threads that read, and the commit.
//!
//! The order of the commit is what makes a crash harmless: packs are durable before the index that lists them, the
//! indexes before the snapshot. Just before the snapshot is written the index is looked at again: a prune on another
//! machine may have marked packs that the snapshot relies on, and they are then listed anew.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, PoisonError};

use crossbeam_channel::{Sender, bounded};
use jiff::Timestamp;

use super::blob_store::{BlobStore, Scratch, Writing, entries_of};
use super::parent::{Ignored, ParentWalk, is_unchanged, newest_parent, read_ahead};
use super::reader::{FileTask, Shared, read_file, work};
use super::tree_assembly::Folder;
use super::walk::TreeReader;
use crate::cancel::Cancel;
use crate::codec::{Compression, Proof};
use crate::contracts::{self, Entry, Report, Source, SourceError, SourceEvent};
use crate::limits::{CHUNKS_WAITING_PER_WORKER, ENTRIES_AHEAD_MAX, PARENT_FOLDERS_AHEAD_MAX};
use crate::model::{BlobId, BlobKind, IndexId, Node, NodeKind, PackId, Snapshot, SnapshotId, SnapshotPath, Summary};
use crate::observe::{EntryOutcome, Event, Observer, Phase};
use crate::repository::layout::Named;
use crate::repository::{Index, IndexFile, Lock, LockMode, RecordBody, Repository, layout};
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
    /// zstd's level for data and trees.
    pub level: i32,
    /// Whether every sealed blob is opened again and compared.
    pub proof: Proof,
    /// The lock to take: [`LockMode::Shared`], or none for credentials that cannot delete.
    pub lock: LockMode,
    /// Threads that read, hash, compress and seal; as many as there are cores when not given.
    pub workers: Option<NonZeroUsize>,
    /// A file counts as unchanged even if its ctime differs (for sources whose ctimes mean nothing).
    pub ignore_ctime: bool,
    /// A file counts as unchanged even if its inode differs (network file systems, snapshots mounted anew).
    pub ignore_inode: bool,
    /// Nothing is written; the outcome says what would have been.
    pub dry_run: bool,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            tags: Vec::new(),
            time: None,
            parent: Parent::Newest,
            level: Compression::DEFAULT_LEVEL,
            proof: Proof::Each,
            lock: LockMode::Shared,
            workers: None,
            ignore_ctime: false,
            ignore_inode: false,
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
    let started = repository.clock().now();
    let lock = match options.dry_run {
        true => repository.lock(LockMode::None, observer)?,
        false => repository.lock(options.lock, observer)?,
    };
    let info = source.info();
    // Snapshots before indexes: whatever a listed snapshot needs was indexed before it was written.
    let parent = match &options.parent {
        Parent::None => None,
        Parent::Given(id) => Some((*id, repository.find_snapshot(&id.to_string(), &Default::default())?.1)),
        Parent::Newest => newest_parent(repository, &options.tags, &info.paths, observer)?,
    };
    let index = repository.load_index(observer)?;
    cancel.check()?;
    let writing = if options.dry_run { Writing::DryRun } else { Writing::Real };
    let blobs = BlobStore::new(repository, &index, &lock, options.level, options.proof, writing, observer);
    let shared = Shared::new(&blobs, repository.config().chunking()?, cancel, observer);
    observer.event(Event::Phase { phase: Phase::Backup, total: None });
    let reader = TreeReader::new(repository, &index);
    let tree_before = parent.as_ref().map(|(_, snapshot)| snapshot.tree);
    let ignored = Ignored { ctime: options.ignore_ctime, inode: options.ignore_inode };
    let last = run_threads(&shared, &reader, tree_before, ignored, source, workers(options.workers))?;
    read_last(&shared, last)?;
    let report = source.finish().map_err(|error| source_failed(&error))?;

    blobs.flush()?;
    let root = shared.root.lock().unwrap_or_else(PoisonError::into_inner).take();
    let root = root.ok_or_else(|| Error::new(ErrorKind::Broken("a folder was never finished"), "backup"))?;
    let mut summary = Summary { backup_start: started, ..Summary::default() };
    shared.tally.write_into(&mut summary);
    let count = |count: &std::sync::atomic::AtomicU64| count.load(std::sync::atomic::Ordering::Relaxed);
    summary.data_blobs = count(&blobs.counts.data_blobs);
    summary.tree_blobs = count(&blobs.counts.tree_blobs);
    summary.data_added = count(&blobs.counts.plain_bytes);
    summary.data_added_packed = count(&blobs.counts.packed_bytes);
    summary.backup_end = repository.clock().now();
    let identity = repository.identity();
    let snapshot = Snapshot {
        time: options.time.unwrap_or(started),
        parent: parent.as_ref().map(|(id, _)| *id),
        tree: root,
        paths: info.paths,
        hostname: identity.hostname.clone(),
        username: identity.username.clone(),
        uid: identity.uid,
        gid: identity.gid,
        excludes: info.excludes,
        tags: options.tags.clone(),
        original: None,
        program_version: concat!("backup ", env!("CARGO_PKG_VERSION")).to_owned(),
        summary: Some(summary.clone()),
        other: serde_json::Map::new(),
    };
    let mut outcome = BackupOutcome {
        snapshot: None,
        parent: snapshot.parent,
        summary,
        losses: count(&shared.tally.losses),
        reached: contracts::Proof::Uploaded,
        report,
    };
    if options.dry_run {
        return Ok(outcome);
    }
    cancel.check()?;
    lock.confirm(observer)?;
    list_anew_what_was_marked(repository, &index, &blobs, &lock, observer)?;
    let id = repository.save_snapshot(&snapshot)?;
    outcome.snapshot = Some(id);
    outcome.reached = confirm_presence(repository, &index, &blobs, id, observer)?;
    Ok(outcome)
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
                Some(SourceEvent::Problem(problem)) => self.shared.report(&problem),
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

/// Looks at the index again: packs that the snapshot relies on and that were marked for deletion meanwhile are listed
/// as in use once more. Fails when one of them is gone altogether.
fn list_anew_what_was_marked(
    repository: &Repository,
    index: &Index,
    blobs: &BlobStore<'_>,
    lock: &Lock,
    observer: &dyn Observer,
) -> Result<()> {
    let listed: HashSet<IndexId> = repository.list::<IndexId>()?.into_iter().map(|(id, _)| id).collect();
    // Marking a pack replaces the index object that lists it; where all objects are still there, nothing was marked.
    if index.files().iter().all(|id| listed.contains(id)) {
        return Ok(());
    }
    let fresh = repository.load_index(observer)?;
    let in_use: HashSet<PackId> =
        fresh.packs().iter().filter(|pack| pack.marked.is_none()).map(|pack| pack.id).collect();
    let relied_on = blobs.relied_on().map(|number| index.packs()[number].id);
    let missing: HashSet<PackId> = relied_on.filter(|pack| !in_use.contains(pack)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let present: HashSet<PackId> =
        repository.store().list(layout::DATA)?.iter().filter_map(|info| PackId::from_key(&info.key)).collect();
    if let Some(gone) = missing.difference(&present).next() {
        return Err(Error::new(ErrorKind::Missing, gone.key().as_str())
            .with_hint("a prune removed it while this backup ran; run the backup again"));
    }
    lock.check()?;
    repository.save_index(&IndexFile { packs: entries_of(index, &missing), ..IndexFile::default() })?;
    repository.store().sync()?;
    let count = missing.len();
    observer.event(Event::Notice(&format!("{count} packs were marked for deletion meanwhile and are in use again")));
    Ok(())
}

/// Lists the stored packs and looks whether all that the snapshot needs are there with their sizes.
fn confirm_presence(
    repository: &Repository,
    index: &Index,
    blobs: &BlobStore<'_>,
    snapshot: SnapshotId,
    observer: &dyn Observer,
) -> Result<contracts::Proof> {
    observer.event(Event::Phase { phase: Phase::Confirm, total: None });
    let listed = repository.store().list(layout::DATA)?;
    let sizes: std::collections::HashMap<PackId, u64> =
        listed.iter().filter_map(|info| Some((PackId::from_key(&info.key)?, info.bytes))).collect();
    let known = blobs.relied_on().map(|number| (index.packs()[number].id, index.packs()[number].bytes));
    let mut needed = known.chain(blobs.stored_packs());
    if let Some((pack, _)) = needed.find(|(pack, bytes)| sizes.get(pack) != Some(bytes)) {
        let what = format!("pack {pack:.8} is not there with its right size: run `check`, then `repair`");
        observer.event(Event::Notice(&what));
        return Ok(contracts::Proof::Uploaded);
    }
    let proof = contracts::Proof::Present;
    if let Err(error) = repository.save_record(RecordBody::Proof { snapshots: vec![snapshot], proof }) {
        observer.event(Event::Notice(&format!("the record of this backup could not be kept: {error}")));
    }
    Ok(proof)
}
