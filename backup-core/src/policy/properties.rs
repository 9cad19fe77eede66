//! What is true of all facts, tried on random ones.

use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::facts::{Backup, CopyFacts, JobFacts, Outcome, Place, Run};
use super::sample::{backup, copy, hours, job, run};
use super::{Answer, Exposure, JobStanding, Scenario, Standards, exposure, three_two_one, worst};
use crate::contracts::Proof;
use crate::model::SnapshotId;

const NOW_SECONDS: i64 = 1_795_348_800; // 2026-11-22T12:00:00Z

fn now() -> Timestamp {
    Timestamp::from_second(NOW_SECONDS).unwrap()
}

fn ago(hours: i64) -> Timestamp {
    Timestamp::from_second(NOW_SECONDS - hours * 3_600).unwrap()
}

fn proof() -> impl Strategy<Value = Proof> {
    select(vec![Proof::Uploaded, Proof::Present, Proof::Verified, Proof::Restored])
}

fn a_backup() -> impl Strategy<Value = Backup> {
    (-2_i64..1_000, 0_i64..5, proof(), select(vec!["", "/postgres/a", "/postgres/b"]), option::of(-100_i64..100))
        .prop_map(|(age, took, proof, dump, lock)| {
            let point = ago(age);
            let made = Backup { durable: point + hours(took), ..backup(&point.to_string()) }.proven(proof);
            let made = Backup { immutable_until: lock.map(ago), snapshot: SnapshotId::of(&age.to_le_bytes()), ..made };
            if dump.is_empty() { made } else { made.of_dump(dump) }
        })
}

fn word(words: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    option::weighted(0.85, select(words).prop_map(str::to_owned))
}

fn a_place() -> impl Strategy<Value = Place> {
    let words = (word(&["disk", "object-storage"]), word(&["paris", "oslo"]), word(&["host", "nas", "bucket", "tape"]));
    words.prop_map(|(media, site, failure_domain)| Place { media, site, failure_domain })
}

fn a_copy(name: &'static str) -> impl Strategy<Value = CopyFacts> {
    let read = option::weighted(0.9, (0_i64..40).prop_map(ago));
    let unreachable = option::weighted(0.1, Just("timed out".to_owned()));
    (a_place(), vec(a_backup(), 0..8), read, unreachable).prop_map(move |(place, backups, read, unreachable)| {
        let mut made = copy(name, []);
        made.history_mut().backups = backups;
        CopyFacts { place, read, unreachable, ..made }
    })
}

fn facts() -> impl Strategy<Value = JobFacts> {
    let copies = (option::of(a_copy("one")), option::of(a_copy("two")), option::of(a_copy("three")));
    (a_place(), copies).prop_map(|(home, (one, two, three))| JobFacts {
        home,
        ..job([one, two, three].into_iter().flatten().collect())
    })
}

/// How bad it is: less is better, and not to know is worse than any number.
fn loss(exposure: &Exposure) -> SignedDuration {
    exposure.age().unwrap_or(SignedDuration::MAX)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_higher_step_of_proof_never_loses_less(facts in facts()) {
        let steps = [Proof::Uploaded, Proof::Present, Proof::Verified, Proof::Restored];
        let lost: Vec<_> = steps.iter().map(|step| loss(&exposure(&facts, *step, Scenario::DataLost, now()))).collect();
        prop_assert!(lost.is_sorted(), "{lost:?}");
    }

    #[test]
    fn what_takes_more_copies_with_it_never_loses_less(facts in facts(), step in proof()) {
        let all = loss(&exposure(&facts, step, Scenario::DataLost, now()));
        for scenario in [Scenario::DomainLost, Scenario::SiteLost, Scenario::Compromised] {
            prop_assert!(loss(&exposure(&facts, step, scenario, now())) >= all);
        }
    }

    #[test]
    fn a_repository_that_goes_away_makes_nothing_better(facts in facts(), which in 0_usize..3) {
        let mut less = facts.clone();
        let Some(copy) = less.copies.get_mut(which) else { return Ok(()) };
        copy.unreachable = Some("gone".to_owned());
        let (before, after) = (three_two_one(&facts, &Standards::default(), now()), three_two_one(&less, &Standards::default(), now()));
        prop_assert!(after.copies <= before.copies);
        prop_assert!(after.answer != Answer::Yes || before.answer == Answer::Yes);
        let lost = |facts| loss(&exposure(facts, Proof::Present, Scenario::DataLost, now()));
        prop_assert!(lost(&less) >= lost(&facts));
    }

    #[test]
    fn the_rule_is_met_only_by_three_copies_that_were_named_and_read(facts in facts()) {
        let rule = three_two_one(&facts, &Standards::default(), now());
        if rule.answer == Answer::Yes {
            prop_assert!(rule.copies >= 3);
            let counted = rule.verdicts.iter().filter(|verdict| verdict.counts == Answer::Yes);
            let counted: Vec<_> = counted.map(|verdict| facts.copies.iter().find(|copy| copy.repository == verdict.repository).unwrap()).collect();
            let mut domains: Vec<_> = counted.iter().map(|copy| copy.place.failure_domain.clone().unwrap()).collect();
            domains.push(facts.home.failure_domain.clone().unwrap());
            let all = domains.len();
            domains.sort();
            domains.dedup();
            prop_assert_eq!(domains.len(), all);
            prop_assert!(counted.iter().all(|copy| copy.read.is_some() && copy.unreachable.is_none()));
            prop_assert!(counted.iter().any(|copy| copy.place.site != facts.home.site));
        } else {
            prop_assert!(!rule.findings.is_empty(), "what is not met has a finding: {rule:?}");
        }
    }

    #[test]
    fn the_worst_of_a_window_is_no_less_than_what_would_be_lost_now_nor_than_in_a_shorter_one(facts in facts(), days in 1_i64..40) {
        // A part that some copies lack, and repositories that are away, are the business of the exposure alone.
        let mut facts = facts;
        facts.copies.truncate(1);
        facts.copies.iter_mut().for_each(|copy| { copy.read = Some(now()); copy.unreachable = None; });
        let all = worst(&facts, hours(24 * 365), now());
        let some = worst(&facts, hours(24 * days), now());
        if let (Some(all), Some(some)) = (&all, &some) {
            prop_assert!(some.lost <= all.lost);
        }
        if let (Some(age), Some(some)) = (exposure(&facts, Proof::Uploaded, Scenario::DataLost, now()).age(), some) {
            prop_assert!(some.lost >= age);
        }
    }

    #[test]
    fn a_record_of_a_run_that_made_nothing_new_changes_no_number(facts in facts()) {
        let mut more = facts.clone();
        let ended = ago(1).to_string();
        more.copies.iter_mut().for_each(|copy| copy.history_mut().runs.push(Run { took: None, ..run(&ended, Outcome::Done) }));
        let (before, after) = (JobStanding::of(&facts, &Standards::default(), now()), JobStanding::of(&more, &Standards::default(), now()));
        prop_assert_eq!(before, after);
    }
}
