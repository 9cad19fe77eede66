//! What a record of evidence says: everything that an auditor asks of a restore test, and no value of the data.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::canonical::canonical;
use super::chain::Head;
use super::controls::CONTROLS;
use super::key::PublicKey;
use crate::contracts::{Check, CheckResult, Consistency, Level, Newest, RecoveryPoint, SandboxFacts, Tool};
use crate::drill::{DrillOutcome, PointSource, Stage, Verdict};
use crate::limits::EVIDENCE_CHECKS_LISTED_MAX;
use crate::model::{Id, SnapshotId};
use crate::repository::{ObjectLock, Record, RecordBody};
use crate::{Error, ErrorKind, Result};

/// The name of this form of record.
const SCHEMA: &str = "backup-evidence/1";

/// One drill, for whoever must be shown that backups come back. `docs/json/drill.md` explains each field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceRecord {
    /// The form of the record.
    pub schema: String,
    /// The chain that it belongs to: the id of the signing key, or `unsigned`.
    pub chain: String,
    /// Its number in the chain, from 1.
    pub sequence: u64,
    /// The SHA-256 of the record before it; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Id>,
    /// The key that it is signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<Signer>,
    /// When the drill began and ended, by the machine's clock.
    pub times: Times,
    /// The program that ran it, with its version.
    pub program: String,
    /// Who or what asked for it: `manual`, `schedule`, `after_backup`, `try`.
    pub trigger: String,
    /// The machine that ran it.
    pub host: Host,
    /// The job that it was of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// See [`Context::policy`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Id>,
    /// See [`Context::runbook`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<Id>,
    /// The copy under test.
    pub copy: CopyUnderTest,
    /// The snapshot, when one was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotFigures>,
    /// The sandbox, when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxFacts>,
    /// How it ended.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The level that was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// What was compared.
    pub checks: ChecksSummary,
    /// What took how long.
    pub stages: Vec<Stage>,
    /// How old the restored state was, against the objective.
    pub recovery_point: RecoveryTime,
    /// How long the restore took, against the objective.
    pub recovery_time: RecoveryTime,
    /// What is unusual and no failure.
    pub warnings: Vec<String>,
    /// What was not looked at.
    pub not_tested: Vec<String>,
    /// The commands that restored it, when those of a runbook did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// The requirements that such a record speaks to.
    pub controls: Vec<String>,
}

/// A key, as a record names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// What it signs with.
    pub algorithm: String,
    /// The public key in hexadecimal digits.
    pub public_key: String,
}

/// When a drill was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// Its beginning.
    pub began: Timestamp,
    /// Its end.
    pub ended: Timestamp,
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The user that the drill ran as.
    pub user: String,
    /// Its system and version.
    pub system: String,
    /// Processors that could be used.
    pub processors: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

/// The copy that was drilled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyUnderTest {
    /// Where it lies, without secrets.
    pub place: String,
    /// Its name in the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether nothing that this machine remembers was used: no cache, no local state.
    pub is_cold: bool,
    /// Where its passphrase was read: `configuration`, `file`, `command`, `variable` or `prompt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_from: Option<String>,
    /// The region of its bucket, or the site that the configuration names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Until when nobody at all can remove what the snapshot needs, as far as the repository's records say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable_until: Option<Timestamp>,
}

impl CopyUnderTest {
    /// What `records` of the copy say of a snapshot in it: until when nobody at all can remove it.
    pub fn hear<'r>(&mut self, records: impl IntoIterator<Item = &'r Record>, id: SnapshotId) {
        let until = |record: &Record| match &record.body {
            RecordBody::Locked { snapshots, until, mode: ObjectLock::Compliance } if snapshots.contains(&id) => {
                Some(*until)
            }
            _ => None,
        };
        self.immutable_until = records.into_iter().filter_map(until).max();
    }
}

