//! What is known of a job, as plain data.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::contracts::Proof;
use crate::model::SnapshotId;
use crate::retention::GroupKey;

/// All that is known of a job: what the configuration says, and what was read from its repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFacts {
    /// Its name.
    pub job: String,
    /// Where the data itself stands: the first of three copies.
    pub home: Place,
    /// Its repositories, in the order of the configuration.
    pub copies: Vec<CopyFacts>,
    /// What makes it run.
    pub trigger: Trigger,
    /// What it is to keep to.
    pub objectives: Objectives,
    /// Whether it has to have a copy at another site.
    pub offsite: Offsite,
    /// The only repository that its drills restore from; each of its copies in turn where none is named.
    pub drilled_from: Option<String>,
    /// Its drills, oldest first.
    pub drills: Vec<Drill>,
}

impl JobFacts {
    /// When a drill last restored something from this copy, whichever of its snapshots, also one that is gone by now.
    /// `None` when none ever did, as far as the copy itself tells.
    pub fn restored_from(&self, repository: &str) -> Option<Timestamp> {
        let passed = |drill: &&Drill| drill.repository == repository && drill.verdict == DrillVerdict::Passed;
        let drills = self.drills.iter().filter(passed).map(|drill| drill.ended);
        let copy = self.copies.iter().find(|copy| copy.repository == repository);
        let backups = copy.into_iter().flat_map(|copy| &copy.history.backups).filter_map(|backup| backup.restored);
        drills.chain(backups).max()
    }

    /// How the drills of this copy stand: of the last one of each of its parts, the gravest. What one copy or one part
    /// shows says nothing of the others. `None` when there was no drill.
    pub fn drilled(&self, repository: &str) -> Option<&Drill> {
        let of_copy = || self.drills.iter().filter(|drill| drill.repository == repository);
        // Of what nobody knows any more which part it was of, the copy's next drill says more.
        let is_answered = |drill: &Drill, by: &Drill| by.part == drill.part || drill.part.is_none();
        let is_last = |(at, drill): &(usize, &Drill)| !of_copy().skip(at + 1).any(|later| is_answered(drill, later));
        of_copy().enumerate().filter(is_last).map(|(_, drill)| drill).max_by_key(|drill| drill.verdict.gravity())
    }
}

/// Where a copy stands. What is `None` is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// What kind of medium: `disk`, `object-storage`, `tape`. Any word; two that differ are two media.
    pub media: Option<String>,
    /// The place on earth, or the region.
    pub site: Option<String>,
    /// What fails together: a device, a host, an account at a provider.
    pub failure_domain: Option<String>,
}

/// What is known of a job's copy in one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyFacts {
    /// The repository's name in the configuration.
    pub repository: String,
    /// Where it stands.
    pub place: Place,
    /// Whether rules say how long snapshots stay in it.
    pub has_retention: bool,
    /// When the facts were read from the repository itself; `None` when they never were.
    pub read: Option<Timestamp>,
    /// Why it could not be read lately. What was read before is below, and when.
    pub unreachable: Option<String>,
    /// What was read; shared with who has read it, because of a thousand jobs it is what weighs most.
    pub history: Arc<History>,
}

impl CopyFacts {
    /// What was read, to be changed: a history of its own, when it is shared.
    pub fn history_mut(&mut self) -> &mut History {
        Arc::make_mut(&mut self.history)
    }
}

/// What a repository holds and records of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Its snapshots, oldest first.
    pub backups: Vec<Backup>,
    /// Its runs, oldest first, also those whose snapshots were forgotten and those that made none.
    pub runs: Vec<Run>,
}

impl History {
    /// Logical bytes of the newest backup of each part together: what a full restore writes. `None` where a part's are
    /// not known, or nothing is backed up.
    pub fn newest_bytes(&self) -> Option<u64> {
        let mut newest = BTreeMap::new();
        // Oldest first: the newest of each part stays.
        for backup in &self.backups {
            newest.insert(&backup.part, backup.size);
        }
        let sizes: Option<Vec<_>> = newest.into_values().map(|size| Some(size?.logical)).collect();
        sizes.filter(|sizes| !sizes.is_empty()).map(|sizes| sizes.iter().sum())
    }
}

/// One snapshot of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its id in this repository.
    pub snapshot: SnapshotId,
    /// Which part of the job it is of: a job that dumps two databases makes two snapshots, and both must be fresh.
    pub part: Arc<GroupKey>,
    /// To which instant a restore returns: what the source said, or when the backup began.
    pub recovery_point: Timestamp,
    /// When it was durable.
    pub durable: Timestamp,
    /// The highest step of proof that still holds.
    pub proof: Proof,
    /// When all of it was last read and hashed.
    pub verified: Option<Timestamp>,
    /// When a drill last restored it.
    pub restored: Option<Timestamp>,
    /// Until when nobody, whatever they may, can delete anything that it needs, as the store said of each object when it
    /// was asked (`backup protect`); `None` when nothing is known.
    pub immutable_until: Option<Timestamp>,
    /// Files and bytes, where the program that wrote it counted.
    pub size: Option<Amounts>,
}

/// What a snapshot holds and what it cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Files.
    pub files: u64,
    /// Bytes of the files: what a full restore writes.
    pub logical: u64,
    /// Bytes that were new to the repository, before compression.
    pub new: u64,
    /// Bytes that they take.
    pub stored: u64,
    /// Rows, documents or keys of a database; `None` where nobody counted any.
    pub rows: Option<u64>,
}

