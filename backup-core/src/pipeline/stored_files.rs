//! The files of a snapshot that a target reads by itself: known from the walk, read when the target asks.
//!
//! What is always true: every byte was opened and hashed before the target has it; nothing comes after a restore was asked
//! to stop. Whether all of a file was read, only the target knows.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::file_reader::FileReader;
use crate::Error;
use crate::cancel::Cancel;
use crate::contracts::{Pieces, Stored, TargetError};
use crate::model::{Node, SnapshotPath};
use crate::observe::{Amount, EntryOutcome, Event, Observer};
use crate::repository::{Index, Repository};

/// Files that were not written.
pub(super) struct StoredFiles<'a> {
    repository: &'a Repository,
    index: &'a Index,
    cancel: &'a Cancel,
    observer: &'a dyn Observer,
    files: HashMap<SnapshotPath, Node>,
    /// What of their bytes has not been told of as progress. Some may be read twice.
    left: AtomicU64,
    /// The first that did not come out of the store.
    lost: Mutex<Option<TargetError>>,
}

impl<'a> StoredFiles<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        index: &'a Index,
        cancel: &'a Cancel,
        observer: &'a dyn Observer,
        files: HashMap<SnapshotPath, Node>,
    ) -> Self {
        let left = AtomicU64::new(files.values().map(Node::size).fold(0, u64::saturating_add));
        Self { repository, index, cancel, observer, files, left, lost: Mutex::default() }
    }

    /// The first that did not come out of the store, if one did not.
    pub(super) fn lost(&self) -> Option<TargetError> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn lose(&self, path: &SnapshotPath, error: &Error) {
        let reason = match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.get_or_insert_with(|| TargetError::new("restore", path.clone(), reason));
    }

    /// The target has what it wanted; how many bytes that were.
    pub(super) fn settle(self) -> u64 {
        let left = self.left.load(Ordering::Relaxed);
        self.tell(u64::MAX);
        for (path, node) in &self.files {
            self.observer.event(Event::Progress(Amount { items: 1, bytes: 0 }));
            self.observer.event(Event::Entry { path, outcome: EntryOutcome::Restored, bytes: node.size() });
        }
        self.files.values().map(Node::size).fold(0, u64::saturating_add).saturating_sub(left)
    }

    fn tell(&self, bytes: u64) {
        let left =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(bytes)));
        let bytes = left.unwrap_or_default().min(bytes);
        self.observer.event(Event::Progress(Amount { items: 0, bytes }));
    }
}

impl Stored for StoredFiles<'_> {
    fn size(&self, path: &SnapshotPath) -> Option<u64> {
        self.files.get(path).map(Node::size)
    }

    fn open(&self, path: &SnapshotPath, from: u64) -> io::Result<Box<dyn Pieces + '_>> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "it is not in the snapshot");
        let node = self.files.get(path).ok_or_else(missing)?;
        let reader = FileReader::of_node(self.repository, self.index, path, node);
        let mut reader = reader.map_err(io::Error::other)?;
        reader.skip(from).inspect_err(|error| self.lose(path, error)).map_err(io::Error::other)?;
        Ok(Box::new(Opened { files: self, path: path.clone(), reader }))
    }

    fn go_on(&self) -> io::Result<()> {
        self.cancel.check().map_err(io::Error::other)
    }
}

/// A file that is read.
struct Opened<'a> {
    files: &'a StoredFiles<'a>,
    path: SnapshotPath,
    reader: FileReader<'a>,
}

impl Pieces for Opened<'_> {
    fn next(&mut self, piece: &mut Vec<u8>) -> io::Result<bool> {
        self.files.go_on()?;
        let there_is = self.reader.read_piece(piece).inspect_err(|error| self.files.lose(&self.path, error));
        let there_is = there_is.map_err(io::Error::other)?;
        self.files.tell(if there_is { piece.len() as u64 } else { 0 });
        Ok(there_is)
    }
}