/// The snapshot that was restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFigures {
    /// Its id.
    pub id: SnapshotId,
    /// When it was begun.
    pub time: Timestamp,
    /// How it was chosen: `latest`, `oldest`, `random`, `id`, or `at` for the latest of a time gone by.
    pub chosen: String,
    /// The machine and the paths that it is of.
    pub host: String,
    /// See `host`.
    pub paths: Vec<String>,
    /// The state that it returns to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_point: Option<RecoveryPoint>,
    /// Where that is known from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_point_from: Option<PointSource>,
    /// The newest trace of a change that was found in the restored data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Newest>,
    /// How its parts fit together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<Consistency>,
    /// The engine that it was dumped from, and its programs, with their versions; none for files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// Bytes that were restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logical_bytes: Option<u64>,
    /// Bytes that it takes in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<u64>,
}

/// What was compared, in figures, and the first of them one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChecksSummary {
    /// How many came out how.
    pub counts: BTreeMap<String, u64>,
    /// The SHA-256 of the canonical form of all of them.
    pub digest: Id,
    /// The first of them; those that failed, then those that were not tested, come first.
    pub listed: Vec<Check>,
}

/// A time against its objective, in seconds and milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryTime {
    /// The objective, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective_seconds: Option<u64>,
    /// For the recovery point: how old it was when the drill began, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<i64>,
    /// For the recovery time: until the restored data answered, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub technical_ms: Option<u64>,
    /// For the recovery time: until it was compared as well, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_ms: Option<u64>,
    /// Whether the objective was met; unknown without either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_met: Option<bool>,
}

impl RecoveryTime {
    /// How old the state is that a drill showed, when it `chosen` the latest snapshot ([`SnapshotFigures::chosen`]): the
    /// age of an older one says nothing of what would be lost today.
    pub fn of_point(outcome: &DrillOutcome, times: &Times, objectives: &Objectives, chosen: &str) -> Self {
        let is_shown = chosen == LATEST && outcome.is_proven();
        let age_seconds = outcome.age(times.began).filter(|_| is_shown).map(|age| age.as_secs());
        Self {
            objective_seconds: objectives.recovery_point_seconds,
            age_seconds,
            is_met: met(age_seconds.map(|age| u64::try_from(age).unwrap_or(0)), objectives.recovery_point_seconds),
            ..Self::default()
        }
    }

    /// How long the restore took; what is held against the objective is the longer figure, with the comparison.
    pub fn of_restore(outcome: &DrillOutcome, objectives: &Objectives) -> Self {
        let milliseconds = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (technical_ms, verified_ms) = (outcome.technical().map(milliseconds), outcome.verified().map(milliseconds));
        Self {
            objective_seconds: objectives.recovery_time_seconds,
            technical_ms,
            verified_ms,
            is_met: met(verified_ms.map(|time| time.div_ceil(1_000)), objectives.recovery_time_seconds),
            ..Self::default()
        }
    }
}

/// How the latest snapshot is said to have been chosen.
const LATEST: &str = "latest";

/// Objectives of a job, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Objectives {
    /// How old the newest state that can be restored may be.
    pub recovery_point_seconds: Option<u64>,
    /// How long a restore may take.
    pub recovery_time_seconds: Option<u64>,
}

/// What a record says beside the outcome.
#[derive(Clone, Debug)]
pub struct Context {
    /// When the drill was.
    pub times: Times,
    /// The program with its version.
    pub program: String,
    /// Who or what asked for it.
    pub trigger: String,
    /// The machine.
    pub host: Host,
    /// The job.
    pub job: Option<String>,
    /// The policy: the SHA-256 of the configuration without comments and secrets, which is how the repositories keep it.
    pub policy: Option<Id>,
    /// The SHA-256 of the runbook's Markdown, as it was when the drill began, where its commands restored the copy.
    pub runbook: Option<Id>,
    /// The copy.
    pub copy: CopyUnderTest,
    /// The snapshot as it was found: id, time, host, paths, how it was chosen, and the report's consistency. The other
    /// fields are filled from the outcome.
    pub snapshot: Option<SnapshotFigures>,
    /// The objectives.
    pub objectives: Objectives,
}

