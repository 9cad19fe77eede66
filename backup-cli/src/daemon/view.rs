//! What the daemon knows and shows: facts, what follows from them, what it is at.
//!
//! One thread makes a view and puts it where the others look; a view does not change once it is there, so that a page and
//! the figures of one moment are of one mind.

use std::sync::{Arc, PoisonError, RwLock};

use backup_core::metrics;
use backup_core::policy::{JobFacts, JobStanding};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What is known at a moment.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// The machine's name.
    pub(super) host: String,
    /// In whose hours times are told.
    pub(super) zone: TimeZone,
    /// The jobs, in the configuration's order.
    pub(super) jobs: Vec<JobView>,
    /// Whether the repositories were asked at least once.
    pub(super) is_ready: bool,
    /// What is wrong with the daemon itself: a configuration that could not be read again.
    pub(super) troubles: Vec<String>,
}

/// What is known of a job.
#[derive(Clone, Debug)]
pub(super) struct JobView {
    /// The facts.
    pub(super) facts: Arc<JobFacts>,
    /// What follows from them.
    pub(super) standing: Arc<JobStanding>,
    /// Since when it runs, if it does.
    pub(super) running: Option<Timestamp>,
    /// When it runs next.
    pub(super) next: Option<Timestamp>,
}

impl View {
    /// Before anything is known.
    pub(super) fn nothing(host: String, zone: TimeZone) -> Self {
        Self { host, zone, jobs: Vec::new(), is_ready: false, troubles: Vec::new() }
    }

    /// The figures, as Prometheus reads them.
    pub(super) fn figures(&self, now: Timestamp) -> String {
        let jobs: Vec<_> = self.jobs.iter().map(|job| (&*job.facts, &*job.standing)).collect();
        metrics::text(&jobs, now)
    }
}

/// Where the view is.
#[derive(Clone, Debug)]
pub(super) struct Shown(Arc<RwLock<Arc<View>>>);

impl Shown {
    /// Shows `view`.
    pub(super) fn new(view: View) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(view))))
    }

    /// The view of this moment.
    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows another.
    pub(super) fn show(&self, view: View) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }
}

#[cfg(test)]
pub(super) mod sample {
    use backup_core::contracts::Proof;
    use backup_core::model::SnapshotId;
    use backup_core::policy::{
        Amounts, Backup, CopyFacts, Drill, DrillVerdict, History, Objectives, Offsite, Outcome, Place, Run, Standards,
        Trigger,
    };
    use backup_core::retention::GroupKey;
    use jiff::SignedDuration;

    use super::*;

    pub(in crate::daemon) fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    /// A job with two weeks of backups, of which the newest is `age_hours` old.
    pub(in crate::daemon) fn job(name: &str, age_hours: i64, verdict: DrillVerdict) -> JobView {
        let point = |day: i64| now() - SignedDuration::from_hours(age_hours + 24 * day);
        let backup = |day: i64| Backup {
            snapshot: SnapshotId::of(&day.to_le_bytes()),
            part: GroupKey::of_job(name).into(),
            recovery_point: point(day),
            durable: point(day) + SignedDuration::from_mins(7),
            proof: if day == 1 { Proof::Restored } else { Proof::Present },
            verified: (day == 1).then(|| point(0)),
            restored: (day == 1).then(|| point(0)),
            immutable_until: None,
            size: Some(Amounts {
                files: 40,
                logical: 1_000_000_000 - 9_000_000 * day.unsigned_abs(),
                new: 5,
                stored: 3,
                rows: None,
            }),
        };
        let run = |day: i64| Run {
            ended: point(day) + SignedDuration::from_mins(7),
            took: Some(SignedDuration::from_secs(400 + 10 * (day % 4))),
            outcome: if day == 5 { Outcome::Failed } else { Outcome::Done },
            part: None,
            recovery_point: None,
            size: None,
            why: None,
        };
        let history =
            || History { backups: (0..14).rev().map(backup).collect(), runs: (0..14).rev().map(run).collect() };
        let copy = |repository: &str, media: &str, site: &str| CopyFacts {
            repository: repository.to_owned(),
            place: Place {
                media: Some(media.into()),
                site: Some(site.into()),
                failure_domain: Some(repository.into()),
            },
            has_retention: true,
            read: Some(now()),
            unreachable: None,
            history: history().into(),
        };
        let facts = JobFacts {
            job: name.to_owned(),
            home: Place { media: Some("disk".into()), site: Some("paris".into()), failure_domain: Some("host".into()) },
            copies: vec![copy("local", "disk", "paris"), copy("offsite", "object-storage", "oslo")],
            trigger: Trigger::Schedule { longest_gap: SignedDuration::from_hours(24) },
            objectives: Objectives {
                rpo: Some(SignedDuration::from_hours(26)),
                rto: Some(SignedDuration::from_hours(2)),
            },
            offsite: Offsite::Required,
            drills: vec![Drill {
                ended: now() - SignedDuration::from_hours(3),
                repository: "local".to_owned(),
                verdict,
                took: Some(SignedDuration::from_mins(11)),
            }],
        };
        let standing = JobStanding::of(&facts, &Standards::default(), now());
        JobView {
            facts: Arc::new(facts),
            standing: Arc::new(standing),
            running: None,
            next: Some(now() + SignedDuration::from_hours(14)),
        }
    }

    pub(in crate::daemon) fn view() -> View {
        View {
            host: "db1".to_owned(),
            zone: TimeZone::UTC,
            jobs: vec![job("app-db", 10, DrillVerdict::Passed), job("uploads", 40, DrillVerdict::Failed)],
            is_ready: true,
            troubles: Vec::new(),
        }
    }
}
