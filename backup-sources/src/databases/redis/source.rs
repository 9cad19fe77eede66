//! A server of Redis as a source: looked at first, asked for its snapshot when that is read.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, PoisonError};

use backup_core::clock::Clock;
use backup_core::codec::Compression;
use backup_core::contracts::{
    Consistency, Expectation, RecoveryPoint, Report, Source, SourceError, SourceEvent, SourceInfo, Tool,
};
use backup_core::model::SnapshotPath;
use backup_core::{Error, ErrorKind, Result};
use jiff::Timestamp;

use super::super::folder::{File, Folder, Stream, Turn, path_of};
use super::super::manifest::{MANIFEST, Manifest};
use super::super::ready::Ready;
use super::super::url::Engine;
use super::connection::{Connection, Reply};
use super::keys::Keys;
use super::listener::Ending;
use super::rdb::RdbReader;
use super::settings::RedisSettings;
use super::sync::Snapshot;

/// The file of a snapshot, by the name under which a server loads it.
pub(super) const DUMP: &str = "dump.rdb";

/// A server of Redis or Valkey.
#[derive(Debug)]
pub struct RedisSource {
    folder: Folder,
    seen: Arc<Mutex<Seen>>,
}

/// What the streams leave for each other, and for the report.
#[derive(Debug, Default)]
struct Seen {
    warnings: Vec<String>,
    tools: Vec<Tool>,
    dump: Option<Dump>,
    report: Option<Report>,
}

/// A snapshot that was read to its end.
#[derive(Debug)]
struct Dump {
    keys: Keys,
    taken: Timestamp,
    position: Option<String>,
    warnings: Vec<String>,
}

impl RedisSource {
    /// Connects, and looks at the server: what it is, and whether it can give a snapshot.
    ///
    /// # Errors
    ///
    /// When it cannot be reached, refuses who asks, or is still loading.
    pub fn connect(settings: &RedisSettings, clock: &Arc<dyn Clock>) -> Result<Self> {
        let mut connection = Connection::open(settings)?;
        let facts = facts_of(&mut connection)?;
        let subject = connection.address().to_owned();
        let fact = |name: &str| facts.get(name).map_or("", String::as_str);
        if fact("loading") == "1" {
            return Err(Error::new(ErrorKind::Source("the server is still loading its data".into()), subject)
                .with_hint("try again when it is done"));
        }
        let mut warnings = Vec::new();
        if fact("cluster_enabled") == "1" {
            warnings.push(format!("{subject} is one node of a cluster: the snapshot has its slots alone"));
        }
        if fact("role") == "slave" && fact("master_link_status") != "up" {
            warnings.push(format!("{subject} is a replica that has lost its master: its data may be old"));
        }
        let (name, version) = match facts.get("valkey_version") {
            Some(version) => ("valkey", version.as_str()),
            None => ("redis", fact("redis_version")),
        };
        let mut tools = Vec::new();
        if !version.is_empty() {
            tools.push(Tool { name: name.into(), version: version.into() });
        }
        let seen = Arc::new(Mutex::new(Seen { warnings, tools, ..Seen::default() }));
        let name = settings.name();
        let files = vec![
            dump_file(&name, connection, Arc::clone(clock), Arc::clone(&seen)),
            manifest_file(&name, Arc::clone(&seen)),
        ];
        Ok(Self { folder: Folder::new(Engine::Redis, &name, files, clock.now()), seen })
    }
}

impl Source for RedisSource {
    fn info(&self) -> SourceInfo {
        self.folder.info()
    }

    fn level(&self) -> Option<i32> {
        Some(Compression::DUMP_LEVEL)
    }

    fn next(&mut self) -> Result<Option<SourceEvent>, SourceError> {
        Ok(self.folder.next())
    }

    fn finish(&mut self) -> Result<Report, SourceError> {
        self.folder.settle()?;
        let missing = || SourceError::new("read", self.folder.path().clone(), "it was not read to its end");
        lock(&self.seen).report.take().ok_or_else(missing)
    }
}

/// What a server holds now, in the form of a report's expectations: its snapshot is read, and kept nowhere.
///
/// # Errors
///
/// When the server gives none, or not a whole one.
pub fn observe(settings: &RedisSettings, clock: &dyn Clock) -> Result<Vec<Expectation>> {
    let connection = Connection::open(settings)?;
    let subject = connection.address().to_owned();
    let fail = |why: String| Error::new(ErrorKind::Source(why), &subject);
    let mut stream = DumpStream::ask(connection, clock).map_err(fail)?;
    let mut buffer = vec![0; 256 * 1024];
    while stream.read(&mut buffer).map_err(|error| fail(error.to_string()))? > 0 {}
    Ok(stream.finish().map_err(fail)?.keys.expectations())
}

