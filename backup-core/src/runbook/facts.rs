//! What a runbook is written from.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::drill::{Estimate, PastDrill, StageName, Verdict, estimate, samples};
use crate::policy::{Backup, CopyFacts, JobFacts, JobStanding, in_words};

/// All that a runbook says.
#[derive(Clone, Debug)]
pub struct RunbookFacts {
    /// When it is written.
    pub now: Timestamp,
    /// The program and its version: `backup 0.1.0`.
    pub program: String,
    /// The machine that the jobs are of.
    pub host: String,
    /// Where all this is known from.
    pub known_from: KnownFrom,
    /// The repositories, in the order of the configuration.
    pub repositories: Vec<StoreFacts>,
    /// The jobs, in the order of the configuration.
    pub jobs: Vec<JobUnderRunbook>,
    /// Whom to call: for what, and how.
    pub contacts: Vec<(String, String)>,
    /// Where the second copy of the passphrase is, as somebody declared it.
    pub passphrase_copy: Option<String>,
    /// What the reader must know of this document: sentences.
    pub caveats: Vec<String>,
}

/// Where the facts of a runbook are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownFrom {
    /// A configuration's file.
    File(String),
    /// The configuration that a repository keeps.
    Kept {
        /// The repository.
        place: String,
        /// When it was kept.
        time: Timestamp,
    },
    /// Nothing but the snapshots in a repository.
    Snapshots {
        /// The repository.
        place: String,
    },
    /// A configuration that was proposed and is in use nowhere yet.
    Proposed,
}

/// A repository.
#[derive(Clone, Debug, Default)]
pub struct StoreFacts {
    /// Its name in the configuration.
    pub name: String,
    /// Where it lies, as `-r` takes it on another machine.
    pub place: String,
    /// Where the content of files lies, if not there too, as `--repo-cold` takes it.
    pub cold: Option<String>,
    /// Whether the content of files lies in a class from which nothing is read at once.
    pub is_archived: bool,
    /// Where its passphrase is: `the file /etc/backup/passphrase`.
    pub passphrase: Option<String>,
    /// What opens the store besides, as variables to set on a machine that has no configuration.
    pub variables: Vec<Variable>,
    /// Its place in restic's words; `None` where restic does not reach it.
    pub restic: Option<ResticPlace>,
    /// Whether its credentials cannot delete, so that no lock is taken.
    pub is_lock_free: bool,
    /// Why it could not be read lately.
    pub unreachable: Option<String>,
    /// When it was read.
    pub read: Option<Timestamp>,
}

/// A variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What has to be put there: a value, or where the secret is.
    pub value: VariableValue,
}

/// What a variable has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VariableValue {
    /// This.
    Plain(String),
    /// A secret; where it is.
    Secret(String),
}

impl Variable {
    /// One with a value that everybody may read.
    pub fn plain(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: VariableValue::Plain(value.into()) }
    }

    /// One with a secret, and where that is.
    pub fn secret(name: &str, place: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: VariableValue::Secret(place.into()) }
    }
}

/// A repository as restic names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResticPlace {
    /// What stands after `-r`.
    pub repository: String,
    /// What else it needs.
    pub variables: Vec<Variable>,
}

/// A job.
#[derive(Clone, Debug)]
pub struct JobUnderRunbook {
    /// What is known of it.
    pub facts: JobFacts,
    /// How it stands.
    pub standing: JobStanding,
    /// What it consists of, each with a snapshot of its own.
    pub parts: Vec<Part>,
    /// Its drills from all copies, oldest first.
    pub drills: Vec<PastDrill>,
}

/// A part of a job: what one of its snapshots holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The path that tells its snapshots from those of the job's other parts: `/postgres/app`. `None` for the only one.
    pub source: Option<String>,
    /// What it is.
    pub kind: PartKind,
    /// What the backup was made with, where the snapshot says so: `pg_dump 16.4`.
    pub tools: Vec<String>,
    /// What the server that it is restored to must have installed, by name: extensions.
    pub extensions: Vec<String>,
}

/// What a part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// Files and folders, under their absolute paths.
    Files(Vec<String>),
    /// A database.
    Database {
        /// The engine: `postgres`.
        engine: String,
        /// Its folder in the snapshot: `/postgres/app`.
        folder: String,
        /// What it is called.
        name: String,
        /// Its address, without a password.
        url: String,
    },
    /// What a command printed: a file in the snapshot.
    Output(String),
}

impl RunbookFacts {
    /// A repository by its name.
    pub(super) fn store(&self, name: &str) -> Option<&StoreFacts> {
        self.repositories.iter().find(|store| store.name == name)
    }
}

impl JobUnderRunbook {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.facts.job
    }

    /// Its newest backup in a copy.
    pub(super) fn newest(&self, repository: &str) -> Option<&Backup> {
        self.copy(repository)?.history.backups.last()
    }

    /// Logical bytes of what comes back: those of the copy that has the most.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.facts.copies.iter().filter_map(|copy| copy.history.newest_bytes()).max()
    }

    pub(super) fn copy(&self, repository: &str) -> Option<&CopyFacts> {
        self.facts.copies.iter().find(|copy| copy.repository == repository)
    }

    /// When a drill that passed last executed this very command.
    pub(super) fn executed(&self, command: &str) -> Option<Timestamp> {
        let executed = self.passed().filter(|drill| drill.figures.commands.iter().any(|line| line == command));
        executed.map(|drill| drill.ended).max()
    }

    /// The last drill from a copy that passed.
    pub(super) fn last_passed(&self, repository: &str) -> Option<&PastDrill> {
        self.passed().filter(|drill| drill.repository == repository).max_by_key(|drill| drill.ended)
    }

    /// How long a restore of the newest backup in a copy would take, from drills of that copy, or else of all.
    pub(super) fn estimate(&self, repository: &str) -> Option<Estimate> {
        let bytes = self.copy(repository)?.history.newest_bytes()?;
        let of_copy: Vec<_> = self.passed().filter(|drill| drill.repository == repository).cloned().collect();
        let chosen = if of_copy.is_empty() { self.drills.clone() } else { of_copy };
        let mut estimate = estimate(&samples(&chosen), bytes, StageName::is_technical)?;
        if chosen.iter().all(|drill| drill.repository != repository) {
            estimate.confidence = crate::drill::Confidence::Low;
            estimate.reasons.push("this copy was never drilled: the figures are another's".to_owned());
        }
        Some(estimate)
    }

    fn passed(&self) -> impl Iterator<Item = &PastDrill> {
        self.drills.iter().filter(|drill| drill.verdict == Verdict::Passed)
    }
}

/// The jobs in the order in which they have to come back: who may be away the shortest first, then who may lose the
/// least, then as the configuration has them.
pub fn recovery_order(facts: &RunbookFacts) -> Vec<&JobUnderRunbook> {
    let mut jobs: Vec<_> = facts.jobs.iter().collect();
    let last = SignedDuration::MAX;
    jobs.sort_by_key(|job| {
        let objectives = &job.facts.objectives;
        (objectives.rto.unwrap_or(last), objectives.rpo.unwrap_or(last))
    });
    jobs
}

/// A measured time, in words: with a fraction where it is short.
pub(super) fn span(time: Duration) -> String {
    match SignedDuration::try_from(time) {
        Ok(long) if long >= SignedDuration::from_secs(10) => in_words(long),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// An instant in words that mean the same everywhere.
pub(super) fn instant(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
