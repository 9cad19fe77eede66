//! What came of a drill.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::stages::{Stage, StageName, total};
use crate::contracts::{Check, CheckResult, Level, Newest, RecoveryPoint, SandboxFacts, SinkErrorKind};
use crate::pipeline::RestoreOutcome;
use crate::{Error, ErrorKind};

/// The check that the runbook's own command restores.
pub(super) const RUNBOOK_RESTORES: &str = "runbook's command restores";

/// How a drill ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The data came back and is what it was.
    Passed,
    /// It did not come back, or is not what it was.
    Failed {
        /// Why.
        reason: String,
    },
    /// It could not be found out. Never as good as passed.
    NotRun {
        /// Why.
        reason: String,
    },
}

impl Verdict {
    /// The word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed { .. } => "failed",
            Self::NotRun { .. } => "not_run",
        }
    }

    /// Why it is not `passed`.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Passed => None,
            Self::Failed { reason } | Self::NotRun { reason } => Some(reason),
        }
    }

    /// What a failure of the engine says of the backup: that it is damaged, or nothing.
    pub fn of_error(error: &Error) -> Self {
        let reason = with_causes(error);
        match error.kind() {
            // No room for the restored data says nothing of the backup.
            ErrorKind::Target(_) if is_disk_full(&reason) => Self::NotRun { reason: format!("disk: {reason}") },
            ErrorKind::Damaged(_)
            | ErrorKind::Missing
            | ErrorKind::Limit(_)
            | ErrorKind::UnknownVersion(_)
            | ErrorKind::Target(_)
            | ErrorKind::Sink(SinkErrorKind::NotFound | SinkErrorKind::Truncated) => Self::Failed { reason },
            ErrorKind::Sink(SinkErrorKind::Frozen) => Self::NotRun { reason: format!("thaw: {reason}") },
            _ => Self::NotRun { reason },
        }
    }
}

/// Whether somebody says that there is no room left, in the words of the system, of an engine, or of a target that looks
/// before it begins. Children have the C locale, so that the system's words are always these.
pub(super) fn is_disk_full(text: &str) -> bool {
    const WORDS: [&str; 5] = [
        "No space left on device",
        "os error 28",
        "Disk quota exceeded",
        "database or disk is full",
        "no space for it",
    ];
    WORDS.iter().any(|words| text.contains(words))
}

/// An error with its causes in one line.
fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

/// What came of a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillOutcome {
    /// How it ended.
    pub verdict: Verdict,
    /// The level that was reached; `None` when not even the first was.
    pub level: Option<Level>,
    /// Everything that was compared.
    pub checks: Vec<Check>,
    /// What took how long.
    pub stages: Vec<Stage>,
    /// The sandbox; `None` when it was never made.
    pub sandbox: Option<SandboxFacts>,
    /// What the snapshot takes in the store, in bytes, when that was found out.
    pub stored_bytes: Option<u64>,
    /// What was restored, when that came to its end.
    pub restored: Option<RestoreOutcome>,
    /// The state that the snapshot returns to, and where that is known from.
    pub recovery_point: Option<(RecoveryPoint, PointSource)>,
    /// The newest trace of a change that was found in the restored data.
    pub newest: Option<Newest>,
    /// The commands that restored it, as a runbook has them; none where this program did it by itself.
    pub commands: Vec<String>,
    /// What is unusual and no failure.
    pub warnings: Vec<String>,
    /// What was not looked at.
    pub not_tested: Vec<String>,
    /// What a person at the terminal may see and no record holds: answers that were not as they must be.
    pub told: Vec<String>,
}

/// Where a recovery point is known from, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PointSource {
    /// It was found in the restored data.
    RestoredData,
    /// The source said so when it was backed up.
    Manifest,
    /// It is when the backup began.
    SnapshotTime,
}

impl DrillOutcome {
    /// A drill whose snapshot could not even be looked at, so that no sandbox was made: damage is a check that failed.
    pub fn of_unreadable(error: &Error, stages: Vec<Stage>) -> Self {
        let verdict = Verdict::of_error(error);
        let checks = match &verdict {
            Verdict::Failed { reason } => {
                vec![Check::failed("snapshot can be looked at", Level::Read, reason.clone())]
            }
            _ => Vec::new(),
        };
        Self { checks, ..Self::ended_early(verdict, stages) }
    }

    /// A drill that did not come as far as its sandbox.
    pub fn ended_early(verdict: Verdict, stages: Vec<Stage>) -> Self {
        Self {
            verdict,
            level: None,
            checks: Vec::new(),
            stages,
            sandbox: None,
            stored_bytes: None,
            restored: None,
            recovery_point: None,
            newest: None,
            commands: Vec::new(),
            warnings: Vec::new(),
            not_tested: Vec::new(),
            told: Vec::new(),
        }
    }

