//! What a repository holds and records of each job: the facts that policy thinks about.
//!
//! Snapshots and records are read, nothing else, and nothing is written. What cannot be read is left out and counted:
//! facts with a hole show less than there is, and never more.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use crate::care::{Standing, standings};
use crate::contracts::{Proof, SnapshotFacts};
use crate::drill::{PastDrill, Verdict};
use crate::model::{Snapshot, SnapshotId};
use crate::policy::{Amounts, Backup, Drill, DrillVerdict, History, Outcome, Run};
use crate::repository::{ObjectLock, Record, RecordBody, Repository};
use crate::retention::GroupKey;
use crate::{Error, Result};

/// What a repository holds of its jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histories {
    /// When this was read.
    pub read: Timestamp,
    /// Each job's history, by its name.
    pub jobs: BTreeMap<String, Arc<History>>,
    /// Each job's drills from this copy, by its name, oldest first.
    pub drills: BTreeMap<String, Vec<Drill>>,
    /// The same drills with all their figures. Their repository is where this copy lies.
    pub past_drills: BTreeMap<String, Vec<PastDrill>>,
    /// When everything that it held was last read and hashed, whatever of it was sound.
    pub read_back: Option<Timestamp>,
    /// Snapshots that could not be read.
    pub damaged: u64,
}

/// Reads what a repository holds of its jobs. Snapshots without a job are nobody's history.
///
/// # Errors
///
/// When the repository cannot be listed.
pub fn histories(repository: &Repository) -> Result<Histories> {
    let read = repository.clock().now();
    let mut damaged = 0;
    let snapshots = repository.readable_snapshots(|_, _: Error| {
        damaged += 1;
        Ok(())
    })?;
    let records = repository.records()?;
    let jobs = of(&snapshots, records.iter().map(|(_, record)| record));
    let past_drills = drills(&snapshots, records.iter().map(|(_, record)| record), &repository.store().location());
    let mut parts = Parts::default();
    let part_of: HashMap<SnapshotId, Arc<GroupKey>> =
        snapshots.iter().map(|(id, snapshot)| (*id, parts.shared(part(&snapshot.tags, &snapshot.paths)))).collect();
    let part_of = |drill: &PastDrill| part_of.get(drill.snapshot.as_ref()?).cloned();
    let facts = |(job, drills): (&String, &Vec<PastDrill>)| {
        (job.clone(), drills.iter().map(|drill| fact(drill, part_of(drill))).collect())
    };
    let drills = past_drills.iter().map(facts).collect();
    let read_back = read_back(records.iter().map(|(_, record)| record));
    Ok(Histories { read, jobs, drills, past_drills, read_back, damaged })
}

/// When a repository was last read back in full, as its records say: only a check that reads all data finds snapshots
/// verified.
pub fn read_back<'a>(records: impl Iterator<Item = &'a Record>) -> Option<Timestamp> {
    let is_reading = |body: &RecordBody| matches!(body, RecordBody::Proof { proof: Proof::Verified, .. });
    records.filter(|record| is_reading(&record.body)).map(|record| record.time).max()
}

/// The histories that these snapshots and records tell.
fn of<'a>(
    snapshots: &[(SnapshotId, Snapshot)],
    records: impl Iterator<Item = &'a Record> + Clone,
) -> BTreeMap<String, Arc<History>> {
    let standings = standings(records.clone(), snapshots);
    let mut told = Told::default();
    records.clone().for_each(|record| told.hear(record));
    let mut jobs = BTreeMap::<String, History>::new();
    let mut parts = Parts::default();
    let mut groups = HashMap::<SnapshotId, Arc<GroupKey>>::new();
    for (id, snapshot) in snapshots {
        let standing = standings.get(id).copied();
        let part = parts.shared(part(&snapshot.tags, &snapshot.paths));
        let Some(job) = part.job.clone() else { continue };
        groups.insert(*id, Arc::clone(&part));
        if let Some(original) = snapshot.original {
            groups.insert(original, Arc::clone(&part));
        }
        jobs.entry(job).or_default().backups.push(told.backup(*id, snapshot, part, standing));
    }
    for record in records {
        let RecordBody::Run { verb, outcome, snapshot, figures } = &record.body else { continue };
        if !matches!(verb.as_str(), "create" | "run") {
            continue;
        }
        let known = snapshot.as_ref().and_then(|id| groups.get(id));
        let known = known.and_then(|part| Some((part.job.clone()?, Some(Arc::clone(part)))));
        let said = || said(figures).map(|(job, part)| (job, part.map(|part| parts.shared(part))));
        let Some((job, part)) = known.or_else(said) else { continue };
        jobs.entry(job).or_default().runs.push(run(record, outcome, part, figures));
    }
    for history in jobs.values_mut() {
        history.backups.sort_by_key(|backup| (backup.recovery_point, backup.snapshot));
        history.runs.sort_by_key(|run| run.ended);
        // They are kept for as long as a daemon lives, and what a list has in reserve is as much again.
        history.backups.shrink_to_fit();
        history.runs.shrink_to_fit();
    }
    jobs.into_iter().map(|(job, history)| (job, Arc::new(history))).collect()
}

