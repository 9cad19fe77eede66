//! A database of MySQL or MariaDB as a source: looked at first, dumped when that is read, looked at again.

use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, PoisonError};

use backup_core::clock::Clock;
use backup_core::codec::Compression;
use backup_core::contracts::{
    Consistency, Expectation, RecoveryPoint, Report, Source, SourceError, SourceEvent, SourceInfo, Tool,
};
use backup_core::model::SnapshotPath;
use backup_core::{Error, ErrorKind, Result};
use jiff::Timestamp;
use jiff::civil::DateTime;
use serde_json::{Map, Value};

use super::super::folder::{File, Folder, Stream, Turn, path_of};
use super::super::manifest::{MANIFEST, Manifest};
use super::super::ready::Ready;
use super::super::url::Engine;
use super::client::{Client, Dump, ended, quoted, series};
use super::defaults::Flavour;
use super::grants::{Rights, with_roles};
use super::history::History;
use super::inventory::Inventory;
use super::renamed::Renamed;
use super::rows::{DumpReader, Longest};
use super::settings::MysqlSettings;
use crate::program::Program;

/// The kind of what a table's definition must show: its columns with their defaults, keys, checks, options.
pub(super) const DEFINITION: &str = "definition";

/// The detail of a manifest that tells how long a statement of the dump is at most, in bytes.
pub(super) const LONGEST_STATEMENT: &str = "longest_statement_bytes";

/// The file of a snapshot.
pub(super) const DUMP: &str = "dump.sql";

/// What every dump asks for. Routines and events are left out by the programs unless they are asked for; a date would
/// make two dumps of the same data different. Statements with rows are as short as can be, so that a change moves the ends of few
/// (`docs/decisions/mysql.md`). Under a lock on one table, the sequence that numbers its rows could not be
/// used.
const ALWAYS: [&str; 12] = [
    "--single-transaction",
    "--quick",
    "--routines",
    "--events",
    "--triggers",
    "--hex-blob",
    "--no-tablespaces",
    "--skip-dump-date",
    "--skip-add-locks",
    "--default-character-set=utf8mb4",
    "--max-allowed-packet=1G",
    "--net-buffer-length=4096",
];

/// A database of MySQL or MariaDB.
#[derive(Debug)]
pub struct MysqlSource {
    folder: Folder,
    seen: Arc<Mutex<Option<Report>>>,
}

/// A database that was looked at, and can be dumped.
#[derive(Debug)]
struct Looked {
    client: Client,
    dump: Dump,
    arguments: Vec<&'static str>,
    database: String,
    character_set: String,
    collation: String,
    /// The longest statement that the server takes.
    packet_bytes: u64,
    warnings: Vec<String>,
    tools: Vec<Tool>,
}

impl MysqlSource {
    /// Connects, and looks at the server, at the rights, and for the programs.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, the database is not there or not wholly to be seen, or a program is missing.
    pub fn connect(settings: &MysqlSettings, clock: &Arc<dyn Clock>) -> Result<Self> {
        let looked = Looked::at(settings)?;
        let (name, seen) = (looked.database.clone(), Arc::<Mutex<Option<Report>>>::default());
        let passed = Arc::<Mutex<Option<Passed>>>::default();
        let files = vec![dump_file(looked, Arc::clone(&passed)), manifest_file(&name, passed, Arc::clone(&seen))];
        Ok(Self { folder: Folder::new(Engine::Mysql, &name, files, clock.now()), seen })
    }
}

impl Source for MysqlSource {
    fn info(&self) -> SourceInfo {
        self.folder.info()
    }

    fn level(&self) -> Option<i32> {
        Some(Compression::DUMP_LEVEL)
    }

    fn next(&mut self) -> Result<Option<SourceEvent>, SourceError> {
        Ok(self.folder.next())
    }

    fn finish(&mut self) -> Result<Report, SourceError> {
        self.folder.settle()?;
        let missing = || SourceError::new("read", self.folder.path().clone(), "it was not read to its end");
        lock(&self.seen).take().ok_or_else(missing)
    }
}

/// What a database shows now, in the form of a report's expectations: it is dumped in the same form, and kept nowhere.
///
/// # Errors
///
/// As a backup of it would fail.
pub fn observe(settings: &MysqlSettings) -> Result<Vec<Expectation>> {
    observe_as(settings, &settings.database)
}

