//! A restore: the walk through the snapshot makes folders and collects files; batches of files are written by all
//! threads in the order in which their pieces lie in the packs.
//!
//! What is always true: every byte that reaches the target was opened and hashed first; a file is given its times only
//! when all of its bytes are there; one whose bytes cannot all be had is told, counted, and not left under its name if
//! it was not there before.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use super::on_the_way::Sources;
use super::restore_batch::Batch;
use super::stored_files::StoredFiles;
use super::verify::{Unrestored, verify};
use super::walk::{TreeReader, WalkStep, find_node, walk};
use crate::cancel::Cancel;
use crate::contracts::{Target, TargetError};
use crate::model::{BlobKind, Node, NodeKind, PackId, Snapshot, SnapshotPath};
use crate::observe::{Amount, EntryOutcome, Event, Observer, Phase, Problem, Severity};
use crate::repository::{Index, LockMode, Repository};
use crate::{Error, ErrorKind, Result};

/// How files that are there already are compared with the snapshot's. Whether they may be touched at all is the
/// target's affair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compare {
    /// They are read; only what differs is written.
    #[default]
    Content,
    /// Those with the right size and modification time are taken as right; others as with [`Compare::Content`].
    SizeAndTime,
}

/// How a restore is made.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// What of the snapshot: a folder's contents go to the target's root, a file goes there by its name. `None` for
    /// all, under absolute paths.
    pub path: Option<SnapshotPath>,
    /// How files that are there already are compared.
    pub compare: Compare,
    /// Everything is read again from the target afterwards and compared.
    pub verify: bool,
    /// Nothing is written and no data is fetched; the outcome says what would be, as far as the target can tell
    /// ([`Target::preview`]), and otherwise only what the snapshot holds.
    pub dry_run: bool,
    /// The lock to take.
    pub lock: LockMode,
    /// Threads that read, open and write; as many as there are cores when not given. There are never fewer than what the
    /// store says is worth having under way.
    pub workers: Option<NonZeroUsize>,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            path: None,
            compare: Compare::Content,
            verify: false,
            dry_run: false,
            lock: LockMode::Shared,
            workers: None,
        }
    }
}

/// What a restore did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreOutcome {
    /// Files in what was asked for.
    pub files: u64,
    /// Folders in it.
    pub dirs: u64,
    /// Links, devices, pipes in it.
    pub others: u64,
    /// Bytes of the files in it.
    pub bytes: u64,
    /// Bytes that were written, because they were not there already.
    pub bytes_written: u64,
    /// Files that were as they should be already, or were to be left alone.
    pub files_kept: u64,
    /// Entries that were removed because the snapshot does not have them.
    pub deleted: u64,
    /// Entries that could not be restored right.
    pub losses: u64,
    /// Files that were read again and are right, when that was asked for.
    pub verified: Option<u64>,
}

