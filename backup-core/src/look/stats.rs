//! How much there is, and how much of it had to be stored.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use serde::Serialize;

use crate::cancel::Cancel;
use crate::model::{BlobId, BlobKind, Node, NodeKind, Snapshot, SnapshotPath};
use crate::pipeline::{TreeReader, WalkStep, walk};
use crate::repository::{Index, Repository};
use crate::{Error, ErrorKind, Result};

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// The snapshots that were counted.
    pub snapshots: u64,
    /// Files in them, counted in each.
    pub files: u64,
    /// Bytes that restoring each of them on its own would write.
    pub bytes_restored: u64,
    /// Bytes of their files' pieces, each piece once, before compression.
    pub bytes_unique: u64,
    /// Packs of the whole repository.
    pub packs: u64,
    /// Their bytes.
    pub bytes_stored: u64,
    /// Blobs of the whole repository.
    pub blobs: u64,
    /// Their bytes before compression.
    pub bytes_plain: u64,
    /// `bytes_plain` to `bytes_stored`; 1 when nothing is stored.
    pub compression: f64,
    /// `bytes_restored` to `bytes_unique`; 1 when nothing is counted.
    pub deduplication: f64,
}

/// Counts `snapshots`, and the whole repository as its index lists it.
///
/// # Errors
///
/// A tree that cannot be read: figures with a hole in them would be wrong without saying so.
pub fn stats<'a>(
    repository: &Repository,
    index: &Index,
    snapshots: impl IntoIterator<Item = &'a Snapshot>,
    cancel: &Cancel,
) -> Result<Stats> {
    let reader = TreeReader::new(repository, index);
    let mut sizes = Sizes::default();
    let mut stats = of_repository(index);
    for snapshot in snapshots {
        let Size { files, bytes } = sizes.of(&reader, &snapshot.tree, cancel)?;
        stats.snapshots += 1;
        stats.files += files;
        stats.bytes_restored = stats.bytes_restored.saturating_add(bytes);
    }
    let found = sizes.blobs.iter().filter_map(|id| index.find(BlobKind::Data, id));
    stats.bytes_unique = found.map(|location| location.blob.opened_bytes()).sum();
    stats.deduplication = ratio(stats.bytes_restored, stats.bytes_unique);
    Ok(stats)
}

fn of_repository(index: &Index) -> Stats {
    let blobs = || [BlobKind::Data, BlobKind::Tree].into_iter().flat_map(|kind| index.blobs(kind));
    let bytes_plain: u64 = blobs().map(|location| location.blob.opened_bytes()).sum();
    let bytes_stored: u64 = index.packs().iter().map(|pack| pack.bytes).sum();
    Stats {
        packs: index.packs().len() as u64,
        bytes_stored,
        blobs: blobs().count() as u64,
        bytes_plain,
        compression: ratio(bytes_plain, bytes_stored),
        ..Stats::default()
    }
}

fn ratio(whole: u64, part: u64) -> f64 {
    if part == 0 { 1.0 } else { whole as f64 / part as f64 }
}

#[derive(Clone, Copy, Debug, Default)]
struct Size {
    files: u64,
    bytes: u64,
}

/// Sizes of trees that were looked at before: most folders are the same in most snapshots.
#[derive(Default)]
struct Sizes {
    known: HashMap<BlobId, Size>,
    blobs: HashSet<BlobId>,
}

impl Sizes {
    fn of(&mut self, reader: &TreeReader<'_>, tree: &BlobId, cancel: &Cancel) -> Result<Size> {
        let mut levels = vec![Size::default()];
        walk(reader, tree, &SnapshotPath::root(), |path, step| {
            cancel.check()?;
            match step {
                WalkStep::Node(node) => {
                    let known = node.subtree().and_then(|tree| self.known.get(&tree)).copied();
                    if let Some(known) = known {
                        add(&mut levels, known);
                        return Ok(ControlFlow::Break(()));
                    }
                    if node.is_dir() {
                        levels.push(Size::default());
                    } else if matches!(node.kind, NodeKind::File { .. }) {
                        self.blobs.extend(node.content());
                        add(&mut levels, Size { files: 1, bytes: node.size() });
                    }
                }
                WalkStep::Leave(node) => self.leave(&mut levels, node),
                WalkStep::Unreadable(_, error) => {
                    return Err(Error::new(ErrorKind::Missing, format!("what is in {path}")).caused_by(error));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(levels.pop().unwrap_or_default())
    }

    fn leave(&mut self, levels: &mut Vec<Size>, node: &Node) {
        let size = levels.pop().unwrap_or_default();
        if let Some(tree) = node.subtree() {
            self.known.insert(tree, size);
        }
        add(levels, size);
    }
}

fn add(levels: &mut [Size], size: Size) {
    if let Some(level) = levels.last_mut() {
        level.files = level.files.saturating_add(size.files);
        level.bytes = level.bytes.saturating_add(size.bytes);
    }
}
