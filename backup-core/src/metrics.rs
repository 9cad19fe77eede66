//! The figures of jobs as Prometheus reads them: its text format, version 0.0.4.
//!
//! Names are what other people's rules rely on; they do not change. Instants are given as such and ages are left to the
//! query, but for the exposure, which is the age of a recovery point and has no instant where there is no backup: it is
//! `+Inf` there. What is not known is left out, so that a query finds nothing and not a nought; only
//! `backup_321_compliant` is 0 where it is not known, because what could not be checked is not compliant.
//!
//! Its callers are the daemon's `/metrics`, and runs that write a file for a collector or push.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

use crate::contracts::Proof;
use crate::policy::{Answer, Backup, CopyFacts, DrillVerdict, Exposure, JobFacts, JobStanding, Run};

/// What the text is, for the header `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The figures of all jobs at `now`.
///
/// A standing may be older than `now`, as long as it is of these facts: what ages is counted anew.
pub fn text(jobs: &[(&JobFacts, &JobStanding)], now: Timestamp) -> String {
    let mut text = Text { out: String::with_capacity(jobs.len() * 4_096 + 4_096) };
    successes(&mut text, jobs);
    runs(&mut text, jobs);
    exposures(&mut text, jobs, now);
    objectives(&mut text, jobs);
    drills(&mut text, jobs);
    copies(&mut text, jobs);
    text.out
}

type Jobs<'a> = [(&'a JobFacts, &'a JobStanding)];

fn successes(text: &mut Text, jobs: &Jobs<'_>) {
    text.family(
        "backup_last_success_timestamp",
        "When the newest backup of the job was durable in the repository, in seconds.",
    );
    for_each_newest(jobs, |labels, newest| {
        text.instant("backup_last_success_timestamp", labels, newest.durable);
    });
    text.family(
        "backup_recovery_point_timestamp",
        "The instant that a restore of the newest backup returns to, in seconds.",
    );
    for (facts, copy) in each_copy(jobs) {
        // Of several parts, the one that is the oldest.
        if let Some(point) = newest_of_each_part(copy).iter().map(|newest| newest.recovery_point).min() {
            let labels = [("job", facts.job.as_str()), ("repository", copy.repository.as_str())];
            text.instant("backup_recovery_point_timestamp", &labels, point);
        }
    }
    text.family(
        "backup_verified_timestamp",
        "When the copy was last read back: when all of a backup of the job was read from the repository and hashed, in seconds.",
    );
    for (facts, copy) in each_copy(jobs) {
        let of_part = |part: &Backup| {
            let backups = copy.history.backups.iter().filter(|backup| backup.part == part.part);
            backups.filter_map(|backup| backup.verified).max()
        };
        // Of several parts, the one that was longest not.
        let verified: Option<Vec<_>> = newest_of_each_part(copy).into_iter().map(of_part).collect();
        if let Some(verified) = verified.and_then(|verified| verified.into_iter().min()) {
            let labels = [("job", facts.job.as_str()), ("repository", copy.repository.as_str())];
            text.instant("backup_verified_timestamp", &labels, verified);
        }
    }
    text.family("backup_bytes", "Bytes of the newest backup: of its files, new to the repository, and stored for it.");
    for (facts, copy) in each_copy(jobs) {
        let sizes: Vec<_> = newest_of_each_part(copy).iter().filter_map(|newest| newest.size).collect();
        let kinds = [
            ("logical", sizes.iter().map(|size| size.logical).sum::<u64>()),
            ("new", sizes.iter().map(|size| size.new).sum()),
            ("stored", sizes.iter().map(|size| size.stored).sum()),
        ];
        for (kind, bytes) in kinds.into_iter().filter(|_| !sizes.is_empty()) {
            let labels = [("job", facts.job.as_str()), ("repository", copy.repository.as_str()), ("kind", kind)];
            text.sample("backup_bytes", &labels, bytes);
        }
    }
}

fn runs(text: &mut Text, jobs: &Jobs<'_>) {
    let last = |facts: &JobFacts| last_run(facts).map(|run| (run.ended, run.took));
    text.family("backup_last_attempt_timestamp", "When the last run of the job ended, however it ended, in seconds.");
    for (facts, _) in jobs {
        if let Some((ended, _)) = last(facts) {
            text.instant("backup_last_attempt_timestamp", &[("job", &facts.job)], ended);
        }
    }
    text.family("backup_duration_seconds", "How long the last run of the job took.");
    for (facts, _) in jobs {
        if let Some((_, Some(took))) = last(facts) {
            text.seconds("backup_duration_seconds", &[("job", &facts.job)], took);
        }
    }
    text.family("backup_schedule_interval_seconds", "The longest time that the schedule lets pass between two runs.");
    for (facts, _) in jobs {
        if let Some(gap) = facts.trigger.longest_gap() {
            text.seconds("backup_schedule_interval_seconds", &[("job", &facts.job)], gap);
        }
    }
}