/// Parts that many backups are of, each held once.
#[derive(Default)]
struct Parts(HashSet<Arc<GroupKey>>);

impl Parts {
    fn shared(&mut self, part: GroupKey) -> Arc<GroupKey> {
        if let Some(known) = self.0.get(&part) {
            return Arc::clone(known);
        }
        let part = Arc::new(part);
        self.0.insert(Arc::clone(&part));
        part
    }
}

/// The drills that these records tell of. One that names no job is its snapshot's job's.
fn drills<'a>(
    snapshots: &[(SnapshotId, Snapshot)],
    records: impl Iterator<Item = &'a Record>,
    repository: &str,
) -> BTreeMap<String, Vec<PastDrill>> {
    let job_of: HashMap<SnapshotId, String> =
        snapshots.iter().filter_map(|(id, snapshot)| Some((*id, part(&snapshot.tags, &snapshot.paths).job?))).collect();
    let mut drills = BTreeMap::<String, Vec<PastDrill>>::new();
    for record in records {
        let Some(drill) = PastDrill::from_record(record, repository) else { continue };
        let of_snapshot = || drill.snapshot.and_then(|id| job_of.get(&id).cloned());
        let Some(job) = drill.figures.job.clone().or_else(of_snapshot) else { continue };
        drills.entry(job).or_default().push(drill);
    }
    drills.values_mut().for_each(|drills| drills.sort_by_key(|drill| drill.ended));
    drills
}

/// What policy wants to know of a drill.
fn fact(drill: &PastDrill, part: Option<Arc<GroupKey>>) -> Drill {
    let took = drill.figures.verified_ms.and_then(|took| i64::try_from(took).ok()).map(SignedDuration::from_millis);
    let verdict = match &drill.verdict {
        Verdict::Passed => DrillVerdict::Passed,
        Verdict::Failed { reason } => DrillVerdict::Failed(reason.clone()),
        Verdict::NotRun { reason } => DrillVerdict::NotRun(reason.clone()),
    };
    Drill { ended: drill.ended, repository: drill.repository.clone(), part, verdict, took }
}

/// What records tell of single snapshots.
#[derive(Default)]
struct Told {
    /// When something was first recorded of one: just after it was durable.
    first: HashMap<SnapshotId, Timestamp>,
    /// The recovery points that sources reported.
    points: HashMap<SnapshotId, Timestamp>,
    /// Until when nobody at all can remove anything that one needs.
    locked: HashMap<SnapshotId, Timestamp>,
}

impl Told {
    fn hear(&mut self, record: &Record) {
        let mut first = |id: SnapshotId| {
            let first = self.first.entry(id).or_insert(record.time);
            *first = (*first).min(record.time);
        };
        match &record.body {
            RecordBody::Proof { snapshots, .. } => snapshots.iter().copied().for_each(first),
            RecordBody::Locked { snapshots, until, mode: ObjectLock::Compliance } => {
                for id in snapshots {
                    let locked = self.locked.entry(*id).or_insert(*until);
                    *locked = (*locked).max(*until);
                }
            }
            RecordBody::Run { snapshot: Some(id), figures, .. } => {
                first(*id);
                self.points.extend(point(figures).map(|point| (*id, point)));
            }
            _ => {}
        }
    }

    fn backup(&self, id: SnapshotId, snapshot: &Snapshot, part: Arc<GroupKey>, standing: Option<Standing>) -> Backup {
        let summary = snapshot.summary.as_ref();
        // A program that does not say when it began leaves the beginning of the epoch.
        let began = summary.map(|summary| summary.backup_start).filter(|began| *began > Timestamp::UNIX_EPOCH);
        let ended = summary.map(|summary| summary.backup_end).filter(|ended| *ended > Timestamp::UNIX_EPOCH);
        let begun = began.unwrap_or(snapshot.time);
        let of_either = |known: &HashMap<SnapshotId, Timestamp>| {
            [Some(id), snapshot.original].into_iter().flatten().find_map(|id| known.get(&id).copied())
        };
        // Of what another program wrote the first record is that of a check, which may be months later.
        let is_ours = snapshot.program_version.starts_with("backup ");
        let durable = of_either(&self.first).filter(|_| is_ours).or(ended).unwrap_or(snapshot.time);
        Backup {
            snapshot: id,
            part,
            recovery_point: of_either(&self.points).unwrap_or(begun),
            durable: durable.max(begun),
            proof: standing.map_or(Proof::Uploaded, |standing| standing.proof),
            verified: standing.and_then(|standing| standing.verified),
            restored: standing.and_then(|standing| standing.restored),
            // A snapshot that was written anew is another object, whose time is its own.
            immutable_until: self.locked.get(&id).copied(),
            size: summary.map(|summary| Amounts {
                files: summary.total_files_processed,
                logical: summary.total_bytes_processed,
                new: summary.data_added,
                stored: summary.data_added_packed,
                // A snapshot's own summary counts none.
                rows: None,
            }),
        }
    }
}

