//! One backup into several repositories: each piece is named, compressed and proven once, sealed once for each key, and
//! goes to those repositories that lack it.
//!
//! What is always true: the repositories know nothing of each other. One that fails is left alone from then on, gets no
//! snapshot of this run, and what it has stored until then serves its next; the others go on. Packs, indexes, locks and
//! what is known are each repository's own, and so is the memory for it: the bounds of a backup hold for each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::blob_store::{BlobStore, SealedBlob};
use crate::codec::{BlobCodec, MasterKey, Proof};
use crate::contracts::{CodecError, SinkErrorKind};
use crate::limits::{BUFFER_KEPT_BYTES_MAX, LAST_PACKS_PATIENCE};
use crate::model::{BlobId, BlobKind};
use crate::observe::{Event, Observer};
use crate::repository::Repository;
use crate::{Error, ErrorKind, Result};

/// The repositories of a backup.
pub(super) struct FanOut<'a> {
    destinations: Vec<Destination<'a>>,
    sealers: Vec<Sealer>,
    proof: Proof,
    observer: &'a dyn Observer,
}

/// One of them.
struct Destination<'a> {
    place: String,
    blobs: BlobStore<'a>,
    /// Which of the sealers seals for it.
    sealer: usize,
    is_lost: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Destination<'_> {
    /// Whether it makes sense to write an index into it. A full disk has room for a small file where a large one had
    /// none; a store that does not answer, or takes nothing, would only be waited for.
    fn can_keep(&self) -> bool {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |error: &Error| *error.kind() == ErrorKind::Sink(SinkErrorKind::NoSpace);
        !self.is_lost.load(Ordering::Acquire) || failure.as_ref().is_some_and(is_full)
    }
}

/// Seals for all repositories of one key and one form.
struct Sealer {
    key: Arc<MasterKey>,
    version: u64,
    /// For data and for trees.
    codecs: [BlobCodec; 2],
}

/// Buffers that a thread uses again and again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    sealed: Vec<u8>,
    /// What the first key sealed, for the others, and what they made of it.
    text: Vec<u8>,
    opened: Vec<u8>,
}

impl Scratch {
    /// Gives back what an unusually large piece has taken.
    fn shrink(&mut self) {
        for buffer in [&mut self.sealed, &mut self.opened, &mut self.text] {
            if buffer.capacity() > BUFFER_KEPT_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
    }
}

impl<'a> FanOut<'a> {
    /// Stores of repositories, in the order in which they are spoken of from now on.
    pub(super) fn new(
        stores: Vec<(&'a Repository, BlobStore<'a>)>,
        level: i32,
        proof: Proof,
        observer: &'a dyn Observer,
    ) -> Self {
        let (mut destinations, mut sealers) = (Vec::new(), Vec::<Sealer>::new());
        for (repository, blobs) in stores {
            let version = repository.config().version;
            let same = |sealer: &Sealer| sealer.key == *repository.master_key() && sealer.version == version;
            let sealer = sealers.iter().position(same).unwrap_or_else(|| {
                let codecs = [BlobKind::Data, BlobKind::Tree].map(|kind| repository.codec(kind, level, proof));
                sealers.push(Sealer { key: Arc::clone(repository.master_key()), version, codecs });
                sealers.len() - 1
            });
            let (place, is_lost, failure) = (repository.store().location(), AtomicBool::new(false), Mutex::default());
            destinations.push(Destination { place, blobs, sealer, is_lost, failure });
        }
        Self { destinations, sealers, proof, observer }
    }

    /// Whether a blob is in all repositories already. Their snapshots then rely on it.
    pub(super) fn rely_on(&self, kind: BlobKind, id: &BlobId) -> bool {
        self.working().all(|(_, destination)| destination.blobs.rely_on(kind, id))
    }

    /// Makes sure that a blob is, or will be before the next [`FanOut::flush`] ends, in every repository that has not
    /// failed. Says its name. Fails when all have.
    pub(super) fn store(&self, kind: BlobKind, plain: &[u8], scratch: &mut Scratch) -> Result<BlobId> {
        let id = BlobId::of(plain);
        // Whether `scratch.text` holds what another key has sealed, and whether that is compressed.
        let mut text = None;
        for (number, sealer) in self.sealers.iter().enumerate() {
            let mut is_compressed = None;
            for (place, destination) in self.working().filter(|(_, destination)| destination.sealer == number) {
                if !destination.blobs.wants(kind, &id) {
                    continue;
                }
                let is_compressed = match is_compressed {
                    Some(is_compressed) => is_compressed,
                    None => *is_compressed.insert(self.seal(sealer, kind, id, plain, &mut text, scratch)?),
                };
                let sealed = scratch.sealed.as_slice();
                let blob = SealedBlob { kind, id, sealed, is_compressed, plain_bytes: plain.len() };
                if let Err(error) = destination.blobs.add(&blob) {
                    self.lose(place, error)?;
                }
            }
        }
        scratch.shrink();
        Ok(id)
    }

