//! A restored database, compared: every object and every row of it with what its manifest says, then what the server
//! itself can check.

use std::collections::HashSet;
use std::process::Stdio;

use backup_core::cancel::Cancel;
use backup_core::contracts::{Check, CheckResult, Expectation, Level, Report};
use backup_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use super::restored::Rights;
use crate::databases::examined::{Reading, checks};
use crate::databases::postgres::connection::Connection;
use crate::databases::postgres::observe::{is_of_the_database, observe};
use crate::databases::postgres::programs::Programs;
use crate::databases::postgres::server::Server;
use crate::databases::postgres::source::DumpOptions;
use crate::databases::postgres::tls::Protection;

/// What is compared.
pub(super) struct Subject<'a> {
    pub(super) server: &'a Server,
    pub(super) checker: Option<&'a Server>,
    pub(super) database: &'a str,
    pub(super) rights: Rights,
    pub(super) programs: &'a Programs,
    /// Of the manifest.
    pub(super) details: &'a Map<String, Value>,
}

/// How it came out.
pub(super) struct Examined {
    pub(super) checks: Vec<Check>,
    pub(super) warnings: Vec<String>,
}

/// Compares it.
pub(super) fn examine(subject: &Subject<'_>, report: &Report, cancel: &Cancel) -> Result<Examined> {
    if report.expectations.is_empty() {
        // Without anything to compare with nothing is proven.
        return Ok(Examined { checks: Vec::new(), warnings: Vec::new() });
    }
    let observed = observe(subject.server, subject.database, &DumpOptions::default())?;
    let mut found = checks(&report.expectations, &observed, &Words { subject });
    cancel.check()?;
    let (connection, _) = Connection::open(subject.server, subject.database)?;
    connection.ask("SET TIME ZONE 'UTC'")?;
    found.push(invalid_indexes(&connection)?);
    let mut warnings = Vec::new();
    sequences(&connection, &mut found, &mut warnings)?;
    warnings.extend(collation(&connection, subject.details)?);
    drop(connection);
    cancel.check()?;
    // The last one, because it may add an extension.
    found.push(amcheck(subject)?);
    Ok(Examined { checks: found, warnings })
}

/// How PostgreSQL's expectations are read.
struct Words<'a> {
    subject: &'a Subject<'a>,
}

impl Words<'_> {
    fn is_of_rights(&self, expectation: &Expectation) -> bool {
        self.subject.rights == Rights::OfAnOwner && matches!(expectation.kind.as_str(), "acl" | "default acl")
    }
}

impl Reading for Words<'_> {
    fn passes_over(&self, expected: &Expectation) -> Option<String> {
        if is_of_the_database(expected) {
            return Some("it belongs to the database itself, whose settings a drill leaves alone".to_owned());
        }
        self.is_of_rights(expected).then(|| "grants are not restored by a role without superuser's rights".to_owned())
    }

    fn is_excused(&self, observed: &Expectation) -> bool {
        // A table whose rows were left out is there, without rows. What else a choice of objects brings along is
        // pg_dump's affair.
        let is_empty = observed.kind == "table data" && observed.count == Some(0);
        let is_part = self.subject.details.contains_key("selection");
        self.is_of_rights(observed) || is_of_the_database(observed) || is_empty || is_part
    }

    fn may_differ(&self, expected: &Expectation) -> Option<String> {
        let is_definition = expected.hash.as_deref().is_some_and(|hash| hash.starts_with("definition-"));
        is_definition.then(|| "it is defined in other words, which PostgreSQL may choose when it restores".to_owned())
    }
}

fn invalid_indexes(connection: &Connection) -> Result<Check> {
    let names = connection.ask(
        "SELECT indexrelid::pg_catalog.regclass::text FROM pg_catalog.pg_index \
         WHERE NOT (indisvalid AND indisready AND indislive) ORDER BY 1 LIMIT 3",
    )?;
    let names: Vec<String> = names.into_iter().flatten().flatten().collect();
    let check = Check::compare("invalid indexes", Level::Examined, 0, names.len());
    Ok(if names.is_empty() { check } else { check.with_detail(names.join(", ")) })
}

