//! What a database of SQLite shows: its tables and how many rows they have, what is defined beside them, and whether it
//! is sound. A backup asks in the state that it read, a drill asks the restored file.

use std::collections::BTreeSet;
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

/// Something that a look at a database found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it means.
    pub sort: Sort,
    /// The same for people.
    pub text: String,
}

/// What a finding means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sort {
    /// The file is not sound.
    Damage,
    /// Values that a rule of the schema forbids. SQLite lets a program write them, and they are read like any others.
    Rule,
    /// A row that refers to one that is not there, which SQLite lets a program write as well.
    Reference,
    /// It cannot be looked at: its definition uses a function or collation that only the database's own program has.
    Unchecked,
}

impl Finding {
    fn new(sort: Sort, text: impl Into<String>) -> Self {
        Self { sort, text: text.into() }
    }
}

/// At most so many findings of a sort are told.
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
/// `check` finds. It is opened for reading only.
///
/// # Errors
///
/// When it cannot be opened or read.
pub fn observe(path: &Path, check: Check) -> Result<(Vec<Expectation>, Vec<Finding>)> {
    let look = || {
        let view = connect(path, Duration::from_secs(10))?;
        let Objects { expectations, mut findings, .. } = objects_of(&view)?;
        findings.extend(findings_of(&view, check)?);
        Ok((expectations, findings))
    };
    look().map_err(|error| {
        Error::new(
            ErrorKind::Source(format!("the database cannot be read: {}", told(&error))),
            path.display().to_string(),
        )
    })
}

/// What is defined in a database, and what is in it.
pub(super) struct Objects {
    /// Tables with their rows, and the hashes of all other definitions, in the order of their names.
    pub(super) expectations: Vec<Expectation>,
    /// Which tables cannot be counted, and why.
    pub(super) findings: Vec<Finding>,
    /// Rows of tables that are not SQLite's own: its sequences, statistics and indexes of words have some when nothing else has.
    pub(super) held: u64,
}

/// Looks at everything that the schema names.
pub(super) fn objects_of(view: &Connection) -> rusqlite::Result<Objects> {
    let own = own_tables(view)?;
    // A virtual table has no page of its own: what it holds is in other tables, and its module may not be in this build.
    let mut statement =
        view.prepare("SELECT type, name, sql, type = 'table' AND rootpage > 0 FROM sqlite_schema ORDER BY type, name")?;
    let mut rows = statement.query([])?;
    let mut objects = Objects { expectations: Vec::new(), findings: Vec::new(), held: 0 };
    while let Some(row) = rows.next()? {
        let (kind, object): (String, String) = (row.get(0)?, text(row.get_ref(1)?));
        let definition = match row.get_ref(2)? {
            ValueRef::Text(sql) => Some(format!("xxh3-128:{:032x}", xxh3_128(sql))),
            // The index that a UNIQUE makes.
            _ => None,
        };
        let is_counted: bool = row.get(3)?;
        let (count, hash) = match is_counted {
            true => (objects.count(view, &object)?, None),
            false => (None, definition),
        };
        if !own.contains(&object) {
            objects.held += count.unwrap_or(0);
        }
        objects.expectations.push(Expectation { kind, object, count, hash });
    }
    Ok(objects)
}

impl Objects {
    fn count(&mut self, view: &Connection, table: &str) -> rusqlite::Result<Option<u64>> {
        let why = match rows_of(view, table) {
            Ok(rows) => return Ok(Some(rows)),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                Finding::new(Sort::Damage, format!("the rows of {table} cannot be counted"))
            }
            Err(error) if takes_its_own_program(&error) => {
                Finding::new(Sort::Unchecked, format!("the rows of {table} cannot be counted: {}", told(&error)))
            }
            Err(error) => return Err(error),
        };
        self.findings.push(why);
        Ok(None)
    }
}

