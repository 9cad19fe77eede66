//! What a verb of this crate fails with: a kind to act on, the subject it happened to, and the cause.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::contracts::{SinkError, SinkErrorKind};

/// The result of every verb.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure. [`Error::kind`] is for programs, the `Display` text for people. The text does not repeat
/// the cause: a printer follows [`std::error::Error::source`].
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    subject: String,
    hint: Option<Cow<'static, str>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What sort of failure it is. The binary maps kinds to exit codes; see `docs/manual/exit-codes.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no repository at that place.
    NoRepository,
    /// There is a repository already where one was to be created, or something else is in the way.
    AlreadyThere,
    /// No key of the repository opens with this passphrase.
    WrongPassphrase,
    /// Somebody else's lock forbids it; the text says whose and since when.
    Locked(String),
    /// The repository's version is one that this program does not know.
    UnknownVersion(u64),
    /// An object of the repository is not what its name or its seal says it must be.
    Damaged(String),
    /// An object that something refers to is not there.
    Missing,
    /// What was looked for (a snapshot, a path in it) does not exist, or more than one thing matches.
    NotFound(String),
    /// The caller asked for something that cannot be: the text says what and why.
    Invalid(String),
    /// A bound of [`crate::limits`] was reached.
    Limit(&'static str),
    /// The store failed.
    Sink(SinkErrorKind),
    /// The source failed as a whole; a single file that cannot be read is an event instead.
    Source(String),
    /// The target failed as a whole.
    Target(String),
    /// A stop was asked for.
    Cancelled,
    /// The lock was lost while it was needed (the machine slept, or the store was away too long).
    LockLost,
    /// A promise of this crate to itself was broken: a bug, or memory that does not hold what was put in it.
    Broken(&'static str),
}

impl Error {
    /// A failure of `kind` that happened to `subject` (an object, a path, a repository's place).
    pub fn new(kind: ErrorKind, subject: impl Into<String>) -> Self {
        Self { kind, subject: subject.into(), hint: None, source: None }
    }

    /// Something in the repository that is not what it must be.
    pub fn damaged(subject: impl fmt::Display, what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Damaged(what.into()), subject.to_string())
    }

    /// What reading `subject` out of a repository as a stream failed with: the failure of this crate that such a stream
    /// carries inside, with its kind (a store that does not answer is no damage); anything else is damage.
    pub fn of_read(subject: impl fmt::Display, error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(inner) => inner,
            Err(error) => Self::damaged(subject, "it cannot be read").caused_by(error),
        }
    }

    /// Something that the caller asked for and that cannot be.
    pub fn invalid(subject: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid(why.into()), subject)
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds what the reader should try next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// That there is no repository at `place`, for the same reason: not even a bucket, perhaps.
    pub(crate) fn into_no_repository(self, place: String) -> Self {
        Self { kind: ErrorKind::NoRepository, subject: place, ..self }
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// What it happened to.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What to try next, where something is known to help.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref().or(match &self.kind {
            ErrorKind::NoRepository => Some("check the place, or create one with `init`"),
            ErrorKind::WrongPassphrase => {
                Some("check which passphrase belongs to this repository; nothing was changed")
            }
            ErrorKind::Locked(_) => {
                Some("wait for the other process; if it is gone for good, `unlock` removes its lock")
            }
            ErrorKind::Damaged(_) | ErrorKind::Missing => {
                Some("run `check` to see what else is affected, then `repair`; nothing was changed")
            }
            ErrorKind::UnknownVersion(_) => Some("a newer version of this program may know it"),
            ErrorKind::LockLost => Some("run it again: what it had listed by then is kept and not sent twice"),
            ErrorKind::Sink(SinkErrorKind::NoSpace) => {
                Some("free some space and run it again: what was written is kept and continued from")
            }
            ErrorKind::Sink(SinkErrorKind::Frozen) => {
                Some("`restore --thaw --dry-run` names all of them, `--thaw` asks for them and waits (S3); elsewhere thaw them there")
            }
            _ => None,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = &self.subject;
        match &self.kind {
            ErrorKind::NoRepository => write!(f, "no repository at {subject}"),
            ErrorKind::AlreadyThere => write!(f, "{subject} already holds something"),
            ErrorKind::WrongPassphrase => write!(f, "the passphrase opens no key of {subject}"),
            ErrorKind::Locked(by) => write!(f, "{subject} is locked by {by}"),
            ErrorKind::UnknownVersion(version) => write!(f, "{subject} has the unknown format version {version}"),
            ErrorKind::Damaged(what) => write!(f, "{subject} is damaged: {what}"),
            ErrorKind::Missing => write!(f, "{subject} is missing"),
            ErrorKind::NotFound(what) => write!(f, "{subject}: {what}"),
            ErrorKind::Invalid(why) => write!(f, "{subject}: {why}"),
            ErrorKind::Limit(what) => write!(f, "{subject} is over the limit on {what}"),
            ErrorKind::Sink(kind) => write!(f, "{subject}: {kind}"),
            ErrorKind::Source(what) | ErrorKind::Target(what) => write!(f, "{subject}: {what}"),
            ErrorKind::Cancelled => write!(f, "stopped on request"),
            ErrorKind::LockLost => write!(f, "the lock on {subject} could not be kept"),
            ErrorKind::Broken(what) => write!(f, "{subject}: internal check failed: {what}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}

impl From<SinkError> for Error {
    fn from(error: SinkError) -> Self {
        let kind = match error.kind {
            SinkErrorKind::NotFound => ErrorKind::Missing,
            SinkErrorKind::Cancelled => ErrorKind::Cancelled,
            kind => ErrorKind::Sink(kind),
        };
        Self { kind, subject: error.subject, hint: error.hint, source: error.source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_out_of_a_repository_fails_with_what_the_store_said_and_not_as_damage() {
        let frozen = Error::new(ErrorKind::Sink(SinkErrorKind::Frozen), "data/ab");
        let read = Error::of_read("manifest.json", io::Error::other(frozen));
        assert_eq!((read.kind(), read.subject()), (&ErrorKind::Sink(SinkErrorKind::Frozen), "data/ab"));
        let other = Error::of_read("manifest.json", io::ErrorKind::UnexpectedEof.into());
        assert_eq!(other.kind(), &ErrorKind::Damaged("it cannot be read".to_owned()));
    }
}
