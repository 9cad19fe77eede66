//! A database as a target: the dump is written to a file first, because programs that load in parallel need one, and is
//! loaded from there when all of it has come.
//!
//! What is always true: a database that holds something is not touched unless that was asked for; it is then replaced by
//! a new one, and only once that one is loaded. The copy of the dump lies in a folder that only this user can enter, and
//! goes with it; killed, the process leaves that folder, and what it had made of the database under another name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use backup_core::contracts::{Left, Target, TargetError, TargetFile, WriteOrder};
use backup_core::limits::GLOBALS_BYTES_MAX;
use backup_core::model::{Node, SnapshotPath};
use backup_core::observe::Amount;
use backup_core::{Error, Result};
use postgres_protocol::escape::{escape_identifier, escape_literal};
use tempfile::TempDir;

use super::archive::Found;
use super::connection::Connection;
use super::contents::Contents;
use super::creation::create;
use super::directory;
use super::encoding::encoded;
use super::observe;
use super::parallel::closed;
use super::part::{Missing, Part};
use super::present::is_there;
use super::programs::{Programs, complaint};
use super::properties;
use super::roles;
use super::server::Server;
use super::source::Roles;
use super::tls::Protection;
use super::view::Version;
use crate::databases::manifest::Manifest;
use crate::databases::url::Engine;
use crate::files::{FilesTarget, Owner, RestoreOptions, SpaceCheck, Stay};
use crate::program::Program;

/// How a dump is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// What happens to a database that holds something.
    pub existing: Existing,
    /// Whether missing roles are made, and objects given to their owners.
    pub roles: Roles,
    /// Only these schemas.
    pub schemas: Vec<String>,
    /// Only these tables.
    pub tables: Vec<String>,
    /// Whether a database that is made gets what is not in it but belongs to it: its settings, comment, grants, owner.
    pub own: OwnSettings,
    /// Connections that load at once; as many as there are cores when not given. A part is loaded by one.
    pub jobs: Option<NonZeroUsize>,
    /// The folder in which the copy of the dump gets its own.
    pub spool: PathBuf,
    /// Whether to begin when the space there does not seem to be enough.
    pub space: SpaceCheck,
}

/// What happens to a database that holds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is refused.
    Refused,
    /// It is replaced, once the new one is loaded; of a part, the objects are.
    Replaced,
}

/// What becomes of the settings, the comment, the grants and the owner of the database itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnSettings {
    /// A database that is made gets them; one that was there keeps its own. Without roles, only what names none.
    Restored,
    /// They are passed over, as in a database that is only looked at.
    LeftOut,
}

/// A database to be made, or filled, from a dump.
#[derive(Debug)]
pub struct PostgresTarget {
    server: Server,
    database: String,
    /// What is loaded into: the database, or the one that will replace it.
    loaded: String,
    must_make: bool,
    options: LoadOptions,
    programs: Programs,
    /// To the server, not to the database.
    connection: Mutex<Connection>,
    manifest: Manifest,
    folder: TempDir,
    files: FilesTarget,
    warnings: Mutex<Vec<String>>,
}

/// In which tablespaces tables and indexes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Places {
    AsBefore,
    /// The database's own.
    TheDatabases,
}

/// The folder with the copy, in the one that only this user can enter.
const COPY: &str = "copy";

/// Databases that every server has one of.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];

/// Complaints of pg_restore that are told.
const TOLD_MAX: usize = 3;

