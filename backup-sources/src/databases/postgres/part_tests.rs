//! What is chosen of a dump with a little of everything.

use super::*;

/// Numbers are those of the entries.
fn dump() -> Contents {
    let mut contents = Contents::new((1, 14));
    let made: [(i32, &str, &str, &str, &[i32]); 29] = [
        (1, "SCHEMA", "", "s", &[]),
        (2, "TYPE", "s", "mood", &[1]),
        (3, "FUNCTION", "public", "note()", &[]),
        (4, "TABLE", "s", "t", &[1, 2]),
        (5, "ACL", "s", "TABLE t", &[4]),
        (6, "SEQUENCE", "s", "t_id_seq", &[4]),
        (7, "SEQUENCE OWNED BY", "s", "t_id_seq", &[6]),
        (8, "TABLE", "public", "other", &[2]),
        (9, "VIEW", "public", "v", &[4]),
        (10, "TABLE", "public", "whole", &[]),
        (11, "TABLE", "public", "whole_1", &[10]),
        (12, "TABLE", "public", "heir", &[10]),
        (13, "TABLE ATTACH", "public", "whole_1", &[11, 10]),
        (14, "DEFAULT", "s", "t id", &[6, 4]),
        (15, "TABLE DATA", "s", "t", &[4]),
        (16, "TABLE DATA", "public", "other", &[8]),
        (17, "TABLE DATA", "public", "whole_1", &[11]),
        (18, "SEQUENCE SET", "s", "t_id_seq", &[6]),
        (19, "CONSTRAINT", "s", "t t_pkey", &[4]),
        (20, "CONSTRAINT", "public", "other other_pkey", &[8]),
        (21, "INDEX", "public", "whole_i", &[10]),
        (22, "INDEX", "public", "whole_1_i", &[21, 11]),
        (23, "INDEX ATTACH", "public", "whole_1_i", &[22, 21, 11, 10]),
        (24, "TRIGGER", "s", "t notes", &[4, 3]),
        (25, "FK CONSTRAINT", "s", "t t_other_fkey", &[20, 4, 8]),
        (26, "COMMENT", "s", "CONSTRAINT t_other_fkey ON t", &[25]),
        (27, "FK CONSTRAINT", "public", "other other_t_fkey", &[19, 8, 4]),
        (28, "INDEX", "public", "other_mood", &[8, 2]),
        (29, "SEQUENCE", "public", "alone", &[]),
    ];
    for (number, kind, schema, name, needs) in made {
        contents.push(Entry::made(number, kind, schema, name, needs), 0);
    }
    contents
}

/// What is chosen for a database that has the entries of these numbers, and what is told.
fn chosen(schemas: &[&str], tables: &[&str], there: &[i32]) -> (Vec<i32>, Vec<String>) {
    let owned = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
    let contents = dump();
    let part = Part::find(&contents, &owned(schemas), &owned(tables)).unwrap();
    part.complete(&mut |entry| Ok(Some(there.contains(&entry.number)))).unwrap()
}

#[test]
fn a_table_comes_with_all_that_is_its_own() {
    let own = [4, 5, 6, 7, 14, 15, 18, 19, 24, 25, 26];
    // Beside the rest of its database.
    assert_eq!(chosen(&[], &["t"], &[1, 2, 3, 8, 20]), (own.to_vec(), vec![]));
    assert_eq!(chosen(&["s"], &["t"], &[1, 2, 3, 8, 20]).0, own);
    assert_eq!(chosen(&[], &["s.t"], &[1, 2, 3, 8, 20]).0, own);
}

#[test]
fn what_a_table_needs_is_brought_and_other_tables_are_not() {
    let (numbers, told) = chosen(&[], &["t"], &[]);
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 14, 15, 18, 19, 24]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("fk constraint s.\"t t_other_fkey\" is left out"), "{told:?}");
}

#[test]
fn a_table_comes_with_its_partitions_and_a_partition_goes_back_into_its_table() {
    assert_eq!(chosen(&[], &["whole"], &[]), (vec![10, 11, 13, 17, 21, 22, 23], vec![]));
    assert_eq!(chosen(&[], &["whole_1"], &[10, 21]), (vec![11, 17, 22, 13, 23], vec![]));
    let (numbers, told) = chosen(&[], &["whole_1"], &[]);
    assert_eq!((numbers, told.len()), (vec![11, 17, 22], 1), "{told:?}");
}

#[test]
fn a_schema_is_made_where_there_is_none() {
    let inside = [2, 4, 5, 6, 7, 14, 15, 18, 19, 24, 25, 26];
    assert_eq!(chosen(&["s"], &[], &[1, 3, 8, 20]).0, inside);
    assert_eq!(chosen(&["s"], &[], &[3, 8, 20]).0, [&[1], &inside[..]].concat());
}

#[test]
fn what_the_dump_does_not_have_is_named() {
    let find = |schemas: &[&str], tables: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
        Part::find(&dump(), &owned(schemas), &owned(tables)).map(drop).unwrap_err()
    };
    assert_eq!(find(&["nowhere"], &[]), Missing::Schema(0));
    assert_eq!((find(&[], &["t", "u"]), find(&["public"], &["t"])), (Missing::Table(1), Missing::Table(0)));
}
