//! A restored database in a sandbox, wherever that is: what loads it, whether it answers, what it shows.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backup_core::Result;
use backup_core::cancel::Cancel;
use backup_core::contracts::{
    Answer, Caveats, Check, Left, Question, Report, SandboxError, Stored, Target, TargetError, TargetFile, WriteOrder,
};
use backup_core::model::{Node, SnapshotPath};
use backup_core::observe::Amount;
use postgres_protocol::escape::escape_identifier;

use super::{ask, examine};
use crate::databases::manifest::Manifest;
use crate::databases::postgres::connection::Connection;
use crate::databases::postgres::failure::words;
use crate::databases::postgres::programs::Programs;
use crate::databases::postgres::server::Server;
use crate::databases::postgres::source::Roles;
use crate::databases::postgres::target::{Existing, LoadOptions, OwnSettings, PostgresTarget, Readers, maintenance};
use crate::databases::url::{DatabaseUrl, Engine};
use crate::files::SpaceCheck;

/// Who comes to the sandbox's server, and as whom.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Loads the dump, and dumps it once more to compare.
    pub(super) restorer: Server,
    /// Asks the user's questions.
    pub(super) reader: Server,
    /// May run the server's own checks; `None` where nobody may.
    pub(super) checker: Option<Server>,
    pub(super) rights: Rights,
    /// The database, when it has another name than the one that was dumped.
    pub(super) database: Option<String>,
}

/// What the restorer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    /// Everything: there are walls around the server.
    All,
    /// What the owner of a database may. Roles are not made, and everything belongs to the restorer.
    OfAnOwner,
}

/// The folder in which what is laid down of the dump gets its own.
#[derive(Clone, Debug)]
pub(super) enum Spool {
    /// One that this user reads.
    Own(PathBuf),
    /// One that is shown to programs which run as another, and to nobody else.
    Shown(PathBuf),
}

/// A database that is restored, or will be.
#[derive(Debug)]
pub(super) struct Restored {
    manifest: Manifest,
    endpoint: Endpoint,
    programs: Programs,
    spool: Spool,
    noted: Arc<Mutex<Noted>>,
}

/// What the target and the checks leave for the record.
#[derive(Debug, Default)]
struct Noted {
    warnings: Vec<String>,
    /// What the restorer had no right to do.
    refused: Option<String>,
}

impl Restored {
    pub(super) fn new(manifest: Manifest, endpoint: Endpoint, programs: Programs, spool: Spool) -> Self {
        Self { manifest, endpoint, programs, spool, noted: Arc::default() }
    }

    fn database(&self) -> &str {
        self.endpoint.database.as_deref().unwrap_or(&self.manifest.database)
    }

    /// Notes what a reader of the record must know.
    pub(super) fn warn(&self, warnings: Vec<String>) {
        lock(&self.noted).warnings.extend(warnings);
    }

    /// What the dump is loaded by.
    pub(super) fn target(&self) -> Result<Box<dyn Target>, SandboxError> {
        let options = LoadOptions {
            existing: Existing::Refused,
            roles: if self.endpoint.rights == Rights::All { Roles::Kept } else { Roles::LeftOut },
            schemas: Vec::new(),
            tables: Vec::new(),
            // They would stand in the way of who looks: a limit of connections, transactions that only read.
            own: OwnSettings::LeftOut,
            jobs: None,
            spool: match &self.spool {
                Spool::Own(folder) | Spool::Shown(folder) => folder.clone(),
            },
            space: SpaceCheck::Refuse,
            readers: match &self.spool {
                Spool::Own(_) => Readers::ThisUser,
                Spool::Shown(_) => Readers::Everybody,
            },
        };
        let loads = PostgresTarget::connect(&self.endpoint.restorer, self.database(), self.manifest.clone(), options)
            .map_err(|error| SandboxError::new("prepare the restore", words(&error)).ours())?;
        Ok(Box::new(Loading { loads, rights: self.endpoint.rights, noted: Arc::clone(&self.noted) }))
    }

    /// How a command line names the database, for a program that restores it as the runbook says: roles included.
    pub(super) fn target_address(&self) -> Result<String, String> {
        if self.endpoint.rights != Rights::All {
            return Err("its command makes roles, and here a role without superuser's rights restores".to_owned());
        }
        let restorer = &self.endpoint.restorer;
        let (socket, _) = restorer.hosts.first().cloned().unwrap_or_default();
        let url = DatabaseUrl::of_socket(Engine::Postgres, Some(&restorer.user), Path::new(&socket), self.database());
        url.map(|url| url.to_string()).ok_or_else(|| "the socket's path is not UTF-8".to_owned())
    }

    /// A program that restored it as the runbook says has given the database its own settings: who may connect, how many,
    /// and how long they may ask. Here it is only looked at.
    fn let_in(&self) -> Result<()> {
        let Some(checker) = &self.endpoint.checker else { return Ok(()) };
        let (connection, _) = maintenance(checker, self.database())?;
        let (name, reader) = (escape_identifier(self.database()), escape_identifier(&self.endpoint.reader.user));
        connection.ask(&format!("GRANT CONNECT ON DATABASE {name} TO {reader}"))?;
        connection.ask(&format!("ALTER DATABASE {name} CONNECTION LIMIT -1"))?;
        connection.ask(&format!("ALTER DATABASE {name} RESET ALL"))?;
        Ok(())
    }

