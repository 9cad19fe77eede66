//! What is true of every policy and every history, tried on random ones.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::laws::assert_retention_laws;
use super::sample::{facts, paris};
use super::{Count, GroupBy, GroupKey, KeepRules, PlanOptions, RetentionPlan, Rules, Span, plan};
use crate::contracts::{Proof, SnapshotFacts};
use crate::model::SnapshotId;

/// 2024-10-28: the histories end around the night in which the clocks of Paris go back.
const NOW_SECONDS: i64 = 1_730_073_600;

fn now() -> Timestamp {
    Timestamp::from_second(NOW_SECONDS).unwrap()
}

/// Times are crowded together, so that many share a period, some share an instant, and a few lie in the future.
fn time() -> impl Strategy<Value = Timestamp> {
    let quarter = 900;
    let seconds = prop_oneof![
        6 => (-8_i64..400).prop_map(move |quarters| quarters * quarter),
        4 => (0_i64..120).prop_map(move |days| days * 86_400 + 3_600),
        2 => (0_i64..80).prop_map(move |weeks| weeks * 7 * 86_400 - 86_400),
    ];
    seconds.prop_map(|age| Timestamp::from_second(NOW_SECONDS - age).unwrap())
}

fn proof() -> impl Strategy<Value = Proof> {
    select(vec![Proof::Uploaded, Proof::Present, Proof::Verified, Proof::Restored])
}

fn snapshot() -> impl Strategy<Value = SnapshotFacts> {
    let tags = vec!["job:a", "job:b", "legal", "hold-until:2024-10-01T00:00:00Z", "hold-until:2025-01-01T00:00:00Z"];
    let tags = prop_oneof![3 => subsequence(tags, 0..=2), 2 => Just(vec!["job:a"]), 1 => Just(vec!["hold"])];
    let paths = select(vec![&["/p"][..], &["/q"], &["/postgres/x"], &["/p", "/q"]]);
    (time(), tags, paths, proof(), select(vec!["h", "i"])).prop_map(|(time, tags, paths, proof, host)| {
        let host = host.to_owned();
        SnapshotFacts { time, host, ..facts("2024-01-01T00:00:00Z").tagged(&tags).of_paths(paths).proven(proof) }
    })
}

fn history() -> impl Strategy<Value = Vec<SnapshotFacts>> {
    vec(snapshot(), 0..40)
}

fn count() -> impl Strategy<Value = Option<Count>> {
    weighted(0.3, prop_oneof![6 => (0_u32..6).prop_map(Count::AtMost), 1 => Just(Count::Unlimited)])
}

fn span() -> impl Strategy<Value = Option<Span>> {
    weighted(0.2, select(vec!["1h", "26h", "3d", "30d", "2m", "1y1m"]).prop_map(|text| text.parse().unwrap()))
}

fn rules() -> impl Strategy<Value = Rules> {
    let counts = [(); 6].map(|()| count());
    let spans = [(); 6].map(|()| span());
    let tags = vec(select(vec!["legal", "", "job:a,legal"]).prop_map(|text| text.parse().unwrap()), 0..2);
    let require = prop_oneof![3 => Just(Proof::Present), 1 => Just(Proof::Verified)];
    let rules = (counts, spans, tags, require).prop_map(|(counts, spans, tags, require)| {
        let [last, hourly, daily, weekly, monthly, yearly] = counts;
        let [within, within_hourly, within_daily, within_weekly, within_monthly, within_yearly] = spans;
        let by_count = Rules { last, hourly, daily, weekly, monthly, yearly, tags, require, ..Rules::default() };
        Rules { within, within_hourly, within_daily, within_weekly, within_monthly, within_yearly, ..by_count }
    });
    rules.prop_filter("rules that keep something", |rules| !rules.is_empty())
}

fn zone() -> impl Strategy<Value = TimeZone> {
    select(vec![TimeZone::UTC, paris(), TimeZone::posix("<-0930>9:30").unwrap()])
}

fn options() -> impl Strategy<Value = PlanOptions> {
    let group_by = of(select(vec!["", "host", "paths", "tags", "job", "host,paths"]));
    let frozen = prop_oneof![4 => Just(BTreeSet::new()), 1 => Just(BTreeSet::from([GroupKey::of_job("a")]))];
    (group_by, frozen).prop_map(|(fields, frozen)| {
        let group_by = fields.map_or(GroupBy::Nature, |fields| fields.parse().unwrap());
        PlanOptions { group_by, frozen }
    })
}

