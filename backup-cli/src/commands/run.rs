//! `backup run`: runs jobs of the configuration.

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::policy::JobStanding;
use serde_json::json;

use crate::config::{Config, Event, Job};
use crate::exit::{Exit, Failure};
use crate::jobs::{self, Extent, Mode, Occasion, Outcome, Trust};
use crate::session::Session;
use crate::{facts, telling};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each job is backed up to all its repositories in one pass, then their retention is applied. A job that \
    fails does not stop the next; the exit code is the gravest: 1, 5, 4, 3, 0."
)]
pub(crate) struct Args {
    /// Jobs, by name; all of the configuration when none is named
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// Run for the newest slot of each job's schedule, once among all machines that share a repository: for cron and
    /// timers
    #[arg(long)]
    slot: bool,
    /// Read everything, whatever the snapshot before says; with --slot, for the newest slot of `read_again`
    #[arg(long)]
    read_again: bool,
    /// Take what this run holds as usual from now on, where a run before looked wrong
    #[arg(long)]
    accept: bool,
    /// Write, remove and call nothing; show what would be
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    session.require_locks()?;
    let config = session.config()?;
    let jobs = config.jobs_named(&args.jobs)?;
    if jobs.is_empty() {
        return Err(Failure::usage("the configuration has no job", "write a table [jobs.NAME]"));
    }
    let mut outcomes = Vec::new();
    for job in &jobs {
        let occasion = Occasion {
            slot: if args.slot { slot(job, args) } else { None },
            mode: if args.dry_run { Mode::DryRun } else { Mode::Real },
            trust: if args.accept { Trust::Accept } else { Trust::Suspect },
            extent: if args.read_again { Extent::Everything } else { Extent::Usual },
        };
        let outcome = jobs::run_job(job, &occasion, &config, session);
        tell(&outcome, session)?;
        if occasion.mode == Mode::Real {
            warn(&telling::tell(&config, telling::of_run(&outcome).as_slice(), session), session);
        }
        let is_interrupted = outcome.exit() == Exit::Interrupted;
        outcomes.push(outcome);
        if is_interrupted {
            break;
        }
    }
    if !args.dry_run && !session.cancel.requested() {
        afterwards(&config, &jobs, session);
    }
    let exit = outcomes.iter().map(Outcome::exit).fold(Exit::Done, Exit::graver);
    if session.console.is_json() {
        let told = outcomes.iter().map(|outcome| json!({"job": outcome.job, "outcome": outcome.verdict.word()}));
        let jobs: Vec<_> = told.collect();
        session
            .console
            .document(&json!({"event": "summary", "dry_run": args.dry_run, "exit_code": exit as u8, "jobs": jobs}))?;
    }
    Ok(exit)
}

/// Looks at how the jobs stand now, where somebody wants to know: figures, and objectives that are missed.
pub(super) fn afterwards(config: &Config, ran: &[&Job], session: &Session) {
    let metrics = &config.metrics;
    let wants_figures = metrics.textfile.is_some() || metrics.pushgateway.is_some();
    if !wants_figures && !config.notify.iter().any(|notify| notify.on.contains(&Event::Objective)) {
        return;
    }
    // Figures are of all jobs: what is written or pushed takes the place of what was there.
    let looked_at: Vec<&Job> = if wants_figures { config.jobs.iter().collect() } else { ran.to_vec() };
    let readings = facts::gather(config, &looked_at, session);
    let now = SystemClock.now();
    let facts: Vec<_> = looked_at.iter().map(|job| facts::of_job(config, job, &readings, now)).collect();
    let standings: Vec<_> =
        looked_at.iter().zip(&facts).map(|(job, facts)| JobStanding::of(facts, &job.standards, now)).collect();
    let both: Vec<_> = facts.iter().zip(&standings).collect();
    warn(&telling::deliver(metrics, &both, now, session), session);
    let matters: Vec<_> = standings.iter().filter_map(telling::of_standing).collect();
    warn(&telling::tell(config, &matters, session), session);
}

fn warn(warnings: &[String], session: &Session) {
    for warning in warnings {
        session.console.warn(warning);
    }
}

/// Shows what became of a job.
fn tell(outcome: &Outcome, session: &Session) -> Result<(), Failure> {
    for warning in &outcome.warnings {
        session.console.warn(warning);
    }
    if session.console.is_json() {
        return session.console.document(&outcome.document());
    }
    match &outcome.verdict {
        jobs::Verdict::Failed { failure } => {
            let what = format!("{}: {}", outcome.job, failure.what);
            session.console.failure(&Failure { what, ..failure.clone() });
            Ok(())
        }
        _ => session.console.summary(&(), || outcome.text()),
    }
}

/// The newest slot of the schedule that a job runs by.
fn slot(job: &Job, args: &Args) -> Option<jiff::Timestamp> {
    let schedule = if args.read_again { job.read_again.as_ref() } else { job.starts.schedule() };
    schedule?.previous(SystemClock.now())
}