/// Restores a snapshot, or a part of it.
pub fn restore(
    repository: &Repository,
    snapshot: &Snapshot,
    target: &dyn Target,
    options: &RestoreOptions,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<RestoreOutcome> {
    let lock = if options.dry_run { LockMode::None } else { options.lock };
    let lock = repository.lock(lock, observer)?;
    let index = repository.load_index(observer)?;
    lock.confirm(observer)?;
    restore_by(&index, repository, snapshot, target, options, cancel, observer)
}

/// The same for who has an index already, and a lock for as long as this takes.
pub fn restore_by(
    index: &Index,
    repository: &Repository,
    snapshot: &Snapshot,
    target: &dyn Target,
    options: &RestoreOptions,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<RestoreOutcome> {
    let reader = TreeReader::new(repository, index);
    let selection = Selection::find(&reader, snapshot, options.path.as_ref())?;

    observer.event(Event::Phase { phase: Phase::Plan, total: None });
    let preview = if options.dry_run { target.preview() } else { None };
    let looked_at = if options.dry_run { preview.as_deref() } else { Some(target) };
    let is_written = |path: &SnapshotPath, node: &Node| looked_at.is_some_and(|target| !target.reads(path, node));
    let (expected, written) = selection.measure(&reader, cancel, is_written)?;
    observer.event(Event::Phase { phase: Phase::Restore, total: Some(expected) });
    let mut restore = Restore {
        target: looked_at,
        options,
        cancel,
        observer,
        outcome: RestoreOutcome::default(),
        batch: Batch::default(),
        unrestored: Unrestored::default(),
        sources: Sources::of(snapshot),
        first_names: HashMap::new(),
        folders: Vec::new(),
        stored: HashMap::new(),
        repository,
        index,
    };
    if let Some(target) = looked_at {
        target.begin(written).map_err(|error| target_failed(&error))?;
    }
    selection.each(&reader, |path, step| restore.step(path, step))?;
    restore.run_batch()?;
    restore.load()?;
    if let Some(target) = looked_at {
        target.finish().map_err(|error| target_failed(&error))?;
    }
    let Restore { mut outcome, unrestored, .. } = restore;
    if options.verify && !options.dry_run {
        let losses = &mut outcome.losses;
        let right = verify(&reader, &selection, target, &unrestored, expected, cancel, observer, losses)?;
        outcome.verified = Some(right);
    }
    Ok(outcome)
}

/// What a restore of `path`, or of all, would write: entries, and bytes of files. Folders that cannot be read are not in it.
pub fn restored_amount(
    index: &Index,
    repository: &Repository,
    snapshot: &Snapshot,
    path: Option<&SnapshotPath>,
    cancel: &Cancel,
) -> Result<Amount> {
    let reader = TreeReader::new(repository, index);
    Ok(Selection::find(&reader, snapshot, path)?.measure(&reader, cancel, |_, _| true)?.0)
}

/// The packs that a restore of `path`, or of all, reads content from, each once. Folders that cannot be read, and content
/// that no index lists, have none.
pub fn restored_packs(
    index: &Index,
    repository: &Repository,
    snapshot: &Snapshot,
    path: Option<&SnapshotPath>,
    cancel: &Cancel,
) -> Result<Vec<PackId>> {
    let reader = TreeReader::new(repository, index);
    let mut numbers = BTreeSet::new();
    Selection::find(&reader, snapshot, path)?.each(&reader, |_, step| {
        cancel.check()?;
        if let WalkStep::Node(node) = step {
            let found = node.content().iter().filter_map(|id| index.find(BlobKind::Data, id));
            numbers.extend(found.map(|location| location.pack_number));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(numbers.into_iter().map(|number| index.packs()[number as usize].id).collect())
}

/// What of a snapshot was asked for.
pub(super) struct Selection {
    /// A folder's node, `None` for the root of the snapshot.
    node: Option<Node>,
    /// Its tree; `None` for anything but a folder.
    tree: Option<crate::model::BlobId>,
}

impl Selection {
    fn find(reader: &TreeReader<'_>, snapshot: &Snapshot, path: Option<&SnapshotPath>) -> Result<Self> {
        let node = match path {
            Some(path) => find_node(reader, &snapshot.tree, path)?,
            None => None,
        };
        let tree = match &node {
            None => Some(snapshot.tree),
            Some(node) => node.subtree(),
        };
        Ok(Self { node, tree })
    }

    /// Every step of the walk, with paths as they will be below the target.
    pub(super) fn each(
        &self,
        reader: &TreeReader<'_>,
        mut each: impl FnMut(&SnapshotPath, WalkStep<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let root = SnapshotPath::root();
        match (&self.node, &self.tree) {
            (Some(node), None) => each(&root.join(&node.name), WalkStep::Node(node)).map(drop),
            (node, Some(tree)) => {
                if let Some(node) = node {
                    let _ = each(&root, WalkStep::Node(node))?;
                }
                walk(reader, tree, &root, &mut each)?;
                if let Some(node) = node {
                    let _ = each(&root, WalkStep::Leave(node))?;
                }
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    /// How many entries and bytes of files there are, and of those that are written. Trees that cannot be read are told later.
    fn measure(
        &self,
        reader: &TreeReader<'_>,
        cancel: &Cancel,
        is_written: impl Fn(&SnapshotPath, &Node) -> bool,
    ) -> Result<(Amount, Amount)> {
        let (mut all, mut written) = (Amount::default(), Amount::default());
        self.each(reader, |path, step| {
            cancel.check()?;
            if let WalkStep::Node(node) = step {
                let amounts = [Some(&mut all), is_written(path, node).then_some(&mut written)];
                for amount in amounts.into_iter().flatten() {
                    amount.items += 1;
                    // A repository may say anything of sizes.
                    amount.bytes = amount.bytes.saturating_add(node.size());
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((all, written))
    }
}

/// A restore that is under way.
struct Restore<'a> {
    repository: &'a Repository,
    index: &'a Index,
    /// `None` in a dry run onto a target that cannot say what it would do.
    target: Option<&'a dyn Target>,
    options: &'a RestoreOptions,
    cancel: &'a Cancel,
    observer: &'a dyn Observer,
    outcome: RestoreOutcome,
    batch: Batch,
    unrestored: Unrestored,
    sources: Sources,
    /// The first name of every inode that has several, by device and inode.
    first_names: HashMap<(u64, u64), SnapshotPath>,
    /// The names in the folders that the walk is in.
    folders: Vec<Vec<Vec<u8>>>,
    /// Files that the target reads by itself.
    stored: HashMap<SnapshotPath, Node>,
}

impl Restore<'_> {
    fn step(&mut self, path: &SnapshotPath, step: WalkStep<'_>) -> Result<ControlFlow<()>> {
        self.cancel.check()?;
        match step {
            WalkStep::Node(node) => self.node(path, node),
            WalkStep::Leave(node) => {
                let names = self.folders.pop().unwrap_or_default();
                if self.target.is_some() {
                    let names = self.has_all_of(path, &names).then_some(names);
                    self.batch.leave(path.clone(), node.clone(), names);
                }
                Ok(ControlFlow::Continue(()))
            }
            WalkStep::Unreadable(_, error) => {
                self.lose(path, "read the entries of", &error)?;
                // What is in it is unknown: nothing may be deleted there, so the folder gets no last word.
                self.folders.pop();
                Ok(ControlFlow::Continue(()))
            }
        }
    }

    fn node(&mut self, path: &SnapshotPath, node: &Node) -> Result<ControlFlow<()>> {
        if !path.is_root() && !node.has_safe_name() {
            let reason = Error::damaged("name", "it would lead elsewhere");
            self.lose(path, "restore", &reason)?;
            return Ok(ControlFlow::Break(()));
        }
        if let Some(names) = self.folders.last_mut() {
            names.push(node.name.clone());
        }
        match &node.kind {
            NodeKind::Dir { .. } => {
                self.outcome.dirs += 1;
                self.done(path, 0);
                if let Some(target) = self.target
                    && let Err(error) = target.enter(path, node)
                {
                    self.lose_to(error)?;
                    return Ok(ControlFlow::Break(()));
                }
                self.folders.push(Vec::new());
            }
            NodeKind::File { size, .. } => {
                self.outcome.files += 1;
                self.outcome.bytes = self.outcome.bytes.saturating_add(*size);
                self.file(path, node)?;
            }
            _ => {
                self.outcome.others += 1;
                self.done(path, 0);
                if let Some(target) = self.target
                    && !self.is_second_name(path, node)
                {
                    match target.special(path, node) {
                        Ok(problems) => {
                            for problem in problems {
                                tell(problem, Severity::Note, self.observer)?;
                            }
                        }
                        Err(error) => self.lose_to(error)?,
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn file(&mut self, path: &SnapshotPath, node: &Node) -> Result<()> {
        let Some(target) = self.target else {
            self.done(path, node.size());
            return Ok(());
        };
        if !self.options.dry_run && target.reads(path, node) {
            self.stored.insert(path.clone(), node.clone());
            return Ok(());
        }
        if self.is_second_name(path, node) {
            self.done(path, node.size());
            return Ok(());
        }
        let mut pieces = Vec::with_capacity(node.content().len());
        let mut offset = 0;
        for id in node.content() {
            let Some(location) = self.index.find(BlobKind::Data, id) else {
                let error = Error::new(ErrorKind::Missing, format!("data blob {id}"));
                return self.lose(path, "restore", &error);
            };
            pieces.push((offset, location));
            offset += location.blob.opened_bytes();
        }
        self.batch.file(path.clone(), node.clone(), offset, pieces);
        if self.batch.is_full() { self.run_batch() } else { Ok(()) }
    }

    /// Whether it is a further name of something restored before, which is then noted.
    fn is_second_name(&mut self, path: &SnapshotPath, node: &Node) -> bool {
        if node.metadata.links < 2 {
            return false;
        }
        let inode = (node.metadata.device_id, node.metadata.inode);
        match self.first_names.get(&inode) {
            Some(first) => {
                self.batch.link(path.clone(), first.clone(), node.clone());
                true
            }
            None => {
                self.first_names.insert(inode, path.clone());
                false
            }
        }
    }

    /// Whether a folder of the target was backed up with all of its entries, of which `names` are known.
    fn has_all_of(&self, path: &SnapshotPath, names: &[Vec<u8>]) -> bool {
        let mut folder = self.options.path.clone().unwrap_or_else(SnapshotPath::root);
        path.components().for_each(|name| folder.push(name));
        self.sources.have_all_of(&folder, names)
    }

    fn done(&self, path: &SnapshotPath, bytes: u64) {
        self.observer.event(Event::Progress(Amount { items: 1, bytes }));
        self.observer.event(Event::Entry { path, outcome: EntryOutcome::Restored, bytes });
    }

    fn run_batch(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let Self { repository, index, target, options, cancel, observer, outcome, unrestored, .. } = self;
        let Some(target) = target else { return Ok(()) };
        batch.run(repository, index, *target, options, cancel, *observer, outcome, unrestored)
    }

    /// All that is to be written was: what the target does with the rest.
    fn load(&mut self) -> Result<()> {
        let Some(target) = self.target.filter(|_| !self.options.dry_run) else { return Ok(()) };
        let files = std::mem::take(&mut self.stored);
        files.keys().for_each(|path| self.unrestored.keep(path));
        let stored = StoredFiles::new(self.repository, self.index, self.cancel, self.observer, files);
        let loaded = target.load(&stored);
        // Whatever a target makes of having been stopped; but what it has left behind, only it knows.
        self.cancel.check().map_err(|stopped| match loaded.as_ref().err().and_then(|error| error.hint.clone()) {
            None => stopped,
            Some(hint) => stopped.with_hint(hint),
        })?;
        if let Err(error) = loaded {
            // What was read ahead of what was wanted is no loss, when it was not wanted.
            if let Some(lost) = stored.lost() {
                tell(lost, Severity::Loss, self.observer)?;
            }
            return Err(target_failed(&error));
        }
        self.outcome.bytes_written = self.outcome.bytes_written.saturating_add(stored.settle());
        Ok(())
    }

    fn lose(&mut self, path: &SnapshotPath, action: &'static str, error: &Error) -> Result<()> {
        self.lose_to(TargetError::new(action, path.clone(), error))
    }

    fn lose_to(&mut self, error: TargetError) -> Result<()> {
        self.outcome.losses += 1;
        self.unrestored.lose(&error.path);
        tell(error, Severity::Loss, self.observer)
    }
}

/// Tells of a failure on one entry; returns it when going on makes no sense.
pub(super) fn tell(error: TargetError, severity: Severity, observer: &dyn Observer) -> Result<()> {
    if error.is_fatal {
        return Err(target_failed(&error));
    }
    let TargetError { path, action, reason, .. } = error;
    observer.event(Event::Problem(&Problem { path, action, reason, severity }));
    Ok(())
}

pub(super) fn target_failed(error: &TargetError) -> Error {
    let what = format!("failed to {}: {}", error.action, error.reason);
    let failed = Error::new(ErrorKind::Target(what), error.path.to_string());
    match &error.hint {
        Some(hint) => failed.with_hint(hint.clone()),
        None => failed,
    }
}
