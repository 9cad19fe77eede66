//! A plan to forget is true of the moment it was made in; applying it looks again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use backup_core::cancel::Cancel;
use backup_core::care::forget::{apply, gather, plan};
use backup_core::clock::{Clock as _, SystemClock};
use backup_core::contracts::{Proof, SnapshotFacts};
use backup_core::model::SnapshotId;
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::repository::{CreateOptions, Identity, LockMode, Passphrase, Repository, ScryptCost};
use backup_core::retention::{Count, Hold, KeepRules, PlanOptions, RetentionPlan, Rules};
use backup_core::testing::{MemorySink, MemoryTree};
use jiff::tz::TimeZone;

fn repository() -> Repository {
    let pid = i32::try_from(std::process::id()).unwrap();
    let identity = Identity { hostname: "host".into(), username: "user".into(), uid: 1, gid: 1, pid };
    let options = CreateOptions { cost: Some(ScryptCost { n: 2, r: 1, p: 1 }), ..CreateOptions::default() };
    let sink = Arc::new(MemorySink::new());
    Repository::create(sink, &Passphrase::new("x"), &options, identity, Arc::new(SystemClock)).unwrap()
}

/// Takes a snapshot of a day.
fn back_up(repository: &Repository, day: u32) -> SnapshotId {
    let tree = MemoryTree::new().with_file("/a", "content");
    let time = Some(format!("2024-01-{day:02}T00:00:00Z").parse().unwrap());
    let options = BackupOptions { time, lock: LockMode::None, ..BackupOptions::default() };
    backup(repository, &mut tree.source(50_000), &options, &Cancel::new(), &Silent).unwrap().snapshot.unwrap()
}

fn keep_last() -> KeepRules {
    KeepRules::new(Rules { last: Some(Count::AtMost(1)), ..Rules::default() }, TimeZone::UTC).unwrap()
}

fn planned(repository: &Repository) -> RetentionPlan {
    let facts = gather(repository).unwrap();
    plan(&facts, &keep_last(), SystemClock.now(), &PlanOptions::default()).unwrap()
}

fn applied(repository: &Repository, planned: &RetentionPlan) -> Vec<SnapshotId> {
    apply(repository, planned, &keep_last(), &PlanOptions::default(), |_: &SnapshotFacts| true, &Silent).unwrap()
}

fn left(repository: &Repository) -> Vec<SnapshotId> {
    repository.snapshots().unwrap().into_iter().map(|(id, _)| id).collect()
}

#[test]
fn what_no_rule_keeps_is_removed_once() {
    let repository = repository();
    let ids = [1, 2, 3].map(|day| back_up(&repository, day));
    assert!(gather(&repository).unwrap().iter().all(|facts| facts.proof == Proof::Present));
    let plan = planned(&repository);
    assert_eq!(applied(&repository, &plan).len(), 2);
    assert_eq!(left(&repository), [ids[2]]);
    assert_eq!(applied(&repository, &plan), []);
}

#[test]
fn what_became_the_last_good_snapshot_since_the_plan_stays() {
    let repository = repository();
    let ids = [1, 2, 3].map(|day| back_up(&repository, day));
    let plan = planned(&repository);
    repository.remove_snapshots(&[ids[2]], &Silent).unwrap();
    assert_eq!(applied(&repository, &plan), [ids[0]]);
    assert_eq!(left(&repository), [ids[1]]);
}

#[test]
fn what_was_held_since_the_plan_stays_and_nothing_unseen_goes() {
    let repository = repository();
    let ids = [1, 2].map(|day| back_up(&repository, day));
    let plan = planned(&repository);
    let (_, mut held) = repository.snapshots().unwrap().swap_remove(0);
    held.tags = Hold { until: None }.placed_on(&held.tags);
    let held = repository.rewrite_snapshots(&[(ids[0], held)], &Silent).unwrap()[0];
    let newer = back_up(&repository, 3);
    // By now the rules would let the second go; the plan that somebody saw did not.
    assert_eq!(applied(&repository, &plan), []);
    assert_eq!(left(&repository), [held, ids[1], newer]);
}
