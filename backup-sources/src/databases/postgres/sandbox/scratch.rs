//! A database of its own on a server that is there for drills: for machines without PostgreSQL's server, and for
//! managed servers.
//!
//! What is always true: the server is not the one that was backed up, which is known by the number that every cluster
//! gets when it is made and its copies keep; when the manifest does not tell it, nothing is started. The database's name
//! is random, and before it is dropped it is made sure that it is the very one that was made: its number in the
//! catalogue, and a random word in its comment. What restores is no superuser.
//!
//! While a drill lives it has a session under its database's name. Databases of drills without such a session are
//! leftovers of killed ones, and the next drill drops them.
//!
//! The server may hang as any other: it gets [`SANDBOX_SERVER_SILENCE_MAX`] for an answer to what is asked of it as a
//! server. What is asked of the restored data takes as long as it takes, until a stop is asked for.

use std::path::PathBuf;
use std::time::Duration;

use backup_core::cancel::Cancel;
use backup_core::contracts::{
    Answer, Caveats, Check, Entrance, Expected, Newest, NotReady, Question, Sandbox, SandboxError, SandboxFacts,
    Stopper, Target, Tool,
};
use backup_core::limits::{DATABASE_SILENCE_SECONDS_MAX, SANDBOX_SERVER_SILENCE_MAX};
use backup_core::observe::Amount;
use backup_core::{Error, ErrorKind, Result};
use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::needs::{of_superusers, version_of};
use super::restored::{Endpoint, Restored, Rights, Spool};
use crate::databases::examined::folder_with_room;
use crate::databases::manifest::Manifest;
use crate::databases::postgres::connection::Connection;
use crate::databases::postgres::creation::create;
use crate::databases::postgres::failure::words;
use crate::databases::postgres::places::laid_bytes;
use crate::databases::postgres::server::{Bounds, Server};
use crate::databases::postgres::target::maintenance;
use crate::databases::postgres::view::{Version, system_of};
use crate::sandbox::SandboxFolder;

/// How the names of databases begin that drills make.
const PREFIX: &str = "backup_drill_";

/// How long the server may take to make a database, and to drop one with its files.
const MAKING_MAX: Option<Duration> = Some(Duration::from_secs(DATABASE_SILENCE_SECONDS_MAX));

/// A database of its own on a server that is there for drills.
#[derive(Debug)]
pub struct PostgresScratch {
    manifest: Manifest,
    server: Server,
    parent: PathBuf,
    facts: SandboxFacts,
    made: Option<Made>,
}

/// A database that was made. It is dropped with this.
#[derive(Debug)]
struct Made {
    restored: Restored,
    database: Database,
    folder: SandboxFolder,
}

/// The database itself, and the session that says it is in use.
#[derive(Debug)]
struct Database {
    connection: Connection,
    name: String,
    /// Its number in the catalogue.
    number: String,
    /// What stands in its comment.
    word: String,
    is_there: bool,
}

impl PostgresScratch {
    /// For the dump that `manifest` describes, on `server`; what is laid down of the dump gets a folder in `parent`.
    pub fn new(manifest: Manifest, server: Server, parent: PathBuf) -> Self {
        let facts = SandboxFacts { provider: "server".to_owned(), ..SandboxFacts::default() };
        Self { manifest, server, parent, facts, made: None }
    }

    fn restored(&mut self) -> Result<&mut Restored, SandboxError> {
        let made = self.made.as_mut().map(|made| &mut made.restored);
        made.ok_or_else(|| SandboxError::new("use the sandbox", "it was not started").ours())
    }

    /// Whether it is a server that may be restored to.
    fn look(&mut self, connection: &Connection, major: u32) -> Result<(), NotReady> {
        let cannot = |error: Error| NotReady::cannot_run(words(&error));
        let version = Version::of(connection).map_err(cannot)?;
        if version.major != major {
            return Err(NotReady::cannot_run(format!(
                "the dump is of version {major}, and the server for drills has {}",
                version.text
            )));
        }
        let source = self.manifest.details.get("system").and_then(serde_json::Value::as_str);
        let (Some(source), Some(system)) = (source, system_of(connection)) else {
            return Err(NotReady::CannotRun {
                reason: "it is not known whether the server for drills is the one that was backed up".to_owned(),
                hint: Some(
                    "both must tell pg_control_system() to the user; snapshots of older versions do not have it"
                        .to_owned(),
                ),
            });
        };
        if source == system {
            return Err(NotReady::CannotRun {
                reason: "the server for drills is the one that was backed up, or a copy of it".to_owned(),
                hint: Some("name a server that is there for drills alone".to_owned()),
            });
        }
        let rights = "SELECT rolsuper, rolcreatedb FROM pg_catalog.pg_roles WHERE rolname = current_user";
        let row = connection.ask(rights).map_err(cannot)?.into_iter().next().unwrap_or_default();
        match row.iter().map(Option::as_deref).collect::<Vec<_>>()[..] {
            [Some("f"), Some("t")] => {}
            [Some("t"), _] => {
                return Err(NotReady::CannotRun {
                    reason: "the user is a superuser there: a dump could run programs on the server".to_owned(),
                    hint: Some("CREATE ROLE drill LOGIN CREATEDB, and name that one".to_owned()),
                });
            }
            _ => return Err(NotReady::cannot_run("the user may not create databases there: it needs CREATEDB")),
        }
        self.facts.engine = Some(Tool { name: "postgresql".to_owned(), version: version.text });
        self.facts.isolation = vec![
            "a database of its own on a server for drills".to_owned(),
            "restored by a role without superuser's rights".to_owned(),
        ];
        Ok(())
    }
}

