//! A table of contents written anew: that of a dump in one file as that of a folder, in which the data of each table is a
//! file of its own, and with other numbers.
//!
//! pg_restore gives work to several connections by the size of files, and by the numbers of entries where these are the
//! same, as they are for pipes. So the largest table gets the least number.
//!
//! What is always true: all else is copied byte by byte, and an entry that needs another still needs it under its new number.
//! Called by `laid_out.rs`.
//!
//! Source: `pg_backup_archiver.c` and `pg_backup_directory.c` of PostgreSQL.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use backup_core::limits::READ_BUFFER_BYTES;

use super::archive::{ArchiveError, FORMAT_AT, Head, Input, Layout, Stop};
use super::contents::Entry;

/// What is another in the new one, by the old numbers.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// New numbers.
    pub(super) numbers: HashMap<i32, i32>,
    /// The file with the data of an entry.
    pub(super) files: HashMap<i32, String>,
}

impl Changes {
    fn number(&self, number: i32) -> i32 {
        self.numbers.get(&number).copied().unwrap_or(number)
    }
}

/// Writes the table of contents that `from` begins with, which may go on behind it.
///
/// # Errors
///
/// When it is none, damaged, or ends in the middle: of kind [`io::ErrorKind::Other`]; or what reading and writing gave.
pub(super) fn rewrite(from: impl Read, layout: Layout, changes: &Changes, to: &mut impl Write) -> io::Result<()> {
    let mut old = Old { from, bytes: Vec::new(), at: 0 };
    let ((version, count), bytes) = old.next(|input| {
        let head = Head::read(input)?;
        for _ in 0..3 {
            input.text()?; // The database, the server's version, pg_dump's.
        }
        Ok((head.version, input.integer()?))
    })?;
    to.write_all(&bytes[..FORMAT_AT])?;
    to.write_all(&[Layout::Directory.number()])?;
    to.write_all(&bytes[FORMAT_AT + 1..])?;
    for _ in 0..count {
        let ((entry, needs_at), bytes) = old.next(|input| {
            let (entry, needs_at) = Entry::read(input, version, layout)?;
            Ok((entry, needs_at))
        })?;
        integer(to, changes.number(entry.number))?;
        to.write_all(&bytes[INTEGER_BYTES..needs_at])?;
        for number in entry.needs {
            text(to, &changes.number(number).to_string())?;
        }
        integer(to, NO_TEXT)?;
        text(to, changes.files.get(&entry.number).map_or("", String::as_str))?;
    }
    Ok(())
}

/// A sign and four bytes.
const INTEGER_BYTES: usize = 5;

/// The length of a text that is not there.
const NO_TEXT: i32 = -1;

fn integer(to: &mut impl Write, value: i32) -> io::Result<()> {
    to.write_all(&[value.is_negative().into()])?;
    to.write_all(&value.unsigned_abs().to_le_bytes())
}

fn text(to: &mut impl Write, text: &str) -> io::Result<()> {
    let length =
        i32::try_from(text.len()).map_err(|_| io::Error::other(ArchiveError::Damaged("a text is too long")))?;
    integer(to, length)?;
    to.write_all(text.as_bytes())
}

/// What is read.
struct Old<R> {
    from: R,
    bytes: Vec<u8>,
    at: usize,
}

impl<R: Read> Old<R> {
    /// The next thing, and its bytes.
    fn next<T>(&mut self, read: impl Fn(&mut Input<'_>) -> Result<T, Stop>) -> io::Result<(T, &[u8])> {
        let (thing, length) = loop {
            let mut input = Input::new(&self.bytes[self.at..]);
            match read(&mut input) {
                Ok(thing) => break (thing, input.taken()),
                Err(Stop::Failed(error)) => return Err(io::Error::other(error)),
                Err(Stop::NeedsMore) => {
                    self.bytes.drain(..self.at);
                    self.at = 0;
                    let more = self.from.by_ref().take(READ_BUFFER_BYTES as u64).read_to_end(&mut self.bytes)?;
                    if more == 0 {
                        return Err(io::Error::other(ArchiveError::CutShort));
                    }
                }
            }
        };
        let bytes = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok((thing, bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::databases::postgres::archive::tests::dump;
    use crate::databases::postgres::contents::Contents;
    use crate::databases::postgres::{directory, observe};

    /// What must be the same in both forms.
    fn told(contents: &Contents) -> Vec<impl PartialEq + std::fmt::Debug + '_> {
        let entries = contents.entries();
        entries.map(|it| (it.number, &it.kind, &it.schema, &it.name, &it.needs, &it.owner, it.has_data)).collect()
    }

    #[test]
    fn a_dump_in_one_file_becomes_one_of_a_folder() {
        for version in [(1, 14), (1, 15), (1, 16)] {
            let changes = Changes {
                numbers: [(4, 5), (5, 4)].into(),
                files: [(4, "four.dat".to_owned()), (5, "five.dat".to_owned()), (6, "blobs.toc".to_owned())].into(),
            };
            let whole = dump(version);
            let mut written = Vec::new();
            rewrite(&whole[..], Layout::OneFile, &changes, &mut written).unwrap();
            let contents = directory::contents(&written[..]).unwrap().unwrap();
            let found: Vec<_> = contents.entries().map(|entry| (entry.number, entry.object(), entry.file())).collect();
            assert_eq!(found.len(), 7);
            assert_eq!(found[3], (5, "public.t".to_owned(), Some("four.dat")));
            assert_eq!(found[4], (4, "\"Odd\".h".to_owned(), Some("five.dat")));
            assert_eq!((found[5].0, found[5].2), (6, Some("blobs.toc")));
            assert_eq!(contents.entries().next().unwrap().needs, [1, 2]);

            // Again, with what needs something that has another number now.
            let changes = Changes { numbers: [(1, 70_000), (2, -3)].into(), files: changes.files };
            let mut again = Vec::new();
            rewrite(&written[..], Layout::Directory, &changes, &mut again).unwrap();
            let contents = directory::contents(&again[..]).unwrap().unwrap();
            assert_eq!(contents.entries().next().unwrap().needs, [70_000, -3]);
            assert_eq!(contents.entries().next().unwrap().number, 70_000);
        }
    }

    #[test]
    fn what_is_cut_off_is_no_table_of_contents() {
        let whole = dump((1, 16));
        let mut written = Vec::new();
        rewrite(&whole[..], Layout::OneFile, &Changes::default(), &mut written).unwrap();
        for length in 0..written.len() {
            let cut = &written[..length];
            assert!(rewrite(cut, Layout::Directory, &Changes::default(), &mut io::sink()).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn whatever_can_be_read_can_be_written_anew_and_tells_the_same(
            minor in 14_u8..=16,
            at in 0_usize..1_200,
            bytes in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut whole = dump((1, minor));
            let at = at.min(whole.len());
            let end = (at + bytes.len()).min(whole.len());
            whole.splice(at..end, bytes);
            if let Ok(Some(old)) = observe::contents(&whole[..]) {
                let with_data = old.entries().filter(|entry| entry.has_data);
                let files = with_data.map(|entry| (entry.number, format!("{}.dat", entry.number.unsigned_abs()))).collect();
                let mut written = Vec::new();
                rewrite(&whole[..], Layout::OneFile, &Changes { files, ..Changes::default() }, &mut written).unwrap();
                let new = directory::contents(&written[..]).unwrap().unwrap();
                prop_assert_eq!(told(&new), told(&old));
            }
        }
    }
}
