//! Snapshots of one repository, brought into another.
//!
//! Blobs keep their names: only those that the other repository lacks are read, each is opened and hashed, and sealed
//! with the other's key; what was compressed is not compressed again. Between repositories of one master key
//! (`init --same-key`) the sealed bytes go over as they are, and a pack that is wanted as a whole is read as a whole
//! and proven by its own hash.
//!
//! What is always true: a snapshot is written into the other repository only after everything that it needs is durable
//! and listed there. Copying goes by batches of snapshots, oldest first, so that a run that is cut off has finished some
//! of them; of the batch that it was in, the packs that an index lists already are not copied again. A copy adds and
//! never deletes, in the other repository as a backup does and beside whom a backup may run; the one that it reads it
//! leaves as it is.

use std::fmt;

use jiff::Timestamp;

use super::copy_apply;
use super::copy_plan::{self, Batch};
use super::used::Used;
use crate::cancel::Cancel;
use crate::codec::{Compression, Proof};
use crate::contracts;
use crate::limits::COPY_BATCH_BYTES;
use crate::model::SnapshotId;
use crate::observe::{Event, Observer};
use crate::repository::{Index, Lock, LockMode, Repository};
use crate::{Error, Result};

/// How a copy is made.
#[derive(Clone, Copy, Debug)]
pub struct CopyOptions {
    /// The lock to take where it is read from: [`LockMode::Shared`], or none where nothing can be written.
    pub from_lock: LockMode,
    /// The lock to take where it is written to: [`LockMode::Shared`], or none for credentials that cannot delete.
    pub to_lock: LockMode,
    /// zstd's level for what was not compressed.
    pub level: i32,
    /// Whether every blob that is sealed anew is opened again and compared.
    pub proof: Proof,
    /// When at least this much was to be read for them, snapshots become visible where it is written to; each goes with
    /// those that it was walked with.
    pub batch_bytes: u64,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            from_lock: LockMode::Shared,
            to_lock: LockMode::Shared,
            level: Compression::DEFAULT_LEVEL,
            proof: Proof::Each,
            batch_bytes: COPY_BATCH_BYTES,
        }
    }
}

/// What is to be copied: plain data, for people and programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyPlan {
    /// The snapshots that were asked for, oldest first, those that cannot be read at the end.
    pub snapshots: Vec<PlannedCopy>,
    /// Blobs that the other repository lacks.
    pub blobs: u64,
    /// The bytes that they take where they are read from.
    pub bytes: u64,
    /// Whether the two repositories have one master key, so that sealed bytes go over as they are.
    pub same_key: bool,
}

/// A snapshot that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedCopy {
    /// Its id where it is read from.
    pub id: SnapshotId,
    /// When it was taken; `None` when it cannot be read.
    pub time: Option<Timestamp>,
    /// What is to become of it, or became of it.
    pub fate: CopyFate,
}

/// What becomes of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyFate {
    /// It is to be copied.
    ToCopy,
    /// It was copied; this is its id in the other repository.
    Copied(SnapshotId),
    /// The other repository has it, under this id.
    There(SnapshotId),
    /// Something that it needs cannot be had. Nothing of it is visible in the other repository.
    Impossible(String),
}

/// What a copy did.
#[derive(Clone, Debug)]
pub struct CopyOutcome {
    /// The snapshots that were asked for, with what became of them.
    pub snapshots: Vec<PlannedCopy>,
    /// Blobs that were copied.
    pub blobs: u64,
    /// Bytes that were read of packs, with the gaps that joined reads take along.
    pub bytes_read: u64,
    /// Bytes that the copied blobs take, compressed and sealed.
    pub bytes_stored: u64,
    /// Packs whose blobs went over together, unopened, proven by the pack's own hash.
    pub whole_packs: u64,
    /// Which step of proof the copied snapshots reached in the other repository.
    pub reached: contracts::Proof,
}

impl CopyOutcome {
    /// How many snapshots could not be copied: the other repository is behind when not 0.
    pub fn failures(&self) -> usize {
        self.snapshots.iter().filter(|snapshot| matches!(snapshot.fate, CopyFate::Impossible(_))).count()
    }
}

