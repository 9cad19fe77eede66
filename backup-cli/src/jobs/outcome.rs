//! What became of a run: for people, for programs, and as an exit code.

use backup_core::contracts::Proof;
use backup_core::model::SnapshotId;
use backup_core::pipeline::BackupOutcome;
use backup_core::policy::Suspicion;
use backup_core::retention::RetentionPlan;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::config::Job;
use crate::console::{amounts, table::Table};
use crate::exit::{Exit, Failure};

/// What became of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The job.
    pub(crate) job: String,
    /// The slot that it was for.
    pub(crate) slot: Option<Timestamp>,
    /// When it began.
    pub(crate) started: Timestamp,
    /// How it ended.
    pub(crate) verdict: Verdict,
    /// What it backed up: one part, or each of several databases.
    pub(crate) parts: Vec<Part>,
    /// What became of each repository.
    pub(crate) copies: Vec<CopyOutcome>,
    /// How often it was tried.
    pub(crate) attempts: u32,
    /// How long it took.
    pub(crate) seconds: f64,
    /// What somebody should know.
    pub(crate) warnings: Vec<String>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// With a backup of everything.
    Done,
    /// With a backup; some files could not be read.
    Losses,
    /// With a backup that looks wrong.
    Suspicious {
        /// What of it.
        what: String,
    },
    /// Without a backup, or without one of some part.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// Somebody else runs it, or did.
    Held {
        /// Which machine.
        by: String,
    },
}

/// One snapshot's worth.
#[derive(Debug)]
pub(crate) struct Part {
    /// What it covers.
    pub(crate) paths: Vec<String>,
    /// What the first repository that has it says of it; why it failed where none has.
    pub(crate) ended: Result<BackupOutcome, Failure>,
    /// What of it was read.
    pub(crate) bytes_read: u64,
    /// How long it took.
    pub(crate) seconds: f64,
    /// What looks wrong.
    pub(crate) suspicion: Option<Suspicion>,
    /// Whether somebody has said that this is usual from now on.
    pub(crate) is_accepted: bool,
    /// Whether everything was read, whatever the snapshot before says.
    pub(crate) is_read_again: bool,
}

/// What became of a repository.
#[derive(Debug)]
pub(crate) struct CopyOutcome {
    /// Its name.
    pub(crate) repository: String,
    /// Where it lies.
    pub(crate) place: String,
    /// What it has of this run.
    pub(crate) snapshots: Vec<SnapshotId>,
    /// The least step of proof that they reached.
    pub(crate) proof: Option<Proof>,
    /// What was new to it.
    pub(crate) bytes_new: u64,
    /// What that takes.
    pub(crate) bytes_stored: u64,
    /// Why it lacks something.
    pub(crate) failure: Option<Failure>,
    /// What was removed from it.
    pub(crate) thinned: Option<Thinned>,
}

/// What retention and prune did to a repository.
#[derive(Debug, Default)]
pub(crate) struct Thinned {
    /// Why nothing was removed although rules would.
    pub(crate) frozen: bool,
    /// What retention has, or would have, removed.
    pub(crate) removed: Vec<SnapshotId>,
    /// What stays.
    pub(crate) kept: u64,
    /// Bytes that a prune has freed; `None` when none was due.
    pub(crate) freed: Option<u64>,
    /// Why something of it could not be done.
    pub(crate) failure: Option<Failure>,
}

impl Verdict {
    /// Whether there is a backup of everything.
    pub(crate) fn made_a_backup(&self) -> bool {
        matches!(self, Self::Done | Self::Losses | Self::Suspicious { .. })
    }

    /// The word of a record.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Losses => "losses",
            Self::Suspicious { .. } => "suspicious",
            Self::Failed { .. } => "failed",
            Self::Held { .. } => "held",
        }
    }

    /// Why it is not done; no secret.
    pub(crate) fn why(&self) -> Option<String> {
        match self {
            Self::Done | Self::Losses => None,
            Self::Suspicious { what } => Some(what.clone()),
            Self::Failed { failure } => Some(failure.what.clone()),
            Self::Held { by } => Some(format!("{by} has run it for this slot")),
        }
    }
}

impl Thinned {
    /// From a plan, with what of it was done.
    pub(super) fn by(plan: &RetentionPlan, removed: Vec<SnapshotId>) -> Self {
        let all = plan.snapshots().count() as u64;
        Self { kept: all - (removed.len() as u64).min(all), removed, ..Self::default() }
    }
}

impl Outcome {
    pub(super) fn new(job: &Job, started: Timestamp, verdict: Verdict, parts: Vec<Part>) -> Self {
        Self {
            job: job.name.clone(),
            slot: None,
            started,
            verdict,
            parts,
            copies: Vec::new(),
            attempts: 0,
            seconds: 0.0,
            warnings: Vec::new(),
        }
    }

    /// The exit code that it means.
    pub(crate) fn exit(&self) -> Exit {
        let own = match &self.verdict {
            Verdict::Failed { failure } => return failure.exit,
            Verdict::Done | Verdict::Held { .. } => Exit::Done,
            Verdict::Losses => Exit::Losses,
            // What looks wrong is as bad as what was not reached, until somebody has looked.
            Verdict::Suspicious { .. } => Exit::Missed,
        };
        let of_copy = |copy: &CopyOutcome| match (&copy.failure, &copy.thinned) {
            (Some(_), _) => Exit::Behind,
            // Somebody else is at work there; the next run makes up for it.
            (None, Some(Thinned { failure: Some(failure), .. })) if failure.exit == Exit::Locked => Exit::Done,
            (None, Some(Thinned { failure: Some(_), .. })) => Exit::Failed,
            (None, _) => Exit::Done,
        };
        match self.verdict {
            Verdict::Held { .. } => Exit::Done,
            _ => self.copies.iter().map(of_copy).fold(own, Exit::graver),
        }
    }

