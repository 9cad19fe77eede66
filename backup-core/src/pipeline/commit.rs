//! The two looks around a commit: before snapshots are written, whether what they rely on is still in use; and whether
//! everything is there. The second may begin as soon as everything is stored, beside the writing of the snapshot itself:
//! it is about what the snapshot needs.
//!
//! Whoever writes snapshots that need packs which were there before does both: a backup, and a copy into the repository.

use std::collections::{HashMap, HashSet};

use super::blob_store::{BlobStore, entries_of};
use crate::bridge::PendingListing;
use crate::contracts;
use crate::model::{IndexId, PackId, SnapshotId};
use crate::observe::{Event, Observer, Phase};
use crate::repository::layout::Named;
use crate::repository::{Index, IndexFile, Lock, RecordBody, Repository, layout};
use crate::{Error, ErrorKind, Result};

/// Looks at the index again: packs that the snapshot relies on and that were marked for deletion meanwhile are listed
/// as in use once more. Fails when one of them is gone altogether.
pub(crate) fn list_anew_what_was_marked(
    repository: &Repository,
    index: &Index,
    blobs: &BlobStore<'_>,
    lock: &Lock,
    observer: &dyn Observer,
) -> Result<()> {
    let listed: HashSet<IndexId> = repository.list::<IndexId>()?.into_iter().map(|(id, _)| id).collect();
    // Marking a pack replaces the index object that lists it; where all objects are still there, nothing was marked.
    if index.files().iter().all(|id| listed.contains(id)) {
        return Ok(());
    }
    let fresh = repository.load_index(observer)?;
    let in_use: HashSet<PackId> =
        fresh.packs().iter().filter(|pack| pack.marked.is_none()).map(|pack| pack.id).collect();
    let relied_on = blobs.relied_on().map(|number| index.packs()[number].id);
    let missing: HashSet<PackId> = relied_on.filter(|pack| !in_use.contains(pack)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let present: HashSet<PackId> =
        repository.store().list(layout::DATA)?.iter().filter_map(|info| PackId::from_key(&info.key)).collect();
    if let Some(gone) = missing.difference(&present).next() {
        return Err(Error::new(ErrorKind::Missing, gone.key().as_str())
            .with_hint("a prune removed it while this backup ran; run the backup again"));
    }
    lock.check()?;
    repository.save_index(&IndexFile { packs: entries_of(index, &missing), ..IndexFile::default() })?;
    repository.store().sync()?;
    let count = missing.len();
    observer.event(Event::Notice(&format!("{count} packs were marked for deletion meanwhile and are in use again")));
    Ok(())
}

/// Begins to list the stored packs, for [`is_present`]. All that the snapshots need must be stored.
pub(crate) fn list_packs(repository: &Repository) -> PendingListing {
    repository.store().start_list(layout::DATA)
}

/// Looks whether all that snapshots need is among the packs that were listed, with its size.
pub(crate) fn is_present(
    listing: PendingListing,
    index: &Index,
    blobs: &BlobStore<'_>,
    observer: &dyn Observer,
) -> Result<bool> {
    observer.event(Event::Phase { phase: Phase::Confirm, total: None });
    let listed = listing.wait()?;
    let sizes: HashMap<PackId, u64> =
        listed.iter().filter_map(|info| Some((PackId::from_key(&info.key)?, info.bytes))).collect();
    let known = blobs.relied_on().map(|number| (index.packs()[number].id, index.packs()[number].bytes));
    let mut needed = known.chain(blobs.stored_packs());
    let missing = needed.find(|(pack, bytes)| sizes.get(pack) != Some(bytes));
    if let Some((pack, _)) = missing {
        let what = format!("pack {pack:.8} is not there with its right size: run `check`, then `repair`");
        observer.event(Event::Notice(&what));
    }
    Ok(missing.is_none())
}

/// Records that snapshots are present, if they are.
pub(crate) fn record_presence(
    repository: &Repository,
    is_present: bool,
    snapshots: Vec<SnapshotId>,
    observer: &dyn Observer,
) -> contracts::Proof {
    if !is_present {
        return contracts::Proof::Uploaded;
    }
    let proof = contracts::Proof::Present;
    if let Err(error) = repository.save_record(RecordBody::Proof { snapshots, proof }) {
        observer.event(Event::Notice(&format!("the record of this backup could not be kept: {error}")));
    }
    proof
}
