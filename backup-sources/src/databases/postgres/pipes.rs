//! Tables that pg_restore reads out of the repository: each is a pipe, which it opens when it comes to that table, and into
//! which the rows then go as they are fetched, opened and hashed, ahead of who reads them.
//!
//! What is always true: pg_restore takes the end of a pipe for the end of the table. So a pipe whose rows did not all come
//! is not closed before pg_restore was ended, all of its processes: what it has loaded by then is never taken for the whole.
//! When we are killed ourselves, it may be; who is killed has restored nothing.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use backup_core::contracts::{Pieces, Stored};
use backup_core::limits::PIPE_BYTES;
use backup_core::model::SnapshotPath;
use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::io::Errno;

use super::archive::{ArchiveError, Data};
use super::block::Blocks;
use super::rows::Rows;
use crate::program::{Ended, Program};

/// A table that pg_restore reads from a pipe.
pub(super) struct Pipe {
    /// Of its entry.
    pub(super) number: i32,
    /// Its name, as the engine writes it.
    pub(super) table: String,
    /// The pipe.
    pub(super) path: PathBuf,
    pub(super) origin: Origin,
    /// What has come of it.
    pub(super) rows: Rows,
}

/// Where rows are.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// In the dump, from this byte on, and so many bytes.
    Block(u64, u64),
    /// In a file of a dump that is a folder.
    File(SnapshotPath),
}

/// How long to wait before it is asked again who wants to read.
const PAUSE_MIN: Duration = Duration::from_micros(500);
const PAUSE_MAX: Duration = Duration::from_millis(10);

/// Pipes that are looked at each time. pg_restore asks for them in their order, but for those behind a table that it could
/// not make; so now and then all are looked at.
const LOOKED_AT: usize = 64;
const LOOKS_BEFORE_ALL: u32 = 32;

/// How long a full pipe is let drain: at 500 MB/s half of it is left then.
const DRAINING_PAUSE: Duration = Duration::from_millis(1);

/// Pieces of a table that were read and wait.
const PIECES_AHEAD: usize = 2;

/// Why a table did not go into its pipe.
struct Stuck {
    why: io::Error,
    table: String,
    /// Kept open until nobody reads any more.
    _file: Arc<File>,
}

/// Gives pg_restore what it asks for, until it ends: how it did; what the rows come to is put into `data`.
///
/// # Errors
///
/// When a table did not come out of `stored` whole, the restore is not to go on, or pg_restore has ended well without all
/// of a table. It has been ended then.
pub(super) fn serve(
    mut program: Program,
    pipes: Vec<Pipe>,
    dump: &SnapshotPath,
    stored: &dyn Stored,
    data: &mut Data,
) -> io::Result<Result<Ended, String>> {
    thread::scope(|scope| {
        let mut service = Service { waiting: pipes, fed: Vec::new(), looks: 0, stuck: Vec::new() };
        let mut pause = PAUSE_MIN;
        loop {
            let went_on = service.go_on(&mut program, stored, data, |pipe, file| {
                thread::Builder::new().spawn_scoped(scope, move || feed(pipe, file, dump, stored))
            });
            match went_on {
                Ok(Step::Over) => break,
                Ok(Step::Moved) => pause = PAUSE_MIN,
                Ok(Step::Waited) => pause = (pause * 2).min(PAUSE_MAX),
                Err(error) => {
                    program.stop();
                    // Only now are pipes closed.
                    drop(service);
                    return Err(error);
                }
            }
            thread::sleep(pause);
        }
        let Service { waiting, stuck, .. } = service;
        let ended = program.finish();
        if ended.as_ref().is_ok_and(|ended| ended.status.success()) {
            let unread = waiting.first().map(|pipe| &pipe.table);
            if let Some(table) = stuck.first().map(|stuck| &stuck.table).or(unread) {
                let why = format!("pg_restore has not read all of {table}");
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, why));
            }
        }
        Ok(ended)
    })
}

/// What is fed, and what waits for it.
struct Service<'scope> {
    waiting: Vec<Pipe>,
    fed: Vec<ScopedJoinHandle<'scope, Result<(i32, Rows), Stuck>>>,
    looks: u32,
    /// Those that did not go to their ends. Their pipes are open.
    stuck: Vec<Stuck>,
}

/// What came of a look.
enum Step {
    /// Somebody wanted to read.
    Moved,
    Waited,
    /// pg_restore has ended, and nothing is fed any more.
    Over,
}

