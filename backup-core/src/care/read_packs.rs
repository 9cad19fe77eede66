//! Packs read as a whole: each must be what its name, its header and the index say, and each of its blobs too.

use bytes::Bytes;

use super::check_objects::reason;
use super::read_each::{Wanted, read_each};
use crate::cancel::Cancel;
use crate::model::{BlobId, BlobKind, PackId};
use crate::observe::{Amount, Event, Observer, Phase};
use crate::pack::{PackedBlob, read_header};
use crate::repository::{BlobLocation, Index, Repository};
use crate::{Error, Result};

/// What is wrong with a pack.
#[derive(Debug)]
pub(super) struct PackVerdict {
    /// Its number in the index.
    pub(super) number: u32,
    /// What is wrong, as a text that follows the pack's name.
    pub(super) what: String,
    /// Its blobs that cannot be read.
    pub(super) lost: Vec<(BlobKind, BlobId)>,
}

/// Reads packs, given by their numbers in the index and their sizes in the store. Returns a verdict for each that is
/// not as it must be.
pub(super) fn read_packs(
    repository: &Repository,
    index: &Index,
    packs: &[(u32, u64)],
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<Vec<PackVerdict>> {
    let total = Amount { items: packs.len() as u64, bytes: packs.iter().map(|(_, bytes)| bytes).sum() };
    observer.event(Event::Phase { phase: Phase::ReadPacks, total: Some(total) });
    let wanted: Vec<_> = packs
        .iter()
        .map(|(number, bytes)| Wanted { pack: index.packs()[*number as usize].id, range: None, bytes: *bytes })
        .collect();
    let mut verdicts = Vec::new();
    let work = |at: usize, read: Result<Bytes>| look_at(repository, index, packs[at].0, read);
    read_each(repository.store(), &wanted, cancel, work, |at, verdict: Result<Option<PackVerdict>>| {
        observer.event(Event::Progress(Amount { items: 1, bytes: wanted[at].bytes }));
        verdicts.extend(verdict?);
        Ok(())
    })?;
    verdicts.sort_unstable_by_key(|verdict: &PackVerdict| verdict.number);
    Ok(verdicts)
}

fn look_at(repository: &Repository, index: &Index, number: u32, read: Result<Bytes>) -> Result<Option<PackVerdict>> {
    let info = &index.packs()[number as usize];
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) => {
            let lost = blobs_of(index, number).map(|blob| (blob.kind, blob.id)).collect();
            return Ok(Some(PackVerdict { number, what: reason(error)?, lost }));
        }
    };
    let mut wrong = Vec::new();
    if PackId::of(&bytes) != info.id {
        wrong.push("its content does not match its name".to_owned());
    }
    let blobs = match read_header(repository.master_key(), &bytes, bytes.len() as u64) {
        Ok(blobs) if lists_exactly(index, number, &blobs) => blobs,
        Ok(_) => {
            wrong.push("its header does not list what the index lists".to_owned());
            blobs_of(index, number).collect()
        }
        Err(error) => {
            wrong.push(error.to_string());
            blobs_of(index, number).collect()
        }
    };
    let total = blobs.len();
    let mut plain = Vec::new();
    let mut lost = Vec::new();
    for blob in blobs {
        if let Err(error) = open_blob(repository, info.id, number, blob, &bytes, &mut plain) {
            if lost.is_empty() {
                wrong.push(reason(error)?);
            }
            lost.push((blob.kind, blob.id));
        }
    }
    if wrong.is_empty() {
        return Ok(None);
    }
    if !lost.is_empty() {
        wrong.push(format!("{} of {total} blobs cannot be read", lost.len()));
    }
    Ok(Some(PackVerdict { number, what: wrong.join("; "), lost }))
}

/// Opens a blob that lies in `bytes` of a pack, and checks that it is what its name says.
pub(super) fn open_blob(
    repository: &Repository,
    pack: PackId,
    pack_number: u32,
    blob: PackedBlob,
    bytes: &[u8],
    plain: &mut Vec<u8>,
) -> Result<()> {
    let location = BlobLocation { pack, pack_number, blob };
    let start = blob.offset as usize;
    match bytes.get(start..start + blob.length as usize) {
        Some(sealed) => repository.open_blob(&location, sealed, plain),
        None => Err(Error::damaged(format!("pack {pack}"), format!("{} blob {} is cut off", blob.kind, blob.id))),
    }
}

/// Whether a header's blobs are those that the index lists: as many, and each at its place.
pub(super) fn lists_exactly(index: &Index, number: u32, header: &[PackedBlob]) -> bool {
    let is_listed = |blob: &PackedBlob| {
        index.find_all(blob.kind, &blob.id).any(|place| place.pack_number == number && place.blob == *blob)
    };
    header.len() == index.packs()[number as usize].blobs as usize && header.iter().all(is_listed)
}

/// The blobs of a pack as the index lists them. Looks at the whole index: for the few packs that are damaged.
pub(super) fn blobs_of(index: &Index, number: u32) -> impl Iterator<Item = PackedBlob> {
    [BlobKind::Data, BlobKind::Tree]
        .into_iter()
        .flat_map(|kind| index.blobs(kind))
        .filter(move |place| place.pack_number == number)
        .map(|place| place.blob)
}
