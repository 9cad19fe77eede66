//! Statements with rows, joined into longer ones on their way into a server.
//!
//! A dump has short ones, so that a change of its data moves few of their ends; a client waits for the server's answer to
//! each, which over a network takes longer than the rows (`docs/decisions/mysql.md`). What is always true: the rows, their
//! order and all other text are as they were, but for what [`Renamed`] names, and only a statement whose next one says the same
//! before its rows is joined with it. Used by the target.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::renamed::Renamed;
use super::rows::rows_of;

/// A line of which nothing is known after this much is no beginning of rows.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Joins the statements of a dump as it comes.
#[derive(Debug)]
pub(super) struct Joined {
    /// A statement that has become this long is joined with no more.
    bytes_max: usize,
    place: Place,
    /// The beginning of a line that has not been passed on.
    line: Vec<u8>,
    /// What the statement began with whose rows are passing, or have passed last.
    head: Vec<u8>,
    /// Its bytes.
    bytes: usize,
    /// Its end, while it is not known whether the next one continues it.
    end: Vec<u8>,
    /// Inside of what may look like rows and is none.
    inside: Inside,
    renamed: Option<Renamed>,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The beginning of a line.
    Line,
    /// The rest of a long one.
    Rest,
    Rows,
    /// In a text of a row.
    Text,
    /// Behind a backslash in it.
    Escape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Nothing,
    Routine,
    /// The columns of a table.
    Columns,
    /// What stands behind them, up to the semicolon.
    Options,
}

impl Joined {
    pub(super) fn new(bytes_max: usize, renamed: Option<Renamed>) -> Self {
        let (line, head, end) = (Vec::new(), Vec::new(), Vec::new());
        Self { bytes_max, place: Place::Line, line, head, bytes: 0, end, inside: Inside::Nothing, renamed }
    }

