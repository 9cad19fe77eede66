//! The facts of a runbook: from a configuration and its repositories, or from one repository alone.
//!
//! What is always true: nothing is written, and a repository that cannot be read is said to be so and is no reason to
//! have no runbook. Secrets are named by the place where they are and never read for it, but for the passphrase.

mod bare;
mod parts;
mod stores;

use std::collections::BTreeMap;

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::policy::JobStanding;
use backup_core::repository::Repository;
use backup_core::runbook::{JobUnderRunbook, KnownFrom, RunbookFacts};
use jiff::Timestamp;

pub(crate) use bare::from_repository;

use crate::config::{Config, Job};
use crate::facts::{self, Reading};
use crate::session::{Session, identity};

/// What was read of the repositories, by their names.
#[derive(Default)]
struct Read {
    readings: BTreeMap<String, Reading>,
    open: BTreeMap<String, Repository>,
}

/// The facts of these jobs, with what their repositories say now.
pub(crate) fn of_config(config: &Config, jobs: &[&Job], session: &Session) -> RunbookFacts {
    let mut read = Read::default();
    let is_used = |name: &String| jobs.iter().any(|job| job.repositories.contains(name));
    for repository in config.repositories.iter().filter(|repository| is_used(&repository.name)) {
        let mut open = None;
        let reading = Reading::default().again(repository, &mut open, session);
        read.readings.insert(repository.name.clone(), reading);
        read.open.extend(open.map(|open| (repository.name.clone(), open)));
    }
    let path = std::path::absolute(&config.path).unwrap_or_else(|_| config.path.clone());
    let known_from = KnownFrom::File(path.display().to_string());
    facts_of(config, jobs, &read, known_from, identity(None).hostname, Some(session))
}

/// The facts of a configuration that is in use nowhere yet: no repository is asked for anything.
pub(crate) fn of_proposal(config: &Config) -> RunbookFacts {
    let jobs: Vec<_> = config.jobs.iter().collect();
    facts_of(config, &jobs, &Read::default(), KnownFrom::Proposed, identity(None).hostname, None)
}

/// `session` opens what tells the versions of databases; without, they are left out.
fn facts_of(
    config: &Config,
    jobs: &[&Job],
    read: &Read,
    known_from: KnownFrom,
    host: String,
    session: Option<&Session>,
) -> RunbookFacts {
    let now = SystemClock.now();
    let is_used = |name: &String| jobs.iter().any(|job| job.repositories.contains(name));
    let used = config.repositories.iter().filter(|repository| is_used(&repository.name));
    let repositories = used.map(|repository| stores::of(repository, read.readings.get(&repository.name), &host));
    RunbookFacts {
        now,
        program: format!("backup {}", env!("CARGO_PKG_VERSION")),
        repositories: repositories.collect(),
        jobs: jobs.iter().map(|job| under_runbook(config, job, read, now, session)).collect(),
        contacts: config.contacts.clone(),
        passphrase_copy: config
            .checklist
            .passphrase_copy
            .as_ref()
            .map(|(place, on)| format!("{place}, seen there on {}", on.to_zoned(config.time_zone.clone()).date())),
        caveats: Vec::new(),
        known_from,
        host,
    }
}

fn under_runbook(
    config: &Config,
    job: &Job,
    read: &Read,
    now: Timestamp,
    session: Option<&Session>,
) -> JobUnderRunbook {
    let facts = facts::of_job(config, job, &read.readings, now);
    let standing = JobStanding::of(&facts, &job.standards, now);
    let parts = parts::of_job(job, &facts, &read.open, session);
    let drills = facts::past_drills(&job.name, &job.repositories, &read.readings);
    JobUnderRunbook { facts, standing, parts, drills }
}
