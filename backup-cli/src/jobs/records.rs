//! What a run leaves in the repositories that it reached: a record of each part, or of why there is none.

use std::time::Duration;

use backup_core::ErrorKind;
use backup_core::contracts::SinkErrorKind;
use backup_core::repository::{RecordBody, Repository};
use serde_json::{Map, Value, json};

use super::copies::Copies;
use super::outcome::{Outcome, Verdict};
use crate::commands::create::figures;
use crate::exit::{Exit, Failure};

/// Keeps the records. What cannot be kept is a warning: the snapshots are safe without.
pub(super) fn keep(outcome: &Outcome, copies: &Copies, took: Duration, warnings: &mut Vec<String>) {
    match &outcome.verdict {
        Verdict::Held { .. } => return,
        // Somebody wanted it to stop: nothing has failed, and a record would say that its slot is done with.
        Verdict::Failed { failure } if failure.exit == Exit::Interrupted => return,
        _ => {}
    }
    for copy in copies.all() {
        let Some(repository) = &copy.repository else { continue };
        for body in bodies(outcome, &copy.done, copy.failure.as_ref(), took) {
            keep_one(repository, body, &copy.name, warnings);
        }
    }
}

fn bodies(
    outcome: &Outcome,
    done: &[(usize, backup_core::pipeline::BackupOutcome)],
    failure: Option<&Failure>,
    took: Duration,
) -> Vec<RecordBody> {
    let mut bodies = Vec::new();
    let record = |outcome: &str, snapshot, figures| RecordBody::Run {
        verb: "run".to_owned(),
        outcome: outcome.to_owned(),
        snapshot,
        figures,
    };
    let slot = outcome.slot.map(|slot| ("slot".to_owned(), Value::String(slot.to_string())));
    for (number, made) in done {
        let Some(part) = outcome.parts.get(*number) else { continue };
        let mut figures = figures(made, Some(&outcome.job), &part.paths, part.bytes_read, part.seconds);
        figures.extend(slot.clone());
        if part.is_accepted {
            figures.insert("accepted".to_owned(), true.into());
        }
        if part.is_read_again {
            figures.insert("read_again".to_owned(), true.into());
        }
        let word = match (&part.suspicion, made.losses) {
            (Some(suspicion), _) => {
                figures.insert("why".to_owned(), suspicion.to_string().into());
                "suspicious"
            }
            (None, 0) => "done",
            (None, _) => "losses",
        };
        bodies.push(record(word, made.snapshot, figures));
    }
    let failed = |why: &str, paths: Option<&[String]>| {
        let mut figures = Map::from_iter([
            ("job".to_owned(), json!(outcome.job)),
            ("why".to_owned(), json!(why)),
            ("seconds".to_owned(), json!(took.as_secs_f64())),
            ("attempts".to_owned(), json!(outcome.attempts)),
        ]);
        figures.extend(slot.clone());
        figures.extend(paths.map(|paths| ("paths".to_owned(), json!(paths))));
        record("failed", None, figures)
    };
    for part in &outcome.parts {
        if let Err(failure) = &part.ended {
            bodies.push(failed(&failure.what, Some(&part.paths)));
        }
    }
    // Nothing was made for all; or for this one alone.
    match (&outcome.verdict, failure) {
        (Verdict::Failed { failure }, _) if outcome.parts.is_empty() => bodies.push(failed(&failure.what, None)),
        (_, Some(failure)) => bodies.push(failed(&failure.what, None)),
        _ => {}
    }
    bodies
}

fn keep_one(repository: &Repository, body: RecordBody, name: &str, warnings: &mut Vec<String>) {
    if let Err(error) = repository.save_record(body)
        && *error.kind() != ErrorKind::Sink(SinkErrorKind::Unsupported)
    {
        warnings.push(format!("{name} does not keep the record of this run: {}", Failure::from(error).what));
    }
}
