//! What the values of an RDB file are made of, type by type: enough to find where each ends.
//!
//! After `rdb.h` and `rdb.c` of Redis 7.4, which are the format's only specification. A type that is not here cannot be
//! passed over, since nothing in the file says how long it is.

/// A part of a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// A text in one of its encodings.
    Text,
    /// A number as lengths are written.
    Number,
    /// So many bytes.
    Bytes(u8),
    /// A number as text with its length in one byte, of which the last three stand for numbers that have no digits.
    Decimal,
    /// A number, and so many times what follows.
    Many(&'static [Part]),
    /// What a module wrote: parts that say what they are, up to an end.
    Module,
}

use Part::{Bytes, Decimal, Many, Module, Number, Text};

/// The parts of a value of type `kind`; `None` for a type that is not known.
pub(super) fn shape_of(kind: u8) -> Option<&'static [Part]> {
    Some(match kind {
        // A string, and collections that are packed into one.
        0 | 9..=13 | 16 | 17 | 20 => &[Text],
        // Lists and sets.
        1 | 2 | 14 => &[Many(&[Text])],
        3 => &[Many(&[Text, Decimal])],
        4 => &[Many(&[Text, Text])],
        5 => &[Many(&[Text, Bytes(8)])],
        7 => &[Number, Module],
        15 => &[NODES, Number, Number, Number, Many(&[Text, Number, Number, PENDING, Many(&[Text, Bytes(8), IDS])])],
        18 => &[Many(&[Number, Text])],
        19 => &[
            NODES,
            Number,
            Number,
            Number,
            Number,
            Number,
            Number,
            Number,
            Number,
            Many(&[Text, Number, Number, Number, PENDING, Many(&[Text, Bytes(8), IDS])]),
        ],
        21 => &[
            NODES,
            Number,
            Number,
            Number,
            Number,
            Number,
            Number,
            Number,
            Number,
            Many(&[Text, Number, Number, Number, PENDING, Many(&[Text, Bytes(8), Bytes(8), IDS])]),
        ],
        // Hashes whose fields expire.
        24 => &[Bytes(8), Many(&[Number, Text, Text])],
        25 => &[Bytes(8), Text],
        _ => return None,
    })
}

/// A stream's entries.
const NODES: Part = Many(&[Text, Text]);

/// What a group has delivered and not heard of: identifiers with time and count.
const PENDING: Part = Many(&[Bytes(16), Bytes(8), Number]);

/// What a consumer has been given.
const IDS: Part = Many(&[Bytes(16)]);

/// What sort of value a type is, whatever its encoding: servers choose those anew.
pub(super) fn sort_of(kind: u8) -> &'static str {
    match kind {
        0 => "string",
        1 | 10 | 14 | 18 => "list",
        2 | 11 | 20 => "set",
        3 | 5 | 12 | 17 => "zset",
        4 | 9 | 13 | 16 | 24 | 25 => "hash",
        15 | 19 | 21 => "stream",
        _ => "module",
    }
}
