//! A database as a source.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backup_core::codec::Compression;
use backup_core::contracts::{Consistency, RecoveryPoint, Report, Source, SourceError, SourceEvent, SourceInfo, Tool};
use backup_core::model::SnapshotPath;
use backup_core::{Error, Result};
use serde_json::Map;

use super::absent::absent;
use super::archive::{ArchiveError, Found};
use super::connection::Connection;
use super::dump::Dump;
use super::encoding::argument;
use super::failure;
use super::globals::Globals;
use super::parallel::{self, Progress, Spool};
use super::places;
use super::programs::Programs;
use super::rewritten;
use super::server::Server;
use super::tls::Protection;
use super::view::{self, Version, View};
use crate::databases::folder::{File, Folder, Stream, Turn};
use crate::databases::manifest::{MANIFEST, Manifest};
use crate::databases::url::Engine;
use crate::program::Ended;

/// The detail of a manifest that tells of a dump by several connections, which is a folder, how many those were.
pub(super) const JOBS: &str = "jobs";

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
    /// Several connections that dump at once; `None` for one, which streams and needs no copy on this machine.
    pub parallel: Option<Parallel>,
}

/// A dump by several connections. It is written to a folder first, in pg_dump's directory format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parallel {
    /// How many.
    pub jobs: NonZeroUsize,
    /// The folder in which the dump gets its own.
    pub spool: PathBuf,
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
            parallel: None,
        }
    }
}

impl DumpOptions {
    /// What pg_dump is asked for, in the words of the database that `connection` is to.
    ///
    /// # Errors
    ///
    /// When its encoding has not the letters of a pattern.
    pub(super) fn wanted(&self, connection: &Connection) -> Result<Wanted> {
        let patterns = self.patterns().map(|(option, pattern)| argument(connection, option, pattern));
        Ok(Wanted { patterns: patterns.collect::<Result<_>>()?, lock_wait_seconds: self.lock_wait_seconds })
    }

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

/// What pg_dump is asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Arguments that say which part, in the database's encoding: pg_dump speaks it.
    patterns: Vec<OsString>,
    lock_wait_seconds: u64,
}

/// One database of a server, in the state of the instant at which this was made.
///
/// It holds a transaction open until it is dropped.
#[derive(Debug)]
pub struct PostgresSource {
    walk: Walk,
    shared: Arc<Shared>,
}

/// The walk through the folder of the snapshot.
#[derive(Debug)]
enum Walk {
    /// Which files there are is known when pg_dump has written its table of contents.
    ToBegin(Box<Command>, Spool, Option<Vec<u8>>),
    Begun(Folder),
    Failed,
}

/// What the streams and the source share.
#[derive(Debug)]
pub(super) struct Shared {
    database: String,
    pub(super) path: SnapshotPath,
    /// Sees what pg_dump sees.
    connection: Mutex<Connection>,
    recovery_point: RecoveryPoint,
    tools: Vec<Tool>,
    details: Map<String, serde_json::Value>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    found: Option<Found>,
    /// Of a dump by several connections, until its manifest is written.
    pub(super) parallel: Option<Progress>,
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
        let programs = server.programs(version.major).map_err(|(what, hint)| unfit(what, hint))?;
        let protection = Protection::of(&server)?;
        let server = view::writing_alike(server, &connection);
        let is_whole = options.schemas.is_empty() && options.tables.is_empty();
        let mut warnings = if is_whole { absent(&connection) } else { Vec::new() };
        let origin = view::origin(&connection, version.major);
        let wanted = options.wanted(&connection)?;
        let view = View::take(&connection, version.major)?;
        let spool = options.parallel.as_ref().map(|parallel| Spool::make(&parallel.spool, &connection)).transpose()?;
        let globals = match options.roles {
            Roles::Kept => Globals::dump(&server, database, &programs, &protection),
            Roles::LeftOut => Globals { text: None, warning: None },
        };

