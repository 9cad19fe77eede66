//! A planned copy, done: batch by batch, data before the snapshots that need it.

use std::collections::{HashMap, HashSet};

use super::copy::{CopyFate, CopyOutcome, PlannedCopy, SnapshotCopy};
use super::copy_blobs::{Carried, Transfer};
use super::copy_plan::{Copies, KINDS, affected};
use crate::Result;
use crate::cancel::Cancel;
use crate::contracts;
use crate::model::{Snapshot, SnapshotId};
use crate::observe::{Amount, Event, Observer, Phase};
use crate::pipeline::{BlobStore, Writing, is_present, list_anew_what_was_marked, list_packs, record_presence};
use crate::repository::Repository;
use crate::repository::layout::Named;

/// Copies what is planned.
pub(super) fn apply(copy: SnapshotCopy, cancel: &Cancel, observer: &dyn Observer) -> Result<CopyOutcome> {
    let SnapshotCopy { from, to, options, from_lock, to_lock, from_index, to_index, used, batches, seen, plan } = copy;
    let blobs = BlobStore::new(&to, &to_index, &to_lock, Writing::Real, observer);
    for kind in KINDS {
        for place in used.of(kind).iter().filter_map(|position| from_index.at(kind, position)) {
            // What is there already must still be there when the snapshots are written.
            let _ = blobs.rely_on(kind, &place.blob.id);
        }
    }
    drop(used);
    let total = Amount { items: plan.blobs, bytes: plan.bytes };
    observer.event(Event::Phase { phase: Phase::Copy, total: Some(total) });
    let transfer = Transfer::new(&from, &from_index, &to, &blobs, &options);
    let mut seen: HashSet<SnapshotId> = seen.into_iter().collect();
    let mut fates = Fates::of(plan.snapshots);
    let (mut carried, mut copied, mut written_meanwhile) = (Carried::default(), Vec::new(), Vec::new());
    for (number, batch) in batches.iter().enumerate() {
        let lost = match transfer.copy(batch, &mut carried, cancel, observer) {
            Ok(lost) => lost,
            Err(error) => {
                // What is over there already is listed, so that the next copy does not send it again. If that fails
                // too, it costs no more than that.
                let _ = blobs.flush();
                return Err(error);
            }
        };
        if !lost.is_empty() {
            let ahead: Vec<_> = batches[number..].iter().flat_map(|batch| batch.snapshots.iter().cloned()).collect();
            fates.give_up(&affected(&from, &from_index, &ahead, &lost, cancel)?);
        }
        blobs.flush()?;
        cancel.check()?;
        from_lock.check()?;
        to_lock.confirm(observer)?;
        list_anew_what_was_marked(&to, &to_index, &blobs, &to_lock, observer)?;
        written_meanwhile.extend(new_snapshots(&to, &mut seen)?);
        let others = Copies::of(&written_meanwhile);
        for (id, snapshot) in &batch.snapshots {
            if !fates.is_to_copy(*id) {
                continue;
            }
            let fate = match others.find(*id, snapshot) {
                Some(there) => CopyFate::There(there),
                None => {
                    let copy = to.save(&copy_of(*id, snapshot))?;
                    observer.event(Event::Copied { snapshot: *id, copy });
                    seen.insert(copy);
                    copied.push(copy);
                    CopyFate::Copied(copy)
                }
            };
            fates.set(*id, fate);
        }
        to.store().sync()?;
    }
    let reached = match copied.is_empty() {
        true => contracts::Proof::Uploaded,
        false => {
            let is_present = is_present(list_packs(&to), &to_index, &blobs, observer)?;
            record_presence(&to, is_present, copied, observer)
        }
    };
    Ok(CopyOutcome {
        snapshots: fates.snapshots,
        blobs: carried.blobs,
        bytes_read: carried.bytes_read,
        bytes_stored: carried.bytes_stored,
        whole_packs: carried.whole_packs,
        reached,
    })
}

/// A snapshot as it is written into the other repository, as restic does it: it keeps its origin, and loses its parent,
/// whose id means nothing there.
fn copy_of(id: SnapshotId, snapshot: &Snapshot) -> Snapshot {
    Snapshot { parent: None, original: snapshot.original.or(Some(id)), ..snapshot.clone() }
}

/// The snapshots that others have written since we looked last: two copies may run at once.
fn new_snapshots(to: &Repository, seen: &mut HashSet<SnapshotId>) -> Result<Vec<(SnapshotId, Snapshot)>> {
    let new: Vec<SnapshotId> =
        to.list::<SnapshotId>()?.into_iter().map(|(id, _)| id).filter(|id| seen.insert(*id)).collect();
    let mut read = Vec::with_capacity(new.len());
    to.store().get_each(new.iter().map(|id| id.key()), |key, stored| {
        // One that vanished again or cannot be read is no copy to rely on.
        if let Some(id) = SnapshotId::from_key(&key)
            && let Ok(snapshot) = stored.and_then(|stored| to.open_object(id, &stored))
        {
            read.push((id, snapshot));
        }
        Ok(())
    })?;
    Ok(read)
}

/// What becomes of each snapshot.
struct Fates {
    snapshots: Vec<PlannedCopy>,
    places: HashMap<SnapshotId, usize>,
}

impl Fates {
    fn of(snapshots: Vec<PlannedCopy>) -> Self {
        let places = snapshots.iter().enumerate().map(|(place, snapshot)| (snapshot.id, place)).collect();
        Self { snapshots, places }
    }

    fn is_to_copy(&self, id: SnapshotId) -> bool {
        self.places.get(&id).is_some_and(|place| self.snapshots[*place].fate == CopyFate::ToCopy)
    }

    fn set(&mut self, id: SnapshotId, fate: CopyFate) {
        if let Some(place) = self.places.get(&id) {
            self.snapshots[*place].fate = fate;
        }
    }

    fn give_up(&mut self, why: &HashMap<SnapshotId, String>) {
        for (id, why) in why {
            self.set(*id, CopyFate::Impossible(why.clone()));
        }
    }
}
