//! Why a dump failed, in words that name what to look at.

use backup_core::contracts::SourceError;
use backup_core::model::SnapshotPath;
use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::connection::Connection;
use super::programs::complaint;
use crate::program::Ended;

/// What the server says when the text of one value does not fit into its memory for one.
const TOO_LARGE: [&str; 3] =
    ["invalid memory alloc request size", "Cannot enlarge string buffer", "string buffer exceeds maximum"];

const LOCKED: &str = "somebody holds a lock on a table: try again later, or wait longer with --lock-wait";

/// What else is worth a hint: what the server says, and what to try.
const KNOWN: [(&str, &str); 12] = [
    (
        "permission denied for large object",
        "back up as a superuser, or GRANT SELECT ON LARGE OBJECT …: no role reads all of them",
    ),
    ("permission denied", "let this user read everything: GRANT pg_read_all_data TO …; no snapshot was made"),
    ("row-level security", "back up as a role with BYPASSRLS: rows that are hidden from it would be missing"),
    // pg_dump waits for locks under this name, and has switched off the timeout itself.
    ("due to statement timeout", LOCKED),
    ("due to lock timeout", LOCKED),
    // A connection of several takes its lock only if nobody waits to alter the table.
    ("could not obtain lock on relation", "somebody waits to alter a table: try again later, or without --jobs"),
    ("No space left on device", "a disk is full: the server's, or that of the folder which --spool names"),
    ("out of shared memory", "raise max_locks_per_transaction on the server: a dump locks each table"),
    ("server version mismatch", "install PostgreSQL's client programs of the server's version"),
    ("due to conflict with recovery", "on a standby: set hot_standby_feedback, or max_standby_streaming_delay higher"),
    ("server closed the connection", "look into the server's log; no snapshot was made, run it again"),
    ("no matching", "check the names after --schema and --table"),
];

/// The failure of pg_dump, which ended so. `connection` sees what it saw.
pub(super) fn of_dump(path: SnapshotPath, ended: &Ended, connection: Option<&Connection>) -> SourceError {
    let complaint = complaint(ended);
    if TOO_LARGE.iter().any(|words| ended.said.contains(words))
        && let Some((table, column, bytes)) = connection.and_then(|connection| largest_value(connection, &ended.said))
    {
        let what = format!("column {column} of {table} has a value of {bytes} bytes, whose text is over 1 GB");
        return SourceError::new("dump", path, what)
            .with_hint("pg_dump cannot write it; split the value, or leave the rows out with --exclude-table-data");
    }
    let hint = KNOWN.iter().find(|(words, _)| ended.said.contains(words)).map(|(_, hint)| *hint);
    let hint = hint.unwrap_or("no snapshot was made; look into the server's log, and run it again");
    SourceError::new("dump", path, complaint).with_hint(hint)
}

/// A dump that is not whole although pg_dump had no complaint.
pub(super) fn not_whole(path: SnapshotPath, why: &dyn std::fmt::Display) -> SourceError {
    SourceError::new("dump", path, format!("pg_dump was content with its dump, but {why}"))
        .with_hint("run it again; no snapshot was made")
}

/// The column with the largest value in the table that was being copied.
fn largest_value(connection: &Connection, said: &str) -> Option<(String, String, u64)> {
    let table = copied_table(said)?;
    let columns = connection.ask(&format!(
        "SELECT a.attname, t.typname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
         WHERE a.attrelid = {}::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attlen = -1",
        escape_literal(table)
    ));
    let mut largest = None;
    for row in columns.ok()? {
        let [Some(column), Some(kind)] = &row[..] else { continue };
        let quoted = escape_identifier(column);
        // Of these the length is known without unpacking the value.
        let size = match kind.as_str() {
            "bytea" | "text" | "varchar" | "bpchar" => format!("pg_catalog.octet_length({quoted})"),
            _ => format!("pg_catalog.pg_column_size({quoted})"),
        };
        let bytes = connection.value(&format!("SELECT pg_catalog.max({size}) FROM {table}")).ok().flatten();
        let bytes: u64 = bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
        if largest.as_ref().is_none_or(|(_, _, most)| bytes > *most) {
            largest = Some((table.to_owned(), column.clone(), bytes));
        }
    }
    largest
}

/// The table in `Command was: COPY schema.table (columns) TO stdout;`, as the statement writes it.
fn copied_table(said: &str) -> Option<&str> {
    let rest = said.split_once("COPY ")?.1;
    let mut is_quoted = false;
    let end = rest.char_indices().find(|(_, character)| {
        if *character == '"' {
            is_quoted = !is_quoted;
        }
        *character == ' ' && !is_quoted
    });
    Some(&rest[..end?.0])
}

/// An error with its causes, in one line.
pub(super) fn words(error: &backup_core::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_found_in_the_statement() {
        assert_eq!(copied_table("x: COPY public.big (a, b) TO stdout;"), Some("public.big"));
        assert_eq!(copied_table("COPY \"my schema\".\"a \"\"b\" (a) TO stdout;"), Some("\"my schema\".\"a \"\"b\""));
        assert_eq!(copied_table("nothing"), None);
    }
}
