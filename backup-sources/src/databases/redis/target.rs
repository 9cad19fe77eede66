//! A server of Redis as a target: it is given the keys of a snapshot one by one, as they come.
//!
//! What came before a restore failed stays in the server; it was empty, or its owner had it emptied.

use std::sync::{Arc, Mutex, PoisonError};

use backup_core::contracts::{Left, Target, TargetError, TargetFile, WriteOrder};
use backup_core::model::{Node, SnapshotPath};
use backup_core::observe::Amount;
use backup_core::{Error, ErrorKind, Result};
use crc_fast::{CrcAlgorithm, checksum};

use super::super::passed_over::PassedOver;
use super::connection::{Connection, Reply};
use super::listener::{Key, Listener};
use super::rdb::RdbReader;
use super::settings::RedisSettings;
use super::source::{DUMP, facts_of};

/// What becomes of the keys that a server has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Existing {
    /// They stay, and nothing is restored.
    #[default]
    Refuse,
    /// All databases of the server, and its functions, are emptied first.
    Replace,
}

/// A server that is being filled.
#[derive(Debug)]
pub struct RedisTarget {
    address: String,
    existing: Existing,
    /// The connection, when no file has it.
    idle: Arc<Mutex<Idle>>,
}

#[derive(Debug, Default)]
struct Idle {
    connection: Option<Connection>,
    loaded: Option<Loaded>,
    /// Why the dump is not in the server.
    failure: Option<String>,
}

/// What was loaded.
#[derive(Clone, Copy, Debug, Default)]
struct Loaded {
    keys: u64,
    expiring: u64,
}

/// Commands that may wait for their answers.
const COMMANDS_AHEAD: u32 = 256;

/// Bytes of commands that may wait for their answers.
const BYTES_AHEAD: usize = 4 * 1024 * 1024;

