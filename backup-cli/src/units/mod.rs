//! The words of other schedulers for what the configuration says: cron, systemd, Kubernetes.
//!
//! What is always true: a unit runs what the daemon would run at the same slots, by the same command that a person
//! types; what another scheduler cannot say is told and left out, and is never said wrongly.

pub(crate) mod cron;
pub(crate) mod kubernetes;
pub(crate) mod systemd;

use std::path::PathBuf;

use backup_core::schedule::Schedule;
use jiff::SignedDuration;

use crate::config::{Config, Job, Starts};

/// Something that is to run by itself.
#[derive(Clone, Debug)]
pub(crate) struct Timed {
    /// A name of its own, of letters, digits, `-`, `_` and `.`: `app-db`, `drill-app-db`.
    pub(crate) name: String,
    /// What it is, for people.
    pub(crate) description: String,
    /// The verb and what it is given: `run app-db`.
    pub(crate) words: Vec<String>,
    /// When.
    pub(crate) schedule: Schedule,
    /// How long after its slots it begins.
    pub(crate) delay: SignedDuration,
}

/// The program and its configuration, as units name them.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The program.
    pub(crate) path: PathBuf,
    /// Its configuration.
    pub(crate) config: PathBuf,
}

impl Program {
    /// The command line of something, word by word.
    pub(crate) fn command(&self, timed: &Timed) -> Vec<String> {
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let mut command = vec![path(&self.path), "--config".to_owned(), path(&self.config)];
        command.extend(timed.words.iter().cloned());
        command
    }
}

/// What of these jobs runs by itself, and what is to say of the others; with all jobs, also what is done with
/// repositories.
///
/// Who shares a repository runs a slot once: runs and readings ask for its lease.
pub(crate) fn timed(config: &Config, jobs: &[&Job]) -> (Vec<Timed>, Vec<String>) {
    let (mut timed, mut notes) = (Vec::new(), Vec::new());
    for job in jobs {
        let name = &job.name;
        match &job.starts {
            Starts::OnChange { schedule: None, .. } => {
                notes.push(format!("{name} runs on change: only `backup daemon` watches files"));
            }
            Starts::OnChange { .. } => {
                notes.push(format!("{name} runs on change as well: only `backup daemon` watches files"));
            }
            Starts::ByHand => notes.push(format!("{name} has no schedule")),
            Starts::Schedule(_) => {}
        }
        if let Some(schedule) = job.starts.schedule() {
            timed.push(Timed {
                name: name.clone(),
                description: format!("Backup of {name}"),
                words: vec!["run".to_owned(), name.clone(), "--slot".to_owned()],
                schedule: schedule.clone(),
                delay: job.jitter.delay(name),
            });
        }
        if let Some(schedule) = job.read_again_runs() {
            timed.push(Timed {
                name: format!("read-again-{name}"),
                description: format!("Backup of {name} that reads everything"),
                words: ["run", name, "--read-again", "--slot"].map(str::to_owned).into(),
                schedule: schedule.clone(),
                delay: job.jitter.delay(name),
            });
        }
        if let Some(schedule) = job.drill.as_ref().and_then(|drill| drill.schedule.as_ref()) {
            timed.push(Timed {
                name: format!("drill-{name}"),
                description: format!("Drill of {name}"),
                words: vec!["drill".to_owned(), name.clone(), "--trigger=schedule".to_owned()],
                schedule: schedule.clone(),
                delay: job.jitter.delay(&format!("drill {name}")),
            });
        }
    }
    let is_all = jobs.len() == config.jobs.len();
    timed.extend(config.repositories.iter().filter(|_| is_all).filter_map(|repository| {
        Some(Timed {
            name: format!("read-back-{}", repository.name),
            description: format!("Reading back of {}", repository.name),
            words: ["-r", &repository.name, "check", "--read-data", "--slot"].map(str::to_owned).into(),
            schedule: repository.read_back.clone()?,
            delay: SignedDuration::ZERO,
        })
    }));
    // A job may be called `drill-app` where another is `app`.
    let names: Vec<String> = timed.iter().map(|timed| timed.name.clone()).collect();
    for (at, timed) in timed.iter_mut().enumerate() {
        let earlier = names.iter().take(at).filter(|name| **name == timed.name).count();
        if earlier > 0 {
            timed.name = format!("{}.{}", timed.name, earlier + 1);
        }
    }
    if config.jobs.is_empty() {
        notes.push(format!("{} has no jobs", config.path.display()));
    }
    (timed, notes)
}

#[cfg(test)]
pub(crate) mod sample {
    use jiff::tz::TimeZone;

    use super::*;

    pub(crate) fn program() -> Program {
        Program { path: "/usr/bin/backup".into(), config: "/etc/backup/backup.toml".into() }
    }

    /// A job of this name, in a zone that has a name.
    pub(crate) fn timed(name: &str, schedule: &str) -> Timed {
        Timed {
            name: name.to_owned(),
            description: format!("Backup of {name}"),
            words: vec!["run".to_owned(), name.to_owned(), "--slot".to_owned()],
            schedule: Schedule::parse(schedule, TimeZone::get("Europe/Paris").unwrap()).unwrap(),
            delay: SignedDuration::ZERO,
        }
    }
}
