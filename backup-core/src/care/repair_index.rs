//! Makes the index say what is there: lists packs that no index lists, drops those that are gone, and saves from
//! damaged packs what can be read of them.
//!
//! Everything that can be read is durable and listed elsewhere before a damaged pack is deleted. What is lost after
//! that is named by the next check; a repair of the snapshots then makes do without it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use bytes::Bytes;

use super::check_objects::{Presence, Presences, fingerprint, follow_each_other, presences, reason};
use super::read_each::{Wanted, read_each};
use super::read_packs::{blobs_of, lists_exactly, open_blob};
use super::repack::{Part, copy, is_of_object};
use super::rewrite_index::{Fate, IndexChange, rewrite_index};
use crate::Result;
use crate::cancel::Cancel;
use crate::model::{IndexId, PackId};
use crate::observe::{Amount, Event, Observer, Phase};
use crate::pack::{PackedBlob, read_header};
use crate::repository::layout::Named;
use crate::repository::{Index, IndexBuilder, IndexFile, IndexPack, Lock, LockMode, Repository};

/// Which packs a repair reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadPacks {
    /// Those that no index lists, and those whose size or entry is wrong. A pack that no index lists may be what a power
    /// failure left, with a sound header and a hole in the middle: it is hashed before it is believed.
    #[default]
    Suspicious,
    /// All: finds what has rotted.
    All,
}

/// What a repair found of a pack that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairedPack {
    /// No index lists it, and its header says what it holds: it is listed.
    Listed,
    /// It is sound, and the index said something else of it: the index is put right.
    Relisted,
    /// It is damaged: so many of its blobs can be read and are written anew, and so many are lost. It is deleted.
    Damaged {
        /// Blobs that can be read.
        intact: u64,
        /// Blobs that cannot.
        lost: u64,
    },
    /// It is not there: it is no longer listed, and so many blobs with it.
    Gone {
        /// Blobs that it held.
        lost: u64,
    },
    /// No index lists it, and its header cannot be read: it stays for a prune to remove.
    Unreadable(String),
}

/// A planned repair of the index. Dropping it changes nothing.
pub struct IndexRepair {
    repository: Repository,
    lock: Lock,
    index: Index,
    packs: BTreeMap<PackId, RepairedPack>,
    unreadable: BTreeMap<IndexId, String>,
    listed: Vec<IndexPack>,
    intact: Vec<(PackId, Vec<PackedBlob>)>,
}

/// What a repair of the index did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexRepairOutcome {
    /// Packs that are listed now, newly or rightly.
    pub listed: u64,
    /// Packs that are no longer listed.
    pub dropped: u64,
    /// Blobs that were saved from damaged packs.
    pub saved_blobs: u64,
    /// Damaged packs that were deleted.
    pub deleted: u64,
    /// Damaged packs of which something that was readable a moment ago could not be read again: they stay.
    pub left: u64,
}

impl IndexRepair {
    /// Finds out what is wrong with the index. Takes the exclusive lock and keeps it.
    pub fn plan(repository: &Repository, read: ReadPacks, cancel: &Cancel, observer: &dyn Observer) -> Result<Self> {
        let lock = repository.lock(LockMode::Exclusive, observer)?;
        lock.confirm(observer)?;
        let mut entries = Entries::default();
        let mut builder = IndexBuilder::default();
        let mut unreadable = BTreeMap::new();
        repository.for_each_index(observer, |id, read| {
            match read {
                Ok(file) => {
                    entries.look_at(&file);
                    builder.add(id, &file);
                }
                Err(error) => {
                    unreadable.insert(id, reason(error)?);
                }
            }
            Ok(())
        })?;
        let index = builder.finish();
        let mut repair = Self {
            repository: repository.clone(),
            lock,
            index,
            packs: BTreeMap::new(),
            unreadable,
            listed: Vec::new(),
            intact: Vec::new(),
        };
        let presences = presences(repository, &repair.index)?;
        repair.look_at_listed(&presences, &entries.suspicious, read, cancel, observer)?;
        repair.look_at_unlisted(&presences, cancel, observer)?;
        Ok(repair)
    }

    /// The packs that are not as they must be, and what happens to each.
    pub fn packs(&self) -> &BTreeMap<PackId, RepairedPack> {
        &self.packs
    }

    /// The index objects that cannot be read, and why. They are removed: what they listed is found in the packs.
    pub fn unreadable(&self) -> &BTreeMap<IndexId, String> {
        &self.unreadable
    }

