//! What the files of a dump are called: as mongodump calls them, so that mongorestore finds its collections.
//!
//! A name is escaped as in the query of a URL. One that is then too long for a file is cut, and ends with `%24` and a hash:
//! its real name stands in its metadata, and readers look there (mongo-tools, `mongodump/prepare.go` and
//! `mongorestore/filepath.go`).

use xxhash_rust::xxh3::xxh3_128;

/// What a file of documents ends with.
pub(super) const DOCUMENTS: &str = ".bson";

/// What a file of metadata ends with.
pub(super) const METADATA: &str = ".metadata.json";

/// An escaped name is this long at most, so that the longest ending there is (`.metadata.json.gz`) still fits.
const ESCAPED_BYTES_MAX: usize = 238;

/// What is kept of a name that is too long, before `%24` and its hash.
const KEPT_BYTES: usize = 208;

/// The collection's name as the name of a file, without its ending.
pub(super) fn escaped(collection: &str) -> String {
    let mut text = String::with_capacity(collection.len());
    for byte in collection.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => text.push(char::from(byte)),
            b' ' => text.push('+'),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    if text.len() > ESCAPED_BYTES_MAX {
        let hash = format!("{:032x}", xxh3_128(collection.as_bytes()));
        text.truncate(KEPT_BYTES);
        text.push_str("%24");
        text.push_str(&hash[..ESCAPED_BYTES_MAX - KEPT_BYTES - 3]);
    }
    text
}

/// The collection that a file's name, without its ending, stands for. `None` for one that was cut, or that is no name.
pub(super) fn unescaped(name: &str) -> Option<String> {
    if name.len() == ESCAPED_BYTES_MAX && name.contains("%24") {
        return None;
    }
    let spaced = name.replace('+', " ");
    Some(percent_encoding::percent_decode_str(&spaced).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_mongodump_does() {
        for (name, file) in [
            ("users", "users"),
            ("a b", "a+b"),
            ("a/b", "a%2Fb"),
            ("fs.chunks", "fs.chunks"),
            ("50%", "50%25"),
            ("ü+1", "%C3%BC%2B1"),
            ("..", ".."),
        ] {
            assert_eq!(escaped(name), file);
            assert_eq!(unescaped(file).as_deref(), Some(name));
        }
    }

    #[test]
    fn a_name_too_long_for_a_file_is_cut_and_still_its_own() {
        let (long, other) = ("ä".repeat(100), format!("{}b", "ä".repeat(99)));
        let (cut, cut_other) = (escaped(&long), escaped(&other));
        assert_eq!((cut.len(), cut_other.len()), (238, 238));
        assert!(cut.contains("%24") && cut != cut_other);
        assert_eq!(unescaped(&cut), None, "its metadata says what it is called");
        assert_eq!(unescaped(&escaped(&"a".repeat(238))), Some("a".repeat(238)));
    }
}
