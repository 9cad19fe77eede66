//! Reads what was restored again, and compares it with the hashes of its pieces.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::ControlFlow;

use super::restore::{Selection, target_failed, tell};
use super::walk::{TreeReader, WalkStep};
use crate::Result;
use crate::cancel::Cancel;
use crate::contracts::{Target, TargetError};
use crate::model::{NodeKind, SnapshotPath};
use crate::observe::{Amount, Event, Observer, Phase, Severity};

/// Entries that are not as the snapshot has them, and are known not to be. Hashes of their paths: there may be as many
/// as there are files.
#[derive(Debug, Default)]
pub(super) struct Unrestored {
    hasher: RandomState,
    lost: HashSet<u64>,
    kept: HashSet<u64>,
}

impl Unrestored {
    /// It could not be restored, and that was told.
    pub(super) fn lose(&mut self, path: &SnapshotPath) {
        self.lost.insert(self.hasher.hash_one(path.as_bytes()));
    }

    /// Something else was there, and was to stay.
    pub(super) fn keep(&mut self, path: &SnapshotPath) {
        self.kept.insert(self.hasher.hash_one(path.as_bytes()));
    }

    pub(super) fn is_lost(&self, path: &SnapshotPath) -> bool {
        self.lost.contains(&self.hasher.hash_one(path.as_bytes()))
    }

    fn has(&self, path: &SnapshotPath) -> bool {
        let hash = self.hasher.hash_one(path.as_bytes());
        self.lost.contains(&hash) || self.kept.contains(&hash)
    }
}

/// How many files are right; the others are told, and counted in `losses`. What is `unrestored` was told before.
#[expect(clippy::too_many_arguments, reason = "the parts of a restore that its verification needs, once")]
pub(super) fn verify(
    reader: &TreeReader<'_>,
    selection: &Selection,
    target: &dyn Target,
    unrestored: &Unrestored,
    expected: Amount,
    cancel: &Cancel,
    observer: &dyn Observer,
    losses: &mut u64,
) -> Result<u64> {
    observer.event(Event::Phase { phase: Phase::Verify, total: Some(expected) });
    let as_it_is = target.restored();
    if let Some(as_it_is) = &as_it_is {
        as_it_is.begin(Amount::default()).map_err(|error| target_failed(&error))?;
    }
    let target = as_it_is.as_deref().unwrap_or(target);
    let mut right = 0;
    let mut buffer = Vec::new();
    selection.each(reader, |path, step| {
        cancel.check()?;
        let WalkStep::Node(node) = step else { return Ok(ControlFlow::Continue(())) };
        if !path.is_root() && !node.has_safe_name() {
            // It was not restored, nor was what lies in it.
            return Ok(ControlFlow::Break(()));
        }
        if unrestored.has(path) {
            let is_folder = matches!(node.kind, NodeKind::Dir { .. });
            observer.event(Event::Progress(Amount { items: 1, bytes: node.size() }));
            return Ok(if is_folder { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
        }
        if let NodeKind::File { content, .. } = &node.kind {
            let wrong = match target.file(path, node) {
                Ok(file) => {
                    let compared = reader.compare(content, &*file, &mut buffer);
                    compared.err().map(|reason| TargetError::new("verify", path.clone(), reason))
                }
                Err(error) => Some(error),
            };
            match wrong {
                None => right += 1,
                Some(error) => {
                    *losses += 1;
                    tell(error, Severity::Loss, observer)?;
                }
            }
            observer.event(Event::Progress(Amount { items: 1, bytes: node.size() }));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(right)
}
