//! A database of SQLite as a source: looked at first, read when its turn comes, counted in the very state that was read.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backup_core::chunk::{Chunking, Fixed};
use backup_core::clock::Clock;
use backup_core::codec::Compression;
use backup_core::contracts::{
    Consistency, Expectation, RecoveryPoint, Report, Source, SourceError, SourceEvent, SourceInfo, Tool,
};
use backup_core::limits::SQLITE_CHUNK_BYTES;
use backup_core::model::{Metadata, SnapshotPath};
use backup_core::{Error, ErrorKind, Result};
use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{AtFlags, CWD, StatxFlags, StatxTimestamp, makedev, statx};
use serde_json::{Map, Value};

use super::super::folder::{File, Folder, Stream, Turn, path_of};
use super::super::manifest::{MANIFEST, Manifest};
use super::super::ready::Ready;
use super::super::url::{DatabaseUrl, Engine};
use super::image::{Image, Passed};
use super::observe::{Check, Finding, Objects, Sort, facts_of, findings_of, objects_of};
use super::spool;

/// The kind of expectation that the file as a whole is.
pub(super) const IMAGE: &str = "image";

/// The hash of the whole file, as an expectation has it.
pub(super) fn image_hash(hash: u128) -> String {
    format!("xxh3-128-in-order:{hash:032x}")
}

/// How a database is read.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The database's name in the snapshot; the file's name when there is none.
    pub name: Option<String>,
    /// The folder for the copy that a database in another mode than WAL needs: of its size, only for its owner to
    /// read, and gone when it was read.
    pub spool: PathBuf,
    /// How closely the database is looked at while it is backed up.
    pub check: Check,
    /// How long a lock of another program is waited for.
    pub patience: Duration,
}

impl SqliteOptions {
    /// The defaults, and the folder for copies.
    pub fn new(spool: impl Into<PathBuf>) -> Self {
        Self { name: None, spool: spool.into(), check: Check::default(), patience: Duration::from_secs(10) }
    }
}

impl SqliteOptions {
    /// What stands behind the question mark of a URL: `name`, and `check` (`off`, `quick`, `full`).
    ///
    /// # Errors
    ///
    /// When something unknown stands there.
    pub fn with_parameters(mut self, url: &DatabaseUrl) -> Result<Self> {
        for (parameter, value) in url.parameters() {
            match (parameter.as_str(), value.as_str()) {
                ("name", name) => self.name = Some(name.to_owned()),
                ("check", "off") => self.check = Check::Off,
                ("check", "quick") => self.check = Check::Quick,
                ("check", "full") => self.check = Check::Full,
                _ => {
                    return Err(Error::invalid(url.to_string(), format!("{parameter}={value} means nothing here"))
                        .with_hint("known are name=NAME and check=off, quick or full"));
                }
            }
        }
        Ok(self)
    }
}

/// A database of SQLite.
#[derive(Debug)]
pub struct SqliteSource {
    folder: Folder,
    seen: Arc<Mutex<Seen>>,
}

/// What the streams leave for each other, and for the report.
#[derive(Debug, Default)]
struct Seen {
    /// The connection with the state that was read, until it was counted in.
    view: Option<Connection>,
    passed: Option<Passed>,
    taken: Option<Timestamp>,
    warnings: Vec<String>,
    report: Option<Report>,
}