/// The same of a database that was restored from a backup of `name`: its own name in its definitions counts as that.
///
/// # Errors
///
/// As a backup of it would fail.
pub fn observe_as(settings: &MysqlSettings, name: &str) -> Result<Vec<Expectation>> {
    let looked = Looked::at(settings)?;
    let subject = looked.client.subject().to_owned();
    let fail = |why: String| Error::new(ErrorKind::Source(why), &subject);
    let reader = DumpReader::of_renamed(Renamed::new(&settings.database, name));
    let mut stream = DumpStream::start(looked, reader).map_err(fail)?;
    let mut buffer = vec![0; 256 * 1024];
    while stream.read(&mut buffer).map_err(|error| fail(error.to_string()))? > 0 {}
    Ok(stream.finish().map_err(fail)?.report.expectations)
}

impl Looked {
    fn at(settings: &MysqlSettings) -> Result<Self> {
        let client = Client::new(settings)?;
        let database = settings.database.clone();
        let fail =
            |why: String, hint: String| Err(Error::new(ErrorKind::Source(why), client.subject()).with_hint(hint));
        let facts =
            client.ask_or_fail("SELECT @@version, @@version_comment, @@log_bin, @@global.max_allowed_packet")?;
        client.require_encryption()?;
        let [version, comment, log_bin, packet_bytes] = facts.first().map_or(&[][..], |row| &row[..]) else {
            return fail(
                "the server does not say what it is".into(),
                "check that it is one of MySQL or MariaDB".into(),
            );
        };
        let is_mariadb = format!("{version} {comment}").contains("MariaDB");
        let flavour = if is_mariadb { Flavour::Mariadb } else { Flavour::Mysql };
        let mut lines = client.ask_or_fail("SHOW GRANTS")?;
        // Not every version has roles.
        let roles = if is_mariadb { None } else { client.ask("SELECT CURRENT_ROLE()").ok() };
        let roles = roles.and_then(|rows| with_roles(rows.first()?.first()?));
        if let Some(of_roles) = roles {
            lines = client.ask_or_fail(&of_roles)?;
        }
        let lines: Vec<String> = lines.into_iter().map(|row| row.join("\t")).collect();
        let rights = Rights::of(&lines, &database);
        let sets = client.ask_or_fail(&format!(
            "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata \
             WHERE schema_name = {}",
            quoted(&database)
        ))?;
        let Some([character_set, collation]) = sets.first().map(|row| &row[..]) else {
            return fail(
                format!("there is no database {database}, or none that this user sees"),
                "check its name and the rights".into(),
            );
        };
        let missing = rights.missing();
        if !missing.is_empty() {
            return fail(
                format!("this user may not see all of {database}: {} is missing", missing.join(", ")),
                format!("GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON {database}.* TO …, on the whole database"),
            );
        }
        let mut warnings = Vec::new();
        if !rights.sees_routines() {
            let right = if is_mariadb { "SELECT on mysql.proc" } else { "SHOW_ROUTINE" };
            warnings.push(format!("routines that other users defined may be missing: it takes the right {right}"));
        }
        let dump = client.dump(settings, flavour, version)?;
        let mut arguments = ALWAYS.to_vec();
        match if is_mariadb { History::of(&client, &database, version)? } else { History::None } {
            History::None => {}
            History::Kept => arguments.push("--dump-history"),
            History::LeftOut(told) => warnings.push(told),
        }
        let is_log_seen = rights.sees_log() && (is_mariadb || rights.may_pause());
        arguments.extend(of_versions(flavour, (&dump.found.version, version), log_bin == "1" && is_log_seen));
        if log_bin == "1" && !is_log_seen {
            let right = if is_mariadb { "BINLOG MONITOR" } else { "RELOAD and REPLICATION CLIENT" };
            warnings.push(format!("the place in the binary log is not known: it takes the right {right}"));
        }
        let name = if is_mariadb { "mariadb" } else { "mysql" };
        let server = Tool { name: format!("{name}-server"), version: version.clone() };
        let tools = vec![server, dump.tool(), client.tool()];
        let (character_set, collation) = (character_set.clone(), collation.clone());
        let packet_bytes = packet_bytes.parse().unwrap_or(u64::MAX);
        Ok(Self { client, dump, arguments, database, character_set, collation, packet_bytes, warnings, tools })
    }
}

