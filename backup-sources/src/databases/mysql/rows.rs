//! What the rows of a dump add up to, table by table, as its text passes; and what else the text says: where the binary
//! log stood, and whether it came to its end.
//!
//! The hash of a table is the sum, modulo 2¹²⁸, of XXH3-128 of the text of each row between its parentheses. The same
//! program gives the same text for the same row, in whatever order and in however many statements.

use std::borrow::Cow;
use std::collections::BTreeMap;

use memchr::{memchr, memchr2};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::renamed::Renamed;

/// A line that is not rows is looked at up to here.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Where the binary log stood is said at the beginning of a dump.
const HEAD_LINES: u64 = 100;

/// What a table's rows add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) count: u64,
    pub(super) sum: u128,
}

/// Reads a dump as it comes.
pub(super) struct DumpReader {
    tables: BTreeMap<String, Rows>,
    place: Place,
    /// The beginning of a line, or the whole of the last one.
    line: Vec<u8>,
    lines: u64,
    /// Made by MySQL's own program, not by MariaDB's.
    is_of_mysql: bool,
    /// Inside of a routine, whose text may look like rows.
    is_in_routine: bool,
    table: String,
    /// The beginning of a row whose end has not come.
    partial: Option<Box<Xxh3>>,
    log: Option<(String, String)>,
    gtid: Option<String>,
    is_complete: bool,
    /// The definitions of tables, as hashes, without what the next row's number is.
    definitions: BTreeMap<String, u128>,
    /// The table whose definition is being read.
    defined: Option<(String, Box<Xxh3>)>,
    /// The bytes of the statement with rows that is being read.
    statement_bytes: u64,
    longest: Option<Longest>,
    renamed: Option<Renamed>,
}

/// The longest statement with rows: a server must take it in one piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Longest {
    pub(super) table: String,
    pub(super) bytes: u64,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Line,
    /// Between the rows of a statement.
    Rows,
    Row,
    /// In a text of a row.
    Text,
    /// Behind a backslash in it.
    Escape,
}

impl DumpReader {
    pub(super) fn new() -> Self {
        Self::of_renamed(None)
    }

    /// Of a database whose definitions are to be known by another name of it.
    pub(super) fn of_renamed(renamed: Option<Renamed>) -> Self {
        Self {
            tables: BTreeMap::new(),
            place: Place::Line,
            line: Vec::new(),
            lines: 0,
            is_of_mysql: false,
            is_in_routine: false,
            table: String::new(),
            partial: None,
            log: None,
            gtid: None,
            is_complete: false,
            definitions: BTreeMap::new(),
            defined: None,
            statement_bytes: 0,
            longest: None,
            renamed,
        }
    }

    /// The tables that had rows.
    pub(super) fn tables(&self) -> &BTreeMap<String, Rows> {
        &self.tables
    }

    /// Where the binary log stood: its file and offset, and the transactions' identifiers.
    pub(super) fn position(&self) -> Option<String> {
        let log = self.log.as_ref().map(|(file, offset)| format!("{file}:{offset}"));
        let gtid = self.gtid.as_ref().filter(|gtid| !gtid.is_empty()).map(|gtid| format!("gtid {gtid}"));
        let words: Vec<_> = log.into_iter().chain(gtid).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// The hash of a table's definition, if that has passed.
    pub(super) fn definition(&self, table: &str) -> Option<u128> {
        self.definitions.get(table).copied()
    }

    /// The longest statement with rows, if there was one.
    pub(super) fn longest(&self) -> Option<&Longest> {
        self.longest.as_ref()
    }

    /// Whether the last line was the one that a dump ends with.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete || is_last(&self.line)
    }

