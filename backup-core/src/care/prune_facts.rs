//! What a prune decides by: for each pack, how much of it snapshots need.

use std::collections::HashSet;

use jiff::Timestamp;

use super::bitmap::Bitmap;
use super::check_objects::{Presence, presences};
use super::used::{Absent, Used};
use crate::cancel::Cancel;
use crate::model::{BlobKind, PackId, SnapshotId};
use crate::observe::{Event, Observer, Phase};
use crate::repository::{BlobLocation, Index, Repository};
use crate::{Error, Result};

/// What is known of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackFacts {
    /// Its name.
    pub id: PackId,
    /// What the indexes say of it.
    pub state: PackState,
    /// Its size in the store; `None` when it is not there.
    pub stored_bytes: Option<u64>,
    /// What all its blobs are; `None` when it holds both kinds, or nobody knows.
    pub kind: Option<BlobKind>,
    /// How many blobs it holds.
    pub blobs: u32,
    /// How many of them are needed from this pack. A blob that lies in several packs is needed from one of them.
    pub needed_blobs: u32,
    /// What the needed ones take.
    pub needed_bytes: u64,
    /// Whether a needed tree is stored plain.
    pub has_plain_trees: bool,
    /// Whether a needed piece of data is stored plain.
    pub has_plain_data: bool,
}

/// What the indexes say of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackState {
    /// It is in use.
    InUse,
    /// It was found unneeded at this instant.
    Marked(Timestamp),
    /// No index lists it.
    Unlisted,
}

/// What a prune decides by, and what it needs to carry that out.
#[derive(Debug)]
pub struct PruneFacts {
    /// The packs: those of the index in its order, then those that no index lists.
    pub packs: Vec<PackFacts>,
    /// The version of the repository's format.
    pub version: u64,
    pub(super) index: Index,
    pub(super) used: Used,
    pub(super) needed: Needed,
    /// The snapshots that were looked at.
    pub(super) snapshots: HashSet<SnapshotId>,
}

/// The copies that are needed, one of each needed blob, by their positions in the index.
#[derive(Debug)]
pub(super) struct Needed {
    data: Bitmap,
    trees: Bitmap,
}

