//! Is everything there that one snapshot needs? The same question as a check's, asked of one snapshot.

use std::collections::BTreeSet;

use super::check_objects::{Presence, presences};
use super::used::{Absent, Used};
use crate::Result;
use crate::cancel::Cancel;
use crate::model::{BlobId, BlobKind};
use crate::observe::Observer;
use crate::repository::layout::Named as _;
use crate::repository::{Index, Repository};

/// Of what is missing, so many things are named.
const NAMED_MAX: usize = 10;

/// What one snapshot needs, and what of it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotPresence {
    /// Packs that hold what it needs and are there with their size.
    pub packs: u64,
    /// What its blobs take in them, in bytes.
    pub stored_bytes: u64,
    /// Blobs that it needs and that no pack holds that is there.
    pub absent: u64,
    /// What is not there, by name: packs, and blobs that no index lists. The first few.
    pub absent_names: Vec<String>,
    /// Folders of it that are there and cannot be read, with the reason. The first few.
    pub unreadable: Vec<String>,
}

impl SnapshotPresence {
    /// Whether all of it is there, and its folders can be read.
    pub fn is_whole(&self) -> bool {
        self.absent == 0 && self.unreadable.is_empty()
    }
}

/// Looks which packs the snapshot with the root `tree` needs, by reading all its folders, and whether the store lists
/// them with their sizes. Reads no file's content.
pub fn snapshot_presence(
    repository: &Repository,
    index: &Index,
    tree: BlobId,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<SnapshotPresence> {
    let of_packs = presences(repository, index)?.of_packs;
    let used = Used::new(index);
    let Absent { unlisted, unreadable } = used.add(repository, index, [tree], &|_, _, _| {}, cancel, observer)?;
    let mut packs = BTreeSet::new();
    let mut missing = BTreeSet::new();
    let mut found = SnapshotPresence { absent: unlisted.len() as u64, ..SnapshotPresence::default() };
    for kind in [BlobKind::Data, BlobKind::Tree] {
        for place in used.of(kind).iter().filter_map(|position| index.at(kind, position)) {
            let is_whole = |number: u32| of_packs.get(number as usize) == Some(&Presence::Whole);
            match index.find_all(kind, &place.blob.id).find(|place| is_whole(place.pack_number)) {
                Some(place) => {
                    packs.insert(place.pack_number);
                    found.stored_bytes += u64::from(place.blob.length);
                }
                None => {
                    found.absent += 1;
                    let what = match of_packs.get(place.pack_number as usize) {
                        Some(Presence::OtherSize(bytes)) => format!("{} has {bytes} bytes", place.pack.key()),
                        _ => format!("{} is missing", place.pack.key()),
                    };
                    missing.insert(what);
                }
            }
        }
    }
    found.packs = packs.len() as u64;
    let unlisted = unlisted.into_iter().map(|(kind, id)| format!("{kind} blob {id} is in no index"));
    found.absent_names = missing.into_iter().chain(unlisted).take(NAMED_MAX).collect();
    // Of a folder whose pack is missing, that has been said.
    let is_there = |tree: &BlobId| {
        index
            .find_all(BlobKind::Tree, tree)
            .any(|place| of_packs.get(place.pack_number as usize) == Some(&Presence::Whole))
    };
    let rotten = unreadable.into_iter().filter(|(tree, _)| is_there(tree));
    found.unreadable = rotten.map(|(tree, why)| format!("tree {tree}: {why}")).take(NAMED_MAX).collect();
    Ok(found)
}
