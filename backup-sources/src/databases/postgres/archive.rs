//! Looks into pg_dump's custom format as it streams by: what is in the dump, and what each table's rows add up to; and
//! into the table of contents of its directory format, whose data lies in files beside it (`directory.rs`).
//!
//! The bytes are not changed, but for the instant at which the dump was made: with it, a dump of an unchanged database
//! would differ from the last one in its first piece. The manifest has the instant.
//!
//! What is always true: a stream of which [`Inspector::finish`] approves ends where a dump may end, and every object
//! that its table of contents promises data for has had its data, to the end. pg_dump writes no mark at the end of a
//! dump, so that nothing else tells one that was cut off between two tables.
//!
//! Source: `pg_backup_archiver.c` and `pg_backup_custom.c` of PostgreSQL, archive versions 1.14 (13 to 15), 1.15 (16) and
//! 1.16 (17, 18).

use std::collections::BTreeMap;
use std::fmt;

use backup_core::contracts::Expectation;
use backup_core::limits::ARCHIVE_ENTRY_BYTES_MAX;

use super::contents::{Contents, Entry};
use super::rows::{LargeObjects, Rows};

/// Bytes of the head that are enough to know whether and how it is understood: up to the creation time and past it.
pub(super) const HEAD_BYTES: usize = 11 + 5 + 7 * 5;

/// The archive versions that are understood.
const VERSIONS: std::ops::RangeInclusive<(u8, u8)> = (1, 14)..=(1, 16);

/// The first version whose compression is one byte.
const SHORT_COMPRESSION: (u8, u8) = (1, 15);

/// Second, minute, hour, day, month, year and daylight saving of 2000-01-01 00:00:00, as the format counts them.
const NO_INSTANT: [i32; 7] = [0, 0, 0, 1, 0, 100, 0];

/// Why a stream is not a whole dump.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ArchiveError {
    #[error("it is not a dump in pg_dump's custom format")]
    NotADump,
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    #[error("it ends in the middle")]
    CutShort,
    #[error("the data of {0} did not come")]
    Missing(String),
}

/// Where the data of a dump is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Behind the table of contents: the custom format.
    OneFile,
    /// In a file for each table: the directory format. Its head says that it is of pg_dump's archive for `tar`.
    Directory,
}

impl Layout {
    /// How the head of an archive names it.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::OneFile => 1,
            Self::Directory => 3,
        }
    }
}

/// Reads along with a dump.
pub(super) struct Inspector {
    layout: Layout,
    state: State,
    /// Bytes that are not enough yet for what comes next.
    pending: Vec<u8>,
    contents: Contents,
    /// Bytes taken so far.
    position: u64,
    found: Found,
}

/// What a whole dump holds.
#[derive(Default)]
pub(super) struct Found {
    /// What a restore must show.
    pub(super) expectations: Vec<Expectation>,
    /// The rows of partitions that came for the whole table, each for itself: which they belong to may be another after a
    /// restore, but not in the dump.
    pub(super) apart: Vec<Expectation>,
    /// How many tables came with data, were they empty or not.
    pub(super) tables: usize,
    /// Whether the format is one that can be looked into. When it is not, nothing is expected, and nothing checked.
    pub(super) is_understood: bool,
    /// Where each block of data begins, and where its entry of the table of contents says so.
    pub(super) blocks: Vec<Block>,
    /// What the data comes to, until the end.
    data: Data,
}

/// What the data of a dump comes to, as far as it has come.
#[derive(Default)]
pub(super) struct Data {
    /// The rows of tables, by the number of their entry.
    pub(super) rows: BTreeMap<i32, Rows>,
    /// Large objects; `None` when no data of them has come.
    pub(super) large_objects: Option<LargeObjects>,
}

/// A block of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Of its entry.
    pub(super) number: i32,
    /// Where it begins, in bytes from the beginning of the archive.
    pub(super) begins: u64,
    /// Where its entry has [`PLACE_BYTES`] for that.
    pub(super) entry_place: u64,
}

/// What an entry has for the place of its data: a byte that says whether it is known, and the place.
pub(super) const PLACE_BYTES: usize = 1 + 8;

