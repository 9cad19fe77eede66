//! From a policy's wishes to what will be done: groups, guards, and the plan as data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::{GroupBy, GroupKey, Hold, as_text};
use crate::contracts::{Decision, KeepReason, Proof, RetentionPolicy, SnapshotFacts};
use crate::model::SnapshotId;

/// Decides what becomes of each of `snapshots`: the policy's wish, and then the guards of [`Guard`], which only ever
/// turn a removal into a stay.
///
/// Give it everything that is known of the groups it touches. Given a part, the guards see fewer successors and
/// [`KeepRules`](super::KeepRules) count within the part, so that less is removed than could be, never more; a policy of
/// one's own has to see to that itself.
///
/// # Errors
///
/// [`PlanError`], when a snapshot is listed twice or the policy breaks its contract.
pub fn plan(
    snapshots: &[SnapshotFacts],
    policy: &dyn RetentionPolicy,
    now: Timestamp,
    options: &PlanOptions,
) -> Result<RetentionPlan, PlanError> {
    let required = policy.required_proof().max(Proof::Present);
    let mut seen = BTreeSet::new();
    if let Some(twice) = snapshots.iter().find(|facts| !seen.insert(facts.id)) {
        return Err(PlanError::Duplicate { id: twice.id });
    }
    let by_choice = Groups::of(snapshots, |facts| options.group_by.key(facts));
    let guards = Guards {
        now,
        required,
        frozen: &options.frozen,
        good_by_nature: Groups::of(snapshots, GroupKey::of).newest_good(required, now),
        good_by_choice: by_choice.newest_good(required, now),
    };
    let groups = by_choice.0.into_iter().map(|(key, members)| {
        let wishes = ask(policy, &key, &members, now)?;
        let proven: Vec<_> = members.iter().copied().filter(|facts| facts.proof >= required).collect();
        // What the policy would keep if the unproven snapshots did not exist.
        let stand_ins = ask(policy, &key, &proven, now)?;
        let stand_ins: BTreeMap<_, _> = proven.iter().map(|facts| facts.id).zip(stand_ins).collect();
        let planned = members.into_iter().zip(wishes).map(|(facts, wish)| {
            let verdict = guards.verdict(facts, &key, wish, stand_ins.get(&facts.id));
            PlannedSnapshot { id: facts.id, time: facts.time, proof: facts.proof, verdict }
        });
        let snapshots = planned.collect();
        Ok(GroupPlan { key, snapshots })
    });
    Ok(RetentionPlan { now, required, groups: groups.collect::<Result<_, _>>()? })
}

/// What a plan depends on besides the snapshots and the policy.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// How the rules see groups.
    pub group_by: GroupBy,
    /// The natural groups ([`GroupKey::of`]) of which nothing is removed for now, because a run looked wrong: a dump a
    /// fraction of its usual size, most files gone. A group and not a snapshot, because such a run may have made none.
    pub frozen: BTreeSet<GroupKey>,
}

/// What retention will do, as data. It removes nothing by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RetentionPlan {
    /// The instant it was made for.
    #[serde(serialize_with = "as_text")]
    pub now: Timestamp,
    /// The proof that a successor had to have.
    pub required: Proof,
    /// The groups as the rules saw them, in the order of their keys.
    pub groups: Vec<GroupPlan>,
}

/// One group of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupPlan {
    /// What its snapshots have in common.
    pub key: GroupKey,
    /// Its snapshots, the newest first.
    pub snapshots: Vec<PlannedSnapshot>,
}

/// One snapshot of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedSnapshot {
    /// The snapshot.
    pub id: SnapshotId,
    /// When it was taken.
    #[serde(serialize_with = "as_text")]
    pub time: Timestamp,
    /// How well it is proven.
    pub proof: Proof,
    /// What becomes of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What becomes of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// It stays.
    Keep {
        /// The policy's reasons; empty when only guards keep it.
        reasons: Vec<KeepReason>,
        /// A hold, always; the other guards only where the policy would have removed the snapshot.
        guards: Vec<Guard>,
    },
    /// No rule and no guard keeps it.
    Remove {
        /// The newest snapshot of its group that is proven as required: what makes it safe to go.
        successor: SnapshotId,
    },
}

/// Why a snapshot stays whatever the policy says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "guard", rename_all = "snake_case")]
pub enum Guard {
    /// Somebody holds it.
    Held {
        /// Until when.
        #[serde(flatten)]
        hold: Hold,
    },
    /// Its group is frozen.
    Frozen,
    /// It is later than now. It is also nobody's successor.
    Future,
    /// It is the newest of its group that is proven as required.
    LastGood {
        /// The required proof.
        required: Proof,
    },
    /// No newer snapshot of its group is proven as required.
    NoNewerGood {
        /// The required proof.
        required: Proof,
    },
    /// The policy would keep it if snapshots that are not proven as required did not exist: one of those holds its
    /// place, and may turn out to be worth nothing.
    StandsIn {
        /// The policy's reasons in that case.
        reasons: Vec<KeepReason>,
    },
}

