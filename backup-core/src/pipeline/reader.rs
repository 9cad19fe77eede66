//! The threads of a backup that read files, cut them, and hand the pieces to the blob store.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, TrySendError, select};

use super::fan_out::{FanOut, Scratch};
use super::tree_assembly::{Finished, Folder};
use crate::cancel::Cancel;
use crate::chunk::Chunking;
use crate::contracts::{Content, ContentReader, SourceError};
use crate::limits::{BUFFER_KEPT_BYTES_MAX, READ_BUFFER_BYTES};
use crate::model::{BlobId, BlobKind, Node, NodeKind, SnapshotPath, Summary};
use crate::observe::{Amount, EntryOutcome, Event, Observer, Problem, Severity};
use crate::{Error, Result};

/// A file to be read.
pub(super) struct FileTask {
    pub(super) path: SnapshotPath,
    pub(super) node: Node,
    pub(super) content: Box<dyn Content>,
    pub(super) outcome: EntryOutcome,
    pub(super) folder: Arc<Folder>,
    pub(super) slot: usize,
}

/// A piece of a large file, for whichever thread is free.
pub(super) struct ChunkTask {
    bytes: Vec<u8>,
    position: usize,
    file: Arc<OpenFile>,
}

/// A file whose pieces are stored by several threads. It is complete when nobody holds it any more.
struct OpenFile {
    path: SnapshotPath,
    outcome: EntryOutcome,
    folder: Arc<Folder>,
    slot: usize,
    blobs: Mutex<Vec<BlobId>>,
    /// Pieces not stored yet, and one for the reading itself.
    pending: AtomicUsize,
    /// The node once it was read to the end; stays empty when it is left out.
    node: Mutex<Option<Node>>,
}

/// What all threads of a backup share.
pub(super) struct Shared<'a> {
    pub(super) blobs: &'a FanOut<'a>,
    pub(super) chunking: Chunking,
    /// Whether notes of the source are losses.
    strict: bool,
    pub(super) cancel: &'a Cancel,
    pub(super) observer: &'a dyn Observer,
    pub(super) tally: Tally,
    pub(super) failure: Mutex<Option<Error>>,
    pub(super) root: Mutex<Option<BlobId>>,
    spare: Mutex<Vec<Vec<u8>>>,
}

/// What is counted.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) files: [AtomicU64; 3],
    pub(super) dirs: [AtomicU64; 3],
    pub(super) bytes: AtomicU64,
    pub(super) losses: AtomicU64,
}

impl Tally {
    pub(super) fn count(counts: &[AtomicU64; 3], outcome: EntryOutcome) {
        let place = match outcome {
            EntryOutcome::New => 0,
            EntryOutcome::Changed => 1,
            _ => 2,
        };
        counts[place].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn write_into(&self, summary: &mut Summary) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Summary { files_new, files_changed, files_unmodified, .. } = summary;
        for (count, place) in self.files.iter().zip([files_new, files_changed, files_unmodified]) {
            *place = read(count);
        }
        let Summary { dirs_new, dirs_changed, dirs_unmodified, .. } = summary;
        for (count, place) in self.dirs.iter().zip([dirs_new, dirs_changed, dirs_unmodified]) {
            *place = read(count);
        }
        summary.total_files_processed = self.files.iter().map(read).sum();
        summary.total_bytes_processed = read(&self.bytes);
    }
}

impl<'a> Shared<'a> {
    pub(super) fn new(
        blobs: &'a FanOut<'a>,
        chunking: Chunking,
        strict: bool,
        cancel: &'a Cancel,
        observer: &'a dyn Observer,
    ) -> Self {
        let (tally, failure, root, spare) = Default::default();
        Self { blobs, chunking, strict, cancel, observer, tally, failure, root, spare }
    }

    /// Whether the run has failed or was asked to stop: everybody then only drains.
    pub(super) fn is_over(&self) -> bool {
        self.cancel.requested() || self.lock_failure().is_some()
    }

    /// Keeps the first failure.
    pub(super) fn fail(&self, error: Error) {
        self.lock_failure().get_or_insert(error);
    }

    fn lock_failure(&self) -> std::sync::MutexGuard<'_, Option<Error>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a problem and tells of it.
    pub(super) fn report(&self, mut problem: Problem) {
        if self.strict {
            problem.severity = Severity::Loss;
        }
        if problem.severity == Severity::Loss {
            self.tally.losses.fetch_add(1, Ordering::Relaxed);
        }
        self.observer.event(Event::Problem(&problem));
    }

