//! Tells the repository what a drill proved, so that `status` and retention know it.

use serde_json::{Map, Value};

use super::outcome::{DrillOutcome, RUNBOOK_RESTORES, Verdict};
use super::stages::{Stage, StageName};
use crate::Result;
use crate::contracts::{Check, CheckResult, Level, Proof, RecoveryPoint};
use crate::model::SnapshotId;
use crate::repository::{Record, RecordBody, Repository};

/// The verb of a drill's record.
const VERB: &str = "drill";

/// Whether all of the snapshot was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All that it holds.
    Whole,
    /// A part of it: nothing is proven of the rest.
    Part,
}

/// Writes down that the drill was, and what it proved of the snapshot: that it was restored, or that it is broken. What
/// the user's questions found is no damage, and a drill that has not run says nothing of the snapshot.
///
/// `job` is the job that it was of. It returns when what was written is durable.
pub fn write_down(
    repository: &Repository,
    snapshot: SnapshotId,
    job: Option<&str>,
    extent: Extent,
    outcome: &DrillOutcome,
) -> Result<()> {
    if outcome.is_proven() && extent == Extent::Whole {
        repository.save_record(RecordBody::Proof { snapshots: vec![snapshot], proof: Proof::Restored })?;
    }
    if let Some(tried) = refuted(outcome) {
        repository.save_record(RecordBody::Broken { snapshots: vec![snapshot], tried })?;
    }
    let figures = DrillFigures::of(outcome, job).into_map();
    let outcome = outcome.verdict.word().to_owned();
    repository.save_record(RecordBody::Run { verb: VERB.to_owned(), outcome, snapshot: Some(snapshot), figures })?;
    repository.store().sync()
}

/// What it takes to outweigh what the drill found wrong: `None` when it found nothing wrong with the snapshot itself: a
/// runbook that cannot be followed is no damage of what it would bring back.
fn refuted(outcome: &DrillOutcome) -> Option<Proof> {
    let is_failed = |check: &&Check| check.result == CheckResult::Failed && check.id != RUNBOOK_RESTORES;
    let first = outcome.checks.iter().filter(is_failed).map(|check| check.level).min()?;
    match first {
        Level::Present => Some(Proof::Present),
        Level::Read => Some(Proof::Verified),
        Level::Parsed | Level::Restored | Level::Examined => Some(Proof::Restored),
        Level::Asked | Level::PointInTime => None,
    }
}

/// What a drill's record in the repository says in figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillFigures {
    /// The job that it was of.
    pub job: Option<String>,
    /// The level that was reached.
    pub level: Option<Level>,
    /// Why the verdict is not `passed`.
    pub reason: Option<String>,
    /// RTO_technical, in milliseconds.
    pub technical_ms: Option<u64>,
    /// RTO_verified, in milliseconds.
    pub verified_ms: Option<u64>,
    /// Logical bytes that were restored.
    pub bytes: Option<u64>,
    /// To which state the snapshot returns.
    pub recovery_point: Option<RecoveryPoint>,
    /// The stages with their milliseconds.
    pub stages: Vec<(StageName, u64)>,
    /// The runbook's commands that restored it; none where it was restored without them.
    pub commands: Vec<String>,
}

