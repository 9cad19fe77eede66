//! Removing snapshots by a retention policy: the facts gathered, the plan made, and made again before it is applied.
//!
//! A plan is true of the facts that it was made from, and others may change them while a person reads it. So
//! [`apply`] takes the exclusive lock, gathers the facts anew, plans anew, and removes only what both plans remove:
//! never more than was seen, never what has become the last good snapshot meanwhile. After a crash some of the
//! removals are undone; the next plan finds them. Data stays until a prune.

use std::collections::HashSet;

use jiff::Timestamp;

use super::proofs;
use crate::contracts::{Proof, RetentionPolicy, SnapshotFacts};
use crate::model::{RecordId, Snapshot, SnapshotId};
use crate::observe::Observer;
use crate::repository::layout::Named;
use crate::repository::{LockMode, Record, Repository};
use crate::retention::{self, PlanOptions, RetentionPlan};
use crate::{Error, ErrorKind, Result};

/// What retention needs to know of every snapshot of a repository. One that cannot be read is an error: a group whose
/// members are not all known must lose none.
pub fn gather(repository: &Repository) -> Result<Vec<SnapshotFacts>> {
    Ok(facts(&repository.snapshots()?, &repository.records()?))
}

/// The same, of snapshots and records that were read already.
pub fn facts(snapshots: &[(SnapshotId, Snapshot)], records: &[(RecordId, Record)]) -> Vec<SnapshotFacts> {
    let proofs = proofs(records.iter().map(|(_, record)| record), snapshots);
    let facts = snapshots.iter().map(|(id, snapshot)| SnapshotFacts {
        id: *id,
        time: snapshot.time,
        host: snapshot.hostname.clone(),
        paths: snapshot.paths.clone(),
        tags: snapshot.tags.clone(),
        proof: proofs.get(id).copied().unwrap_or(Proof::Uploaded),
    });
    facts.collect()
}

/// What a policy would have removed of `facts`.
pub fn plan(
    facts: &[SnapshotFacts],
    policy: &dyn RetentionPolicy,
    now: Timestamp,
    options: &PlanOptions,
) -> Result<RetentionPlan> {
    retention::plan(facts, policy, now, options).map_err(|error| {
        Error::new(ErrorKind::Broken("the retention policy broke its contract"), "plan").caused_by(error)
    })
}

/// Removes what `planned` removes and a plan of this moment removes too; returns what was removed.
///
/// `choose` narrows the facts as they were narrowed for `planned`, by a filter or not at all.
pub fn apply(
    repository: &Repository,
    planned: &RetentionPlan,
    policy: &dyn RetentionPolicy,
    options: &PlanOptions,
    choose: impl Fn(&SnapshotFacts) -> bool,
    observer: &dyn Observer,
) -> Result<Vec<SnapshotId>> {
    let lock = repository.lock(LockMode::Exclusive, observer)?;
    lock.confirm(observer)?;
    let mut facts = gather(repository)?;
    facts.retain(choose);
    let anew = plan(&facts, policy, repository.clock().now(), options)?;
    let seen: HashSet<SnapshotId> = planned.removals().map(|planned| planned.id).collect();
    let removed: Vec<_> = anew.removals().map(|planned| planned.id).filter(|id| seen.contains(id)).collect();
    lock.check()?;
    let store = repository.store();
    store.delete_each(removed.iter().map(|id| id.key()))?;
    store.sync()?;
    Ok(removed)
}
