//! Carries a prune's plan out: new packs → new index → old index goes → packs go, each durable before the next.

use std::collections::{HashMap, HashSet};

use super::check_objects::{Presence, presences};
use super::prune::{Prune, PruneOutcome};
use super::prune_facts::{PackState, PruneFacts, refuse};
use super::prune_plan::{Action, PruneMode};
use super::repack::{NotCopied, repack};
use super::rewrite_index::{Fate, IndexChange, listed_lately, rewrite_index};
use super::used::Used;
use crate::cancel::Cancel;
use crate::limits::PACK_HEADER_BYTES_MAX;
use crate::model::{BlobKind, IndexId, PackId, SnapshotId};
use crate::observe::{Amount, Event, Observer, Phase};
use crate::pack::{header_span, read_header};
use crate::repository::layout::Named;
use crate::repository::{BlobLocation, Index, IndexPack, LockMode, Repository};
use crate::{Error, ErrorKind, Result};

pub(super) fn apply(prune: Prune, cancel: &Cancel, observer: &dyn Observer) -> Result<PruneOutcome> {
    let Prune { repository, lock, facts, plan } = prune;
    if plan.is_empty() {
        return Ok(PruneOutcome::default());
    }
    lock.confirm(observer)?;
    let not_copied = repack(&repository, &facts, &plan, cancel, observer)?;
    cancel.check()?;

    let mode = plan.options.mode;
    let lock = match mode {
        PruneMode::Instant => lock,
        PruneMode::TwoPhase => {
            // A lock cannot be raised: for the holders of two of them each would be in the other's way.
            drop(lock);
            repository.lock(LockMode::Exclusive, observer)?
        }
    };
    lock.confirm(observer)?;
    let mut verdicts = Verdicts { actions: plan.packs.iter().map(|pack| (pack.id, pack.action)).collect() };
    let index = repository.load_index(observer)?;
    let spared = verdicts.spare_what_is_needed(&repository, &index, &facts, cancel, observer)?;

    let mut outcome = PruneOutcome { spared, ..PruneOutcome::default() };
    let mut change = IndexChange { seen: index.files().iter().copied().collect(), ..IndexChange::default() };
    drop(index);
    let mut deletions = Vec::new();
    for pack in &plan.packs {
        let Some(verdict) = verdicts.get(pack.id) else { continue };
        let is_listed = pack.state != PackState::Unlisted;
        match verdict {
            Action::Keep | Action::Wait(_) => {}
            Action::Recover => {
                change.fates.insert(pack.id, Fate::InUse);
                outcome.recovered += 1;
            }
            Action::Mark | Action::Repack if mode == PruneMode::TwoPhase => {
                if is_listed {
                    change.fates.insert(pack.id, Fate::Marked(plan.now));
                } else {
                    let mut mark = unlisted_mark(&repository, pack.id, pack.bytes);
                    mark.time = Some(plan.now);
                    change.new.packs_to_delete.push(mark);
                }
                outcome.marked += 1;
                outcome.repacked += u64::from(verdict == Action::Repack);
            }
            Action::Mark | Action::Repack | Action::Delete => {
                if is_listed {
                    change.fates.insert(pack.id, Fate::Gone);
                }
                deletions.push((pack.id, pack.bytes));
                outcome.repacked += u64::from(verdict == Action::Repack);
            }
            Action::Drop => {
                change.fates.insert(pack.id, Fate::Gone);
            }
        }
    }
    outcome.damaged = not_copied.into_iter().map(|NotCopied { pack, what }| (pack, what)).collect();
    lock.check()?;
    cancel.check()?;
    let relisted = rewrite_index(&repository, &change, observer)?;
    outcome.spared += relisted.len() as u64;
    deletions.retain(|(id, _)| !relisted.contains(id));
    if deletions.is_empty() {
        return Ok(outcome);
    }

    // Nobody who reads the index now can find these packs. Others may come back; only who would list packs that no
    // index lists, a repair, has to stay away.
    let lock = match mode {
        PruneMode::Instant => lock,
        PruneMode::TwoPhase => {
            let indexes = repository.list::<IndexId>()?.into_iter().map(|(id, _)| id).collect();
            drop(lock);
            match repository.lock(LockMode::Shared, observer) {
                Ok(lock) if lock.confirm(observer).is_ok() && is_only_added_to(&repository, &indexes, &deletions)? => {
                    lock
                }
                Ok(_) | Err(_) => {
                    outcome.left_for_next = deletions.len() as u64;
                    return Ok(outcome);
                }
            }
        }
    };
    let total = Amount { items: deletions.len() as u64, bytes: deletions.iter().map(|(_, bytes)| bytes).sum() };
    observer.event(Event::Phase { phase: Phase::Delete, total: Some(total) });
    lock.check()?;
    repository.store().delete_each(deletions.iter().map(|(id, bytes)| {
        observer.event(Event::Progress(Amount { items: 1, bytes: *bytes }));
        id.key()
    }))?;
    repository.store().sync()?;
    outcome.deleted = total.items;
    outcome.deleted_bytes = total.bytes;
    Ok(outcome)
}

