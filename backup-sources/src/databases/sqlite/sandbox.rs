//! Where a drill restores a database of SQLite: a file in a folder of its own, read by the SQLite that is built in.
//!
//! What is always true: the file is opened for reading only, and what stands in its schema is not trusted: its views and
//! indexes call no functions but harmless ones, its triggers never run. No process is started, so there are no walls.
//! Killed, a drill leaves its folder, which the next one removes.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use backup_core::cancel::Cancel;
use backup_core::contracts::{
    Answer, Caveats, Check, Entrance, Expectation, Expected, Level, NotReady, Question, RecoveryPoint, Sandbox,
    SandboxError, SandboxFacts, Target, Tool,
};
use backup_core::limits::READ_BUFFER_BYTES;
use backup_core::observe::Amount;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use xxhash_rust::xxh3::Xxh3;

use super::super::examined::{Plainly, checks, folder_with_room};
use super::observe::{Check as Depth, observe};
use super::source::{IMAGE, connect, image_hash, told};
use super::target::{Existing, SqliteTarget, Users};
use crate::sandbox::{SandboxFolder, ask_program};

/// The name of the restored file: one that needs no care.
const FILE: &str = "restored.db";

/// A database of SQLite in a folder of its own.
#[derive(Debug)]
pub struct SqliteSandbox {
    parent: PathBuf,
    folder: Option<SandboxFolder>,
    warnings: Vec<String>,
}

impl SqliteSandbox {
    /// In a folder of its own below `parent`.
    pub fn new(parent: impl Into<PathBuf>) -> Self {
        Self { parent: parent.into(), folder: None, warnings: Vec::new() }
    }

    fn path(&self) -> Result<PathBuf, SandboxError> {
        let folder = self.folder.as_ref();
        let folder = folder.ok_or_else(|| SandboxError::new("use the sandbox", "it was not started").ours())?;
        Ok(folder.path().join(FILE))
    }

    /// The restored database, for questions.
    fn view(&self) -> Result<Connection, SandboxError> {
        let open = |path: PathBuf| {
            let view = connect(&path, Duration::from_secs(10))?;
            view.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
            view.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
            view.execute_batch("PRAGMA query_only = ON")?;
            Ok(view)
        };
        open(self.path()?)
            .map_err(|error: rusqlite::Error| SandboxError::new("open the restored database", told(&error)))
    }
}

impl Sandbox for SqliteSandbox {
    fn facts(&self) -> SandboxFacts {
        SandboxFacts {
            provider: "folder".to_owned(),
            engine: Some(Tool { name: "sqlite".to_owned(), version: rusqlite::version().to_owned() }),
            isolation: vec!["a file of its own, opened for reading only".to_owned()],
            ..SandboxFacts::default()
        }
    }

    fn start(&mut self, expected: Amount, _cancel: &Cancel) -> Result<(), NotReady> {
        let folder = folder_with_room(&self.parent, expected.bytes)?;
        self.folder = Some(folder);
        Ok(())
    }

    fn target(&mut self) -> Result<Box<dyn Target>, SandboxError> {
        Ok(Box::new(SqliteTarget::new(self.path()?, Existing::Refuse, Users::Refuse)))
    }

    fn entrance(&self) -> Result<Entrance, String> {
        let folder = self.folder.as_ref().ok_or_else(|| "it was not started".to_owned())?;
        let path = folder.path().join(FILE);
        let path = path.to_str().ok_or_else(|| "the folder's name is not UTF-8".to_owned())?;
        Ok(folder.entrance(format!("sqlite:{path}")))
    }

    fn shortage(&self) -> Option<String> {
        self.folder.as_ref()?.shortage()
    }

    fn ready(&mut self) -> Result<(), SandboxError> {
        let view = self.view()?;
        view.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
            .map_err(|error| SandboxError::new("ask the restored database", told(&error)))
    }

