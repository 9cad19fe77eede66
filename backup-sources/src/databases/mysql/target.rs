//! A database of MySQL or MariaDB as a target: the dump goes into the server's own client as it comes, its short statements
//! joined.
//!
//! Most statements of a dump commit by themselves, so what came before a restore failed stays in the database, which was
//! empty or was emptied.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use backup_core::contracts::{Left, Target, TargetError, TargetFile, WriteOrder};
use backup_core::model::{Node, SnapshotPath};
use backup_core::observe::Amount;
use backup_core::{Error, Result};

use super::super::manifest::Manifest;
use super::super::passed_over::PassedOver;
use super::client::{Client, ended, named, quoted};
use super::joined::Joined;
use super::renamed::Renamed;
use super::rows::is_last;
use super::settings::MysqlSettings;
use super::source::{DUMP, LONGEST_STATEMENT};
use crate::program::Program;

/// What becomes of a database that holds something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Existing {
    /// It stays, and nothing is restored.
    #[default]
    Refuse,
    /// It is dropped first, with all that is in it.
    Replace,
}

/// What a database that has to be made writes its texts in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Character {
    set: String,
    collation: String,
}

/// A database that is being filled.
#[derive(Debug)]
pub struct MysqlTarget {
    client: Arc<Client>,
    database: String,
    existing: Existing,
    character: Option<Character>,
    /// The name of the database that was backed up, where it is known.
    from: Option<String>,
    /// How long statements with rows may become that are joined.
    joined_bytes: usize,
    outcome: Arc<Mutex<Outcome>>,
}

/// Statements are joined up to here: what the dump programs make of them when nobody says otherwise.
const JOINED_BYTES: u64 = 1024 * 1024;

/// How much of a dump's end is kept, to see its last line.
const TAIL_BYTES: usize = 128;

/// What a server says, and what to try.
const ADVICE: [(&str, &str); 8] = [
    ("ERROR 1146", "a default, a view or a foreign key names what is in another database: restore that one first"),
    (
        "log_bin_trust_function_creators",
        "the server writes a binary log: SET GLOBAL log_bin_trust_function_creators = 1, or restore as a user with SUPER",
    ),
    ("max_allowed_packet", "raise max_allowed_packet on the server: SET GLOBAL max_allowed_packet = 1073741824"),
    // A server that is sent too much hangs up, and its client may not hear why.
    ("gone away", "see whether the server still runs; a row that is longer than its max_allowed_packet ends it too"),
    (
        "SYSTEM_USER",
        "a definer is one of MySQL's system accounts: restore as a user with SYSTEM_USER as well, as root has it",
    ),
    ("SET USER", "restore as a user who may set definers: GRANT SET USER ON *.*"),
    ("SET_USER_ID", "restore as a user who may set definers: GRANT SET_USER_ID ON *.*"),
    ("SET_ANY_DEFINER", "restore as a user who may set definers: GRANT SET_ANY_DEFINER ON *.*"),
];

/// What became of the dump.
#[derive(Debug, Default)]
enum Outcome {
    #[default]
    Missing,
    Underway,
    Failed(String),
    Loaded,
}

impl MysqlTarget {
    /// The database of `settings`, which is made when it is not there: as the manifest says that it was.
    ///
    /// # Errors
    ///
    /// When a program is missing, the server does not answer, or it takes no statement as long as the dump's longest.
    pub fn connect(settings: &MysqlSettings, existing: Existing, manifest: Option<&Manifest>) -> Result<Self> {
        let client = Client::new(settings)?;
        let packet = client.ask_or_fail("SELECT @@global.max_allowed_packet")?;
        client.require_encryption()?;
        let packet: Option<u64> = packet.first().and_then(|row| row.first()?.parse().ok());
        let detail = |name: &str| manifest?.details.get(name);
        let longest = detail(LONGEST_STATEMENT).and_then(serde_json::Value::as_u64);
        if let (Some(longest), Some(packet)) = (longest, packet)
            && longest >= packet
        {
            let what =
                format!("the dump has a statement of {longest} bytes, and the server's max_allowed_packet is {packet}");
            let hint = format!("SET GLOBAL max_allowed_packet = {}; 1 GiB is the most there is", rounded(longest));
            return Err(Error::invalid(client.subject(), what).with_hint(hint));
        }
        // The next statement may be as long as the longest. Where neither is known, each stays as it is.
        let joined_bytes = match (longest, packet) {
            (Some(longest), Some(packet)) => JOINED_BYTES.min((packet - longest).saturating_sub(1)),
            _ => 0,
        };
        let joined_bytes = usize::try_from(joined_bytes).unwrap_or(0);
        let text = |name: &str| detail(name).and_then(|value| value.as_str()).map(str::to_owned);
        let character = text("character_set").zip(text("collation"));
        let character = character.map(|(set, collation)| Character { set, collation });
        let (database, outcome) = (settings.database.clone(), Arc::default());
        let from = manifest.map(|manifest| manifest.database.clone());
        Ok(Self { client: Arc::new(client), database, from, existing, character, joined_bytes, outcome })
    }

