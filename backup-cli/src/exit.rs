//! How the program ends: the exit codes that scripts rely on, and failures as people read them.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use backup_core::contracts::{SourceError, TargetError};
use backup_core::drill::Verdict;
use backup_core::{Error, ErrorKind};

/// The subject of failures to print.
const OUTPUT: &str = "standard output";

/// How the program ends; `docs/manual/exit-codes.md` explains each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// The command line or the environment cannot be what was meant.
    Usage = 2,
    /// Done, but some data could not be read or written.
    Losses = 3,
    /// An objective is missed; a drill failed or could not run.
    Missed = 4,
    /// Done, but a copy is missing or behind.
    Behind = 5,
    /// There is no repository.
    NoRepository = 10,
    /// Somebody else's lock forbids it.
    Locked = 11,
    /// The passphrase is wrong.
    WrongPassphrase = 12,
    /// Stopped on request.
    Interrupted = 130,
}

impl Exit {
    /// The exit code that a failure of the library ends with.
    pub(crate) fn of(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::NoRepository => Self::NoRepository,
            ErrorKind::Locked(_) => Self::Locked,
            ErrorKind::WrongPassphrase => Self::WrongPassphrase,
            ErrorKind::Cancelled => Self::Interrupted,
            ErrorKind::Invalid(_) => Self::Usage,
            _ => Self::Failed,
        }
    }

    /// The graver of two: a failure before a copy that is behind, that before an objective that is missed, that before
    /// what could not be read.
    pub(crate) fn graver(self, other: Self) -> Self {
        let gravity = |exit| match exit {
            Self::Done => 0,
            Self::Losses => 1,
            Self::Missed => 2,
            Self::Behind => 3,
            _ => 4,
        };
        if gravity(other) > gravity(self) { other } else { self }
    }

    /// [`Exit::Losses`] when something was lost.
    pub(crate) fn with_losses(losses: u64) -> Self {
        if losses == 0 { Self::Done } else { Self::Losses }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ends early: the two lines that people see, and the exit code.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What failed, with its causes.
    pub(crate) what: String,
    /// What to try.
    pub(crate) hint: Option<String>,
    /// Whether whoever reads our output has gone away, which is nobody's failure.
    pub(crate) is_unheard: bool,
    /// Whether it says that the repository is damaged, and not that something stood in the way.
    pub(crate) is_damage: bool,
}

impl Failure {
    /// A failure to do `what`.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, what: what.into(), hint: None, is_unheard: false, is_damage: false }
    }

    /// A command line that cannot be what was meant.
    pub(crate) fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::new(what) }.with_hint(hint)
    }

    /// A failure to do `what` for `cause`.
    pub(crate) fn because(what: impl Into<String>, cause: &dyn StdError) -> Self {
        let mut what = what.into();
        push_chain(&mut what, Some(cause));
        Self::new(what)
    }

    /// The same as an error of the library, for the way out of a walk, which knows no others.
    pub(crate) fn into_error(self) -> Error {
        let cause = if self.is_unheard { io::ErrorKind::BrokenPipe } else { io::ErrorKind::Other };
        Error::new(ErrorKind::Target(self.what), OUTPUT).caused_by(io::Error::from(cause))
    }

    /// Adds what to try.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Appends an error and its causes, each once: a cause whose words its effect has said already is left out.
fn push_chain(text: &mut String, mut cause: Option<&dyn StdError>) {
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{}{words}", if text.is_empty() { "" } else { ": " });
        }
        cause = error.source();
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut what = String::new();
        push_chain(&mut what, Some(&error));
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        let is_unheard =
            error.subject() == OUTPUT && cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe);
        let is_damage = matches!(Verdict::of_error(&error), Verdict::Failed { .. });
        Self { exit: Exit::of(error.kind()), what, hint: error.hint().map(str::to_owned), is_unheard, is_damage }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let hint = error.vanished.then(|| "check the path; no snapshot was made".to_owned());
        Self { hint: error.hint.clone().or(hint), ..Self::new(error.to_string()) }
    }
}

impl From<TargetError> for Failure {
    fn from(error: TargetError) -> Self {
        Self { hint: error.hint.clone(), ..Self::new(error.to_string()) }
    }
}

/// Writing to standard output failed: the only bare I/O that commands do.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let is_unheard = error.kind() == io::ErrorKind::BrokenPipe;
        Self { is_unheard, ..Self::because(OUTPUT, &error) }
    }
}

#[cfg(test)]
mod tests {
    use backup_core::contracts::SinkErrorKind;

    use super::*;

    #[test]
    fn every_kind_of_failure_has_its_exit_code() {
        let text = || String::from("x");
        for (kind, code) in [
            (ErrorKind::NoRepository, 10),
            (ErrorKind::AlreadyThere, 1),
            (ErrorKind::WrongPassphrase, 12),
            (ErrorKind::Locked(text()), 11),
            (ErrorKind::UnknownVersion(3), 1),
            (ErrorKind::Damaged(text()), 1),
            (ErrorKind::Missing, 1),
            (ErrorKind::NotFound(text()), 1),
            (ErrorKind::Invalid(text()), 2),
            (ErrorKind::Limit("x"), 1),
            (ErrorKind::Sink(SinkErrorKind::NoSpace), 1),
            (ErrorKind::Source(text()), 1),
            (ErrorKind::Target(text()), 1),
            (ErrorKind::Cancelled, 130),
            (ErrorKind::LockLost, 1),
            (ErrorKind::Broken("x"), 1),
        ] {
            assert_eq!(Exit::of(&kind) as u8, code, "{kind:?}");
        }
        assert_eq!(Exit::with_losses(0) as u8, 0);
        assert_eq!(Exit::with_losses(1) as u8, 3);
    }

    #[test]
    fn causes_are_told_once_and_in_order() {
        let error = Error::new(ErrorKind::Sink(SinkErrorKind::NoSpace), "data/00")
            .caused_by(io::Error::other("disk quota exceeded"));
        let failure = Failure::from(error);
        assert_eq!(failure.what, "data/00: no space left: disk quota exceeded");
        assert!(failure.hint.is_some_and(|hint| hint.contains("free some space")));
        let error = Error::invalid("x", "no such thing").caused_by("no such thing");
        assert_eq!(Failure::from(error).what, "x: no such thing");
    }

    #[test]
    fn a_reader_that_has_gone_away_is_no_failure() {
        assert!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).is_unheard);
        assert!(!Failure::from(io::Error::from(io::ErrorKind::StorageFull)).is_unheard);
        let carried = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).into_error();
        assert!(Failure::from(carried).is_unheard);
    }
}
