//! What came of a drill, for people and for programs.

use backup_core::contracts::{Check, CheckResult, Trace};
use backup_core::drill::{Confidence, DrillOutcome, Estimate, Stage, Verdict};
use backup_core::model::format_timestamp;
use backup_core::runbook::estimated;
use serde_json::{Value, json};

use super::Drilled;
use super::evidence::Written;
use crate::console::{amounts, table::Table};

/// Checks that people are shown one by one, those that failed first.
const CHECKS_SHOWN_MAX: usize = 10;

/// For programs; `docs/json/drill.md`.
pub(crate) fn document(drilled: &Drilled, job: Option<&str>, evidence: Option<&Written>) -> Value {
    let outcome = &drilled.outcome;
    let point = outcome.recovery_point.as_ref();
    let seconds = |time: Option<std::time::Duration>| time.map(|time| time.as_secs_f64());
    json!({
        "event": "summary",
        "job": job,
        "repository": drilled.copy.place,
        "snapshot": drilled.chosen.as_ref().map(|(id, _)| id),
        "snapshot_time": drilled.chosen.as_ref().map(|(_, snapshot)| format_timestamp(snapshot.time)),
        "chosen": drilled.how,
        "verdict": outcome.verdict.word(),
        "reason": outcome.verdict.reason(),
        "level": outcome.level.map(u8::from),
        "proven": outcome.is_proven(),
        "recovery_point": point.map(|(point, _)| format_timestamp(point.time)),
        "recovery_point_from": point.map(|(_, from)| from),
        "newest": outcome.newest.map(|newest| json!({"time": format_timestamp(newest.time), "from": newest.from})),
        "recovery_point_age_seconds": outcome.age(drilled.times.began).map(|age| age.as_secs()),
        "technical_seconds": seconds(outcome.technical()),
        "verified_seconds": seconds(outcome.verified()),
        "objectives": objectives_document(drilled),
        "estimate": drilled.estimate.as_ref().map(estimate_document),
        "stages": outcome.stages,
        "files": outcome.restored.as_ref().map(|restored| restored.files),
        "bytes": outcome.restored.as_ref().map(|restored| restored.bytes),
        "bytes_stored": outcome.stored_bytes,
        "checks": outcome.checks,
        "answers": outcome.told,
        "sandbox": outcome.sandbox,
        "commands": outcome.commands,
        "warnings": outcome.warnings,
        "not_tested": outcome.not_tested,
        "recorded": drilled.unrecorded.is_none() && drilled.chosen.is_some(),
        "evidence": evidence.map(evidence_document),
    })
}

fn evidence_document(written: &Written) -> Value {
    let waiting = |(place, why): &(String, String)| json!({"repository": place, "reason": why});
    json!({
        "chain": written.record.chain,
        "sequence": written.head.sequence,
        "hash": written.head.hash,
        "signed": written.record.signer.is_some(),
        "delivered": written.delivered,
        "waiting": written.waiting.iter().map(waiting).collect::<Vec<_>>(),
    })
}

fn objectives_document(drilled: &Drilled) -> Value {
    let (point, time) = drilled.judged();
    json!({
        "recovery_point_seconds": point.objective_seconds,
        "recovery_point_met": point.is_met,
        "recovery_time_seconds": time.objective_seconds,
        "recovery_time_met": time.is_met,
        "missed": drilled.missed(),
    })
}

/// An estimate, for programs.
pub(crate) fn estimate_document(estimate: &Estimate) -> Value {
    json!({
        "median_seconds": estimate.median.as_secs_f64(),
        "ninety_seconds": estimate.ninety.as_secs_f64(),
        "confidence": match estimate.confidence {
            Confidence::Low => "low",
            Confidence::High => "high",
        },
        "reasons": estimate.reasons,
    })
}