fn exposures(text: &mut Text, jobs: &Jobs<'_>, now: Timestamp) {
    text.family(
        "backup_rpo_exposure_seconds",
        "What would be lost now, if only backups at this step of proof can be relied on.",
    );
    for (facts, standing) in jobs {
        for (proof, exposure) in &standing.exposures {
            let labels = [("job", facts.job.as_str()), ("proof", proof_word(*proof))];
            match exposure {
                Exposure::Since { recovery_point, .. } => {
                    let age = now.duration_since(*recovery_point).max(SignedDuration::ZERO);
                    text.seconds("backup_rpo_exposure_seconds", &labels, age);
                }
                Exposure::Everything => text.sample("backup_rpo_exposure_seconds", &labels, "+Inf"),
                Exposure::Unknown => {}
            }
        }
    }
}

fn objectives(text: &mut Text, jobs: &Jobs<'_>) {
    let mut family = |name: &str, help: &str, of: fn(&JobFacts, &JobStanding) -> Option<SignedDuration>| {
        text.family(name, help);
        for (facts, standing) in jobs {
            if let Some(duration) = of(facts, standing) {
                text.seconds(name, &[("job", &facts.job)], duration);
            }
        }
    };
    family("backup_rpo_objective_seconds", "How much of the job's data may be lost.", |facts, _| facts.objectives.rpo);
    family("backup_rto_objective_seconds", "How long a restore of the job may take.", |facts, _| facts.objectives.rto);
    family("backup_rto_measured_seconds", "How long the last drill that passed took.", |_, standing| {
        standing.rto_measured
    });
}

fn drills(text: &mut Text, jobs: &Jobs<'_>) {
    text.family("backup_drill_last_success_timestamp", "When a drill last restored the copy, in seconds.");
    for (facts, copy) in each_copy(jobs) {
        if let Some(restored) = facts.restored_from(&copy.repository) {
            let labels = [("job", facts.job.as_str()), ("repository", copy.repository.as_str())];
            text.instant("backup_drill_last_success_timestamp", &labels, restored);
        }
    }
    text.family("backup_drill_result", "How the last drill of the copy ended: 1 for what it was.");
    for (facts, copy) in each_copy(jobs) {
        let Some(drill) = facts.drilled(&copy.repository) else { continue };
        let was = match drill.verdict {
            DrillVerdict::Passed => "passed",
            DrillVerdict::Failed(_) => "failed",
            DrillVerdict::NotRun(_) => "not_run",
        };
        for result in ["passed", "failed", "not_run"] {
            let labels = [("job", facts.job.as_str()), ("repository", copy.repository.as_str()), ("result", result)];
            text.sample("backup_drill_result", &labels, u8::from(result == was));
        }
    }
}

fn copies(text: &mut Text, jobs: &Jobs<'_>) {
    text.family("backup_copies", "Copies of the job's data that count, the data itself among them.");
    for (facts, standing) in jobs {
        text.sample("backup_copies", &[("job", &facts.job)], standing.three_two_one.copies);
    }
    text.family(
        "backup_321_compliant",
        "1 if the job has three copies on two media with one at another site; 0 if not, or not known.",
    );
    for (facts, standing) in jobs {
        let is_met = standing.three_two_one.answer == Answer::Yes;
        text.sample("backup_321_compliant", &[("job", &facts.job)], u8::from(is_met));
    }
    text.family("backup_facts_timestamp", "When what is known of a repository was last read from it, in seconds.");
    let mut read: Vec<_> =
        each_copy(jobs).filter_map(|(_, copy)| Some((copy.repository.as_str(), copy.read?))).collect();
    // One for each repository: the newest.
    read.sort_unstable_by_key(|(repository, read)| (*repository, std::cmp::Reverse(*read)));
    read.dedup_by_key(|(repository, _)| *repository);
    for (repository, read) in read {
        text.instant("backup_facts_timestamp", &[("repository", repository)], read);
    }
}