impl PostgresTarget {
    /// Looks at the server, the database and the programs, before anything is fetched for them.
    ///
    /// # Errors
    ///
    /// When the database holds something and that is to be refused, when the manifest is another engine's, or as
    /// [`super::PostgresSource::connect`].
    pub fn connect(server: &Server, database: &str, manifest: Manifest, options: LoadOptions) -> Result<Self> {
        let wrong = |what: String| Error::invalid(server.location(), what);
        if manifest.engine != Engine::Postgres.name() {
            return Err(wrong(format!("the snapshot holds a database of {}", manifest.engine)));
        }
        let (connection, server) = maintenance(server, database)?;
        let version = Version::of(&connection)?;
        let dumped_by = manifest.report.tools.iter().find(|tool| tool.name == "pg_dump");
        let dumped_by = dumped_by.and_then(|tool| major(&tool.version)).unwrap_or(version.major);
        let programs =
            server.programs(version.major.max(dumped_by)).map_err(|(what, hint)| wrong(what).with_hint(hint))?;
        let mut warnings = Vec::new();
        if dumped_by > version.major {
            warnings.push(format!(
                "the dump was made by pg_dump {dumped_by} and the server has version {}: it may not know everything",
                version.major
            ));
        }

        let exists = connection
            .value(&format!("SELECT 1 FROM pg_catalog.pg_database WHERE datname = {}", escape_literal(database)))?;
        let is_part = !options.schemas.is_empty() || !options.tables.is_empty();
        let holds = exists.is_some() && !is_empty(&server, database)?;
        if holds && !is_part && options.existing == Existing::Refused {
            return Err(wrong("the database is not empty".to_owned()).with_hint(
                "name one that does not exist, or replace it with --clean; one table or schema with --table, --schema",
            ));
        }
        let replaces = holds && !is_part;
        let loaded = if replaces { beside(database) } else { database.to_owned() };
        let folder =
            tempfile::Builder::new().prefix("backup-restore-").permissions(closed()).tempdir_in(&options.spool);
        let folder = folder.map_err(|error| {
            Error::invalid(options.spool.display().to_string(), "no folder for the dump can be made here")
                .caused_by(error)
                .with_hint("name another with --spool")
        })?;
        let how = RestoreOptions {
            owner: Owner::Restorer,
            space: options.space,
            stay: Stay::Passing,
            ..RestoreOptions::default()
        };
        // Below it, because what is restored brings its own permissions.
        let files = FilesTarget::new(folder.path().join(COPY), how);
        Ok(Self {
            must_make: exists.is_none() || replaces,
            server,
            database: database.to_owned(),
            loaded,
            options,
            programs,
            connection: Mutex::new(connection),
            manifest,
            folder,
            files,
            warnings: Mutex::new(warnings),
        })
    }

    /// The folder that the dump is written to before it is loaded.
    pub fn spool(&self) -> &Path {
        self.folder.path()
    }