impl RedisTarget {
    /// Connects to the server.
    ///
    /// # Errors
    ///
    /// When it cannot be reached, or refuses who asks.
    pub fn connect(settings: &RedisSettings, existing: Existing) -> Result<Self> {
        let connection = Connection::open(settings)?;
        let address = connection.address().to_owned();
        let idle = Idle { connection: Some(connection), ..Idle::default() };
        Ok(Self { address, existing, idle: Arc::new(Mutex::new(idle)) })
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers hand over errors and texts alike")]
    fn fail(&self, action: &'static str, reason: impl ToString) -> TargetError {
        fatal(action, &SnapshotPath::parse(self.address.as_bytes()), reason.to_string())
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target for RedisTarget {
    fn location(&self) -> String {
        format!("redis://{}", self.address)
    }

    fn order(&self) -> WriteOrder {
        WriteOrder::Sequential
    }

    fn begin(&self, _expected: Amount) -> Result<(), TargetError> {
        let mut idle = self.idle();
        let connection = idle.connection.as_mut().ok_or_else(|| self.fail("connect to", "the connection is gone"))?;
        prepare(connection, self.existing).map_err(|error| self.fail("restore into", error))
    }

    fn enter(&self, _path: &SnapshotPath, _node: &Node) -> Result<(), TargetError> {
        Ok(())
    }

    fn file(&self, path: &SnapshotPath, _node: &Node) -> Result<Box<dyn TargetFile>, TargetError> {
        if path.name() != DUMP.as_bytes() {
            return Ok(Box::new(PassedOver));
        }
        let connection = self.idle().connection.take();
        let connection = connection
            .ok_or_else(|| self.fail("restore into", "the snapshot has more than one dump; choose one with --path"))?;
        let reader = RdbReader::new(Loader {
            connection,
            selected: 0,
            ahead: 0,
            ahead_bytes: 0,
            version: 0,
            loaded: Loaded::default(),
        });
        let state = Mutex::new(Some(DumpState { reader, position: 0 }));
        Ok(Box::new(DumpFile { state, path: path.clone(), idle: Arc::clone(&self.idle) }))
    }

    fn hard_link(&self, path: &SnapshotPath, _first: &SnapshotPath, _node: &Node) -> Result<(), TargetError> {
        Err(self.fail("restore into", format!("{path} is no part of a backup of Redis")))
    }

    fn special(&self, path: &SnapshotPath, _node: &Node) -> Result<Vec<TargetError>, TargetError> {
        Err(self.fail("restore into", format!("{path} is no part of a backup of Redis")))
    }

    fn leave(&self, _path: &SnapshotPath, _node: &Node, _names: Option<&[Vec<u8>]>) -> Result<Left, TargetError> {
        Ok(Left::default())
    }

    fn finish(&self) -> Result<(), TargetError> {
        let mut idle = self.idle();
        if let Some(why) = idle.failure.take() {
            return Err(self.fail("restore into", format!("{why}; what came before it is there")));
        }
        let loaded =
            idle.loaded.take().ok_or_else(|| self.fail("restore into", "the snapshot has no dump.rdb here"))?;
        let connection = idle.connection.as_mut().ok_or_else(|| self.fail("connect to", "the connection is gone"))?;
        let there = keys_of(connection).map_err(|error| self.fail("look at", error))?;
        // Those with a time to live may have had it.
        if there + loaded.expiring < loaded.keys {
            let why = format!("{} keys were loaded and {there} are there: maxmemory drops them", loaded.keys);
            return Err(self.fail("restore into", why));
        }
        Ok(())
    }
}

/// Looks whether the server is empty, and makes it so if that was asked for.
fn prepare(connection: &mut Connection, existing: Existing) -> Result<()> {
    let address = connection.address().to_owned();
    let refuse = |why: String, hint: &'static str| Err(Error::new(ErrorKind::Target(why), &address).with_hint(hint));
    let keys = keys_of(connection)?;
    let functions = matches!(ask(connection, &[b"FUNCTION", b"LIST"])?, Reply::Several(list) if !list.is_empty());
    if keys == 0 && !functions {
        return Ok(());
    }
    if existing == Existing::Refuse {
        return refuse(format!("the server is not empty: it has {keys} keys; --clean empties it first"), "");
    }
    for command in [&[&b"FLUSHALL"[..]][..], &[b"FUNCTION", b"FLUSH"]] {
        match ask(connection, command)? {
            Reply::Failed(why) if !why.contains("unknown") => {
                return refuse(format!("the server is not emptied: {why}"), "give the user the right to it");
            }
            _ => {}
        }
    }
    Ok(())
}

/// The keys in all databases.
fn keys_of(connection: &mut Connection) -> Result<u64> {
    let facts = facts_of(connection)?;
    if facts.is_empty() {
        let why = "the server does not say whether it is empty; it takes the rights +info +restore +select +function";
        return Err(Error::new(ErrorKind::Target(why.into()), connection.address()));
    }
    let databases =
        facts.iter().filter(|(name, _)| name.strip_prefix("db").is_some_and(|rest| rest.parse::<u32>().is_ok()));
    let keys = databases.filter_map(|(_, counts)| counts.strip_prefix("keys=")?.split(',').next()?.parse::<u64>().ok());
    Ok(keys.sum())
}

fn ask(connection: &mut Connection, words: &[&[u8]]) -> Result<Reply> {
    let reply = connection.command(words);
    reply.map_err(|error| {
        Error::new(ErrorKind::Target("the server does not answer".into()), connection.address()).caused_by(error)
    })
}

/// `dump.rdb` on its way into the server.
#[derive(Debug)]
struct DumpFile {
    /// Empty once something went wrong.
    state: Mutex<Option<DumpState>>,
    path: SnapshotPath,
    idle: Arc<Mutex<Idle>>,
}

#[derive(Debug)]
struct DumpState {
    reader: RdbReader<Loader>,
    position: u64,
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fed = match state.as_mut() {
            None => Err("the restore has failed".to_owned()),
            Some(state) if state.position != offset => Err("the dump does not come in its order".to_owned()),
            Some(state) => {
                state.position += bytes.len() as u64;
                let fed = state.reader.feed(bytes);
                fed.and_then(|()| state.reader.unread().map_or(Ok(()), |why| Err(cannot_load(why))))
            }
        };
        fed.map_err(|why| {
            *state = None;
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).failure.get_or_insert_with(|| why.clone());
            std::io::Error::other(why)
        })
    }

    fn finish(self: Box<Self>, _node: &Node, _size: u64) -> Result<Vec<TargetError>, TargetError> {
        let Self { state, path, idle } = *self;
        let fail = |why: String| {
            idle.lock().unwrap_or_else(PoisonError::into_inner).failure.get_or_insert_with(|| why.clone());
            fatal("load", &path, why)
        };
        let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let DumpState { mut reader, .. } = state.ok_or_else(|| fail("the restore has failed".into()))?;
        reader.finish().map_err(fail)?;
        let mut loader = reader.into_listener();
        loader.settle().map_err(fail)?;
        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
        (idle.connection, idle.loaded) = (Some(loader.connection), Some(loader.loaded));
        Ok(Vec::new())
    }
}

/// Gives the keys to a server.
#[derive(Debug)]
struct Loader {
    connection: Connection,
    /// The database that the connection is in.
    selected: u64,
    /// Commands, and their bytes, whose answers were not read yet.
    ahead: u32,
    ahead_bytes: usize,
    version: u16,
    loaded: Loaded,
}

impl Loader {
    fn send(&mut self, words: &[&[u8]]) -> Result<(), String> {
        let sent = self.connection.send(words);
        sent.map_err(|error| format!("the server was lost after {} keys: {error}", self.loaded.keys))?;
        self.ahead += 1;
        self.ahead_bytes += words.iter().map(|word| word.len()).sum::<usize>();
        if self.ahead >= COMMANDS_AHEAD || self.ahead_bytes >= BYTES_AHEAD { self.settle() } else { Ok(()) }
    }