fn dump_file(name: &str, connection: Connection, clock: Arc<dyn Clock>, seen: Arc<Mutex<Seen>>) -> File {
    let subject = path_of(Engine::Redis, name).join(DUMP.as_bytes());
    let open = move || {
        let stream = DumpStream::ask(connection, &*clock);
        let stream = stream.map_err(|why| SourceError::new("read", subject.clone(), why))?;
        Ok(Box::new(Kept { stream, subject, seen }) as Box<dyn Stream>)
    };
    File::stream(DUMP, Turn::Any, Box::new(open))
}

/// A snapshot on its way, looked at as it passes.
#[derive(Debug)]
struct DumpStream {
    snapshot: Snapshot,
    reader: RdbReader<Keys>,
    asked: Timestamp,
}

impl DumpStream {
    fn ask(connection: Connection, clock: &dyn Clock) -> Result<Self, String> {
        let asked = clock.now();
        Ok(Self { snapshot: Snapshot::ask(connection)?, reader: RdbReader::new(Keys::default()), asked })
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.snapshot.read(buffer)?;
        self.reader.feed(&buffer[..length]).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
        Ok(length)
    }

    fn finish(self) -> Result<Dump, String> {
        let Self { snapshot, mut reader, asked } = self;
        if !snapshot.is_whole() {
            return Err("the snapshot was not read to its end".into());
        }
        let mut warnings = Vec::new();
        if reader.finish()? == Ending::Unchecked {
            warnings.push("the snapshot has no checksum: the server has rdbchecksum switched off".to_owned());
        }
        let unread = reader.unread().map(str::to_owned);
        let mut keys = reader.into_listener();
        if let Some(why) = unread {
            warnings.push(format!("the snapshot is stored as it came, but its keys were not counted: {why}"));
            // Counts of a part would be wrong ones.
            keys.forget();
        } else if keys.count() == 0 {
            warnings.push("the server has no keys".to_owned());
        }
        if keys.has_module_data {
            warnings.push(
                "modules keep data of their own beside the keys: a restore key by key does not bring it".to_owned(),
            );
        }
        // The server's own clock says it best; some versions do not.
        let taken = keys.taken.unwrap_or(asked);
        Ok(Dump { keys, taken, position: snapshot.position, warnings })
    }
}

/// The same as a file of the folder.
struct Kept {
    stream: DumpStream,
    subject: SnapshotPath,
    seen: Arc<Mutex<Seen>>,
}

impl Stream for Kept {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        let Self { stream, subject, seen } = *self;
        let dump = stream.finish().map_err(|why| SourceError::new("read", subject, why))?;
        lock(&seen).dump = Some(dump);
        Ok(())
    }
}

fn manifest_file(name: &str, seen: Arc<Mutex<Seen>>) -> File {
    let (name, subject) = (name.to_owned(), path_of(Engine::Redis, name).join(MANIFEST.as_bytes()));
    let open = move || {
        let mut seen = lock(&seen);
        let Some(dump) = seen.dump.take() else {
            return Err(SourceError::new("write", subject, "the snapshot was not read before"));
        };
        let Dump { keys, taken, position, warnings } = dump;
        let mut report = Report {
            recovery_point: Some(RecoveryPoint { time: taken, position }),
            consistency: Consistency::Transactional,
            warnings: std::mem::take(&mut seen.warnings),
            tools: std::mem::take(&mut seen.tools),
            expectations: keys.expectations(),
            held: Some(keys.count()),
        };
        report.warnings.extend(warnings);
        if report.tools.is_empty() {
            let told = keys.version.map(|version| Tool { name: "redis".into(), version });
            report.tools.extend(told);
        }
        let bytes = Manifest::new(Engine::Redis, &name, report.clone()).to_bytes();
        seen.report = Some(report);
        Ok(Box::new(Ready::new(bytes.map_err(|error| SourceError::new("write", subject, error))?)) as Box<dyn Stream>)
    };
    File::stream(MANIFEST, Turn::Last, Box::new(open))
}

/// What the server says of itself; nothing when it does not say it to this user.
pub(super) fn facts_of(connection: &mut Connection) -> Result<BTreeMap<String, String>> {
    let reply = connection.command(&[b"INFO"]);
    let reply = reply.map_err(|error| {
        Error::new(ErrorKind::Source("the server does not answer".into()), connection.address()).caused_by(error)
    })?;
    let Reply::Text(text) = reply else { return Ok(BTreeMap::new()) };
    let text = String::from_utf8_lossy(&text);
    let facts = text.lines().filter_map(|line| line.split_once(':'));
    Ok(facts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
