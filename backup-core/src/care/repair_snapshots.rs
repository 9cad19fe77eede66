//! Writes snapshots that make do without what was lost.
//!
//! Never a silently wrong file: one that misses a piece is not there under its own name. What is left of it stands
//! beside it as `NAME.damaged`, with a note of how much is missing; a file of which nothing is left is dropped, and a
//! folder that cannot be read becomes an empty `NAME.damaged`. Everything else keeps its name and its content. The
//! snapshot gets the tag `repaired`, and the damaged one stays until it is forgotten.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use super::check_objects::{Presence, presences};
use super::new_packs::NewPacks;
use super::proofs::REPAIRED_TAG;
use crate::cancel::Cancel;
use crate::codec::{Compression, Proof};
use crate::limits::{FINDING_NAMES_MAX, TREE_DEPTH_MAX};
use crate::model::{BlobId, BlobKind, EMPTY_TREE, Node, NodeKind, Snapshot, SnapshotId, SnapshotPath, TreeWriter};
use crate::observe::Observer;
use crate::pipeline::TreeReader;
use crate::repository::layout::Named;
use crate::repository::{Index, Lock, LockMode, Repository};
use crate::{Error, ErrorKind, Result};

/// Which snapshots are repaired, and what becomes of the damaged ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRepairOptions {
    /// Only these; all when not given.
    pub snapshots: Option<Vec<SnapshotId>>,
    /// What becomes of the damaged ones.
    pub originals: Originals,
}

/// What becomes of a damaged snapshot once a repaired one is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Originals {
    /// It stays: what is missing may come back, from a copy of the repository or with a backup of the same files.
    #[default]
    Keep,
    /// It is removed.
    Forget,
}

/// What a repair says of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotVerdict {
    /// Nothing of it is lost.
    Sound,
    /// It can be written anew without what was lost.
    Repairable {
        /// The root of the new one.
        tree: BlobId,
        /// Files and folders of which nothing is left.
        dropped: u64,
        /// Files of which a part is left.
        shortened: u64,
        /// Some of both, by their old names.
        paths: Vec<SnapshotPath>,
    },
    /// A snapshot that makes do without what was lost is there already.
    RepairedAlready,
    /// Its root cannot be read: nothing is left of it.
    Lost(String),
}

/// A planned repair of snapshots. Dropping it changes nothing.
pub struct SnapshotRepair {
    repository: Repository,
    lock: Lock,
    originals: Originals,
    verdicts: Vec<(SnapshotId, Snapshot, SnapshotVerdict)>,
    new_trees: BTreeMap<BlobId, Vec<u8>>,
}

/// What a repair of snapshots did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRepairOutcome {
    /// Each repaired snapshot, the damaged one before the new one.
    pub repaired: Vec<(SnapshotId, SnapshotId)>,
    /// Damaged snapshots that were removed.
    pub forgotten: u64,
}