    /// What a person should know of what was loaded.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn warn(&self, text: String) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    fn load(&self) -> Result<(), TargetError> {
        let failed = |action, why: &dyn ToString| TargetError::new(action, SnapshotPath::root(), why.to_string());
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let dump = self.folder.path().join(COPY).join("dump");
        self.check(&dump)?;
        let contents = self.contents(&dump)?;
        let part = self.part(&connection, contents.as_ref())?;
        if self.options.roles == Roles::Kept
            && let Some(globals) = self.globals()?
        {
            let problems = roles::make_missing(&connection, &globals).map_err(|error| failed("make roles", &error))?;
            problems.into_iter().for_each(|problem| self.warn(problem));
        }
        if self.must_make {
            if self.loaded != self.database {
                // What an earlier restore that was killed has left.
                let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", escape_identifier(&self.loaded));
                connection.ask(&drop).map_err(|error| failed("drop what an earlier restore left", &error))?;
            }
            let warning = create(&connection, &self.loaded, &self.manifest.details, None).map_err(|error| {
                failed("create the database", &error)
                    .with_hint("the user needs CREATEDB; or create it, empty, beforehand")
            })?;
            warning.into_iter().for_each(|warning| self.warn(warning));
        }
        let list = match part {
            Some(part) => Some(self.list(part, contents.as_ref().and_then(Contents::encoding))?),
            None => None,
        };
        let places =
            self.places(&connection, contents.as_ref()).map_err(|error| failed("look at tablespaces", &error))?;
        self.run(&dump, list.as_deref(), places)?;
        let contents = contents.filter(|_| self.must_make && list.is_none());
        let contents = contents.filter(|_| self.options.own == OwnSettings::Restored);
        if let Some(contents) = &contents {
            let problems = properties::apply(&connection, contents, &self.loaded, self.options.roles);
            problems.into_iter().for_each(|problem| self.warn(problem));
        }
        if self.loaded != self.database {
            let (old, new) = (escape_identifier(&self.database), escape_identifier(&self.loaded));
            let replaced = connection
                .ask(&format!("DROP DATABASE {old} WITH (FORCE)"))
                .and_then(|_| connection.ask(&format!("ALTER DATABASE {new} RENAME TO {old}")));
            replaced.map_err(|error| {
                failed("replace the database", &error).with_hint(format!("what was restored is in the database {new}"))
            })?;
        }
        // The last thing, because only its owner may do the others.
        if let Some(contents) = contents.filter(|_| self.options.roles == Roles::Kept) {
            properties::give_away(&connection, &contents, &self.database).into_iter().for_each(|told| self.warn(told));
        }
        Ok(())
    }

    /// The table of contents; `None` when its format is not known here.
    fn contents(&self, dump: &Path) -> Result<Option<Contents>, TargetError> {
        let read = match dump.is_dir() {
            true => File::open(dump.join(directory::CONTENTS)).and_then(directory::contents),
            false => File::open(dump).and_then(observe::contents),
        };
        read.map_err(|error| TargetError::of_io("read", SnapshotPath::parse(b"dump"), &error))
    }

    /// What of the dump was asked for, when that is a part.
    fn part<'a>(
        &self,
        connection: &Connection,
        contents: Option<&'a Contents>,
    ) -> Result<Option<Part<'a>>, TargetError> {
        let LoadOptions { schemas, tables, .. } = &self.options;
        if schemas.is_empty() && tables.is_empty() {
            return Ok(None);
        }
        let failed = |why: String| TargetError::new("load", SnapshotPath::parse(b"dump"), why);
        let contents = contents.ok_or_else(|| {
            failed("a part of it cannot be chosen: its format is not known here".to_owned())
                .with_hint("restore it whole, into a database of its own")
        })?;
        let named = |names: &[String]| -> Result<Vec<Vec<u8>>, TargetError> {
            let encoding = contents.encoding().unwrap_or("SQL_ASCII");
            let names = names.iter().map(|name| encoded(connection, name, encoding));
            names.collect::<Result<_>>().map_err(|error| failed(error.to_string()))
        };
        Part::find(contents, &named(schemas)?, &named(tables)?).map(Some).map_err(|missing| {
            let missing = match missing {
                Missing::Schema(place) => format!("schema {}", schemas[place]),
                Missing::Table(place) => format!("table {}", tables[place]),
            };
            failed(format!("it has no {missing}"))
                .with_hint("a name is written as PostgreSQL has it, a table's alone or as SCHEMA.TABLE")
        })
    }

    /// The list of entries that pg_restore is given for a part, as a file.
    fn list(&self, part: Part<'_>, encoding: Option<&str>) -> Result<PathBuf, TargetError> {
        let failed = |error: &dyn ToString| TargetError::new("load", SnapshotPath::root(), error.to_string());
        let (connection, _) = Connection::open(&self.server, &self.loaded).map_err(|error| failed(&error))?;
        let completed =
            part.complete(&mut |entry| is_there(&connection, entry, encoding)).map_err(|error| failed(&error))?;
        let (numbers, told) = completed;
        told.into_iter().for_each(|text| self.warn(text));
        let path = self.folder.path().join("list");
        let lines: String = numbers.iter().map(|number| format!("{number};\n")).collect();
        fs::write(&path, lines).map_err(|error| failed(&error))?;
        Ok(path)
    }

    /// Looks whether the dump is whole and what the manifest says, and completes it with the places of its data.
    fn check(&self, dump: &Path) -> Result<(), TargetError> {
        let damaged = |why: &dyn ToString| {
            TargetError::new("load", SnapshotPath::parse(b"dump"), why.to_string()).with_hint(
                "nothing was loaded; `check --read-data` shows what else is damaged, another snapshot may be whole",
            )
        };
        let found = match dump.is_dir() {
            true => directory::read(dump),
            false => File::open(dump).and_then(|mut file| observe::read(&mut file)),
        };
        let found = found.map_err(|error| damaged(&error))?;
        let Found { expectations, apart, is_understood, .. } = &found;
        if !is_understood {
            return Ok(());
        }
        let expected = &self.manifest.report.expectations;
        // Manifests of before counted the rows of every partition for itself, and hashed what belongs to the database itself
        // with its name.
        let differences = observe::compare(expected, &[&expectations[..], apart].concat());
        if let Some(difference) = differences.iter().find(|difference| !difference.is_of_the_database()) {
            return Err(damaged(&format!("it is not the dump that its manifest describes: {}", difference.told())));
        }
        if found.blocks.is_empty() {
            return Ok(());
        }
        let complete = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).open(dump)?;
            for block in &found.blocks {
                file.seek(SeekFrom::Start(block.entry_place))?;
                file.write_all(&block.place())?;
            }
            Ok(())
        };
        complete().map_err(|error| TargetError::of_io("write", SnapshotPath::parse(b"dump"), &error))
    }

    fn globals(&self) -> Result<Option<String>, TargetError> {
        let of_io = |error: &io::Error| TargetError::of_io("read", SnapshotPath::parse(b"globals.sql"), error);
        match File::open(self.folder.path().join(COPY).join("globals.sql")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(of_io(&error)),
            Ok(file) => {
                let mut text = Vec::new();
                file.take(GLOBALS_BYTES_MAX).read_to_end(&mut text).map_err(|error| of_io(&error))?;
                // A role has the bytes that it was given in the encoding of some database, which nobody knows later.
                Ok(Some(String::from_utf8_lossy(&text).into_owned()))
            }
        }
    }

    /// Where tables and indexes are put: in the tablespaces that they had, if the server has all of those.
    fn places(&self, connection: &Connection, contents: Option<&Contents>) -> Result<Places> {
        let entries = contents.into_iter().flat_map(Contents::entries);
        let mut wanted: Vec<&str> = entries.filter_map(|entry| entry.tablespace.as_deref()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(Places::AsBefore);
        }
        let present = connection.ask("SELECT spcname FROM pg_catalog.pg_tablespace")?.concat();
        wanted.retain(|name| !present.iter().flatten().any(|present| present == name));
        if wanted.is_empty() {
            return Ok(Places::AsBefore);
        }
        self.warn(format!(
            "the server does not have the tablespace {}: all lies where the database does",
            wanted.join(", ")
        ));
        Ok(Places::TheDatabases)
    }

    /// Loads the dump, or what `list` names of it.
    fn run(&self, dump: &Path, list: Option<&Path>, places: Places) -> Result<(), TargetError> {
        let failed = |why: String| TargetError::new("load", SnapshotPath::parse(b"dump"), why);
        let protection = Protection::of(&self.server).map_err(|error| failed(error.to_string()))?;
        let jobs = self.options.jobs.or_else(|| std::thread::available_parallelism().ok());
        let mut command = self.programs.command("pg_restore");
        command.arg("--no-password");
        // Without a database pg_restore would print. A name with an equals sign would be taken for a connection.
        command.arg(format!("--dbname=dbname='{}'", self.loaded.replace('\\', "\\\\").replace('\'', "\\'")));
        if self.options.roles == Roles::LeftOut {
            command.args(["--no-owner", "--no-privileges"]);
        }
        if places == Places::TheDatabases {
            command.arg("--no-tablespaces");
        }
        match list {
            None => {
                command.arg(format!("--jobs={}", jobs.map_or(1, NonZeroUsize::get)));
            }
            // Beside what is there it is all or nothing: rows must not be added to a table that was there before, and one
            // that is replaced must not be lost when the new one is refused.
            Some(list) => {
                command.arg("--single-transaction").arg("--use-list").arg(list);
                if self.options.existing == Existing::Replaced {
                    command.args(["--clean", "--if-exists"]);
                }
            }
        }
        command.arg(dump);
        self.server.equip(&mut command, &self.loaded, protection.authorities.as_deref());
        let mut running = Program::start(command).map_err(|error| failed(error.to_string()))?;
        let mut nothing = [0; 1_024];
        while running.read(&mut nothing).map_err(|error| failed(error.to_string()))? > 0 {}
        let ended = running.finish().map_err(&failed)?;
        for line in ended.said.lines() {
            if let Some((_, warning)) = line.split_once("pg_restore: warning: ") {
                self.warn(warning.trim().to_owned());
            }
        }
        if ended.status.success() {
            return Ok(());
        }
        let told: Vec<&str> =
            ended.said.lines().filter_map(|line| Some(line.split_once("error: ")?.1.trim())).take(TOLD_MAX).collect();
        let what = if told.is_empty() { complaint(&ended) } else { told.join("; ") };
        let hint = match (list.is_some(), self.options.existing) {
            (true, Existing::Refused) => {
                "nothing was changed; an object that is there already is replaced with --clean"
            }
            (true, Existing::Replaced) => {
                "nothing was changed; drop what depends on it first, and make that again after"
            }
            (false, _) => "the database is not complete; --no-roles loads it without its owners and grants",
        };
        Err(failed(format!("{what}, into the database {}", escape_identifier(&self.loaded))).with_hint(hint))
    }
}

