//! The snapshot that a backup is compared with, walked beside the source.

use std::collections::VecDeque;

use super::walk::TreeReader;
use crate::model::{BlobId, Node, NodeKind, Snapshot, SnapshotId};
use crate::observe::{Event, Observer};
use crate::repository::Repository;
use crate::{ErrorKind, Result};

/// The folders of the parent snapshot that correspond to those which the walk is in.
pub(super) struct ParentWalk<'a> {
    reader: TreeReader<'a>,
    observer: &'a dyn Observer,
    levels: Vec<VecDeque<Node>>,
}

impl<'a> ParentWalk<'a> {
    /// Begins at the root of a snapshot, or with nothing to compare with.
    pub(super) fn new(reader: TreeReader<'a>, tree: Option<&BlobId>, observer: &'a dyn Observer) -> Self {
        let mut walk = Self { reader, observer, levels: Vec::new() };
        let root = walk.load(tree);
        walk.levels.push(root);
        walk
    }

    /// The entry of the present folder that has this name. Names must be asked for in increasing order.
    pub(super) fn find(&mut self, name: &[u8]) -> Option<Node> {
        let level = self.levels.last_mut()?;
        while level.front().is_some_and(|node| node.name.as_slice() < name) {
            level.pop_front();
        }
        if level.front()?.name == name { level.pop_front() } else { None }
    }

    /// Goes into a folder, which may have had no counterpart.
    pub(super) fn enter(&mut self, counterpart: Option<&Node>) {
        let tree = counterpart.and_then(Node::subtree);
        let level = self.load(tree.as_ref());
        self.levels.push(level);
    }

    /// Comes back out of it.
    pub(super) fn leave(&mut self) {
        self.levels.pop();
    }

    fn load(&self, tree: Option<&BlobId>) -> VecDeque<Node> {
        let Some(tree) = tree else { return VecDeque::new() };
        match self.reader.read(tree) {
            Ok(mut nodes) => {
                // Older programs wrote unsorted trees.
                if !nodes.is_sorted_by(|a, b| a.name < b.name) {
                    nodes.sort_by(|a, b| a.name.cmp(&b.name));
                }
                nodes.into()
            }
            Err(error) => {
                // What cannot be compared with is read again: the backup mends what the repository lost.
                self.observer.event(Event::Notice(&format!("part of the parent snapshot is read again: {error}")));
                VecDeque::new()
            }
        }
    }
}

/// Which differences do not count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ignored {
    pub(super) ctime: bool,
    pub(super) inode: bool,
}

/// Whether a file is, by all that its metadata tells, the one in the parent snapshot.
pub(super) fn is_unchanged(before: &Node, now: &Node, ignored: Ignored) -> bool {
    matches!((&before.kind, &now.kind), (NodeKind::File { size: was, .. }, NodeKind::File { size: is, .. }) if was == is)
        && before.metadata.error.is_empty()
        && before.metadata.mtime == now.metadata.mtime
        && (ignored.ctime || before.metadata.ctime == now.metadata.ctime)
        && (ignored.inode || before.metadata.inode == now.metadata.inode)
}

/// The newest snapshot of the same group: the same job when `tags` name one, else the same host and paths.
pub(super) fn newest_parent(
    repository: &Repository,
    tags: &[String],
    paths: &[String],
    observer: &dyn Observer,
) -> Result<Option<(SnapshotId, Snapshot)>> {
    let job = |tags: &[String]| tags.iter().find(|tag| tag.starts_with("job:")).cloned();
    let wanted = job(tags);
    let hostname = &repository.identity().hostname;
    let mut snapshots = repository.readable_snapshots(|id, error| {
        // A damaged snapshot is no reason not to make a new one.
        if matches!(error.kind(), ErrorKind::Damaged(_)) {
            observer.event(Event::Notice(&format!("snapshot {id:.8} is passed over: {error}")));
            return Ok(());
        }
        Err(error)
    })?;
    snapshots.retain(|(_, snapshot)| match &wanted {
        Some(job_tag) => snapshot.tags.contains(job_tag),
        // As restic: a snapshot that covers all of the paths, and maybe more.
        None => snapshot.hostname == *hostname && paths.iter().all(|path| snapshot.paths.contains(path)),
    });
    Ok(snapshots.pop())
}