/// What `check` finds; empty when nothing was found, or looked for.
pub(super) fn findings_of(view: &Connection, check: Check) -> rusqlite::Result<Vec<Finding>> {
    let word = match check {
        Check::Off => return Ok(Vec::new()),
        Check::Quick => "quick_check",
        Check::Full => "integrity_check",
    };
    let mut findings = Vec::new();
    match report_of(view, &format!("PRAGMA {word}")) {
        Ok(lines) => note(&mut findings, lines),
        // One function that is not there keeps SQLite from looking at anything: so table by table, which leaves out the
        // list of free pages alone.
        Err(error) if takes_its_own_program(&error) => {
            for table in lines(view, "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0")? {
                match report_of(view, &format!("PRAGMA {word}({})", quoted(&table))) {
                    Ok(lines) => note(&mut findings, lines),
                    Err(error) if takes_its_own_program(&error) => {
                        findings.push(Finding::new(
                            Sort::Unchecked,
                            format!("{table} cannot be checked: {}", told(&error)),
                        ));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Err(error) => return Err(error),
    }
    if check == Check::Full {
        match lines(view, "PRAGMA foreign_key_check") {
            Ok(tables) => findings.extend(
                tables
                    .into_iter()
                    .take(FINDINGS_MAX)
                    .map(|table| Finding::new(Sort::Reference, format!("a row of {table} refers to none"))),
            ),
            Err(error) if takes_its_own_program(&error) => {
                let text = format!("references cannot be checked: {}", told(&error));
                findings.push(Finding::new(Sort::Unchecked, text));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(findings)
}

/// Sorts what SQLite's check says, line by line.
fn note(findings: &mut Vec<Finding>, lines: Vec<String>) {
    for line in lines.into_iter().filter(|line| line != "ok") {
        let is_rule = line.starts_with("CHECK constraint failed in ")
            || ["NULL value in ", "TEXT value in ", "NUMERIC value in "].iter().any(|words| line.starts_with(words))
            || line.starts_with("non-") && line.contains(" value in ");
        let sort = if is_rule { Sort::Rule } else { Sort::Damage };
        if findings.iter().filter(|finding| finding.sort == sort).count() < FINDINGS_MAX {
            findings.push(Finding::new(sort, line));
        }
    }
}

/// Whether SQLite could not even prepare the question: reading the schema and the file have errors of their own, so
/// something in a definition is unknown here.
fn takes_its_own_program(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(error, _) | rusqlite::Error::SqlInputError { error, .. } => {
            error.extended_code & 0xFF == rusqlite::ffi::SQLITE_ERROR
        }
        _ => false,
    }
}

/// The first column of all rows.
fn lines(view: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    let mut lines = Vec::new();
    gather(view, sql, &mut lines)?;
    Ok(lines)
}

/// What a check says. One that stumbles over the damage itself has found it.
fn report_of(view: &Connection, pragma: &str) -> rusqlite::Result<Vec<String>> {
    let mut lines = Vec::new();
    match gather(view, pragma, &mut lines) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => lines.push(told(&error)),
        outcome => outcome?,
    }
    Ok(lines)
}

fn gather(view: &Connection, sql: &str, lines: &mut Vec<String>) -> rusqlite::Result<()> {
    let mut statement = view.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        lines.push(text(row.get_ref(0)?));
    }
    Ok(())
}

/// The tables that SQLite fills by itself.
fn own_tables(view: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let sql = r"SELECT name FROM pragma_table_list WHERE schema = 'main'
        AND (type = 'shadow' OR name LIKE 'sqlite\_%' ESCAPE '\')";
    Ok(lines(view, sql)?.into_iter().collect())
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
    let count =
        |how: &str| view.query_row(&format!("SELECT count(*) FROM main.{}{how}", quoted(table)), [], |row| row.get(0));
    match count("") {
        // The index that it would count by may be in an order that is unknown here.
        Err(error) if takes_its_own_program(&error) => count(" NOT INDEXED"),
        outcome => outcome,
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Null => String::new(),
    }
}
