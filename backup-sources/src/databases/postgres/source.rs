//! A database as a source.

use std::collections::VecDeque;
use std::io;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use backup_core::contracts::{Consistency, RecoveryPoint, Report, Source, SourceError, SourceEvent, SourceInfo, Tool};
use backup_core::model::SnapshotPath;
use backup_core::{Error, Result};
use jiff::Timestamp;
use serde_json::{Map, json};
use xxhash_rust::xxh3::xxh3_128;

use super::archive::Found;
use super::connection::Connection;
use super::dump::Dump;
use super::failure;
use super::globals::Globals;
use super::programs::Programs;
use super::server::Server;
use super::tls::Protection;
use crate::databases::folder::{File, Folder, Stream, Turn};
use crate::databases::manifest::{MANIFEST, Manifest};
use crate::databases::url::Engine;

/// The oldest version that is supported.
const OLDEST: u32 = 13;

/// What a person is told of pg_dump's warnings at most.
const WARNINGS_MAX: usize = 10;

/// What is dumped, and how.
#[derive(Clone, Debug)]
pub struct DumpOptions {
    /// Only these schemas; pg_dump's patterns, as in all of the following.
    pub schemas: Vec<String>,
    /// Not these schemas.
    pub exclude_schemas: Vec<String>,
    /// Only these tables.
    pub tables: Vec<String>,
    /// Not these tables.
    pub exclude_tables: Vec<String>,
    /// These tables without their rows.
    pub exclude_table_data: Vec<String>,
    /// Whether roles and tablespaces are kept beside the database.
    pub roles: Roles,
    /// How long to wait for a lock on a table. Waiting stops others that come after, so it does not last.
    pub lock_wait_seconds: u64,
}

/// Whether roles and tablespaces are kept beside the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roles {
    /// As `globals.sql`.
    Kept,
    /// Not at all.
    LeftOut,
}

impl Default for DumpOptions {
    fn default() -> Self {
        let [schemas, exclude_schemas, tables, exclude_tables, exclude_table_data] = Default::default();
        Self {
            schemas,
            exclude_schemas,
            tables,
            exclude_tables,
            exclude_table_data,
            roles: Roles::Kept,
            lock_wait_seconds: 60,
        }
    }
}

impl DumpOptions {
    /// Each pattern with the option of pg_dump that takes it.
    fn patterns(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let all = [
            ("schema", &self.schemas),
            ("exclude-schema", &self.exclude_schemas),
            ("table", &self.tables),
            ("exclude-table", &self.exclude_tables),
            ("exclude-table-data", &self.exclude_table_data),
        ];
        all.into_iter().flat_map(|(option, patterns)| patterns.iter().map(move |pattern| (option, pattern)))
    }
}

/// One database of a server, in the state of the instant at which this was made.
///
/// It holds a transaction open until it is dropped.
#[derive(Debug)]
pub struct PostgresSource {
    folder: Folder,
    shared: Arc<Shared>,
}

/// What the streams and the source share.
#[derive(Debug)]
struct Shared {
    database: String,
    path: SnapshotPath,
    /// Sees what pg_dump sees.
    connection: Mutex<Connection>,
    recovery_point: RecoveryPoint,
    tools: Vec<Tool>,
    details: Map<String, serde_json::Value>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    found: Option<Found>,
    warnings: Vec<String>,
    report: Option<Report>,
}

impl PostgresSource {
    /// Connects, looks at versions, and takes the view that everything will be read in.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, is too old, or has no fitting pg_dump on this machine.
    pub fn connect(server: &Server, database: &str, options: &DumpOptions) -> Result<Self> {
        let (connection, server) = Connection::open(server, database)?;
        let version = Version::of(&connection)?;
        let unfit = |what: String, hint: String| Error::invalid(server.location(), what).with_hint(hint);
        if version.major < OLDEST {
            return Err(unfit(
                format!("the server has version {}, and {OLDEST} is the oldest that is supported", version.text),
                "back up the output of its own pg_dump: create --name app.dump --command 'pg_dump -Fc -Z0 app'"
                    .to_owned(),
            ));
        }
        let programs = Programs::find(&server.folders, version.major).map_err(|(what, hint)| unfit(what, hint))?;
        let protection = Protection::of(&server)?;
        let origin = origin(&connection, version.major);
        let view = View::take(&connection, version.major)?;
        let globals = match options.roles {
            Roles::Kept => Globals::dump(&server, database, &programs, &protection),
            Roles::LeftOut => Globals { text: None, warning: None },
        };

        let time = view.point.time;
        let mut details = details(&connection, version.major)?;
        details.extend(origin);
        let patterns: Vec<String> = options.patterns().map(|(option, pattern)| format!("{option}={pattern}")).collect();
        if !patterns.is_empty() {
            details.insert("selection".to_owned(), patterns.into());
        }
        let tool = |name: &str, version: &str| Tool { name: name.to_owned(), version: version.to_owned() };
        let shared = Arc::new(Shared {
            database: database.to_owned(),
            path: crate::databases::folder::path_of(Engine::Postgres, database),
            connection: Mutex::new(connection),
            recovery_point: view.point,
            tools: vec![tool("postgresql", &version.text), tool("pg_dump", &programs.version)],
            details,
            state: Mutex::new(State { warnings: globals.warning.into_iter().collect(), ..State::default() }),
        });
        let command = dump_command(&server, database, &programs, &protection, options, Some(&view.snapshot));
        let folder = Folder::new(Engine::Postgres, database, files(&shared, command, globals.text), time);
        Ok(Self { folder, shared })
    }
}