impl Block {
    /// What belongs at [`Self::entry_place`]. A dump that was streamed does not have it, because its contents were
    /// written before its data; with it, programs that read a file in parallel need not search.
    pub(super) fn place(&self) -> [u8; PLACE_BYTES] {
        const KNOWN: u8 = 2;
        let mut place = [KNOWN; PLACE_BYTES];
        place[1..].copy_from_slice(&self.begins.to_le_bytes());
        place
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found").field("expectations", &self.expectations.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Data").field("tables", &self.rows.len()).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// So many entries of the table of contents are still to come.
    Contents(i32),
    /// Between two blocks.
    Block,
    /// In the data of a table, before a chunk; the number of its entry.
    Chunk(i32),
    /// In a chunk; so many bytes are left.
    Bytes(i32, usize),
    /// Among large objects, before the number of one.
    Object,
    /// In a large object, before a chunk.
    ObjectChunk,
    /// In a chunk of one; so many bytes are left.
    ObjectBytes(usize),
    /// A format that is not known: everything passes.
    Foreign,
}

impl Inspector {
    /// For a stream from its beginning: a dump, or the table of contents of one.
    pub(super) fn new(layout: Layout) -> Self {
        let (pending, contents, found) = Default::default();
        Self { layout, state: State::Head, pending, contents, position: 0, found }
    }

    /// Whether the whole table of contents has passed.
    pub(super) fn has_contents(&self) -> bool {
        !matches!(self.state, State::Head | State::Contents(_))
    }

    /// The table of contents, when it has passed.
    pub(super) fn contents(&self) -> Option<&Contents> {
        self.has_contents().then_some(&self.contents)
    }

    /// The table of contents, when it has passed; of a directory, when nothing follows it. `None` for a format that is
    /// not known.
    pub(super) fn into_contents(self) -> Result<Option<Contents>, ArchiveError> {
        match self.state {
            State::Foreign => Ok(None),
            State::Head | State::Contents(_) => Err(ArchiveError::CutShort),
            _ if self.layout == Layout::Directory && !self.pending.is_empty() => Err(ArchiveError::CutShort),
            _ => Ok(Some(self.contents)),
        }
    }

