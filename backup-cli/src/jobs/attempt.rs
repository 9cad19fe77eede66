//! One attempt of a run: the hook before it, and each part to all repositories.

use std::time::Instant;

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::look::histories;
use backup_core::pipeline::{BackupOptions, Parent, backup_to_all};
use backup_core::policy::{self, Amounts, Suspicion};
use backup_core::repository::{RecordBody, Repository};
use backup_core::retention::GroupKey;
use jiff::Timestamp;

use super::copies::Copies;
use super::outcome::{Part, Verdict};
use super::{Extent, Mode, Occasion, Trust, hooks, source};
use crate::config::{Changes, Config, Job, Source};
use crate::exit::{Exit, Failure};
use crate::session::Session;

/// Backs up every part to every repository that is open. One part that fails costs the others nothing.
///
/// # Errors
///
/// When there is nothing of this run anywhere: no repository is open, the hook or the source as a whole failed, or every
/// part did.
pub(super) fn attempt(
    job: &Job,
    occasion: &Occasion,
    config: &Config,
    copies: &mut Copies,
    warnings: &mut Vec<String>,
    session: &Session,
) -> Result<Vec<Part>, Failure> {
    if !copies.any_is_open() {
        return Err(copies.first_failure());
    }
    if occasion.mode == Mode::Real {
        hooks::before(job, session)?;
    }
    let places: Vec<_> = config.repositories.iter().flat_map(crate::config::Repository::places).collect();
    let openings = source::parts(job, &places, session)?;
    let reading = match occasion.extent {
        Extent::Everything => Reading::Everything,
        Extent::Usual => reading(job, copies, warnings),
    };
    let mut parts = Vec::new();
    for (number, opening) in openings.into_iter().enumerate() {
        let named = opening.named();
        let part = opening.open(session).and_then(|mut source| {
            let paths = source.info().paths;
            back_up(job, occasion, (number, reading), &mut *source, copies, session).map(|part| Part { paths, ..part })
        });
        match part {
            Ok(part) => parts.push(part),
            Err(failure) if failure.exit == Exit::Interrupted => return Err(failure),
            Err(failure) => {
                session.console.failure(&failure);
                parts.push(Part::failed(named, failure));
            }
        }
    }
    if parts.iter().all(|part| part.ended.is_err())
        && let Some(Part { ended: Err(failure), .. }) = parts.pop()
    {
        return Err(failure);
    }
    if occasion.mode == Mode::Real {
        suspect(job, occasion, &mut parts, copies, warnings);
    }
    Ok(parts)
}

/// How a run with these parts ended.
pub(super) fn verdict(parts: &[Part]) -> Verdict {
    if let Some((part, failure)) = parts.iter().find_map(|part| Some((part, part.ended.as_ref().err()?))) {
        let what = format!(
            "{} of {} parts failed, first {}: {}",
            failed(parts),
            parts.len(),
            part.paths.join(" "),
            failure.what
        );
        return Verdict::Failed { failure: Failure { what, exit: Exit::Failed, ..failure.clone() } };
    }
    if let Some((part, suspicion)) = parts.iter().find_map(|part| Some((part, part.suspicion.as_ref()?))) {
        return Verdict::Suspicious { what: format!("{} holds {suspicion}", part.paths.join(" ")) };
    }
    match parts.iter().any(|part| part.ended.as_ref().is_ok_and(|outcome| outcome.losses > 0)) {
        true => Verdict::Losses,
        false => Verdict::Done,
    }
}

fn failed(parts: &[Part]) -> usize {
    parts.iter().filter(|part| part.ended.is_err()).count()
}

fn back_up(
    job: &Job,
    occasion: &Occasion,
    (number, reading): (usize, Reading),
    source: &mut dyn backup_core::contracts::Source,
    copies: &mut Copies,
    session: &Session,
) -> Result<Part, Failure> {
    let usual = BackupOptions::default();
    let Changes { ignore_ctime, ignore_inode, strict } = match &job.source {
        Source::Files { changes, .. } => *changes,
        _ => Changes::default(),
    };
    let options = BackupOptions {
        tags: job.tags.iter().cloned().chain([format!("job:{}", job.name)]).collect(),
        level: job.compression,
        lock_free: copies.lock_free(),
        ignore_ctime,
        ignore_inode,
        strict,
        parent: if reading == Reading::Everything { Parent::None } else { Parent::Newest },
        dry_run: occasion.mode == Mode::DryRun,
        ..usual
    };
    let reporter = session.console.reporter();
    let began = Instant::now();
    let outcomes = backup_to_all(&copies.repositories(), source, &options, &session.cancel, &*reporter)?;
    let seconds = began.elapsed().as_secs_f64();
    reporter.finish();
    let first = outcomes.iter().find_map(|outcome| outcome.as_ref().ok()).cloned();
    copies.settle(number, outcomes);
    let ended = first.ok_or_else(|| copies.first_failure());
    Ok(Part {
        paths: Vec::new(),
        ended,
        bytes_read: reporter.bytes_read(),
        seconds,
        suspicion: None,
        is_accepted: occasion.trust == Trust::Accept,
        is_read_again: reading == Reading::Everything,
    })
}