    /// Whether the backup is proven by it.
    pub fn is_proven(&self) -> bool {
        self.verdict == Verdict::Passed && self.level >= Some(Level::PROVEN)
    }

    /// RTO_technical: from the beginning until the restored data answered, without what only drills do. `None` when
    /// it never did.
    pub fn technical(&self) -> Option<Duration> {
        self.has(StageName::Ready).then(|| total(&self.stages, StageName::is_technical))
    }

    /// RTO_verified: the same until it was compared.
    pub fn verified(&self) -> Option<Duration> {
        (self.has(StageName::Examine) && self.level >= Some(Level::Examined))
            .then(|| total(&self.stages, StageName::is_verified))
    }

    /// How long ago the state lies that the snapshot returns to.
    pub fn age(&self, now: Timestamp) -> Option<jiff::SignedDuration> {
        self.recovery_point.as_ref().map(|(point, _)| now.duration_since(point.time))
    }

    fn has(&self, name: StageName) -> bool {
        self.level >= Some(Level::Restored) && self.stages.iter().any(|stage| stage.name == name)
    }
}

/// The level below the first check that failed, of those where something passed.
pub(super) fn level_reached(checks: &[Check]) -> Option<Level> {
    let of = |result: CheckResult| checks.iter().filter(move |check| check.result == result).map(|check| check.level);
    let first_failed = of(CheckResult::Failed).min();
    of(CheckResult::Passed).filter(|level| first_failed.is_none_or(|failed| *level < failed)).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(of: &[(Level, CheckResult)]) -> Vec<Check> {
        of.iter().map(|(level, result)| Check { result: *result, ..Check::passed("x", *level) }).collect()
    }

    #[test]
    fn the_level_is_that_below_the_first_failure() {
        use CheckResult::{Failed, NotTested, Passed};
        use Level::{Asked, Examined, Present, Read, Restored};
        let reached = |of: &[(Level, CheckResult)]| level_reached(&checks(of));
        assert_eq!(reached(&[]), None);
        assert_eq!(reached(&[(Present, Failed)]), None);
        assert_eq!(reached(&[(Present, Passed), (Read, Failed)]), Some(Present));
        assert_eq!(reached(&[(Present, Passed), (Restored, Passed), (Examined, NotTested)]), Some(Restored));
        let one_wrong = [(Restored, Passed), (Examined, Passed), (Examined, Failed), (Asked, Passed)];
        assert_eq!(reached(&one_wrong), Some(Restored), "one table that differs is enough");
        assert_eq!(reached(&[(Restored, Passed), (Examined, Passed), (Asked, Failed)]), Some(Examined));
    }

    #[test]
    fn a_disk_that_is_full_says_nothing_of_the_backup() {
        let verdict = |what: &str| Verdict::of_error(&Error::new(ErrorKind::Target(what.to_owned()), "x"));
        for full in [
            "failed to write: No space left on device (os error 28)",
            "failed to load: could not extend file \"base/5/1\": No space left on device",
            "failed to write: database or disk is full",
            "failed to restore: no space for it: 10 bytes are to be restored, 3 are left",
        ] {
            let verdict = verdict(full);
            assert_eq!(verdict.word(), "not_run", "{full}");
            assert!(verdict.reason().is_some_and(|reason| reason.starts_with("disk: ")), "{verdict:?}");
        }
        assert_eq!(verdict("failed to load: relation does not exist").word(), "failed");
    }

    #[test]
    fn damage_is_a_failure_and_what_is_only_in_the_way_is_none() {
        let verdict = |kind| Verdict::of_error(&Error::new(kind, "x")).word();
        for kind in [
            ErrorKind::Damaged("y".to_owned()),
            ErrorKind::Missing,
            ErrorKind::Target("y".to_owned()),
            ErrorKind::Sink(SinkErrorKind::Truncated),
        ] {
            assert_eq!(verdict(kind.clone()), "failed", "{kind:?}");
        }
        for kind in [
            ErrorKind::WrongPassphrase,
            ErrorKind::NoRepository,
            ErrorKind::Locked("y".to_owned()),
            ErrorKind::Cancelled,
            ErrorKind::LockLost,
            ErrorKind::Sink(SinkErrorKind::Unavailable),
            ErrorKind::Sink(SinkErrorKind::PermissionDenied),
            ErrorKind::Sink(SinkErrorKind::Frozen),
        ] {
            assert_eq!(verdict(kind.clone()), "not_run", "{kind:?}");
        }
    }
}
