//! The configuration, `backup.toml`: what is backed up, to where, when, how long it is kept, and who is told.
//!
//! What is always true: a configuration that was read is whole and means one thing. Every name that it uses is there,
//! every schedule has slots, every rule can keep something; a key that nobody knows is an error and not a wish that goes
//! unheard. Secrets are named and not read: each is read when it is needed, by who needs it. What `Debug` shows holds
//! none.
//!
//! The commands `run`, `status`, `config` and `daemon` live on it; every other takes the names of its repositories.

mod checklist;
mod document;
mod drill;
mod file;
mod job;
mod kept;
mod length;
#[cfg(test)]
mod museum;
#[cfg(test)]
mod mutated;
mod notify;
mod repository;
mod retention;
#[cfg(test)]
mod schema;
mod secret;
mod section;
mod service;
mod source;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use backup_store::Secret;
use jiff::tz::TimeZone;

pub(crate) use checklist::Checklist;
pub(crate) use document::{Fault, Variables};
pub(crate) use drill::{Container, Drill, DrillCheck, Expected, Picked, Probe, SandboxPlace};
pub(crate) use file::find;
pub(crate) use job::{Job, Retries, Starts};
pub(crate) use length::parse as length;
pub(crate) use notify::{Channel, Encryption, Event, Notify, Preset};
pub(crate) use repository::{Credentials, Limits, Pruning, Repository};
pub(crate) use service::{Daemon, Metrics, Pushgateway};
pub(crate) use source::{Changes, Source};

use document::Document;
use section::{Section, nearest};

use crate::exit::Failure;

/// A configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file that it was read from.
    pub(crate) path: PathBuf,
    /// Whose days, weeks and hours count.
    pub(crate) time_zone: TimeZone,
    /// The repositories, in the file's order.
    pub(crate) repositories: Vec<Repository>,
    /// The jobs, in the file's order.
    pub(crate) jobs: Vec<Job>,
    /// Who is told of what.
    pub(crate) notify: Vec<Notify>,
    /// Whom to call, by what for.
    pub(crate) contacts: Vec<(String, String)>,
    /// What somebody has declared that no machine can measure.
    pub(crate) checklist: Checklist,
    /// How the daemon serves.
    pub(crate) daemon: Daemon,
    /// Where figures go without a daemon.
    pub(crate) metrics: Metrics,
    /// The file without secrets and comments, which is kept in the repositories.
    pub(crate) kept: String,
    /// The file as it was read, for a process that is to have the same.
    pub(crate) text: Secret,
}

/// Why a file is no configuration.
#[derive(Clone, Debug)]
pub(crate) struct Wrong {
    /// The file.
    pub(crate) path: PathBuf,
    /// All that is wrong, by line; never empty.
    pub(crate) faults: Vec<Fault>,
}

impl Config {
    /// Reads the file at `path`, putting in `variables` where it names them.
    ///
    /// # Errors
    ///
    /// When it cannot be read; inside, all that is wrong with it.
    pub(crate) fn load(path: &Path, variables: Variables<'_>) -> Result<Result<Self, Wrong>, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let failure = Failure::because(format!("the configuration {}", path.display()), &error);
            Failure { exit: crate::exit::Exit::Usage, ..failure }.with_hint("-c FILE names another")
        })?;
        Ok(Self::read(path, &text, variables))
    }

    /// Reads a text that stands at `path`.
    pub(crate) fn read(path: &Path, text: &str, variables: Variables<'_>) -> Result<Self, Wrong> {
        let document = Document::new(text, variables);
        let wrong = |faults| Wrong { path: path.to_owned(), faults };
        let parsed = document.parse().map_err(|fault| wrong(vec![fault]))?;
        let root = document.root(&parsed);
        let read = read_root(&root, path);
        root.finish();
        let faults = document.faults();
        match read {
            Some(config) if faults.is_empty() => {
                let kept = kept::without_secrets(&parsed, &document.secrets());
                Ok(Self { kept, text: Secret::new(text), ..config })
            }
            _ => Err(wrong(faults)),
        }
    }

    /// A repository by its name.
    pub(crate) fn repository(&self, name: &str) -> Option<&Repository> {
        self.repositories.iter().find(|repository| repository.name == name)
    }

    /// Jobs by their names; all when none is named.
    pub(crate) fn jobs_named(&self, names: &[String]) -> Result<Vec<&Job>, Failure> {
        if let Some(unknown) = names.iter().find(|name| self.jobs.iter().all(|job| job.name != **name)) {
            let known: Vec<_> = self.jobs.iter().map(|job| job.name.as_str()).collect();
            return Err(Failure::usage(
                format!("no job is called {unknown} in {}", self.path.display()),
                nearest(unknown, &known),
            ));
        }
        Ok(self.jobs.iter().filter(|job| names.is_empty() || names.contains(&job.name)).collect())
    }
}

