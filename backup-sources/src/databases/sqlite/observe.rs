//! What a database of SQLite shows: its tables and how many rows they have, what is defined beside them, and whether it
//! is sound. A backup asks in the state that it read, a drill asks the restored file.

use std::path::Path;
use std::time::Duration;

use backup_core::contracts::Expectation;
use backup_core::{Error, ErrorKind, Result};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode};
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_128;

use super::source::{connect, told};

/// How closely a database is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Check {
    /// Not at all, beyond what reading and counting notices.
    Off,
    /// `PRAGMA quick_check`: the structure of every page, all but whether indexes agree with their tables.
    #[default]
    Quick,
    /// `PRAGMA integrity_check` and `PRAGMA foreign_key_check`: everything that SQLite can check.
    Full,
}

/// At most so many findings are told.
const FINDINGS_MAX: usize = 5;

/// The numbers that a file of SQLite carries in its head.
const FACTS: [&str; 8] = [
    "application_id",
    "auto_vacuum",
    "encoding",
    "freelist_count",
    "page_count",
    "page_size",
    "schema_version",
    "user_version",
];

/// What the database at `path` shows now, in the form of a report's expectations (all but the image), and what
/// `check` finds wrong with it. It is opened for reading only.
///
/// # Errors
///
/// When it cannot be opened or read.
pub fn observe(path: &Path, check: Check) -> Result<(Vec<Expectation>, Vec<String>)> {
    let look = || {
        let view = connect(path, Duration::from_secs(10))?;
        let (objects, mut findings) = objects_of(&view)?;
        findings.extend(findings_of(&view, check)?);
        Ok((objects, findings))
    };
    look().map_err(|error| {
        Error::new(
            ErrorKind::Source(format!("the database cannot be read: {}", told(&error))),
            path.display().to_string(),
        )
    })
}

/// Tables with their rows, and the hashes of all other definitions, in the order of their names; and which tables cannot
/// be counted because they are damaged.
pub(super) fn objects_of(view: &Connection) -> rusqlite::Result<(Vec<Expectation>, Vec<String>)> {
    // A virtual table has no page of its own: what it holds is in other tables, and its module may not be in this build.
    let mut statement =
        view.prepare("SELECT type, name, sql, type = 'table' AND rootpage > 0 FROM sqlite_schema ORDER BY type, name")?;
    let mut rows = statement.query([])?;
    let (mut objects, mut findings) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let (kind, object): (String, String) = (row.get(0)?, text(row.get_ref(1)?));
        let definition = match row.get_ref(2)? {
            ValueRef::Text(sql) => Some(format!("xxh3-128:{:032x}", xxh3_128(sql))),
            // The index that a UNIQUE makes.
            _ => None,
        };
        let is_counted: bool = row.get(3)?;
        let (count, hash) = match is_counted {
            true => match rows_of(view, &object) {
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                    findings.push(format!("the rows of {object} cannot be counted"));
                    (None, None)
                }
                rows => (Some(rows?), None),
            },
            false => (None, definition),
        };
        objects.push(Expectation { kind, object, count, hash });
    }
    Ok((objects, findings))
}

/// What is wrong with the database; empty when nothing was found, or looked for.
pub(super) fn findings_of(view: &Connection, check: Check) -> rusqlite::Result<Vec<String>> {
    let pragmas: &[&str] = match check {
        Check::Off => &[],
        Check::Quick => &["PRAGMA quick_check(5)"],
        Check::Full => &["PRAGMA integrity_check(5)", "PRAGMA foreign_key_check"],
    };
    let mut findings = Vec::new();
    for pragma in pragmas {
        let mut statement = view.prepare(pragma)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let finding = match *pragma {
                "PRAGMA foreign_key_check" => format!("a row of {} refers to none", text(row.get_ref(0)?)),
                _ => text(row.get_ref(0)?),
            };
            if finding != "ok" && findings.len() < FINDINGS_MAX {
                findings.push(finding);
            }
        }
    }
    Ok(findings)
}

/// What stands in the head of the file.
pub(super) fn facts_of(view: &Connection) -> rusqlite::Result<Map<String, Value>> {
    let mut facts = Map::new();
    for fact in FACTS {
        let value = view.query_row(&format!("PRAGMA {fact}"), [], |row| {
            Ok(match row.get_ref(0)? {
                ValueRef::Integer(number) => Value::from(number),
                other => Value::from(text(other)),
            })
        })?;
        facts.insert(fact.to_owned(), value);
    }
    Ok(facts)
}

fn rows_of(view: &Connection, table: &str) -> rusqlite::Result<u64> {
    let quoted = table.replace('"', "\"\"");
    view.query_row(&format!("SELECT count(*) FROM main.\"{quoted}\""), [], |row| row.get(0))
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Null => String::new(),
    }
}