impl EvidenceRecord {
    /// The record of a drill, to follow `head` in its chain.
    pub fn new(
        context: &Context,
        outcome: &DrillOutcome,
        key: Option<&PublicKey>,
        head: Option<&Head>,
    ) -> Result<Self> {
        let Context { times, objectives, .. } = context;
        let point = outcome.recovery_point.clone();
        let chosen = context.snapshot.as_ref().map_or("", |snapshot| snapshot.chosen.as_str());
        let recovery_point = RecoveryTime::of_point(outcome, times, objectives, chosen);
        let recovery_time = RecoveryTime::of_restore(outcome, objectives);
        let snapshot = context.snapshot.clone().map(|snapshot| SnapshotFigures {
            recovery_point_from: point.as_ref().map(|(_, from)| *from),
            recovery_point: point.map(|(point, _)| point),
            newest: outcome.newest,
            logical_bytes: outcome.restored.as_ref().map(|restored| restored.bytes),
            stored_bytes: outcome.stored_bytes,
            ..snapshot
        });
        Ok(Self {
            schema: SCHEMA.to_owned(),
            chain: key.map_or_else(|| super::UNSIGNED.to_owned(), PublicKey::id),
            sequence: head.map_or(1, |head| head.sequence + 1),
            previous: head.map(|head| head.hash),
            signer: key.map(|key| Signer { algorithm: "Ed25519".to_owned(), public_key: key.hex() }),
            times: *times,
            program: context.program.clone(),
            trigger: context.trigger.clone(),
            host: context.host.clone(),
            job: context.job.clone(),
            policy: context.policy,
            runbook: context.runbook,
            copy: context.copy.clone(),
            snapshot,
            sandbox: outcome.sandbox.clone(),
            verdict: outcome.verdict.clone(),
            level: outcome.level,
            checks: ChecksSummary::of(&outcome.checks)?,
            stages: outcome.stages.clone(),
            recovery_point,
            recovery_time,
            warnings: outcome.warnings.clone(),
            not_tested: outcome.not_tested.clone(),
            commands: outcome.commands.clone(),
            controls: CONTROLS.iter().map(|control| control.id.to_owned()).collect(),
        })
    }

    /// Reads the text of a record.
    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| Error::damaged("record of evidence", "it is none").caused_by(error))
    }

    /// The one text for it: what is hashed and signed.
    pub fn to_text(&self) -> Result<String> {
        canonical(&to_value(self)?)
    }
}

impl ChecksSummary {
    fn of(checks: &[Check]) -> Result<Self> {
        let rank = |check: &Check| match check.result {
            CheckResult::Failed => 0,
            CheckResult::NotTested => 1,
            CheckResult::Passed => 2,
        };
        let mut listed: Vec<Check> = checks.to_vec();
        listed.sort_by_key(rank);
        listed.truncate(EVIDENCE_CHECKS_LISTED_MAX);
        let word = |result| match result {
            CheckResult::Failed => "failed",
            CheckResult::NotTested => "not_tested",
            CheckResult::Passed => "passed",
        };
        let mut counts: BTreeMap<String, u64> =
            ["failed", "not_tested", "passed"].map(|word| (word.to_owned(), 0)).into();
        for check in checks {
            *counts.entry(word(check.result).to_owned()).or_default() += 1;
        }
        let digest = Id::of(canonical(&to_value(&checks)?)?.as_bytes());
        Ok(Self { counts, digest, listed })
    }
}

fn met(value: Option<u64>, objective: Option<u64>) -> Option<bool> {
    Some(value? <= objective?)
}

