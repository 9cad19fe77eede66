//! Blobs, from the packs of one repository into those of another.
//!
//! Parts of packs that lie close together are read in one request. Every blob is opened and hashed before it is sealed
//! for the other repository, but for those of a pack that is wanted as a whole where both have one key: its own hash
//! proves that they are what was once sealed.
//!
//! A pack never keeps its name: a prune of the other repository may be about to delete a pack that had this name there
//! before, and would take ours for it (`docs/decisions/copy.md`). So the blobs of a whole pack get a new header.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::copy::CopyOptions;
use super::copy_plan::{Batch, KINDS, LostBlob};
use super::read_each::{Wanted, read_each};
use super::repack::is_of_object;
use crate::cancel::Cancel;
use crate::codec::{BlobCodec, MasterKey, Proof};
use crate::contracts::CodecError;
use crate::limits::{COPY_WHOLE_PACK_BYTES_MAX, READ_GAP_BYTES_MAX, READ_SPAN_BYTES_MAX};
use crate::model::{BlobKind, PackId};
use crate::observe::{Amount, Event, Observer};
use crate::pack::{PackedBlob, read_header};
use crate::pipeline::BlobStore;
use crate::repository::{BlobLocation, Index, Repository};
use crate::{Error, ErrorKind, Result};

/// The way from one repository to the other.
pub(super) struct Transfer<'a> {
    from: &'a Repository,
    index: &'a Index,
    to_master: Arc<MasterKey>,
    to_version: u64,
    blobs: &'a BlobStore<'a>,
    codecs: [BlobCodec; 2],
    proof: Proof,
    same_key: bool,
}

/// What went over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) blobs: u64,
    pub(super) bytes_read: u64,
    pub(super) bytes_stored: u64,
    pub(super) whole_packs: u64,
}

/// In which form a blob goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Sealed as it is.
    AsItIs,
    /// Compressed as it is, sealed with the other key.
    SealedAnew,
    /// Compressed, or not, as the other repository does it, and sealed with its key.
    MadeAnew,
}

/// A stretch of a pack that is read in one request: the blobs at these places of a list of positions.
struct Part {
    first: usize,
    count: usize,
    start: u64,
    end: u64,
    is_whole: bool,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(
        from: &'a Repository,
        index: &'a Index,
        to: &'a Repository,
        blobs: &'a BlobStore<'a>,
        options: &CopyOptions,
    ) -> Self {
        Self {
            from,
            index,
            to_master: Arc::clone(to.master_key()),
            to_version: to.config().version,
            blobs,
            codecs: KINDS.map(|kind| to.codec(kind, options.level, options.proof)),
            proof: options.proof,
            same_key: from.master_key() == to.master_key(),
        }
    }