fn each_copy<'a>(jobs: &'a Jobs<'a>) -> impl Iterator<Item = (&'a JobFacts, &'a CopyFacts)> {
    jobs.iter().flat_map(|(facts, _)| facts.copies.iter().map(|copy| (*facts, copy)))
}

/// The newest backup of each job in each repository, of all its parts together.
fn for_each_newest(jobs: &Jobs<'_>, mut each: impl FnMut(&[(&str, &str)], &Backup)) {
    for (facts, copy) in each_copy(jobs) {
        if let Some(newest) = copy.history.backups.iter().max_by_key(|backup| backup.durable) {
            each(&[("job", &facts.job), ("repository", &copy.repository)], newest);
        }
    }
}

/// Backups are ordered by their recovery points: the last of each part.
fn newest_of_each_part(copy: &CopyFacts) -> Vec<&Backup> {
    let mut newest: Vec<&Backup> = Vec::new();
    for backup in copy.history.backups.iter().rev() {
        if newest.iter().all(|known| known.part != backup.part) {
            newest.push(backup);
        }
    }
    newest
}

fn last_run(facts: &JobFacts) -> Option<&Run> {
    facts.copies.iter().filter_map(|copy| copy.history.runs.last()).max_by_key(|run| run.ended)
}

fn proof_word(proof: Proof) -> &'static str {
    match proof {
        Proof::Uploaded => "uploaded",
        Proof::Present => "present",
        Proof::Verified => "verified",
        Proof::Restored => "restored",
    }
}

/// The text, as it grows.
struct Text {
    out: String,
}

impl Text {
    /// Begins a family; all that this project tells is the value of a moment.
    fn family(&mut self, name: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} gauge"));
    }

    fn instant(&mut self, name: &str, labels: &[(&str, &str)], instant: Timestamp) {
        self.sample(name, labels, format_args!("{}", Millis(instant.as_millisecond())));
    }

    fn seconds(&mut self, name: &str, labels: &[(&str, &str)], duration: SignedDuration) {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        self.sample(name, labels, format_args!("{}", Millis(millis)));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let mut spelled = String::new();
        for (label, value) in labels {
            let comma = if spelled.is_empty() { "" } else { "," };
            // Writing to a string cannot fail.
            let _ = write!(spelled, "{comma}{label}=\"{}\"", escaped(value));
        }
        self.line(format_args!("{name}{{{spelled}}} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.out, "{line}");
    }
}

/// Thousandths, as seconds.
struct Millis(i64);

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, rest) = (self.0.div_euclid(1_000), self.0.rem_euclid(1_000));
        match rest {
            0 => write!(f, "{seconds}"),
            rest if seconds >= 0 => write!(f, "{seconds}.{rest:03}"),
            // What is negative is not cut where a positive number is.
            _ => write!(f, "-{}.{:03}", self.0.unsigned_abs() / 1_000, self.0.unsigned_abs() % 1_000),
        }
    }
}