fn run(record: &Record, outcome: &str, part: Option<Arc<GroupKey>>, figures: &Map<String, Value>) -> Run {
    let number = |name: &str| figures.get(name).and_then(Value::as_u64);
    let outcome = match outcome {
        "done" if number("losses").unwrap_or_default() > 0 => Outcome::Losses,
        "done" => Outcome::Done,
        "losses" => Outcome::Losses,
        "suspicious" => Outcome::Suspicious,
        _ => Outcome::Failed,
    };
    let size = number("files").zip(number("bytes_total")).map(|(files, logical)| Amounts {
        files,
        logical,
        new: number("bytes_new").unwrap_or_default(),
        stored: number("bytes_stored").unwrap_or_default(),
        rows: number("rows"),
    });
    Run {
        ended: record.time,
        took: figures
            .get("seconds")
            .and_then(Value::as_f64)
            .and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok()),
        outcome,
        part,
        recovery_point: point(figures),
        size,
        why: figures.get("why").and_then(Value::as_str).map(str::to_owned),
    }
}

/// The recovery point that a source reported.
fn point(figures: &Map<String, Value>) -> Option<Timestamp> {
    figures.get("recovery_point")?.get("time")?.as_str()?.parse().ok()
}

/// The job that a record itself names, for a run whose snapshot is gone or that made none.
fn said(figures: &Map<String, Value>) -> Option<(String, Option<GroupKey>)> {
    let job = figures.get("job")?.as_str()?.to_owned();
    let paths = figures.get("paths").and_then(Value::as_array);
    let paths = paths.map(|paths| paths.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>());
    let part = paths.map(|paths| part(&[format!("job:{job}")], &paths));
    Some((job, part))
}

