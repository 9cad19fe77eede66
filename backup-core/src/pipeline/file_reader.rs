//! One file of a snapshot as a stream of bytes, for those who need neither a target nor the whole snapshot: a manifest
//! that is looked at before the restore, a dump that goes into a program.

use std::io;

use super::walk::{TreeReader, find_node};
use crate::model::{BlobId, BlobKind, Node, NodeKind, Snapshot, SnapshotPath};
use crate::repository::{Index, Repository};
use crate::{Error, Result};

/// The bytes of a file in a snapshot, in their order. Each piece is opened and hashed before a byte of it comes out;
/// one piece is held in memory.
#[derive(Debug)]
pub struct FileReader<'a> {
    repository: &'a Repository,
    index: &'a Index,
    rest: std::vec::IntoIter<BlobId>,
    piece: Vec<u8>,
    position: usize,
    size: u64,
}

impl<'a> FileReader<'a> {
    /// Opens the file at `path`.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::NotFound`] when there is nothing, [`crate::ErrorKind::Invalid`] when it is not a file.
    pub fn open(
        repository: &'a Repository,
        index: &'a Index,
        snapshot: &Snapshot,
        path: &SnapshotPath,
    ) -> Result<Self> {
        match find_node(&TreeReader::new(repository, index), &snapshot.tree, path)? {
            Some(node) => Self::of_node(repository, index, path, &node),
            None => Err(not_a_file(path)),
        }
    }

    /// Opens the file that `node` describes, which lies at `path`: for those who have its folder at hand.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Invalid`] when it is not a file.
    pub fn of_node(repository: &'a Repository, index: &'a Index, path: &SnapshotPath, node: &Node) -> Result<Self> {
        let NodeKind::File { content, size } = &node.kind else { return Err(not_a_file(path)) };
        let rest = content.clone().into_iter();
        Ok(Self { repository, index, rest, piece: Vec::new(), position: 0, size: *size })
    }

    /// Its size in bytes, as the snapshot says it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next piece, whole; `None` at the end. Not to be mixed with reading bytes.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>> {
        self.rest.next().map(|id| self.repository.read_blob(self.index, BlobKind::Data, &id)).transpose()
    }
}

impl io::Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.piece.len() {
            let Some(piece) = self.next_piece().map_err(io::Error::other)? else { return Ok(0) };
            (self.piece, self.position) = (piece, 0);
        }
        let rest = &self.piece[self.position..];
        let bytes = rest.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&rest[..bytes]);
        self.position += bytes;
        Ok(bytes)
    }
}

fn not_a_file(path: &SnapshotPath) -> Error {
    Error::invalid(path.to_string(), "not a file").with_hint("`ls` shows what is in a folder, `restore` restores it")
}
