//! A target that nothing is written to: for a restore that only counts.

use crate::contracts::{Left, Target, TargetError, TargetFile, WriteOrder};
use crate::model::{Node, SnapshotPath};
use crate::observe::Amount;

/// Refuses everything.
#[derive(Debug)]
pub(super) struct Nowhere;

impl Nowhere {
    fn refuse(path: &SnapshotPath) -> TargetError {
        TargetError { is_fatal: true, ..TargetError::new("restore", path.clone(), "there is nowhere to restore to") }
    }
}

impl Target for Nowhere {
    fn location(&self) -> String {
        "nowhere".to_owned()
    }

    fn order(&self) -> WriteOrder {
        WriteOrder::Any
    }

    fn begin(&self, _expected: Amount) -> Result<(), TargetError> {
        Err(Self::refuse(&SnapshotPath::root()))
    }

    fn enter(&self, path: &SnapshotPath, _node: &Node) -> Result<(), TargetError> {
        Err(Self::refuse(path))
    }

    fn file(&self, path: &SnapshotPath, _node: &Node) -> Result<Box<dyn TargetFile>, TargetError> {
        Err(Self::refuse(path))
    }

    fn hard_link(&self, path: &SnapshotPath, _first: &SnapshotPath, _node: &Node) -> Result<(), TargetError> {
        Err(Self::refuse(path))
    }

    fn special(&self, path: &SnapshotPath, _node: &Node) -> Result<Vec<TargetError>, TargetError> {
        Err(Self::refuse(path))
    }

    fn leave(&self, path: &SnapshotPath, _node: &Node, _names: &[Vec<u8>]) -> Result<Left, TargetError> {
        Err(Self::refuse(path))
    }

    fn finish(&self) -> Result<(), TargetError> {
        Err(Self::refuse(&SnapshotPath::root()))
    }
}
