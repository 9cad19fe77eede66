//! The pages of a database in their order, of one state: read through SQLite inside a read transaction, or from a copy.

use std::io::Read;

use rusqlite::Connection;
use xxhash_rust::xxh3::Xxh3;

/// Pages that are asked for at a time: one statement then costs little beside them.
const PAGES_AT_ONCE: u64 = 64;

/// Pages `?1` to `?2`, in order. The table's own plan for a range would walk from the first page each time.
const PAGES: &str = "WITH RECURSIVE wanted(number) AS \
    (SELECT ?1 UNION ALL SELECT number + 1 FROM wanted WHERE number < ?2) \
    SELECT page.data FROM wanted CROSS JOIN sqlite_dbpage AS page ON page.pgno = wanted.number";

/// A database's image being read.
pub(super) struct Image {
    view: Connection,
    page_bytes: u64,
    pages: u64,
    /// Pages that were fetched.
    fetched: u64,
    fetched_bytes: Vec<u8>,
    /// How much of `fetched_bytes` was given out.
    given: usize,
    copy: Option<std::fs::File>,
    bytes: u64,
    hash: Xxh3,
}

/// What passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed {
    pub(super) pages: u64,
    pub(super) hash: u128,
}

impl Image {
    /// Whether this build of SQLite shows pages.
    pub(super) fn is_possible(view: &Connection) -> bool {
        view.query_row("SELECT count(*) FROM pragma_module_list WHERE name = 'sqlite_dbpage'", [], |row| row.get(0))
            .is_ok_and(|count: u32| count > 0)
    }

    /// The state that `view` sees from now on, until the connection is closed.
    pub(super) fn of_pages(view: Connection) -> rusqlite::Result<Self> {
        // The transaction begins with the first look, not with its word.
        view.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")?;
        Self::new(view, None)
    }

    /// A private copy, and a connection to it.
    pub(super) fn of_copy(view: Connection, copy: std::fs::File) -> rusqlite::Result<Self> {
        Self::new(view, Some(copy))
    }

    fn new(view: Connection, copy: Option<std::fs::File>) -> rusqlite::Result<Self> {
        let number = |pragma| view.query_row(pragma, [], |row| row.get::<_, u64>(0));
        let (page_bytes, pages) = (number("PRAGMA page_size")?, number("PRAGMA page_count")?);
        let (fetched_bytes, hash) = (Vec::new(), Xxh3::new());
        Ok(Self { view, page_bytes, pages, fetched: 0, fetched_bytes, given: 0, copy, bytes: 0, hash })
    }

    /// Reads on; 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> rusqlite::Result<usize> {
        let length = match &mut self.copy {
            Some(copy) => copy.read(buffer).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?,
            None => {
                if self.given == self.fetched_bytes.len() && self.fetched < self.pages {
                    self.fetch()?;
                }
                let rest = &self.fetched_bytes[self.given..];
                let length = rest.len().min(buffer.len());
                buffer[..length].copy_from_slice(&rest[..length]);
                self.given += length;
                length
            }
        };
        self.hash.update(&buffer[..length]);
        self.bytes += length as u64;
        Ok(length)
    }

    /// The connection, still in the state that was read; or why the image is not whole.
    pub(super) fn finish(self) -> Result<(Connection, Passed), String> {
        let expected = self.pages * self.page_bytes;
        if self.bytes != expected {
            return Err(format!("{} bytes came of an image of {expected}", self.bytes));
        }
        Ok((self.view, Passed { pages: self.pages, hash: self.hash.digest128() }))
    }

    fn fetch(&mut self) -> rusqlite::Result<()> {
        let (first, last) = (self.fetched + 1, self.pages.min(self.fetched + PAGES_AT_ONCE));
        self.fetched_bytes.clear();
        self.given = 0;
        let mut statement = self.view.prepare_cached(PAGES)?;
        let mut rows = statement.query([first, last])?;
        while let Some(row) = rows.next()? {
            self.fetched_bytes.extend_from_slice(row.get_ref(0)?.as_blob()?);
        }
        self.fetched = last;
        Ok(())
    }
}
