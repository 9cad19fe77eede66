//! Where a drill restores a database of SQLite: a file in a folder of its own, read by the SQLite that is built in.
//!
//! What is always true: the file is opened for reading only, and what stands in its schema is not trusted: its views and
//! indexes call no functions but harmless ones, its triggers never run. No process is started but those that
//! the user asks for, which have walls.
//! Killed, a drill leaves its folder, which the next one removes.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backup_core::cancel::Cancel;
use backup_core::contracts::{
    Answer, Caveats, Check, Entrance, Expectation, Expected, Level, Newest, NotReady, Question, Sandbox, SandboxError,
    SandboxFacts, Stopper, Target, Tool,
};
use backup_core::limits::READ_BUFFER_BYTES;
use backup_core::observe::Amount;
use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, InterruptHandle};
use xxhash_rust::xxh3::Xxh3;

use super::super::examined::{Plainly, checks, folder_with_room};
use super::observe::{Check as Depth, Finding, Sort, observe};
use super::source::{IMAGE, connect, image_hash, told};
use super::target::{Existing, SqliteTarget, Users};
use crate::sandbox::{Asked as AskedIn, SandboxFolder, Walls, ask_program};

/// The name of the restored file: one that needs no care.
const FILE: &str = "restored.db";

/// A database of SQLite in a folder of its own.
#[derive(Debug)]
pub struct SqliteSandbox {
    parent: PathBuf,
    folder: Option<SandboxFolder>,
    warnings: Vec<String>,
    /// What interrupts the question that is being asked.
    asked: Asked,
    /// What the user's programs see besides.
    shown: Vec<PathBuf>,
    /// What separates the user's programs, once there was one.
    walls: Option<Walls>,
}

/// What interrupts a question: there from when the database is opened for it.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Option<InterruptHandle>>>);

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").finish_non_exhaustive()
    }
}

impl SqliteSandbox {
    /// In a folder of its own below `parent`.
    pub fn new(parent: impl Into<PathBuf>) -> Self {
        Self {
            parent: parent.into(),
            folder: None,
            warnings: Vec::new(),
            asked: Asked::default(),
            shown: Vec::new(),
            walls: None,
        }
    }

    /// Shows the user's programs these paths, to read.
    #[must_use]
    pub fn with_shown(self, shown: Vec<PathBuf>) -> Self {
        Self { shown, ..self }
    }

    /// Asks a program of the user's. It gets a name of the file in a folder of its own, because SQLite may have to write
    /// beside it even to read.
    fn ask_program(&mut self, words: &[String], cancel: &Cancel) -> Result<Answer, SandboxError> {
        let path = self.path()?;
        let Some(folder) = &self.folder else {
            return Err(SandboxError::new("ask a program", "nothing was made").ours());
        };
        if self.walls.is_none() {
            let failed = |why: String| SandboxError::new("ask a program", why).ours();
            let walls = Walls::of_reader(folder, self.shown.clone()).map_err(|why| failed(why.to_string()))?;
            fs::hard_link(&path, walls.own().join(FILE))
                .and_then(|()| walls.let_in(&path))
                .map_err(|error| failed(error.to_string()))?;
            self.walls = Some(walls);
        }
        let Some(walls) = &self.walls else {
            return Err(SandboxError::new("ask a program", "nothing was made").ours());
        };
        let variables = [("BACKUP_DATABASE", walls.own().join(FILE).display().to_string())];
        ask_program(AskedIn { folder, walls: Some(walls), within: walls.own() }, words, &variables, cancel)
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
        let view = open(self.path()?)
            .map_err(|error: rusqlite::Error| SandboxError::new("open the restored database", told(&error)))?;
        *self.asked.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(view.get_interrupt_handle());
        Ok(view)
    }
}

impl Sandbox for SqliteSandbox {
    fn facts(&self) -> SandboxFacts {
        SandboxFacts {
            provider: "folder".to_owned(),
            engine: Some(Tool { name: "sqlite".to_owned(), version: rusqlite::version().to_owned() }),
            isolation: ["a file of its own, opened for reading only".to_owned()]
                .into_iter()
                .chain(self.walls.as_ref().map(Walls::isolation_of_reader))
                .collect(),
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

    /// Nothing runs beside this process; a question that never ends can be interrupted.
    fn stopper(&self) -> Option<Stopper> {
        let asked = Arc::clone(&self.asked.0);
        let end = move || {
            if let Some(asked) = &*asked.lock().unwrap_or_else(PoisonError::into_inner) {
                asked.interrupt();
            }
        };
        Some(Stopper { end: Box::new(end), takes_too_much: self.folder.as_ref()?.takes_too_much() })
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
        let of = |sort| findings.iter().find(|finding| finding.sort == sort).map(|Finding { text, .. }| text);
        let integrity = Check::passed("integrity_check", Level::Examined);
        found.push(match (of(Sort::Damage), of(Sort::Unchecked)) {
            (Some(damage), _) => Check::failed(integrity.id, Level::Examined, damage),
            (None, Some(why)) => Check::not_tested(integrity.id, Level::Examined, why),
            (None, None) => integrity,
        });
        found.push(match of(Sort::Reference) {
            None => Check::passed("foreign_key_check", Level::Examined),
            Some(finding) => Check::not_tested("foreign_key_check", Level::Examined, finding),
        });
        // The image is what was backed up, to the byte: so these were in production too.
        let as_before = findings.iter().filter(|finding| matches!(finding.sort, Sort::Rule | Sort::Reference));
        self.warnings.extend(as_before.map(|finding| format!("{}, as when it was backed up", finding.text)));
        Ok(found)
    }

    fn ask(&mut self, question: &Question, cancel: &Cancel) -> Result<Answer, SandboxError> {
        if let Question::Program(words) = question {
            return self.ask_program(words, cancel);
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

    fn newest(&mut self) -> Option<Newest> {
        None
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
