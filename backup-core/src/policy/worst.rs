//! What was lost at worst, and what a schedule will lose at worst.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::facts::{JobFacts, Objectives, Trigger};
use super::{as_seconds, as_seconds_or_none};
use crate::limits::POLICY_DURATIONS_MAX;
use crate::retention::GroupKey;

/// The most that would have been lost within a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Worst {
    /// How much.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub lost: SignedDuration,
    /// The recovery point that one would have had to go back to.
    pub recovery_point: Timestamp,
    /// The moment at which it was worst: just before the next backup was durable, or now.
    pub moment: Timestamp,
    /// From when on this is known: the beginning of the time, or the first backup.
    pub since: Timestamp,
}

/// The most that would have been lost at any moment between `window` before `now` and now.
///
/// It is taken from recovery points and from when they were durable, so that failed runs, long dumps and slow uploads
/// are in it. The records of runs count beside the snapshots: what retention removed was there when it mattered. `None`
/// where no backup was ever made.
pub fn worst(facts: &JobFacts, window: SignedDuration, now: Timestamp) -> Option<Worst> {
    let start = now.checked_sub(window).unwrap_or(Timestamp::MIN);
    let of_each_part = points(facts).into_values().filter_map(|points| worst_of(&points, start, now));
    of_each_part.max_by_key(|worst| worst.lost)
}

/// When which recovery points were durable, part by part, in order.
fn points(facts: &JobFacts) -> BTreeMap<&GroupKey, Vec<(Timestamp, Timestamp)>> {
    let mut points = BTreeMap::<&GroupKey, Vec<_>>::new();
    for history in facts.copies.iter().map(|copy| &copy.history) {
        for backup in &history.backups {
            points.entry(&backup.part).or_default().push((backup.durable, backup.recovery_point));
        }
        for run in history.runs.iter().filter(|run| run.outcome.made_a_backup()) {
            if let (Some(part), Some(point)) = (&run.part, run.recovery_point) {
                points.entry(part).or_default().push((run.ended, point));
            }
        }
    }
    points.values_mut().for_each(|points| points.sort_unstable());
    points
}

fn worst_of(points: &[(Timestamp, Timestamp)], start: Timestamp, now: Timestamp) -> Option<Worst> {
    let since = points.first()?.0.max(start);
    let mut newest: Option<Timestamp> = None;
    let mut worst: Option<Worst> = None;
    // What is durable only later, by a clock that was ahead, is no help yet.
    let moments = points.iter().filter(|(durable, _)| *durable <= now).copied().chain([(now, now)]);
    for (moment, point) in moments {
        if let Some(recovery_point) = newest.filter(|_| moment >= start) {
            let lost = moment.duration_since(recovery_point).max(SignedDuration::ZERO);
            if worst.as_ref().is_none_or(|before| lost > before.lost) {
                worst = Some(Worst { lost, recovery_point, moment, since });
            }
        }
        newest = newest.max(Some(point));
    }
    worst
}

/// What a job will lose at worst, if nothing goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Predicted {
    /// The longest time between two runs, and what a run takes.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub lost: SignedDuration,
    /// The longest time between two runs.
    #[serde(rename = "gap_seconds", serialize_with = "as_seconds")]
    pub gap: SignedDuration,
    /// What nineteen of twenty runs do not take longer than; `None` when none was seen yet, and it counts for nothing.
    #[serde(rename = "run_seconds", serialize_with = "as_seconds_or_none")]
    pub run: Option<SignedDuration>,
    /// The same when one run fails and the next does not.
    #[serde(rename = "with_one_failure_seconds", serialize_with = "as_seconds")]
    pub with_one_failure: SignedDuration,
    /// By how much that is more than may be lost, when it is, by a minute or more.
    #[serde(rename = "missed_by_seconds", serialize_with = "as_seconds_or_none")]
    pub missed_by: Option<SignedDuration>,
}

/// What a job with this trigger will lose at worst, whose runs took so long; `None` when nothing says when it runs.
///
/// A backup holds what was there when it began and helps when it is durable: so it is the time between two runs and the
/// time that one takes (`docs/decisions/policy.md`).
pub fn predicted(trigger: Trigger, took: &[SignedDuration], objectives: Objectives) -> Option<Predicted> {
    let gap = trigger.longest_gap()?;
    let mut took = took.to_vec();
    took.sort_unstable();
    // The smallest that nineteen of twenty do not exceed.
    let run = took.get((took.len() * 19).div_ceil(20).saturating_sub(1)).copied();
    let lost = gap.saturating_add(run.unwrap_or_default());
    // An objective is said in hours: the seconds that a small run takes beyond it are nobody's finding.
    let beyond = objectives.rpo.map(|rpo| lost.saturating_sub(rpo));
    let missed_by = beyond.filter(|beyond| *beyond >= SignedDuration::from_mins(1));
    Some(Predicted { lost, gap, run, with_one_failure: lost.saturating_add(gap), missed_by })
}

