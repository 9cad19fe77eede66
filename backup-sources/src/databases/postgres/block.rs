//! The data of one entry, read out of the middle of a dump in one file: the rows of a table, or large objects, without
//! what frames them.
//!
//! What is always true: a block begins with the kind and the number that were asked for, and what comes of it is whole, or an
//! error. Called for what is laid down (`laid_out.rs`) and for what goes into a pipe (`pipes.rs`).
//!
//! Source: `pg_backup_custom.c` of PostgreSQL.

use std::io::{self, Read};

use backup_core::contracts::Pieces;
use backup_core::limits::READ_BUFFER_BYTES;

use super::archive::{ArchiveError, Input};

/// Rows are handed on this many bytes at a time: in the dump each has a frame of its own.
const HANDED_ON_BYTES: usize = 256 * 1024;

/// Kinds of blocks.
const TABLE: u8 = 1;
const OBJECTS: u8 = 3;

/// Pieces as one stream.
pub(super) struct Joined<'a> {
    pieces: Box<dyn Pieces + 'a>,
    piece: Vec<u8>,
    at: usize,
}

/// A dump from some place on.
pub(super) struct Blocks<'a> {
    joined: Joined<'a>,
    /// Where in the dump what comes next lies.
    position: u64,
}

impl<'a> Joined<'a> {
    pub(super) fn new(pieces: Box<dyn Pieces + 'a>) -> Self {
        Self { pieces, piece: Vec::new(), at: 0 }
    }

    /// At least one of the next bytes, and at most so many; none at the end.
    pub(super) fn some(&mut self, most: usize) -> io::Result<&[u8]> {
        while self.at == self.piece.len() {
            self.at = 0;
            if !self.pieces.next(&mut self.piece)? {
                self.piece.clear();
                break;
            }
        }
        let from = self.at;
        self.at = self.piece.len().min(from.saturating_add(most));
        Ok(&self.piece[from..self.at])
    }
}

impl Read for Joined<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let some = self.some(buffer.len())?;
        buffer[..some.len()].copy_from_slice(some);
        Ok(some.len())
    }
}

impl<'a> Blocks<'a> {
    /// Of `pieces`, which begin at a byte of the dump.
    pub(super) fn new(pieces: Box<dyn Pieces + 'a>, position: u64) -> Self {
        Self { joined: Joined::new(pieces), position }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The rows of the table with this number.
    pub(super) fn table(&mut self, number: i32, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.begin(TABLE, number)?;
        let mut rows = Vec::with_capacity(HANDED_ON_BYTES);
        loop {
            let mut left = self.length()?;
            if left == 0 {
                break;
            }
            while left > 0 {
                let some = self.some(left.min(READ_BUFFER_BYTES))?;
                left -= some.len();
                rows.extend_from_slice(some);
                if rows.len() >= HANDED_ON_BYTES {
                    each(&rows)?;
                    rows.clear();
                }
            }
        }
        if rows.is_empty() { Ok(()) } else { each(&rows) }
    }

    /// The large objects of the entry with this number: `each` gets their numbers, and one after the other what comes of them.
    pub(super) fn objects(
        &mut self,
        number: i32,
        mut each: impl FnMut(i32, Part<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.begin(OBJECTS, number)?;
        loop {
            let object = self.integer()?;
            if object == 0 {
                return Ok(());
            }
            each(object, Part::Begin)?;
            loop {
                let mut left = self.length()?;
                if left == 0 {
                    break;
                }
                while left > 0 {
                    let some = self.some(left)?;
                    left -= some.len();
                    each(object, Part::Bytes(some))?;
                }
            }
            each(object, Part::End)?;
        }
    }

    fn begin(&mut self, kind: u8, number: i32) -> io::Result<()> {
        let found = self.exact::<1>()?[0];
        if (found, self.integer()?) == (kind, number) {
            return Ok(());
        }
        Err(damaged("its data is not where its manifest says"))
    }

    fn length(&mut self) -> io::Result<usize> {
        usize::try_from(self.integer()?).map_err(|_| damaged("a piece has a negative length"))
    }

    fn integer(&mut self) -> io::Result<i32> {
        let bytes = self.exact::<5>()?;
        Input::new(&bytes).integer().map_err(|_| io::Error::other(ArchiveError::CutShort))
    }

    fn exact<const COUNT: usize>(&mut self) -> io::Result<[u8; COUNT]> {
        let mut bytes = [0; COUNT];
        let mut filled = 0;
        while filled < COUNT {
            let some = self.some(COUNT - filled)?;
            bytes[filled..filled + some.len()].copy_from_slice(some);
            filled += some.len();
        }
        Ok(bytes)
    }

    /// At least one of the next bytes, and at most so many.
    fn some(&mut self, most: usize) -> io::Result<&[u8]> {
        let some = self.joined.some(most)?;
        self.position += some.len() as u64;
        if some.is_empty() { Err(io::Error::other(ArchiveError::CutShort)) } else { Ok(some) }
    }
}

/// What comes of a large object.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'a> {
    Begin,
    Bytes(&'a [u8]),
    End,
}

fn damaged(why: &'static str) -> io::Error {
    io::Error::other(ArchiveError::Damaged(why))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::databases::postgres::archive::tests::dump;
    use crate::databases::postgres::observe;

    struct Cut<'a>(&'a [u8], usize);

    impl Pieces for Cut<'_> {
        fn next(&mut self, piece: &mut Vec<u8>) -> io::Result<bool> {
            let (next, rest) = self.0.split_at(self.0.len().min(self.1));
            self.0 = rest;
            piece.clear();
            piece.extend_from_slice(next);
            Ok(!next.is_empty())
        }
    }