impl Source for PostgresSource {
    fn info(&self) -> SourceInfo {
        self.folder.info()
    }

    fn next(&mut self) -> Result<Option<SourceEvent>, SourceError> {
        Ok(self.folder.next())
    }

    fn finish(&mut self) -> Result<Report, SourceError> {
        self.folder.settle()?;
        let report = self.shared.lock().report.clone();
        report.ok_or_else(|| SourceError::new("read", self.folder.path().clone(), "its manifest was not written"))
    }
}

/// The files of the snapshot.
fn files(shared: &Arc<Shared>, command: Command, globals: Option<Vec<u8>>) -> Vec<File> {
    let dump = {
        let shared = Arc::clone(shared);
        move || {
            let dump = Dump::start(command).map_err(|why| SourceError::new("dump", shared.path.clone(), why))?;
            Ok(Box::new(DumpStream { dump, shared }) as Box<dyn Stream>)
        }
    };
    let manifest = {
        let shared = Arc::clone(shared);
        move || Ok(Box::new(Text(shared.manifest()?.into())) as Box<dyn Stream>)
    };
    let mut files = vec![
        File { name: "dump", chunking: None, turn: Turn::Any, open: Box::new(dump) },
        File { name: MANIFEST, chunking: None, turn: Turn::Last, open: Box::new(manifest) },
    ];
    if let Some(globals) = globals {
        let open = Box::new(move || Ok(Box::new(Text(globals.into())) as Box<dyn Stream>));
        files.push(File { name: "globals.sql", chunking: None, turn: Turn::Any, open });
    }
    files
}

/// pg_dump, for everything that `options` ask for.
pub(super) fn dump_command(
    server: &Server,
    database: &str,
    programs: &Programs,
    protection: &Protection,
    options: &DumpOptions,
    snapshot: Option<&str>,
) -> Command {
    let mut command = programs.command("pg_dump");
    command.args(["--format=custom", "--compress=0", "--no-password"]);
    command.arg(format!("--lock-wait-timeout={}s", options.lock_wait_seconds));
    if let Some(snapshot) = snapshot {
        command.arg(format!("--snapshot={snapshot}"));
    }
    for (option, pattern) in options.patterns() {
        command.arg(format!("--{option}={pattern}"));
    }
    server.equip(&mut command, database, protection.authorities.as_deref());
    command
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything else was read: what there is to say of it.
    fn manifest(&self) -> Result<Vec<u8>, SourceError> {
        let failed = |why: &dyn ToString| SourceError::new("describe", self.path.clone(), why.to_string());
        let mut state = self.lock();
        let found = state.found.take().ok_or_else(|| failed(&"the dump was not read to its end"))?;
        let mut warnings = std::mem::take(&mut state.warnings);
        if !found.is_understood {
            warnings.push("this pg_dump writes a format that is not known here: nothing was counted".to_owned());
        } else if !found.expectations.iter().any(|expected| expected.kind == "table") {
            warnings.push("there is no table in it".to_owned());
        }
        let foreign = found.expectations.iter().filter(|expected| expected.kind == "foreign table").count();
        match foreign {
            0 => {}
            1 => warnings.push("1 foreign table is in it without its rows, which are elsewhere".to_owned()),
            _ => warnings.push(format!("{foreign} foreign tables are in it without their rows, which are elsewhere")),
        }
        let report = Report {
            recovery_point: Some(self.recovery_point.clone()),
            consistency: Consistency::Transactional,
            warnings,
            tools: self.tools.clone(),
            expectations: found.expectations,
        };
        let manifest = Manifest {
            details: self.details.clone(),
            ..Manifest::new(Engine::Postgres, &self.database, report.clone())
        };
        let bytes = manifest.to_bytes().map_err(|error| failed(&error))?;
        state.report = Some(report);
        Ok(bytes)
    }
}

/// The dump on its way into the snapshot.
struct DumpStream {
    dump: Dump,
    shared: Arc<Shared>,
}