    /// Reads on, and appends to `out` what can be passed on.
    pub(super) fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            bytes = match self.place {
                Place::Line => self.in_line(bytes, out),
                Place::Rest => self.in_rest(bytes, out),
                Place::Rows | Place::Text | Place::Escape => self.in_rows(bytes, out),
            };
        }
    }

    /// Appends what was held back: nothing more comes.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.end);
        out.append(&mut self.line);
    }

    fn in_line<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let end = memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1);
        let before = self.line.len();
        self.line.extend_from_slice(&bytes[..end.min(LINE_BYTES_MAX)]);
        if self.inside == Inside::Nothing
            && let Some((_, length)) = rows_of(&self.line)
        {
            self.begin_rows(length, out);
            // What the line had before belonged to no row: the words were not complete.
            return &bytes[length - before..];
        }
        if self.line.ends_with(b"\n") {
            self.end_line(out);
        } else if self.line.len() >= LINE_BYTES_MAX {
            self.renamed.iter_mut().for_each(Renamed::give_up);
            out.append(&mut self.end);
            out.append(&mut self.line);
            self.place = Place::Rest;
        }
        &bytes[end.min(LINE_BYTES_MAX)..]
    }

    /// The line has all that stands before rows.
    fn begin_rows(&mut self, length: usize, out: &mut Vec<u8>) {
        let head = &self.line[..length];
        if !self.end.is_empty() && head == self.head && self.bytes < self.bytes_max {
            self.end.clear();
            out.push(b',');
        } else {
            out.append(&mut self.end);
            out.extend_from_slice(head);
            self.head.clear();
            self.head.extend_from_slice(head);
            self.bytes = length;
        }
        self.line.clear();
        self.place = Place::Rows;
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        // The line break behind a statement's semicolon.
        if self.line == b"\n" && self.end == b";" {
            self.end.append(&mut self.line);
            return;
        }
        if let Some(delimiter) = self.line.strip_prefix(b"DELIMITER ") {
            self.inside = if delimiter.trim_ascii() == b";" { Inside::Nothing } else { Inside::Routine };
        } else if self.inside != Inside::Routine {
            if self.line.starts_with(b"CREATE TABLE ") {
                self.inside = Inside::Columns;
            } else if self.inside == Inside::Columns && self.line.starts_with(b")") {
                self.inside = Inside::Options;
            }
            if self.inside == Inside::Options && self.line.trim_ascii_end().ends_with(b";") {
                self.inside = Inside::Nothing;
            }
        }
        if self.inside != Inside::Routine
            && let Some(renamed) = &mut self.renamed
            && let Cow::Owned(line) = renamed.line(&self.line)
        {
            self.line = line;
        }
        out.append(&mut self.end);
        out.append(&mut self.line);
    }

    fn in_rest<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let end = memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1);
        let (rest, after) = bytes.split_at(end);
        out.extend_from_slice(rest);
        if rest.ends_with(b"\n") {
            if self.inside == Inside::Options && rest.trim_ascii_end().ends_with(b";") {
                self.inside = Inside::Nothing;
            }
            self.place = Place::Line;
        }
        after
    }

    fn in_rows<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let mut at = 0;
        while at < bytes.len() {
            if self.place == Place::Escape {
                self.place = Place::Text;
                at += 1;
                continue;
            }
            let rest = &bytes[at..];
            let found = match self.place {
                Place::Text => memchr2(b'\'', b'\\', rest),
                _ => memchr2(b'\'', b';', rest),
            };
            let Some(found) = found else { break };
            at += found + 1;
            self.place = match (self.place, rest[found]) {
                (Place::Text, b'\\') => Place::Escape,
                (Place::Text, _) => Place::Rows,
                (_, b'\'') => Place::Text,
                _ => {
                    out.extend_from_slice(&bytes[..at - 1]);
                    self.bytes += at;
                    self.end.push(b';');
                    self.place = Place::Line;
                    return &bytes[at..];
                }
            };
        }
        out.extend_from_slice(bytes);
        self.bytes += bytes.len();
        &[]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::databases::mysql::rows::DumpReader;

    fn joined(bytes_max: usize, portions: &[&[u8]]) -> String {
        let (mut joined, mut out) = (Joined::new(bytes_max, Renamed::new("app", "new")), Vec::new());
        portions.iter().for_each(|portion| joined.feed(portion, &mut out));
        joined.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn counted(dump: &str) -> Vec<(String, u64, u128)> {
        let mut reader = DumpReader::new();
        reader.feed(dump.as_bytes());
        reader.tables().iter().map(|(table, rows)| (table.clone(), rows.count, rows.sum)).collect()
    }

    const OF_MARIADB: &str = "CREATE TABLE `t` (\n  `a` text CHECK (`a` <> 'INSERT INTO `t` VALUES (9);\nINSERT INTO `t` VALUES\n')\n) ENGINE=InnoDB;\n\
        INSERT INTO `t` VALUES\n(1,'a;b'),\n(2,'it\\'s');\nINSERT INTO `t` VALUES\n(3,'c'''),\n(4,NULL);\nINSERT INTO `t` VALUES\n(5,'\\\\');\n\
        UNLOCK TABLES;\nINSERT INTO `t` VALUES\n(6,'after something else');\nINSERT INTO `u` (`a`) VALUES\n(1);\n\
        INSERT INTO `u` (`b`) VALUES\n(1);\nDELIMITER ;;\nCREATE PROCEDURE p() BEGIN\nINSERT INTO `t` VALUES\n(7,'x');\n\
        INSERT INTO `t` VALUES\n(8,'y');\nEND ;;\nDELIMITER ;\n-- Dump completed\n";

    #[test]
    fn neighbours_that_begin_alike_are_joined_and_all_else_is_as_it_was() {
        let expected = OF_MARIADB.replacen("(2,'it\\'s');\nINSERT INTO `t` VALUES\n", "(2,'it\\'s'),\n", 1);
        let expected = expected.replacen("(4,NULL);\nINSERT INTO `t` VALUES\n", "(4,NULL),\n", 1);
        assert_eq!(joined(1_000, &[OF_MARIADB.as_bytes()]), expected);
        let of_mysql = "INSERT INTO `t` VALUES (1,'a'),(2,'b');\nINSERT INTO `t` VALUES (3,'c');\n";
        assert_eq!(joined(1_000, &[of_mysql.as_bytes()]), "INSERT INTO `t` VALUES (1,'a'),(2,'b'), (3,'c');\n");
    }

    #[test]
    fn a_statement_that_is_long_enough_is_joined_with_no_more() {
        let dump = "INSERT INTO `t` VALUES (1);\n".repeat(10);
        assert_eq!(joined(0, &[dump.as_bytes()]), dump);
        assert_eq!(joined(28, &[dump.as_bytes()]), "INSERT INTO `t` VALUES (1), (1);\n".repeat(5));
    }

    #[test]
    fn a_sequence_is_named_by_the_new_database_and_rows_and_routines_stay() {
        let dump = "CREATE TABLE `t` (\n  `a` int DEFAULT nextval(`app`.`s`)\n);\nINSERT INTO `t` VALUES\n('nextval(`app`.`s`)');\n\
            DELIMITER ;;\nCREATE TABLE `u` (a int DEFAULT nextval(`app`.`s`));\n;;\nDELIMITER ;\n";
        let expected = dump.replacen("`app`", "`new`", 1);
        for bytes in [1, 7, dump.len()] {
            assert_eq!(joined(1_000, &dump.as_bytes().chunks(bytes).collect::<Vec<_>>()), expected, "{bytes}");
        }
    }

    #[test]
    fn a_long_line_and_an_end_in_the_middle_pass() {
        let long =
            format!("/*{}*/;\nINSERT INTO `t` VALUES (1);\nINSERT INTO `t` VALUES (2);\nINSERT", "x".repeat(200_000));
        assert_eq!(joined(1_000, &[long.as_bytes()]), long.replacen(";\nINSERT INTO `t` VALUES (2)", ", (2)", 1));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_dump_comes(cuts in prop::collection::vec(0..OF_MARIADB.len(), 0..20), bytes_max in 0_usize..200) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let bounds: Vec<usize> = [0].into_iter().chain(cuts).chain([OF_MARIADB.len()]).collect();
            let portions: Vec<&[u8]> = bounds.windows(2).map(|pair| &OF_MARIADB.as_bytes()[pair[0]..pair[1]]).collect();
            let whole = joined(bytes_max, &[OF_MARIADB.as_bytes()]);
            prop_assert_eq!(joined(bytes_max, &portions), whole);
        }

        #[test]
        fn the_rows_are_the_same(texts in prop::collection::vec("[a-z';\\\\()\n`]{0,12}", 0..40), bytes_max in 0_usize..300) {
            let row = |(number, text): (usize, &String)| {
                let text = text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n");
                format!("INSERT INTO `t{}` VALUES\n({number},'{text}');\n", number % 7 / 5)
            };
            let dump: String = texts.iter().enumerate().map(row).collect();
            let joined = joined(bytes_max, &[dump.as_bytes()]);
            prop_assert_eq!(counted(&joined), counted(&dump));
            prop_assert!(joined.len() <= dump.len());
        }
    }
}
