//! Blobs that a prune or a repair writes anew: packs, then the index that lists them.

use std::collections::VecDeque;

use crate::bridge::Pending;
use crate::contracts::{PutMode, SinkError};
use crate::limits::{INDEX_BLOBS_MAX, PACK_BYTES_TARGET, REQUESTS_IN_FLIGHT_MAX};
use crate::model::{BlobId, BlobKind, PackId};
use crate::observe::{Event, Observer};
use crate::pack::{Pack, PackWriter};
use crate::repository::layout::Named;
use crate::repository::{IndexFile, IndexPack, Repository};
use crate::{Error, ErrorKind, Result};

/// Packs that are being written. What is not finished is in no index: packs without use, which a prune removes.
#[derive(Debug)]
pub(super) struct NewPacks<'a> {
    repository: &'a Repository,
    observer: &'a dyn Observer,
    data: PackWriter,
    trees: PackWriter,
    under_way: VecDeque<Pending<std::result::Result<(), SinkError>>>,
    stored: IndexFile,
    stored_blobs: usize,
    packs: Vec<PackId>,
}

impl<'a> NewPacks<'a> {
    pub(super) fn new(repository: &'a Repository, observer: &'a dyn Observer) -> Self {
        Self {
            repository,
            observer,
            data: PackWriter::new(BlobKind::Data),
            trees: PackWriter::new(BlobKind::Tree),
            under_way: VecDeque::new(),
            stored: IndexFile::default(),
            stored_blobs: 0,
            packs: Vec::new(),
        }
    }

    /// Adds a sealed blob that was proven to open.
    pub(super) fn add(&mut self, kind: BlobKind, id: BlobId, sealed: &[u8], plain_bytes: Option<u32>) -> Result<()> {
        let writer = self.writer(kind);
        writer.append(id, sealed, plain_bytes).map_err(|error| Error::damaged("new pack", error.to_string()))?;
        if writer.is_full(PACK_BYTES_TARGET) { self.store(kind) } else { Ok(()) }
    }

    /// Waits until all packs are durable, then the index that lists them. Returns the packs.
    pub(super) fn finish(mut self) -> Result<Vec<PackId>> {
        for kind in [BlobKind::Data, BlobKind::Tree] {
            if !self.writer(kind).is_empty() {
                self.store(kind)?;
            }
        }
        self.save_index()?;
        self.repository.store().sync()?;
        Ok(self.packs)
    }

    fn writer(&mut self, kind: BlobKind) -> &mut PackWriter {
        match kind {
            BlobKind::Data => &mut self.data,
            BlobKind::Tree => &mut self.trees,
        }
    }

    fn store(&mut self, kind: BlobKind) -> Result<()> {
        let writer = std::mem::replace(self.writer(kind), PackWriter::new(kind));
        let pack = writer.finish(self.repository.master_key()).map_err(|error| {
            Error::new(ErrorKind::Broken("a pack could not be sealed"), "new pack").caused_by(error)
        })?;
        let Pack { id, bytes, blobs } = pack;
        if self.under_way.len() == REQUESTS_IN_FLIGHT_MAX {
            self.under_way.pop_front().map_or(Ok(()), Pending::wait)?;
        }
        self.observer.event(Event::PackStored { pack: id, bytes: bytes.len() as u64 });
        let mode = PutMode::Bulk(kind.into());
        self.under_way.push_back(self.repository.store().start_put(&id.key(), bytes, mode));
        self.packs.push(id);
        self.stored_blobs += blobs.len();
        self.stored.packs.push(IndexPack::new(id, &blobs));
        if self.stored_blobs >= INDEX_BLOBS_MAX { self.save_index() } else { Ok(()) }
    }

    fn save_index(&mut self) -> Result<()> {
        for pending in self.under_way.drain(..) {
            pending.wait()?;
        }
        if self.stored.packs.is_empty() {
            return Ok(());
        }
        self.repository.store().sync()?;
        self.repository.save_index(&std::mem::take(&mut self.stored))?;
        self.stored_blobs = 0;
        Ok(())
    }
}