    /// Reads on.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let before = bytes.len();
            bytes = match self.place {
                Place::Line => {
                    bytes = self.in_line(bytes);
                    continue;
                }
                Place::Rows => self.between_rows(bytes),
                Place::Row | Place::Text | Place::Escape => self.in_row(bytes),
            };
            self.statement_bytes += (before - bytes.len()) as u64;
            if self.place == Place::Line && self.longest.as_ref().is_none_or(|one| one.bytes < self.statement_bytes) {
                self.longest = Some(Longest { table: self.table.clone(), bytes: self.statement_bytes });
            }
        }
    }

    fn in_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        // Rows begin in the middle of a line, which may go on for a megabyte: the line is looked at as soon as it is
        // known to hold them.
        let end = memchr(b'\n', bytes);
        let taken = end.unwrap_or(bytes.len());
        let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
        let before = self.line.len();
        self.line.extend_from_slice(&bytes[..taken.min(room)]);
        if !self.is_in_routine
            && let Some((table, length)) = rows_of(&self.line)
        {
            self.table = table;
            self.place = Place::Rows;
            self.line.clear();
            self.statement_bytes = length as u64;
            // What the line had before belonged to no row: the words were not complete.
            return &bytes[length.saturating_sub(before)..];
        }
        match end {
            None => &[],
            Some(end) => {
                self.end_line();
                &bytes[end + 1..]
            }
        }
    }

    fn end_line(&mut self) {
        self.lines += 1;
        let line = std::mem::take(&mut self.line);
        if let Some(delimiter) = line.strip_prefix(b"DELIMITER ") {
            self.is_in_routine = delimiter.trim_ascii() != b";";
        } else if line.starts_with(b"-- ")
            && let Ok(text) = str::from_utf8(&line)
        {
            // MASTER_LOG_FILE in one flavour, SOURCE_LOG_FILE in the other.
            if self.lines < HEAD_LINES
                && let (Some(file), Some(offset)) = (quoted_after(text, "_LOG_FILE="), number_after(text, "_LOG_POS="))
            {
                self.log = Some((file, offset));
            }
            // MariaDB's said the same of itself once, and named itself behind it.
            if self.lines < HEAD_LINES && text.starts_with("-- MySQL dump ") {
                self.is_of_mysql = !text.contains("MariaDB");
            }
            // At the end of a dump.
            if text.starts_with("-- SET GLOBAL gtid_slave_pos=") {
                self.gtid = quoted_after(text, "gtid_slave_pos=");
            }
        }
        if !self.is_in_routine {
            self.define(&line);
        }
        if !line.trim_ascii().is_empty() {
            self.is_complete = is_last(&line);
        }
    }

    /// Takes a line of `CREATE TABLE`, from that to the semicolon.
    fn define(&mut self, line: &[u8]) {
        let renamed = match &mut self.renamed {
            // It was cut off.
            Some(renamed) if line.len() >= LINE_BYTES_MAX => {
                renamed.give_up();
                Cow::Borrowed(line)
            }
            Some(renamed) => {
                let of_line = renamed.line(line);
                renamed.line(b"\n");
                of_line
            }
            None => Cow::Borrowed(line),
        };
        let line = &*renamed;
        if let Some(name) = line.strip_prefix(b"CREATE TABLE `").and_then(name_of) {
            self.defined = Some((String::from_utf8_lossy(&name.0).into_owned(), Box::new(Xxh3::new())));
        }
        let Some((_, hash)) = &mut self.defined else { return };
        let line = if self.is_of_mysql { without_named_set(line) } else { line.into() };
        let (before, after) = if line.starts_with(b")") { without_next_number(&line) } else { (&*line, &b""[..]) };
        [before, after, b"\n"].iter().for_each(|part| hash.update(part));
        if line.trim_ascii_end().ends_with(b";")
            && let Some((name, hash)) = self.defined.take()
        {
            self.definitions.insert(name, hash.digest128());
        }
    }

    fn between_rows<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'(' => {
                    self.place = Place::Row;
                    return &bytes[at + 1..];
                }
                b';' => {
                    self.place = Place::Line;
                    return &bytes[at + 1..];
                }
                _ => {}
            }
        }
        &[]
    }

    fn in_row<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut at = 0;
        let end = loop {
            let rest = &bytes[at..];
            if self.place == Place::Escape {
                if rest.is_empty() {
                    break None;
                }
                self.place = Place::Text;
                at += 1;
                continue;
            }
            let found = match self.place {
                Place::Text => memchr2(b'\'', b'\\', rest),
                _ => memchr2(b'\'', b')', rest),
            };
            let Some(found) = found else { break None };
            at += found + 1;
            self.place = match (self.place, rest[found]) {
                (Place::Text, b'\\') => Place::Escape,
                (Place::Text, _) => Place::Row,
                (_, b'\'') => Place::Text,
                _ => break Some(at - 1),
            };
        };
        let Some(end) = end else {
            self.partial.get_or_insert_with(|| Box::new(Xxh3::new())).update(bytes);
            return &[];
        };
        let (row, rest) = (&bytes[..end], &bytes[end + 1..]);
        let hash = match self.partial.take() {
            None => xxh3_128(row),
            Some(mut partial) => {
                partial.update(row);
                partial.digest128()
            }
        };
        // Once a row; a look-up by a borrowed name costs no more than the hash.
        match self.tables.get_mut(&self.table) {
            Some(rows) => rows.add(hash),
            None => self.tables.entry(self.table.clone()).or_default().add(hash),
        }
        self.place = Place::Rows;
        rest
    }
}

