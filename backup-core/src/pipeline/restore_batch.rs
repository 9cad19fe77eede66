//! A batch of files to be restored: bounded in pieces and open files, written in the order of the packs.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::restore::{Compare, RestoreOptions, RestoreOutcome, tell};
use super::verify::Unrestored;
use crate::cancel::Cancel;
use crate::contracts::{Left, SinkErrorKind, Target, TargetError, TargetFile, WriteOrder};
use crate::limits::{
    RESTORE_BLOBS_MAX, RESTORE_FILES_OPEN_MAX, RESTORE_GAP_BYTES_MAX, RESTORE_RANGE_BLOBS_MAX, RESTORE_RANGE_BYTES_MAX,
};
use crate::model::{BlobId, BlobKind, Node, SnapshotPath};
use crate::observe::{Amount, EntryOutcome, Event, Observer, Severity};
use crate::repository::layout::{self, Named};
use crate::repository::{BlobLocation, Index, Repository};
use crate::{Error, ErrorKind, Result};

/// Files that are written together, and what can only be done after them.
#[derive(Default)]
pub(super) struct Batch {
    files: Vec<File>,
    pieces: Vec<Piece>,
    files_of_several: usize,
    afterwards: Vec<Afterwards>,
}

/// A file of the batch.
struct File {
    path: SnapshotPath,
    node: Node,
    size: u64,
    pieces: usize,
    open: Mutex<Opening>,
    pending: AtomicUsize,
    is_lost: AtomicBool,
    /// What was there was to stay.
    is_kept: AtomicBool,
    written: AtomicU64,
}

/// How far a file is.
#[derive(Default)]
enum Opening {
    #[default]
    NotYet,
    Open(Box<dyn TargetFile>),
    /// Finished, left alone, or given up.
    Over,
}

/// Where a piece comes from and where it goes.
struct Piece {
    location: BlobLocation,
    file: usize,
    offset: u64,
}

/// What has to wait for the batch's files.
enum Afterwards {
    Link { path: SnapshotPath, first: SnapshotPath, node: Node },
    Leave { path: SnapshotPath, node: Node, names: Option<Vec<Vec<u8>>> },
}

impl Batch {
    pub(super) fn file(&mut self, path: SnapshotPath, node: Node, size: u64, pieces: Vec<(u64, BlobLocation)>) {
        self.files_of_several += usize::from(pieces.len() > 1);
        let (open, is_lost, is_kept, written) = Default::default();
        let count = pieces.len();
        let number = self.files.len();
        // The content was looked up; the names of its pieces are in the locations.
        self.files.push(File {
            path,
            node,
            size,
            pieces: count,
            open,
            pending: AtomicUsize::new(count),
            is_lost,
            is_kept,
            written,
        });
        self.pieces.extend(pieces.into_iter().map(|(offset, location)| Piece { location, file: number, offset }));
    }

    pub(super) fn link(&mut self, path: SnapshotPath, first: SnapshotPath, node: Node) {
        self.afterwards.push(Afterwards::Link { path, first, node });
    }

    pub(super) fn leave(&mut self, path: SnapshotPath, node: Node, names: Option<Vec<Vec<u8>>>) {
        self.afterwards.push(Afterwards::Leave { path, node, names });
    }

    pub(super) fn is_full(&self) -> bool {
        self.pieces.len() >= RESTORE_BLOBS_MAX
            || self.files.len() >= RESTORE_BLOBS_MAX
            || self.files_of_several >= RESTORE_FILES_OPEN_MAX
    }