impl SqliteSource {
    /// Looks at the database at `path`: whether it is one, and whether it can be read.
    ///
    /// # Errors
    ///
    /// When there is no such file (none is created), when it is no database, and when it cannot be opened. The hint
    /// says what to do about it.
    pub fn open(path: &Path, options: &SqliteOptions, clock: &Arc<dyn Clock>) -> Result<Self> {
        let subject = path.display().to_string();
        // Links are followed once: SQLite names its other files after the place that a link leads to.
        let path = path.canonicalize().map_err(|error| {
            Error::new(ErrorKind::Source("the database cannot be opened".into()), &subject)
                .caused_by(error)
                .with_hint("check the path; nothing was created")
        })?;
        let metadata = metadata(&path).map_err(|error| {
            Error::new(ErrorKind::Source("the database cannot be looked at".into()), &subject).caused_by(error)
        })?;
        if !path.is_file() {
            return Err(Error::invalid(&subject, "it is not a file").with_hint("give the database's file"));
        }
        let own_name = path.file_name().and_then(|name| name.to_str());
        let name = options.name.as_deref().or(own_name).unwrap_or_default().to_owned();
        if name.is_empty() || name == MANIFEST || name.contains(['/', '\0']) {
            return Err(Error::invalid(&subject, "its name cannot be that of a file in the snapshot")
                .with_hint("give it another: sqlite:///PATH?name=NAME"));
        }
        let looked = connect(&path, options.patience).and_then(|view| journal_of(&view));
        let journal = looked.map_err(|error| refused(&subject, &error))?;
        let seen = Arc::<Mutex<Seen>>::default();
        let files = vec![
            image_file(path, &name, metadata, &journal, options, Arc::clone(clock), Arc::clone(&seen)),
            manifest_file(&name, journal, options.check, Arc::clone(&seen)),
        ];
        Ok(Self { folder: Folder::new(Engine::Sqlite, &name, files, clock.now()), seen })
    }
}

impl Source for SqliteSource {
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

fn image_file(
    path: PathBuf,
    name: &str,
    metadata: Metadata,
    journal: &str,
    options: &SqliteOptions,
    clock: Arc<dyn Clock>,
    seen: Arc<Mutex<Seen>>,
) -> File {
    let (options, is_wal) = (options.clone(), journal == "wal");
    let subject = SnapshotPath::of_file(&path);
    let open = move || {
        let fail = |error: rusqlite::Error| SourceError::new("read", subject.clone(), told(&error));
        let view = connect(&path, options.patience).map_err(fail)?;
        let image = if is_wal && Image::is_possible(&view) {
            Image::of_pages(view).map_err(fail)?
        } else {
            let spooled = spool::take(
                &view,
                &options.spool,
                options.patience,
                if is_wal { None } else { Some(spool::Slices::default()) },
            );
            let spooled = spooled.map_err(|error| SourceError::new("copy", subject.clone(), error))?;
            lock(&seen).warnings.extend(spooled.warning);
            Image::of_copy(spooled.view, spooled.copy).map_err(fail)?
        };
        lock(&seen).taken = Some(clock.now());
        Ok(Box::new(ImageStream { image, subject, seen }) as Box<dyn Stream>)
    };
    let chunking = Chunking::Fixed(Fixed::new(SQLITE_CHUNK_BYTES));
    File { metadata: Some(metadata), chunking: Some(chunking), ..File::stream(name, Turn::Any, Box::new(open)) }
}

/// The image being read. Its connection is left to the manifest, which counts in the same state.
struct ImageStream {
    image: Image,
    subject: SnapshotPath,
    seen: Arc<Mutex<Seen>>,
}

impl Stream for ImageStream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.image.read(buffer).map_err(|error| std::io::Error::other(told(&error)))
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        let Self { image, subject, seen } = *self;
        let (view, passed) = image.finish().map_err(|why| SourceError::new("read", subject, why))?;
        let mut seen = lock(&seen);
        (seen.view, seen.passed) = (Some(view), Some(passed));
        Ok(())
    }
}

