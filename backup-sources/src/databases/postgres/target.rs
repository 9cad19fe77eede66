//! A database as a target: pg_restore loads the dump by several connections, out of the repository (`laid_out.rs`), or from
//! a copy where that cannot be (`Way`).
//!
//! What is always true: a database that holds something is not touched unless that was asked for; it is then replaced by
//! a new one, and only once that one is loaded and is what the manifest describes. What is laid down of the dump lies in a
//! folder that only this user can enter, and goes with it; killed, the process leaves that folder, and what it had made of
//! the database under another name.

mod described;
mod replaced;
mod run;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use backup_core::contracts::{Left, Stored, Target, TargetError, TargetFile, WriteOrder};
use backup_core::limits::GLOBALS_BYTES_MAX;
use backup_core::model::{Node, NodeKind, SnapshotPath};
use backup_core::observe::Amount;
use backup_core::{Error, Result};
use postgres_protocol::escape::escape_literal;
use tempfile::TempDir;

use super::connection::Connection;
use super::contents::Contents;
use super::directory;
use super::encoding::encoded;
use super::laid_out::is_piped;
use super::observe;
use super::parallel::closed;
use super::part::{Missing, Part};
use super::places::Places;
use super::present::is_there;
use super::programs::Programs;
use super::properties;
use super::roles;
use super::server::Server;
use super::source::{JOBS, Roles};
use super::view::Version;
use crate::databases::manifest::Manifest;
use crate::databases::url::Engine;
use crate::files::{FilesTarget, Owner, RestoreOptions, SpaceCheck, Stay};

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
    /// The folder in which what is laid down of the dump gets its own.
    pub spool: PathBuf,
    /// Whether to begin when the space there does not seem to be enough.
    pub space: SpaceCheck,
    /// Who reads what lies in that folder.
    pub readers: Readers,
}

/// Who reads the folder with what is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// The user whose process this is.
    ThisUser,
    /// A user as whom the client programs run, and who can enter the folder above it: everybody may read.
    Everybody,
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
    way: Way,
    options: LoadOptions,
    programs: Programs,
    /// To the server, not to the database.
    connection: Mutex<Connection>,
    manifest: Manifest,
    folder: TempDir,
    files: FilesTarget,
    warnings: Mutex<Vec<String>>,
}

/// How the dump comes to pg_restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// From the repository, as it is read: a dump in one file whose manifest says where in it each table is.
    OneFile,
    /// The same, of a dump that is a folder.
    Folder,
    /// As a copy: of a format that is not known here, or backed up when manifests did not say where tables are.
    Copied,
}

impl Way {
    fn of(manifest: &Manifest) -> Self {
        match () {
            () if Places::of(&manifest.details).is_some() => Self::OneFile,
            () if manifest.details.contains_key(JOBS) => Self::Folder,
            () => Self::Copied,
        }
    }
}

/// In which tablespaces tables and indexes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tablespaces {
    AsBefore,
    /// The database's own.
    TheDatabases,
}

/// The folder with what is restored as files, in the one that only this user can enter.
const COPY: &str = "copy";

/// The dump in it.
const DUMP: &str = "dump";

