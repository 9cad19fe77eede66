//! Removes what no snapshot needs.
//!
//! By default in two phases, so that it never stops a backup on another machine: packs that nothing needs are marked in
//! the index, and deleted by a prune that finds them unneeded again at least a day later. A backup does not rely on
//! marked packs, and just before its snapshot is written looks for marks that were made meanwhile; so what was marked
//! for a day and is still unneeded, nobody is about to need.
//!
//! The long part, finding what is needed and writing packs anew, runs under a shared lock beside others. Only while the
//! index is written does the exclusive lock keep everybody else away; what others have added until then is looked at
//! first, and before anything is condemned every needed blob must have a place in a pack that stays.
//!
//! A crash leaves, in this order: new packs that no index lists, or that repeat what others hold; two index objects
//! that repeat each other; unneeded packs that no index lists. The next prune takes it from there.

use std::fmt;

use super::prune_apply;
use super::prune_facts::PruneFacts;
use super::prune_plan::{PruneMode, PruneOptions, PrunePlan, plan_prune};
use crate::Result;
use crate::cancel::Cancel;
use crate::model::PackId;
use crate::observe::Observer;
use crate::repository::{Lock, LockMode, Repository};

/// A prune that was planned. Dropping it changes nothing.
pub struct Prune {
    pub(super) repository: Repository,
    pub(super) lock: Lock,
    pub(super) facts: PruneFacts,
    pub(super) plan: PrunePlan,
}

/// What a prune did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneOutcome {
    /// Packs that were written anew.
    pub repacked: u64,
    /// Packs that were marked, those that were written anew among them.
    pub marked: u64,
    /// Packs whose mark was taken away.
    pub recovered: u64,
    /// Packs that were deleted.
    pub deleted: u64,
    /// The bytes of the packs that were deleted.
    pub deleted_bytes: u64,
    /// Packs that were to go and stay, because something that was added meanwhile needs them, or because what is
    /// needed of them could not be copied.
    pub spared: u64,
    /// Packs of which something needed is damaged, and what.
    pub damaged: Vec<(PackId, String)>,
    /// Packs that no index lists any more and that could not be deleted now, because somebody came in between.
    pub left_for_next: u64,
}

impl Prune {
    /// Finds out what is needed and plans. Takes a shared lock, or for [`PruneMode::Instant`] the exclusive one, and
    /// keeps it.
    ///
    /// Fails, and removes nothing, when a snapshot, an index or a tree cannot be read, or a needed blob is nowhere
    /// whole.
    pub fn plan(
        repository: &Repository,
        options: &PruneOptions,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let mode = match options.mode {
            PruneMode::TwoPhase => LockMode::Shared,
            PruneMode::Instant => LockMode::Exclusive,
        };
        let lock = repository.lock(mode, observer)?;
        // Whoever wrote before the lock was seen must be seen by it.
        lock.confirm(observer)?;
        let facts = PruneFacts::gather(repository, cancel, observer)?;
        let plan = plan_prune(&facts.packs, facts.version, options, repository.clock().now());
        Ok(Self { repository: repository.clone(), lock, facts, plan })
    }

    /// What will be done.
    pub fn planned(&self) -> &PrunePlan {
        &self.plan
    }

    /// What it was planned by.
    pub fn facts(&self) -> &PruneFacts {
        &self.facts
    }

    /// Does it.
    ///
    /// Fails as locked when somebody holds a lock at the moment in which the index is to be written; what was written
    /// anew until then is kept, and the next prune goes on from there.
    pub fn apply(self, cancel: &Cancel, observer: &dyn Observer) -> Result<PruneOutcome> {
        prune_apply::apply(self, cancel, observer)
    }
}

impl fmt::Debug for Prune {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prune({:?}, {:?})", self.repository, self.plan.figures())
    }
}
