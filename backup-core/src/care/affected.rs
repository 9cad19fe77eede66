//! Which snapshots and files need what was lost: a second walk, made only when something is.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;

use super::findings::Finding;
use crate::cancel::Cancel;
use crate::model::{BlobId, BlobKind, Node, Snapshot, SnapshotId, SnapshotPath};
use crate::pipeline::{TreeReader, WalkStep, walk};
use crate::repository::{Index, Repository};
use crate::{ErrorKind, Result};

/// What was lost, each with the number of the finding that says so.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// Blobs that cannot be had from anywhere, and trees that can be had and hold something that cannot be restored.
    pub(super) blobs: HashMap<(BlobKind, BlobId), usize>,
}

impl Lost {
    pub(super) fn add(&mut self, kind: BlobKind, id: BlobId, finding: usize) {
        self.blobs.entry((kind, id)).or_insert(finding);
    }

    fn by(&self, kind: BlobKind, id: &BlobId) -> Option<usize> {
        self.blobs.get(&(kind, *id)).copied()
    }

    /// The finding by which a file, or everything in a folder, cannot be restored.
    fn by_node(&self, node: &Node) -> Option<usize> {
        match node.subtree() {
            Some(tree) => self.by(BlobKind::Tree, &tree),
            None => node.content().iter().find_map(|blob| self.by(BlobKind::Data, blob)),
        }
    }
}

/// Adds to each finding what it affects. Returns the affected snapshots, each with the findings that affect it.
pub(super) fn attribute(
    repository: &Repository,
    index: &Index,
    snapshots: &[(SnapshotId, Snapshot)],
    lost: &Lost,
    findings: &mut [Finding],
    cancel: &Cancel,
) -> Result<HashMap<SnapshotId, BTreeSet<usize>>> {
    let reader = TreeReader::new(repository, index);
    let mut affected = HashMap::new();
    // Trees below which nothing is lost need no second look.
    let mut clean: HashSet<BlobId> = HashSet::new();
    for (id, snapshot) in snapshots {
        let mut hits = BTreeSet::new();
        let root = SnapshotPath::root();
        if let Some(finding) = lost.by(BlobKind::Tree, &snapshot.tree) {
            findings[finding].affected.add_path(*id, &root);
            hits.insert(finding);
        }
        if clean.contains(&snapshot.tree) {
            continue;
        }
        // For each folder that was entered, whether something below it is lost.
        let mut open = vec![!hits.is_empty()];
        let walked = walk(&reader, &snapshot.tree, &root, |path, step| {
            cancel.check()?;
            match step {
                WalkStep::Node(node) => {
                    if let Some(finding) = lost.by_node(node) {
                        findings[finding].affected.add_path(*id, path);
                        hits.insert(finding);
                        open.last_mut().into_iter().for_each(|below| *below = true);
                    }
                    if node.is_dir() {
                        if node.subtree().is_some_and(|tree| clean.contains(&tree)) {
                            return Ok(ControlFlow::Break(()));
                        }
                        open.push(node.subtree().is_some_and(|tree| lost.by(BlobKind::Tree, &tree).is_some()));
                    }
                }
                WalkStep::Leave(node) => {
                    let below = open.pop().unwrap_or(true);
                    if let Some(tree) = node.subtree().filter(|_| !below) {
                        clean.insert(tree);
                    }
                    open.last_mut().into_iter().for_each(|outer| *outer |= below);
                }
                WalkStep::Unreadable(..) => {
                    open.pop();
                    open.last_mut().into_iter().for_each(|outer| *outer = true);
                }
            }
            Ok(ControlFlow::Continue(()))
        });
        match walked {
            Err(error) if *error.kind() == ErrorKind::Cancelled => return Err(error),
            // The root cannot be read, which is what it was met for above.
            Err(_) => {}
            Ok(()) if open == [false] => {
                clean.insert(snapshot.tree);
            }
            Ok(()) => {}
        }
        for finding in &hits {
            findings[*finding].affected.add_snapshot(*id);
        }
        if !hits.is_empty() {
            affected.insert(*id, hits);
        }
    }
    Ok(affected)
}
