//! Chunks of one length, for data that changes in place: the pages of a database file, a disk image.
//!
//! Where nothing is ever inserted, positions are stable and content-defined cuts only blur them: a changed page then
//! costs one chunk of a known length. Restic reads such chunks like any others.

use std::num::NonZeroUsize;

/// Cuts every `bytes` bytes; the last chunk of a stream may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    bytes: NonZeroUsize,
}

impl Fixed {
    /// Chunks of `bytes` bytes, best a multiple of the page size of the data.
    #[must_use]
    pub const fn new(bytes: NonZeroUsize) -> Self {
        Self { bytes }
    }

    /// The length of every chunk but a stream's last.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.bytes.get()
    }
}
