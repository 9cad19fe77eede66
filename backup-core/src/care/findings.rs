//! What a check found: plain data, for people and programs.

use std::fmt;

use crate::contracts::ObjectKey;
use crate::limits::FINDING_NAMES_MAX;
use crate::model::{SnapshotId, SnapshotPath};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; everything can be restored.
    Note,
    /// Something is not what it must be. What cannot be restored because of it stands in [`Finding::affected`].
    Damage,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The object it was found in; the folder, where what is wrong is that an object is not there.
    pub object: ObjectKey,
    /// What is wrong, as a text that follows the object's name.
    pub what: String,
    /// Which snapshots and files cannot be restored because of it.
    pub affected: Affected,
}

/// The snapshots and files that need something that cannot be had. Only some are named, all are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// Some of the snapshots.
    pub snapshots: Vec<SnapshotId>,
    /// How many snapshots there are.
    pub snapshot_count: u64,
    /// Some of the files and folders.
    pub paths: Vec<AffectedPath>,
    /// How many files and folders there are, one in two snapshots counted twice.
    pub path_count: u64,
}

/// A file or folder of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AffectedPath {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The path in it.
    pub path: SnapshotPath,
}

impl Finding {
    pub(super) fn new(severity: Severity, object: ObjectKey, what: impl Into<String>) -> Self {
        Self { severity, object, what: what.into(), affected: Affected::default() }
    }
}

impl Affected {
    /// Whether nothing is affected.
    pub fn is_empty(&self) -> bool {
        self.snapshot_count == 0
    }

    pub(super) fn add_snapshot(&mut self, snapshot: SnapshotId) {
        self.snapshot_count += 1;
        if self.snapshots.len() < FINDING_NAMES_MAX {
            self.snapshots.push(snapshot);
        }
    }

    pub(super) fn add_path(&mut self, snapshot: SnapshotId, path: &SnapshotPath) {
        self.path_count += 1;
        if self.paths.len() < FINDING_NAMES_MAX {
            self.paths.push(AffectedPath { snapshot, path: path.clone() });
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, what, affected, .. } = self;
        write!(f, "{object}: {what}")?;
        if !affected.is_empty() {
            let Affected { snapshot_count, path_count, .. } = affected;
            write!(f, "; needed by {snapshot_count} snapshots, {path_count} paths in them cannot be restored")?;
        }
        Ok(())
    }
}
