//! Changes what the indexes say of some packs: new index objects first, then the old ones go.
//!
//! Only index objects that have to change are written anew, and small ones while at it. The caller holds the exclusive
//! lock. A crash in between leaves two index objects that list the same packs; readers take a pack that either lists as
//! in use to be in use, and the next rewriting drops the repetition.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use crate::Result;
use crate::limits::INDEX_BLOBS_MAX;
use crate::model::{IndexId, PackId};
use crate::observe::Observer;
use crate::repository::layout::Named;
use crate::repository::{IndexFile, IndexPack, Repository};

/// What the indexes are to say of a pack that they list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is in use.
    InUse,
    /// It is unneeded since this instant.
    Marked(Timestamp),
    /// Nothing.
    Gone,
}

/// What is to change.
#[derive(Debug, Default)]
pub(super) struct IndexChange {
    /// Packs that the indexes list.
    pub(super) fates: HashMap<PackId, Fate>,
    /// Entries that come instead of those above, or of packs that no index lists.
    pub(super) new: IndexFile,
    /// Index objects that cannot be read: they go.
    pub(super) unreadable: HashSet<IndexId>,
    /// The index objects by which all this was decided.
    pub(super) seen: HashSet<IndexId>,
}

/// Index objects that list fewer blobs are small: when more than [`SMALL_FILES_MAX`] of them are there, they become
/// one.
const SMALL_FILE_BLOBS: usize = INDEX_BLOBS_MAX / 5;
const SMALL_FILES_MAX: usize = 8;

impl IndexChange {
    fn is_empty(&self) -> bool {
        self.fates.is_empty()
            && self.new.packs.is_empty()
            && self.new.packs_to_delete.is_empty()
            && self.unreadable.is_empty()
    }
}

/// Carries out a change. When it returns, the new indexes are durable and the old ones are gone.
///
/// A writer that takes no locks may list packs again, because it needs them, after the change was decided. Those stay
/// as it lists them, and are returned.
pub(super) fn rewrite_index(
    repository: &Repository,
    change: &IndexChange,
    observer: &dyn Observer,
) -> Result<HashSet<PackId>> {
    if change.is_empty() {
        return Ok(HashSet::new());
    }
    let mut relisted = listed_lately(repository, &change.seen)?;
    relisted.retain(|pack| change.fates.contains_key(pack));
    let fates = change.fates.iter().filter(|(pack, _)| !relisted.contains(pack));
    let change = &IndexChange {
        fates: fates.map(|(pack, fate)| (*pack, *fate)).collect(),
        new: change.new.clone(),
        unreadable: change.unreadable.clone(),
        seen: HashSet::new(),
    };
    let survey = Survey::make(repository, change, observer)?;
    let mut writer = Writer { repository, file: IndexFile::default(), blobs: 0 };
    for pack in &change.new.packs {
        writer.add(pack.clone(), Side::Use)?;
    }
    for pack in &change.new.packs_to_delete {
        writer.add(pack.clone(), Side::Mark)?;
    }
    let mut written = HashSet::new();
    repository.for_each_index(observer, |id, read| {
        if !survey.rewritten.contains(&id) || change.unreadable.contains(&id) {
            return Ok(());
        }
        let file = read?;
        let uses = file.packs.into_iter().map(|pack| (pack, Side::Use));
        let marks = file.packs_to_delete.into_iter().map(|pack| (pack, Side::Mark));
        for (mut pack, side) in uses.chain(marks) {
            let home = survey.homes.get(&pack.id);
            if home.is_none_or(|home| home.file != id || home.rank != Rank::of(&pack, side)) || !written.insert(pack.id)
            {
                continue;
            }
            let side = match change.fates.get(&pack.id) {
                Some(Fate::Gone) => continue,
                Some(Fate::InUse) => {
                    pack.time = None;
                    Side::Use
                }
                Some(Fate::Marked(time)) => {
                    pack.time = Some(*time);
                    Side::Mark
                }
                None => side,
            };
            writer.add(pack, side)?;
        }
        Ok(())
    })?;
    writer.save()?;
    let store = repository.store();
    store.sync()?;
    store.delete_each(survey.rewritten.iter().chain(&change.unreadable).map(|id| id.key()))?;
    store.sync()?;
    Ok(relisted)
}