    /// Copies what a batch wants and adds it to `carried`. Returns the blobs that cannot be had from anywhere.
    pub(super) fn copy(
        &self,
        batch: &Batch,
        carried: &mut Carried,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<Vec<LostBlob>> {
        let lost = Mutex::new(Vec::new());
        for (kind, positions) in KINDS.into_iter().zip(&batch.wanted) {
            let at = |position: &u32| self.index.at(kind, *position as usize);
            let mut positions = positions.clone();
            positions.sort_by_cached_key(|position| at(position).map(|place| (place.pack_number, place.blob.offset)));
            let places = |part: &Part| positions[part.first..part.first + part.count].iter().filter_map(at);
            let parts = self.parts(kind, &positions);
            let wanted: Vec<_> = parts
                .iter()
                .filter_map(|part| {
                    let pack = places(part).next()?.pack;
                    Some(Wanted { pack, range: Some(part.start..part.end), bytes: part.end - part.start })
                })
                .collect();
            let work = |number: usize, read: Result<Bytes>| {
                let part = &parts[number];
                self.carry(part, &places(part).collect::<Vec<_>>(), &read, &lost)
            };
            read_each(self.from.store(), &wanted, cancel, work, |number, done: Result<Carried>| {
                carried.add(done?);
                let part = &parts[number];
                // In the plan's measure, which knows no gaps and no headers.
                let bytes = places(part).map(|place| u64::from(place.blob.length)).sum();
                observer.event(Event::Progress(Amount { items: part.count as u64, bytes }));
                Ok(())
            })?;
        }
        Ok(lost.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Cuts sorted positions into parts of packs.
    fn parts(&self, kind: BlobKind, positions: &[u32]) -> Vec<Part> {
        let place = |number: usize| self.index.at(kind, positions[number] as usize);
        let mut parts = Vec::new();
        let mut first = 0;
        while let Some(pack_number) = positions.get(first).and_then(|_| place(first)).map(|place| place.pack_number) {
            let same_pack = |number: &usize| place(*number).is_some_and(|place| place.pack_number == pack_number);
            let count = (first..positions.len()).take_while(same_pack).count();
            let info = &self.index.packs()[pack_number as usize];
            let goes_as_it_is = |number| place(number).is_some_and(|place| self.form(&place.blob) == Form::AsItIs);
            if count == info.blobs as usize
                && info.bytes <= COPY_WHOLE_PACK_BYTES_MAX
                && (first..first + count).all(goes_as_it_is)
            {
                parts.push(Part { first, count, start: 0, end: info.bytes, is_whole: true });
            } else {
                let blobs = (first..first + count).filter_map(place).map(|place| place.blob);
                cut_into_stretches(first, blobs, &mut parts);
            }
            first += count;
        }
        parts
    }

    fn form(&self, blob: &PackedBlob) -> Form {
        match (self.same_key, blob.plain_bytes.is_some(), blob.kind) {
            // Version 1 knows no compression, and version 2 wants every tree compressed.
            (_, true, _) if self.to_version == 1 => Form::MadeAnew,
            (_, false, BlobKind::Tree) if self.to_version > 1 => Form::MadeAnew,
            (true, _, _) => Form::AsItIs,
            (false, true, _) => Form::SealedAnew,
            (false, false, _) => Form::MadeAnew,
        }
    }

    fn carry(
        &self,
        part: &Part,
        places: &[BlobLocation],
        read: &Result<Bytes>,
        lost: &Mutex<Vec<LostBlob>>,
    ) -> Result<Carried> {
        let bytes_read = part.end - part.start;
        let mut carried = Carried { blobs: places.len() as u64, bytes_read, ..Carried::default() };
        if part.is_whole
            && let Ok(bytes) = read
            && let Some(first) = places.first()
            && self.is_sound(first.pack, bytes, places)
        {
            for BlobLocation { blob, .. } in places {
                let start = blob.offset as usize;
                let sealed = &bytes[start..start + blob.length as usize];
                self.blobs.append(blob.kind, blob.id, sealed, blob.plain_bytes)?;
                carried.bytes_stored += sealed.len() as u64;
            }
            carried.whole_packs = 1;
            return Ok(carried);
        }
        let mut buffers = Buffers::default();
        for place in places {
            match self.carry_one(place, part.start, read, &mut buffers) {
                Ok(bytes) => carried.bytes_stored += bytes,
                Err(error) if is_of_object(&error) => {
                    carried.blobs -= 1;
                    let entry = (place.blob.kind, place.blob.id, error.to_string());
                    lost.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(carried)
    }

    /// Whether a pack that was read as a whole is what its name says and holds exactly these blobs.
    fn is_sound(&self, pack: PackId, bytes: &Bytes, places: &[BlobLocation]) -> bool {
        let header = || read_header(self.from.master_key(), bytes, bytes.len() as u64);
        PackId::of(bytes) == pack
            && header().is_ok_and(|header| header.iter().eq(places.iter().map(|place| &place.blob)))
    }

    /// Proves one blob and hands it on; returns how many bytes it takes over there.
    fn carry_one(&self, place: &BlobLocation, start: u64, read: &Result<Bytes>, buffers: &mut Buffers) -> Result<u64> {
        let Buffers { plain, text, sealed, opened } = buffers;
        let blob = &place.blob;
        let stored = read.as_ref().ok().and_then(|bytes| {
            let offset = usize::try_from(u64::from(blob.offset) - start).ok()?;
            bytes.get(offset..offset + blob.length as usize)
        });
        let as_read = stored.filter(|stored| self.from.open_blob(place, stored, plain).is_ok());
        let form = match as_read {
            Some(_) => self.form(blob),
            None => {
                // Every other place of the blob is tried, and if none will do it says why.
                *plain = self.from.read_blob(self.index, blob.kind, &blob.id)?;
                Form::MadeAnew
            }
        };
        let broken = |error: CodecError| {
            Error::new(ErrorKind::Broken("a blob could not be sealed"), blob.id.to_string()).caused_by(error)
        };
        sealed.clear();
        let (sealed, plain_bytes) = match (form, as_read) {
            (Form::AsItIs, Some(stored)) => (stored, blob.plain_bytes),
            (Form::SealedAnew, Some(stored)) => {
                self.from.master_key().open(stored, text).map_err(broken)?;
                *sealed = self.to_master.seal(text).map_err(broken)?;
                if self.proof == Proof::Each {
                    self.to_master.open(sealed, opened).map_err(|_| broken(CodecError::NotReproduced))?;
                    if opened != text {
                        return Err(broken(CodecError::NotReproduced));
                    }
                }
                (sealed.as_slice(), blob.plain_bytes)
            }
            _ => {
                let codec = &self.codecs[blob.kind as usize];
                let outcome = codec.seal_and_prove(plain, sealed).map_err(broken)?;
                let plain_bytes = outcome.is_compressed.then(|| u32::try_from(plain.len()).unwrap_or(u32::MAX));
                (sealed.as_slice(), plain_bytes)
            }
        };
        self.blobs.append(blob.kind, blob.id, sealed, plain_bytes)?;
        Ok(sealed.len() as u64)
    }
}

impl Carried {
    fn add(&mut self, other: Self) {
        let Self { blobs, bytes_read, bytes_stored, whole_packs } = self;
        *blobs += other.blobs;
        *bytes_read += other.bytes_read;
        *bytes_stored += other.bytes_stored;
        *whole_packs += other.whole_packs;
    }
}

/// Used for one blob after the other.
#[derive(Default)]
struct Buffers {
    plain: Vec<u8>,
    text: Vec<u8>,
    sealed: Vec<u8>,
    opened: Vec<u8>,
}

/// Cuts the blobs of one pack, in the order of their places, into stretches of one request each.
fn cut_into_stretches(first: usize, blobs: impl Iterator<Item = PackedBlob>, parts: &mut Vec<Part>) {
    let mut open: Option<Part> = None;
    for (number, blob) in blobs.enumerate() {
        let (start, end) = (u64::from(blob.offset), u64::from(blob.offset) + u64::from(blob.length));
        match &mut open {
            Some(part)
                if start.saturating_sub(part.end) <= u64::from(READ_GAP_BYTES_MAX)
                    && end.saturating_sub(part.start) <= u64::from(READ_SPAN_BYTES_MAX) =>
            {
                part.end = part.end.max(end);
                part.count += 1;
            }
            _ => {
                parts.extend(open.take());
                open = Some(Part { first: first + number, count: 1, start, end, is_whole: false });
            }
        }
    }
    parts.extend(open);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BlobId;

    #[test]
    fn blobs_that_lie_together_are_read_together() {
        let blob = |offset: u32, length: u32| PackedBlob {
            id: BlobId::of(b"x"),
            kind: BlobKind::Data,
            offset,
            length,
            plain_bytes: None,
        };
        let gap = READ_GAP_BYTES_MAX;
        let blobs = [
            blob(0, 100),
            blob(100 + gap, 100),
            blob(202 + gap + gap, 100),
            blob(1_000_000, READ_SPAN_BYTES_MAX),
            blob(1_000_000 + READ_SPAN_BYTES_MAX, 1),
        ];
        let mut parts = Vec::new();
        cut_into_stretches(7, blobs.into_iter(), &mut parts);
        let told: Vec<_> = parts.iter().map(|part| (part.first, part.count)).collect();
        assert_eq!(told, [(7, 2), (9, 1), (10, 1), (11, 1)]);
        assert_eq!((parts[0].start, parts[0].end), (0, u64::from(200 + gap)));
        assert!(parts.iter().all(|part| !part.is_whole));
    }
}