    /// An entry is known: tells of it, fills its place, and finishes the folders that waited for it.
    pub(super) fn settle(
        &self,
        path: &SnapshotPath,
        node: &Node,
        outcome: EntryOutcome,
        folder: &Arc<Folder>,
        slot: usize,
        scratch: &mut Scratch,
    ) -> Result<()> {
        if matches!(node.kind, NodeKind::File { .. }) {
            Tally::count(&self.tally.files, outcome);
            self.tally.bytes.fetch_add(node.size(), Ordering::Relaxed);
        }
        if outcome == EntryOutcome::Unmodified {
            self.observer.event(Event::Progress(Amount { items: 1, bytes: node.size() }));
        } else {
            self.observer.event(Event::Progress(Amount { items: 1, bytes: 0 }));
        }
        self.observer.event(Event::Entry { path, outcome, bytes: node.size() });
        self.finish_folders(folder.fill(slot, Some(node)), scratch)
    }

    /// Stores the tree of a folder that is complete, and of those above it that this completes.
    pub(super) fn finish_folders(&self, mut finished: Option<Finished>, scratch: &mut Scratch) -> Result<()> {
        while let Some(Finished { tree, folder }) = finished {
            let id = self.blobs.store(BlobKind::Tree, &tree, scratch)?;
            let outcome = match folder.tree_before {
                None => EntryOutcome::New,
                Some(before) if before == id => EntryOutcome::Unmodified,
                Some(_) => EntryOutcome::Changed,
            };
            if !folder.is_root() {
                Tally::count(&self.tally.dirs, outcome);
            }
            finished = match folder.deliver(id) {
                Ok(parent) => parent,
                Err(root) => {
                    *self.root.lock().unwrap_or_else(PoisonError::into_inner) = Some(root);
                    None
                }
            };
        }
        Ok(())
    }

