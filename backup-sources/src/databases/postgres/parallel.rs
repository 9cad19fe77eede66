//! A dump by several connections: pg_dump writes its directory format into a folder, and each file goes into the snapshot
//! as it grows.
//!
//! pg_dump writes the table of contents first, and nothing of the data before that is closed: from then on it is known
//! which files there will be. Whoever reads one that is not there yet, or that has not come to its end, waits for it; the
//! dump waits for nobody, so that no order in which files are read can stop it. A file that was read is removed.
//!
//! What is always true: the folder belongs to this user alone. It is removed with the dump, and the program ended before
//! that; only when this process is killed it stays. What pg_dump complains of fails everything, as does a file that was
//! promised and did not come, or came and was not promised.

use std::fs::{self, File as SystemFile, Permissions};
use std::io::{self, Cursor, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use backup_core::contracts::SourceError;
use backup_core::limits::READ_BUFFER_BYTES;
use backup_core::{Error, Result};
use rustix::fs::statvfs;
use tempfile::TempDir;

use super::archive::{ArchiveError, Data, Found, HEAD_BYTES, Inspector, Layout, forget_instant};
use super::connection::Connection;
use super::contents::Contents;
use super::directory::{CONTENTS, object_file, object_number};
use super::failure;
use super::rewritten;
use super::rows::{LargeObjects, Rows};
use super::source::Shared;
use crate::databases::folder::{File, Stream, Turn};
use crate::program::{Ended, Program};

/// How long to wait before a file that has not grown is looked at again.
const PAUSE: Duration = Duration::from_millis(5);

/// How often the removal of the folder is tried, a [`PAUSE`] apart: a program that was ended may still close its files.
const REMOVALS_MAX: u32 = 200;

/// The folder of a dump by several connections, before it begins.
#[derive(Debug)]
pub(super) struct Spool(TempDir);

impl Spool {
    /// Makes one in `parent`, if there is about as much space as the tables take.
    pub(super) fn make(parent: &Path, connection: &Connection) -> Result<Self> {
        let cannot = |error: io::Error| {
            Error::invalid(parent.display().to_string(), "no folder for the dump can be made here")
                .caused_by(error)
                .with_hint("name another with --spool")
        };
        // The catalogues, which are no part of a dump, have the numbers below 16384.
        let size = "SELECT COALESCE(sum(pg_table_size(oid)), 0) FROM pg_class \
                    WHERE relkind = 'r' AND oid >= 16384 OR oid = 'pg_largeobject'::regclass";
        let needed: u64 = connection.value(size)?.and_then(|bytes| bytes.parse().ok()).unwrap_or_default();
        let space = statvfs(parent).map_err(|error| cannot(error.into()))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < needed {
            let why = format!("the dump takes about {needed} bytes here, and {free} are free");
            return Err(Error::invalid(parent.display().to_string(), why).with_hint(
                "name a folder with more with --spool; a dump by one connection (without --jobs) needs none",
            ));
        }
        tempfile::Builder::new()
            .prefix("backup-dump-")
            .permissions(closed())
            .tempdir_in(parent)
            .map(Self)
            .map_err(cannot)
    }

    /// Where pg_dump makes its own.
    pub(super) fn dump(&self) -> PathBuf {
        self.0.path().join("dump")
    }
}

/// A dump that is being made.
#[derive(Debug)]
struct Dumping {
    spool: Option<Spool>,
    folder: PathBuf,
    program: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Runs(Program),
    Ended(Arc<Result<Ended, String>>),
}

impl Dumping {
    fn start(command: Command, spool: Spool) -> Result<Self, String> {
        let folder = spool.dump();
        let program = Program::start(command).map_err(|error| error.to_string())?;
        Ok(Self { spool: Some(spool), folder, program: Mutex::new(State::Runs(program)) })
    }

    /// How the program ended; `None` while it runs.
    fn end(&self) -> Option<Arc<Result<Ended, String>>> {
        let mut state = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Runs(program) = &mut *state {
            let has_ended = program.has_ended();
            if has_ended.as_ref().is_ok_and(|ended| !ended) {
                return None;
            }
            let nothing = State::Ended(Arc::new(Err("its end is not known".to_owned())));
            if let State::Runs(program) = std::mem::replace(&mut *state, nothing) {
                *state = State::Ended(Arc::new(program.finish()));
            }
        }
        match &*state {
            State::Ended(ended) => Some(Arc::clone(ended)),
            State::Runs(_) => None,
        }
    }

    fn wait(&self) -> Arc<Result<Ended, String>> {
        loop {
            if let Some(ended) = self.end() {
                return ended;
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Dumping {
    fn drop(&mut self) {
        let state = self.program.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let State::Runs(program) = std::mem::replace(state, State::Ended(Arc::new(Err(String::new())))) {
            program.stop();
        }
        let Some(Spool(folder)) = self.spool.take() else { return };
        let folder = folder.keep();
        for _ in 0..REMOVALS_MAX {
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => thread::sleep(PAUSE),
                _ => return,
            }
        }
    }
}

/// The permissions of a folder that nobody else can enter.
pub(super) fn closed() -> Permissions {
    Permissions::from_mode(0o700)
}

/// What is known of a dump while its files are read.
#[derive(Debug)]
pub(super) struct Progress {
    dumping: Arc<Dumping>,
    contents: Contents,
    data: Data,
}

impl Progress {
    /// All files were read: waits for pg_dump's last word, and gives it with what was in the dump. `judge` says whether the
    /// program has failed.
    pub(super) fn settle(
        self,
        judge: impl FnOnce(&Result<Ended, String>) -> Result<(), SourceError>,
        failed: impl Fn(String) -> SourceError,
    ) -> Result<(Found, Arc<Result<Ended, String>>), SourceError> {
        let ended = self.dumping.wait();
        judge(&ended)?;
        // Whatever was read is gone.
        let mut left = fs::read_dir(&self.dumping.folder).map_err(|error| failed(error.to_string()))?;
        if let Some(Ok(file)) = left.next() {
            let name = file.file_name();
            return Err(failed(format!("it wrote {}, which its table of contents does not name", name.display())));
        }
        let found = Found::of(&self.contents, self.data).map_err(|error| failed(error.to_string()))?;
        Ok((found, ended))
    }
}

/// Starts `command`, which dumps into `spool`, and waits for its table of contents. The files that it will make.
pub(super) fn start(shared: &Arc<Shared>, command: Command, spool: Spool) -> Result<Vec<File>, SourceError> {
    let failed = |why: String| SourceError::new("dump", shared.path.clone(), why);
    let dumping = Arc::new(Dumping::start(command, spool).map_err(failed)?);
    let contents = contents_of(&dumping, shared)?;
    if let Some(failure) = rewritten::failure(&shared.path, &shared.rewritten()?, &contents) {
        return Err(failure);
    }
    let mut streams = vec![(CONTENTS.to_owned(), Kind::Contents(Head::default()))];
    let mut has_objects = false;
    for entry in contents.entries() {
        let Some(file) = entry.file() else { continue };
        if entry.is_large_objects() {
            has_objects = true;
            streams.push((file.to_owned(), Kind::Plain));
        } else {
            let rows = Rows::new(contents.sorted_columns(entry.number));
            streams.push((file.to_owned(), Kind::Rows(entry.number, Box::new(rows))));
        }
    }
    if has_objects {
        for number in objects(&shared.connection()).map_err(|error| failed(error.to_string()))? {
            let mut object = LargeObjects::default();
            object.begin(object_number(number));
            streams.push((object_file(number), Kind::Object(Box::new(object))));
        }
    }
    let large_objects = has_objects.then(LargeObjects::default);
    let data = Data { large_objects, ..Data::default() };
    shared.lock().parallel = Some(Progress { dumping: Arc::clone(&dumping), contents, data });
    let files = streams.into_iter().map(|(name, kind)| {
        let (shared, dumping, path) = (Arc::clone(shared), Arc::clone(&dumping), dumping.folder.join(&name));
        let open = move || Ok(Box::new(Growing { shared, dumping, path, file: None, kind }) as Box<dyn Stream>);
        File::stream(name, Turn::Any, Box::new(open))
    });
    Ok(files.collect())
}

/// The table of contents, when it is whole.
fn contents_of(dumping: &Dumping, shared: &Shared) -> Result<Contents, SourceError> {
    let failed = |why: String| SourceError::new("dump", shared.path.clone(), why);
    let mut inspector = Inspector::new(Layout::Directory);
    let (mut file, mut buffer) = (None, vec![0; READ_BUFFER_BYTES]);
    while !inspector.has_contents() {
        let ended = dumping.end();
        match read_on(&mut file, &dumping.folder.join(CONTENTS), &mut buffer)
            .map_err(|error| failed(error.to_string()))?
        {
            0 => match ended {
                Some(ended) => {
                    shared.judge(&ended)?;
                    return Err(shared.cut_short(&ArchiveError::CutShort));
                }
                None => thread::sleep(PAUSE),
            },
            length => inspector.look(&buffer[..length]).map_err(|error| shared.cut_short(&error))?,
        }
    }
    let contents = inspector.into_contents().map_err(|error| shared.cut_short(&error))?;
    contents.ok_or_else(|| {
        failed("this pg_dump writes a format that is not known here".to_owned())
            .with_hint("dump by one connection: leave --jobs away")
    })
}

/// The numbers of all large objects that pg_dump sees.
fn objects(connection: &Connection) -> Result<Vec<u32>> {
    let rows = connection.ask("SELECT oid FROM pg_catalog.pg_largeobject_metadata")?;
    Ok(rows.into_iter().flatten().flatten().filter_map(|number| number.parse().ok()).collect())
}

/// Reads on in a file that may not be there yet.
fn read_on(file: &mut Option<SystemFile>, path: &Path, buffer: &mut [u8]) -> io::Result<usize> {
    let file = match file {
        Some(file) => file,
        None => match SystemFile::open(path) {
            Ok(opened) => file.insert(opened),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        },
    };
    file.read(buffer)
}

/// What a file of the dump holds.
enum Kind {
    /// The table of contents.
    Contents(Head),
    /// The rows of a table, by the number of its entry.
    Rows(i32, Box<Rows>),
    /// A large object.
    Object(Box<LargeObjects>),
    /// A list.
    Plain,
}

/// The beginning of the table of contents, from which the instant is taken out.
#[derive(Default)]
struct Head {
    bytes: Cursor<Vec<u8>>,
    is_read: bool,
}

/// A file of the dump on its way into the snapshot.
struct Growing {
    shared: Arc<Shared>,
    dumping: Arc<Dumping>,
    path: PathBuf,
    file: Option<SystemFile>,
    kind: Kind,
}

impl Growing {
    /// What there is by now.
    fn look(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Kind::Contents(head) = &mut self.kind {
            if !head.is_read {
                // It was whole before anybody asked for it.
                let mut bytes = Vec::with_capacity(HEAD_BYTES);
                let file = self.file.insert(SystemFile::open(&self.path)?);
                file.take(HEAD_BYTES as u64).read_to_end(&mut bytes)?;
                forget_instant(&mut bytes, Layout::Directory);
                *head = Head { bytes: Cursor::new(bytes), is_read: true };
            }
            match head.bytes.read(buffer)? {
                0 => {}
                length => return Ok(length),
            }
        }
        let length = read_on(&mut self.file, &self.path, buffer)?;
        match &mut self.kind {
            Kind::Rows(_, rows) => rows.add(&buffer[..length]),
            Kind::Object(object) => object.add(&buffer[..length]),
            Kind::Contents(_) | Kind::Plain => {}
        }
        Ok(length)
    }

    /// Whether nothing more can come.
    fn is_over(&self) -> bool {
        match &self.kind {
            Kind::Contents(_) => true,
            Kind::Rows(_, rows) => rows.is_over(),
            Kind::Object(_) | Kind::Plain => false,
        }
    }
}

impl Stream for Growing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // Asked before: what is there after the end is all.
            let has_ended = self.dumping.end().is_some();
            match self.look(buffer)? {
                0 if has_ended || self.is_over() => return Ok(0),
                0 => thread::sleep(PAUSE),
                length => return Ok(length),
            }
        }
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        let Self { shared, dumping, path, file, kind } = *self;
        if let Some(ended) = dumping.end() {
            shared.judge(&ended)?;
        }
        let failed = |why: String| SourceError::new("dump", shared.path.clone(), why);
        if file.is_none() {
            let name = path.file_name().unwrap_or_default();
            return Err(failure::not_whole(shared.path.clone(), &format!("it did not write {}", name.display())));
        }
        let mut state = shared.lock();
        let gone = || failed("its manifest was written before its files were read".to_owned());
        let data = &mut state.parallel.as_mut().ok_or_else(gone)?.data;
        match kind {
            Kind::Rows(number, rows) => {
                data.rows.insert(number, *rows);
            }
            Kind::Object(mut object) => {
                object.end();
                data.large_objects.get_or_insert_default().join(&object);
            }
            Kind::Contents(_) | Kind::Plain => {}
        }
        drop(state);
        fs::remove_file(&path).map_err(|error| failed(format!("a file that was read cannot be removed: {error}")))
    }
}
