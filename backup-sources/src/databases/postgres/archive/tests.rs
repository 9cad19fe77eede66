//! Archives that are made here, byte by byte, and everything that can be wrong with one.

use proptest::prelude::*;

use super::*;

/// Writes an archive as pg_dump does.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    version: (u8, u8),
}

/// An entry: its number, whether it has data, its kind, schema, name, definition and COPY statement.
type Made<'a> = (i32, bool, &'a str, &'a str, &'a str, &'a str, &'a str);

impl Archive {
    fn new(version: (u8, u8), second: i32, entries: &[Made<'_>]) -> Self {
        let mut archive = Self { bytes: b"PGDMP".to_vec(), version };
        archive.bytes.extend([version.0, version.1, 0, 4, 8, 1]);
        match version >= SHORT_COMPRESSION {
            true => archive.bytes.push(0),
            false => archive.integer(0),
        }
        for part in [second, 30, 12, 22, 10, 126, 0] {
            archive.integer(part);
        }
        for text in ["app", "15.18", "15.18"] {
            archive.text(Some(text));
        }
        archive.integer(i32::try_from(entries.len()).unwrap());
        for (number, has_data, kind, schema, name, definition, copy) in entries {
            archive.integer(*number);
            archive.integer((*has_data).into());
            for text in ["1259", "16384", name, kind] {
                archive.text(Some(text));
            }
            archive.integer(3);
            for text in [definition, "", copy, schema, "", "heap"] {
                archive.text(Some(text));
            }
            if version >= (1, 16) {
                archive.integer(114);
            }
            for text in [Some("owner"), Some("false"), Some("1"), Some("2"), None] {
                archive.text(text);
            }
            archive.bytes.extend([1; PLACE_BYTES]);
        }
        archive
    }

    fn integer(&mut self, value: i32) {
        self.bytes.push(value.is_negative().into());
        self.bytes.extend(value.unsigned_abs().to_le_bytes());
    }

    fn text(&mut self, text: Option<&str>) {
        self.integer(text.map_or(-1, |text| i32::try_from(text.len()).unwrap()));
        self.bytes.extend(text.unwrap_or_default().bytes());
    }

    fn table(mut self, number: i32, lines: &[&str]) -> Self {
        self.bytes.push(1);
        self.integer(number);
        for line in lines.iter().chain(&["\\.\n\n\n"]) {
            self.text(Some(line));
        }
        self.integer(0);
        self
    }

    fn objects(mut self, number: i32, objects: &[(i32, &[&str])]) -> Self {
        self.bytes.push(3);
        self.integer(number);
        for (object, pieces) in objects {
            self.integer(*object);
            pieces.iter().for_each(|piece| self.text(Some(piece)));
            self.integer(0);
        }
        self.integer(0);
        self
    }
}

/// A table of contents of the directory format, all of whose entries have data: their numbers, kinds, schemas, names, COPY
/// statements and files.
pub(in crate::databases::postgres) fn toc(entries: &[(i32, &str, &str, &str, &str, &str)]) -> Vec<u8> {
    let mut whole = Archive::new((1, 14), 5, &[]);
    whole.bytes[10] = Layout::Directory.number();
    whole.bytes.truncate(whole.bytes.len() - 5);
    whole.integer(i32::try_from(entries.len()).unwrap());
    for (number, kind, schema, name, copy, file) in entries {
        let mut one = Archive::new((1, 14), 5, &[(*number, true, kind, schema, name, "", copy)]);
        // The entry is what the other one does not have, without the place at its end.
        one.bytes.truncate(one.bytes.len() - PLACE_BYTES);
        one.text(Some(file));
        let head = Archive::new((1, 14), 5, &[]).bytes.len();
        whole.bytes.extend(&one.bytes[head..]);
    }
    whole.bytes
}

/// A dump in one file: a table that inherits, its parent, and large objects.
pub(in crate::databases::postgres) fn dump(version: (u8, u8)) -> Vec<u8> {
    archive(version).bytes
}

const ENTRIES: [Made<'static>; 7] = [
    (1, false, "ENCODING", "", "ENCODING", "SET client_encoding = 'UTF8';", ""),
    (2, false, "TABLE", "public", "t", "CREATE TABLE public.t (a integer, b text);", ""),
    (3, false, "TABLE", "Odd", "h", "CREATE TABLE \"Odd\".h (b text)\nINHERITS (public.t);", ""),
    (4, true, "TABLE DATA", "public", "t", "", "COPY public.t (a, b) FROM stdin;\n"),
    (5, true, "TABLE DATA", "Odd", "h", "", "COPY \"Odd\".h (b, a) FROM stdin;\n"),
    (6, true, "BLOBS", "", "BLOBS", "", ""),
    (7, false, "SEQUENCE SET", "public", "s", "SELECT pg_catalog.setval('public.s', 5, true);\n", ""),
];

fn archive(version: (u8, u8)) -> Archive {
    Archive::new(version, 5, &ENTRIES)
        .table(4, &["1\tx\n", "2\ty\n3", "\tz\n"])
        .table(5, &["x\t1\n"])
        .objects(6, &[(16_400, &["abc", "def"]), (-5, &[])])
}

fn read(bytes: &[u8], piece: usize) -> Result<Found, ArchiveError> {
    let mut inspector = Inspector::new(Layout::OneFile);
    for piece in bytes.chunks(piece) {
        inspector.look(piece)?;
    }
    inspector.finish()
}

#[test]
fn every_version_is_understood_in_pieces_of_any_length() {
    for version in [(1, 14), (1, 15), (1, 16)] {
        let made = archive(version);
        assert_eq!(made.version, version);
        let whole = read(&made.bytes, usize::MAX).unwrap();
        assert!(whole.is_understood);
        let objects: Vec<_> =
            whole.expectations.iter().map(|e| (e.kind.as_str(), e.object.as_str(), e.count)).collect();
        assert_eq!(
            objects,
            [
                ("large objects", "all", Some(2)),
                ("sequence set", "public.s", None),
                ("table", "\"Odd\".h", None),
                ("table", "public.t", None),
                ("table data", "\"Odd\".h", Some(1)),
                ("table data", "public.t", Some(3)),
            ]
        );
        for piece in 1..40 {
            let again = read(&made.bytes, piece).unwrap();
            assert_eq!(
                (again.expectations, again.blocks),
                (whole.expectations.clone(), whole.blocks.clone()),
                "{piece}"
            );
        }
    }
}

#[test]
fn an_archive_that_is_cut_off_anywhere_is_no_archive() {
    let made = archive((1, 14));
    for length in 0..made.bytes.len() {
        let found = read(&made.bytes[..length], 64);
        assert!(found.is_err(), "{length} of {} bytes", made.bytes.len());
    }
}

#[test]
fn data_that_did_not_come_is_missed_by_name() {
    let without = Archive::new((1, 15), 5, &ENTRIES).table(4, &[]).objects(6, &[]);
    assert_eq!(read(&without.bytes, 100).unwrap_err(), ArchiveError::Missing("\"Odd\".h".to_owned()));
    let without = Archive::new((1, 15), 5, &ENTRIES).table(4, &[]).table(5, &[]);
    assert!(matches!(read(&without.bytes, 100).unwrap_err(), ArchiveError::Missing(_)));
}

#[test]
fn the_columns_of_an_heir_may_be_in_another_order() {
    let with = |copy, line| {
        let mut entries = ENTRIES;
        entries[4].6 = copy;
        let made = Archive::new((1, 16), 5, &entries).table(4, &[]).table(5, &[line]).objects(6, &[]);
        read(&made.bytes, 50).unwrap().expectations
    };
    let one = with("COPY \"Odd\".h (b, \"a, b\", c) FROM stdin;\n", "x\t1\t2\n");
    assert_eq!(one, with("COPY \"Odd\".h (c, b, \"a, b\") FROM stdin;\n", "2\tx\t1\n"));
    assert_ne!(one, with("COPY \"Odd\".h (c, b, \"a, b\") FROM stdin;\n", "2\t1\tx\n"));
}

#[test]
fn the_places_of_data_are_known() {
    let made = archive((1, 15));
    let found = read(&made.bytes, 7).unwrap();
    assert_eq!(found.blocks.len(), 3);
    for (block, number) in found.blocks.iter().zip([4_u8, 5, 6]) {
        let at = usize::try_from(block.begins).unwrap();
        assert_eq!(made.bytes[at + 2], number, "a block begins with its kind, and the number of its entry");
        let place = usize::try_from(block.entry_place).unwrap();
        assert_eq!(made.bytes[place..place + PLACE_BYTES], [1; PLACE_BYTES]);
        assert_eq!(block.place()[0], 2);
    }
}

#[test]
fn two_dumps_of_the_same_are_the_same_without_their_instants() {
    for version in [(1, 14), (1, 16)] {
        let [mut one, mut other] = [5, 6].map(|second| Archive::new(version, second, &ENTRIES).bytes);
        assert_ne!(one, other);
        for bytes in [&mut one, &mut other] {
            forget_instant(&mut bytes[..HEAD_BYTES], Layout::OneFile);
        }
        assert_eq!(one, other);
    }
    let mut short = b"PGDMP\x01".to_vec();
    forget_instant(&mut short, Layout::OneFile);
    assert_eq!(short, b"PGDMP\x01");
}

#[test]
fn a_version_that_is_not_known_passes_and_is_not_understood() {
    let mut bytes = archive((1, 16)).bytes;
    bytes[6] = 17;
    bytes.truncate(bytes.len() - 3);
    assert!(!read(&bytes, 10).unwrap().is_understood);
    assert_eq!(read(b"-- PostgreSQL database dump", 5).unwrap_err(), ArchiveError::NotADump);
}

proptest! {
    #[test]
    fn no_archive_makes_it_panic(at in 0_usize..1200, bytes in prop::collection::vec(any::<u8>(), 0..12), piece in 1_usize..90) {
        let mut made = archive((1, 14)).bytes;
        let at = at.min(made.len());
        let end = (at + bytes.len()).min(made.len());
        made.splice(at..end, bytes);
        let _ = read(&made, piece);
    }
}