    fn examine(&mut self, expected: Expected<'_>, cancel: &Cancel) -> Result<Vec<Check>, SandboxError> {
        let expected = &expected.report.expectations;
        if expected.is_empty() {
            return Ok(Vec::new());
        }
        let path = self.path()?;
        let failed = |action: &str, why: String| SandboxError::new(action, why);
        let mut found = Vec::new();
        // Before anything else opens it.
        if let Some(image) = expected.iter().find(|expected| expected.kind == IMAGE) {
            let hash =
                hash_of(&path, cancel).map_err(|error| failed("read the restored database", error.to_string()))?;
            found.push(Check::compare(
                IMAGE,
                Level::Examined,
                image.hash.as_deref().unwrap_or("none"),
                image_hash(hash),
            ));
        }
        let (observed, findings) =
            observe(&path, Depth::Full).map_err(|error| failed("read the restored database", error.to_string()))?;
        let others: Vec<Expectation> = expected.iter().filter(|expected| expected.kind != IMAGE).cloned().collect();
        found.extend(checks(&others, &observed, &Plainly));
        let (dangling, damage): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|finding| finding.contains("refers to none"));
        found.push(match damage.first() {
            None => Check::passed("integrity_check", Level::Examined),
            Some(finding) => Check::failed("integrity_check", Level::Examined, finding),
        });
        found.push(match dangling.first() {
            None => Check::passed("foreign_key_check", Level::Examined),
            // The image is what was backed up, to the byte: so it was in production too.
            Some(finding) => {
                self.warnings.push(format!("{finding}, as when it was backed up"));
                Check::not_tested("foreign_key_check", Level::Examined, finding)
            }
        });
        Ok(found)
    }

    fn ask(&mut self, question: &Question, cancel: &Cancel) -> Result<Answer, SandboxError> {
        if let (Question::Program(words), Some(folder)) = (question, &self.folder) {
            let path = [("BACKUP_DATABASE", folder.path().join(FILE).display().to_string())];
            return ask_program(folder, folder.path(), words, &path, cancel);
        }
        let Question::Sql(sql) = question else {
            return Err(SandboxError::new("ask the restored database", "SQLite is asked in SQL").ours());
        };
        let failed = |why: String| SandboxError::new(format!("ask {sql:?}"), why);
        let of_sqlite = |error: rusqlite::Error| failed(told(&error));
        let view = self.view()?;
        let mut statement = view.prepare(sql).map_err(of_sqlite)?;
        if !statement.readonly() {
            return Err(failed("it would change something".to_owned()).ours());
        }
        let mut rows = statement.query([]).map_err(of_sqlite)?;
        let answer = match rows.next().map_err(of_sqlite)? {
            None => None,
            Some(row) => plain(row.get_ref(0).map_err(of_sqlite)?),
        };
        match rows.next().map_err(of_sqlite)? {
            None => Ok(Answer(answer)),
            Some(_) => Err(failed("it gives more than one row".to_owned())),
        }
    }

    fn recovery_point(&mut self) -> Result<Option<RecoveryPoint>, SandboxError> {
        Ok(None)
    }

    fn caveats(&self) -> Caveats {
        let not_tested = vec!["the program that uses it, and its version of SQLite".to_owned()];
        Caveats { warnings: self.warnings.clone(), not_tested }
    }

    fn remove(mut self: Box<Self>) -> Result<(), SandboxError> {
        let Some(folder) = self.folder.take() else { return Ok(()) };
        folder.clear_away()
    }
}

fn plain(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(text) | ValueRef::Blob(text) => Some(String::from_utf8_lossy(text).into_owned()),
    }
}

fn hash_of(path: &std::path::Path, cancel: &Cancel) -> std::io::Result<u128> {
    let mut file = File::open(path)?;
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    loop {
        cancel.check().map_err(std::io::Error::other)?;
        match file.read(&mut buffer)? {
            0 => return Ok(hash.digest128()),
            length => hash.update(&buffer[..length]),
        }
    }
}