/// What a dump program is told in words that depend on its version, and on the server's: `is_asked_for` is the place in the
/// binary log.
fn of_versions(
    flavour: Flavour,
    (program, server): (&str, &str),
    is_asked_for: bool,
) -> impl Iterator<Item = &'static str> {
    let place: &[_] = match (flavour, is_asked_for) {
        (_, false) => &[],
        (Flavour::Mariadb, true) => &["--master-data=2", "--gtid"],
        (Flavour::Mysql, true) if is_old(program) => &["--master-data=2"],
        (Flavour::Mysql, true) => &["--source-data=2"],
    };
    // What a server has executed is no part of one of its databases, and takes rights to restore. MySQL's program takes a lock
    // for it since 8.0.32, and then wants the right RELOAD of everybody.
    let executed = (flavour == Flavour::Mysql).then_some("--set-gtid-purged=OFF");
    // It asks for histograms by itself since 8.0, which servers before it do not have: the dump fails.
    let histograms =
        flavour == Flavour::Mysql && series(program) >= HISTOGRAMS_SINCE && series(server) < HISTOGRAMS_SINCE;
    let histograms = histograms.then_some("--column-statistics=0");
    place.iter().copied().chain(executed).chain(histograms)
}

/// The first series of MySQL that has histograms.
const HISTOGRAMS_SINCE: Option<(u32, u32)> = Some((8, 0));

/// Whether the program is from before the word changed, with 8.0.26.
fn is_old(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = [numbers.next(), numbers.next(), numbers.next()].map(Option::unwrap_or_default);
    version < [8, 0, 26]
}

/// A dump on its way, looked at as it passes.
struct DumpStream {
    looked: Looked,
    before: Inventory,
    program: Program,
    reader: DumpReader,
    began: Timestamp,
}

/// What passed.
#[derive(Debug)]
struct Passed {
    report: Report,
    details: Map<String, Value>,
}

impl DumpStream {
    fn start(looked: Looked, reader: DumpReader) -> Result<Self, String> {
        let before = Inventory::of(&looked.client, &looked.database)?;
        // The server's clock, just before its state is fixed: what is restored is at least as new.
        let now = looked.client.ask("SELECT UTC_TIMESTAMP(6)")?;
        let now = now.first().and_then(|row| row.first()).map_or("", String::as_str);
        let began = now.parse::<DateTime>().and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC));
        let began = began.map_err(|_| format!("the server says that it is {now:?}"))?.timestamp();
        let program = looked.dump.start(&looked.arguments, &looked.database);
        let program = program.map_err(|error| format!("{} does not start: {error}", looked.dump.tool().name))?;
        Ok(Self { looked, before, program, reader, began })
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.program.read(buffer)?;
        self.reader.feed(&buffer[..length]);
        Ok(length)
    }

    fn finish(self) -> Result<Passed, String> {
        let Self { looked, before, program, reader, began } = self;
        ended(program).map_err(|why| {
            let advice =
                if why.contains("(1356)") { "; repair or drop that view, or grant its definer the rights" } else { "" };
            format!("{} failed: {why}{advice}", looked.dump.tool().name)
        })?;
        if !reader.is_complete() {
            return Err("the dump does not end with its last line: it was cut short".into());
        }
        let after = Inventory::of(&looked.client, &looked.database)?;
        if let Some(change) = after.difference(&before) {
            return Err(format!("{change} while the database was dumped, so the dump may lack rows; run it again"));
        }
        let mut warnings = looked.warnings;
        let unsafe_tables = before.without_transactions();
        if !unsafe_tables.is_empty() {
            warnings
                .push(format!("tables without transactions are of no single instant: {}", unsafe_tables.join(", ")));
        }
        let mut expectations = Vec::new();
        for table in before.tables() {
            let rows = reader.tables().get(table).copied().unwrap_or_default();
            expectations.push(Expectation {
                kind: "table".into(),
                object: table.to_owned(),
                count: Some(rows.count),
                hash: Some(format!("xxh3-128-sum-of-dumped-rows:{:032x}", rows.sum)),
            });
        }
        let definitions = before.tables().filter_map(|table| Some((table, reader.definition(table)?)));
        let definitions: Vec<_> = definitions
            .map(|(table, hash)| Expectation {
                kind: DEFINITION.into(),
                object: table.to_owned(),
                count: None,
                hash: Some(format!("definition-xxh3-128:{hash:032x}")),
            })
            .collect();
        if expectations.is_empty() {
            warnings.push(format!("the database {} has no tables", looked.database));
        }
        expectations.extend(definitions);
        expectations.extend(before.others());
        let mut details = Map::from_iter([
            ("character_set".to_owned(), looked.character_set.into()),
            ("collation".to_owned(), looked.collation.into()),
        ]);
        if let Some(Longest { table, bytes }) = reader.longest() {
            details.insert(LONGEST_STATEMENT.to_owned(), (*bytes).into());
            if *bytes >= looked.packet_bytes {
                warnings.push(format!(
                    "a row of {table} takes a statement of {bytes} bytes, and the server's max_allowed_packet is {}: a \
                     server that restores it needs more",
                    looked.packet_bytes
                ));
            }
        }
        let consistency = if unsafe_tables.is_empty() { Consistency::Transactional } else { Consistency::Fuzzy };
        let recovery_point = Some(RecoveryPoint { time: began, position: reader.position() });
        let report = Report { recovery_point, consistency, warnings, tools: looked.tools, expectations, held: None };
        Ok(Passed { report, details })
    }
}

