//! What is backed up: entries in order, their content as streams, and a report at the end.

use std::fmt::Debug;
use std::io;

use super::report::Report;
use crate::chunk::Chunking;
use crate::model::{Node, SnapshotPath};
use crate::observe::Problem;

/// Something that can be backed up.
///
/// The pipeline calls [`Source::next`] from one thread and gets the entries of the snapshot depth first: a folder is
/// entered, its entries come in strictly increasing order of their raw names, it is left. Contents are opened and read
/// by other threads, several at once and in any order; a source that can only stream opens its own connection in
/// [`Content::open`] and is read by one of them.
///
/// A source that cannot deliver all of what it promised returns an error: no snapshot is then made. A single file that
/// cannot be read is a [`SourceEvent::Problem`], or a [`SourceError`] of its content, and costs only itself.
pub trait Source: Send + Debug {
    /// What the snapshot will say of it.
    fn info(&self) -> SourceInfo;

    /// zstd's level for what it gives, where nobody says another; `None` for the usual one, which is right for files. Most
    /// dumps do as well with a lower one, in half the time (`docs/decisions/compression.md`).
    fn level(&self) -> Option<i32> {
        None
    }

    /// The next event, or `None` at the end. After an error or `None` it is not called again.
    fn next(&mut self) -> Result<Option<SourceEvent>, SourceError>;

    /// Called after `next` returned `None` and every content was read to its end: the last word before the snapshot is
    /// written. An error prevents the snapshot.
    fn finish(&mut self) -> Result<Report, SourceError>;
}

/// What a snapshot says of its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceInfo {
    /// The absolute paths that the snapshot covers; parents are found and retention groups by them.
    pub paths: Vec<String>,
    /// The patterns that are left out, for the record.
    pub excludes: Vec<String>,
}

/// A step of the walk.
#[derive(Debug)]
pub enum SourceEvent {
    /// A folder; what follows lies in it until its [`SourceEvent::Leave`]. The node's subtree is `None`.
    Enter(Node),
    /// The end of the folder entered last.
    Leave,
    /// Anything but a folder.
    Entry(Entry),
    /// Something could not be read; the walk goes on without it.
    Problem(Problem),
}

/// Anything but a folder.
#[derive(Debug)]
pub struct Entry {
    /// Its metadata; a file's content is empty, its size the one expected.
    pub node: Node,
    /// Where a file's bytes come from. `None` for what is not a file.
    pub content: Option<Box<dyn Content>>,
}

impl Entry {
    /// An entry without content: a link, a device, a pipe.
    pub fn without_content(node: Node) -> Self {
        Self { node, content: None }
    }
}

/// The bytes of one file, not opened yet.
pub trait Content: Send + Debug {
    /// Opens it. `node` may be brought up to date with what was opened.
    fn open(self: Box<Self>, node: &mut Node) -> Result<Box<dyn ContentReader>, SourceError>;

    /// How the bytes should be cut; `None` for the repository's own chunking, which is right for files.
    fn chunking(&self) -> Option<Chunking> {
        None
    }

    /// Whether an equal entry (size, times, inode) in the parent snapshot proves that the bytes are the same.
    /// `false` for streams, whose metadata says nothing of their content.
    fn is_proven_by_metadata(&self) -> bool {
        true
    }

    /// Whether it can only be written when every other content of the snapshot was read to its end: a manifest that
    /// counts what passed. It is then opened after all others, and its place in its folder is kept for it. Contents
    /// that say so are opened one after the other, in the order of the walk.
    fn comes_last(&self) -> bool {
        false
    }
}

/// The bytes of one file, opened.
pub trait ContentReader: Send + Debug {
    /// Reads on; 0 at the end. An error that a retry cannot mend costs this file.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Called after the end was read: the last word on this file. A file that changed while it was read says so in
    /// the `Ok` and is kept as it was read; an error takes the file out of the snapshot.
    fn finish(self: Box<Self>, node: &mut Node) -> Result<Option<String>, SourceError>;
}

/// A source's failure, as a whole or on one file.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}: {reason}")]
pub struct SourceError {
    /// What it happened to.
    pub path: SnapshotPath,
    /// What was being done: "open", "read", "connect to".
    pub action: &'static str,
    /// Why it failed.
    pub reason: String,
    /// Whether the entry is simply no longer there: files come and go while a backup runs.
    pub vanished: bool,
    /// What to try, where something is known to help.
    pub hint: Option<String>,
}

impl SourceError {
    /// A failure to `action` the thing at `path`.
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over errors and texts alike")]
    pub fn new(action: &'static str, path: SnapshotPath, reason: impl ToString) -> Self {
        Self { path, action, reason: reason.to_string(), vanished: false, hint: None }
    }

    /// Adds what to try.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same for an error of the system; one that says "not found" means that the entry vanished.
    pub fn of_io(action: &'static str, path: SnapshotPath, error: &io::Error) -> Self {
        Self { vanished: error.kind() == io::ErrorKind::NotFound, ..Self::new(action, path, error) }
    }
}