impl Sandbox for PostgresScratch {
    fn facts(&self) -> SandboxFacts {
        self.facts.clone()
    }

    fn start(&mut self, expected: Amount, cancel: &Cancel) -> Result<(), NotReady> {
        let major = version_of(&self.manifest)?;
        if let Some(what) = of_superusers(&self.manifest) {
            return Err(not_there(&what));
        }
        let programs =
            self.server.programs(major).map_err(|(reason, hint)| NotReady::CannotRun { reason, hint: Some(hint) })?;
        // What is laid down of the dump is here, what becomes of it on the server.
        let folder = folder_with_room(&self.parent, laid_bytes(&self.manifest, expected.bytes))?;
        let name = format!("{PREFIX}{}", random().map_err(NotReady::cannot_run)?);
        let word = format!("made by a drill, {}", random().map_err(NotReady::cannot_run)?);
        let bounds = Bounds { cancel: Some(cancel.clone()), silence: Some(SANDBOX_SERVER_SILENCE_MAX) };
        let (mut connection, server) = maintenance(&self.server.with_application(&name).within(bounds), &name)
            .map_err(|error| NotReady::cannot_run(format!("the server for drills: {}", words(&error))))?;
        let bounds = Bounds { cancel: Some(cancel.clone()), silence: None };
        let server = server.within(bounds).marked(folder.mark());
        self.look(&connection, major)?;
        look_for_extensions(&connection, &self.manifest)?;
        // It drops the database when the drill was asked to stop as well.
        connection.outlast();

        let failed = |error: Error| SandboxError::new("make the database", words(&error)).ours();
        let mut warnings = drop_leftovers(&connection).map_err(failed)?;
        let (database, warning) = Database::make(connection, &name, word, &self.manifest).map_err(failed)?;
        warnings.extend(warning);
        let reader = server.clone();
        let endpoint =
            Endpoint { restorer: server, reader, checker: None, rights: Rights::OfAnOwner, database: Some(name) };
        let restored = Restored::new(self.manifest.clone(), endpoint, programs, Spool::Own(folder.path().to_owned()));
        restored.warn(warnings);
        self.made = Some(Made { restored, database, folder });
        Ok(())
    }

    fn target(&mut self) -> Result<Box<dyn Target>, SandboxError> {
        self.restored()?.target()
    }

    fn entrance(&self) -> Result<Entrance, String> {
        Err("a server for drills makes a role without superuser's rights restore, and its command makes roles"
            .to_owned())
    }

    /// The server is not ours to end; every session of the drill's database is.
    fn stopper(&self) -> Option<Stopper> {
        let made = self.made.as_ref()?;
        let bounds = Bounds { cancel: None, silence: Some(SANDBOX_SERVER_SILENCE_MAX) };
        let (server, name) = (self.server.within(bounds), made.database.name.clone());
        let of_clients = made.folder.stopper();
        let Stopper { end: end_clients, takes_too_much } = of_clients;
        let end = move || {
            // First of all, since the server may say nothing at all.
            end_clients();
            let end = format!(
                "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = {}",
                escape_literal(&name)
            );
            // Whoever cannot be ended now ends when the database is dropped.
            let _ = maintenance(&server, &name).and_then(|(connection, _)| connection.ask(&end));
        };
        Some(Stopper { end: Box::new(end), takes_too_much })
    }

    fn ready(&mut self) -> Result<(), SandboxError> {
        self.restored()?.ready()
    }

    fn examine(&mut self, expected: Expected<'_>, cancel: &Cancel) -> Result<Vec<Check>, SandboxError> {
        self.restored()?.examine(expected.report, cancel)
    }

