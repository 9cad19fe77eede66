//! Where a snapshot is restored to: a source's mirror.

use std::fmt::Debug;
use std::io;

use crate::model::{Node, SnapshotPath};
use crate::observe::Amount;

/// Something that a snapshot can be restored to.
///
/// The restore walks the snapshot depth first and calls [`Target::enter`] for a folder before anything in it and
/// [`Target::leave`] after everything in it. Files are opened with [`Target::file`], written from several threads, at
/// offsets in any order (unless [`Target::order`] forbids it), and finished. Paths are relative to what is restored;
/// the root itself is entered and left like any folder when it has metadata to be restored. A file that the target reads by
/// itself ([`Target::reads`]) is not written; it can be read in [`Target::load`].
///
/// A target never lets a path lead out of its bounds, whatever names the repository holds and whatever links somebody
/// plants while the restore runs. What has a name that could ([`Node::has_safe_name`]), or lies below one, is refused.
pub trait Target: Send + Sync + Debug {
    /// Where it is, for people, without secrets.
    fn location(&self) -> String;

    /// In which order it needs its bytes.
    fn order(&self) -> WriteOrder;

    /// Whether this file is not to be written here, because the target reads it when it needs it.
    fn reads(&self, path: &SnapshotPath, node: &Node) -> bool {
        let _ = (path, node);
        false
    }

    /// Called once before anything is written, with what will be: the place to refuse for want of space.
    fn begin(&self, expected: Amount) -> Result<(), TargetError>;

    /// A folder, before its entries.
    fn enter(&self, path: &SnapshotPath, node: &Node) -> Result<(), TargetError>;

    /// A file. It is made, or opened as it is when there is one.
    fn file(&self, path: &SnapshotPath, node: &Node) -> Result<Box<dyn TargetFile>, TargetError>;

    /// A second name for a file that was restored as `first` (both are the same inode in the snapshot).
    fn hard_link(&self, path: &SnapshotPath, first: &SnapshotPath, node: &Node) -> Result<(), TargetError>;

    /// A link, a device, a pipe: whatever is neither folder nor file. Problems with metadata are returned, the entry is
    /// in place.
    fn special(&self, path: &SnapshotPath, node: &Node) -> Result<Vec<TargetError>, TargetError>;

    /// A folder, after all its entries: its times and permissions are set now. `names` are the raw names of the
    /// entries that it had; with deletion asked for, a target removes all others. `None`: it only lies on the way to
    /// what was backed up, nobody looked at what else it had, and nothing is removed.
    fn leave(&self, path: &SnapshotPath, node: &Node, names: Option<&[Vec<u8>]>) -> Result<Left, TargetError>;

    /// Called when all that is to be written was, with the files that the target reads by itself.
    fn load(&self, stored: &dyn Stored) -> Result<(), TargetError> {
        let _ = stored;
        Ok(())
    }

    /// Called after everything: what is written is durable, or the target says why not.
    fn finish(&self) -> Result<(), TargetError>;

    /// The same place for a dry run: it looks at what is there and answers as if it did everything, and changes nothing.
    /// `None` when it cannot; a dry run then asks it nothing.
    fn preview(&self) -> Option<Box<dyn Target>> {
        None
    }

    /// The same place to be compared with the snapshot after the restore: its files are what is there now, opened for
    /// reading, whatever was to be kept, and nothing is made or changed. `None` when there is no such way; what was
    /// restored is then opened as for a restore.
    fn restored(&self) -> Option<Box<dyn Target>> {
        None
    }
}

/// Files of a snapshot as a target reads them that has them left where they are.
pub trait Stored: Sync {
    /// How many bytes a file has; `None` when it is none of these.
    fn size(&self, path: &SnapshotPath) -> Option<u64>;

    /// The bytes of a file from byte `from` on; none of a file that ends before. Every byte was opened and hashed before it
    /// comes.
    fn open(&self, path: &SnapshotPath, from: u64) -> io::Result<Box<dyn Pieces + '_>>;

    /// Whether the restore is to go on: an error when somebody has asked it to stop.
    fn go_on(&self) -> io::Result<()>;
}

/// Bytes in their order, in pieces of at most a few megabytes.
pub trait Pieces: Send {
    /// Puts the next piece in the place of what is in `piece`, whose memory is used again; whether there was one. After an
    /// error nothing is to be asked for.
    fn next(&mut self, piece: &mut Vec<u8>) -> io::Result<bool>;
}

/// What came of a folder's last word.
#[derive(Debug, Default)]
pub struct Left {
    /// What was removed because the snapshot does not have it.
    pub deleted: Vec<SnapshotPath>,
    /// What was to be removed and could not be.
    pub kept: Vec<TargetError>,
    /// Metadata that could not be set.
    pub problems: Vec<TargetError>,
}

/// A file being restored. Calls may come from several threads.
///
/// One that is dropped without having been finished does not have all its bytes: if it was made for this it is removed,
/// so that none is left with wrong bytes under its name; if it was there before it stays as it now is, without the
/// snapshot's times.
pub trait TargetFile: Send + Sync + Debug {
    /// The size in bytes of what was there before, 0 when nothing was.
    fn existing_bytes(&self) -> u64;

    /// Whether the existing file has the size and the modification time of the snapshot's: what a caller may accept as
    /// "the same" when it was told to.
    fn looks_unchanged(&self) -> bool;

    /// Whether what is there must stay as it is, because the target was told not to touch it. The caller then neither
    /// writes nor finishes the file.
    fn is_kept(&self) -> bool;

    /// Reads what is there now at `offset`, to compare; fills the buffer or fails.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes at `offset`. Long runs of zeros may become holes.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// All bytes are there: cuts the file to `size`, sets its metadata. Problems with metadata are returned, the data
    /// is in place.
    fn finish(self: Box<Self>, node: &Node, size: u64) -> Result<Vec<TargetError>, TargetError>;
}

/// In which order a target needs its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOrder {
    /// Any: several files at once, offsets in any order.
    Any,
    /// One file after the other in the snapshot's order, each from its beginning to its end.
    Sequential,
}

/// A target's failure, as a whole or on one entry.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}: {reason}")]
pub struct TargetError {
    /// What it happened to.
    pub path: SnapshotPath,
    /// What was being done: "create", "set owner of".
    pub action: &'static str,
    /// Why it failed.
    pub reason: String,
    /// Whether going on makes no sense (the disk is full, the connection is gone).
    pub is_fatal: bool,
    /// What to try, where something is known to help.
    pub hint: Option<String>,
}

impl TargetError {
    /// A failure to `action` the thing at `path`.
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over errors and texts alike")]
    pub fn new(action: &'static str, path: SnapshotPath, reason: impl ToString) -> Self {
        Self { path, action, reason: reason.to_string(), is_fatal: false, hint: None }
    }

    /// Adds what to try.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same for an error of the system; a full or read-only disk is fatal.
    pub fn of_io(action: &'static str, path: SnapshotPath, error: &io::Error) -> Self {
        let is_fatal = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::QuotaExceeded
        );
        Self { is_fatal, ..Self::new(action, path, error) }
    }
}