fn dump_file(looked: Looked, passed: Arc<Mutex<Option<Passed>>>) -> File {
    let subject = path_of(Engine::Mysql, &looked.database).join(DUMP.as_bytes());
    let open = move || {
        let stream = DumpStream::start(looked, DumpReader::new())
            .map_err(|why| SourceError::new("dump", subject.clone(), why))?;
        Ok(Box::new(Kept { stream, subject, passed }) as Box<dyn Stream>)
    };
    File::stream(DUMP, Turn::Any, Box::new(open))
}

/// The same as a file of the folder.
struct Kept {
    stream: DumpStream,
    subject: SnapshotPath,
    passed: Arc<Mutex<Option<Passed>>>,
}

impl Stream for Kept {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        let Self { stream, subject, passed } = *self;
        *lock(&passed) = Some(stream.finish().map_err(|why| SourceError::new("dump", subject, why))?);
        Ok(())
    }
}

fn manifest_file(name: &str, passed: Arc<Mutex<Option<Passed>>>, seen: Arc<Mutex<Option<Report>>>) -> File {
    let (name, subject) = (name.to_owned(), path_of(Engine::Mysql, name).join(MANIFEST.as_bytes()));
    let open = move || {
        let Some(Passed { report, details }) = lock(&passed).take() else {
            return Err(SourceError::new("write", subject, "the database was not dumped before"));
        };
        let manifest = Manifest { details, ..Manifest::new(Engine::Mysql, &name, report) };
        let bytes = manifest.to_bytes().map_err(|error| SourceError::new("write", subject, error))?;
        *lock(&seen) = Some(manifest.report);
        Ok(Box::new(Ready::new(bytes)) as Box<dyn Stream>)
    };
    File::stream(MANIFEST, Turn::Last, Box::new(open))
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dump_program_is_asked_in_its_own_words() {
        let of =
            |flavour, version, is_asked_for| of_versions(flavour, (version, version), is_asked_for).collect::<Vec<_>>();
        let (mysql, mariadb) = (Flavour::Mysql, Flavour::Mariadb);
        assert_eq!(of(mariadb, "10.11.6-MariaDB", true), ["--master-data=2", "--gtid"]);
        assert_eq!(of(mariadb, "11.8.2-MariaDB", false), [""; 0]);
        for old in ["5.7.44", "8.0.25", "8.0.9"] {
            assert_eq!(of(mysql, old, true), ["--master-data=2", "--set-gtid-purged=OFF"], "{old}");
        }
        for new in ["8.0.26", "8.0.36-28", "8.4.3", "9.7.0"] {
            assert_eq!(of(mysql, new, true), ["--source-data=2", "--set-gtid-purged=OFF"], "{new}");
        }
        assert_eq!(of(mysql, "8.0.36", false), ["--set-gtid-purged=OFF"]);
        let older_server: Vec<_> = of_versions(mysql, ("8.4.3", "5.7.44-log"), false).collect();
        assert_eq!(older_server, ["--set-gtid-purged=OFF", "--column-statistics=0"]);
        // Without these the rights PROCESS and LOCK TABLES would be needed.
        assert!(ALWAYS.contains(&"--no-tablespaces") && ALWAYS.contains(&"--single-transaction"));
    }
}
