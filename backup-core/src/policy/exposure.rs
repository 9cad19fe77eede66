//! What would be lost if the data went now.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::as_seconds;
use super::facts::{Answer, Backup, CopyFacts, JobFacts};
use crate::contracts::Proof;
use crate::retention::GroupKey;

/// What happens to the data, and which copies outlive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// The data is lost: a wrong command, a broken file. Every copy is left.
    DataLost,
    /// What it stood on is lost with everything that fails together with it.
    DomainLost,
    /// Its site is lost.
    SiteLost,
    /// Somebody holds all credentials: what nobody can delete is left.
    Compromised,
}

/// What would be lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "exposure", rename_all = "lowercase")]
pub enum Exposure {
    /// What changed since this recovery point.
    Since {
        /// The recovery point; of several parts, the oldest.
        recovery_point: Timestamp,
        /// How long ago that is.
        #[serde(rename = "seconds", serialize_with = "as_seconds")]
        age: SignedDuration,
        /// The repository that has it.
        repository: String,
        /// The part of the job that it is of.
        #[serde(skip)]
        part: GroupKey,
    },
    /// Everything: there is no such backup.
    Everything,
    /// What would tell is not there.
    Unknown,
}

impl Exposure {
    /// How long ago the recovery point is, where there is one.
    pub fn age(&self) -> Option<SignedDuration> {
        match self {
            Self::Since { age, .. } => Some(*age),
            _ => None,
        }
    }

    /// Whether no more would be lost than `objective`.
    pub fn within(&self, objective: SignedDuration) -> Answer {
        match self {
            Self::Since { age, .. } if *age <= objective => Answer::Yes,
            Self::Since { .. } | Self::Everything => Answer::No,
            Self::Unknown => Answer::Unknown,
        }
    }
}

/// What would be lost at `now`, if only backups at `step` of proof or above can be relied on.
///
/// It is counted from recovery points and not from when runs ended. Of a job with several parts, the one whose newest
/// backup is the oldest decides; a part is one as long as a repository holds a snapshot of it. A repository that cannot
/// be read is no help now: its copy counts for nothing, and where no other is left, nothing is known.
pub fn exposure(facts: &JobFacts, step: Proof, scenario: Scenario, now: Timestamp) -> Exposure {
    let survivors: Vec<_> = facts.copies.iter().map(|copy| (copy, survives(copy, facts, scenario))).collect();
    let left: Vec<&CopyFacts> = survivors
        .iter()
        .filter(|(copy, survives)| *survives == Answer::Yes && is_readable(copy))
        .map(|(copy, _)| *copy)
        .collect();
    let is_all_known = survivors.iter().all(|(copy, survives)| match survives {
        Answer::Yes => is_readable(copy) && is_protection_known(copy, scenario),
        Answer::No => true,
        Answer::Unknown => false,
    });
    // A part that only a lost copy held is lost with it.
    let parts = parts(&facts.copies);
    of_parts(&left, &parts, step, scenario, now).unwrap_or(match is_all_known {
        true => Exposure::Everything,
        false => Exposure::Unknown,
    })
}

/// What would be lost at `now`, if this copy were the only one.
pub fn exposure_of(copy: &CopyFacts, facts: &JobFacts, step: Proof, now: Timestamp) -> Exposure {
    if !is_readable(copy) {
        return Exposure::Unknown;
    }
    of_parts(&[copy], &parts(&facts.copies), step, Scenario::DataLost, now).unwrap_or(Exposure::Everything)
}

/// Whether a copy is there to restore from, as far as is known.
pub(super) fn is_readable(copy: &CopyFacts) -> bool {
    copy.read.is_some() && copy.unreachable.is_none()
}

/// The parts of a job that any of its copies holds.
pub(super) fn parts(copies: &[CopyFacts]) -> BTreeSet<&GroupKey> {
    copies.iter().flat_map(|copy| &copy.history.backups).map(|backup| &*backup.part).collect()
}