impl<'scope> Service<'scope> {
    fn go_on(
        &mut self,
        program: &mut Program,
        stored: &dyn Stored,
        data: &mut Data,
        mut begin: impl FnMut(Pipe, Arc<File>) -> io::Result<ScopedJoinHandle<'scope, Result<(i32, Rows), Stuck>>>,
    ) -> io::Result<Step> {
        // Asked before: who has read before the end has opened its pipe by now.
        let has_ended = program.has_ended()?;
        stored.go_on()?;
        let (over, on): (Vec<_>, Vec<_>) = std::mem::take(&mut self.fed).into_iter().partition(|fed| fed.is_finished());
        self.fed = on;
        for thread in over {
            match thread.join() {
                Err(panicked) => std::panic::resume_unwind(panicked),
                Ok(Ok((number, rows))) => {
                    data.rows.insert(number, rows);
                }
                Ok(Err(stuck)) => self.stuck.push(stuck),
            }
        }
        // Who does not read to the end has a reason of its own, and tells it.
        if let Some(stuck) = self.stuck.iter_mut().find(|stuck| stuck.why.kind() != io::ErrorKind::BrokenPipe) {
            return Err(std::mem::replace(&mut stuck.why, io::ErrorKind::Other.into()));
        }
        if has_ended {
            return Ok(if self.fed.is_empty() { Step::Over } else { Step::Waited });
        }
        self.looks += 1;
        let looked_at = if self.looks.is_multiple_of(LOOKS_BEFORE_ALL) { self.waiting.len() } else { LOOKED_AT };
        let (mut place, before) = (0, self.waiting.len());
        while place < looked_at.min(self.waiting.len()) {
            match reader_of(&self.waiting[place].path)? {
                None => place += 1,
                Some(file) => {
                    let (pipe, file) = (self.waiting.remove(place), Arc::new(file));
                    let table = pipe.table.clone();
                    match begin(pipe, Arc::clone(&file)) {
                        Ok(thread) => self.fed.push(thread),
                        // The next look ends pg_restore.
                        Err(why) => self.stuck.push(Stuck { why, table, _file: file }),
                    }
                }
            }
        }
        Ok(if self.waiting.len() < before { Step::Moved } else { Step::Waited })
    }
}

/// The other end of a pipe that somebody has opened, or waits to open, for reading.
fn reader_of(path: &Path) -> io::Result<Option<File>> {
    match open(path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
        Ok(file) => {
            // Not everybody may have more than the usual, which is too little to let it drain.
            if rustix::pipe::fcntl_setpipe_size(&file, PIPE_BYTES).is_err() {
                fcntl_setfl(&file, OFlags::empty())?;
            }
            Ok(Some(file.into()))
        }
    }
}

/// Writes all of `bytes`. pg_restore reads a page at a time, and who waits in a full pipe is woken for each; so it is let
/// drain for a while.
fn write(mut file: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(DRAINING_PAUSE),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes the rows of a table into its pipe, and closes it.
fn feed(pipe: Pipe, file: Arc<File>, dump: &SnapshotPath, stored: &dyn Stored) -> Result<(i32, Rows), Stuck> {
    let Pipe { number, table, origin, mut rows, .. } = pipe;
    let fed = ahead(&origin, dump, stored, |pieces| {
        let mut take = |bytes: &[u8]| {
            rows.add(bytes);
            write(&file, bytes)
        };
        match &origin {
            Origin::Block(begins, _) => Blocks::new(pieces, *begins).table(number, take),
            Origin::File(_) => {
                let (mut pieces, mut piece) = (pieces, Vec::new());
                while pieces.next(&mut piece)? {
                    take(&piece)?;
                }
                Ok(())
            }
        }
    });
    match fed {
        Ok(()) if rows.is_at_end() => Ok((number, rows)),
        Ok(()) => Err(Stuck { why: io::Error::other(ArchiveError::CutShort), table, _file: file }),
        Err(why) => Err(Stuck { why, table, _file: file }),
    }
}

/// Reads pieces beside `work`, which takes them.
fn ahead(
    origin: &Origin,
    dump: &SnapshotPath,
    stored: &dyn Stored,
    work: impl FnOnce(Box<dyn Pieces>) -> io::Result<()>,
) -> io::Result<()> {
    thread::scope(|scope| {
        let ((fill, filled), (empty, emptied)) = (sync_channel(PIECES_AHEAD), channel());
        thread::Builder::new().spawn_scoped(scope, move || {
            let (opened, mut left) = match origin {
                Origin::Block(begins, bytes) => (stored.open(dump, *begins), *bytes),
                Origin::File(path) => (stored.open(path, 0), u64::MAX),
            };
            let read = opened.and_then(|mut pieces| {
                // What lies behind a block is another's.
                while left > 0 {
                    let mut piece = emptied.try_recv().unwrap_or_default();
                    let there_is = pieces.next(&mut piece)?;
                    left = left.saturating_sub(piece.len() as u64);
                    // Nobody takes any more once the work has failed.
                    if !there_is || fill.send(Ok(piece)).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            if let Err(error) = read {
                let _ = fill.send(Err(error));
            }
        })?;
        work(Box::new(Ahead { filled, empty }))
    })
}

/// Pieces that were read already, or are just being read.
struct Ahead {
    filled: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
}

impl Pieces for Ahead {
    fn next(&mut self, piece: &mut Vec<u8>) -> io::Result<bool> {
        let Ok(next) = self.filled.recv() else { return Ok(false) };
        let used = std::mem::replace(piece, next?);
        // To be used again, while there is somebody who reads.
        let _ = self.empty.send(used);
        Ok(true)
    }
}
