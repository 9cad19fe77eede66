//! Jobs of the configuration: one run of one job, from its hooks to its retention.
//!
//! What is always true: the data is read once and goes to all repositories of the job; one that fails costs the others
//! nothing. What removes (retention, prune) comes after what adds, only where this run came to a good end, and never
//! after a run that looks wrong. A run leaves a record in each repository that it reached, whatever became of it.
//!
//! `backup run` and the daemon call [`run_job`]; nothing here knows when. A crash leaves what a backup leaves: packs that
//! the next run uses, and a lease that the next who asks sees to be left.

mod attempt;
mod copies;
mod hooks;
mod outcome;
mod records;
mod retries;
mod source;
mod thinning;

use std::time::{Duration, Instant};

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::repository::Claim;
use backup_store::Place;
use jiff::Timestamp;

pub(crate) use outcome::{CopyOutcome, Outcome, Verdict};

use copies::Copies;

use crate::config::{Config, Job};
use crate::exit::{Exit, Failure};
use crate::session::Session;

/// Why a job runs now, and how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Occasion {
    /// The slot of its schedule that it runs for. It is run for by one of all who share a repository. Without one it runs
    /// whatever others do.
    pub(crate) slot: Option<Timestamp>,
    /// What happens.
    pub(crate) mode: Mode,
    /// What a run that looks wrong means.
    pub(crate) trust: Trust,
    /// How much of the source is read.
    pub(crate) extent: Extent,
}

/// What happens in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All of it.
    #[default]
    Real,
    /// Nothing is written, removed or called; what would be is shown.
    DryRun,
}

/// What a run that looks wrong means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Somebody has to look: retention removes nothing.
    #[default]
    Suspect,
    /// Somebody has looked: so much is usual from now on.
    Accept,
}

/// How much of the source is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What changed; everything in the first run after a slot of `read_again`.
    #[default]
    Usual,
    /// Everything, whatever the snapshot before says.
    Everything,
}

/// Runs a job once.
pub(crate) fn run_job(job: &Job, occasion: &Occasion, config: &Config, session: &Session) -> Outcome {
    let began = Instant::now();
    let started = SystemClock.now();
    let mut copies = Copies::open(job, config, session);
    let mut warnings = Vec::new();
    let mut attempts = 0;
    // Until it is known whose the slot is: a repository may answer later than the first attempt.
    let mut wanted = occasion.slot.filter(|_| occasion.mode == Mode::Real);
    let (mut unkept, mut has_begun) = (None, false);
    let ended = loop {
        if let Some(slot) = wanted.filter(|_| copies.any_is_open()) {
            match claim(job, slot, &copies) {
                Ok(Claim::Taken) => (wanted, unkept) = (None, None),
                Ok(Claim::Held(lease)) => break Ok((Verdict::Held { by: lease.hostname }, Vec::new())),
                Err(why) => unkept = Some(why),
            }
        }
        attempts += 1;
        has_begun |= copies.any_is_open();
        let failure = match attempt::attempt(job, occasion, config, &mut copies, &mut warnings, session) {
            Ok(parts) => break Ok((attempt::verdict(&parts), parts)),
            Err(failure) => failure,
        };
        let waited = began.elapsed();
        match retries::next(job.retries, attempts, waited).filter(|_| is_worth_retrying(&failure, occasion)) {
            Some(wait) => {
                session.console.note(&format!("{}: {}; trying again in {} s", job.name, failure.what, wait.as_secs()));
                if let Err(interrupted) = pause(wait, session) {
                    break Err(interrupted);
                }
                copies.open_missing(job, config, session);
            }
            None => break Err(failure),
        }
    };
    warnings.extend(
        unkept
            .map(|why| format!("no repository keeps a lease, so another machine may run {} as well: {why}", job.name)),
    );
    let mut outcome = match ended {
        Ok((verdict, parts)) => Outcome::new(job, started, verdict, parts),
        Err(failure) => Outcome::new(job, started, Verdict::Failed { failure }, Vec::new()),
    };
    outcome.attempts = attempts;
    outcome.slot = occasion.slot;
    if occasion.mode == Mode::Real {
        records::keep(&outcome, &copies, began.elapsed(), &mut warnings);
    }
    if outcome.verdict.made_a_backup() {
        thinning::apply(job, occasion, &outcome, config, &mut copies, session);
        if occasion.mode == Mode::Real {
            copies.keep_configuration(&config.kept, &mut warnings);
        }
    }
    // What a hook before it has stopped is started again, also where somebody else was first in the end.
    if occasion.mode == Mode::Real && (has_begun || !matches!(outcome.verdict, Verdict::Held { .. })) {
        warnings.extend(hooks::after(job, &outcome));
    }
    outcome.copies = copies.into_outcomes();
    outcome.warnings = warnings;
    outcome.seconds = began.elapsed().as_secs_f64();
    outcome
}

/// Opens a job's source as a run would, and closes it again; what cannot be opened.
pub(crate) fn reach_source(job: &Job, places: &[Place], session: &Session) -> Vec<Failure> {
    match source::parts(job, places, session) {
        Ok(parts) => parts.into_iter().filter_map(|part| part.open(session).err()).collect(),
        Err(failure) => vec![failure],
    }
}

/// Asks the repositories for the slot, one after the other, until one answers; else why none did.
fn claim(job: &Job, slot: Timestamp, copies: &Copies) -> Result<Claim, String> {
    let mut why = String::from("no repository can be reached");
    for repository in copies.repositories() {
        match repository.claim(&job.name, slot) {
            Ok(answer) => return Ok(answer),
            Err(error) => why = Failure::from(error).what,
        }
    }
    Err(why)
}

/// What trying again cannot mend is not tried again.
fn is_worth_retrying(failure: &Failure, occasion: &Occasion) -> bool {
    occasion.mode == Mode::Real
        && !matches!(failure.exit, Exit::Usage | Exit::Interrupted | Exit::WrongPassphrase | Exit::NoRepository)
}

/// Waits, unless a stop is asked for.
fn pause(wait: Duration, session: &Session) -> Result<(), Failure> {
    let until = Instant::now() + wait;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        session.cancel.check()?;
        std::thread::sleep(left.min(Duration::from_millis(200)));
    }
    Ok(session.cancel.check()?)
}