/// The part whose newest backup is the oldest; `None` when a part has none.
fn of_parts(
    copies: &[&CopyFacts],
    parts: &BTreeSet<&GroupKey>,
    step: Proof,
    scenario: Scenario,
    now: Timestamp,
) -> Option<Exposure> {
    let mut oldest: Option<(Timestamp, &str, &GroupKey)> = None;
    for part in parts {
        let newest = copies.iter().flat_map(|copy| {
            let backups = copy.history.backups.iter();
            let counts = move |backup: &&Backup| {
                *backup.part == **part
                    && backup.proof >= step
                    && backup.durable <= now
                    && outlives(backup, scenario, now)
            };
            backups.filter(counts).map(|backup| (backup.recovery_point, copy.repository.as_str()))
        });
        let (point, repository) = newest.max_by_key(|(point, _)| *point)?;
        if oldest.is_none_or(|(before, ..)| point < before) {
            oldest = Some((point, repository, part));
        }
    }
    oldest.map(|(recovery_point, repository, part)| Exposure::Since {
        recovery_point,
        age: now.duration_since(recovery_point).max(SignedDuration::ZERO),
        repository: repository.to_owned(),
        part: part.clone(),
    })
}

fn outlives(backup: &Backup, scenario: Scenario, now: Timestamp) -> bool {
    scenario != Scenario::Compromised || backup.immutable_until.is_some_and(|until| until > now)
}

fn is_protection_known(copy: &CopyFacts, scenario: Scenario) -> bool {
    scenario != Scenario::Compromised || copy.history.backups.iter().all(|backup| backup.immutable_until.is_some())
}