    fn blocks(bytes: &[u8], begins: u64, piece: usize) -> Blocks<'_> {
        Blocks::new(Box::new(Cut(&bytes[usize::try_from(begins).unwrap()..], piece)), begins)
    }

    fn rows(blocks: &mut Blocks<'_>, number: i32) -> io::Result<Vec<u8>> {
        let mut rows = Vec::new();
        blocks.table(number, |bytes| {
            rows.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(rows)
    }

    #[test]
    fn each_block_is_read_from_where_it_begins_and_leads_to_the_next() {
        let bytes = dump((1, 15));
        let places = observe::read(&mut &bytes[..]).unwrap().blocks;
        for piece in [1, 3, 1_000] {
            let mut blocks = blocks(&bytes, places[0].begins, piece);
            assert_eq!(rows(&mut blocks, 4).unwrap(), b"1\tx\n2\ty\n3\tz\n\\.\n\n\n");
            assert_eq!(blocks.position(), places[1].begins);
            assert_eq!(rows(&mut blocks, 5).unwrap(), b"x\t1\n\\.\n\n\n");
            assert_eq!(blocks.position(), places[2].begins);
            let mut objects: Vec<(i32, Vec<u8>)> = Vec::new();
            let read = blocks.objects(6, |number, part| {
                match part {
                    Part::Begin => objects.push((number, Vec::new())),
                    Part::Bytes(bytes) => objects.last_mut().unwrap().1.extend_from_slice(bytes),
                    Part::End => {}
                }
                Ok(())
            });
            read.unwrap();
            assert_eq!(objects, [(16_400, b"abcdef".to_vec()), (-5, Vec::new())]);
        }
    }

    #[test]
    fn a_block_that_is_elsewhere_or_cut_off_is_an_error() {
        let bytes = dump((1, 15));
        let places = observe::read(&mut &bytes[..]).unwrap().blocks;
        let begins = places[0].begins;
        assert!(rows(&mut blocks(&bytes, begins, 9), 5).is_err(), "another table's");
        assert!(rows(&mut blocks(&bytes, begins + 1, 9), 4).is_err(), "a byte behind");
        assert!(rows(&mut blocks(&bytes, places[2].begins, 9), 6).is_err(), "large objects");
        for length in usize::try_from(begins).unwrap()..usize::try_from(places[1].begins).unwrap() {
            assert!(rows(&mut blocks(&bytes[..length], begins, 9), 4).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_block_makes_it_panic_nor_hands_on_what_is_not_there(
            of in 0_usize..3,
            at in 0_usize..60,
            bytes in prop::collection::vec(any::<u8>(), 0..12),
            piece in 1_usize..90,
        ) {
            let mut whole = dump((1, 15));
            let begins = observe::read(&mut &whole[..]).unwrap().blocks[of].begins;
            let at = (usize::try_from(begins).unwrap() + at).min(whole.len());
            let end = (at + bytes.len()).min(whole.len());
            whole.splice(at..end, bytes);
            let mut handed_on = 0;
            let mut blocks = blocks(&whole, begins, piece);
            let _ = match of {
                2 => blocks.objects(6, |_, part| {
                    handed_on += if let Part::Bytes(bytes) = part { bytes.len() } else { 0 };
                    Ok(())
                }),
                _ => rows(&mut blocks, if of == 0 { 4 } else { 5 }).map(|rows| handed_on = rows.len()),
            };
            prop_assert!(blocks.position() <= whole.len() as u64);
            prop_assert!(handed_on as u64 <= blocks.position() - begins);
        }
    }
}
