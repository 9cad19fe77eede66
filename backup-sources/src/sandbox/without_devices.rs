//! A target that leaves out what only root can make: device files. A drill without rights of root would otherwise fail
//! for a want of its own, and not of the backup's.

use backup_core::contracts::{Left, Stored, Target, TargetError, TargetFile, WriteOrder};
use backup_core::model::{Node, NodeKind, SnapshotPath};
use backup_core::observe::Amount;

use crate::files::FilesTarget;

/// Makes everything but device files.
#[derive(Debug)]
pub(super) struct WithoutDevices(FilesTarget);

impl WithoutDevices {
    pub(super) fn new(inner: FilesTarget) -> Self {
        Self(inner)
    }
}

/// Whether only root can make it.
pub(super) fn is_device(node: &Node) -> bool {
    matches!(node.kind, NodeKind::BlockDevice { .. } | NodeKind::CharDevice { .. })
}

#[deny(clippy::missing_trait_methods)]
impl Target for WithoutDevices {
    fn location(&self) -> String {
        self.0.location()
    }

    fn order(&self) -> WriteOrder {
        self.0.order()
    }

    fn reads(&self, path: &SnapshotPath, node: &Node) -> bool {
        self.0.reads(path, node)
    }

    fn begin(&self, expected: Amount) -> Result<(), TargetError> {
        self.0.begin(expected)
    }

    fn enter(&self, path: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
        self.0.enter(path, node)
    }

    fn file(&self, path: &SnapshotPath, node: &Node) -> Result<Box<dyn TargetFile>, TargetError> {
        self.0.file(path, node)
    }

    fn hard_link(&self, path: &SnapshotPath, first: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
        if is_device(node) { Ok(()) } else { self.0.hard_link(path, first, node) }
    }

    fn special(&self, path: &SnapshotPath, node: &Node) -> Result<Vec<TargetError>, TargetError> {
        if is_device(node) { Ok(Vec::new()) } else { self.0.special(path, node) }
    }

    fn leave(&self, path: &SnapshotPath, node: &Node, names: Option<&[Vec<u8>]>) -> Result<Left, TargetError> {
        self.0.leave(path, node, names)
    }

    fn load(&self, stored: &dyn Stored) -> Result<(), TargetError> {
        self.0.load(stored)
    }

    fn finish(&self) -> Result<(), TargetError> {
        self.0.finish()
    }

    fn restored(&self) -> Option<Box<dyn Target>> {
        self.0.restored()
    }

    fn preview(&self) -> Option<Box<dyn Target>> {
        self.0.preview()
    }
}