/// Databases that every server has one of.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];

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
        let loaded = if replaces { replaced::beside(database) } else { database.to_owned() };
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
            way: Way::of(&manifest),
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

    /// The folder that the dump is copied to before it is loaded, when it has to be.
    pub fn copied_to(&self) -> Option<&Path> {
        (self.way == Way::Copied).then(|| self.folder.path())
    }

    /// What a person should know of what was loaded.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn warn(&self, text: String) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    fn load(&self, stored: &dyn Stored) -> Result<(), TargetError> {
        let failed = |action, why: &dyn ToString| TargetError::new(action, SnapshotPath::root(), why.to_string());
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.folder.path().join(COPY).join(DUMP);
        let dump = self.stored_dump(stored, &folder);
        let contents = match &dump {
            Some(dump) => Some(self.described(dump)?),
            None => {
                self.check(&folder)?;
                self.contents(&folder)?
            }
        };
        let part = self.part(&connection, contents.as_ref())?;
        // Before anything is touched, as far as that can be: which entries a part takes depends on what is there.
        let mut laid_out = match &part {
            None => self.lay_out(dump.as_ref(), contents.as_ref(), None)?,
            Some(_) => None,
        };
        if self.options.roles == Roles::Kept
            && let Some(globals) = self.globals()?
        {
            let problems = roles::make_missing(&connection, &globals).map_err(|error| failed("make roles", &error))?;
            problems.into_iter().for_each(|problem| self.warn(problem));
        }
        if self.must_make {
            self.make(&connection)?;
        }
        let list = match part {
            Some(part) => Some(self.list(part, contents.as_ref().and_then(Contents::encoding))?),
            None => None,
        };
        if let Some((_, numbers)) = &list {
            laid_out = self.lay_out(dump.as_ref(), contents.as_ref(), Some(numbers))?;
        }
        let places =
            self.places(&connection, contents.as_ref()).map_err(|error| failed("look at tablespaces", &error))?;
        let data = self.run(&folder, list.as_ref().map(|(path, _)| &**path), places, stored, laid_out)?;
        match (data, &contents) {
            (Some(data), Some(contents)) if list.is_none() => self.compare(contents, data)?,
            (Some(data), Some(contents)) => self.compare_part(contents, &data)?,
            _ => {}
        }
        let contents = contents.filter(|_| self.must_make && list.is_none());
        let contents = contents.filter(|_| self.options.own == OwnSettings::Restored);
        if let Some(contents) = &contents {
            let problems = properties::apply(&connection, contents, &self.loaded, self.options.roles);
            problems.into_iter().for_each(|problem| self.warn(problem));
        }
        if self.loaded != self.database {
            self.replace(&connection)?;
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

    /// The entries that pg_restore is given for a part: a file with their list, and their numbers.
    fn list(&self, part: Part<'_>, encoding: Option<&str>) -> Result<(PathBuf, HashSet<i32>), TargetError> {
        let failed = |error: &dyn ToString| TargetError::new("load", SnapshotPath::root(), error.to_string());
        let (connection, _) = Connection::open(&self.server, &self.loaded).map_err(|error| failed(&error))?;
        let completed =
            part.complete(&mut |entry| is_there(&connection, entry, encoding)).map_err(|error| failed(&error))?;
        let (numbers, told) = completed;
        told.into_iter().for_each(|text| self.warn(text));
        let path = self.folder.path().join("list");
        let lines: String = numbers.iter().map(|number| format!("{number};\n")).collect();
        fs::write(&path, lines).map_err(|error| failed(&error))?;
        Ok((path, numbers.into_iter().collect()))
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
    fn places(&self, connection: &Connection, contents: Option<&Contents>) -> Result<Tablespaces> {
        let entries = contents.into_iter().flat_map(Contents::entries);
        let mut wanted: Vec<&str> = entries.filter_map(|entry| entry.tablespace.as_deref()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(Tablespaces::AsBefore);
        }
        let present = connection.ask("SELECT spcname FROM pg_catalog.pg_tablespace")?.concat();
        wanted.retain(|name| !present.iter().flatten().any(|present| present == name));
        if wanted.is_empty() {
            return Ok(Tablespaces::AsBefore);
        }
        self.warn(format!(
            "the server does not have the tablespace {}: all lies where the database does",
            wanted.join(", ")
        ));
        Ok(Tablespaces::TheDatabases)
    }
}

impl Target for PostgresTarget {
    fn location(&self) -> String {
        self.server.location()
    }

    fn order(&self) -> WriteOrder {
        self.files.order()
    }

    fn reads(&self, path: &SnapshotPath, node: &Node) -> bool {
        let mut names = path.components();
        if names.next() != Some(DUMP.as_bytes()) {
            return false;
        }
        match (self.way, names.next(), names.next()) {
            (Way::OneFile, None, _) => matches!(node.kind, NodeKind::File { .. }),
            (Way::Folder, Some(name), None) => is_piped(name, node.size()),
            _ => false,
        }
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

    fn load(&self, stored: &dyn Stored) -> Result<(), TargetError> {
        Self::load(self, stored)
    }

    /// What the server has, it keeps.
    fn finish(&self) -> Result<(), TargetError> {
        Ok(())
    }
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
    fn a_version_begins_with_its_major_number() {
        assert_eq!((major("16.13"), major("18beta1"), major("devel")), (Some(16), Some(18), None));
    }
}