/// Whether the next value of each column's sequence is free. One that is behind just as it was in production is a
/// warning: the backup is right, and what it is a backup of is not.
fn sequences(connection: &Connection, found: &mut Vec<Check>, warnings: &mut Vec<String>) -> Result<()> {
    let rows = connection.ask(
        "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), \
                quote_ident(tn.nspname) || '.' || quote_ident(t.relname), quote_ident(a.attname), s.seqincrement \
         FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid AND d.deptype IN ('a', 'i') \
              AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 \
         JOIN pg_class t ON t.oid = d.refobjid AND t.relkind IN ('r', 'p') \
         JOIN pg_namespace tn ON tn.oid = t.relnamespace \
         JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid \
         WHERE s.seqincrement > 0 AND NOT s.seqcycle \
               AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) ORDER BY 1",
    )?;
    let kept: HashSet<String> = found
        .iter()
        .filter(|check| check.result == CheckResult::Passed)
        .filter_map(|check| Some(check.id.strip_prefix("sequence set ")?.strip_suffix(" value")?.replace('"', "")))
        .collect();
    for row in rows {
        let [Some(sequence), Some(table), Some(column), Some(step)] = &row[..] else { continue };
        let next = format!("SELECT last_value + CASE WHEN is_called THEN {step} ELSE 0 END FROM {sequence}");
        let highest = format!("SELECT max({column}) FROM {table}");
        let row = connection.ask(&format!("SELECT ({next}), ({highest})"))?.into_iter().next().unwrap_or_default();
        let [Some(next), highest] = &row[..] else { continue };
        let number = |text: &str| text.parse::<i128>().unwrap_or_default();
        let is_ahead = highest.as_deref().is_none_or(|highest| number(next) > number(highest));
        let id = format!("sequence {sequence} ahead of {table}.{column}");
        if is_ahead {
            found.push(Check::passed(id, Level::Examined));
        } else if kept.contains(&sequence.replace('"', "")) {
            let why = format!("the sequence {sequence} is behind {table}.{column}, as it was when it was backed up");
            found.push(Check::not_tested(id, Level::Examined, why.clone()));
            warnings.push(why);
        } else {
            found.push(Check::failed(id, Level::Examined, "its next value is taken already"));
        }
    }
    Ok(())
}

/// Whether texts are sorted by the same rules as where they were backed up.
fn collation(connection: &Connection, details: &Map<String, Value>) -> Result<Option<String>> {
    let Some(there) = details.get("collation_version").and_then(Value::as_str) else { return Ok(None) };
    let here = connection.value(
        "SELECT pg_database_collation_actual_version(oid) FROM pg_database WHERE datname = current_database()",
    )?;
    Ok(here.filter(|here| here != there).map(|here| {
        format!(
            "the collation's version is {here} here and was {there} there: \
             an index of texts may be right here and wrong there, because the rules of sorting changed"
        )
    }))
}

/// PostgreSQL's own check of its tables and B-trees.
fn amcheck(subject: &Subject<'_>) -> Result<Check> {
    const ID: &str = "pg_amcheck";
    let not_tested = |why: &str| Ok(Check::not_tested(ID, Level::Examined, why));
    let Some(server) = subject.checker else { return not_tested("only a superuser runs it") };
    if !subject.programs.folder().join(ID).is_file() {
        return not_tested("there is no pg_amcheck in this version, or on this machine");
    }
    let (connection, _) = Connection::open(server, subject.database)?;
    let is_there = connection.value("SELECT 1 FROM pg_catalog.pg_available_extensions WHERE name = 'amcheck'")?;
    if is_there.is_none() {
        return not_tested("its extension amcheck is not installed here");
    }
    let mut command = subject.programs.command(ID);
    command.args(["--no-password", "--install-missing", "--heapallindexed", "--parent-check", "--no-strict-names"]);
    // A name with an equals sign would be taken for a connection.
    command.arg(format!("dbname='{}'", subject.database.replace('\\', "\\\\").replace('\'', "\\'")));
    let protection = Protection::of(server)?;
    server.equip(&mut command, subject.database, protection.authorities.as_deref());
    let failed = |why: String| Error::new(ErrorKind::Source(why), ID);
    let ended = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let ended = ended.map_err(|error| failed(error.to_string()))?;
    let first = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().trim().to_owned();
    match ended.status.code() {
        Some(0) => Ok(Check::passed(ID, Level::Examined)),
        // It ran to its end and found something.
        Some(2) => Ok(Check::failed(ID, Level::Examined, first(&ended.stdout))),
        _ => Err(failed(first(&ended.stderr))),
    }
}