impl Target for PostgresTarget {
    fn location(&self) -> String {
        self.server.location()
    }

    fn order(&self) -> WriteOrder {
        self.files.order()
    }

    fn begin(&self, expected: Amount) -> Result<(), TargetError> {
        self.files.begin(expected)
    }

    fn enter(&self, path: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
        self.files.enter(path, node)
    }

    fn file(&self, path: &SnapshotPath, node: &Node) -> Result<Box<dyn TargetFile>, TargetError> {
        self.files.file(path, node)
    }

    fn hard_link(&self, path: &SnapshotPath, first: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
        self.files.hard_link(path, first, node)
    }

    fn special(&self, path: &SnapshotPath, node: &Node) -> Result<Vec<TargetError>, TargetError> {
        self.files.special(path, node)
    }

    fn leave(&self, path: &SnapshotPath, node: &Node, names: Option<&[Vec<u8>]>) -> Result<Left, TargetError> {
        self.files.leave(path, node, names)
    }

    fn finish(&self) -> Result<(), TargetError> {
        self.load()
    }
}

/// The name under which a database is loaded that will replace another. PostgreSQL cuts names off at 63 bytes, and one
/// that was cut off could be the name of the database that is to be replaced.
fn beside(database: &str) -> String {
    const NAME_BYTES_MAX: usize = 63;
    const SUFFIX: &str = ".backup-restore";
    let longest = database.len().min(NAME_BYTES_MAX - SUFFIX.len());
    let end = (0..=longest).rev().find(|&end| database.is_char_boundary(end)).unwrap_or(0);
    format!("{}{SUFFIX}", &database[..end])
}