impl DrillFigures {
    fn of(outcome: &DrillOutcome, job: Option<&str>) -> Self {
        let milliseconds = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            job: job.map(str::to_owned),
            level: outcome.level,
            reason: match &outcome.verdict {
                Verdict::Passed => None,
                Verdict::Failed { reason } | Verdict::NotRun { reason } => Some(reason.clone()),
            },
            technical_ms: outcome.technical().map(milliseconds),
            verified_ms: outcome.verified().map(milliseconds),
            bytes: outcome.restored.as_ref().map(|restored| restored.bytes),
            recovery_point: outcome.recovery_point.as_ref().map(|(point, _)| point.clone()),
            stages: outcome.stages.iter().map(|Stage { name, duration_ms, .. }| (*name, *duration_ms)).collect(),
            commands: outcome.commands.clone(),
        }
    }

    fn into_map(self) -> Map<String, Value> {
        let mut stages: Map<String, Value> = Map::new();
        for (name, duration) in self.stages {
            // One that was interrupted by another is there twice.
            let before = stages.get(name.word()).and_then(Value::as_u64).unwrap_or(0);
            stages.insert(name.word().to_owned(), before.saturating_add(duration).into());
        }
        let fields = [
            ("job", self.job.map(Value::from)),
            ("level", self.level.map(|level| u8::from(level).into())),
            ("reason", self.reason.map(Value::from)),
            ("technical_ms", self.technical_ms.map(Value::from)),
            ("verified_ms", self.verified_ms.map(Value::from)),
            ("bytes", self.bytes.map(Value::from)),
            ("recovery_point", self.recovery_point.and_then(|point| serde_json::to_value(point).ok())),
            ("stage_ms", Some(Value::Object(stages))),
            ("commands", (!self.commands.is_empty()).then(|| self.commands.into())),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// The verdict, the snapshot and the figures of a record, when it is a drill's. Figures that it does not have, or that
    /// a newer version wrote in another way, are `None`.
    pub fn from_record(record: &Record) -> Option<(&str, Option<SnapshotId>, Self)> {
        let RecordBody::Run { verb, outcome, snapshot, figures } = &record.body else { return None };
        if verb != VERB {
            return None;
        }
        let text = |name: &str| figures.get(name).and_then(Value::as_str).map(str::to_owned);
        let number = |name: &str| figures.get(name).and_then(Value::as_u64);
        let stage = |(name, duration): (&String, &Value)| {
            let name = serde_json::from_value(Value::String(name.clone())).ok()?;
            Some((name, duration.as_u64()?))
        };
        let commands = figures.get("commands").and_then(Value::as_array);
        let stages = figures.get("stage_ms").and_then(Value::as_object);
        let figures = Self {
            job: text("job"),
            level: number("level").and_then(|level| u8::try_from(level).ok()?.try_into().ok()),
            reason: text("reason"),
            technical_ms: number("technical_ms"),
            verified_ms: number("verified_ms"),
            bytes: number("bytes"),
            recovery_point: figures.get("recovery_point").and_then(|point| serde_json::from_value(point.clone()).ok()),
            stages: stages.into_iter().flatten().filter_map(stage).collect(),
            commands: commands.into_iter().flatten().filter_map(|line| line.as_str().map(str::to_owned)).collect(),
        };
        Some((outcome, *snapshot, figures))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn outcome(verdict: Verdict, checks: Vec<Check>) -> DrillOutcome {
        DrillOutcome { checks, ..DrillOutcome::ended_early(verdict, Vec::new()) }
    }

    #[test]
    fn what_was_found_wrong_takes_a_proof_of_the_same_kind_to_outweigh() {
        let failed = |level| {
            let check = Check::failed("x", level, "y");
            refuted(&outcome(Verdict::Failed { reason: "y".to_owned() }, vec![check]))
        };
        assert_eq!(failed(Level::Present), Some(Proof::Present));
        assert_eq!(failed(Level::Read), Some(Proof::Verified));
        assert_eq!(failed(Level::Examined), Some(Proof::Restored));
        assert_eq!(failed(Level::Asked), None, "a question of the user says nothing of the backup");
        let stuck = Check::failed(RUNBOOK_RESTORES, Level::Restored, "it ended with 2");
        let stuck = outcome(Verdict::Failed { reason: "y".to_owned() }, vec![stuck]);
        assert_eq!(refuted(&stuck), None, "a runbook that cannot be followed takes no proof away");
        assert_eq!(refuted(&outcome(Verdict::NotRun { reason: "y".to_owned() }, Vec::new())), None);
    }

    #[test]
    fn figures_read_back_from_their_record() {
        let mut outcome = outcome(Verdict::NotRun { reason: "no space".to_owned() }, Vec::new());
        outcome.stages = vec![Stage { name: StageName::Open, start_ms: 0, duration_ms: 12, bytes: None, items: None }];
        outcome.commands = vec!["backup restore latest --to /".to_owned()];
        let figures = DrillFigures::of(&outcome, Some("app"));
        let body = RecordBody::Run {
            verb: VERB.to_owned(),
            outcome: outcome.verdict.word().to_owned(),
            snapshot: None,
            figures: figures.clone().into_map(),
        };
        let record = Record { time: Timestamp::UNIX_EPOCH, hostname: String::new(), body };
        assert_eq!(DrillFigures::from_record(&record), Some(("not_run", None, figures)));
    }
}
