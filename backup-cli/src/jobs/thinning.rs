//! What is removed after a run: snapshots that no rule keeps, and now and then what no snapshot needs.
//!
//! What is always true: nothing is removed from a repository that this run did not reach, nor for a job whose newest run
//! looks wrong. Both are plans first, with the guards of the library (`docs/decisions/retention.md`).

use backup_core::care::{DataPacks, NEXT_DELETION, PRUNE, Prune, PruneMode, PruneOptions, forget, prune_is_due};
use backup_core::clock::{Clock as _, SystemClock};
use backup_core::contracts::SnapshotFacts;
use backup_core::observe::Observer;
use backup_core::repository::{RecordBody, Repository};
use backup_core::retention::{KeepRules, PlanOptions, Rules};
use serde_json::{Map, json};

use super::copies::{Copies, Copy};
use super::outcome::{Outcome, Thinned, Verdict};
use super::{Mode, Occasion};
use crate::config::{Config, Job, Pruning};
use crate::exit::Failure;
use crate::located::Located;
use crate::session::Session;

/// Thins out each repository that has everything of this run.
pub(super) fn apply(
    job: &Job,
    occasion: &Occasion,
    outcome: &Outcome,
    config: &Config,
    copies: &mut Copies,
    session: &Session,
) {
    for copy in copies.all_mut() {
        let Some(repository) = copy.repository.clone().filter(|_| copy.failure.is_none()) else { continue };
        if session.cancel.requested() {
            return;
        }
        let mut thinned = match job.retention.get(&copy.name) {
            Some(rules) => forget(job, rules, occasion, outcome, config, &repository, session),
            None => Thinned::default(),
        };
        if occasion.mode == Mode::Real && thinned.failure.is_none() {
            match prune(copy, &repository, session) {
                Ok(freed) => thinned.freed = freed,
                Err(failure) => thinned.failure = Some(failure),
            }
        }
        copy.thinned = Some(thinned);
    }
}

fn forget(
    job: &Job,
    rules: &Rules,
    occasion: &Occasion,
    outcome: &Outcome,
    config: &Config,
    repository: &Repository,
    session: &Session,
) -> Thinned {
    if matches!(outcome.verdict, Verdict::Suspicious { .. }) {
        return Thinned { frozen: true, ..Thinned::default() };
    }
    let reporter = session.console.reporter();
    let thin = || -> Result<Thinned, Failure> {
        let policy = KeepRules::new(rules.clone(), config.time_zone.clone())
            .map_err(|error| Failure::usage(error.to_string(), "config check lists what is wrong"))?;
        let tag = format!("job:{}", job.name);
        let mine = |facts: &SnapshotFacts| facts.tags.contains(&tag);
        let mut facts = forget::gather(repository)?;
        facts.retain(mine);
        let options = PlanOptions::default();
        let plan = forget::plan(&facts, &policy, SystemClock.now(), &options)?;
        let removed = match occasion.mode {
            _ if plan.removals().next().is_none() => Vec::new(),
            Mode::DryRun => plan.removals().map(|planned| planned.id).collect(),
            Mode::Real => forget::apply(repository, &plan, &policy, &options, mine, &*reporter)?,
        };
        Ok(Thinned::by(&plan, removed))
    };
    let thinned = thin().unwrap_or_else(|failure| Thinned { failure: Some(failure), ..Thinned::default() });
    reporter.finish();
    thinned
}

/// Prunes when it is due; returns what that has freed.
fn prune(copy: &Copy, repository: &Repository, session: &Session) -> Result<Option<u64>, Failure> {
    let Pruning::Every(every) = copy.configured.pruning else { return Ok(None) };
    let records = repository.records()?;
    if !prune_is_due(records.iter().map(|(_, record)| record), every, SystemClock.now()) {
        return Ok(None);
    }
    let reporter = session.console.reporter();
    let is_cold = Located::configured(&copy.configured, &session.globals.network).has_cold_packs();
    let options = PruneOptions {
        mode: PruneMode::TwoPhase,
        data_packs: if is_cold { DataPacks::Leave } else { DataPacks::Rewrite },
        ..PruneOptions::default()
    };
    let freed = prune_now(repository, &options, session, &*reporter);
    reporter.finish();
    freed.map(Some)
}

fn prune_now(
    repository: &Repository,
    options: &PruneOptions,
    session: &Session,
    observer: &dyn Observer,
) -> Result<u64, Failure> {
    let prune = Prune::plan(repository, options, &session.cancel, observer)?;
    let deletion = prune.planned().next_deletion();
    let outcome = match prune.planned().is_empty() {
        true => None,
        false => Some(prune.apply(&session.cancel, observer)?),
    };
    let freed = outcome.as_ref().map_or(0, |outcome| outcome.deleted_bytes);
    let mut figures = Map::from_iter([("bytes_deleted".to_owned(), json!(freed))]);
    figures.extend(deletion.map(|instant| (NEXT_DELETION.to_owned(), json!(instant.to_string()))));
    let body = RecordBody::Run { verb: PRUNE.to_owned(), outcome: "done".to_owned(), snapshot: None, figures };
    repository.save_record(body)?;
    match outcome.filter(|outcome| !outcome.damaged.is_empty()) {
        Some(outcome) => {
            let what = format!("{} packs that snapshots need could not be read and stayed", outcome.damaged.len());
            Err(Failure::new(what).with_hint("run `check --read-data`, then `repair index`"))
        }
        None => Ok(freed),
    }
}
