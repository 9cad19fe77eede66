//! `backup run`: runs jobs of the configuration.

use backup_core::clock::{Clock as _, SystemClock};
use serde_json::json;

use crate::config::Job;
use crate::exit::{Exit, Failure};
use crate::jobs::{self, Mode, Occasion, Outcome, Trust};
use crate::session::Session;

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
    for job in jobs {
        let occasion = Occasion {
            slot: if args.slot { slot(job) } else { None },
            mode: if args.dry_run { Mode::DryRun } else { Mode::Real },
            trust: if args.accept { Trust::Accept } else { Trust::Suspect },
        };
        let outcome = jobs::run_job(job, &occasion, &config, session);
        tell(&outcome, session)?;
        let is_interrupted = outcome.exit() == Exit::Interrupted;
        outcomes.push(outcome);
        if is_interrupted {
            break;
        }
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

/// The newest slot of a job's schedule.
fn slot(job: &Job) -> Option<jiff::Timestamp> {
    job.starts.schedule()?.previous(SystemClock.now())
}