    /// Seals into `scratch.sealed` and says whether it is compressed.
    fn seal(
        &self,
        sealer: &Sealer,
        kind: BlobKind,
        id: BlobId,
        plain: &[u8],
        text: &mut Option<bool>,
        scratch: &mut Scratch,
    ) -> Result<bool> {
        let broken = |error: CodecError| {
            Error::new(ErrorKind::Broken("a blob could not be sealed"), id.to_string()).caused_by(error)
        };
        let Scratch { sealed, opened, text: kept } = scratch;
        // Version 1 knows no compression.
        if let Some(is_compressed) = text.filter(|is_compressed| sealer.version > 1 || !is_compressed) {
            *sealed = sealer.key.seal(kept).map_err(broken)?;
            if self.proof == Proof::Each {
                sealer.key.open(sealed, opened).map_err(|_| broken(CodecError::NotReproduced))?;
                if opened != kept {
                    return Err(broken(CodecError::NotReproduced));
                }
            }
            return Ok(is_compressed);
        }
        sealed.clear();
        let outcome = sealer.codecs[kind as usize].seal_and_prove(plain, sealed).map_err(broken)?;
        if self.sealers.len() > 1 && sealer.version > 1 {
            sealer.key.open(sealed, kept).map_err(broken)?;
            *text = Some(outcome.is_compressed);
        }
        Ok(outcome.is_compressed)
    }

    /// Stores and indexes everything that is still open, in all repositories at once, and waits until it is durable. No
    /// other thread may be storing any more. Fails when all have failed.
    pub(super) fn flush(&self) -> Result<()> {
        let flushed: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                self.working().map(|(place, one)| (place, scope.spawn(|| one.blobs.flush()))).collect();
            threads.into_iter().map(|(place, thread)| (place, thread.join())).collect()
        });
        for (place, result) in flushed {
            let panicked = |_| Error::new(ErrorKind::Broken("a thread panicked"), "backup");
            if let Err(error) = result.map_err(panicked).and_then(|result| result) {
                self.lose(place, error)?;
            }
        }
        Ok(())
    }

    /// The run has failed, or was ended: lists what the repositories have got, where they can still be written to.
    /// What fails now has no one to be told to; the failure before it is what counts.
    pub(super) fn keep(&self) {
        std::thread::scope(|scope| {
            for destination in self.destinations.iter().filter(|one| one.can_keep()) {
                scope.spawn(|| destination.blobs.keep(LAST_PACKS_PATIENCE));
            }
        });
    }

    /// A repository's own store.
    pub(super) fn blobs(&self, place: usize) -> &BlobStore<'a> {
        &self.destinations[place].blobs
    }

    /// Whether a repository has not failed.
    pub(super) fn works(&self, place: usize) -> bool {
        !self.destinations[place].is_lost.load(Ordering::Acquire)
    }

    /// Why a repository has failed.
    pub(super) fn take_failure(&self, place: usize) -> Option<Error> {
        self.destinations[place].failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A repository has failed: it gets nothing more. Fails itself when it was the last.
    pub(super) fn lose(&self, place: usize, error: Error) -> Result<()> {
        let lost = &self.destinations[place];
        if !lost.is_lost.swap(true, Ordering::AcqRel) {
            if self.working().next().is_some() {
                let what = format!("{} has failed and gets no snapshot, the others go on: {error}", lost.place);
                self.observer.event(Event::Notice(&what));
            }
            *lost.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        match self.working().next() {
            Some(_) => Ok(()),
            None => Err(Error::new(ErrorKind::Broken("every repository has failed"), "backup")),
        }
    }

    fn working(&self) -> impl Iterator<Item = (usize, &Destination<'a>)> {
        self.destinations.iter().enumerate().filter(|(_, one)| !one.is_lost.load(Ordering::Acquire))
    }
}