    /// Whether nothing would be changed.
    pub fn is_empty(&self) -> bool {
        let is_left = |pack: &RepairedPack| matches!(pack, RepairedPack::Unreadable(_));
        self.packs.values().all(is_left) && self.unreadable.is_empty()
    }

    /// Repairs the index.
    pub fn apply(self, cancel: &Cancel, observer: &dyn Observer) -> Result<IndexRepairOutcome> {
        let Self { repository, lock, index, packs, unreadable, listed, intact } = self;
        lock.check()?;
        let saved_blobs = intact.iter().map(|(_, blobs)| blobs.len() as u64).sum();
        let parts = intact.into_iter().map(|(pack, blobs)| Part { pack, blobs }).collect();
        let left: HashSet<PackId> =
            copy(&repository, parts, None, cancel, observer)?.into_iter().map(|part| part.pack).collect();

        let mut outcome = IndexRepairOutcome { saved_blobs, left: left.len() as u64, ..Default::default() };
        let mut change = IndexChange {
            unreadable: unreadable.into_keys().collect(),
            new: IndexFile { packs: listed, ..IndexFile::default() },
            // Under the exclusive lock nobody lists anything but this repair itself.
            seen: repository.list::<IndexId>()?.into_iter().map(|(id, _)| id).collect(),
            ..IndexChange::default()
        };
        let is_listed: HashSet<PackId> = index.packs().iter().map(|info| info.id).collect();
        let mut deletions = Vec::new();
        for (id, pack) in packs {
            match pack {
                RepairedPack::Unreadable(_) => continue,
                RepairedPack::Listed | RepairedPack::Relisted => outcome.listed += 1,
                RepairedPack::Damaged { .. } if left.contains(&id) => continue,
                RepairedPack::Damaged { .. } => {
                    deletions.push(id);
                    outcome.dropped += u64::from(is_listed.contains(&id));
                }
                RepairedPack::Gone { .. } => outcome.dropped += 1,
            }
            if is_listed.contains(&id) {
                change.fates.insert(id, Fate::Gone);
            }
        }
        lock.check()?;
        cancel.check()?;
        rewrite_index(&repository, &change, observer)?;
        outcome.deleted = deletions.len() as u64;
        repository.store().delete_each(deletions.iter().map(|id| id.key()))?;
        repository.store().sync()?;
        Ok(outcome)
    }

    /// Packs that the index lists: gone, suspicious, or all of them.
    fn look_at_listed(
        &mut self,
        presences: &Presences,
        suspicious: &HashSet<PackId>,
        read: ReadPacks,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<()> {
        let mut wanted = Vec::new();
        let mut numbers = Vec::new();
        for (number, (info, presence)) in (0_u32..).zip(self.index.packs().iter().zip(&presences.of_packs)) {
            let bytes = match presence {
                Presence::Missing => {
                    self.packs.insert(info.id, RepairedPack::Gone { lost: info.blobs.into() });
                    continue;
                }
                Presence::OtherSize(bytes) => *bytes,
                Presence::Whole if read == ReadPacks::All || suspicious.contains(&info.id) => info.bytes,
                Presence::Whole => continue,
            };
            wanted.push(Wanted { pack: info.id, range: None, bytes });
            numbers.push(number);
        }
        let entry_blobs = |number: u32| blobs_of(&self.index, number).collect::<Vec<_>>();
        let work = |at: usize, read: Result<Bytes>| {
            let pack = wanted[at].pack;
            let entry = || entry_blobs(numbers[at]);
            look_at_whole(&self.repository, pack, read, entry)
        };
        let mut found = Vec::new();
        read_phase(observer, &wanted);
        read_each(self.repository.store(), &wanted, cancel, work, |at, state: Result<PackContent>| {
            observer.event(Event::Progress(Amount { items: 1, bytes: wanted[at].bytes }));
            found.push((wanted[at].pack, numbers[at], state?));
            Ok(())
        })?;
        for (pack, number, content) in found {
            match content {
                PackContent::Sound(blobs) => {
                    let is_right = lists_exactly(&self.index, number, &blobs);
                    if suspicious.contains(&pack) || !is_right {
                        self.packs.insert(pack, RepairedPack::Relisted);
                        self.listed.push(IndexPack::new(pack, &blobs));
                    }
                }
                PackContent::Damaged { intact, lost } => self.add_damaged(pack, intact, lost),
            }
        }
        Ok(())
    }

    /// Packs that no index lists.
    fn look_at_unlisted(&mut self, presences: &Presences, cancel: &Cancel, observer: &dyn Observer) -> Result<()> {
        let wanted: Vec<_> =
            presences.unlisted.iter().map(|(pack, bytes)| Wanted { pack: *pack, range: None, bytes: *bytes }).collect();
        let work = |at: usize, read: Result<Bytes>| look_at_unlisted(&self.repository, wanted[at].pack, read);
        let mut found = Vec::new();
        read_phase(observer, &wanted);
        read_each(self.repository.store(), &wanted, cancel, work, |at, content| {
            observer.event(Event::Progress(Amount { items: 1, bytes: wanted[at].bytes }));
            found.push((wanted[at].pack, content?));
            Ok(())
        })?;
        for (pack, content) in found {
            match content {
                Ok(PackContent::Sound(blobs)) => {
                    self.packs.insert(pack, RepairedPack::Listed);
                    self.listed.push(IndexPack::new(pack, &blobs));
                }
                Ok(PackContent::Damaged { intact, lost }) => self.add_damaged(pack, intact, lost),
                Err(what) => {
                    self.packs.insert(pack, RepairedPack::Unreadable(what));
                }
            }
        }
        Ok(())
    }

    fn add_damaged(&mut self, pack: PackId, intact: Vec<PackedBlob>, lost: u64) {
        self.packs.insert(pack, RepairedPack::Damaged { intact: intact.len() as u64, lost });
        self.intact.push((pack, intact));
    }
}

impl fmt::Debug for IndexRepair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { repository, packs, unreadable, .. } = self;
        write!(f, "IndexRepair({repository:?}, {packs:?}, {unreadable:?})")
    }
}