    fn fail(&self, action: &'static str, reason: String) -> TargetError {
        fatal(action, &SnapshotPath::parse(self.client.subject().as_bytes()), reason)
    }

    fn ask(&self, question: &str) -> Result<Vec<Vec<String>>, TargetError> {
        self.client.ask(question).map_err(|why| self.fail("prepare", why))
    }
}

impl Target for MysqlTarget {
    fn location(&self) -> String {
        self.client.subject().to_owned()
    }

    fn order(&self) -> WriteOrder {
        WriteOrder::Sequential
    }

    fn begin(&self, _expected: Amount) -> Result<(), TargetError> {
        let (schema, name) = (quoted(&self.database), named(&self.database));
        let there = self.ask(&format!("SELECT 1 FROM information_schema.schemata WHERE schema_name = {schema}"))?;
        let held = self.ask(&format!(
            "SELECT (SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = {schema}) +
                (SELECT COUNT(*) FROM information_schema.routines WHERE routine_schema = {schema}) +
                (SELECT COUNT(*) FROM information_schema.events WHERE event_schema = {schema})"
        ))?;
        let held: u64 = held.first().and_then(|row| row.first()?.parse().ok()).unwrap_or(0);
        let is_there = !there.is_empty();
        if held > 0 && self.existing == Existing::Refuse {
            let why = format!("the database is not empty: it has {held} tables and routines; --clean drops it first");
            return Err(self.fail("restore into", why));
        }
        if held > 0 {
            self.ask(&format!("DROP DATABASE {name}"))?;
        }
        if held > 0 || !is_there {
            let character = match &self.character {
                None => String::new(),
                Some(Character { set, collation }) => {
                    format!(" CHARACTER SET {} COLLATE {}", quoted(set), quoted(collation))
                }
            };
            self.ask(&format!("CREATE DATABASE {name}{character}"))?;
        }
        Ok(())
    }

    fn enter(&self, _path: &SnapshotPath, _node: &Node) -> Result<(), TargetError> {
        Ok(())
    }

    fn file(&self, path: &SnapshotPath, _node: &Node) -> Result<Box<dyn TargetFile>, TargetError> {
        if path.name() != DUMP.as_bytes() {
            return Ok(Box::new(PassedOver));
        }
        {
            let mut outcome = lock(&self.outcome);
            if !matches!(*outcome, Outcome::Missing) {
                let why = "the snapshot has more than one dump; choose one with --path";
                return Err(self.fail("restore into", why.into()));
            }
            *outcome = Outcome::Underway;
        }
        let program = self.client.load(&self.database).map_err(|error| self.fail("restore into", error.to_string()))?;
        let renamed = self.from.as_ref().and_then(|from| Renamed::new(from, &self.database));
        let joined = Joined::new(self.joined_bytes, renamed);
        let state = Mutex::new(Some(Loading { program, joined, text: Vec::new(), position: 0, tail: Vec::new() }));
        Ok(Box::new(DumpFile { state, path: path.clone(), outcome: Arc::clone(&self.outcome) }))
    }

    fn hard_link(&self, path: &SnapshotPath, _first: &SnapshotPath, _node: &Node) -> Result<(), TargetError> {
        Err(self.fail("restore into", format!("{path} is no part of a backup of MySQL")))
    }

    fn special(&self, path: &SnapshotPath, _node: &Node) -> Result<Vec<TargetError>, TargetError> {
        Err(self.fail("restore into", format!("{path} is no part of a backup of MySQL")))
    }

    fn leave(&self, _path: &SnapshotPath, _node: &Node, _names: Option<&[Vec<u8>]>) -> Result<Left, TargetError> {
        Ok(Left::default())
    }