impl Needed {
    /// The needed copies of a kind.
    pub(super) fn of(&self, kind: BlobKind) -> &Bitmap {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    /// All needed copies.
    pub(super) fn places<'a>(&'a self, index: &'a Index) -> impl Iterator<Item = BlobLocation> + 'a {
        [BlobKind::Data, BlobKind::Tree]
            .into_iter()
            .flat_map(move |kind| self.of(kind).iter().filter_map(move |position| index.at(kind, position)))
    }
}

impl PruneFacts {
    /// Gathers the facts. The caller holds a lock.
    ///
    /// Fails when a snapshot, an index or a tree cannot be read, or a blob that a snapshot needs is nowhere whole: what
    /// is needed is then not known, and nothing may be removed.
    pub(super) fn gather(repository: &Repository, cancel: &Cancel, observer: &dyn Observer) -> Result<Self> {
        // Snapshots before indexes: what a snapshot needs was listed before it was written.
        let snapshots = repository.snapshots()?;
        let index = repository.load_index(observer)?;
        observer.event(Event::Phase { phase: Phase::FindUsed, total: None });
        let used = Used::new(&index);
        let roots = snapshots.iter().map(|(_, snapshot)| snapshot.tree);
        refuse(&used.add(repository, &index, roots, &|_, _, _| {}, cancel, observer)?)?;

        let presences = presences(repository, &index)?;
        let needed = choose(&index, &used, &presences.of_packs)?;
        let mut packs: Vec<_> = (index.packs().iter().zip(&presences.of_packs))
            .map(|(info, presence)| PackFacts {
                id: info.id,
                state: info.marked.map_or(PackState::InUse, PackState::Marked),
                stored_bytes: match presence {
                    Presence::Whole => Some(info.bytes),
                    Presence::OtherSize(bytes) => Some(*bytes),
                    Presence::Missing => None,
                },
                kind: None,
                blobs: info.blobs,
                needed_blobs: 0,
                needed_bytes: 0,
                has_plain_trees: false,
                has_plain_data: false,
            })
            .collect();
        add_kinds(&mut packs, &index);
        for place in needed.places(&index) {
            let pack = &mut packs[place.pack_number as usize];
            pack.needed_blobs += 1;
            pack.needed_bytes += u64::from(place.blob.length);
            if place.blob.plain_bytes.is_none() {
                match place.blob.kind {
                    BlobKind::Tree => pack.has_plain_trees = true,
                    BlobKind::Data => pack.has_plain_data = true,
                }
            }
        }
        packs.extend(presences.unlisted.into_iter().map(|(id, bytes)| PackFacts {
            id,
            state: PackState::Unlisted,
            stored_bytes: Some(bytes),
            kind: None,
            blobs: 0,
            needed_blobs: 0,
            needed_bytes: 0,
            has_plain_trees: false,
            has_plain_data: false,
        }));
        let snapshots = snapshots.into_iter().map(|(id, _)| id).collect();
        Ok(Self { packs, version: repository.config().version, index, used, needed, snapshots })
    }
}

/// Fails if something that snapshots need cannot be had.
pub(super) fn refuse(absent: &Absent) -> Result<()> {
    let hint = "nothing was removed; run `check` to see what is affected, then `repair index`";
    if let Some((tree, what)) = absent.unreadable.first_key_value() {
        return Err(Error::damaged(format!("tree {tree}"), what.clone()).with_hint(hint));
    }
    if let Some((kind, id)) = absent.unlisted.first() {
        let count = absent.unlisted.len();
        let what = format!("{count} blobs that snapshots need are not in it, such as {kind} blob {id}");
        return Err(Error::damaged("index", what).with_hint(hint));
    }
    Ok(())
}

/// Chooses one copy of each needed blob: in a pack that is whole; rather in one that is not marked; rather where more
/// lies that is needed anyway, so that the other copies' packs can go.
fn choose(index: &Index, used: &Used, presences: &[Presence]) -> Result<Needed> {
    let kinds = [BlobKind::Data, BlobKind::Tree];
    let copies = |kind: BlobKind, first: usize| {
        let id = index.at(kind, first).map(|place| place.blob.id);
        (first..)
            .map_while(move |position| Some((position, index.at(kind, position)?)))
            .take_while(move |(_, place)| Some(place.blob.id) == id)
            .filter(|(_, place)| presences[place.pack_number as usize] == Presence::Whole)
    };
    let mut sole_bytes = vec![0_u64; presences.len()];
    for kind in kinds {
        for first in used.of(kind).iter() {
            let mut copies = copies(kind, first);
            if let (Some((_, place)), None) = (copies.next(), copies.next()) {
                sole_bytes[place.pack_number as usize] += u64::from(place.blob.length);
            }
        }
    }
    let needed = Needed { data: Bitmap::new(index.len(BlobKind::Data)), trees: Bitmap::new(index.len(BlobKind::Tree)) };
    for kind in kinds {
        for first in used.of(kind).iter() {
            let best = copies(kind, first).max_by_key(|(_, place)| {
                let number = place.pack_number as usize;
                (index.packs()[number].marked.is_none(), sole_bytes[number], std::cmp::Reverse(number))
            });
            match (best, index.at(kind, first)) {
                (Some((position, _)), _) => {
                    needed.of(kind).insert(position);
                }
                (None, Some(place)) => {
                    let what = "a snapshot needs it, and it is missing or has a wrong size";
                    let hint =
                        "nothing was removed; run `check --read-data` to see what is affected, then `repair index`";
                    return Err(Error::damaged(format!("pack {}", place.pack), what).with_hint(hint));
                }
                (None, None) => {}
            }
        }
    }
    Ok(needed)
}

/// Says for each pack what all its blobs are.
fn add_kinds(packs: &mut [PackFacts], index: &Index) {
    let mut has = vec![[false; 2]; packs.len()];
    for (at, kind) in [BlobKind::Data, BlobKind::Tree].into_iter().enumerate() {
        for place in index.blobs(kind) {
            has[place.pack_number as usize][at] = true;
        }
    }
    for (pack, has) in packs.iter_mut().zip(has) {
        pack.kind = match has {
            [true, false] => Some(BlobKind::Data),
            [false, true] => Some(BlobKind::Tree),
            _ => None,
        };
    }
}