impl Rows {
    fn add(&mut self, hash: u128) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(hash);
    }
}

/// Whether a line is the one that a dump ends with.
pub(super) fn is_last(line: &[u8]) -> bool {
    line.starts_with(b"-- Dump completed")
}

/// The table that a line puts rows into, and the length of what stands before them.
pub(super) fn rows_of(line: &[u8]) -> Option<(String, usize)> {
    let rest = line.strip_prefix(b"INSERT INTO `")?;
    let (name, mut at) = name_of(rest)?;
    // The columns may be named, where some are generated.
    let mut is_in_name = false;
    let values = loop {
        match rest.get(at)? {
            b'`' => is_in_name = !is_in_name,
            b'V' if !is_in_name => break rest.get(at..at + 6)?,
            _ => {}
        }
        at += 1;
    };
    (values == b"VALUES").then(|| (String::from_utf8_lossy(&name).into_owned(), line.len() - rest.len() + at + 6))
}

/// The name that `rest` begins with, behind its first backtick, and where it ends.
fn name_of(rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut name, mut at) = (Vec::new(), 0);
    loop {
        let end = at + memchr(b'`', &rest[at..])?;
        name.extend_from_slice(&rest[at..end]);
        match rest.get(end + 1)? {
            // A backtick in a name is doubled.
            b'`' => {
                name.push(b'`');
                at = end + 2;
            }
            _ => return Some((name, end + 1)),
        }
    }
}

/// The last line of a definition before and after the number that the next row will have.
fn without_next_number(line: &[u8]) -> (&[u8], &[u8]) {
    const WORDS: &[u8] = b" AUTO_INCREMENT=";
    let Some(at) = memchr::memmem::find(line, WORDS) else { return (line, b"") };
    let rest = &line[at + WORDS.len()..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (&line[..at], &rest[digits..])
}

/// A line of a definition without the character sets that stand before a collation, whose name says them too: MySQL
/// leaves them out of a table that named none, and says them once that table was dumped and restored.
fn without_named_set(line: &[u8]) -> Cow<'_, [u8]> {
    const SET: &[u8] = b" CHARACTER SET ";
    const COLLATE: &[u8] = b" COLLATE ";
    let (mut kept, mut rest) = (Vec::new(), line);
    while let Some(at) = memchr::memmem::find(rest, SET) {
        let behind = &rest[at + SET.len()..];
        let name = behind.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        let end = if behind[name..].starts_with(COLLATE) { at } else { at + SET.len() + name };
        kept.extend_from_slice(&rest[..end]);
        rest = &behind[name..];
    }
    if rest.len() == line.len() {
        return line.into();
    }
    kept.extend_from_slice(rest);
    kept.into()
}

fn quoted_after(text: &str, words: &str) -> Option<String> {
    let (_, rest) = text.split_once(words)?;
    Some(rest.strip_prefix('\'')?.split('\'').next()?.to_owned())
}