        warnings.extend(globals.warning);
        let time = view.point.time;
        let mut details = view::details(&connection, version.major)?;
        details.extend(origin);
        let patterns: Vec<String> = options.patterns().map(|(option, pattern)| format!("{option}={pattern}")).collect();
        if !patterns.is_empty() {
            details.insert("selection".to_owned(), patterns.into());
        }
        if let Some(parallel) = &options.parallel {
            details.insert(JOBS.to_owned(), parallel.jobs.get().into());
        }
        let tool = |name: &str, version: &str| Tool { name: name.to_owned(), version: version.to_owned() };
        let shared = Arc::new(Shared {
            database: database.to_owned(),
            path: crate::databases::folder::path_of(Engine::Postgres, database),
            connection: Mutex::new(connection),
            recovery_point: view.point,
            tools: vec![tool("postgresql", &version.text), tool("pg_dump", &programs.version)],
            details,
            state: Mutex::new(State { warnings, ..State::default() }),
        });
        let form = spool.as_ref().zip(options.parallel.as_ref()).map(|(spool, parallel)| (spool.dump(), parallel.jobs));
        let form = form.map_or(Form::Streamed, |(folder, jobs)| Form::Directory { folder, jobs });
        let command = dump_command(&server, database, &programs, &protection, &wanted, form, Some(&view.snapshot));
        let walk = match spool {
            Some(spool) => Walk::ToBegin(Box::new(command), spool, globals.text),
            None => {
                let files = [dump(&shared, command)].into_iter().chain(beside(&shared, globals.text)).collect();
                Walk::Begun(Folder::new(Engine::Postgres, database, files, time))
            }
        };
        Ok(Self { walk, shared })
    }

    /// The walk, which begins when it is first asked for.
    fn folder(&mut self) -> Result<&mut Folder, SourceError> {
        self.walk = match std::mem::replace(&mut self.walk, Walk::Failed) {
            Walk::ToBegin(command, spool, globals) => {
                let inner = ("dump", parallel::start(&self.shared, *command, spool)?);
                let Shared { database, recovery_point, .. } = &*self.shared;
                let files = beside(&self.shared, globals);
                Walk::Begun(Folder::with_folder(Engine::Postgres, database, inner, files, recovery_point.time))
            }
            walk => walk,
        };
        match &mut self.walk {
            Walk::Begun(folder) => Ok(folder),
            _ => Err(SourceError::new("dump", self.shared.path.clone(), "it was not begun")),
        }
    }
}

impl Source for PostgresSource {
    fn info(&self) -> SourceInfo {
        SourceInfo { paths: vec![self.shared.path.to_string()], excludes: Vec::new() }
    }

    fn level(&self) -> Option<i32> {
        Some(Compression::DUMP_LEVEL)
    }

    fn next(&mut self) -> Result<Option<SourceEvent>, SourceError> {
        Ok(self.folder()?.next())
    }

    fn finish(&mut self) -> Result<Report, SourceError> {
        self.folder()?.settle()?;
        let report = self.shared.lock().report.clone();
        report.ok_or_else(|| SourceError::new("read", self.shared.path.clone(), "its manifest was not written"))
    }
}

/// The dump as one file.
fn dump(shared: &Arc<Shared>, command: Command) -> File {
    let shared = Arc::clone(shared);
    let open = move || {
        let dump = Dump::start(command).map_err(|why| SourceError::new("dump", shared.path.clone(), why))?;
        // It has written its first bytes, and before those it has locked what it dumps.
        let rewritten = Some(shared.rewritten());
        Ok(Box::new(DumpStream { dump, shared, rewritten, complaint: None }) as Box<dyn Stream>)
    };
    File::stream("dump", Turn::Any, Box::new(open))
}

/// The files that lie beside the dump.
fn beside(shared: &Arc<Shared>, globals: Option<Vec<u8>>) -> Vec<File> {
    let manifest = {
        let shared = Arc::clone(shared);
        move || Ok(Box::new(Text(shared.manifest()?.into())) as Box<dyn Stream>)
    };
    let mut files = vec![File::stream(MANIFEST, Turn::Last, Box::new(manifest))];
    if let Some(globals) = globals {
        let open = Box::new(move || Ok(Box::new(Text(globals.into())) as Box<dyn Stream>));
        files.push(File::stream("globals.sql", Turn::Any, open));
    }
    files
}

/// What pg_dump makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One file, on its standard output.
    Streamed,
    /// A folder, by so many connections.
    Directory { folder: PathBuf, jobs: NonZeroUsize },
}