    /// For programs.
    pub(crate) fn document(&self) -> Value {
        let copy = |copy: &CopyOutcome| {
            json!({
                "repository": copy.repository,
                "place": copy.place,
                "snapshots": copy.snapshots,
                "proof": copy.proof,
                "bytes_new": copy.bytes_new,
                "bytes_stored": copy.bytes_stored,
                "failure": copy.failure.as_ref().map(|failure| failure.what.as_str()),
                "removed": copy.thinned.as_ref().map(|thinned| &thinned.removed),
                "kept": copy.thinned.as_ref().map(|thinned| thinned.kept),
                "frozen": copy.thinned.as_ref().is_some_and(|thinned| thinned.frozen),
                "bytes_freed": copy.thinned.as_ref().and_then(|thinned| thinned.freed),
                "retention_failure": copy.thinned.as_ref().and_then(|thinned| thinned.failure.as_ref()).map(|failure| &failure.what),
            })
        };
        json!({
            "event": "job",
            "job": self.job,
            "outcome": self.verdict.word(),
            "exit_code": self.exit() as u8,
            "why": self.verdict.why(),
            "slot": self.slot.map(|slot| slot.to_string()),
            "started": self.started.to_string(),
            "seconds": self.seconds,
            "attempts": self.attempts,
            "parts": self.parts.iter().map(Part::document).collect::<Vec<_>>(),
            "copies": self.copies.iter().map(copy).collect::<Vec<_>>(),
            "warnings": self.warnings,
        })
    }

    /// For people: a line for the job, and one for each repository.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}: {}", self.job, self.verdict.word());
        if let Some(why) = self.verdict.why() {
            text += &format!(": {why}");
        }
        if self.verdict.made_a_backup() {
            let done = self.parts.iter().filter_map(|part| part.ended.as_ref().ok());
            let bytes: u64 = done.clone().map(|outcome| outcome.summary.total_bytes_processed).sum();
            let files: u64 = done.map(|outcome| outcome.summary.total_files_processed).sum();
            text += &format!(
                " ({}, {}, {})",
                amounts::counted(files, "file"),
                amounts::size(bytes),
                amounts::span(self.seconds)
            );
        }
        text.push('\n');
        let mut table = Table::new(&["", "", ""]);
        for copy in &self.copies {
            if matches!(self.verdict, Verdict::Held { .. } | Verdict::Failed { .. }) && copy.snapshots.is_empty() {
                continue;
            }
            let has = match (&copy.failure, copy.snapshots.as_slice(), copy.proof) {
                (Some(failure), _, _) => format!("behind: {}", failure.what),
                (None, [], Some(_)) => "dry run: nothing was written".to_owned(),
                (None, [], None) => "-".to_owned(),
                (None, snapshots, proof) => {
                    let ids: Vec<_> = snapshots.iter().map(|id| format!("{id:.8}")).collect();
                    format!(
                        "snapshot {}{}",
                        ids.join(" "),
                        proof.map(|proof| format!(" ({proof})")).unwrap_or_default()
                    )
                }
            };
            table.row([
                format!("  {}", copy.repository),
                has,
                copy.thinned.as_ref().map(Thinned::text).unwrap_or_default(),
            ]);
        }
        for part in &self.parts {
            // Which of several it is about.
            let path = part.paths.first().filter(|_| self.parts.len() > 1);
            let path = path.map(|path| format!("{path}: ")).unwrap_or_default();
            for warning in part.warnings() {
                table.row(["  warning".to_owned(), format!("{path}{warning}"), String::new()]);
            }
        }
        text + &table.text()
    }
}

impl Part {
    /// What its source said of what it gave.
    fn warnings(&self) -> &[String] {
        self.ended.as_ref().map(|outcome| outcome.report.warnings.as_slice()).unwrap_or_default()
    }

    fn document(&self) -> Value {
        let done = self.ended.as_ref().ok();
        let summary = done.map(|outcome| &outcome.summary);
        let point = done.and_then(|outcome| outcome.report.recovery_point.as_ref());
        json!({
            "paths": self.paths,
            "failure": self.ended.as_ref().err().map(|failure| failure.what.as_str()),
            "files": summary.map(|summary| summary.total_files_processed),
            "bytes_total": summary.map(|summary| summary.total_bytes_processed),
            "bytes_read": self.bytes_read,
            "seconds": self.seconds,
            "read_again": self.is_read_again,
            "losses": done.map(|outcome| outcome.losses),
            "recovery_point": point.map(|point| point.time.to_string()),
            "suspicion": self.suspicion.as_ref().map(ToString::to_string),
            "warnings": self.warnings(),
        })
    }
}

impl Thinned {
    fn text(&self) -> String {
        let mut parts = Vec::new();
        if let Some(failure) = &self.failure {
            parts.push(format!("retention not done: {}", failure.what));
        } else if self.frozen {
            parts.push("nothing removed: a run looks wrong".to_owned());
        } else if !self.removed.is_empty() {
            parts.push(format!("{} removed", amounts::count(self.removed.len() as u64)));
        }
        if let Some(freed) = self.freed {
            parts.push(format!("pruned, {} freed", amounts::size(freed)));
        }
        parts.join(", ")
    }
}
