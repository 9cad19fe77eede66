//! A snapshot's trees, depth first, without recursion: a repository may nest them as deep as it likes.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::contracts::TargetFile;
use crate::limits::TREE_DEPTH_MAX;
use crate::model::{BlobId, BlobKind, Node, SnapshotPath, decode_tree};
use crate::repository::{Index, Repository};
use crate::{Error, ErrorKind, Result};

/// Reads trees by their names.
#[derive(Clone, Copy, Debug)]
pub struct TreeReader<'a> {
    repository: &'a Repository,
    index: &'a Index,
}

impl<'a> TreeReader<'a> {
    /// A reader of this repository's trees.
    pub fn new(repository: &'a Repository, index: &'a Index) -> Self {
        Self { repository, index }
    }

    /// The nodes of one tree in their order.
    pub fn read(&self, id: &BlobId) -> Result<Vec<Node>> {
        let plain = self.repository.read_blob(self.index, BlobKind::Tree, id)?;
        let mut nodes = Vec::new();
        decode_tree(&plain, |node| {
            nodes.push(node);
            Ok(())
        })
        .map_err(|error| Error::damaged(format!("tree {id}"), error.to_string()))?;
        Ok(nodes)
    }

    /// Reads a file that was restored and compares it with the pieces that it must be made of.
    pub(super) fn compare(
        &self,
        content: &[BlobId],
        file: &dyn TargetFile,
        buffer: &mut Vec<u8>,
    ) -> Result<(), String> {
        let mut offset = 0;
        for id in content {
            let location = self.index.find(BlobKind::Data, id).ok_or_else(|| format!("data blob {id} is missing"))?;
            let bytes = location.blob.opened_bytes();
            buffer.resize(usize::try_from(bytes).unwrap_or(usize::MAX), 0);
            file.read_at(offset, buffer).map_err(|error| error.to_string())?;
            if BlobId::of(buffer) != *id {
                return Err(format!("what is there at byte {offset} is not what was backed up"));
            }
            offset += bytes;
        }
        if file.existing_bytes() == offset { Ok(()) } else { Err("its size is not what was backed up".to_owned()) }
    }
}

/// A step of a walk through a snapshot.
#[derive(Debug)]
pub enum WalkStep<'a> {
    /// An entry; for a folder, before its entries. `ControlFlow::Break` on a folder leaves out what is in it.
    Node(&'a Node),
    /// The end of a folder that was entered.
    Leave(&'a Node),
    /// A folder whose tree cannot be read; nothing in it is walked.
    Unreadable(&'a Node, Error),
}

/// Walks what lies below `tree`, depth first, in the order of names. `path` is where `tree` itself lies; `each` gets
/// every step with its path.
///
/// Trees deeper than [`TREE_DEPTH_MAX`] are reported as unreadable and not entered, which also ends a walk in a
/// repository whose trees were made to contain each other (hashes forbid it, a faulty store might not).
pub fn walk(
    reader: TreeReader<'_>,
    tree: &BlobId,
    path: &SnapshotPath,
    mut each: impl FnMut(&SnapshotPath, WalkStep<'_>) -> Result<ControlFlow<()>>,
) -> Result<()> {
    struct Level {
        folder: Option<Node>,
        rest: VecDeque<Node>,
    }
    let mut path = path.clone();
    let mut levels = vec![Level { folder: None, rest: reader.read(tree)?.into() }];
    while let Some(level) = levels.last_mut() {
        let Some(node) = level.rest.pop_front() else {
            if let Some(folder) = levels.pop().and_then(|level| level.folder) {
                let _ = each(&path, WalkStep::Leave(&folder))?;
                path.pop();
            }
            continue;
        };
        path.push(&node.name);
        let flow = each(&path, WalkStep::Node(&node))?;
        if flow.is_continue() && node.is_dir() {
            let entered = match node.subtree() {
                _ if levels.len() > TREE_DEPTH_MAX => {
                    Err(Error::new(ErrorKind::Limit("the depth of folders"), path.to_string()))
                }
                None => Err(Error::damaged(format!("folder {path}"), "it has no tree")),
                Some(tree) => reader.read(&tree),
            };
            match entered {
                Ok(nodes) => {
                    levels.push(Level { folder: Some(node), rest: nodes.into() });
                    continue;
                }
                Err(error) => {
                    let _ = each(&path, WalkStep::Unreadable(&node, error))?;
                }
            }
        }
        path.pop();
    }
    Ok(())
}

/// The node at `path` below `tree`; `None` for the root itself, which has no node.
pub fn find_node(reader: TreeReader<'_>, tree: &BlobId, path: &SnapshotPath) -> Result<Option<Node>> {
    let not_found = || {
        Error::new(ErrorKind::NotFound("not in this snapshot".to_owned()), path.to_string())
            .with_hint("`ls` shows what is in it")
    };
    let mut found: Option<Node> = None;
    for name in path.components() {
        let tree = match &found {
            None => *tree,
            Some(node) => node.subtree().ok_or_else(not_found)?,
        };
        let node = reader.read(&tree)?.into_iter().find(|node| node.name == name);
        found = Some(node.ok_or_else(not_found)?);
    }
    Ok(found)
}