    /// Reads all answers that are still to come.
    fn settle(&mut self) -> Result<(), String> {
        let lost = |error: std::io::Error| format!("the server was lost: {error}");
        self.connection.flush().map_err(lost)?;
        for _ in 0..std::mem::take(&mut self.ahead) {
            if let Reply::Failed(why) = self.connection.reply().map_err(lost)? {
                return Err(if why.contains("DUMP payload version") {
                    "the server is older than the one that was backed up: restore into one of the same version".into()
                } else {
                    format!("the server refuses a key: {why}")
                });
            }
        }
        self.ahead_bytes = 0;
        Ok(())
    }
}

impl Listener for Loader {
    const WANTS_VALUES: bool = true;
    const WANTS_ELEMENTS: bool = false;

    fn version(&mut self, version: u16) {
        self.version = version;
    }

    fn fact(&mut self, _name: &[u8], _value: &[u8]) {}

    fn key(&mut self, key: Key<'_>) -> Result<(), String> {
        if key.database != self.selected {
            self.send(&[b"SELECT", key.database.to_string().as_bytes()])?;
            self.selected = key.database;
        }
        let payload = payload(&key, self.version);
        let expires = key.expires.unwrap_or_default().to_string();
        self.send(&[b"RESTORE", key.name, expires.as_bytes(), &payload, b"ABSTTL"])?;
        self.loaded.keys += 1;
        self.loaded.expiring += u64::from(key.expires.is_some());
        Ok(())
    }

    fn function(&mut self, library: &[u8]) -> Result<(), String> {
        self.send(&[b"FUNCTION", b"LOAD", library])
    }

    /// Told when it was backed up.
    fn module_data(&mut self) {}
}

/// A value as `DUMP` would have given it: the type, the value, the version, a checksum of these.
pub(super) fn payload(key: &Key<'_>, version: u16) -> Vec<u8> {
    let mut payload = Vec::with_capacity(key.raw.len() + 11);
    payload.push(key.kind);
    payload.extend_from_slice(key.raw);
    payload.extend_from_slice(&version.to_le_bytes());
    let sum = checksum(CrcAlgorithm::Crc64Redis, &payload);
    payload.extend_from_slice(&sum.to_le_bytes());
    payload
}

fn fatal(action: &'static str, path: &SnapshotPath, reason: String) -> TargetError {
    TargetError { is_fatal: true, ..TargetError::new(action, path.clone(), reason) }
}

fn cannot_load(why: &str) -> String {
    format!("{why}, so it cannot be loaded key by key; restore dump.rdb into a folder and start a server with it")
}
