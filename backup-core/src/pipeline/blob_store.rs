//! Known? → pack → store → index: what a repository gets of a backup or a copy, shared by all its threads.
//!
//! What is always true: a blob is counted as added only by the thread that stores it; a pack is listed by an index only
//! after it is durable; nothing is written before the lock was confirmed. After a crash the packs that an index lists
//! are used by the next run, the others are found by a prune.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::in_flight::InFlightBound;
use crate::bridge::Pending;
use crate::contracts::{PutMode, SinkError};
use crate::limits::{INDEX_AGE_SECONDS_MAX, INDEX_BLOBS_MAX, PACK_BYTES_TARGET, PACKS_IN_FLIGHT_MAX};
use crate::model::{BlobId, BlobKind, PackId, Summary};
use crate::observe::{Event, Observer};
use crate::pack::{PackWriter, PackedBlob};
use crate::repository::layout::Named;
use crate::repository::{Index, IndexFile, IndexPack, Lock, Repository};
use crate::{Error, ErrorKind, Result};

/// Whether anything is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// Yes.
    Real,
    /// No: only the counting is done.
    DryRun,
}

/// What a repository gets.
pub(crate) struct BlobStore<'a> {
    repository: &'a Repository,
    index: &'a Index,
    lock: &'a Lock,
    observer: &'a dyn Observer,
    writing: Writing,
    /// The names that this run has stored or is storing, in parts so that threads seldom meet.
    added: [[Mutex<IdSet>; 16]; 2],
    /// Which packs of the index the snapshot relies on, one bit each.
    relied_on: Vec<AtomicU64>,
    data_pack: Mutex<PackWriter>,
    tree_pack: Mutex<PackWriter>,
    outgoing: Mutex<Outgoing>,
    /// Buffers of packs that are stored, for the next ones: fresh memory costs more than copying.
    spare: Mutex<Vec<BytesMut>>,
    pub(crate) counts: Counts,
}

/// What was added.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    data_blobs: AtomicU64,
    tree_blobs: AtomicU64,
    plain_bytes: AtomicU64,
    packed_bytes: AtomicU64,
}

impl Counts {
    pub(crate) fn write_into(&self, summary: &mut Summary) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        summary.data_blobs = read(&self.data_blobs);
        summary.tree_blobs = read(&self.tree_blobs);
        summary.data_added = read(&self.plain_bytes);
        summary.data_added_packed = read(&self.packed_bytes);
    }
}

/// A blob that is ready for a pack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SealedBlob<'a> {
    pub(crate) kind: BlobKind,
    pub(crate) id: BlobId,
    pub(crate) sealed: &'a [u8],
    pub(crate) is_compressed: bool,
    /// Its length when opened.
    pub(crate) plain_bytes: usize,
}

/// Packs on their way out, and those that are out but not indexed yet.
struct Outgoing {
    in_flight: VecDeque<InFlight>,
    bound: InFlightBound,
    unindexed: IndexFile,
    unindexed_blobs: usize,
    oldest: Option<Instant>,
    stored: Vec<(PackId, u64)>,
}

/// A pack that the store is taking.
struct InFlight {
    entry: IndexPack,
    bytes: u64,
    /// Kept for its memory.
    content: Bytes,
    pending: Pending<Result<(), SinkError>>,
}

/// Names are hashes already.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