/// `one` with the rules of `other` where it has none.
fn with_more(one: &Rules, other: &Rules) -> Rules {
    Rules {
        last: one.last.or(other.last),
        hourly: one.hourly.or(other.hourly),
        daily: one.daily.or(other.daily),
        weekly: one.weekly.or(other.weekly),
        monthly: one.monthly.or(other.monthly),
        yearly: one.yearly.or(other.yearly),
        within: one.within.or(other.within),
        within_hourly: one.within_hourly.or(other.within_hourly),
        within_daily: one.within_daily.or(other.within_daily),
        within_weekly: one.within_weekly.or(other.within_weekly),
        within_monthly: one.within_monthly.or(other.within_monthly),
        within_yearly: one.within_yearly.or(other.within_yearly),
        tags: one.tags.iter().chain(&other.tags).cloned().collect(),
        require: one.require,
    }
}

fn removed(plan: &RetentionPlan) -> BTreeSet<SnapshotId> {
    plan.removals().map(|planned| planned.id).collect()
}

fn made(history: &[SnapshotFacts], rules: &Rules, zone: &TimeZone, options: &PlanOptions) -> RetentionPlan {
    let policy = KeepRules::new(rules.clone(), zone.clone()).unwrap();
    plan(history, &policy, now(), options).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_policy_of_rules_obeys_the_laws(history in history(), rules in rules(), zone in zone(), options in options()) {
        let policy = KeepRules::new(rules, zone).unwrap();
        assert_retention_laws(&policy, &history, now(), &options);
    }

    #[test]
    fn what_a_rule_alone_keeps_no_plan_with_it_removes(
        history in history(), rule in rules(), others in rules(), zone in zone(), options in options()
    ) {
        use crate::contracts::RetentionPolicy;
        let policy = KeepRules::new(rule.clone(), zone.clone()).unwrap();
        let removed = removed(&made(&history, &with_more(&rule, &others), &zone, &options));
        // Asked directly, without the planner: per group as the rules see them.
        let keys: BTreeSet<_> = history.iter().map(|facts| options.group_by.key(facts)).collect();
        for key in keys {
            let mut group: Vec<_> = history.iter().filter(|facts| options.group_by.key(facts) == key).collect();
            group.sort_by_key(|facts| (std::cmp::Reverse(facts.time), facts.id));
            for (facts, decision) in group.iter().zip(policy.decide(&group, now())) {
                prop_assert!(!(decision.keeps() && removed.contains(&facts.id)));
            }
        }
    }

    #[test]
    fn one_more_rule_never_removes_more(
        history in history(), rules in rules(), more in rules(), zone in zone(), options in options()
    ) {
        let before = removed(&made(&history, &rules, &zone, &options));
        let after = removed(&made(&history, &with_more(&rules, &more), &zone, &options));
        prop_assert!(after.is_subset(&before));
    }

    #[test]
    fn a_higher_requirement_never_costs_the_last_snapshot_that_meets_it(
        history in history(), rules in rules(), zone in zone()
    ) {
        let rules = Rules { require: Proof::Restored, ..rules };
        let removed = removed(&made(&history, &rules, &zone, &PlanOptions::default()));
        for facts in history.iter().filter(|facts| removed.contains(&facts.id)) {
            let newer = |other: &&SnapshotFacts| other.time > facts.time && other.time <= now();
            let group = history.iter().filter(|other| GroupKey::of(other) == GroupKey::of(facts));
            prop_assert!(group.filter(newer).any(|other| other.proof == Proof::Restored && !removed.contains(&other.id)));
        }
    }

    #[test]
    fn without_a_verified_snapshot_a_policy_that_requires_one_removes_nothing(
        history in history(), rules in rules(), zone in zone(), options in options()
    ) {
        let history: Vec<_> =
            history.into_iter().map(|facts| SnapshotFacts { proof: facts.proof.min(Proof::Present), ..facts }).collect();
        let rules = Rules { require: Proof::Verified, ..rules };
        prop_assert_eq!(made(&history, &rules, &zone, &options).removals().count(), 0);
    }

    // Holds although the oldest snapshot fills rules that are not full: when a rule is not full, its filler is kept
    // and is the oldest again; when it is full, its periods all keep their newest, so that it is full again.
    #[test]
    fn a_plan_made_again_after_it_was_applied_removes_nothing(
        history in history(), rules in rules(), zone in zone(), options in options()
    ) {
        let removed = removed(&made(&history, &rules, &zone, &options));
        let left: Vec<_> = history.into_iter().filter(|facts| !removed.contains(&facts.id)).collect();
        prop_assert_eq!(made(&left, &rules, &zone, &options).removals().count(), 0);
    }

    #[test]
    fn a_part_of_a_history_loses_nothing_that_the_whole_would_keep(
        marked in vec((snapshot(), any::<bool>()), 0..40), rules in rules(), zone in zone(), options in options()
    ) {
        let whole: Vec<_> = marked.iter().map(|(facts, _)| facts.clone()).collect();
        let part: Vec<_> = marked.into_iter().filter_map(|(facts, chosen)| chosen.then_some(facts)).collect();
        let by_whole = removed(&made(&whole, &rules, &zone, &options));
        prop_assert!(removed(&made(&part, &rules, &zone, &options)).is_subset(&by_whole));
    }
}