fn to_value(value: &impl Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(value)
        .map_err(|error| Error::new(ErrorKind::Broken("a record could not be encoded"), "evidence").caused_by(error))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::evidence) fn context(minute: i64) -> Context {
        let time = Timestamp::from_second(1_800_000_000 + 60 * minute).unwrap();
        Context {
            times: Times { began: time, ended: time },
            program: "backup 0.1.0".to_owned(),
            trigger: "manual".to_owned(),
            host: Host { name: "host".to_owned(), ..Host::default() },
            job: None,
            policy: None,
            runbook: None,
            copy: CopyUnderTest { place: "/repo".to_owned(), ..CopyUnderTest::default() },
            snapshot: Some(SnapshotFigures {
                id: SnapshotId::of(b"s"),
                time,
                chosen: "latest".to_owned(),
                host: "host".to_owned(),
                paths: vec!["/a".to_owned()],
                recovery_point: None,
                recovery_point_from: None,
                newest: None,
                consistency: None,
                tools: Vec::new(),
                logical_bytes: None,
                stored_bytes: None,
            }),
            objectives: Objectives { recovery_point_seconds: Some(60), recovery_time_seconds: Some(1) },
        }
    }

    #[test]
    fn what_a_record_says_of_policy_and_copy_is_added_to_those_of_before() {
        let outcome = DrillOutcome::ended_early(Verdict::Passed, Vec::new());
        let text = |context: &Context| EvidenceRecord::new(context, &outcome, None, None).unwrap().to_text().unwrap();
        let before = text(&context(0));
        // One that was signed before there were these fields has the same text still.
        assert!(["policy", "runbook", "region", "immutable"].iter().all(|name| !before.contains(name)), "{before}");
        let mut known = Context { policy: Some(Id::of(b"p")), runbook: Some(Id::of(b"r")), ..context(0) };
        known.copy.region = Some("eu-west-1".to_owned());
        let (id, at) = (SnapshotId::of(b"s"), |second| Timestamp::from_second(second).unwrap());
        let locked = |id, until, mode| Record {
            time: at(1),
            hostname: "host".to_owned(),
            body: RecordBody::Locked { snapshots: vec![id], until: at(until), mode },
        };
        let records = [
            locked(id, 50, ObjectLock::Compliance),
            locked(id, 40, ObjectLock::Compliance),
            locked(id, 90, ObjectLock::Governance),
            locked(SnapshotId::of(b"other"), 99, ObjectLock::Compliance),
        ];
        known.copy.hear(&records, id);
        let record = EvidenceRecord::parse(&text(&known)).unwrap();
        assert_eq!((record.policy, record.runbook), (known.policy, known.runbook));
        assert_eq!((record.copy.region.as_deref(), record.copy.immutable_until), (Some("eu-west-1"), Some(at(50))));
        assert_eq!(record.to_text().unwrap(), text(&known));
    }

    #[test]
    fn a_record_reads_back_and_is_canonical() {
        let outcome = DrillOutcome {
            checks: vec![Check::compare("a", Level::Read, 1, 1), Check::failed("b", Level::Examined, "c")],
            level: Some(Level::Read),
            ..DrillOutcome::ended_early(Verdict::Failed { reason: "b: c".to_owned() }, Vec::new())
        };
        let record = EvidenceRecord::new(&context(0), &outcome, None, None).unwrap();
        assert_eq!((record.chain.as_str(), record.sequence, record.previous), ("unsigned", 1, None));
        assert_eq!(record.checks.counts["failed"], 1);
        assert_eq!(record.checks.listed[0].id, "b", "what failed comes first");
        let text = record.to_text().unwrap();
        assert_eq!(EvidenceRecord::parse(&text).unwrap(), record);
        assert!(text.contains(r#""verdict":"failed""#) && !text.contains(' '.to_string().repeat(2).as_str()));
    }

    #[test]
    fn objectives_are_met_missed_or_unknown() {
        assert_eq!(met(Some(5), Some(5)), Some(true));
        assert_eq!(met(Some(6), Some(5)), Some(false));
        assert_eq!((met(None, Some(5)), met(Some(5), None)), (None, None));
    }
}