/// pg_dump, for everything that is `wanted`.
pub(super) fn dump_command(
    server: &Server,
    database: &str,
    programs: &Programs,
    protection: &Protection,
    wanted: &Wanted,
    form: Form,
    snapshot: Option<&str>,
) -> Command {
    let mut command = programs.command("pg_dump");
    command.args(["--compress=0", "--no-password"]);
    match form {
        Form::Streamed => {
            command.arg("--format=custom");
        }
        Form::Directory { folder, jobs } => {
            // The folder is gone when the snapshot is there: it need not be durable.
            command.args(["--format=directory", "--no-sync"]).arg(format!("--jobs={jobs}"));
            command.arg("--file").arg(folder);
        }
    }
    command.arg(format!("--lock-wait-timeout={}s", wanted.lock_wait_seconds));
    if let Some(snapshot) = snapshot {
        command.arg(format!("--snapshot={snapshot}"));
    }
    command.args(&wanted.patterns);
    server.equip(&mut command, database, protection.authorities.as_deref());
    command
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that sees what pg_dump sees.
    pub(super) fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tables whose rows the view does not show any more, once pg_dump has locked what it dumps.
    pub(super) fn rewritten(&self) -> Result<HashSet<u32>, SourceError> {
        let rewritten = rewritten::rewritten(&self.connection());
        rewritten.map_err(|error| SourceError::new("dump", self.path.clone(), error.to_string()))
    }

    /// Why pg_dump, which has ended, has failed, if it has.
    pub(super) fn judge(&self, ended: &Result<Ended, String>) -> Result<(), SourceError> {
        match ended {
            Err(why) => Err(SourceError::new("dump", self.path.clone(), why)),
            Ok(ended) if ended.status.success() => Ok(()),
            Ok(ended) => Err(failure::of_dump(self.path.clone(), ended, Some(&self.connection()))),
        }
    }

    /// That a dump is not whole although pg_dump has no complaint.
    pub(super) fn cut_short(&self, error: &ArchiveError) -> SourceError {
        failure::not_whole(self.path.clone(), error)
    }

    /// Keeps what pg_dump warned of.
    fn note(&self, ended: &Ended) {
        let warnings = ended.said.lines().filter_map(|line| line.split_once("warning: "));
        let told = warnings.take(WARNINGS_MAX).map(|(_, warning)| format!("pg_dump: {warning}"));
        self.lock().warnings.extend(told);
    }

    /// What the dump held.
    fn found(&self) -> Result<Found, SourceError> {
        let failed = |why: &str| SourceError::new("describe", self.path.clone(), why);
        let Some(parallel) = self.lock().parallel.take() else {
            return self.lock().found.take().ok_or_else(|| failed("the dump was not read to its end"));
        };
        let (found, ended) =
            parallel.settle(|ended| self.judge(ended), |why| failure::not_whole(self.path.clone(), &why))?;
        if let Ok(ended) = &*ended {
            self.note(ended);
        }
        Ok(found)
    }

    /// Everything else was read: what there is to say of it.
    fn manifest(&self) -> Result<Vec<u8>, SourceError> {
        let failed = |why: &dyn ToString| SourceError::new("describe", self.path.clone(), why.to_string());
        let found = self.found()?;
        let mut state = self.lock();
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
            held: None,
        };
        let mut details = self.details.clone();
        if found.is_understood && !details.contains_key(JOBS) {
            places::note(&found.blocks, &mut details);
        }
        let manifest = Manifest { details, ..Manifest::new(Engine::Postgres, &self.database, report.clone()) };
        let bytes = manifest.to_bytes().map_err(|error| failed(&error))?;
        state.report = Some(report);
        Ok(bytes)
    }
}

/// The dump on its way into the snapshot.
struct DumpStream {
    dump: Dump,
    shared: Arc<Shared>,
    /// Tables that may be without their rows, until it is known which are dumped. When that could not be asked, pg_dump's own
    /// failure is told before it, if there is one.
    rewritten: Option<Result<HashSet<u32>, SourceError>>,
    /// Why the rest need not be read.
    complaint: Option<SourceError>,
}

impl Stream for DumpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.complaint.is_some() {
            return Ok(0);
        }
        let length = self.dump.read(buffer)?;
        if self.rewritten.is_some()
            && let Some(contents) = self.dump.contents()
        {
            self.complaint = match self.rewritten.take() {
                Some(Ok(rewritten)) => rewritten::failure(&self.shared.path, &rewritten, contents),
                Some(Err(error)) => Some(error),
                None => None,
            };
        }
        Ok(length)
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        let Self { dump, shared, complaint, .. } = *self;
        if let Some(complaint) = complaint {
            return Err(complaint);
        }
        let failed = |ended: &Ended| failure::of_dump(shared.path.clone(), ended, Some(&shared.connection()));
        let (found, ended) = dump.finish(&shared.path, failed)?;
        shared.note(&ended);
        shared.lock().found = Some(found);
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