/// Why there is no plan. Nothing is removed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A snapshot was given twice, perhaps with different facts.
    #[error("snapshot {id:.8} is listed twice")]
    Duplicate {
        /// The snapshot.
        id: SnapshotId,
    },
    /// The policy broke its contract.
    #[error("the retention policy made {found} decisions on the {expected} snapshots of {group}")]
    DecisionCount {
        /// The group it was asked about.
        group: GroupKey,
        /// How many snapshots there were.
        expected: usize,
        /// How many decisions came back.
        found: usize,
    },
}

impl RetentionPlan {
    /// What will be removed, group by group.
    pub fn removals(&self) -> impl Iterator<Item = &PlannedSnapshot> {
        self.snapshots().filter(|planned| matches!(planned.verdict, Verdict::Remove { .. }))
    }

    /// What stays, group by group.
    pub fn kept(&self) -> impl Iterator<Item = &PlannedSnapshot> {
        self.snapshots().filter(|planned| matches!(planned.verdict, Verdict::Keep { .. }))
    }

    /// Every snapshot of the plan, group by group.
    pub fn snapshots(&self) -> impl Iterator<Item = &PlannedSnapshot> {
        self.groups.iter().flat_map(|group| &group.snapshots)
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { hold: Hold { until: None } } => write!(f, "held"),
            Self::Held { hold: Hold { until: Some(until) } } => write!(f, "held until {until}"),
            Self::Frozen => write!(f, "group frozen: a run looked wrong"),
            Self::Future => write!(f, "later than now: a clock is wrong"),
            Self::LastGood { required } => write!(f, "last {required} snapshot"),
            Self::NoNewerGood { required } => write!(f, "no newer {required} snapshot"),
            Self::StandsIn { reasons } => {
                let reasons: Vec<_> = reasons.iter().map(|reason| &*reason.text).collect();
                write!(f, "{}, not counting unproven ones", reasons.join(", "))
            }
        }
    }
}

/// Snapshots by some key, each group newest first.
struct Groups<'a>(BTreeMap<GroupKey, Vec<&'a SnapshotFacts>>);

impl<'a> Groups<'a> {
    fn of(snapshots: &'a [SnapshotFacts], key: impl Fn(&SnapshotFacts) -> GroupKey) -> Self {
        let mut groups = BTreeMap::<_, Vec<_>>::new();
        for facts in snapshots {
            groups.entry(key(facts)).or_default().push(facts);
        }
        for members in groups.values_mut() {
            members.sort_by_key(|facts| (std::cmp::Reverse(facts.time), facts.id));
        }
        Self(groups)
    }

    /// The newest of each group that can be a successor: proven as required, and not from the future.
    fn newest_good(&self, required: Proof, now: Timestamp) -> BTreeMap<GroupKey, &'a SnapshotFacts> {
        let is_good = |facts: &&SnapshotFacts| facts.proof >= required && facts.time <= now;
        let newest = |members: &Vec<&'a SnapshotFacts>| members.iter().copied().find(is_good);
        self.0.iter().filter_map(|(key, members)| Some((key.clone(), newest(members)?))).collect()
    }
}

/// What the guards look at.
struct Guards<'a> {
    now: Timestamp,
    required: Proof,
    frozen: &'a BTreeSet<GroupKey>,
    good_by_nature: BTreeMap<GroupKey, &'a SnapshotFacts>,
    good_by_choice: BTreeMap<GroupKey, &'a SnapshotFacts>,
}

impl Guards<'_> {
    /// What becomes of `facts`, of the group `key`, when the policy wishes `wish`, and `stand_in` if unproven snapshots
    /// did not exist.
    fn verdict(&self, facts: &SnapshotFacts, key: &GroupKey, wish: Decision, stand_in: Option<&Decision>) -> Verdict {
        let mut guards = Vec::new();
        if let Some(hold) = Hold::of(&facts.tags).filter(|hold| hold.holds_at(self.now)) {
            guards.push(Guard::Held { hold });
        }
        if let Decision::Keep(reasons) = wish {
            return Verdict::Keep { reasons, guards };
        }
        let nature = GroupKey::of(facts);
        if self.frozen.contains(&nature) {
            guards.push(Guard::Frozen);
        }
        if facts.time > self.now {
            guards.push(Guard::Future);
        }
        if let Some(Decision::Keep(reasons)) = stand_in {
            guards.push(Guard::StandsIn { reasons: reasons.clone() });
        }
        // A choice finer than nature must not be emptied either, so both groups need a newer one.
        let newer = |good: Option<&&SnapshotFacts>| good.filter(|good| good.time > facts.time).map(|good| good.id);
        match newer(self.good_by_nature.get(&nature)).zip(newer(self.good_by_choice.get(key))) {
            Some((successor, _)) if guards.is_empty() => return Verdict::Remove { successor },
            Some(_) => {}
            None if facts.proof >= self.required && facts.time <= self.now => {
                guards.push(Guard::LastGood { required: self.required });
            }
            None => guards.push(Guard::NoNewerGood { required: self.required }),
        }
        Verdict::Keep { reasons: Vec::new(), guards }
    }
}