pub(crate) type IdSet = HashSet<BlobId, BuildHasherDefault<IdHasher>>;

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        // The first bytes choose the part of the set; the last ones are as good.
        if let Some(tail) = bytes.last_chunk::<8>() {
            self.0 = u64::from_le_bytes(*tail);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl<'a> BlobStore<'a> {
    pub(crate) fn new(
        repository: &'a Repository,
        index: &'a Index,
        lock: &'a Lock,
        writing: Writing,
        observer: &'a dyn Observer,
    ) -> Self {
        Self {
            repository,
            index,
            lock,
            observer,
            writing,
            added: Default::default(),
            relied_on: (0..index.packs().len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            data_pack: Mutex::new(PackWriter::new(BlobKind::Data)),
            tree_pack: Mutex::new(PackWriter::new(BlobKind::Tree)),
            outgoing: Mutex::new(Outgoing {
                in_flight: VecDeque::new(),
                bound: InFlightBound::up_to(repository.store().parallelism().min(PACKS_IN_FLIGHT_MAX)),
                unindexed: IndexFile::default(),
                unindexed_blobs: 0,
                oldest: None,
                stored: Vec::new(),
            }),
            spare: Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// Whether a blob is in the repository already. The snapshot then relies on it.
    pub(crate) fn rely_on(&self, kind: BlobKind, id: &BlobId) -> bool {
        match self.index.known(kind, id) {
            Some(pack) => {
                self.relied_on[pack as usize / 64].fetch_or(1 << (pack % 64), Ordering::Relaxed);
                true
            }
            None => lock(self.part(kind, id)).contains(id),
        }
    }

    /// Whether the caller is the one to add a blob: it is neither in the repository nor on its way there. If it is, the
    /// snapshot relies on it.
    pub(crate) fn wants(&self, kind: BlobKind, id: &BlobId) -> bool {
        if self.index.known(kind, id).is_some() {
            self.rely_on(kind, id);
            return false;
        }
        lock(self.part(kind, id)).insert(*id)
    }

    /// Adds a sealed blob that [`BlobStore::wants`], and counts it. It is in the repository when the next
    /// [`BlobStore::flush`] has ended.
    pub(crate) fn add(&self, blob: &SealedBlob<'_>) -> Result<()> {
        let SealedBlob { kind, id, sealed, is_compressed, plain_bytes } = *blob;
        let count = match kind {
            BlobKind::Data => &self.counts.data_blobs,
            BlobKind::Tree => &self.counts.tree_blobs,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.counts.plain_bytes.fetch_add(plain_bytes as u64, Ordering::Relaxed);
        self.counts.packed_bytes.fetch_add(sealed.len() as u64, Ordering::Relaxed);
        if self.writing == Writing::DryRun {
            return Ok(());
        }
        let plain_bytes = if is_compressed { u32::try_from(plain_bytes).ok() } else { None };
        self.append(kind, id, sealed, plain_bytes)
    }

    /// Puts a sealed blob into an open pack. For blobs that were sealed before: `id` must be what they open to.
    pub(crate) fn append(&self, kind: BlobKind, id: BlobId, sealed: &[u8], plain_bytes: Option<u32>) -> Result<()> {
        let mut pack = self.open_pack(kind);
        pack.append(id, sealed, plain_bytes)
            .map_err(|error| Error::new(ErrorKind::Broken("a pack is overfull"), "pack").caused_by(error))?;
        if !pack.is_full(PACK_BYTES_TARGET) {
            return Ok(());
        }
        let full = std::mem::replace(&mut *pack, self.new_pack(kind));
        drop(pack);
        self.send(full)
    }

    fn new_pack(&self, kind: BlobKind) -> PackWriter {
        PackWriter::with_buffer(kind, lock(&self.spare).pop().unwrap_or_default())
    }

    fn open_pack(&self, kind: BlobKind) -> MutexGuard<'_, PackWriter> {
        match kind {
            BlobKind::Data => lock(&self.data_pack),
            BlobKind::Tree => lock(&self.tree_pack),
        }
    }

    /// Finishes a pack and begins to store it; waits for an earlier one when too many are under way.
    fn send(&self, pack: PackWriter) -> Result<()> {
        self.lock.confirm(self.observer)?;
        let kind = pack.kind();
        let pack = pack.finish(self.repository.master_key()).map_err(|error| {
            Error::new(ErrorKind::Broken("a pack could not be sealed"), format!("{kind} pack")).caused_by(error)
        })?;
        let bytes = pack.bytes.len() as u64;
        let entry = IndexPack::new(pack.id, &pack.blobs);
        let mut outgoing = lock(&self.outgoing);
        if outgoing.in_flight.len() < outgoing.bound.get() {
            outgoing.bound.was_free();
        }
        while outgoing.in_flight.len() >= outgoing.bound.get() {
            let bytes = self.receive(&mut outgoing)?;
            outgoing.bound.stored(bytes, Instant::now());
        }
        let content = pack.bytes.clone();
        let mode = PutMode::Bulk(kind.into());
        let pending = self.repository.store().start_put(&pack.id.key(), pack.bytes, mode);
        outgoing.in_flight.push_back(InFlight { entry, bytes, content, pending });
        Ok(())
    }

    /// Waits for the pack that has been under way longest; returns its size.
    fn receive(&self, outgoing: &mut Outgoing) -> Result<u64> {
        let Some(InFlight { entry, bytes, content, pending }) = outgoing.in_flight.pop_front() else {
            return Ok(0);
        };
        pending.wait()?;
        self.stored(outgoing, entry, bytes, content)?;
        Ok(bytes)
    }

    /// A pack is in the store.
    fn stored(&self, outgoing: &mut Outgoing, entry: IndexPack, bytes: u64, content: Bytes) -> Result<()> {
        // A store that keeps what it was given keeps the memory too.
        if let Ok(buffer) = content.try_into_mut() {
            lock(&self.spare).push(buffer);
        }
        self.observer.event(Event::PackStored { pack: entry.id, bytes });
        outgoing.stored.push((entry.id, bytes));
        outgoing.unindexed_blobs += entry.blobs.len();
        outgoing.unindexed.packs.push(entry);
        let oldest = outgoing.oldest.get_or_insert_with(Instant::now);
        let is_old = oldest.elapsed() > Duration::from_secs(INDEX_AGE_SECONDS_MAX);
        if is_old || outgoing.unindexed_blobs >= INDEX_BLOBS_MAX {
            self.save_index(outgoing)?;
        }
        Ok(())
    }

    fn save_index(&self, outgoing: &mut Outgoing) -> Result<()> {
        if outgoing.unindexed.packs.is_empty() {
            return Ok(());
        }
        self.lock.check()?;
        self.repository.store().sync()?;
        self.repository.save_index(&outgoing.unindexed)?;
        outgoing.unindexed = IndexFile::default();
        outgoing.unindexed_blobs = 0;
        outgoing.oldest = None;
        Ok(())
    }

    /// Stores and indexes everything that is still open, and waits until it is durable. No other thread may be
    /// storing any more.
    pub(crate) fn flush(&self) -> Result<()> {
        for kind in [BlobKind::Data, BlobKind::Tree] {
            let pack = std::mem::replace(&mut *self.open_pack(kind), PackWriter::new(kind));
            if !pack.is_empty() {
                self.send(pack)?;
            }
        }
        let mut outgoing = lock(&self.outgoing);
        while !outgoing.in_flight.is_empty() {
            self.receive(&mut outgoing)?;
        }
        self.save_index(&mut outgoing)?;
        drop(outgoing);
        if self.writing == Writing::Real { self.repository.store().sync() } else { Ok(()) }
    }

    /// After a failure that was not the store's: lists what has been stored, so that the next run need not store it
    /// again. Packs under way are waited for, no longer than `patience` in all; those that come to nothing are left out.
    pub(crate) fn keep(&self, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        let mut outgoing = lock(&self.outgoing);
        while let Some(InFlight { entry, bytes, content, pending }) = outgoing.in_flight.pop_front() {
            if let Some(Ok(())) = pending.wait_until(until) {
                self.stored(&mut outgoing, entry, bytes, content)?;
            }
        }
        self.save_index(&mut outgoing)
    }

    /// The packs that this run has stored, with their sizes.
    pub(crate) fn stored_packs(&self) -> Vec<(PackId, u64)> {
        lock(&self.outgoing).stored.clone()
    }

    /// The numbers of the packs of the index that the snapshot relies on.
    pub(crate) fn relied_on(&self) -> impl Iterator<Item = usize> {
        (0..self.index.packs().len())
            .filter(|number| self.relied_on[number / 64].load(Ordering::Relaxed) >> (number % 64) & 1 != 0)
    }

    /// A tree and a piece of a file that happen to have the same bytes are two blobs.
    fn part(&self, kind: BlobKind, id: &BlobId) -> &Mutex<IdSet> {
        &self.added[kind as usize][usize::from(id.as_bytes()[0] & 15)]
    }
}

/// The places of all blobs of some packs, as an index lists them.
pub(crate) fn entries_of(index: &Index, wanted: &HashSet<PackId>) -> Vec<IndexPack> {
    let mut blobs: std::collections::HashMap<PackId, Vec<PackedBlob>> = std::collections::HashMap::new();
    for kind in [BlobKind::Data, BlobKind::Tree] {
        for location in index.blobs(kind).filter(|location| wanted.contains(&location.pack)) {
            blobs.entry(location.pack).or_default().push(location.blob);
        }
    }
    let entries = blobs.into_iter().map(|(id, mut blobs)| {
        blobs.sort_unstable_by_key(|blob| blob.offset);
        IndexPack::new(id, &blobs)
    });
    entries.collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