    /// Writes the files, then does what had to wait for them.
    #[expect(clippy::too_many_arguments, reason = "the parts of a restore that a batch needs, once")]
    pub(super) fn run(
        mut self,
        repository: &Repository,
        index: &Index,
        target: &dyn Target,
        options: &RestoreOptions,
        cancel: &Cancel,
        observer: &dyn Observer,
        outcome: &mut RestoreOutcome,
        unrestored: &mut Unrestored,
    ) -> Result<()> {
        let afterwards = std::mem::take(&mut self.afterwards);
        if target.order() == WriteOrder::Any {
            self.pieces.sort_unstable_by_key(|piece| {
                let BlobLocation { pack_number, blob, .. } = piece.location;
                (pack_number, blob.offset, piece.file, piece.offset)
            });
        }
        let work = Work {
            repository,
            index,
            target,
            compare: options.compare,
            is_dry: options.dry_run,
            cancel,
            observer,
            files: &self.files,
            failure: Mutex::default(),
        };
        let ranges = ranges(&self.pieces, target.order());
        let (next_file, next_range) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let run = || {
            // Empty files, and those of several pieces, are opened first: what is there already need not be read.
            while let Some(file) = self.files.get(next_file.fetch_add(1, Ordering::Relaxed)) {
                work.attempt(|| if file.pieces != 1 { work.prepare(file) } else { Ok(()) });
            }
            let mut buffers = Buffers::default();
            while let Some(range) = ranges.get(next_range.fetch_add(1, Ordering::Relaxed)) {
                work.attempt(|| work.range(range, &mut buffers));
            }
        };
        match target.order() {
            WriteOrder::Sequential => work.one_after_the_other(&ranges),
            WriteOrder::Any => std::thread::scope(|scope| {
                // Where answers are waited for, more wait than there are cores.
                for _ in 1..super::backup::workers(options.workers).max(repository.store().parallelism()) {
                    scope.spawn(run);
                }
                run();
            }),
        }
        cancel.check()?;
        if let Some(error) = lock(&work.failure).take() {
            return Err(error);
        }
        for file in &self.files {
            let bytes = file.written.load(Ordering::Relaxed);
            outcome.bytes_written += bytes;
            if file.is_lost.load(Ordering::Relaxed) {
                outcome.losses += 1;
                unrestored.lose(&file.path);
            } else if bytes == 0 && file.size > 0 {
                outcome.files_kept += 1;
                if options.verify && file.is_kept.load(Ordering::Relaxed) {
                    unrestored.keep(&file.path);
                }
            }
        }
        for step in afterwards {
            let result = match step {
                // What lies under the first name is something else that was there.
                Afterwards::Link { path, first, .. } if unrestored.is_lost(&first) => {
                    unrestored.lose(&path);
                    let reason = format!("it is another name of {first}, which could not be restored");
                    Err(TargetError::new("link", path, reason))
                }
                Afterwards::Link { path, first, node } => match target.hard_link(&path, &first, &node) {
                    Ok(()) => Ok(Vec::new()),
                    Err(error) => {
                        let reason = format!("{} (it is another name of {first})", error.reason);
                        Err(TargetError { reason, ..error })
                    }
                },
                Afterwards::Leave { path, node, names } => {
                    target.leave(&path, &node, names.as_deref()).map(|Left { deleted, kept, problems }| {
                        outcome.deleted += deleted.len() as u64;
                        for path in &deleted {
                            observer.event(Event::Entry { path, outcome: EntryOutcome::Deleted, bytes: 0 });
                        }
                        let notes = problems.into_iter().map(|problem| (problem, Severity::Note));
                        kept.into_iter().map(|error| (error, Severity::Loss)).chain(notes).collect()
                    })
                }
            };
            for (error, severity) in result.unwrap_or_else(|error| vec![(error, Severity::Loss)]) {
                outcome.losses += u64::from(severity == Severity::Loss);
                tell(error, severity, observer)?;
            }
        }
        Ok(())
    }
}

/// A stretch of one pack with pieces that are wanted.
struct Range<'a> {
    start: u64,
    end: u64,
    pieces: &'a [Piece],
}

/// Joins neighbouring pieces into ranges that are read in one go.
fn ranges(pieces: &[Piece], order: WriteOrder) -> Vec<Range<'_>> {
    let mut ranges: Vec<Range<'_>> = Vec::new();
    let mut first = 0;
    for (number, piece) in pieces.iter().enumerate() {
        let blob = &piece.location.blob;
        let (start, end) = (u64::from(blob.offset), end_of(piece));
        if let Some(range) = ranges.last_mut()
            // One file at a time and forwards: its neighbour's pieces wait, even in the same stretch.
            && (order == WriteOrder::Any || pieces[first].file == piece.file && start >= range.end)
            && pieces[first].location.pack_number == piece.location.pack_number
            && start <= range.end + RESTORE_GAP_BYTES_MAX
            && end - range.start <= RESTORE_RANGE_BYTES_MAX
        {
            range.end = range.end.max(end);
            range.pieces = &pieces[first..=number];
        } else {
            first = number;
            ranges.push(Range { start, end, pieces: &pieces[number..=number] });
        }
    }
    ranges
}

fn end_of(piece: &Piece) -> u64 {
    u64::from(piece.location.blob.offset) + u64::from(piece.location.blob.length)
}

/// Buffers that a thread uses again and again.
#[derive(Default)]
struct Buffers {
    plain: Vec<u8>,
    existing: Vec<u8>,
}

/// What the threads of a batch share.
struct Work<'a> {
    repository: &'a Repository,
    index: &'a Index,
    target: &'a dyn Target,
    compare: Compare,
    /// Nothing is fetched; what would be written is counted.
    is_dry: bool,
    cancel: &'a Cancel,
    observer: &'a dyn Observer,
    files: &'a [File],
    failure: Mutex<Option<Error>>,
}

