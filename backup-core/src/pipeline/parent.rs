//! The snapshot that a backup is compared with, read ahead of the walk through the source.
//!
//! Both walks go depth first in the order of names. A thread of its own reads the parent's folders in that order and is
//! a bounded number of them ahead; the walk takes those that the source still has and passes over the others.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crossbeam_channel::{Receiver, Sender};

use super::walk::TreeReader;
use crate::Result;
use crate::limits::TREE_DEPTH_MAX;
use crate::model::{BlobId, Node, NodeKind, Snapshot, SnapshotId, SnapshotPath};
use crate::observe::{Event, Observer};
use crate::repository::Repository;
use crate::{Error, ErrorKind};

/// A folder of the parent snapshot.
pub(super) struct ParentFolder {
    path: SnapshotPath,
    nodes: VecDeque<Node>,
}

/// Reads the folders of a snapshot, depth first in the order of names, until nobody wants them any more.
pub(super) fn read_ahead(
    reader: &TreeReader<'_>,
    tree: &BlobId,
    folders: &Sender<ParentFolder>,
    observer: &dyn Observer,
) {
    // Folders still to be read, the next one last.
    let mut waiting = vec![(SnapshotPath::root(), 0, *tree)];
    while let Some((path, depth, tree)) = waiting.pop() {
        let nodes = load(reader, &tree, observer);
        if depth < TREE_DEPTH_MAX {
            for node in nodes.iter().rev() {
                if let Some(tree) = node.subtree() {
                    waiting.push((path.join(&node.name), depth + 1, tree));
                }
            }
        }
        if folders.send(ParentFolder { path, nodes }).is_err() {
            return;
        }
    }
}

fn load(reader: &TreeReader<'_>, tree: &BlobId, observer: &dyn Observer) -> VecDeque<Node> {
    match reader.read(tree) {
        Ok(mut nodes) => {
            // Older programs wrote unsorted trees.
            if !nodes.is_sorted_by(|a, b| a.name < b.name) {
                nodes.sort_by(|a, b| a.name.cmp(&b.name));
            }
            nodes.into()
        }
        Err(error) => {
            // What cannot be compared with is read again: the backup mends what the repository lost.
            observer.event(Event::Notice(&format!("part of the parent snapshot is read again: {error}")));
            VecDeque::new()
        }
    }
}

/// The folders of the parent snapshot that correspond to those which the walk is in.
pub(super) struct ParentWalk {
    folders: Receiver<ParentFolder>,
    levels: Vec<VecDeque<Node>>,
}

impl ParentWalk {
    /// A walk beside what [`read_ahead`] sends; without a parent nothing is ever sent.
    pub(super) fn new(folders: Receiver<ParentFolder>) -> Self {
        let mut walk = Self { folders, levels: Vec::new() };
        let root = walk.take(&SnapshotPath::root());
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
    pub(super) fn enter(&mut self, path: &SnapshotPath, counterpart: Option<&Node>) {
        let level = match counterpart.and_then(Node::subtree) {
            Some(_) if self.levels.len() <= TREE_DEPTH_MAX => self.take(path),
            _ => VecDeque::new(),
        };
        self.levels.push(level);
    }

    /// Comes back out of it.
    pub(super) fn leave(&mut self) {
        self.levels.pop();
    }

    /// The next folder that is sent under this path; those before it are gone from the source.
    fn take(&self, path: &SnapshotPath) -> VecDeque<Node> {
        let mut wanted = VecDeque::new();
        let _ = self.folders.iter().try_for_each(|folder| {
            if folder.path == *path {
                wanted = folder.nodes;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        wanted
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
    let passed_over = |id: SnapshotId, error: Error| {
        // A damaged snapshot is no reason not to make a new one.
        if matches!(error.kind(), ErrorKind::Damaged(_)) {
            observer.event(Event::Notice(&format!("snapshot {id:.8} is passed over: {error}")));
            return Ok(());
        }
        Err(error)
    };
    let mut snapshots = repository.readable_snapshots(passed_over)?;
    snapshots.retain(|(_, snapshot)| match &wanted {
        Some(job_tag) => snapshot.tags.contains(job_tag),
        // As restic: a snapshot that covers all of the paths, and maybe more.
        None => snapshot.hostname == *hostname && paths.iter().all(|path| snapshot.paths.contains(path)),
    });
    Ok(snapshots.pop())
}
