//! Known? → compress → seal → prove → pack → store → index: the lower half of a backup, shared by all its threads.
//!
//! What is always true: a blob is counted as added only by the thread that stores it; a pack is listed by an index only
//! after it is durable; nothing is written before the lock was confirmed. After a crash the packs that an index lists
//! are used by the next run, the others are found by a prune.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::bridge::Pending;
use crate::codec::{BlobCodec, Proof};
use crate::contracts::{PutMode, SinkError};
use crate::limits::{
    BUFFER_KEPT_BYTES_MAX, DATA_PACKS_OPEN, INDEX_AGE_SECONDS_MAX, INDEX_BLOBS_MAX, PACK_BYTES_TARGET,
    PACKS_IN_FLIGHT_MAX,
};
use crate::model::{BlobId, BlobKind, PackId};
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

/// The lower half of a backup.
pub(crate) struct BlobStore<'a> {
    repository: &'a Repository,
    index: &'a Index,
    lock: &'a Lock,
    observer: &'a dyn Observer,
    writing: Writing,
    data_codec: BlobCodec,
    tree_codec: BlobCodec,
    /// The names that this run has stored or is storing, in parts so that threads seldom meet.
    added: [[Mutex<IdSet>; 16]; 2],
    /// Which packs of the index the snapshot relies on, one bit each.
    relied_on: Vec<AtomicU64>,
    data_packs: [Mutex<PackWriter>; DATA_PACKS_OPEN],
    tree_pack: Mutex<PackWriter>,
    outgoing: Mutex<Outgoing>,
    /// Buffers of packs that are stored, for the next ones: fresh memory costs more than copying.
    spare: Mutex<Vec<BytesMut>>,
    pub(crate) counts: Counts,
}

/// What was added.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) data_blobs: AtomicU64,
    pub(crate) tree_blobs: AtomicU64,
    pub(crate) plain_bytes: AtomicU64,
    pub(crate) packed_bytes: AtomicU64,
}

/// Buffers that a thread uses again and again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    sealed: Vec<u8>,
    opened: Vec<u8>,
}

impl Scratch {
    /// Gives back what an unusually large piece has taken.
    fn shrink(&mut self) {
        for buffer in [&mut self.sealed, &mut self.opened] {
            if buffer.capacity() > BUFFER_KEPT_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
    }
}

/// Packs on their way out, and those that are out but not indexed yet.
struct Outgoing {
    in_flight: VecDeque<InFlight>,
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
        level: i32,
        proof: Proof,
        writing: Writing,
        observer: &'a dyn Observer,
    ) -> Self {
        Self {
            repository,
            index,
            lock,
            observer,
            writing,
            data_codec: repository.codec(BlobKind::Data, level, proof),
            tree_codec: repository.codec(BlobKind::Tree, level, proof),
            added: Default::default(),
            relied_on: (0..index.packs().len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            data_packs: std::array::from_fn(|_| Mutex::new(PackWriter::new(BlobKind::Data))),
            tree_pack: Mutex::new(PackWriter::new(BlobKind::Tree)),
            outgoing: Mutex::new(Outgoing {
                in_flight: VecDeque::new(),
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

    /// Makes sure that a blob is, or will be before the next [`BlobStore::flush`] ends, in the repository. Says its
    /// name and whether it was new.
    pub(crate) fn store(&self, kind: BlobKind, plain: &[u8], scratch: &mut Scratch) -> Result<(BlobId, bool)> {
        let id = BlobId::of(plain);
        if self.index.known(kind, &id).is_some() {
            self.rely_on(kind, &id);
            return Ok((id, false));
        }
        if !lock(self.part(kind, &id)).insert(id) {
            return Ok((id, false));
        }
        self.add(kind, id, plain, scratch)?;
        Ok((id, true))
    }

    fn add(&self, kind: BlobKind, id: BlobId, plain: &[u8], scratch: &mut Scratch) -> Result<()> {
        let (codec, count) = match kind {
            BlobKind::Data => (&self.data_codec, &self.counts.data_blobs),
            BlobKind::Tree => (&self.tree_codec, &self.counts.tree_blobs),
        };
        let Scratch { sealed, opened } = scratch;
        sealed.clear();
        let outcome = codec.seal_and_prove(plain, sealed, opened).map_err(|error| {
            Error::new(ErrorKind::Broken("a blob could not be sealed"), id.to_string()).caused_by(error)
        })?;
        let plain_bytes = if outcome.is_compressed { u32::try_from(plain.len()).ok() } else { None };
        count.fetch_add(1, Ordering::Relaxed);
        self.counts.plain_bytes.fetch_add(plain.len() as u64, Ordering::Relaxed);
        self.counts.packed_bytes.fetch_add(sealed.len() as u64, Ordering::Relaxed);
        if self.writing == Writing::DryRun {
            return Ok(());
        }
        self.append(kind, id, sealed, plain_bytes)?;
        scratch.shrink();
        Ok(())
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
        if kind == BlobKind::Tree {
            return lock(&self.tree_pack);
        }
        for pack in &self.data_packs {
            match pack.try_lock() {
                Ok(pack) => return pack,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        lock(&self.data_packs[0])
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
        while outgoing.in_flight.len() >= PACKS_IN_FLIGHT_MAX {
            self.receive(&mut outgoing)?;
        }
        let content = pack.bytes.clone();
        let mode = PutMode::Bulk(kind.into());
        let pending = self.repository.store().start_put(&pack.id.key(), pack.bytes, mode);
        outgoing.in_flight.push_back(InFlight { entry, bytes, content, pending });
        Ok(())
    }

    /// Waits for the pack that has been under way longest.
    fn receive(&self, outgoing: &mut Outgoing) -> Result<()> {
        let Some(InFlight { entry, bytes, content, pending }) = outgoing.in_flight.pop_front() else {
            return Ok(());
        };
        pending.wait()?;
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
        let mut rest = PackWriter::new(BlobKind::Data);
        for pack in &self.data_packs {
            let pack = std::mem::replace(&mut *lock(pack), PackWriter::new(BlobKind::Data));
            if rest.is_empty() {
                rest = pack;
            } else if !pack.is_empty() {
                // Two half-filled packs become one: fewer objects, and nothing for a prune to tidy up.
                rest.absorb(&pack)
                    .map_err(|error| Error::new(ErrorKind::Broken("a pack is overfull"), "pack").caused_by(error))?;
                lock(&self.spare).push(pack.into_buffer());
            }
        }
        let trees = std::mem::replace(&mut *lock(&self.tree_pack), PackWriter::new(BlobKind::Tree));
        for pack in [rest, trees] {
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