    fn finish(&self) -> Result<(), TargetError> {
        match std::mem::take(&mut *lock(&self.outcome)) {
            Outcome::Loaded => Ok(()),
            Outcome::Failed(why) => Err(self.fail("restore into", format!("{why}; what came before it is there"))),
            Outcome::Underway => Err(self.fail("restore into", "the dump did not come to its end".into())),
            Outcome::Missing => Err(self.fail("restore into", "the snapshot has no dump.sql here".into())),
        }
    }
}

/// `dump.sql` on its way into the client.
#[derive(Debug)]
struct DumpFile {
    /// Empty once something went wrong.
    state: Mutex<Option<Loading>>,
    path: SnapshotPath,
    outcome: Arc<Mutex<Outcome>>,
}

#[derive(Debug)]
struct Loading {
    program: Program,
    joined: Joined,
    /// What goes into the client.
    text: Vec<u8>,
    position: u64,
    /// The last bytes.
    tail: Vec<u8>,
}

impl Loading {
    fn write(&mut self) -> Result<(), String> {
        let written = self.program.write_all(&self.text).map_err(|error| error.to_string());
        self.text.clear();
        written
    }
}

impl DumpFile {
    /// Ends the client, and keeps what it said.
    fn give_up(&self, loading: Option<Loading>, otherwise: &str) -> String {
        let said = loading.and_then(|loading| ended(loading.program).err());
        let why = said.unwrap_or_else(|| otherwise.to_owned());
        let mut outcome = lock(&self.outcome);
        if !matches!(*outcome, Outcome::Failed(_)) {
            *outcome = Outcome::Failed(why.clone());
        }
        why
    }
}

impl TargetFile for DumpFile {
    fn existing_bytes(&self) -> u64 {
        0
    }

    fn looks_unchanged(&self) -> bool {
        false
    }

    fn is_kept(&self) -> bool {
        false
    }

    fn read_at(&self, _offset: u64, _buffer: &mut [u8]) -> std::io::Result<()> {
        Err(std::io::Error::other("what a server was given cannot be read back"))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        let mut state = lock(&self.state);
        let written = match state.as_mut() {
            None => Err("the restore has failed".to_owned()),
            Some(loading) if loading.position != offset => Err("the dump does not come in its order".to_owned()),
            Some(loading) => {
                loading.position += bytes.len() as u64;
                loading.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
                let excess = loading.tail.len().saturating_sub(TAIL_BYTES);
                loading.tail.drain(..excess);
                loading.joined.feed(bytes, &mut loading.text);
                loading.write()
            }
        };
        // A client that stopped reading has said why.
        written.map_err(|why| std::io::Error::other(self.give_up(state.take(), &why)))
    }

    fn finish(self: Box<Self>, _node: &Node, _size: u64) -> Result<Vec<TargetError>, TargetError> {
        let loading = lock(&self.state).take();
        let Some(mut loading) = loading else {
            return Err(fatal("load", &self.path, "the restore has failed".into()));
        };
        if !has_end(&loading.tail) {
            let why = "the dump ends in the middle".to_owned();
            *lock(&self.outcome) = Outcome::Failed(why.clone());
            return Err(fatal("load", &self.path, why));
        }
        loading.joined.finish(&mut loading.text);
        // A client that stopped reading says why at its end.
        let written = loading.write();
        if let Err(why) = ended(loading.program).and(written) {
            *lock(&self.outcome) = Outcome::Failed(why.clone());
            return Err(fatal("load", &self.path, why));
        }
        *lock(&self.outcome) = Outcome::Loaded;
        Ok(Vec::new())
    }
}

/// Whether a dump that ends with these bytes has its last line.
fn has_end(tail: &[u8]) -> bool {
    tail.trim_ascii_end().rsplit(|&byte| byte == b'\n').next().is_some_and(is_last)
}

fn fatal(action: &'static str, path: &SnapshotPath, reason: String) -> TargetError {
    let hint = ADVICE.iter().find(|(words, _)| reason.contains(words)).map(|(_, hint)| (*hint).to_owned());
    TargetError { is_fatal: true, hint, ..TargetError::new(action, path.clone(), reason) }
}

/// A size that is enough for a statement, as servers round it.
fn rounded(bytes: u64) -> u64 {
    const STEP_BYTES: u64 = 1024 * 1024;
    (bytes + 1).div_ceil(STEP_BYTES) * STEP_BYTES
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