impl SnapshotRepair {
    /// Finds out what is left of each snapshot. Takes a shared lock, or the exclusive one if snapshots are to be
    /// removed, and keeps it.
    ///
    /// Fails when the index is damaged or a pack has a wrong size: what is left of those is known after a repair of
    /// the index.
    pub fn plan(
        repository: &Repository,
        options: &SnapshotRepairOptions,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let mode = match options.originals {
            Originals::Keep => LockMode::Shared,
            Originals::Forget => LockMode::Exclusive,
        };
        let lock = repository.lock(mode, observer)?;
        lock.confirm(observer)?;
        let snapshots = repository.readable_snapshots(|_, error| match error.kind() {
            // Of a snapshot that cannot be read nothing is known; a check names it.
            ErrorKind::Damaged(_) => Ok(()),
            _ => Err(error),
        })?;
        let index = repository.load_index(observer)?;
        let of_packs = presences(repository, &index)?.of_packs;
        if let Some(at) = of_packs.iter().position(|presence| matches!(presence, Presence::OtherSize(_))) {
            let pack = index.packs()[at].id.key();
            return Err(Error::damaged(pack, "its size is wrong").with_hint("run `repair index` first"));
        }
        let mut rewriting = Rewriting {
            reader: TreeReader::new(repository, &index),
            index: &index,
            of_packs: &of_packs,
            sound: HashSet::new(),
            new_trees: BTreeMap::new(),
            cancel,
        };
        let mut verdicts = Vec::new();
        for (id, snapshot) in &snapshots {
            if options.snapshots.as_ref().is_some_and(|chosen| !chosen.contains(id)) {
                continue;
            }
            let mut verdict = rewriting.verdict(snapshot)?;
            if let SnapshotVerdict::Repairable { tree, .. } = &verdict
                && snapshots.iter().any(|(_, other)| is_repair_of(other, *id, snapshot) && other.tree == *tree)
            {
                verdict = SnapshotVerdict::RepairedAlready;
            }
            verdicts.push((*id, snapshot.clone(), verdict));
        }
        let new_trees = rewriting.new_trees;
        Ok(Self { repository: repository.clone(), lock, originals: options.originals, verdicts, new_trees })
    }

    /// What is said of each snapshot, oldest first.
    pub fn verdicts(&self) -> impl Iterator<Item = (SnapshotId, &SnapshotVerdict)> {
        self.verdicts.iter().map(|(id, _, verdict)| (*id, verdict))
    }

    /// Whether nothing would be changed.
    pub fn is_empty(&self) -> bool {
        !self.verdicts.iter().any(|(_, _, verdict)| matches!(verdict, SnapshotVerdict::Repairable { .. }))
    }

    /// Writes the repaired snapshots: their trees, the index that lists those, then the snapshots; then the damaged
    /// ones go, if that was asked for.
    pub fn apply(self, cancel: &Cancel, observer: &dyn Observer) -> Result<SnapshotRepairOutcome> {
        let Self { repository, lock, originals, verdicts, new_trees } = self;
        lock.check()?;
        let codec = repository.codec(BlobKind::Tree, Compression::DEFAULT_LEVEL, Proof::Each);
        let mut new_packs = NewPacks::new(&repository, observer);
        let mut sealed = Vec::new();
        for (id, plain) in &new_trees {
            cancel.check()?;
            sealed.clear();
            let outcome = codec.seal_and_prove(plain, &mut sealed).map_err(|error| {
                Error::new(ErrorKind::Broken("a tree could not be sealed"), format!("tree {id}")).caused_by(error)
            })?;
            let plain_bytes = outcome.is_compressed.then(|| u32::try_from(plain.len()).unwrap_or(u32::MAX));
            new_packs.add(BlobKind::Tree, *id, &sealed, plain_bytes)?;
        }
        new_packs.finish()?;

        let mut outcome = SnapshotRepairOutcome::default();
        for (id, snapshot, verdict) in verdicts {
            let SnapshotVerdict::Repairable { tree, .. } = verdict else { continue };
            lock.check()?;
            let mut tags = snapshot.tags.clone();
            if !tags.iter().any(|tag| tag == REPAIRED_TAG) {
                tags.push(REPAIRED_TAG.to_owned());
            }
            let original = Some(snapshot.original.unwrap_or(id));
            // The figures were those of the backup: they say what is no longer there.
            let repaired = Snapshot { tree, tags, original, summary: None, ..snapshot };
            outcome.repaired.push((id, repository.save_snapshot(&repaired)?));
        }
        if originals == Originals::Forget {
            lock.check()?;
            outcome.forgotten = outcome.repaired.len() as u64;
            repository.store().delete_each(outcome.repaired.iter().map(|(old, _)| old.key()))?;
            repository.store().sync()?;
        }
        Ok(outcome)
    }
}

impl fmt::Debug for SnapshotRepair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotRepair({:?}, {:?})", self.repository, self.verdicts().collect::<Vec<_>>())
    }
}