    /// The next bytes of the stream, in order.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let mut rest = bytes;
        // What was left over is completed before anything else. Data is never left over, only what frames it.
        while !self.pending.is_empty() && !rest.is_empty() {
            let had = self.pending.len();
            // A number needs few bytes; an entry of the contents as many as there are.
            let wanted = if matches!(self.state, State::Contents(_) | State::Head) { rest.len() } else { 1 };
            self.pending.extend_from_slice(&rest[..wanted]);
            let pending = std::mem::take(&mut self.pending);
            let used = self.take(&pending)?;
            if used == 0 {
                if pending.len() > ARCHIVE_ENTRY_BYTES_MAX {
                    return Err(ArchiveError::Damaged("an entry of its table of contents is too long"));
                }
                self.pending = pending;
                rest = &rest[wanted..];
            } else {
                // What was pending was not enough alone, so at least that much was used.
                rest = &rest[used.saturating_sub(had).min(rest.len())..];
                if used < had {
                    return Err(ArchiveError::Damaged("its frames do not fit"));
                }
            }
        }
        if !rest.is_empty() {
            let used = self.take(rest)?;
            self.pending.extend_from_slice(&rest[used..]);
        }
        Ok(())
    }

    /// The stream is at its end: what was in it, when it was whole.
    pub(super) fn finish(mut self) -> Result<Found, ArchiveError> {
        if self.state == State::Foreign {
            return Ok(self.found);
        }
        if self.state != State::Block || !self.pending.is_empty() {
            return Err(ArchiveError::CutShort);
        }
        let data = std::mem::take(&mut self.found.data);
        Ok(Found { blocks: self.found.blocks, ..Found::of(&self.contents, data)? })
    }

    /// Takes as much as is whole; the number of bytes taken.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, ArchiveError> {
        let mut input = Input::new(bytes);
        loop {
            let before = input.at;
            match self.step(&mut input) {
                Ok(()) => self.position += (input.at - before) as u64,
                Err(Stop::NeedsMore) => return Ok(before),
                Err(Stop::Failed(error)) => return Err(error),
            }
            if input.at == bytes.len() {
                return Ok(input.at);
            }
        }
    }

    fn step(&mut self, input: &mut Input<'_>) -> Result<(), Stop> {
        self.state = match self.state {
            State::Foreign => {
                input.at = input.bytes.len();
                State::Foreign
            }
            State::Head => self.head(input)?,
            State::Contents(left) => {
                let before = input.at;
                let (entry, _) = Entry::read(input, self.contents.version(), self.layout)?;
                // The place is the last thing in it.
                let ends = self.position + (input.at - before) as u64;
                self.contents.push(entry, ends.saturating_sub(PLACE_BYTES as u64));
                if left > 1 { State::Contents(left - 1) } else { State::Block }
            }
            State::Block if self.layout == Layout::Directory => {
                return Err(Stop::Failed(ArchiveError::Damaged("something follows its table of contents")));
            }
            State::Block => {
                let (kind, number) = (input.byte()?, input.integer()?);
                if let Some(entry_place) = self.contents.place_of(number) {
                    self.found.blocks.push(Block { number, begins: self.position, entry_place });
                }
                match kind {
                    1 => {
                        let sorted = self.contents.sorted_columns(number);
                        self.found.data.rows.insert(number, Rows::new(sorted));
                        State::Chunk(number)
                    }
                    3 => {
                        self.large_objects();
                        State::Object
                    }
                    _ => return Err(Stop::Failed(ArchiveError::Damaged("a block of an unknown kind"))),
                }
            }
            State::Chunk(number) => match input.length()? {
                0 => State::Block,
                length => State::Bytes(number, length),
            },
            State::Bytes(number, left) => {
                let bytes = input.some(left);
                if let Some(rows) = self.found.data.rows.get_mut(&number) {
                    rows.add(bytes);
                }
                match left - bytes.len() {
                    0 => State::Chunk(number),
                    left => State::Bytes(number, left),
                }
            }
            State::Object => match input.integer()? {
                0 => State::Block,
                number => {
                    self.large_objects().begin(number);
                    State::ObjectChunk
                }
            },
            State::ObjectChunk => match input.length()? {
                0 => {
                    self.large_objects().end();
                    State::Object
                }
                length => State::ObjectBytes(length),
            },
            State::ObjectBytes(left) => {
                let bytes = input.some(left);
                self.large_objects().add(bytes);
                match left - bytes.len() {
                    0 => State::ObjectChunk,
                    left => State::ObjectBytes(left),
                }
            }
        };
        Ok(())
    }

    fn large_objects(&mut self) -> &mut LargeObjects {
        self.found.data.large_objects.get_or_insert_default()
    }

    fn head(&mut self, input: &mut Input<'_>) -> Result<State, Stop> {
        let head = Head::read(input)?;
        if !head.is_understood(self.layout) {
            return Ok(State::Foreign);
        }
        for _ in 0..3 {
            input.text()?; // The database, the server's version, pg_dump's.
        }
        self.contents = Contents::new(head.version);
        Ok(match input.integer()? {
            ..0 => return Err(Stop::Failed(ArchiveError::Damaged("it has a negative number of entries"))),
            0 => State::Block,
            count => State::Contents(count),
        })
    }
}

impl Found {
    /// What a dump with these contents holds, when all of its data has come.
    pub(super) fn of(contents: &Contents, mut data: Data) -> Result<Self, ArchiveError> {
        let mut found = Self { is_understood: true, ..Self::default() };
        let mut roots: BTreeMap<String, Rows> = BTreeMap::new();
        for entry in contents.entries() {
            if !entry.has_data {
                found.expectations.extend(entry.expectation());
            } else if entry.is_table_data() {
                let rows = data.rows.remove(&entry.number).filter(Rows::is_at_end);
                let rows = rows.ok_or_else(|| ArchiveError::Missing(entry.object()))?;
                match entry.root() {
                    None => found.expectations.push(rows.expectation(entry.object())),
                    Some(root) => {
                        found.apart.push(rows.expectation(entry.object()));
                        roots.entry(root).or_insert_with(|| Rows::new(None)).join(&rows);
                    }
                }
                found.tables += 1;
            } else if entry.is_large_objects() && data.large_objects.is_none() {
                return Err(ArchiveError::Missing("the large objects".to_owned()));
            }
        }
        found.expectations.extend(roots.into_iter().map(|(root, rows)| rows.expectation(root)));
        found.expectations.extend(data.large_objects.map(|objects| objects.expectation()));
        found.expectations.sort_by(|a, b| (&a.kind, &a.object).cmp(&(&b.kind, &b.object)));
        Ok(found)
    }
}