/// A connection to the server that is none to `database`.
pub(super) fn maintenance(server: &Server, database: &str) -> Result<(Connection, Server)> {
    let mut outcome = None;
    for name in MAINTENANCE.into_iter().filter(|name| *name != database) {
        match Connection::open(server, name) {
            Ok(opened) => return Ok(opened),
            // The first one's reason is the better one.
            Err(error) => outcome = outcome.or(Some(error)),
        }
    }
    Err(outcome.unwrap_or_else(|| Error::invalid(server.location(), "it has no database to connect to")))
}

/// Whether there is nothing in a database but what every one has, and what extensions brought.
fn is_empty(server: &Server, database: &str) -> Result<bool> {
    let (connection, _) = Connection::open(server, database)?;
    let of_users = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (\
                    SELECT FROM pg_catalog.pg_depend d WHERE d.objid = x.oid AND d.deptype = 'e')";
    let found = connection.value(&format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class x JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace \
         WHERE {of_users}) OR EXISTS (SELECT FROM pg_catalog.pg_proc x JOIN pg_catalog.pg_namespace n \
         ON n.oid = x.pronamespace WHERE {of_users}) OR EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)"
    ))?;
    Ok(found.as_deref() != Some("t"))
}

pub(super) fn major(version: &str) -> Option<u32> {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_never_loaded_under_the_name_that_it_will_replace() {
        for name in ["app", &"x".repeat(63), &"ä".repeat(31), &format!("{}.backup-restore", "x".repeat(40))] {
            let loaded = beside(name);
            assert!(loaded.len() <= 63 && loaded != *name, "{loaded}");
        }
        assert_eq!(beside("app"), "app.backup-restore");
    }

    #[test]
    fn a_version_begins_with_its_major_number() {
        assert_eq!((major("16.13"), major("18beta1"), major("devel")), (Some(16), Some(18), None));
    }
}