/// The part of a job that a snapshot is of, as retention groups it.
fn part(tags: &[String], paths: &[String]) -> GroupKey {
    GroupKey::of(&SnapshotFacts {
        id: SnapshotId::from_bytes([0; 32]),
        time: Timestamp::UNIX_EPOCH,
        host: String::new(),
        paths: paths.to_vec(),
        tags: tags.to_vec(),
        proof: Proof::Uploaded,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::BlobId;

    fn id(name: &str) -> SnapshotId {
        SnapshotId::of(name.as_bytes())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// A snapshot of a job, begun at this second and written a minute later.
    fn snapshot(name: &str, begun: i64, job: &str, path: &str) -> (SnapshotId, Snapshot) {
        let text = json!({
            "time": at(begun).to_string(),
            "tree": BlobId::of(b"t"),
            "paths": [path],
            "tags": [format!("job:{job}")],
            "program_version": "backup 0.1.0",
            "summary": {
                "backup_start": at(begun).to_string(), "backup_end": at(begun + 60).to_string(),
                "total_files_processed": 3, "total_bytes_processed": 30, "data_added": 20, "data_added_packed": 10,
            },
        });
        (id(name), serde_json::from_value(text).unwrap())
    }

    fn record(second: i64, body: RecordBody) -> Record {
        Record { time: at(second), hostname: String::new(), body }
    }

    fn ran(snapshot: Option<&str>, outcome: &str, figures: Value) -> RecordBody {
        let Value::Object(figures) = figures else { panic!("figures are an object") };
        RecordBody::Run { verb: "create".into(), outcome: outcome.into(), snapshot: snapshot.map(id), figures }
    }

    fn present(name: &str) -> RecordBody {
        RecordBody::Proof { snapshots: vec![id(name)], proof: Proof::Present }
    }

    #[test]
    fn a_backup_has_the_recovery_point_of_its_source_and_is_durable_when_that_was_recorded() {
        let records = [
            record(70, present("a")),
            record(71, ran(Some("a"), "done", json!({"recovery_point": {"time": at(5).to_string()}, "seconds": 61.5}))),
            record(9_000, RecordBody::Proof { snapshots: vec![id("a")], proof: Proof::Verified }),
        ];
        let jobs = of(&[snapshot("a", 0, "app", "/postgres/app")], records.iter());
        let backup = &jobs["app"].backups[0];
        assert_eq!((backup.recovery_point, backup.durable), (at(5), at(70)));
        assert_eq!((backup.proof, backup.verified, backup.restored), (Proof::Verified, Some(at(9_000)), None));
        assert_eq!(*backup.part, GroupKey::of_dump("app", "/postgres/app"));
        assert_eq!(backup.size.unwrap(), Amounts { files: 3, logical: 30, new: 20, stored: 10, rows: None });
        let run = &jobs["app"].runs[0];
        assert_eq!((run.outcome, run.took), (Outcome::Done, Some(SignedDuration::from_millis(61_500))));
    }

    #[test]
    fn of_another_programs_snapshot_no_check_says_when_it_was_durable() {
        let mut restics = snapshot("a", 0, "app", "/srv");
        restics.1.program_version = "restic 0.18.1".to_owned();
        let jobs = of(&[restics], [record(9_000, present("a"))].iter());
        assert_eq!(jobs["app"].backups[0].durable, at(60));
        let mut bare = snapshot("b", 7, "app", "/srv");
        bare.1.summary = None;
        let jobs = of(&[bare], [].iter());
        let backup = &jobs["app"].backups[0];
        assert_eq!((backup.recovery_point, backup.durable, backup.proof), (at(7), at(7), Proof::Uploaded));
    }

    #[test]
    fn a_run_that_made_nothing_or_whose_snapshot_is_gone_is_its_jobs_by_its_own_words() {
        let records = [
            record(60, ran(Some("gone"), "done", json!({"job": "app", "paths": ["/mysql/shop"], "losses": 0}))),
            record(70, ran(None, "failed", json!({"job": "app", "why": "no space left"}))),
            record(80, ran(Some("nobody's"), "done", json!({}))),
            record(90, ran(Some("a"), "done", json!({"losses": 2}))),
            record(
                95,
                RecordBody::Run { verb: "prune".into(), outcome: "done".into(), snapshot: None, figures: Map::new() },
            ),
        ];
        let jobs = of(&[snapshot("a", 0, "app", "/srv")], records.iter());
        let runs: Vec<_> =
            jobs["app"].runs.iter().map(|run| (run.outcome, run.part.clone(), run.why.clone())).collect();
        assert_eq!(
            runs,
            [
                (Outcome::Done, Some(GroupKey::of_dump("app", "/mysql/shop").into()), None),
                (Outcome::Failed, None, Some("no space left".to_owned())),
                (Outcome::Losses, Some(GroupKey::of_job("app").into()), None),
            ]
        );
    }

    #[test]
    fn a_snapshot_whose_tags_were_changed_has_the_history_of_its_original() {
        let mut held = snapshot("held", 0, "app", "/srv");
        held.1.original = Some(id("a"));
        let records = [
            record(70, present("a")),
            record(71, ran(Some("a"), "done", json!({"recovery_point": {"time": at(5).to_string()}}))),
        ];
        let jobs = of(&[held], records.iter());
        let backup = &jobs["app"].backups[0];
        assert_eq!((backup.recovery_point, backup.durable, backup.proof), (at(5), at(70), Proof::Present));
        assert_eq!(jobs["app"].runs.len(), 1);
    }

    #[test]
    fn what_nobody_at_all_can_remove_is_immutable_and_what_some_can_is_not() {
        let locked =
            |name: &str, until: i64, mode| RecordBody::Locked { snapshots: vec![id(name)], until: at(until), mode };
        let records = [
            record(70, locked("a", 9_000, ObjectLock::Compliance)),
            record(80, locked("a", 8_000, ObjectLock::Compliance)),
            record(90, locked("a", 99_000, ObjectLock::Governance)),
        ];
        let mut again = snapshot("again", 1, "app", "/srv");
        again.1.original = Some(id("a"));
        let jobs = of(&[snapshot("a", 0, "app", "/srv"), again], records.iter());
        let until: Vec<_> = jobs["app"].backups.iter().map(|backup| backup.immutable_until).collect();
        assert_eq!(until, [Some(at(9_000)), None], "a snapshot that was written anew is another object");
        // To lock is no sign that it was durable then.
        assert_eq!(jobs["app"].backups[0].durable, at(60));
    }

    #[test]
    fn snapshots_without_a_job_are_nobodys_history() {
        let mut other = snapshot("a", 0, "app", "/srv");
        other.1.tags.clear();
        assert_eq!(of(&[other], [].iter()), BTreeMap::new());
    }
}
