//! A file of a snapshot that a database has no use for: its manifest, which is for those who look before and after.

use std::io;

use backup_core::contracts::{TargetError, TargetFile};
use backup_core::model::Node;

/// Takes nothing: whoever writes is told to leave it as it is.
#[derive(Debug)]
pub(super) struct PassedOver;

impl TargetFile for PassedOver {
    fn existing_bytes(&self) -> u64 {
        0
    }

    fn looks_unchanged(&self) -> bool {
        false
    }

    fn is_kept(&self) -> bool {
        true
    }

    fn read_at(&self, _offset: u64, _buffer: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>, _node: &Node, _size: u64) -> Result<Vec<TargetError>, TargetError> {
        Ok(Vec::new())
    }
}
