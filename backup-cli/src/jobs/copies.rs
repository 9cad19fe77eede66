//! The repositories of a job's run: opened one by one, and what became of each.

use backup_core::ErrorKind;
use backup_core::contracts::SinkErrorKind;
use backup_core::pipeline::BackupOutcome;
use backup_core::repository::Repository;

use super::outcome::{CopyOutcome, Thinned};
use crate::config::{self, Config, Job};
use crate::exit::{Exit, Failure};
use crate::session::Session;

/// The repositories of a run, in the order of the job.
pub(super) struct Copies(Vec<Copy>);

/// One of them.
pub(super) struct Copy {
    /// Its name.
    pub(super) name: String,
    /// What the configuration says of it.
    pub(super) configured: config::Repository,
    /// Until it fails.
    pub(super) repository: Option<Repository>,
    /// What it has of this run: the number of the part, and what was made of it.
    pub(super) done: Vec<(usize, BackupOutcome)>,
    /// Why it lacks something of this run.
    pub(super) failure: Option<Failure>,
    /// What was removed from it.
    pub(super) thinned: Option<Thinned>,
}

impl Copies {
    /// Opens them. One that cannot be opened is behind.
    pub(super) fn open(job: &Job, config: &Config, session: &Session) -> Self {
        let configured = job.repositories.iter().filter_map(|name| config.repository(name));
        let copy = |configured: &config::Repository| Copy {
            name: configured.name.clone(),
            configured: configured.clone(),
            repository: None,
            done: Vec::new(),
            failure: None,
            thinned: None,
        };
        let mut copies = Self(configured.map(copy).collect());
        copies.open_missing(job, config, session);
        copies
    }

    /// Opens those that are not open.
    pub(super) fn open_missing(&mut self, job: &Job, _config: &Config, session: &Session) {
        for copy in self.0.iter_mut().filter(|copy| copy.repository.is_none()) {
            match session.open_configured(&copy.configured, job.host.as_deref()) {
                Ok(repository) => (copy.repository, copy.failure) = (Some(repository), None),
                Err(failure) => copy.failure = Some(failure),
            }
        }
    }

    /// Whether one is open.
    pub(super) fn any_is_open(&self) -> bool {
        self.0.iter().any(|copy| copy.repository.is_some())
    }

    /// Those that are open.
    pub(super) fn repositories(&self) -> Vec<Repository> {
        self.0.iter().filter_map(|copy| copy.repository.clone()).collect()
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Copy] {
        &self.0
    }

    /// All of them, to note what became of each.
    pub(super) fn all_mut(&mut self) -> &mut [Copy] {
        &mut self.0
    }

    /// Which of those that are open take no lock, because it could not be deleted again. Two-phase pruning bears writers
    /// without one.
    pub(super) fn lock_free(&self) -> Vec<usize> {
        let open = self.0.iter().filter(|copy| copy.repository.is_some()).enumerate();
        open.filter(|(_, copy)| copy.configured.is_lock_free).map(|(number, _)| number).collect()
    }

    /// Why no repository is open.
    pub(super) fn first_failure(&mut self) -> Failure {
        let failures = self.0.iter().filter_map(|copy| copy.failure.as_ref());
        // The one that trying again may mend speaks for all.
        let gravest = failures.min_by_key(|failure| failure.exit != Exit::Failed);
        gravest.cloned().unwrap_or_else(|| Failure::new("no repository got a snapshot"))
    }

    /// Notes what became of a part in those that are open, in their order.
    pub(super) fn settle(&mut self, part: usize, outcomes: Vec<backup_core::Result<BackupOutcome>>) {
        for (copy, outcome) in self.0.iter_mut().filter(|copy| copy.repository.is_some()).zip(outcomes) {
            match outcome {
                Ok(outcome) => copy.done.push((part, outcome)),
                Err(error) => copy.failure = Some(error.into()),
            }
        }
    }

    /// Keeps the configuration where something was backed up to.
    pub(super) fn keep_configuration(&self, text: &str, warnings: &mut Vec<String>) {
        for copy in self.0.iter().filter(|copy| !copy.done.is_empty()) {
            let Some(repository) = &copy.repository else { continue };
            if let Err(error) = repository.keep_configuration(text)
                && *error.kind() != ErrorKind::Sink(SinkErrorKind::Unsupported)
            {
                warnings.push(format!("{} does not keep the configuration: {}", copy.name, Failure::from(error).what));
            }
        }
    }

    /// What became of each.
    pub(super) fn into_outcomes(self) -> Vec<CopyOutcome> {
        let outcome = |copy: Copy| CopyOutcome {
            repository: copy.name,
            place: copy.configured.place.to_string(),
            snapshots: copy.done.iter().filter_map(|(_, outcome)| outcome.snapshot).collect(),
            proof: copy.done.iter().map(|(_, outcome)| outcome.reached).min(),
            bytes_new: copy.done.iter().map(|(_, outcome)| outcome.summary.data_added).sum(),
            bytes_stored: copy.done.iter().map(|(_, outcome)| outcome.summary.data_added_packed).sum(),
            failure: copy.failure,
            thinned: copy.thinned,
        };
        self.0.into_iter().map(outcome).collect()
    }
}