/// Where an archive tells its layout.
pub(super) const FORMAT_AT: usize = 10;

/// The beginning of an archive.
pub(super) struct Head {
    pub(super) version: (u8, u8),
    format: u8,
    is_plain: bool,
    has_usual_integers: bool,
    /// Where the instant stands.
    instant_at: usize,
}

impl Head {
    pub(super) fn read(input: &mut Input<'_>) -> Result<Self, Stop> {
        if input.exact(5)? != b"PGDMP" {
            return Err(Stop::Failed(ArchiveError::NotADump));
        }
        let (major, minor, _revision) = (input.byte()?, input.byte()?, input.byte()?);
        let (integer_bytes, offset_bytes, format) = (input.byte()?, input.byte()?, input.byte()?);
        let version = (major, minor);
        let has_usual_integers = (integer_bytes, offset_bytes) == (4, 8);
        let compression = if version >= SHORT_COMPRESSION { input.byte()?.into() } else { input.integer()? };
        let instant_at = input.at;
        for _ in NO_INSTANT {
            input.integer()?;
        }
        Ok(Self { version, format, is_plain: compression == 0, has_usual_integers, instant_at })
    }

    fn is_understood(&self, layout: Layout) -> bool {
        let is_known = VERSIONS.contains(&self.version) && self.format == layout.number();
        is_known && self.is_plain && self.has_usual_integers
    }
}

/// Takes the instant out of the first [`HEAD_BYTES`] of a dump, or of its table of contents.
pub(super) fn forget_instant(head: &mut [u8], layout: Layout) {
    let mut input = Input::new(head);
    let Ok(found) = Head::read(&mut input) else { return };
    if found.is_understood(layout) {
        for (place, part) in NO_INSTANT.iter().enumerate() {
            let at = found.instant_at + place * 5;
            head[at] = 0;
            head[at + 1..at + 5].copy_from_slice(&part.to_le_bytes());
        }
    }
}

/// Why reading stops.
pub(super) enum Stop {
    /// The bytes end before the thing does.
    NeedsMore,
    Failed(ArchiveError),
}

/// Bytes that are read from their beginning.
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were taken.
    pub(super) fn taken(&self) -> usize {
        self.at
    }

    pub(super) fn exact(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let end = self.at.checked_add(count).ok_or(Stop::NeedsMore)?;
        let found = self.bytes.get(self.at..end).ok_or(Stop::NeedsMore)?;
        self.at = end;
        Ok(found)
    }

    /// At most `most` bytes, as many as there are.
    fn some(&mut self, most: usize) -> &'a [u8] {
        let end = self.bytes.len().min(self.at.saturating_add(most));
        let found = &self.bytes[self.at..end];
        self.at = end;
        found
    }

    pub(super) fn byte(&mut self) -> Result<u8, Stop> {
        Ok(self.exact(1)?[0])
    }

    /// A sign and four bytes, the least first. Numbers of objects use all 32 bits.
    pub(super) fn integer(&mut self) -> Result<i32, Stop> {
        let bytes = self.exact(5)?;
        let value = i32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        Ok(if bytes[0] == 0 { value } else { value.wrapping_neg() })
    }

    fn length(&mut self) -> Result<usize, Stop> {
        let length = self.integer()?;
        usize::try_from(length).map_err(|_| Stop::Failed(ArchiveError::Damaged("a piece has a negative length")))
    }

    /// Text; `None` for the absence of one.
    pub(super) fn text(&mut self) -> Result<Option<&'a [u8]>, Stop> {
        let length = self.integer()?;
        let Ok(length) = usize::try_from(length) else { return Ok(None) };
        if length > ARCHIVE_ENTRY_BYTES_MAX {
            return Err(Stop::Failed(ArchiveError::Damaged("a text in its table of contents is too long")));
        }
        self.exact(length).map(Some)
    }
}

#[cfg(test)]
pub(super) mod tests;
