//! Facts for this room's tests.

use jiff::{SignedDuration, Timestamp};

use super::facts::{Amounts, Backup, CopyFacts, History, JobFacts, Objectives, Offsite, Outcome, Place, Run, Trigger};
use crate::contracts::Proof;
use crate::model::SnapshotId;
use crate::retention::GroupKey;

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

/// A job `app` whose data stands in Paris on `host`, daily.
pub(super) fn job(copies: Vec<CopyFacts>) -> JobFacts {
    JobFacts {
        job: "app".to_owned(),
        home: place("disk", "paris", "host"),
        copies,
        trigger: Trigger::Schedule { longest_gap: hours(24) },
        objectives: Objectives { rpo: Some(hours(26)), rto: Some(hours(2)) },
        offsite: Offsite::Required,
        drilled_from: None,
        drills: Vec::new(),
    }
}

pub(super) fn place(media: &str, site: &str, failure_domain: &str) -> Place {
    let some = |text: &str| Some(text.to_owned());
    Place { media: some(media), site: some(site), failure_domain: some(failure_domain) }
}

/// A repository in Oslo, on object storage of its own, that was read at noon of 22 November 2026.
pub(super) fn copy<const N: usize>(repository: &str, backups: [Backup; N]) -> CopyFacts {
    CopyFacts {
        repository: repository.to_owned(),
        place: place("object-storage", "oslo", repository),
        has_retention: true,
        read: Some(at("2026-11-22T12:00:00Z")),
        unreachable: None,
        history: History { backups: backups.into(), runs: Vec::new() }.into(),
    }
}

/// A backup of the job's files of this instant, durable an hour later, present, and of one gigabyte.
pub(super) fn backup(recovery_point: &str) -> Backup {
    let recovery_point = at(recovery_point);
    Backup {
        snapshot: SnapshotId::of(recovery_point.to_string().as_bytes()),
        part: GroupKey::of_job("app").into(),
        recovery_point,
        durable: recovery_point + hours(1),
        proof: Proof::Present,
        verified: None,
        restored: None,
        immutable_until: None,
        size: Some(Amounts { files: 1_000, logical: 1_000_000_000, new: 10_000_000, stored: 5_000_000, rows: None }),
    }
}

pub(super) fn run(ended: &str, outcome: Outcome) -> Run {
    Run { ended: at(ended), took: Some(hours(1)), outcome, part: None, recovery_point: None, size: None, why: None }
}

impl CopyFacts {
    pub(super) fn at(self, site: &str, failure_domain: &str) -> Self {
        let place = Place {
            site: Some(site.to_owned()),
            failure_domain: Some(failure_domain.to_owned()),
            media: self.place.media.clone(),
        };
        Self { place, ..self }
    }

    pub(super) fn on(self, media: &str) -> Self {
        let place = Place { media: Some(media.to_owned()), ..self.place.clone() };
        Self { place, ..self }
    }
}

impl Backup {
    /// Proven so far, with the moment an hour after it was durable.
    pub(super) fn proven(self, proof: Proof) -> Self {
        let when = |step| (proof >= step).then(|| self.durable + hours(1));
        Self { proof, verified: when(Proof::Verified), restored: when(Proof::Restored), ..self }
    }

    pub(super) fn of_dump(self, path: &str) -> Self {
        Self { part: GroupKey::of_dump("app", path).into(), ..self }
    }
}