fn number_after(text: &str, words: &str) -> Option<String> {
    let (_, rest) = text.split_once(words)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (!digits.is_empty()).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = r"-- MariaDB dump 10.19
-- Host: localhost    Database: app
-- CHANGE MASTER TO MASTER_LOG_FILE='binlog.000003', MASTER_LOG_POS=342;

CREATE TABLE `a` (
  `x` int
);
INSERT INTO `a` VALUES (1,'it''s (one)'),(2,'a \') b\\'),
(3,NULL);
INSERT INTO `a` VALUES (4,'multi
line;');
INSERT INTO `odd ``name` (`VALUES`, `b`) VALUES (0xFF,_binary 'x'),(1.5e10,'');
DELIMITER ;;
CREATE PROCEDURE p() BEGIN
INSERT INTO `a` VALUES (9,'not a row');
END ;;
DELIMITER ;
INSERT INTO `b` VALUES (1,'it''s (one)');
-- SET GLOBAL gtid_slave_pos='0-1-17';
-- Dump completed on 2026-01-01
";

    fn read(portions: impl Iterator<Item = Vec<u8>>) -> DumpReader {
        let mut reader = DumpReader::new();
        portions.for_each(|portion| reader.feed(&portion));
        reader
    }

    #[test]
    fn rows_are_counted_wherever_the_text_is_cut() {
        let whole = read([DUMP.as_bytes().to_vec()].into_iter());
        let counts: Vec<_> = whole.tables().iter().map(|(name, rows)| (name.as_str(), rows.count)).collect();
        assert_eq!(counts, [("a", 4), ("b", 1), ("odd `name", 2)]);
        assert_eq!(whole.position().as_deref(), Some("binlog.000003:342, gtid 0-1-17"));
        assert!(whole.is_complete());
        let longest = "INSERT INTO `odd ``name` (`VALUES`, `b`) VALUES (0xFF,_binary 'x'),(1.5e10,'');".len() as u64;
        assert_eq!(whole.longest(), Some(&Longest { table: "odd `name".into(), bytes: longest }));
        let again = [
            xxh3_128(b"1,'it''s (one)'"),
            xxh3_128(br"2,'a \') b\\'"),
            xxh3_128(b"3,NULL"),
            xxh3_128(b"4,'multi\nline;'"),
        ];
        assert_eq!(whole.tables()["a"].sum, again.iter().fold(0, |sum: u128, hash| sum.wrapping_add(*hash)));
        for length in [1, 2, 3, 7, 20] {
            let parts = read(DUMP.as_bytes().chunks(length).map(<[u8]>::to_vec));
            assert_eq!(parts.tables(), whole.tables(), "in portions of {length}");
            assert_eq!(parts.longest(), whole.longest(), "in portions of {length}");
            assert!(parts.is_complete());
        }
    }

    #[test]
    fn a_definition_is_the_same_whatever_number_comes_next() {
        let of = |text: &str| read([text.as_bytes().to_vec()].into_iter()).definition("a `b");
        let one = "CREATE TABLE `a ``b` (\n  `x` int\n) ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=utf8mb4;\n";
        assert!(of(one).is_some());
        assert_eq!(of(one), of(&one.replace(" AUTO_INCREMENT=7", "")));
        assert_ne!(of(one), of(&one.replace("`x` int", "`x` int DEFAULT 7")));
        assert_ne!(of(one), of(&one.replace("utf8mb4", "latin1")));
    }

    #[test]
    fn mysql_may_name_the_character_set_of_a_collation_or_not() {
        let of = |head: &str, column: &str| {
            let text = format!("{head}\nCREATE TABLE `t` (\n  `x` text{column} NOT NULL\n);\n");
            read([text.into_bytes()].into_iter()).definition("t").unwrap()
        };
        let mysql = "-- MySQL dump 10.13  Distrib 9.7.4, for Linux (x86_64)";
        let (named, not) = (" CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", " COLLATE utf8mb4_bin");
        assert_eq!(of(mysql, named), of(mysql, not));
        assert_ne!(of(mysql, named), of(mysql, " CHARACTER SET latin1 COLLATE latin1_bin"));
        assert_ne!(of(mysql, " CHARACTER SET latin1"), of(mysql, " CHARACTER SET utf8mb4"));
        // What MariaDB writes comes back as it was, and was hashed as it is.
        for mariadb in ["-- MariaDB dump 10.19", "-- MySQL dump 10.16  Distrib 10.1.48-MariaDB"] {
            assert_ne!(of(mariadb, named), of(mariadb, not));
        }
    }

    #[test]
    fn the_order_of_rows_and_their_statements_do_not_matter() {
        let one = read([b"INSERT INTO `t` VALUES (1),(2),(3);\n".to_vec()].into_iter());
        let other = read([b"INSERT INTO `t` VALUES (3);\nINSERT INTO `t` VALUES\n(2),\n(1);\n".to_vec()].into_iter());
        assert_eq!(one.tables(), other.tables());
        let doubled = read([b"INSERT INTO `t` VALUES (1),(1);\n".to_vec()].into_iter());
        assert_ne!(doubled.tables()["t"].sum, 0);
    }

    #[test]
    fn a_dump_without_its_last_line_is_not_complete() {
        for end in 0..DUMP.len() - "Dump completed on 2026-01-01\n".len() {
            assert!(!read([DUMP.as_bytes()[..end].to_vec()].into_iter()).is_complete(), "{end}");
        }
        assert!(!read([[DUMP.as_bytes(), b"ERROR"].concat()].into_iter()).tables().is_empty());
        assert!(!read([[DUMP.as_bytes(), b"INSERT more\n"].concat()].into_iter()).is_complete());
    }
}
