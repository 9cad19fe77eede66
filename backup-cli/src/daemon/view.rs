//! What the daemon knows and shows: facts, what follows from them, what it is at.
//!
//! One thread makes a view and puts it where the others look; a view does not change once it is there, so that a page and
//! the figures of one moment are of one mind.

use std::sync::{Arc, PoisonError, RwLock};

use backup_core::metrics;
use backup_core::policy::{JobFacts, JobStanding, Standards};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// How long what follows from facts is taken for true: a page tells minutes.
const COMPUTED_KEPT: SignedDuration = SignedDuration::from_secs(30);

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
    /// What "lately" means for it.
    pub(super) standards: Standards,
    /// What follows from them.
    pub(super) standing: Arc<JobStanding>,
    /// When that was computed.
    pub(super) computed: Timestamp,
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

    /// The same as it is at `now`: what would be lost grows while nobody reads a repository.
    pub(super) fn as_of(&self, now: Timestamp) -> Self {
        let jobs = self.jobs.iter().map(|job| {
            if now.duration_since(job.computed).abs() < COMPUTED_KEPT {
                return job.clone();
            }
            let standing = Arc::new(JobStanding::of(&job.facts, &job.standards, now));
            JobView { standing, computed: now, ..job.clone() }
        });
        Self { jobs: jobs.collect(), ..self.clone() }
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
    use super::*;
    use backup_core::contracts::Proof;
    use backup_core::model::SnapshotId;
    use backup_core::policy::{
        Amounts, Backup, CopyFacts, Drill, DrillVerdict, History, Objectives, Offsite, Outcome, Place, Run, Trigger,
    };
    use backup_core::retention::GroupKey;

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
            drilled_from: None,
            drills: vec![Drill {
                ended: now() - SignedDuration::from_hours(3),
                repository: "local".to_owned(),
                verdict,
                part: None,
                took: Some(SignedDuration::from_mins(11)),
            }],
        };
        let standing = JobStanding::of(&facts, &Standards::default(), now());
        JobView {
            facts: Arc::new(facts),
            standards: Standards::default(),
            standing: Arc::new(standing),
            computed: now(),
            running: None,
            next: Some(now() + SignedDuration::from_hours(14)),
        }
    }

    pub(in crate::daemon) fn view() -> View {
        View {
            host: "db1".to_owned(),
            zone: TimeZone::UTC,
            jobs: vec![
                job("app-db", 10, DrillVerdict::Passed),
                job("uploads", 40, DrillVerdict::Failed("rows of users differ".to_owned())),
            ],
            is_ready: true,
            troubles: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use backup_core::contracts::Proof;
    use backup_core::policy::{Answer, DrillVerdict};

    use super::*;

    #[test]
    fn what_would_be_lost_grows_although_no_repository_is_read() {
        let view = View { jobs: vec![sample::job("app", 10, DrillVerdict::Passed)], ..sample::view() };
        assert_eq!(view.jobs[0].standing.rpo_met, Some(Answer::Yes));
        let later = view.as_of(sample::now() + SignedDuration::from_hours(17));
        assert_eq!(later.jobs[0].standing.rpo_met, Some(Answer::No));
        let hours = SignedDuration::from_hours;
        assert_eq!(later.jobs[0].standing.exposure(Proof::Present).age(), Some(hours(27)));
        let soon = view.as_of(sample::now() + SignedDuration::from_secs(20));
        assert!(Arc::ptr_eq(&soon.jobs[0].standing, &view.jobs[0].standing), "it is not computed for each request");
    }
}