/// One run of a job, as its record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// When it ended.
    pub ended: Timestamp,
    /// How long it took, when that was recorded.
    pub took: Option<SignedDuration>,
    /// How it ended.
    pub outcome: Outcome,
    /// Which part of the job it backed up, when that is known.
    pub part: Option<Arc<GroupKey>>,
    /// The recovery point of what it made, when it made something.
    pub recovery_point: Option<Timestamp>,
    /// What it read and stored.
    pub size: Option<Amounts>,
    /// Why it failed, for people; no secret.
    pub why: Option<String>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// With a snapshot of everything.
    Done,
    /// With a snapshot, without some files that could not be read.
    Losses,
    /// With a snapshot that looks wrong: a fraction of what it was.
    Suspicious,
    /// Without a snapshot.
    Failed,
}

impl Outcome {
    /// Whether there is a snapshot.
    pub fn made_a_backup(self) -> bool {
        self != Self::Failed
    }
}

/// What makes a job run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Somebody does, or another scheduler of which nothing is known.
    ByHand,
    /// A schedule.
    Schedule {
        /// The longest time between two of its slots.
        longest_gap: SignedDuration,
    },
    /// A change of its files.
    OnChange {
        /// How often it runs although nothing was seen to change: watching loses events.
        scanned_every: Option<SignedDuration>,
    },
}

impl Trigger {
    /// The longest time that it lets pass between two runs, when there is one.
    pub fn longest_gap(self) -> Option<SignedDuration> {
        match self {
            Self::ByHand => None,
            Self::Schedule { longest_gap } => Some(longest_gap),
            Self::OnChange { scanned_every } => scanned_every,
        }
    }
}

/// What a job is to keep to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Objectives {
    /// How much may be lost at worst: from the newest recovery point to now.
    pub rpo: Option<SignedDuration>,
    /// How long a restore may take.
    pub rto: Option<SignedDuration>,
}

/// Whether a copy has to stand at another site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Offsite {
    /// It has to.
    #[default]
    Required,
    /// The configuration says that it need not, and why.
    Waived(String),
}

/// One drill of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drill {
    /// When it ended.
    pub ended: Timestamp,
    /// The repository that it restored from.
    pub repository: String,
    /// Which part of the job it restored, as long as its snapshot is there to tell.
    pub part: Option<Arc<GroupKey>>,
    /// How it ended.
    pub verdict: DrillVerdict,
    /// How long it took until the data could be used and was compared with what it was (RTO verified): what is held
    /// against the objective, here as in its evidence.
    pub took: Option<SignedDuration>,
}

/// How a drill ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrillVerdict {
    /// The data came back and was what it should be.
    Passed,
    /// It did not, and what was wrong.
    Failed(String),
    /// It could not be tried, and why: never as good as passed.
    NotRun(String),
}

impl DrillVerdict {
    fn gravity(&self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::NotRun(_) => 1,
            Self::Failed(_) => 2,
        }
    }
}

/// What "lately" means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standards {
    /// A copy counts when it was read back in full within this time.
    pub verified_within: SignedDuration,
    /// A job is drilled when a drill restored it within this time.
    pub drilled_within: SignedDuration,
    /// Facts are known when they were read from the repository within this time.
    pub facts_within: SignedDuration,
}

impl Default for Standards {
    /// 35 days, 35 days, one day (`docs/decisions/policy.md`).
    fn default() -> Self {
        let days = |days: i64| SignedDuration::from_hours(24 * days);
        Self { verified_within: days(35), drilled_within: days(35), facts_within: days(1) }
    }
}

/// Yes, no, or that it is not known, which is never as good as yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// No.
    No,
    /// What would tell is not there.
    Unknown,
    /// Yes.
    Yes,
}

impl Answer {
    /// What follows from the answers of the pessimist and of the optimist: what both say, otherwise that it is not
    /// known.
    pub(super) fn between(pessimist: bool, optimist: bool) -> Self {
        match (pessimist, optimist) {
            (true, _) => Self::Yes,
            (false, true) => Self::Unknown,
            (false, false) => Self::No,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::No => "no",
            Self::Unknown => "unknown",
            Self::Yes => "yes",
        })
    }
}

/// Something that is missing, and the shortest way to mend it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// For programs.
    pub kind: FindingKind,
    /// The repository that it is about, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// What is missing, for people.
    pub what: String,
    /// What to do.
    pub mend: String,
}

/// What a finding is about. The words are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A repository cannot be read.
    Unreachable,
    /// What is known of a repository is too old, or nothing is.
    FactsOld,
    /// A copy, or a part of the job in it, is not there.
    CopyEmpty,
    /// A copy lacks what another has.
    CopyBehind,
    /// A copy's newest snapshot was not seen complete.
    NotPresent,
    /// A copy was not read back lately.
    NotVerified,
    /// A copy fails together with the data, or with another copy.
    SameDomain,
    /// It is not said what a copy fails together with.
    DomainUnknown,
    /// There are fewer than three copies.
    CopiesFew,
    /// All copies are on one kind of medium.
    MediaOne,
    /// No copy stands at another site.
    OffsiteNone,
    /// It is not said where copies stand.
    SiteUnknown,
    /// It is not said what copies are on.
    MediaUnknown,
    /// More would be lost than may be.
    RpoMissed,
    /// There is no backup at all.
    NeverBackedUp,
    /// The last run failed.
    RunFailed,
    /// The last run looks wrong.
    RunSuspicious,
    /// The last run left out what it could not read.
    RunLosses,
    /// The last drill failed, or could not run.
    DrillFailed,
    /// No drill restored it lately.
    DrillOverdue,
    /// The last drill took longer than a restore may.
    RtoMissed,
    /// A schedule cannot keep to what may be lost.
    ScheduleTooRare,
}