impl Work<'_> {
    /// All files in the order of the snapshot, each from its beginning to its end before the next one is opened.
    fn one_after_the_other(&self, ranges: &[Range<'_>]) {
        let mut buffers = Buffers::default();
        let mut ranges = ranges.iter().peekable();
        for (number, file) in self.files.iter().enumerate() {
            self.attempt(|| self.prepare(file));
            while let Some(range) = ranges.next_if(|range| range.pieces.iter().all(|piece| piece.file == number)) {
                self.attempt(|| self.range(range, &mut buffers));
            }
        }
    }

    /// Does a piece of work unless the restore is over; keeps the first failure.
    fn attempt(&self, work: impl FnOnce() -> Result<()>) {
        if self.cancel.requested() || lock(&self.failure).is_some() {
            return;
        }
        if let Err(error) = work() {
            lock(&self.failure).get_or_insert(error);
        }
    }

    /// Opens a file; one that is to be left alone, or is empty, is over at once.
    fn prepare(&self, file: &File) -> Result<()> {
        let mut opening = lock(&file.open);
        if !matches!(*opening, Opening::NotYet) {
            return Ok(());
        }
        let open = match self.target.file(&file.path, &file.node) {
            Ok(open) => open,
            Err(error) => {
                *opening = Opening::Over;
                return self.lose(file, error);
            }
        };
        file.is_kept.store(open.is_kept(), Ordering::Relaxed);
        if open.is_kept() || self.compare == Compare::SizeAndTime && open.looks_unchanged() {
            *opening = Opening::Over;
            self.tell_end(file, EntryOutcome::Kept);
            return Ok(());
        }
        if file.pieces == 0 {
            *opening = Opening::Over;
            return self.finish(file, open);
        }
        *opening = Opening::Open(open);
        Ok(())
    }

    /// Does the pieces of a range in groups, so that few files are open at once, and with as few requests as that allows.
    fn range(&self, range: &Range<'_>, buffers: &mut Buffers) -> Result<()> {
        // What was read of the range, from which byte on.
        let mut read: Option<(u64, Result<Bytes>)> = None;
        for group in range.pieces.chunks(RESTORE_RANGE_BLOBS_MAX) {
            let mut wanted = Vec::with_capacity(group.len());
            for piece in group {
                let file = &self.files[piece.file];
                self.prepare(file)?;
                if !self.is_there(file, piece, buffers)? {
                    wanted.push(piece);
                }
            }
            let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { continue };
            if self.is_dry {
                for piece in wanted {
                    let (file, bytes) = (&self.files[piece.file], piece.location.blob.opened_bytes());
                    file.written.fetch_add(bytes, Ordering::Relaxed);
                    self.complete_piece(file, bytes)?;
                }
                continue;
            }
            let (start, last_end) = (u64::from(first.location.blob.offset), end_of(last));
            let is_read = matches!(&read, Some((from, Ok(bytes))) if last_end <= from + bytes.len() as u64);
            if !is_read {
                // Where nothing of a group is there yet, the same is likely of those after it.
                let end = if wanted.len() == group.len() { range.end } else { last_end.max(start) };
                let got = self.repository.store().get(&first.location.pack.key(), Some(start..end));
                match got {
                    Err(error) if self.is_of_the_store(&error) => return Err(error),
                    got => read = Some((start, got)),
                }
            }
            if let Some((from, read)) = &read {
                self.write_all(&wanted, *from, read, buffers)?;
            }
            if self.cancel.requested() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes pieces of a pack that was read from a byte on.
    fn write_all(&self, wanted: &[&Piece], from: u64, read: &Result<Bytes>, buffers: &mut Buffers) -> Result<()> {
        let mut open: Option<BlobId> = None;
        for piece in wanted {
            let blob = &piece.location.blob;
            // One blob may go to several places; it is opened once.
            if open != Some(blob.id) {
                open = None;
                let opened = match read {
                    Ok(bytes) => {
                        let at = usize::try_from(u64::from(blob.offset) - from).unwrap_or(usize::MAX);
                        let sealed = at.checked_add(blob.length as usize).and_then(|end| bytes.get(at..end));
                        let sealed = sealed.ok_or_else(|| Error::damaged(piece.location.pack.key(), "it is too short"));
                        sealed.and_then(|sealed| self.repository.open_blob(&piece.location, sealed, &mut buffers.plain))
                    }
                    Err(error) => Err(Error::new(error.kind().clone(), error.subject())),
                };
                // The rest of a cut pack may be whole, and another pack may hold the same piece.
                let opened: Result<()> = opened.or_else(|_| {
                    buffers.plain = self.repository.read_blob(self.index, BlobKind::Data, &blob.id)?;
                    Ok(())
                });
                match opened {
                    Ok(()) => {}
                    // Everything else in the archive would fail as well, after asking for each.
                    Err(error) if *error.kind() == ErrorKind::Sink(SinkErrorKind::Frozen) => return Err(error),
                    Err(error) if self.is_of_the_store(&error) => return Err(error),
                    Err(error) => {
                        self.give_up(&self.files[piece.file], &error)?;
                        continue;
                    }
                }
                open = Some(blob.id);
            }
            self.write(&self.files[piece.file], piece.offset, &buffers.plain)?;
        }
        Ok(())
    }

    /// Whether nothing can be had of the store any more, and not only this object: somebody's credentials have ended, or the
    /// line has. A pack may lie on a bad spot of a disk or be closed to this user, and the rest is restored all the same;
    /// so what is in every repository is asked for.
    fn is_of_the_store(&self, error: &Error) -> bool {
        let may_be = matches!(error.kind(), ErrorKind::Sink(kind) if !matches!(kind, SinkErrorKind::Frozen | SinkErrorKind::Truncated));
        may_be && self.repository.store().stat(&layout::config()).is_err()
    }

    /// Whether the bytes of a piece need not be written: they are in the file already, or the file is over.
    fn is_there(&self, file: &File, piece: &Piece, buffers: &mut Buffers) -> Result<bool> {
        let opening = lock(&file.open);
        let Opening::Open(open) = &*opening else { return Ok(true) };
        let bytes = piece.location.blob.opened_bytes();
        if open.existing_bytes() < piece.offset + bytes {
            return Ok(false);
        }
        buffers.existing.resize(usize::try_from(bytes).unwrap_or(usize::MAX), 0);
        if open.read_at(piece.offset, &mut buffers.existing).is_err()
            || BlobId::of(&buffers.existing) != piece.location.blob.id
        {
            return Ok(false);
        }
        drop(opening);
        self.complete_piece(file, bytes)?;
        Ok(true)
    }

    fn write(&self, file: &File, offset: u64, bytes: &[u8]) -> Result<()> {
        let opening = lock(&file.open);
        let Opening::Open(open) = &*opening else { return Ok(()) };
        let written = open.write_at(offset, bytes);
        drop(opening);
        match written {
            Ok(()) => {
                file.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                self.complete_piece(file, bytes.len() as u64)
            }
            Err(error) => {
                self.abandon(file);
                self.lose(file, TargetError::of_io("write", file.path.clone(), &error))
            }
        }
    }

    /// One piece is in place; after the last one the file gets its metadata.
    fn complete_piece(&self, file: &File, bytes: u64) -> Result<()> {
        self.observer.event(Event::Progress(Amount { items: 0, bytes }));
        if file.pending.fetch_sub(1, Ordering::AcqRel) != 1 {
            return Ok(());
        }
        let opening = std::mem::replace(&mut *lock(&file.open), Opening::Over);
        if let Opening::Open(open) = opening { self.finish(file, open) } else { Ok(()) }
    }

    fn finish(&self, file: &File, open: Box<dyn TargetFile>) -> Result<()> {
        match open.finish(&file.node, file.size) {
            Ok(problems) => {
                for problem in problems {
                    tell(problem, Severity::Note, self.observer)?;
                }
                let outcome = if file.written.load(Ordering::Relaxed) > 0 || file.size == 0 {
                    EntryOutcome::Restored
                } else {
                    EntryOutcome::Kept
                };
                self.tell_end(file, outcome);
                Ok(())
            }
            Err(error) => self.lose(file, error),
        }
    }

    /// The repository cannot give the bytes.
    fn give_up(&self, file: &File, error: &Error) -> Result<()> {
        self.abandon(file);
        let reason = match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        self.lose(file, TargetError::new("restore", file.path.clone(), reason))
    }

    fn abandon(&self, file: &File) {
        *lock(&file.open) = Opening::Over;
    }

    /// Tells of a lost file, once.
    fn lose(&self, file: &File, error: TargetError) -> Result<()> {
        if file.is_lost.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.observer.event(Event::Progress(Amount { items: 1, bytes: 0 }));
        tell(error, Severity::Loss, self.observer)
    }

    fn tell_end(&self, file: &File, outcome: EntryOutcome) {
        self.observer.event(Event::Progress(Amount { items: 1, bytes: 0 }));
        self.observer.event(Event::Entry { path: &file.path, outcome, bytes: file.size });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
