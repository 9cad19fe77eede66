//! Commands around a run.
//!
//! What is always true: what a command prints goes to standard error, so that standard output carries what was asked
//! for. One that takes too long is ended with all that it has started.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::outcome::Outcome;
use crate::config::Job;
use crate::exit::{Exit, Failure};
use crate::limited::wait;
use crate::session::Session;

/// Runs the command before; its failure fails the job.
pub(super) fn before(job: &Job, session: &Session) -> Result<(), Failure> {
    match &job.hooks.before {
        Some(command) => run(command, "before", job, &[], Some(session)),
        None => Ok(()),
    }
}

/// Runs the command after a run, by how it ended. Its failure is a warning: what was backed up is backed up. A request to
/// stop does not end it: it starts again what the command before has stopped.
pub(super) fn after(job: &Job, outcome: &Outcome) -> Option<String> {
    let (command, name) = match outcome.exit() {
        _ if outcome.verdict.made_a_backup() => (&job.hooks.after, "after"),
        _ => (&job.hooks.failure, "failure"),
    };
    let why = outcome.verdict.why().unwrap_or_default();
    let variables = [("BACKUP_OUTCOME", outcome.verdict.word()), ("BACKUP_WHY", &why)];
    run(command.as_ref()?, name, job, &variables, None).err().map(|failure| failure.what)
}

/// Runs a command, which ends with a request to stop where `session` is given.
fn run(
    command: &str,
    name: &str,
    job: &Job,
    variables: &[(&str, &str)],
    session: Option<&Session>,
) -> Result<(), Failure> {
    let told = |what: &str| format!("the hook {name} of {} {what}", job.name);
    let failed = |error: &io::Error| Failure::because(told("could not be run"), error);
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .env("BACKUP_JOB", &job.name)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(io::stderr().as_fd().try_clone_to_owned().map_err(|error| failed(&error))?)
        .process_group(0)
        .spawn()
        .map_err(|error| failed(&error))?;
    let timeout = Duration::try_from(job.hooks.timeout).unwrap_or(Duration::MAX);
    let is_stopped = || session.is_some_and(|session| session.cancel.requested());
    let ended = wait(&mut child, timeout, &is_stopped).map_err(|error| failed(&error))?;
    let hint = "run it by hand to see why; it has to end with 0";
    match ended {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(Failure::new(told(&format!("failed: {status}"))).with_hint(hint)),
        None if is_stopped() => Err(Failure { exit: Exit::Interrupted, ..Failure::new(told("was stopped")) }),
        None => {
            let what = told(&format!("took longer than {} s and was ended", timeout.as_secs()));
            Err(Failure::new(what).with_hint("hooks.timeout allows it more"))
        }
    }
}