fn ask(
    policy: &dyn RetentionPolicy,
    group: &GroupKey,
    newest_first: &[&SnapshotFacts],
    now: Timestamp,
) -> Result<Vec<Decision>, PlanError> {
    let decisions = policy.decide(newest_first, now);
    if decisions.len() == newest_first.len() {
        Ok(decisions)
    } else {
        Err(PlanError::DecisionCount { group: group.clone(), expected: newest_first.len(), found: decisions.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retention::sample::facts;
    use crate::retention::{KeepRules, Rules};

    const NOW: &str = "2024-01-31T00:00:00Z";

    /// Keeps nothing: what stays is the guards' doing.
    struct Nothing(Proof);

    impl RetentionPolicy for Nothing {
        fn decide(&self, newest_first: &[&SnapshotFacts], _: Timestamp) -> Vec<Decision> {
            vec![Decision::Remove; newest_first.len()]
        }

        fn required_proof(&self) -> Proof {
            self.0
        }
    }

    fn made(snapshots: &[SnapshotFacts], policy: &dyn RetentionPolicy, options: &PlanOptions) -> RetentionPlan {
        plan(snapshots, policy, NOW.parse().unwrap(), options).unwrap()
    }

    /// The days that a plan removes, in rising order.
    fn removed_days(snapshots: &[SnapshotFacts], policy: &dyn RetentionPolicy) -> Vec<String> {
        let plan = made(snapshots, policy, &PlanOptions::default());
        let mut days: Vec<_> = plan.removals().map(|planned| planned.time.to_string()[8..10].to_owned()).collect();
        days.sort();
        days
    }

    fn day(day: u8) -> SnapshotFacts {
        facts(&format!("2024-01-{day:02}T02:00:00Z"))
    }

    fn guards(plan: &RetentionPlan) -> Vec<String> {
        let text = |planned: &PlannedSnapshot| match &planned.verdict {
            Verdict::Keep { guards, .. } => guards.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + "),
            Verdict::Remove { .. } => "removed".to_owned(),
        };
        plan.snapshots().map(text).collect()
    }

    #[test]
    fn the_last_good_snapshot_stays_whatever_the_policy_says() {
        let snapshots = [day(1), day(2), day(3).proven(Proof::Uploaded)];
        let plan = made(&snapshots, &Nothing(Proof::Present), &PlanOptions::default());
        assert_eq!(guards(&plan), ["no newer present snapshot", "last present snapshot", "removed"]);
        assert_eq!(plan.removals().next().unwrap().verdict, Verdict::Remove { successor: snapshots[1].id });
    }

    #[test]
    fn a_policy_cannot_ask_for_less_than_presence() {
        let snapshots = [day(1), day(2)].map(|facts| facts.proven(Proof::Uploaded));
        assert_eq!(removed_days(&snapshots, &Nothing(Proof::Uploaded)), [""; 0]);
    }

    #[test]
    fn a_policy_can_ask_for_more() {
        let snapshots = [day(1), day(2).proven(Proof::Verified), day(3), day(4)];
        assert_eq!(removed_days(&snapshots, &Nothing(Proof::Present)), ["01", "02", "03"]);
        assert_eq!(removed_days(&snapshots, &Nothing(Proof::Verified)), ["01"]);
        assert_eq!(removed_days(&snapshots, &Nothing(Proof::Restored)), [""; 0]);
    }

    #[test]
    fn snapshots_of_the_same_instant_are_no_newer_than_each_other() {
        assert_eq!(removed_days(&[day(1), day(1), day(1)], &Nothing(Proof::Present)), [""; 0]);
    }

    #[test]
    fn a_bad_run_does_not_cost_the_good_snapshot_of_its_day() {
        let rules = Rules { daily: Some("2".parse().unwrap()), ..Rules::default() };
        let policy = KeepRules::new(rules, jiff::tz::TimeZone::UTC).unwrap();
        let bad_evening = facts("2024-01-02T20:00:00Z").proven(Proof::Uploaded);
        let plan = made(&[day(1), day(2), bad_evening, day(3)], &policy, &PlanOptions::default());
        assert_eq!(guards(&plan), ["", "", "daily snapshot, not counting unproven ones", "removed"]);
    }

    #[test]
    fn holds_and_frozen_groups_and_the_future_lose_nothing() {
        let held = day(1).tagged(&["hold"]);
        let held_until = day(2).tagged(&["hold", "hold-until:2024-02-01T00:00:00Z"]);
        let hold_ended = day(3).tagged(&["hold", "hold-until:2024-01-31T00:00:00Z"]);
        let ahead = facts("2024-02-02T02:00:00Z");
        let snapshots = [held, held_until, hold_ended, day(4), ahead];
        let plan = made(&snapshots, &Nothing(Proof::Present), &PlanOptions::default());
        let expected = [
            "later than now: a clock is wrong + no newer present snapshot",
            "last present snapshot",
            "removed",
            "held until 2024-02-01T00:00:00Z",
            "held",
        ];
        assert_eq!(guards(&plan), expected);

        let frozen = [GroupKey::of(&snapshots[0])].into();
        let options = PlanOptions { group_by: "tags".parse().unwrap(), frozen };
        assert_eq!(made(&snapshots, &Nothing(Proof::Present), &options).removals().count(), 0);
    }

    #[test]
    fn a_hold_is_shown_also_on_what_a_rule_keeps() {
        let rules = Rules { last: Some("1".parse().unwrap()), ..Rules::default() };
        let policy = KeepRules::new(rules, jiff::tz::TimeZone::UTC).unwrap();
        assert_eq!(guards(&made(&[day(1).tagged(&["hold"])], &policy, &PlanOptions::default())), ["held"]);
    }

    #[test]
    fn another_grouping_does_not_cost_a_job_its_last_snapshot() {
        let snapshots = [day(1).tagged(&["job:a"]), day(2).tagged(&["job:a"]), day(3).tagged(&["job:b"])];
        let options = PlanOptions { group_by: "".parse().unwrap(), ..PlanOptions::default() };
        let plan = made(&snapshots, &Nothing(Proof::Present), &options);
        assert_eq!(plan.groups.len(), 1);
        assert_eq!(guards(&plan), ["last present snapshot", "last present snapshot", "removed"]);
    }

    #[test]
    fn a_job_of_two_dumps_keeps_the_last_of_each() {
        let dump = |number, path| day(number).tagged(&["job:db"]).of_paths(&[path]);
        let snapshots = [dump(1, "/postgres/a"), dump(2, "/postgres/a"), dump(2, "/postgres/b")];
        assert_eq!(removed_days(&snapshots, &Nothing(Proof::Present)), ["01"]);
    }

    #[test]
    fn what_cannot_be_planned_is_an_error() {
        struct Silent;
        impl RetentionPolicy for Silent {
            fn decide(&self, _: &[&SnapshotFacts], _: Timestamp) -> Vec<Decision> {
                Vec::new()
            }

            fn required_proof(&self) -> Proof {
                Proof::Present
            }
        }
        let error = |snapshots: &[SnapshotFacts], policy: &dyn RetentionPolicy| {
            plan(snapshots, policy, NOW.parse().unwrap(), &PlanOptions::default()).unwrap_err().to_string()
        };
        let text = "the retention policy made 0 decisions on the 1 snapshots of host h, paths /p";
        assert_eq!(error(&[day(1)], &Silent), text);
        let one = day(1);
        let text = format!("snapshot {:.8} is listed twice", one.id);
        assert_eq!(error(&[one.clone(), one], &Nothing(Proof::Present)), text);
    }

    #[test]
    fn a_plan_is_plain_data_as_json() {
        let mut snapshots = [day(1), day(2).tagged(&["hold", "hold-until:2025-01-01T00:00:00Z"])];
        for (number, facts) in (1..).zip(&mut snapshots) {
            facts.id = SnapshotId::from_bytes([number; 32]);
        }
        let plan = made(&snapshots, &Nothing(Proof::Present), &PlanOptions::default());
        let json = serde_json::to_value(&plan).unwrap();
        let (one, two) = ("01".repeat(32), "02".repeat(32));
        let snapshots = serde_json::json!([
            {
                "id": two, "time": "2024-01-02T02:00:00Z", "proof": "present", "verdict": "keep", "reasons": [],
                "guards": [
                    { "guard": "held", "until": "2025-01-01T00:00:00Z" },
                    { "guard": "last_good", "required": "present" },
                ],
            },
            { "id": one, "time": "2024-01-01T02:00:00Z", "proof": "present", "verdict": "remove", "successor": two },
        ]);
        let group = serde_json::json!({ "key": { "host": "h", "paths": ["/p"] }, "snapshots": snapshots });
        let expected = serde_json::json!({ "now": "2024-01-31T00:00:00Z", "required": "present", "groups": [group] });
        assert_eq!(json, expected);
    }
}