/// The packs that index objects beside `seen` list as in use.
pub(super) fn listed_lately(repository: &Repository, seen: &HashSet<IndexId>) -> Result<HashSet<PackId>> {
    let mut packs = HashSet::new();
    for (id, _) in repository.list::<IndexId>()?.into_iter().filter(|(id, _)| !seen.contains(id)) {
        let file: IndexFile = repository.load(id)?;
        packs.extend(file.packs.iter().map(|pack| pack.id));
    }
    Ok(packs)
}

/// In which of an index object's two lists an entry stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Mark,
    Use,
}

/// Which of several entries of one pack counts: one that lists blobs, then one in use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    has_blobs: bool,
    side: Side,
}

impl Rank {
    fn of(pack: &IndexPack, side: Side) -> Self {
        Self { has_blobs: !pack.blobs.is_empty(), side }
    }
}

/// The entry of a pack that counts.
struct Home {
    file: IndexId,
    rank: Rank,
}

/// Which index objects have to be written anew.
struct Survey {
    homes: HashMap<PackId, Home>,
    rewritten: HashSet<IndexId>,
}

impl Survey {
    fn make(repository: &Repository, change: &IndexChange, observer: &dyn Observer) -> Result<Self> {
        let mut survey = Self { homes: HashMap::new(), rewritten: HashSet::new() };
        let mut small = HashSet::new();
        repository.for_each_index(observer, |id, read| {
            if change.unreadable.contains(&id) {
                return Ok(());
            }
            let file = read?;
            let uses = file.packs.iter().map(|pack| (pack, Side::Use));
            let marks = file.packs_to_delete.iter().map(|pack| (pack, Side::Mark));
            let mut blobs = 0;
            for (pack, side) in uses.chain(marks) {
                blobs += pack.blobs.len();
                if survey.meet(id, pack, side) || changes(change, pack, side) {
                    survey.rewritten.insert(id);
                }
            }
            if blobs < SMALL_FILE_BLOBS {
                small.insert(id);
            }
            Ok(())
        })?;
        if small.len() > SMALL_FILES_MAX {
            survey.rewritten.extend(small);
        }
        Ok(survey)
    }

    /// Remembers an entry if it counts more than those before it. Says whether its own index object repeats another.
    fn meet(&mut self, id: IndexId, pack: &IndexPack, side: Side) -> bool {
        let rank = Rank::of(pack, side);
        match self.homes.get_mut(&pack.id) {
            None => {
                self.homes.insert(pack.id, Home { file: id, rank });
                false
            }
            Some(home) if rank > home.rank => {
                self.rewritten.insert(std::mem::replace(home, Home { file: id, rank }).file);
                false
            }
            Some(_) => true,
        }
    }
}

fn changes(change: &IndexChange, pack: &IndexPack, side: Side) -> bool {
    match change.fates.get(&pack.id) {
        None => false,
        Some(Fate::Gone) => true,
        Some(Fate::InUse) => side == Side::Mark,
        Some(Fate::Marked(time)) => side == Side::Use || pack.time != Some(*time),
    }
}

/// Collects entries and saves an index object whenever there are enough.
struct Writer<'a> {
    repository: &'a Repository,
    file: IndexFile,
    blobs: usize,
}

impl Writer<'_> {
    fn add(&mut self, pack: IndexPack, side: Side) -> Result<()> {
        self.blobs += pack.blobs.len();
        match side {
            Side::Use => self.file.packs.push(pack),
            Side::Mark => self.file.packs_to_delete.push(pack),
        }
        if self.blobs >= INDEX_BLOBS_MAX { self.save() } else { Ok(()) }
    }

    fn save(&mut self) -> Result<()> {
        self.blobs = 0;
        let file = std::mem::take(&mut self.file);
        if file.packs.is_empty() && file.packs_to_delete.is_empty() {
            return Ok(());
        }
        self.repository.save_index(&file).map(drop)
    }
}