fn manifest_file(name: &str, journal: String, check: Check, seen: Arc<Mutex<Seen>>) -> File {
    let name = name.to_owned();
    let open = move || {
        let subject = path_of(Engine::Sqlite, &name).join(MANIFEST.as_bytes());
        let mut seen = lock(&seen);
        let (Some(view), Some(passed), Some(taken)) = (seen.view.take(), seen.passed.take(), seen.taken) else {
            return Err(SourceError::new("count", subject, "the database was not read before"));
        };
        let fail = |error: rusqlite::Error| SourceError::new("count", subject.clone(), told(&error));
        let Objects { mut expectations, mut findings, held } = objects_of(&view).map_err(fail)?;
        findings.extend(findings_of(&view, check).map_err(fail)?);
        let mut warnings = std::mem::take(&mut seen.warnings);
        if !expectations.iter().any(|expected| expected.kind == "table") {
            warnings.push(format!("the database {name} has no tables"));
        }
        warnings.extend(findings.into_iter().map(|Finding { sort, text }| match sort {
            Sort::Damage => format!("the database {name} is damaged: {text}"),
            _ => format!("the database {name}: {text}"),
        }));
        expectations.push(Expectation {
            kind: IMAGE.into(),
            object: name.clone(),
            count: Some(passed.pages),
            hash: Some(image_hash(passed.hash)),
        });
        let report = Report {
            recovery_point: Some(RecoveryPoint::from(taken)),
            consistency: Consistency::Transactional,
            warnings,
            tools: vec![Tool { name: "sqlite".into(), version: rusqlite::version().into() }],
            expectations,
            held: Some(held),
        };
        let mut details = facts_of(&view).map_err(fail)?;
        // The other modes are each connection's own affair.
        details.insert("journal_mode".into(), Value::from(if journal == "wal" { "wal" } else { "rollback" }));
        let bytes =
            manifest_bytes(&name, &report, details).map_err(|error| SourceError::new("write", subject, error))?;
        seen.report = Some(report);
        Ok(Box::new(Ready::new(bytes)) as Box<dyn Stream>)
    };
    File::stream(MANIFEST, Turn::Last, Box::new(open))
}

fn manifest_bytes(name: &str, report: &Report, details: Map<String, Value>) -> Result<Vec<u8>> {
    let manifest = Manifest::new(Engine::Sqlite, name, report.clone());
    Manifest { details, ..manifest }.to_bytes()
}

/// A connection that can only read, and makes no file.
pub(super) fn connect(path: &Path, patience: Duration) -> rusqlite::Result<Connection> {
    let view = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    view.busy_timeout(patience)?;
    Ok(view)
}

/// How the database keeps its transactions: `wal`, `delete`, …. The first real look into the file.
fn journal_of(view: &Connection) -> rusqlite::Result<String> {
    view.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    view.query_row("PRAGMA journal_mode", [], |row| row.get(0))
}

/// What SQLite says of a failure.
pub(super) fn told(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(code, text) => text.clone().unwrap_or_else(|| code.to_string()),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

fn refused(subject: &str, error: &rusqlite::Error) -> Error {
    let hint = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => "check the path; an encrypted database can only be read by its own program",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program holds it for itself (locking_mode=EXCLUSIVE, or a long write): try again when it is done"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
            "if its program crashed, start that once to recover the database; and the folder must be writable for \
             who backs up a database in WAL mode"
        }
        _ => "check the file and its rights; nothing was changed",
    };
    Error::new(ErrorKind::Source(format!("the database cannot be read: {}", told(error))), subject).with_hint(hint)
}

/// What the snapshot says of the file. Its times are those of the last checkpoint.
fn metadata(path: &Path) -> std::io::Result<Metadata> {
    let stat = statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS)?;
    let instant = |time: StatxTimestamp| {
        Timestamp::new(time.tv_sec, i32::try_from(time.tv_nsec).unwrap_or(0)).unwrap_or(Timestamp::UNIX_EPOCH)
    };
    let mtime = instant(stat.stx_mtime);
    Ok(Metadata {
        mode: u32::from(stat.stx_mode) & 0o777,
        mtime: Some(mtime),
        atime: Some(mtime),
        ctime: instant(stat.stx_ctime),
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        inode: stat.stx_ino,
        device_id: makedev(stat.stx_dev_major, stat.stx_dev_minor),
        links: 1,
        ..Metadata::default()
    })
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