/// A copy that was planned. Dropping it changes nothing.
///
/// ```no_run
/// # use backup_core::{Result, cancel::Cancel, observe::Silent, repository::Repository};
/// use backup_core::care::{CopyOptions, SnapshotCopy};
///
/// /// Brings everything that `near` has to `far`; says how many snapshots were new there.
/// fn replicate(near: &Repository, far: &Repository) -> Result<usize> {
///     let all: Vec<_> = near.snapshots()?.into_iter().map(|(id, _)| id).collect();
///     let copy = SnapshotCopy::plan(near, far, &all, &CopyOptions::default(), &Cancel::new(), &Silent)?;
///     let missing = copy.planned().bytes; // known before the first byte of data is read
///     let outcome = copy.apply(&Cancel::new(), &Silent)?;
///     assert!(missing == 0 || outcome.blobs > 0);
///     Ok(outcome.snapshots.len() - outcome.failures())
/// }
/// ```
pub struct SnapshotCopy {
    pub(super) from: Repository,
    pub(super) to: Repository,
    pub(super) options: CopyOptions,
    pub(super) from_lock: Lock,
    pub(super) to_lock: Lock,
    pub(super) from_index: Index,
    pub(super) to_index: Index,
    /// What the snapshots that are to be copied need.
    pub(super) used: Used,
    pub(super) batches: Vec<Batch>,
    /// The snapshots that the other repository had when the plan was made.
    pub(super) seen: Vec<SnapshotId>,
    pub(super) plan: CopyPlan,
}

impl SnapshotCopy {
    /// Finds out which of the snapshots `ids` of `from` are not in `to`, and what of their data is not. Takes locks on
    /// both repositories and keeps them.
    ///
    /// A snapshot counts as copied when the other repository has one of the same origin (restic's `original`, or the id
    /// itself), tree, time, host and paths; its tags may differ. One that was removed since the caller listed it is
    /// passed over with a notice.
    pub fn plan(
        from: &Repository,
        to: &Repository,
        ids: &[SnapshotId],
        options: &CopyOptions,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let location = to.store().location();
        if from.config().id == to.config().id && from.store().location() == location {
            return Err(
                Error::invalid(location, "a repository cannot be copied to itself").with_hint("name another place")
            );
        }
        let from_lock = from.lock(options.from_lock, observer)?;
        let to_lock = to.lock(options.to_lock, observer)?;
        from_lock.confirm(observer)?;
        if from.config().chunker_polynomial != to.config().chunker_polynomial {
            let what = "the two repositories cut files at different places: what is copied and what is backed up \
                directly do not share data there (`init --like` makes them agree)";
            observer.event(Event::Notice(what));
        }
        // Snapshots before indexes, in both: whatever a listed snapshot needs was indexed before it was written.
        let there = to.snapshots()?;
        let seen = there.iter().map(|(id, _)| *id).collect();
        let (mut plan, to_copy) = copy_plan::choose(&there, copy_plan::load(from, ids, observer)?);
        plan.same_key = from.master_key() == to.master_key();
        let (from_index, to_index) = match to_copy.is_empty() {
            // The usual end of a copy that runs every hour: it costs a look at the snapshots.
            true => Default::default(),
            false => (from.load_index(observer)?, to.load_index(observer)?),
        };
        let (used, batches) =
            copy_plan::find(from, [&from_index, &to_index], &mut plan, to_copy, options.batch_bytes, cancel, observer)?;
        let (from, to, options) = (from.clone(), to.clone(), *options);
        Ok(Self { from, to, options, from_lock, to_lock, from_index, to_index, used, batches, seen, plan })
    }

    /// What will be done.
    pub fn planned(&self) -> &CopyPlan {
        &self.plan
    }

    /// Does it.
    ///
    /// A snapshot of which something turns out to be damaged is told in the outcome and costs only itself. Any other
    /// failure ends the copy; what was copied until then stays, and the next copy goes on from there.
    pub fn apply(self, cancel: &Cancel, observer: &dyn Observer) -> Result<CopyOutcome> {
        copy_apply::apply(self, cancel, observer)
    }
}

impl fmt::Debug for SnapshotCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotCopy({:?} to {:?}, {} blobs)", self.from, self.to, self.plan.blobs)
    }
}
