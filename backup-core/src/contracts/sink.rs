//! Where objects are kept: a local folder, a bucket, a server.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::{self, Debug};
use std::future;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::model::BlobKind;

/// What a sink's operations return.
pub type SinkFuture<'a, T> = BoxFuture<'a, Result<T, SinkError>>;

/// What a sink's listing returns.
pub type SinkStream<'a> = BoxStream<'a, Result<ObjectInfo, SinkError>>;

/// What is granted to a store of which nothing is known: restic's number.
pub const LISTING_LAG: Duration = Duration::from_millis(200);

/// A store of named, immutable objects. It knows nothing of packs or snapshots.
///
/// What every sink promises, and [`crate::testing`]'s suite checks:
///
/// * An object appears whole or not at all, under whatever name, however the writer ends.
/// * After [`Sink::put`] has returned, every reader sees the object. After [`Sink::sync`] has returned, every object
///   put before it survives a power failure; until then an object may be lost by one, but is never found damaged
///   unless it was put with [`PutMode::Bulk`].
/// * Deleting what is not there succeeds: a delete that was carried out but reported as failed can be repeated.
/// * Operations may run at the same time from any number of tasks.
///
/// Methods return boxed futures so that a sink can be chosen at run time. They are polled on a multi-thread tokio
/// runtime that the engine owns, with its I/O and time drivers on. A future that is dropped leaves the operation
/// either done or not done.
pub trait Sink: Send + Sync + Debug {
    /// Where it is, for people: a path or URL without secrets.
    fn location(&self) -> String;

    /// Stores an object. With [`PutMode::Create`] an existing object is left as it is and the operation fails with
    /// [`SinkErrorKind::AlreadyExists`].
    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()>;

    /// Reads an object, or the bytes of it that `range` names. A range that reaches beyond the end is an error of kind
    /// [`SinkErrorKind::Truncated`].
    fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes>;

    /// Tells an object's size.
    fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo>;

    /// Lists the objects whose key begins with `prefix` and a slash, at any depth, in no particular order; with the
    /// empty prefix, all. A prefix below which nothing lies gives an empty list. Unfinished objects are not listed.
    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a>;

    /// Deletes an object.
    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()>;

    /// Waits until all that was put or deleted before survives a power failure.
    fn sync(&self) -> SinkFuture<'_, ()>;

    /// How many puts and gets it is worth having under way at once: few for a folder, whose disk and processor are the
    /// bound, more for a server, whose answers are waited for. Each may cost its caller the memory of a pack.
    fn parallelism(&self) -> usize {
        2
    }

    /// How long a listing, made by anybody, may still be without an object that was put: zero where the store promises that
    /// none ever is. Who takes a lock waits for that time before it looks whether somebody else took one at the same moment
    /// (`docs/decisions/locks.md`).
    fn listing_lag(&self) -> Duration {
        LISTING_LAG
    }

    /// Told of an object of which parts will be read again and again: a layer that keeps copies brings one here, whole. A
    /// store itself has none to bring, and every part can be read whether this succeeded or not.
    fn bring_near<'a>(&'a self, _key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(future::ready(Ok(())))
    }
}

/// The name of an object: components of letters, digits, `-`, `_`, `.` and `:`, separated by slashes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Cow<'static, str>);

impl ObjectKey {
    /// The key that `text` spells.
    ///
    /// # Panics
    ///
    /// When `text` is not a key: keys are made by this crate from ids and fixed words, never from input.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        assert!(text.split('/').all(is_component), "not an object key: {text:?}");
        Self(text)
    }

    /// Whether `name` can be a component of a key: what a store finds under other names is not an object.
    pub fn is_component(name: &str) -> bool {
        is_component(name)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

fn is_component(component: &str) -> bool {
    !matches!(component, "" | "." | "..")
        && component.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a listing says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key; names that are no [`ObjectKey`] are foreign and are not listed.
    pub key: ObjectKey,
    /// Its size in bytes.
    pub bytes: u64,
}

/// What to do when the object is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Leave it and fail.
    Create,
    /// Replace it, whole or not at all.
    Overwrite,
    /// As [`PutMode::Overwrite`], for large objects that nothing refers to yet: until the next [`Sink::sync`] a power
    /// failure may leave one damaged under its name. This spares waiting for the disk at each of many.
    Bulk(Placement),
}

/// How soon a large object is likely to be read again. A store that knows only one kind of place pays no heed to it; one
/// that has a slower and cheaper kind may keep there what is [`Placement::Cold`], and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Placement {
    /// At every look at a snapshot: trees. It is always readable at once.
    Hot,
    /// When a file is restored or checked: content of files.
    Cold,
}

impl From<BlobKind> for Placement {
    fn from(kind: BlobKind) -> Self {
        match kind {
            BlobKind::Tree => Self::Hot,
            BlobKind::Data => Self::Cold,
        }
    }
}

/// A store's failure.
#[derive(Debug)]
pub struct SinkError {
    /// What sort of failure.
    pub kind: SinkErrorKind,
    /// The object or place, for people, with no secret in it.
    pub subject: String,
    /// What the store said.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
    /// How long the store asked to be left alone, where it said so (HTTP's `Retry-After`).
    pub retry_after: Option<Duration>,
    /// What to try next, where the store knows.
    pub hint: Option<Cow<'static, str>>,
}

/// What sort of failure a store reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SinkErrorKind {
    /// There is no such object.
    #[error("not found")]
    NotFound,
    /// There is one already.
    #[error("exists already")]
    AlreadyExists,
    /// The object is shorter than the range that was asked for.
    #[error("shorter than expected")]
    Truncated,
    /// The credentials or permissions do not allow it.
    #[error("permission denied")]
    PermissionDenied,
    /// The store takes no writes.
    #[error("read-only")]
    ReadOnly,
    /// No space or quota is left.
    #[error("no space left")]
    NoSpace,
    /// The store did not answer, or asked to come again later; a repetition may succeed. Whether a change that was
    /// asked for has been made is not known.
    #[error("not reachable for now")]
    Unavailable,
    /// The store has taken in something else than was sent, and said so by itself: what has the name now is not what was
    /// to be put, whatever its size. A repetition may succeed.
    #[error("something else arrived than was sent")]
    Garbled,
    /// The object is in a place that must be thawed before it can be read.
    #[error("frozen")]
    Frozen,
    /// The store keeps no objects of such a name or kind, and never will: a REST server of restic takes nothing below
    /// `ext/`.
    #[error("not supported by this store")]
    Unsupported,
    /// A stop was asked for before the store had answered anything.
    #[error("stopped on request")]
    Cancelled,
    /// Anything else.
    #[error("store failed")]
    Other,
}

impl SinkError {
    /// A failure of `kind` on `subject`.
    pub fn new(kind: SinkErrorKind, subject: impl Into<String>) -> Self {
        Self { kind, subject: subject.into(), source: None, retry_after: None, hint: None }
    }

    /// Adds what the store said.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds how long the store asked to be left alone.
    #[must_use]
    pub fn asking_for(mut self, retry_after: impl Into<Option<Duration>>) -> Self {
        self.retry_after = retry_after.into();
        self
    }

    /// Adds what to try next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.kind)
    }
}

impl StdError for SinkError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}