fn read_phase(observer: &dyn Observer, wanted: &[Wanted]) {
    let total = Amount { items: wanted.len() as u64, bytes: wanted.iter().map(|part| part.bytes).sum() };
    observer.event(Event::Phase { phase: Phase::ReadPacks, total: Some(total) });
}

/// What is in a pack.
enum PackContent {
    Sound(Vec<PackedBlob>),
    Damaged { intact: Vec<PackedBlob>, lost: u64 },
}

/// Opens every blob of a pack: those of its header, or of its entry in the index where the header cannot be read.
fn look_at_whole(
    repository: &Repository,
    pack: PackId,
    read: Result<Bytes>,
    entry: impl Fn() -> Vec<PackedBlob>,
) -> Result<PackContent> {
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) if is_of_object(&error) => {
            return Ok(PackContent::Damaged { intact: Vec::new(), lost: entry().len() as u64 });
        }
        Err(error) => return Err(error),
    };
    let header = read_header(repository.master_key(), &bytes, bytes.len() as u64);
    let is_whole = header.is_ok() && PackId::of(&bytes) == pack;
    let mut blobs = header.unwrap_or_else(|_| entry());
    let total = blobs.len();
    let mut plain = Vec::new();
    blobs.retain(|blob| open_blob(repository, pack, 0, *blob, &bytes, &mut plain).is_ok());
    if is_whole && blobs.len() == total {
        Ok(PackContent::Sound(blobs))
    } else {
        Ok(PackContent::Damaged { lost: (total - blobs.len()) as u64, intact: blobs })
    }
}

/// A pack that nothing is known of but its name: sound if that is its hash and the header reads, because what was
/// sealed was proven then. `Err` when the header does not read.
fn look_at_unlisted(
    repository: &Repository,
    pack: PackId,
    read: Result<Bytes>,
) -> Result<std::result::Result<PackContent, String>> {
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) if is_of_object(&error) => return Ok(Err(error.to_string())),
        Err(error) => return Err(error),
    };
    match read_header(repository.master_key(), &bytes, bytes.len() as u64) {
        Err(error) => Ok(Err(error.to_string())),
        Ok(blobs) if PackId::of(&bytes) == pack => Ok(Ok(PackContent::Sound(blobs))),
        Ok(blobs) => look_at_whole(repository, pack, Ok(bytes), || blobs.clone()).map(Ok),
    }
}

/// Which packs' entries cannot be right.
#[derive(Default)]
struct Entries {
    seen: HashMap<PackId, u64>,
    suspicious: HashSet<PackId>,
}

impl Entries {
    fn look_at(&mut self, file: &IndexFile) {
        for pack in file.packs.iter().chain(&file.packs_to_delete) {
            let mut blobs: Vec<_> = pack.packed_blobs().collect();
            if blobs.is_empty() && pack.size.is_some() {
                continue;
            }
            blobs.sort_unstable_by_key(|blob| blob.offset);
            let print = fingerprint(&blobs);
            let differs = self.seen.insert(pack.id, print).is_some_and(|other| other != print);
            if differs || follow_each_other(&blobs).is_err() {
                self.suspicious.insert(pack.id);
            }
        }
    }
}