/// For people.
pub(crate) fn text(drilled: &Drilled, job: Option<&str>, evidence: Option<&Written>) -> String {
    let outcome = &drilled.outcome;
    let mut table = Table::new(&["", ""]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    if let Some(job) = job {
        row("job", job.to_owned());
    }
    row("drill of", drilled.copy.place.clone());
    if let Some((id, snapshot)) = &drilled.chosen {
        row("snapshot", format!("{id:.8} of {}, {}", amounts::local_time(snapshot.time), snapshot.paths.join(", ")));
    }
    row("verdict", verdict(outcome));
    if let Some(restored) = &outcome.restored {
        let took = outcome.stages.iter().filter(|stage| stage.name.word() == "restore").map(seconds).sum::<f64>();
        let files = amounts::counted(restored.files, "file");
        row("restored", format!("{files}, {} in {}", amounts::size(restored.bytes), amounts::span(took)));
    }
    for (name, value) in checks(outcome) {
        row(&name, value);
    }
    if let Some((point, from)) = &outcome.recovery_point {
        let age = outcome.age(drilled.times.began).map_or(0.0, |age| age.as_secs_f64());
        let from = match from {
            backup_core::drill::PointSource::RestoredData => "as the restored data shows",
            backup_core::drill::PointSource::Manifest => "as the source said",
            backup_core::drill::PointSource::SnapshotTime => "when the backup began",
        };
        row(
            "state of",
            format!("{}, {} before the drill, {from}", amounts::local_time(point.time), amounts::span(age)),
        );
    }
    if let Some(newest) = outcome.newest {
        let from = match newest.from {
            Trace::File => "of a file",
            Trace::ObjectId => "of a document's identifier",
            Trace::Answer => "the answer to a question",
            _ => "of the data",
        };
        row("newest in it", format!("{}, {from}", amounts::local_time(newest.time)));
    }
    if let Some(technical) = outcome.technical() {
        let verified = outcome.verified();
        let verified = verified.map(|time| format!(", compared after {}", amounts::span(time.as_secs_f64())));
        let ready = amounts::span(technical.as_secs_f64());
        row("time to recover", format!("data ready after {ready}{}", verified.unwrap_or_default()));
    }
    for missed in drilled.missed() {
        row("MISSED", missed);
    }
    if let Some(estimate) = &drilled.estimate {
        row("the newest", format!("would take {}", estimated(estimate)));
    }
    outcome.commands.iter().for_each(|command| row("restored by", command.clone()));
    outcome.told.iter().for_each(|told| row("answer", told.clone()));
    outcome.warnings.iter().for_each(|warning| row("warning", warning.clone()));
    outcome.not_tested.iter().for_each(|what| row("not tested", what.clone()));
    match evidence {
        Some(written) => {
            let signed = if written.record.signer.is_some() { "signed" } else { "NOT signed: `evidence key create`" };
            let chain = &written.record.chain;
            row("evidence", format!("record {} of {chain}, {signed}", written.head.sequence));
            for (place, why) in &written.waiting {
                row("", format!("waits on this machine for {place}: {why}"));
            }
        }
        None => row("evidence", "none was written".to_owned()),
    }
    if let Some(why) = &drilled.unrecorded {
        row("not recorded", why.clone());
    }
    table.text()
}

/// The verdict in one line.
pub(crate) fn verdict(outcome: &DrillOutcome) -> String {
    let level = outcome.level.map(|level| format!(", level {}", u8::from(level))).unwrap_or_default();
    match &outcome.verdict {
        Verdict::Passed => format!("passed{level}: restored, and as it was backed up"),
        Verdict::Failed { reason } => format!("FAILED{level}: {reason}"),
        Verdict::NotRun { reason } => format!("NOT RUN: {reason}"),
    }
}

fn checks(outcome: &DrillOutcome) -> Vec<(String, String)> {
    let of = |result| outcome.checks.iter().filter(move |check| check.result == result);
    let count = |result| amounts::count(of(result).count() as u64);
    let mut rows = Vec::new();
    if !outcome.checks.is_empty() {
        let (passed, failed) = (count(CheckResult::Passed), count(CheckResult::Failed));
        let untested = count(CheckResult::NotTested);
        rows.push(("checks".to_owned(), format!("{passed} passed, {failed} failed, {untested} not tested")));
    }
    let shown = |check: &Check| {
        let figures = match (&check.expected, &check.actual) {
            (Some(expected), Some(actual)) => format!(", {actual} instead of {expected}"),
            _ => String::new(),
        };
        let detail = check.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
        format!("{}{figures}{detail}", check.id)
    };
    rows.extend(of(CheckResult::Failed).take(CHECKS_SHOWN_MAX).map(|check| ("failed".to_owned(), shown(check))));
    rows.extend(of(CheckResult::NotTested).take(CHECKS_SHOWN_MAX).map(|check| {
        let why = check.detail.as_deref().unwrap_or_default();
        ("not tested".to_owned(), format!("{}: {why}", check.id))
    }));
    rows
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn seconds(stage: &Stage) -> f64 {
    stage.duration_ms as f64 / 1_000.0
}