    fn buffer(&self) -> Vec<u8> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        // Few pieces are so large; their memory is better returned than kept waiting for the next.
        if buffer.capacity() > BUFFER_KEPT_BYTES_MAX {
            return;
        }
        buffer.clear();
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

/// One thread's work: files and pieces until both have run out. Pieces go first: they hold memory.
pub(super) fn work(
    shared: &Shared<'_>,
    files: &Receiver<FileTask>,
    chunks: &Receiver<ChunkTask>,
    waiting: Sender<ChunkTask>,
) {
    let mut scratch = Scratch::default();
    let attempt = |result: Result<()>| {
        if let Err(error) = result {
            shared.fail(error);
        }
    };
    loop {
        while let Ok(chunk) = chunks.try_recv() {
            attempt(store_chunk(shared, chunk, &mut scratch));
        }
        select! {
            recv(chunks) -> chunk => if let Ok(chunk) = chunk {
                attempt(store_chunk(shared, chunk, &mut scratch));
            },
            recv(files) -> file => match file {
                Ok(file) => attempt(read_file(shared, file, &waiting, &mut scratch)),
                Err(_) => break,
            },
        }
    }
    // Nobody sends pieces any more once every thread has come to this line.
    drop(waiting);
    while let Ok(chunk) = chunks.recv() {
        attempt(store_chunk(shared, chunk, &mut scratch));
    }
}

/// Reads one file. A failure of the file is told and costs the file; a failure of the repository is returned.
pub(super) fn read_file(
    shared: &Shared<'_>,
    task: FileTask,
    waiting: &Sender<ChunkTask>,
    scratch: &mut Scratch,
) -> Result<()> {
    let FileTask { path, mut node, content, outcome, folder, slot } = task;
    if shared.is_over() {
        return Ok(());
    }
    let chunking = content.chunking().unwrap_or_else(|| shared.chunking.clone());
    let reader = match content.open(&mut node) {
        Ok(reader) => reader,
        Err(error) => {
            shared.report(problem_of(error));
            return shared.finish_folders(folder.fill(slot, None), scratch);
        }
    };
    let file = Arc::new(OpenFile {
        path,
        outcome,
        folder,
        slot,
        blobs: Mutex::default(),
        pending: AtomicUsize::new(1),
        node: Mutex::default(),
    });
    match read_content(shared, reader, &mut node, &chunking, &file, waiting, scratch)? {
        Ok(size) => {
            node.kind = NodeKind::File { size, content: Vec::new() };
            *file.node.lock().unwrap_or_else(PoisonError::into_inner) = Some(node);
        }
        Err(Some(error)) => shared.report(problem_of(error)),
        Err(None) => return Ok(()),
    }
    complete_part(shared, &file, scratch)
}

/// Cuts the stream and hands its pieces on; returns its length, the file's own failure, or `None` when the run is over.
fn read_content(
    shared: &Shared<'_>,
    mut reader: Box<dyn ContentReader>,
    node: &mut Node,
    chunking: &Chunking,
    file: &Arc<OpenFile>,
    waiting: &Sender<ChunkTask>,
    scratch: &mut Scratch,
) -> Result<Result<u64, Option<SourceError>>> {
    let mut cutter = chunking.cutter();
    let mut buffer = shared.buffer();
    let (mut size, mut position, mut at_end) = (0_u64, 0, false);
    // A small file needs one look for its end, not a whole buffer's worth of pages.
    let mut wanted =
        usize::try_from(node.size()).unwrap_or(usize::MAX).saturating_add(1).clamp(4_096, READ_BUFFER_BYTES);
    while !at_end {
        if shared.is_over() {
            return Ok(Err(None));
        }
        let filled = buffer.len();
        // Not amortized: a piece of 8 MiB must not take 16.
        buffer.reserve_exact(wanted);
        buffer.resize(filled + wanted, 0);
        wanted = READ_BUFFER_BYTES;
        let mut read = 0;
        // A slow stream fills the buffer bit by bit; a request to stop does not wait for that.
        while filled + read < buffer.len() && !shared.cancel.requested() {
            match reader.read(&mut buffer[filled + read..]) {
                Ok(0) => {
                    at_end = true;
                    break;
                }
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Ok(Err(Some(SourceError::of_io("read", file.path.clone(), &error)))),
            }
        }
        buffer.truncate(filled + read);
        size += read as u64;
        shared.observer.event(Event::Progress(Amount { items: 0, bytes: read as u64 }));
        while let Some(cut) = cutter.next_cut(&buffer) {
            let mut rest = shared.buffer();
            rest.extend_from_slice(&buffer[cut..]);
            buffer.truncate(cut);
            let bytes = std::mem::replace(&mut buffer, rest);
            hand_on(shared, ChunkTask { bytes, position, file: Arc::clone(file) }, waiting, scratch)?;
            position += 1;
        }
    }
    let last_word = reader.finish(node);
    if !buffer.is_empty() {
        // The last piece, and the only one of most files, is stored by the thread that has it in its cache.
        file.pending.fetch_add(1, Ordering::Relaxed);
        store_chunk(shared, ChunkTask { bytes: buffer, position, file: Arc::clone(file) }, scratch)?;
    } else {
        shared.give_back(buffer);
    }
    Ok(match last_word {
        Ok(None) => Ok(size),
        Ok(Some(reason)) => {
            let (path, action, severity) = (file.path.clone(), "read", Severity::Note);
            shared.report(Problem { path, action, reason, severity });
            Ok(size)
        }
        Err(error) => Err(Some(error)),
    })
}

/// Gives a piece to another thread, or stores it when all are busy: whoever reads never waits.
fn hand_on(shared: &Shared<'_>, chunk: ChunkTask, waiting: &Sender<ChunkTask>, scratch: &mut Scratch) -> Result<()> {
    chunk.file.pending.fetch_add(1, Ordering::Relaxed);
    match waiting.try_send(chunk) {
        Ok(()) => Ok(()),
        Err(TrySendError::Full(chunk) | TrySendError::Disconnected(chunk)) => store_chunk(shared, chunk, scratch),
    }
}

fn store_chunk(shared: &Shared<'_>, chunk: ChunkTask, scratch: &mut Scratch) -> Result<()> {
    let ChunkTask { bytes, position, file } = chunk;
    if shared.is_over() {
        return Ok(());
    }
    let id = shared.blobs.store(BlobKind::Data, &bytes, scratch)?;
    shared.give_back(bytes);
    let mut blobs = file.blobs.lock().unwrap_or_else(PoisonError::into_inner);
    if blobs.len() <= position {
        // The placeholder is replaced before the file is complete.
        blobs.resize(position + 1, BlobId::from_bytes([0; 32]));
    }
    blobs[position] = id;
    drop(blobs);
    complete_part(shared, &file, scratch)
}

/// One of the things that a file waits for is done; the last one settles the file.
fn complete_part(shared: &Shared<'_>, file: &Arc<OpenFile>, scratch: &mut Scratch) -> Result<()> {
    if file.pending.fetch_sub(1, Ordering::AcqRel) != 1 {
        return Ok(());
    }
    let node = file.node.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut node) = node else {
        return shared.finish_folders(file.folder.fill(file.slot, None), scratch);
    };
    let content = std::mem::take(&mut *file.blobs.lock().unwrap_or_else(PoisonError::into_inner));
    node.kind = NodeKind::File { size: node.size(), content };
    shared.settle(&file.path, &node, file.outcome, &file.folder, file.slot, scratch)
}

/// A file's failure as a problem: one that is simply no longer there is no loss.
pub(super) fn problem_of(error: SourceError) -> Problem {
    let severity = if error.vanished { Severity::Note } else { Severity::Loss };
    Problem { path: error.path, action: error.action, reason: error.reason, severity }
}