/// A label's value, as the text format writes it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SnapshotId;
    use crate::policy::{Amounts, Drill, History, Objectives, Offsite, Outcome, Place, Standards, Trigger};
    use crate::retention::GroupKey;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn job(name: &str) -> JobFacts {
        let backup = |point: &str, dump: &str| Backup {
            snapshot: SnapshotId::of(point.as_bytes()),
            part: GroupKey::of_dump(name, dump).into(),
            recovery_point: at(point),
            durable: at(point) + SignedDuration::from_secs(90),
            proof: Proof::Present,
            verified: None,
            restored: None,
            immutable_until: None,
            size: Some(Amounts { files: 1, logical: 1_000, new: 100, stored: 50, rows: None }),
        };
        let run = Run {
            ended: at("2026-11-22T03:00:00Z"),
            took: Some(SignedDuration::from_millis(61_500)),
            outcome: Outcome::Failed,
            part: None,
            recovery_point: None,
            size: None,
            why: None,
        };
        let backups = vec![
            backup("2026-11-20T02:00:00Z", "/postgres/a"),
            backup("2026-11-21T02:00:00Z", "/postgres/b"),
            backup("2026-11-22T02:00:00Z", "/postgres/b"),
        ];
        let copy = CopyFacts {
            repository: "local".to_owned(),
            place: Place::default(),
            has_retention: true,
            read: Some(at("2026-11-22T11:00:00Z")),
            unreachable: None,
            history: History { backups, runs: vec![run] }.into(),
        };
        let drill = Drill {
            ended: at("2026-11-22T05:00:00Z"),
            repository: "local".to_owned(),
            part: None,
            verdict: DrillVerdict::NotRun("no sandbox".to_owned()),
            took: None,
        };
        JobFacts {
            job: name.to_owned(),
            home: Place::default(),
            copies: vec![copy],
            trigger: Trigger::Schedule { longest_gap: SignedDuration::from_hours(24) },
            objectives: Objectives { rpo: Some(SignedDuration::from_hours(26)), rto: None },
            offsite: Offsite::Required,
            drilled_from: None,
            drills: vec![drill],
        }
    }

    fn told(facts: &JobFacts, now: &str) -> String {
        let standing = JobStanding::of(facts, &Standards::default(), at("2026-11-22T12:00:00Z"));
        text(&[(facts, &standing)], at(now))
    }

    #[test]
    fn each_figure_is_told_under_its_name() {
        let told = told(&job("app"), "2026-11-22T12:00:00Z");
        for line in [
            "backup_last_success_timestamp{job=\"app\",repository=\"local\"} 1795312890",
            // The older of the newest of two databases.
            "backup_recovery_point_timestamp{job=\"app\",repository=\"local\"} 1795140000",
            "backup_bytes{job=\"app\",repository=\"local\",kind=\"logical\"} 2000",
            "backup_bytes{job=\"app\",repository=\"local\",kind=\"new\"} 200",
            "backup_bytes{job=\"app\",repository=\"local\",kind=\"stored\"} 100",
            "backup_last_attempt_timestamp{job=\"app\"} 1795316400",
            "backup_duration_seconds{job=\"app\"} 61.500",
            "backup_schedule_interval_seconds{job=\"app\"} 86400",
            "backup_rpo_exposure_seconds{job=\"app\",proof=\"present\"} 208800",
            "backup_rpo_exposure_seconds{job=\"app\",proof=\"verified\"} +Inf",
            "backup_rpo_objective_seconds{job=\"app\"} 93600",
            "backup_drill_result{job=\"app\",repository=\"local\",result=\"not_run\"} 1",
            "backup_drill_result{job=\"app\",repository=\"local\",result=\"passed\"} 0",
            "backup_copies{job=\"app\"} 1",
            "backup_321_compliant{job=\"app\"} 0",
            "backup_facts_timestamp{repository=\"local\"} 1795345200",
        ] {
            assert!(told.lines().any(|told| told == line), "{line}\n{told}");
        }
        // What nobody has said or seen is not there.
        for name in
            ["backup_rto_objective_seconds{", "backup_rto_measured_seconds{", "backup_drill_last_success_timestamp{"]
        {
            assert!(!told.contains(name), "{name}");
        }
    }

    #[test]
    fn an_exposure_grows_with_the_time_that_it_is_told_at() {
        let told = told(&job("app"), "2026-11-22T13:00:00Z");
        assert!(told.contains("backup_rpo_exposure_seconds{job=\"app\",proof=\"present\"} 212400\n"), "{told}");
    }

    #[test]
    fn every_family_has_its_help_and_type_once_and_before_its_samples() {
        let (one, other) = (job("app"), job("uploads"));
        let standing = |facts| JobStanding::of(facts, &Standards::default(), at("2026-11-22T12:00:00Z"));
        let told = text(&[(&one, &standing(&one)), (&other, &standing(&other))], at("2026-11-22T12:00:00Z"));
        let mut family = String::new();
        let mut seen = std::collections::BTreeSet::new();
        for line in told.lines() {
            match line.strip_prefix("# HELP ") {
                Some(help) => {
                    family = help.split(' ').next().unwrap().to_owned();
                    assert!(seen.insert(family.clone()), "{family} twice");
                }
                None if line.starts_with('#') => assert_eq!(line, format!("# TYPE {family} gauge")),
                None => assert!(line.starts_with(&format!("{family}{{")), "{line}"),
            }
        }
        assert_eq!(seen.len(), 16);
    }

    #[test]
    fn names_are_escaped_as_the_format_wants_it() {
        let told = told(&job("a\"b\\c\nd"), "2026-11-22T12:00:00Z");
        assert!(told.contains("backup_copies{job=\"a\\\"b\\\\c\\nd\"} 1\n"), "{told}");
    }

    #[test]
    fn thousandths_are_seconds() {
        for (millis, seconds) in
            [(0, "0"), (1_500, "1.500"), (-1, "-0.001"), (-1_500, "-1.500"), (-2_000, "-2"), (7, "0.007")]
        {
            assert_eq!(Millis(millis).to_string(), seconds);
        }
    }
}