impl Stream for DumpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.dump.read(buffer)
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        let Self { dump, shared } = *self;
        let (found, ended) = dump.finish(&shared.path, |ended| {
            let connection = shared.connection.lock().unwrap_or_else(PoisonError::into_inner);
            failure::of_dump(shared.path.clone(), ended, Some(&connection))
        })?;
        let mut state = shared.lock();
        let warnings = ended.said.lines().filter_map(|line| line.split_once("warning: "));
        state.warnings.extend(warnings.take(WARNINGS_MAX).map(|(_, warning)| format!("pg_dump: {warning}")));
        state.found = Some(found);
        Ok(())
    }
}

/// What is in memory already.
struct Text(VecDeque<u8>);

impl Stream for Text {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        io::Read::read(&mut self.0, buffer)
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        Ok(())
    }
}

/// A server's version.
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) text: String,
}

impl Version {
    pub(super) fn of(connection: &Connection) -> Result<Self> {
        let number = connection.value("SHOW server_version_num")?.and_then(|number| number.parse::<u32>().ok());
        let text = connection.value("SHOW server_version")?.unwrap_or_default();
        // 16.13 (Debian 16.13-1)
        let text = text.split_whitespace().next().unwrap_or_default().to_owned();
        Ok(Self { major: number.unwrap_or_default() / 10_000, text })
    }
}

/// A view of the database that others can take too.
struct View {
    snapshot: String,
    point: RecoveryPoint,
}

impl View {
    /// Opens the transaction that the view lasts as long as.
    fn take(connection: &Connection, major: u32) -> Result<Self> {
        let mut settings = "SET statement_timeout = 0; SET lock_timeout = 0; \
            SET idle_in_transaction_session_timeout = 0; SET search_path = pg_catalog"
            .to_owned();
        if major >= 14 {
            settings.push_str("; SET idle_session_timeout = 0");
        }
        if major >= 17 {
            settings.push_str("; SET transaction_timeout = 0");
        }
        connection.ask(&settings)?;
        // Before the transaction, which an error would end: some managed servers do not tell.
        let position = connection
            .value("SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END");
        connection.ask("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        let row = connection.ask(
            "SELECT pg_export_snapshot(), \
             to_char(statement_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
        )?;
        match row.into_iter().next().as_deref() {
            Some([Some(snapshot), Some(time)]) => {
                let time: Timestamp =
                    time.parse().map_err(|error| Error::invalid("the server's time", time.clone()).caused_by(error))?;
                let position = position.ok().flatten();
                Ok(Self { snapshot: snapshot.clone(), point: RecoveryPoint { time, position } })
            }
            _ => Err(Error::invalid("the server", "it exports no snapshot")),
        }
    }
}

/// What a new database must be made with to take the same data, and how large it is.
fn details(connection: &Connection, major: u32) -> Result<Map<String, serde_json::Value>> {
    let (provider, locale) = match major {
        17.. => ("datlocprovider", "datlocale"),
        15 | 16 => ("datlocprovider", "daticulocale"),
        _ => ("'c'", "NULL"),
    };
    let sql = format!(
        "SELECT pg_encoding_to_char(encoding), datcollate, datctype, {provider}, {locale}, \
         pg_database_size(oid) FROM pg_database WHERE datname = current_database()"
    );
    let row = connection.ask(&sql)?.into_iter().next().unwrap_or_default();
    let names = ["encoding", "collate", "ctype", "locale_provider", "locale"];
    let mut details: Map<_, _> =
        names.into_iter().zip(&row).map(|(name, value)| (name.to_owned(), json!(value))).collect();
    let bytes: Option<u64> = row.get(5).cloned().flatten().and_then(|bytes| bytes.parse().ok());
    details.insert("bytes".to_owned(), bytes.into());
    Ok(details)
}

/// What a drill compares with: by which rules texts are sorted, and which cluster it is. Not everybody is told, so this is
/// asked outside of the transaction, which an error would end.
fn origin(connection: &Connection, major: u32) -> Map<String, serde_json::Value> {
    let mut origin = Map::new();
    if major >= 15
        && let Ok(Some(version)) = connection.value(
            "SELECT pg_database_collation_actual_version(oid) FROM pg_database WHERE datname = current_database()",
        )
    {
        origin.insert("collation_version".to_owned(), version.into());
    }
    if let Some(system) = system_of(connection) {
        origin.insert("system".to_owned(), system.into());
    }
    origin
}

/// Which cluster a server is, as a hash of the number that it got when it was made; its copies have the same. `None`
/// when it is not told.
pub(super) fn system_of(connection: &Connection) -> Option<String> {
    let number = connection.value("SELECT system_identifier FROM pg_catalog.pg_control_system()").ok().flatten()?;
    Some(format!("xxh3-128:{:032x}", xxh3_128(number.as_bytes())))
}