/// Compares each part with its history in the first repository that has it.
fn suspect(job: &Job, occasion: &Occasion, parts: &mut [Part], copies: &Copies, warnings: &mut Vec<String>) {
    if occasion.trust == Trust::Accept {
        return;
    }
    for (number, part) in parts.iter_mut().enumerate() {
        let Ok(outcome) = &part.ended else { continue };
        let holder = copies.all().iter().find(|copy| copy.done.iter().any(|(of, _)| *of == number));
        let Some(repository) = holder.and_then(|copy| copy.repository.as_ref()) else { continue };
        let size = Amounts {
            files: outcome.summary.total_files_processed,
            logical: outcome.summary.total_bytes_processed,
            new: outcome.summary.data_added,
            stored: outcome.summary.data_added_packed,
            rows: outcome.report.rows(),
        };
        match look_wrong(job, size, &part.paths, repository) {
            Ok(suspicion) => part.suspicion = suspicion,
            Err(failure) => {
                warnings.push(format!("nothing is known of earlier runs of {}: {}", job.name, failure.what));
            }
        }
    }
}

fn look_wrong(
    job: &Job,
    size: Amounts,
    paths: &[String],
    repository: &Repository,
) -> Result<Option<Suspicion>, Failure> {
    let histories = histories(repository)?;
    let Some(history) = histories.jobs.get(&job.name) else { return Ok(None) };
    let accepted = last_accepted(job, repository)?;
    let own = part_of(job, paths);
    let mut before = Vec::new();
    for run in &history.runs {
        let is_doubted = run.outcome == policy::Outcome::Suspicious || !run.outcome.made_a_backup();
        if let Some(size) = run.size
            && !is_doubted
            && run.part.as_deref() == Some(&own)
            && accepted.is_none_or(|accepted| run.ended >= accepted)
        {
            before.push(size);
        }
    }
    Ok(policy::suspicion(size, &before))
}

/// When somebody last said that what a run of the job holds is usual.
fn last_accepted(job: &Job, repository: &Repository) -> Result<Option<Timestamp>, Failure> {
    last_with(job, "accepted", repository)
}

/// When the last run of the job ended of which a figure says yes.
fn last_with(job: &Job, figure: &str, repository: &Repository) -> Result<Option<Timestamp>, Failure> {
    let records = repository.records()?;
    let is_meant = |body: &RecordBody| match body {
        RecordBody::Run { figures, .. } => {
            figures.get("job").and_then(|name| name.as_str()) == Some(&job.name)
                && figures.get(figure).and_then(serde_json::Value::as_bool) == Some(true)
        }
        _ => false,
    };
    Ok(records.iter().rev().find(|(_, record)| is_meant(&record.body)).map(|(_, record)| record.time))
}

/// How much of the source is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// What changed since the snapshot before.
    Changes,
    /// All of it.
    Everything,
}

/// Whether it is time to read everything again, by what the first open repository records.
fn reading(job: &Job, copies: &Copies, warnings: &mut Vec<String>) -> Reading {
    let slot = job.read_again.as_ref().and_then(|schedule| schedule.previous(SystemClock.now()));
    let (Some(slot), Some(repository)) = (slot, copies.repositories().into_iter().next()) else {
        return Reading::Changes;
    };
    match last_with(job, "read_again", &repository) {
        Ok(last) if last.is_some_and(|last| last >= slot) => Reading::Changes,
        Ok(_) => Reading::Everything,
        Err(failure) => {
            warnings.push(format!("it is not known when {} was last read in full: {}", job.name, failure.what));
            Reading::Changes
        }
    }
}

/// The part of a job that a snapshot of these paths is of.
fn part_of(job: &Job, paths: &[String]) -> GroupKey {
    GroupKey::of(&backup_core::contracts::SnapshotFacts {
        id: backup_core::model::SnapshotId::of(b""),
        time: Timestamp::UNIX_EPOCH,
        host: String::new(),
        paths: paths.to_vec(),
        tags: vec![format!("job:{}", job.name)],
        proof: backup_core::contracts::Proof::Uploaded,
    })
}

impl Part {
    fn failed(named: String, failure: Failure) -> Self {
        Self {
            paths: vec![named],
            ended: Err(failure),
            bytes_read: 0,
            seconds: 0.0,
            suspicion: None,
            is_accepted: false,
            is_read_again: false,
        }
    }
}