/// Whether a copy outlives the scenario.
pub fn survives(copy: &CopyFacts, facts: &JobFacts, scenario: Scenario) -> Answer {
    let differ = |one: &Option<String>, other: &Option<String>| match (one, other) {
        (Some(one), Some(other)) if one == other => Answer::No,
        (Some(_), Some(_)) => Answer::Yes,
        _ => Answer::Unknown,
    };
    match scenario {
        Scenario::DataLost | Scenario::Compromised => Answer::Yes,
        Scenario::DomainLost => differ(&copy.place.failure_domain, &facts.home.failure_domain),
        Scenario::SiteLost => differ(&copy.place.site, &facts.home.site),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{at, backup, copy, hours, job};
    use super::*;

    fn since(point: &str, age: i64, repository: &str, part: GroupKey) -> Exposure {
        Exposure::Since { recovery_point: at(point), age: hours(age), repository: repository.to_owned(), part }
    }

    const NOW: &str = "2026-11-22T12:00:00Z";

    #[test]
    fn each_step_of_proof_has_its_own_exposure() {
        let facts = job(vec![copy(
            "local",
            [
                backup("2026-11-20T02:00:00Z").proven(Proof::Restored),
                backup("2026-11-21T02:00:00Z").proven(Proof::Verified),
                backup("2026-11-22T02:00:00Z").proven(Proof::Present),
            ],
        )]);
        let part = GroupKey::of_job("app");
        let exposure = |step| exposure(&facts, step, Scenario::DataLost, at(NOW));
        assert_eq!(exposure(Proof::Present), since("2026-11-22T02:00:00Z", 10, "local", part.clone()));
        assert_eq!(exposure(Proof::Verified), since("2026-11-21T02:00:00Z", 34, "local", part.clone()));
        assert_eq!(exposure(Proof::Restored), since("2026-11-20T02:00:00Z", 58, "local", part));
    }

    #[test]
    fn the_part_that_is_behind_decides() {
        let users = backup("2026-11-19T02:00:00Z").of_dump("/postgres/users");
        let orders = backup("2026-11-22T02:00:00Z").of_dump("/postgres/orders");
        let facts = job(vec![copy("local", [users, orders])]);
        let part = GroupKey::of_dump("app", "/postgres/users");
        let exposure = exposure(&facts, Proof::Present, Scenario::DataLost, at(NOW));
        assert_eq!(exposure, since("2026-11-19T02:00:00Z", 82, "local", part));
    }

    #[test]
    fn what_is_lost_with_the_site_is_what_no_other_site_has() {
        let facts = job(vec![
            copy("local", [backup("2026-11-22T02:00:00Z")]).at("paris", "nas"),
            copy("offsite", [backup("2026-11-20T02:00:00Z")]).at("oslo", "bucket"),
        ]);
        let lost = |scenario| exposure(&facts, Proof::Present, scenario, at(NOW)).age();
        assert_eq!(lost(Scenario::DataLost), Some(hours(10)));
        assert_eq!(lost(Scenario::DomainLost), Some(hours(10)));
        assert_eq!(lost(Scenario::SiteLost), Some(hours(58)));
    }

    #[test]
    fn a_copy_whose_site_nobody_has_named_may_outlive_it_or_not() {
        let mut facts = job(vec![copy("local", [backup("2026-11-22T02:00:00Z")]).at("paris", "nas")]);
        assert_eq!(exposure(&facts, Proof::Present, Scenario::SiteLost, at(NOW)), Exposure::Everything);
        facts.copies[0].place.site = None;
        assert_eq!(exposure(&facts, Proof::Present, Scenario::SiteLost, at(NOW)), Exposure::Unknown);
    }

    #[test]
    fn a_repository_that_cannot_be_read_is_no_help_and_no_proof_of_the_opposite() {
        let mut facts = job(vec![
            copy("local", [backup("2026-11-22T02:00:00Z")]),
            copy("offsite", [backup("2026-11-20T02:00:00Z")]),
        ]);
        facts.copies[0].unreachable = Some("no route to host".to_owned());
        assert_eq!(exposure(&facts, Proof::Present, Scenario::DataLost, at(NOW)).age(), Some(hours(58)));
        facts.copies[1].unreachable = Some("no route to host".to_owned());
        assert_eq!(exposure(&facts, Proof::Present, Scenario::DataLost, at(NOW)), Exposure::Unknown);
        assert_eq!(Exposure::Unknown.within(hours(1_000)), Answer::Unknown);
    }

    #[test]
    fn without_any_backup_everything_would_be_lost() {
        for facts in [job(vec![]), job(vec![copy("local", [])])] {
            let exposure = exposure(&facts, Proof::Uploaded, Scenario::DataLost, at(NOW));
            assert_eq!(exposure, Exposure::Everything);
            assert_eq!(exposure.within(hours(1_000_000)), Answer::No);
        }
    }

    #[test]
    fn who_holds_all_credentials_leaves_only_what_nobody_can_delete() {
        let mut kept = backup("2026-11-18T02:00:00Z");
        kept.immutable_until = Some(at("2026-12-01T00:00:00Z"));
        let mut facts = job(vec![copy("offsite", [kept, backup("2026-11-22T02:00:00Z")])]);
        let lost = |facts: &JobFacts, now| exposure(facts, Proof::Present, Scenario::Compromised, at(now));
        assert_eq!(lost(&facts, NOW).age(), Some(hours(106)));
        // It has run out, and of the other nothing is known.
        assert_eq!(lost(&facts, "2026-12-02T00:00:00Z"), Exposure::Unknown);
        facts.copies[0].history_mut().backups.pop();
        assert_eq!(lost(&facts, "2026-12-02T00:00:00Z"), Exposure::Everything);
    }

    #[test]
    fn a_clock_that_went_back_makes_no_exposure_below_nothing() {
        let facts = job(vec![copy("local", [backup("2026-11-22T02:00:00Z")])]);
        let point = facts.copies[0].history.backups[0].durable;
        assert_eq!(
            exposure(&facts, Proof::Present, Scenario::DataLost, point).age(),
            Some(point.duration_since(at("2026-11-22T02:00:00Z")))
        );
        let mut ahead = facts.clone();
        ahead.copies[0].history_mut().backups[0].recovery_point = at("2026-11-23T02:00:00Z");
        assert_eq!(exposure(&ahead, Proof::Present, Scenario::DataLost, at(NOW)).age(), Some(hours(0)));
    }
}
