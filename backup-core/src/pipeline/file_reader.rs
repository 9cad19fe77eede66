//! One file of a snapshot as a stream of bytes, for those who do not need the whole snapshot: a manifest that is looked at before
//! the restore, a dump that goes into a program, a table that a target reads by itself.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;

use super::walk::{TreeReader, find_node};
use crate::limits::{READ_AHEAD_BYTES_MAX, READ_AHEAD_BYTES_MIN, RESTORE_GAP_BYTES_MAX};
use crate::model::{BlobId, BlobKind, Node, NodeKind, Snapshot, SnapshotPath};
use crate::repository::layout::Named as _;
use crate::repository::{BlobLocation, Index, Repository};
use crate::{Error, Result};

/// The bytes of a file in a snapshot, in their order. Each piece is opened and hashed before a byte of it comes out. Pieces
/// that lie beside each other in a pack are read in one go, and opened when it is their turn: of at most
/// [`READ_AHEAD_BYTES_MAX`], or of one.
#[derive(Debug)]
pub struct FileReader<'a> {
    repository: &'a Repository,
    index: &'a Index,
    rest: std::vec::IntoIter<BlobId>,
    /// Pieces that come next, still sealed; `None` for one that could not be read with its neighbours.
    ahead: VecDeque<(BlobId, Option<(BlobLocation, Bytes)>)>,
    /// Bytes that are read at once. Who wants the beginning only is not kept waiting for more.
    window: u64,
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
        let (ahead, piece) = Default::default();
        let rest = content.clone().into_iter();
        Ok(Self { repository, index, rest, ahead, window: 0, piece, position: 0, size: *size })
    }

    /// Its size in bytes, as the snapshot says it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Passes over the first `bytes`; pieces that lie before them are not read. To be called before anything else.
    ///
    /// # Errors
    ///
    /// When no index lists one of those pieces, or the one that the rest begins in cannot be read.
    pub fn skip(&mut self, mut bytes: u64) -> Result<()> {
        while let Some(id) = self.rest.as_slice().first() {
            let location = self.index.find(BlobKind::Data, id);
            let piece_bytes = match location {
                Some(location) => location.blob.opened_bytes(),
                None => return Err(Error::new(crate::ErrorKind::Missing, format!("data blob {id}"))),
            };
            if bytes < piece_bytes {
                break;
            }
            bytes -= piece_bytes;
            self.rest.next();
        }
        if bytes > 0 {
            let mut piece = Vec::new();
            self.open_next(&mut piece)?;
            self.position = usize::try_from(bytes).unwrap_or(usize::MAX).min(piece.len());
            self.piece = piece;
        }
        Ok(())
    }

    /// Puts the next piece, or what is left of the one that was begun, in the place of what is in `piece`, whose memory is
    /// used again; whether there was one, or the file is at its end.
    pub fn read_piece(&mut self, piece: &mut Vec<u8>) -> Result<bool> {
        if self.position < self.piece.len() {
            piece.clear();
            piece.extend_from_slice(&self.piece[self.position..]);
            self.position = self.piece.len();
            return Ok(true);
        }
        self.open_next(piece)
    }

    fn open_next(&mut self, piece: &mut Vec<u8>) -> Result<bool> {
        if self.ahead.is_empty() {
            self.read_ahead();
        }
        let Some((id, sealed)) = self.ahead.pop_front() else { return Ok(false) };
        let opened =
            sealed.is_some_and(|(location, sealed)| self.repository.open_blob(&location, &sealed, piece).is_ok());
        if !opened {
            // Tells what is wrong with it, or finds it in another pack.
            *piece = self.repository.read_blob(self.index, BlobKind::Data, &id)?;
        }
        Ok(true)
    }

    /// Reads the next pieces, each range of a pack in one go.
    fn read_ahead(&mut self) {
        let mut places: Vec<(usize, BlobLocation)> = Vec::new();
        let mut bytes = 0;
        while let Some(id) = self.rest.as_slice().first() {
            let location = self.index.find(BlobKind::Data, id);
            bytes += location.as_ref().map_or(0, |location| location.blob.opened_bytes());
            if !self.ahead.is_empty() && bytes > self.window {
                break;
            }
            places.extend(location.map(|location| (self.ahead.len(), location)));
            self.ahead.push_back((*id, None));
            self.rest.next();
        }
        self.window = (self.window * 2).clamp(READ_AHEAD_BYTES_MIN, READ_AHEAD_BYTES_MAX);
        if let [_] = places[..] {
            return;
        }
        places.sort_unstable_by_key(|(_, location)| (location.pack_number, location.blob.offset));
        for together in places.chunk_by(|(_, a), (_, b)| {
            a.pack_number == b.pack_number && u64::from(b.blob.offset) <= end_of(a) + RESTORE_GAP_BYTES_MAX
        }) {
            let [(_, first), ..] = together else { continue };
            let start = u64::from(first.blob.offset);
            let end = together.iter().map(|(_, location)| end_of(location)).max().unwrap_or(start);
            let Ok(read) = self.repository.store().get(&first.pack.key(), Some(start..end)) else { continue };
            for (place, location) in together {
                let at = usize::try_from(u64::from(location.blob.offset) - start).unwrap_or(usize::MAX);
                let ends = at.checked_add(location.blob.length as usize).filter(|&ends| ends <= read.len());
                self.ahead[*place].1 = ends.map(|ends| (*location, read.slice(at..ends)));
            }
        }
    }
}

fn end_of(location: &BlobLocation) -> u64 {
    u64::from(location.blob.offset) + u64::from(location.blob.length)
}

impl io::Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.piece.len() {
            let mut piece = std::mem::take(&mut self.piece);
            self.position = 0;
            if !self.open_next(&mut piece).map_err(io::Error::other)? {
                return Ok(0);
            }
            self.piece = piece;
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