/// Whether `other` was written in place of a damaged snapshot.
fn is_repair_of(other: &Snapshot, id: SnapshotId, snapshot: &Snapshot) -> bool {
    other.original == Some(snapshot.original.unwrap_or(id)) && other.tags.iter().any(|tag| tag == REPAIRED_TAG)
}

/// Writes trees anew where something below them is lost.
struct Rewriting<'a> {
    reader: TreeReader<'a>,
    index: &'a Index,
    of_packs: &'a [Presence],
    /// Trees below which nothing is lost.
    sound: HashSet<BlobId>,
    new_trees: BTreeMap<BlobId, Vec<u8>>,
    cancel: &'a Cancel,
}

/// A folder that is being rewritten.
struct Level {
    tree: BlobId,
    /// The folder itself; `None` at the root.
    folder: Option<Node>,
    waiting: std::vec::IntoIter<Node>,
    kept: Vec<Node>,
    is_changed: bool,
}

#[derive(Default)]
struct Losses {
    dropped: u64,
    shortened: u64,
    paths: Vec<SnapshotPath>,
}

impl Losses {
    fn name(&mut self, path: &SnapshotPath) {
        if self.paths.len() < FINDING_NAMES_MAX {
            self.paths.push(path.clone());
        }
    }
}

impl Rewriting<'_> {
    fn verdict(&mut self, snapshot: &Snapshot) -> Result<SnapshotVerdict> {
        if self.sound.contains(&snapshot.tree) {
            return Ok(SnapshotVerdict::Sound);
        }
        let nodes = match self.read(&snapshot.tree)? {
            Ok(nodes) => nodes,
            Err(what) => return Ok(SnapshotVerdict::Lost(what)),
        };
        let mut losses = Losses::default();
        let tree = self.rewrite(snapshot.tree, nodes, &mut losses)?;
        if tree == snapshot.tree {
            return Ok(SnapshotVerdict::Sound);
        }
        let Losses { dropped, shortened, paths } = losses;
        Ok(SnapshotVerdict::Repairable { tree, dropped, shortened, paths })
    }

    /// The tree that makes do without what is lost below `root`: `root` itself when nothing is.
    fn rewrite(&mut self, root: BlobId, nodes: Vec<Node>, losses: &mut Losses) -> Result<BlobId> {
        let level = |tree, folder, nodes: Vec<Node>| Level {
            tree,
            folder,
            kept: Vec::with_capacity(nodes.len()),
            waiting: nodes.into_iter(),
            is_changed: false,
        };
        let mut path = SnapshotPath::root();
        let mut levels = vec![level(root, None, nodes)];
        loop {
            self.cancel.check()?;
            let depth = levels.len();
            let Some(current) = levels.last_mut() else { return Ok(root) };
            let Some(mut node) = current.waiting.next() else {
                let Some(Level { tree, folder, kept, is_changed, .. }) = levels.pop() else { return Ok(root) };
                let new = if is_changed { self.write(kept)? } else { tree };
                if !is_changed {
                    self.sound.insert(tree);
                }
                let (Some(mut folder), Some(outer)) = (folder, levels.last_mut()) else { return Ok(new) };
                folder.kind = NodeKind::Dir { subtree: Some(new) };
                outer.is_changed |= is_changed;
                outer.kept.push(folder);
                path.pop();
                continue;
            };
            path.push(&node.name);
            match &node.kind {
                NodeKind::Dir { subtree: Some(tree) } if self.sound.contains(tree) => current.kept.push(node),
                NodeKind::Dir { subtree } => {
                    let read = match subtree {
                        Some(_) if depth > TREE_DEPTH_MAX => Err("folders lie too deep".to_owned()),
                        Some(tree) => self.read(tree)?,
                        None => Err("it has no tree".to_owned()),
                    };
                    match (read, *subtree) {
                        (Ok(nodes), Some(tree)) => {
                            levels.push(level(tree, Some(node), nodes));
                            continue;
                        }
                        (read, _) => {
                            losses.dropped += 1;
                            losses.name(&path);
                            node.kind = NodeKind::Dir { subtree: Some(self.write(Vec::new())?) };
                            node.metadata.error = format!("lost: {}", read.err().unwrap_or_default());
                            current.is_changed = true;
                            current.kept.push(as_damaged(node));
                        }
                    }
                }
                NodeKind::File { content, .. } => {
                    let left: Vec<_> = content.iter().copied().filter(|blob| self.has(BlobKind::Data, blob)).collect();
                    if left.len() < content.len() {
                        current.is_changed = true;
                        losses.name(&path);
                        if left.is_empty() {
                            losses.dropped += 1;
                        } else {
                            losses.shortened += 1;
                            node.metadata.error =
                                format!("{} of {} pieces are lost", content.len() - left.len(), content.len());
                            node.metadata.links = 1;
                            node.kind = NodeKind::File { size: self.bytes_of(&left), content: left };
                            current.kept.push(as_damaged(node));
                        }
                    } else {
                        current.kept.push(node);
                    }
                }
                _ => current.kept.push(node),
            }
            path.pop();
        }
    }

    /// A tree's nodes, or why it cannot be read.
    fn read(&self, tree: &BlobId) -> Result<std::result::Result<Vec<Node>, String>> {
        match self.reader.read(tree) {
            Ok(nodes) => Ok(Ok(nodes)),
            Err(error) if super::repack::is_of_object(&error) => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, mut nodes: Vec<Node>) -> Result<BlobId> {
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        make_names_unique(&mut nodes);
        let mut writer = TreeWriter::default();
        for node in &nodes {
            writer.push(node).map_err(|error| Error::damaged("new tree", error.to_string()))?;
        }
        let plain = writer.finish();
        debug_assert!(!nodes.is_empty() || plain == EMPTY_TREE);
        let id = BlobId::of(&plain);
        if self.index.find(BlobKind::Tree, &id).is_none() {
            self.new_trees.insert(id, plain);
        }
        Ok(id)
    }

    fn has(&self, kind: BlobKind, id: &BlobId) -> bool {
        self.index.find_all(kind, id).any(|place| self.of_packs[place.pack_number as usize] == Presence::Whole)
    }

    fn bytes_of(&self, blobs: &[BlobId]) -> u64 {
        let places = blobs.iter().filter_map(|blob| self.index.find(BlobKind::Data, blob));
        places.map(|place| place.blob.opened_bytes()).sum()
    }
}

