//! Names as a database writes them: in its own encoding, which need not be the one in which people type them here.
//!
//! What is always true: the server converts, by its own tables, from bytes to bytes, so that it does not matter which
//! database of it is asked.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use backup_core::Result;
use postgres_protocol::escape::escape_literal;

use super::connection::Connection;

/// Encodings in which a name is the bytes that were typed: UTF-8, and none.
const AS_TYPED: [&str; 2] = ["UTF8", "SQL_ASCII"];

/// The bytes of `name` in `encoding`, in PostgreSQL's word for it.
///
/// # Errors
///
/// When the encoding has no such letters: then no database in it has such a name.
pub(super) fn encoded(connection: &Connection, name: &str, encoding: &str) -> Result<Vec<u8>> {
    if name.is_ascii() || AS_TYPED.contains(&encoding) {
        return Ok(name.as_bytes().to_vec());
    }
    let encoding = escape_literal(encoding);
    let sql = format!("SELECT encode(convert(decode('{}', 'hex'), 'UTF8', {encoding}), 'hex')", hex(name.as_bytes()));
    let bytes =
        connection.value(&sql).map_err(|error| error.with_hint("look at the name, and at how it is spelled"))?;
    Ok(bytes_of(&bytes.unwrap_or_default()))
}

/// An argument for a program that takes names in the encoding of the database that `connection` is to.
///
/// # Errors
///
/// As [`encoded`].
pub(super) fn argument(connection: &Connection, option: &str, name: &str) -> Result<OsString> {
    let mut argument = format!("--{option}=").into_bytes();
    if name.is_ascii() {
        argument.extend_from_slice(name.as_bytes());
    } else {
        let encoding = connection.value("SELECT getdatabaseencoding()")?.unwrap_or_default();
        argument.extend(encoded(connection, name, &encoding)?);
    }
    Ok(OsString::from_vec(argument))
}

/// A name out of a dump in `encoding`, as SQL that stands for it in any database.
pub(super) fn literal(name: &[u8], encoding: Option<&str>) -> String {
    match (str::from_utf8(name), encoding) {
        (Ok(name), None) => escape_literal(name),
        (Ok(name), _) if name.is_ascii() => escape_literal(name),
        (_, encoding) => {
            let encoding = escape_literal(encoding.unwrap_or("SQL_ASCII"));
            format!("pg_catalog.convert_from(pg_catalog.decode('{}', 'hex'), {encoding})", hex(name))
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks_exact(2);
    pairs.filter_map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_what_their_digits_say() {
        assert_eq!((hex(b"\x00gr\xf6"), bytes_of("006772f6")), ("006772f6".to_owned(), b"\x00gr\xf6".to_vec()));
    }

    #[test]
    fn a_name_that_is_no_text_here_is_converted_by_the_server() {
        assert_eq!(literal(b"it's", Some("LATIN1")), "'it''s'");
        assert_eq!(
            literal(b"gr\xf6", Some("LATIN1")),
            "pg_catalog.convert_from(pg_catalog.decode('6772f6', 'hex'), 'LATIN1')"
        );
    }
}