    /// Whether the restored database answers.
    pub(super) fn ready(&self) -> Result<(), SandboxError> {
        if let Some(refused) = lock(&self.noted).refused.clone() {
            return Err(SandboxError::new("restore the dump", refused)
                .with_hint("it needs a superuser: allow namespaces, which restrain one, or use another server")
                .ours());
        }
        self.let_in().map_err(|error| SandboxError::new("ask the restored database", words(&error)))?;
        let answered = Connection::open(&self.endpoint.reader, self.database())
            .and_then(|(connection, _)| connection.value("SELECT 1"));
        answered.map(drop).map_err(|error| SandboxError::new("ask the restored database", words(&error)))
    }

    /// Compares it with what it must be.
    pub(super) fn examine(&mut self, report: &Report, cancel: &Cancel) -> Result<Vec<Check>, SandboxError> {
        let subject = examine::Subject {
            server: &self.endpoint.restorer,
            checker: self.endpoint.checker.as_ref(),
            database: self.database(),
            rights: self.endpoint.rights,
            programs: &self.programs,
            details: &self.manifest.details,
        };
        let examined = examine::examine(&subject, report, cancel)
            .map_err(|error| SandboxError::new("read the restored database", words(&error)))?;
        lock(&self.noted).warnings.extend(examined.warnings);
        Ok(examined.checks)
    }

    /// Asks one question.
    pub(super) fn ask(&self, question: &Question) -> Result<Answer, SandboxError> {
        let Question::Sql(sql) = question else {
            return Err(SandboxError::new("ask the restored database", "PostgreSQL is asked in SQL").ours());
        };
        ask::ask(&self.endpoint.reader, self.database(), sql)
    }

    /// How a program reaches the restored database, as libpq reads it from the environment.
    pub(super) fn reader(&self) -> [(&'static str, String); 4] {
        let reader = &self.endpoint.reader;
        let (host, port) = reader.hosts.first().cloned().unwrap_or_default();
        [
            ("PGHOST", host),
            ("PGPORT", port.to_string()),
            ("PGUSER", reader.user.clone()),
            ("PGDATABASE", self.database().to_owned()),
        ]
    }

    /// What a reader of the record must know.
    pub(super) fn caveats(&self) -> Caveats {
        let mut not_tested = vec![
            "logins: passwords of roles, host-based authentication".to_owned(),
            "what is no part of the database: configuration, other databases, replication".to_owned(),
        ];
        if self.endpoint.rights == Rights::OfAnOwner {
            not_tested.push("roles, owners and grants".to_owned());
        }
        Caveats { warnings: lock(&self.noted).warnings.clone(), not_tested }
    }
}

/// The target of a database, whose end is noted.
#[derive(Debug)]
struct Loading {
    loads: PostgresTarget,
    rights: Rights,
    noted: Arc<Mutex<Noted>>,
}

impl Target for Loading {
    fn location(&self) -> String {
        self.loads.location()
    }

    fn order(&self) -> WriteOrder {
        self.loads.order()
    }

    fn reads(&self, path: &SnapshotPath, node: &Node) -> bool {
        self.loads.reads(path, node)
    }

    fn begin(&self, expected: Amount) -> Result<(), TargetError> {
        self.loads.begin(expected)
    }

    fn enter(&self, path: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
        self.loads.enter(path, node)
    }

    fn file(&self, path: &SnapshotPath, node: &Node) -> Result<Box<dyn TargetFile>, TargetError> {
        self.loads.file(path, node)
    }

    fn hard_link(&self, path: &SnapshotPath, first: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
        self.loads.hard_link(path, first, node)
    }

    fn special(&self, path: &SnapshotPath, node: &Node) -> Result<Vec<TargetError>, TargetError> {
        self.loads.special(path, node)
    }

    fn leave(&self, path: &SnapshotPath, node: &Node, names: Option<&[Vec<u8>]>) -> Result<Left, TargetError> {
        self.loads.leave(path, node, names)
    }

    /// A restorer without all rights who is refused one says nothing about the dump: that is noted, and told when the
    /// database is asked whether it is ready.
    fn load(&self, stored: &dyn Stored) -> Result<(), TargetError> {
        let loaded = Target::load(&self.loads, stored);
        let mut noted = lock(&self.noted);
        noted.warnings.extend(self.loads.warnings());
        match loaded {
            Err(error) if self.rights == Rights::OfAnOwner && is_of_rights(&error.reason) => {
                noted.refused = Some(error.reason);
                Ok(())
            }
            loaded => loaded,
        }
    }

    fn finish(&self) -> Result<(), TargetError> {
        self.loads.finish()
    }
}

/// Whether the first complaint is of a right, or of a role, that the restorer does not have.
fn is_of_rights(reason: &str) -> bool {
    let first = reason.split("; ").next().unwrap_or_default();
    let rights =
        ["must be superuser", "permission denied", "must be owner", "must be member", "must be able to SET ROLE"];
    rights.iter().any(|words| first.contains(words)) || (first.contains("role \"") && first.contains("does not exist"))
}

fn lock(noted: &Mutex<Noted>) -> MutexGuard<'_, Noted> {
    noted.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_that_is_missing_is_told_from_a_dump_that_is_wrong() {
        for of_rights in [
            "could not execute query: ERROR:  must be superuser to create FOR ALL TABLES publication; more",
            "could not execute query: ERROR:  permission denied for schema s",
            "could not execute query: ERROR:  role \"app\" does not exist",
        ] {
            assert!(is_of_rights(of_rights), "{of_rights}");
        }
        for of_the_dump in [
            "could not execute query: ERROR:  relation \"x\" does not exist; permission denied",
            "unexpected end of file",
        ] {
            assert!(!is_of_rights(of_the_dump), "{of_the_dump}");
        }
    }
}