/// What is behind the name of a file that misses a piece.
const DAMAGED_SUFFIX: &[u8] = b".damaged";
/// The longest name that Linux's file systems take.
const NAME_BYTES_MAX: usize = 255;

fn as_damaged(mut node: Node) -> Node {
    node.name.truncate(NAME_BYTES_MAX - DAMAGED_SUFFIX.len());
    node.name.extend_from_slice(DAMAGED_SUFFIX);
    node
}

/// Gives every node of a sorted list a name of its own: those that bear the name of another get a number behind it.
fn make_names_unique(nodes: &mut [Node]) {
    let mut taken: HashSet<Vec<u8>> = HashSet::new();
    let all: HashSet<Vec<u8>> = nodes.iter().map(|node| node.name.clone()).collect();
    let mut is_changed = false;
    for node in &mut *nodes {
        if !taken.insert(node.name.clone()) {
            let base = node.name[..node.name.len().min(NAME_BYTES_MAX - 21)].to_vec();
            let numbered = (1_u64..).map(|number| [&base[..], b".", number.to_string().as_bytes()].concat());
            for name in numbered {
                if !all.contains(&name) && taken.insert(name.clone()) {
                    node.name = name;
                    break;
                }
            }
            is_changed = true;
        }
    }
    if is_changed {
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
    }
}
