//! What changed between two snapshots, entry by entry. Folders of the same name are the same: they are not read.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::cancel::Cancel;
use crate::model::{BlobId, Metadata, Node, SnapshotPath};
use crate::pipeline::{TreeReader, find_node};
use crate::{Error, Result};

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Change {
    /// It is there only in the newer snapshot.
    Added,
    /// It is there only in the older one.
    Removed,
    /// Its content, its kind, or where it points.
    Content,
    /// Permissions, owner, modification time or attributes alone.
    Metadata,
}

impl Change {
    /// How two entries of one name differ, if they do. Folders differ only in their metadata: what is in them is
    /// compared on its own. Access and status times, inodes and devices change without anybody having touched the
    /// entry, and do not count.
    pub fn between(old: &Node, new: &Node) -> Option<Self> {
        let metadata = |node: &Node| Metadata {
            atime: None,
            ctime: Timestamp::UNIX_EPOCH,
            inode: 0,
            device_id: 0,
            ..node.metadata.clone()
        };
        if old.kind != new.kind && !(old.is_dir() && new.is_dir()) {
            return Some(Self::Content);
        }
        (metadata(old) != metadata(new)).then_some(Self::Metadata)
    }
}

/// One entry that differs.
#[derive(Debug)]
pub struct Difference<'a> {
    /// What became of it.
    pub change: Change,
    /// Where it is.
    pub path: &'a SnapshotPath,
    /// The entry of the older snapshot.
    pub old: Option<&'a Node>,
    /// The entry of the newer one.
    pub new: Option<&'a Node>,
}

/// Tells `each` what differs between two folders that lie at `path`, and below them, in the order of paths.
///
/// # Errors
///
/// A tree that cannot be read ends it: a list with a hole in it would be wrong without saying so.
pub fn diff<E: From<Error>>(
    reader: &TreeReader<'_>,
    path: &SnapshotPath,
    old: &BlobId,
    new: &BlobId,
    cancel: &Cancel,
    mut each: impl FnMut(Difference<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut waiting = vec![Pending { path: path.clone(), tell: None, old: Some(*old), new: Some(*new) }];
    while let Some(Pending { path, tell, old, new }) = waiting.pop() {
        cancel.check()?;
        if let Some((change, old, new)) = tell {
            each(Difference { change, path: &path, old: old.as_ref(), new: new.as_ref() })?;
        }
        if old == new {
            continue;
        }
        let nodes = |tree: Option<BlobId>| -> Result<BTreeMap<Vec<u8>, Node>> {
            let nodes = tree.map(|tree| reader.read(&tree)).transpose()?.unwrap_or_default();
            Ok(nodes.into_iter().map(|node| (node.name.clone(), node)).collect())
        };
        let (mut before, mut after) = (nodes(old)?, nodes(new)?);
        let names: std::collections::BTreeSet<Vec<u8>> = before.keys().chain(after.keys()).cloned().collect();
        for name in names.into_iter().rev() {
            let (old, new) = (before.remove(&name), after.remove(&name));
            let change = match (&old, &new) {
                (Some(old), Some(new)) => Change::between(old, new),
                (None, _) => Some(Change::Added),
                (_, None) => Some(Change::Removed),
            };
            let path = path.join(&name);
            let (old_tree, new_tree) = (old.as_ref().and_then(Node::subtree), new.as_ref().and_then(Node::subtree));
            let tell = change.map(|change| (change, old, new));
            if tell.is_some() || old_tree != new_tree {
                waiting.push(Pending { path, tell, old: old_tree, new: new_tree });
            }
        }
    }
    Ok(())
}

/// An entry that waits for its turn, and the folders below it that have to be compared.
struct Pending {
    path: SnapshotPath,
    tell: Option<(Change, Option<Node>, Option<Node>)>,
    old: Option<BlobId>,
    new: Option<BlobId>,
}

/// The tree of the folder at `path` below `root`.
///
/// # Errors
///
/// [`crate::ErrorKind::NotFound`] when there is nothing, [`crate::ErrorKind::Invalid`] when it is not a folder.
pub fn folder_at(reader: &TreeReader<'_>, root: &BlobId, path: &SnapshotPath) -> Result<BlobId> {
    match find_node(reader, root, path)? {
        None => Ok(*root),
        Some(node) => node
            .subtree()
            .ok_or_else(|| Error::invalid(path.to_string(), "not a folder").with_hint("give the folder that it is in")),
    }
}
