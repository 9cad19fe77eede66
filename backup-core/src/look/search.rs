//! Where a file is, over many snapshots: folders that were found barren in one are not entered in the next.

use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;

use crate::cancel::Cancel;
use crate::model::{BlobId, Node, Snapshot, SnapshotPath};
use crate::pipeline::{TreeReader, WalkStep, walk};
use crate::{Error, Result};

/// A search that goes from snapshot to snapshot.
pub struct Search<'a> {
    matches: Box<dyn Fn(&SnapshotPath) -> bool + 'a>,
    by_name: bool,
    /// Trees in which no name matches.
    barren: HashSet<BlobId>,
}

impl<'a> Search<'a> {
    /// A search for entries whose names (the last component) match, wherever they lie.
    pub fn by_name(matches: impl Fn(&[u8]) -> bool + 'a) -> Self {
        let matches = Box::new(move |path: &SnapshotPath| matches(path.name()));
        Self { matches, by_name: true, barren: HashSet::new() }
    }

    /// A search for entries whose whole paths match. The same folder is looked into wherever it lies, so it takes
    /// longer than a search by name.
    pub fn by_path(matches: impl Fn(&SnapshotPath) -> bool + 'a) -> Self {
        Self { matches: Box::new(matches), by_name: false, barren: HashSet::new() }
    }

    /// Hands over what matches in `snapshot`, in the order of the walk, and folders that could not be read.
    pub fn run(
        &mut self,
        reader: &TreeReader<'_>,
        snapshot: &Snapshot,
        cancel: &Cancel,
        mut found: impl FnMut(&SnapshotPath, &Node),
        mut unreadable: impl FnMut(&SnapshotPath, &Error),
    ) -> Result<()> {
        let Self { matches, by_name, barren } = self;
        let (mut hits, mut entered) = (0_u64, Vec::new());
        walk(reader, &snapshot.tree, &SnapshotPath::root(), |path, step| {
            cancel.check()?;
            match step {
                WalkStep::Node(node) => {
                    if matches(path) {
                        hits += 1;
                        found(path, node);
                    }
                    if node.subtree().is_some_and(|tree| barren.contains(&tree)) {
                        return Ok(ControlFlow::Break(()));
                    }
                    if node.is_dir() {
                        entered.push(hits);
                    }
                }
                WalkStep::Leave(node) => {
                    // Where a tree lies matters to a search by path, so that only one by name may remember it.
                    if let (Some(before), Some(tree)) = (entered.pop(), node.subtree())
                        && *by_name
                        && before == hits
                    {
                        barren.insert(tree);
                    }
                }
                WalkStep::Unreadable(_, error) => {
                    entered.pop();
                    // What is below an unreadable folder is unknown: none of its ancestors is barren.
                    hits += 1;
                    unreadable(path, &error);
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    }
}

impl fmt::Debug for Search<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("by_name", &self.by_name).field("barren", &self.barren.len()).finish()
    }
}
