//! The contract suite of [`RetentionPolicy`]: what any policy, and any plan made with it, must satisfy.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{GroupKey, Hold, PlanOptions, plan};
use crate::contracts::{Proof, RetentionPolicy, SnapshotFacts};
use crate::model::SnapshotId;

/// Panics when `policy` breaks its contract on `snapshots`, or when a plan made with it breaks a promise of this room.
/// Call it with snapshots that the policy finds hard; it sorts them itself.
pub fn assert_retention_laws(
    policy: &dyn RetentionPolicy,
    snapshots: &[SnapshotFacts],
    now: Timestamp,
    options: &PlanOptions,
) {
    let mut sorted: Vec<_> = snapshots.iter().collect();
    sorted.sort_by_key(|facts| (std::cmp::Reverse(facts.time), facts.id));
    for part in [&sorted[..], &sorted[..sorted.len() / 2], &[]] {
        let decisions = policy.decide(part, now);
        assert_eq!(decisions.len(), part.len(), "a policy decides on each snapshot once");
        assert_eq!(policy.decide(part, now), decisions, "a policy answers the same question in the same way");
    }

    let made = plan(snapshots, policy, now, options).unwrap_or_else(|error| panic!("{error}"));
    let removed: BTreeSet<SnapshotId> = made.removals().map(|planned| planned.id).collect();
    assert_eq!(made.snapshots().count(), snapshots.len(), "every snapshot has its verdict");

    let required = policy.required_proof().max(Proof::Present);
    let natural: fn(&SnapshotFacts) -> GroupKey = GroupKey::of;
    let chosen = |facts: &SnapshotFacts| options.group_by.key(facts);
    for key in [&natural as &dyn Fn(&SnapshotFacts) -> GroupKey, &chosen] {
        let mut newest_good = BTreeMap::<GroupKey, Timestamp>::new();
        for facts in snapshots.iter().filter(|facts| facts.proof >= required && facts.time <= now) {
            let newest = newest_good.entry(key(facts)).or_insert(facts.time);
            *newest = (*newest).max(facts.time);
        }
        for facts in snapshots.iter().filter(|facts| removed.contains(&facts.id)) {
            let newest = newest_good.get(&key(facts));
            assert!(newest.is_some_and(|newest| *newest > facts.time), "what goes has a newer good one in its group");
        }
    }
    for facts in snapshots.iter().filter(|facts| removed.contains(&facts.id)) {
        assert!(!Hold::of(&facts.tags).is_some_and(|hold| hold.holds_at(now)), "what is held stays");
        assert!(!options.frozen.contains(&GroupKey::of(facts)), "a frozen group loses nothing");
        assert!(facts.time <= now, "what is later than now stays");
    }

    let reversed: Vec<_> = snapshots.iter().rev().cloned().collect();
    assert_eq!(plan(&reversed, policy, now, options).as_ref(), Ok(&made), "the order of the input has no meaning");
}