/// Whether the indexes of before are all there, and those that came lately list none of the packs: nobody but backups
/// was there in between.
fn is_only_added_to(repository: &Repository, before: &HashSet<IndexId>, packs: &[(PackId, u64)]) -> Result<bool> {
    let now: HashSet<IndexId> = repository.list::<IndexId>()?.into_iter().map(|(id, _)| id).collect();
    let listed = listed_lately(repository, before)?;
    Ok(before.is_subset(&now) && !packs.iter().any(|(id, _)| listed.contains(id)))
}

/// What is to happen to each pack, after it was looked at again.
struct Verdicts {
    actions: HashMap<PackId, Action>,
}

impl Verdicts {
    fn get(&self, pack: PackId) -> Option<Action> {
        self.actions.get(&pack).copied()
    }

    /// Whether a pack will no longer be one that snapshots may need.
    fn condemns(&self, index: &Index, number: u32) -> bool {
        let info = &index.packs()[number as usize];
        match self.get(info.id) {
            Some(Action::Recover) => false,
            Some(Action::Repack | Action::Mark | Action::Wait(_) | Action::Delete | Action::Drop) => true,
            // One that somebody else has marked meanwhile is not to be relied on.
            Some(Action::Keep) | None => info.marked.is_some(),
        }
    }

    /// Looks at what was added since the plan was made, and makes sure that everything that any snapshot needs has a
    /// place in a pack that stays: where it has none, the pack that holds it is spared. Returns how many were.
    ///
    /// The exclusive lock is held. Fails, with nothing changed, if something cannot be given a place.
    fn spare_what_is_needed(
        &mut self,
        repository: &Repository,
        index: &Index,
        facts: &PruneFacts,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<u64> {
        let mut added = repository.list::<SnapshotId>()?;
        added.retain(|(id, _)| !facts.snapshots.contains(id));
        let roots = added
            .iter()
            .map(|(id, _)| Ok(repository.load::<_, crate::model::Snapshot>(*id)?.tree))
            .collect::<Result<Vec<_>>>()?;
        let used = Used::new(index);
        // What was needed before is needed still; its trees are not read again.
        for kind in [BlobKind::Data, BlobKind::Tree] {
            for place in facts.used.of(kind).iter().filter_map(|position| facts.index.at(kind, position)) {
                let position = index.position(kind, &place.blob.id).ok_or_else(|| {
                    Error::new(ErrorKind::Missing, format!("{kind} blob {} in the index", place.blob.id))
                })?;
                used.of(kind).insert(position);
            }
        }
        refuse(&used.add(repository, index, roots, &|_, _, _| {}, cancel, observer)?)?;

        // What the indexes say of a pack has changed since: a backup has listed the packs that it had stored, or taken
        // back marked ones that it relies on, or another prune was here. The next prune looks at it afresh.
        let planned: HashMap<PackId, PackState> = facts.packs.iter().map(|pack| (pack.id, pack.state)).collect();
        for info in index.packs() {
            let is_as_planned = match planned.get(&info.id) {
                Some(PackState::InUse) => info.marked.is_none(),
                Some(PackState::Marked(since)) => info.marked == Some(*since),
                Some(PackState::Unlisted) => false,
                None => true,
            };
            if !is_as_planned {
                self.actions.insert(info.id, Action::Keep);
            }
        }
        let present = presences(repository, index)?.of_packs;
        let mut spared = HashSet::new();
        for kind in [BlobKind::Data, BlobKind::Tree] {
            for place in used.of(kind).iter().filter_map(|position| index.at(kind, position)) {
                let whole_places = || {
                    let is_whole = |place: &BlobLocation| present[place.pack_number as usize] == Presence::Whole;
                    index.find_all(kind, &place.blob.id).filter(is_whole)
                };
                if whole_places().any(|place| !self.condemns(index, place.pack_number)) {
                    continue;
                }
                let Some(rescue) = whole_places().next() else {
                    let hint = "nothing was removed; run `check` to see what is affected";
                    return Err(Error::damaged(format!("{kind} blob {}", place.blob.id), "no whole pack holds it")
                        .with_hint(hint));
                };
                let is_marked = index.packs()[rescue.pack_number as usize].marked.is_some();
                self.actions.insert(rescue.pack, if is_marked { Action::Recover } else { Action::Keep });
                spared.insert(rescue.pack);
            }
        }
        Ok(spared.len() as u64)
    }
}

/// The mark of a pack that no index lists: with its blobs if its header can be read, so that a backup or a repair that
/// finds a use for it can take it back.
fn unlisted_mark(repository: &Repository, id: PackId, bytes: u64) -> IndexPack {
    let tail = |count: u64| repository.store().get(&id.key(), Some(bytes.saturating_sub(count)..bytes)).ok();
    let blobs = tail(4)
        .and_then(|last| header_span(*last.last_chunk()?, bytes).ok())
        .filter(|span| *span <= PACK_HEADER_BYTES_MAX as u64 + 4)
        .and_then(tail)
        .and_then(|tail| read_header(repository.master_key(), &tail, bytes).ok());
    match blobs {
        Some(blobs) => IndexPack::new(id, &blobs),
        None => IndexPack { size: Some(bytes), ..IndexPack::new(id, &[]) },
    }
}
