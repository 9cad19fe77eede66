//! A stream of bytes that are there already.

use std::io::{self, Cursor, Read as _};

use backup_core::contracts::SourceError;

use super::folder::Stream;

/// Bytes that are there already.
pub(super) struct Ready(Cursor<Vec<u8>>);

impl Ready {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self(Cursor::new(bytes))
    }
}

impl Stream for Ready {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        Ok(())
    }
}