    fn ask(&mut self, question: &Question, _cancel: &Cancel) -> Result<Answer, SandboxError> {
        self.restored()?.ask(question)
    }

    fn newest(&mut self) -> Option<Newest> {
        None
    }

    fn caveats(&self) -> Caveats {
        self.made.as_ref().map(|made| made.restored.caveats()).unwrap_or_default()
    }

    fn remove(mut self: Box<Self>) -> Result<(), SandboxError> {
        let Some(Made { mut database, folder, .. }) = self.made.take() else { return Ok(()) };
        let name = database.name.clone();
        let dropped = database.remove();
        let path = folder.path().to_owned();
        let removed = folder.remove();
        dropped.map_err(|error| SandboxError::new(format!("drop the database {name}"), words(&error)).ours())?;
        removed.map_err(|error| SandboxError::new(format!("remove {}", path.display()), error).ours())
    }
}

impl Database {
    fn make(connection: Connection, name: &str, word: String, manifest: &Manifest) -> Result<(Self, Option<String>)> {
        let warning = create(&connection, name, &manifest.details, MAKING_MAX)?;
        let mut made = Self { connection, name: name.to_owned(), number: String::new(), word, is_there: true };
        let comment = format!("COMMENT ON DATABASE {} IS {}", escape_identifier(name), escape_literal(&made.word));
        made.connection.ask(&comment)?;
        let number = format!("SELECT oid FROM pg_catalog.pg_database WHERE datname = {}", escape_literal(name));
        made.number = made.connection.value(&number)?.unwrap_or_default();
        Ok((made, warning))
    }

    /// Drops it, once it is sure that it is the one that was made.
    fn remove(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_there) {
            return Ok(());
        }
        let there = self.connection.ask(&format!(
            "SELECT oid, pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database \
             WHERE datname = {}",
            escape_literal(&self.name)
        ))?;
        let is_same = there.first().is_some_and(|row| row[..] == [Some(self.number.clone()), Some(self.word.clone())]);
        if !is_same {
            let why = "it is another than the one that was made, so it was left alone".to_owned();
            return Err(Error::new(ErrorKind::Target(why), self.name.as_str()));
        }
        let drop_it = format!("DROP DATABASE {} WITH (FORCE)", escape_identifier(&self.name));
        self.connection.ask_within(MAKING_MAX, &drop_it).map(drop)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // What could not be dropped now is a leftover, which the next drill drops.
        let _ = self.remove();
    }
}

/// Drops the databases of killed drills: those of this user, of this name, with this comment, without a session of
/// their name.
fn drop_leftovers(connection: &Connection) -> Result<Vec<String>> {
    let left = connection.ask(&format!(
        "SELECT datname FROM pg_catalog.pg_database d WHERE datname LIKE '{}%' \
         AND pg_catalog.pg_get_userbyid(datdba) = current_user \
         AND pg_catalog.shobj_description(oid, 'pg_database') LIKE 'made by a drill, %' \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.application_name = d.datname)",
        PREFIX.replace('_', "\\_")
    ))?;
    let mut told_of = Vec::new();
    for name in left.into_iter().flatten().flatten() {
        let drop_it = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", escape_identifier(&name));
        match connection.ask_within(MAKING_MAX, &drop_it) {
            Ok(_) => told_of.push(format!("the database {name} of a killed drill was dropped")),
            Err(error) => told_of.push(format!("the database {name} of a killed drill is still there: {error}")),
        }
    }
    Ok(told_of)
}

/// Whether the server has every extension, and lets one who is no superuser make it.
fn look_for_extensions(connection: &Connection, manifest: &Manifest) -> Result<(), NotReady> {
    let named = manifest.report.expectations.iter().filter(|expected| expected.kind == "extension");
    for name in named.map(|expected| expected.object.as_str()) {
        let sql = format!(
            "SELECT bool_or(trusted) FROM pg_catalog.pg_available_extension_versions WHERE name = {}",
            escape_literal(name)
        );
        let trusted = connection.value(&sql).map_err(|error| NotReady::cannot_run(words(&error)))?;
        match trusted.as_deref() {
            Some("t") => {}
            Some(_) => {
                return Err(not_there(&format!("the extension {name}")));
            }
            None => {
                return Err(NotReady::cannot_run(format!(
                    "the extension {name} is not installed on the server for drills"
                )));
            }
        }
    }
    Ok(())
}

fn not_there(what: &str) -> NotReady {
    NotReady::cannot_run(format!("only a superuser makes {what}, and none restores to a server for drills"))
}

fn random() -> Result<String, String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random number: {error}"))?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}