/// What the newest runs of a job took, from the recovery point until it was durable in the slowest repository.
pub fn durations(facts: &JobFacts) -> Vec<SignedDuration> {
    let mut runs = BTreeMap::<(Timestamp, &GroupKey), SignedDuration>::new();
    for (part, points) in points(facts) {
        for (durable, point) in points {
            let took = runs.entry((point, part)).or_default();
            *took = (*took).max(durable.duration_since(point));
        }
    }
    runs.into_values().rev().take(POLICY_DURATIONS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Outcome, Run};
    use super::super::sample::{at, backup, copy, hours, job, run};
    use super::*;

    const NOW: &str = "2026-11-22T12:00:00Z";

    fn worst_in(facts: &JobFacts, days: i64) -> Option<(i64, String)> {
        worst(facts, hours(24 * days), at(NOW)).map(|worst| (worst.lost.as_hours(), worst.recovery_point.to_string()))
    }

    #[test]
    fn a_run_that_failed_shows_and_so_does_the_time_that_runs_take() {
        // Daily, an hour each; that of the 20th is missing.
        let times = ["2026-11-18T02:00:00Z", "2026-11-19T02:00:00Z", "2026-11-21T02:00:00Z", "2026-11-22T02:00:00Z"];
        let facts = job(vec![copy("local", times.map(backup))]);
        assert_eq!(worst_in(&facts, 30), Some((49, times[1].to_owned())));
        // The window begins after it was made good.
        assert_eq!(worst_in(&facts, 1), Some((25, times[2].to_owned())));
    }

    #[test]
    fn a_job_that_stopped_loses_more_each_hour() {
        let facts = job(vec![copy("local", [backup("2026-11-18T02:00:00Z")])]);
        let worst = worst(&facts, hours(24 * 30), at(NOW)).unwrap();
        assert_eq!((worst.lost, worst.moment), (hours(4 * 24 + 10), at(NOW)));
        assert_eq!(worst.since, at("2026-11-18T03:00:00Z"));
        assert_eq!(worst_in(&job(vec![]), 30), None);
    }

    #[test]
    fn a_snapshot_that_was_forgotten_was_there_when_it_mattered() {
        let mut facts = job(vec![copy("local", ["2026-11-19T02:00:00Z", "2026-11-22T02:00:00Z"].map(backup))]);
        assert_eq!(worst_in(&facts, 30).unwrap().0, 73);
        for day in 20..22 {
            let recovery_point = Some(at(&format!("2026-11-{day}T02:00:00Z")));
            let part = Some(GroupKey::of_job("app").into());
            let done = run(&format!("2026-11-{day}T03:00:00Z"), Outcome::Done);
            facts.copies[0].history_mut().runs.push(Run { part, recovery_point, ..done });
        }
        assert_eq!(worst_in(&facts, 30).unwrap().0, 25);
    }

    #[test]
    fn of_two_copies_the_one_that_was_durable_first_helps_and_of_two_parts_the_worse_counts() {
        let mut slow = backup("2026-11-21T02:00:00Z");
        slow.durable = at("2026-11-22T11:00:00Z");
        let facts = job(vec![
            copy("local", ["2026-11-21T02:00:00Z", "2026-11-22T02:00:00Z"].map(backup)),
            copy("offsite", [slow]),
        ]);
        assert_eq!(worst_in(&facts, 30).unwrap().0, 25);
        let mut parts = facts;
        parts.copies[1].history_mut().backups[0].part = GroupKey::of_dump("app", "/mysql/shop").into();
        assert_eq!(worst_in(&parts, 30).unwrap(), (34, "2026-11-21T02:00:00Z".to_owned()));
    }

    #[test]
    fn a_schedule_loses_its_longest_gap_and_what_a_run_takes() {
        let schedule = Trigger::Schedule { longest_gap: hours(24) };
        let objectives = |rpo| Objectives { rpo: Some(hours(rpo)), rto: None };
        let took: Vec<_> = (1..=20).map(hours).collect();
        let lost = |took: &[SignedDuration], rpo| {
            let predicted = predicted(schedule, took, objectives(rpo)).unwrap();
            (predicted.lost.as_hours(), predicted.missed_by.map(|by| by.as_hours()))
        };
        assert_eq!(lost(&took, 43), (43, None));
        assert_eq!(lost(&took, 42), (43, Some(1)));
        assert_eq!(lost(&took[..1], 24), (25, Some(1)));
        assert_eq!(lost(&[SignedDuration::from_secs(59)], 24), (24, None));
        // Nothing was seen yet: the schedule alone.
        assert_eq!(lost(&[], 24), (24, None));
        assert_eq!(predicted(schedule, &[], objectives(24)).unwrap().with_one_failure, hours(48));
        assert_eq!(predicted(Trigger::ByHand, &took, objectives(24)), None);
    }

    #[test]
    fn a_run_takes_until_it_is_durable_in_the_slowest_repository() {
        let mut slow = backup("2026-11-21T02:00:00Z");
        slow.durable = at("2026-11-21T07:00:00Z");
        let facts = job(vec![copy("local", [backup("2026-11-21T02:00:00Z")]), copy("offsite", [slow])]);
        assert_eq!(durations(&facts), [hours(5)]);
    }
}