impl From<Wrong> for Failure {
    fn from(wrong: Wrong) -> Self {
        let Wrong { path, faults } = wrong;
        let (first, others) = match faults.split_first() {
            Some((first, others)) => (first.clone(), others.len()),
            None => return Self::usage(format!("{} is no configuration", path.display()), "config check tells more"),
        };
        let more = if others == 0 { String::new() } else { format!(" (and {others} more: `config check` lists all)") };
        let failure = Self::usage(format!("{}:{first}{more}", path.display()), String::new());
        Self { hint: first.hint, ..failure }
    }
}

fn read_root(root: &Section<'_>, path: &Path) -> Option<Config> {
    let time_zone = root.parsed("timezone", |name| {
        TimeZone::get(name).map_err(|_| format!("no time zone is called {name:?}: write \"Europe/Paris\" or \"UTC\""))
    });
    let time_zone = time_zone.unwrap_or(TimeZone::UTC);
    let defaults = root.value("defaults").and_then(|value| value.section());
    let mut repositories = Vec::new();
    for (name, section) in root.named("repositories") {
        repositories.extend(repository::read(name, &section, defaults.as_ref(), &time_zone));
    }
    let names: Vec<&str> = repositories.iter().map(|repository| repository.name.as_str()).collect();
    let mut jobs = Vec::new();
    for (name, section) in root.named("jobs") {
        let section = section.or(defaults.as_ref());
        jobs.extend(job::read(name, &section, &names, &time_zone));
    }
    if let Some(defaults) = defaults {
        job::read_defaults(&defaults, &names, &time_zone);
        repository::read_defaults(&defaults, &time_zone);
        defaults.finish();
    }
    let job_names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
    let mut notify = Vec::new();
    for (name, section) in root.named("notify") {
        notify.extend(notify::read(name, &section, &job_names));
    }
    let contacts = root.value("contacts").and_then(|value| value.section()).map(|section| section.entries());
    let contacts = contacts.unwrap_or_default().into_iter().filter_map(|(name, value)| Some((name, value.text()?)));
    let contacts = contacts.collect();
    let checklist = checklist::read(root.section("checklist").as_ref(), &time_zone);
    let daemon = service::read_daemon(root.section("daemon").as_ref());
    let metrics = service::read_metrics(root.section("metrics").as_ref());
    refuse_retention_without_deletion(root, &jobs, &repositories);
    refuse_one_place_twice(root, &jobs, &repositories);
    Some(Config {
        path: path.to_owned(),
        time_zone,
        repositories,
        jobs,
        notify,
        contacts,
        checklist,
        daemon,
        metrics,
        kept: String::new(),
        text: Secret::new(""),
    })
}

/// Two names of one place hold one copy, whatever a job makes of them.
fn refuse_one_place_twice(root: &Section<'_>, jobs: &[Job], repositories: &[Repository]) {
    let place = |name: &String| {
        let known = repositories.iter().find(|known| known.name == *name)?;
        Some(known.place.to_string().trim_end_matches('/').to_owned())
    };
    for (name, section) in root.named("jobs") {
        let goes_to = jobs.iter().filter(|job| job.name == name).flat_map(|job| &job.repositories);
        let mut seen: Vec<(&String, String)> = Vec::new();
        for (repository, place) in goes_to.filter_map(|name| Some((name, place(name)?))) {
            match seen.iter().find(|(_, other)| *other == place) {
                Some((other, _)) => section.fault(
                    format!("{other} and {repository} are one place, and hold one copy"),
                    Some(String::from("keep one of them in repositories")),
                ),
                None => seen.push((repository, place)),
            }
        }
    }
}

/// Rules for a repository from which nothing can be deleted would be a promise that fails every night.
fn refuse_retention_without_deletion(root: &Section<'_>, jobs: &[Job], repositories: &[Repository]) {
    let lock_free = |name: &String| repositories.iter().any(|known| known.name == *name && known.is_lock_free);
    for (name, section) in root.named("jobs") {
        let job = jobs.iter().find(|job| job.name == name);
        if let Some(name) = job.and_then(|job| job.retention.keys().find(|name| lock_free(name))) {
            section.fault(
                format!("its retention in {name} cannot be applied: credentials that take no lock cannot delete"),
                Some(format!("leave the rules of {name} away here, and apply them where credentials can delete")),
            );
        }
    }
}
