//! The entries of what was restored, as the repository has them, one after the other: read again, not remembered.

use std::ops::ControlFlow;

use crossbeam_channel::{Receiver, bounded};

use crate::cancel::Cancel;
use crate::contracts::{ExpectedEntry, SandboxError};
use crate::limits::DRILL_ENTRIES_AHEAD_MAX;
use crate::model::{BlobKind, Node, Snapshot, SnapshotPath};
use crate::pipeline::{TreeReader, WalkStep, find_node, walk};
use crate::repository::{Index, Repository};
use crate::{Error, ErrorKind, Result};

/// What an entry comes as.
type Item = std::result::Result<ExpectedEntry, SandboxError>;

/// Hands the entries below `part` of a snapshot to `work`, with paths as a restore of `part` has them. They are read on a
/// thread of their own, a little ahead.
pub(super) fn with_entries<T>(
    repository: &Repository,
    index: &Index,
    snapshot: &Snapshot,
    part: Option<&SnapshotPath>,
    cancel: &Cancel,
    work: impl FnOnce(&mut dyn Iterator<Item = Item>) -> T,
) -> T {
    let (sender, receiver) = bounded(DRILL_ENTRIES_AHEAD_MAX);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Nobody listens any more when the comparison has ended early.
            let send = |item: Item| if sender.send(item).is_ok() { Ok(()) } else { Err(over()) };
            if let Err(error) = read(repository, index, snapshot, part, cancel, &send) {
                let is_ours = matches!(super::Verdict::of_error(&error), super::Verdict::NotRun { .. });
                let error = SandboxError::new("read the snapshot again", &error);
                let _ = send(Err(if is_ours { error.ours() } else { error }));
            }
        });
        let mut entries = Received(receiver);
        work(&mut entries)
        // `entries` goes here, so that the thread ends if it was not read to the end.
    })
}

struct Received(Receiver<Item>);

impl Iterator for Received {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.0.recv().ok()
    }
}

fn over() -> Error {
    Error::new(ErrorKind::Cancelled, "entries")
}

fn read(
    repository: &Repository,
    index: &Index,
    snapshot: &Snapshot,
    part: Option<&SnapshotPath>,
    cancel: &Cancel,
    send: &dyn Fn(Item) -> Result<()>,
) -> Result<()> {
    let reader = TreeReader::new(repository, index);
    let node = match part {
        Some(path) => find_node(&reader, &snapshot.tree, path)?,
        None => None,
    };
    let root = SnapshotPath::root();
    let (start, tree) = match &node {
        Some(node) if !node.is_dir() => return send(Ok(entry(index, &root.join(&node.name), node)?)),
        Some(node) => (Some(node), node.subtree()),
        None => (None, Some(snapshot.tree)),
    };
    if let Some(node) = start {
        send(Ok(entry(index, &root, node)?))?;
    }
    let tree = tree.ok_or_else(|| Error::damaged("folder", "it has no tree"))?;
    walk(&reader, &tree, &root, |path, step| {
        cancel.check()?;
        match step {
            WalkStep::Node(node) => send(Ok(entry(index, path, node)?))?,
            WalkStep::Leave(_) => {}
            WalkStep::Unreadable(_, error) => return Err(error),
        }
        Ok(ControlFlow::Continue(()))
    })
}

fn entry(index: &Index, path: &SnapshotPath, node: &Node) -> Result<ExpectedEntry> {
    let mut pieces = Vec::with_capacity(node.content().len());
    for blob in node.content() {
        let place = index.find(BlobKind::Data, blob);
        let place = place.ok_or_else(|| Error::new(ErrorKind::Missing, format!("data blob {blob}")))?;
        let bytes = u32::try_from(place.blob.opened_bytes());
        pieces.push((blob.id(), bytes.map_err(|_| Error::damaged(path, "a piece is larger than 4 GiB"))?));
    }
    Ok(ExpectedEntry { path: path.clone(), node: node.clone(), pieces })
}
