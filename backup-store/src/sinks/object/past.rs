//! What a bucket still has of the past, and how it comes back: what is the same for every provider.
//!
//! Nothing is removed: what comes back becomes the newest version, and what was written since stays where the bucket
//! keeps such things. A crash leaves some objects back and some not; the next run does the rest, since what is back is
//! known for what it is. The providers' own part, which is [`Past`], is `versions.rs` beside each of them.

use async_trait::async_trait;
use backup_core::contracts::{ObjectKey, SinkError, SinkErrorKind};
use backup_core::repository::layout::LOCKS;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;

/// How many objects are brought back, or asked about, at once.
pub(crate) const OBJECTS_MAX: usize = 16;

/// What a bucket still has of its objects' past.
pub struct Versions(Box<dyn Past>);

/// An object that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The object.
    pub key: ObjectKey,
    /// The size it had.
    pub bytes: u64,
    /// What has happened to it since.
    pub kind: LostKind,
    /// What the store calls what it was; empty where it is only restored.
    pub(crate) version: String,
    /// The class that it lay in.
    pub(crate) storage_class: String,
    /// How the store gives it back.
    pub(crate) way: Way,
}

/// What has happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostKind {
    /// It was deleted.
    Deleted,
    /// Something else was written over it.
    Replaced,
}

/// How a store gives an object back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// An older version is copied.
    Copy,
    /// What has to be restored, because nobody may read it meanwhile.
    #[cfg_attr(not(any(feature = "gcs", feature = "azure")), expect(dead_code, reason = "S3 has no such"))]
    Restore,
}

/// What each provider does by itself.
#[async_trait]
pub(crate) trait Past: Send + Sync {
    /// The objects that were there at the instant and since were deleted or replaced.
    async fn lost_since(&self, at: Timestamp) -> Result<Vec<Lost>, SinkError>;

    /// Makes what an object was the newest again. Doing it twice does no harm.
    async fn bring_back(&self, lost: &Lost) -> Result<(), SinkError>;
}

impl Versions {
    pub(crate) fn new(past: impl Past + 'static) -> Self {
        Self(Box::new(past))
    }

    /// The objects that were there at the instant `at`, and since were deleted or replaced. Locks are left out: nobody
    /// holds those of the past. Times are the store's own.
    ///
    /// # Errors
    ///
    /// [`SinkErrorKind::Unsupported`] when the bucket keeps nothing of the past.
    pub async fn lost_since(&self, at: Timestamp) -> Result<Vec<Lost>, SinkError> {
        self.0.lost_since(at).await
    }

    /// Brings objects back.
    ///
    /// # Errors
    ///
    /// The first that occurs; what came back before stays.
    pub async fn bring_back(&self, lost: &[Lost]) -> Result<(), SinkError> {
        // Collected, because the compiler cannot tell that what makes them may move between threads.
        let each: Vec<_> = lost.iter().map(|lost| self.0.bring_back(lost)).collect();
        stream::iter(each).buffer_unordered(OBJECTS_MAX).try_collect().await
    }
}

impl std::fmt::Debug for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Versions(…)")
    }
}

/// The object of a repository below `prefix` that has this name in the bucket, if it is one that may come back.
pub(crate) fn key_of(prefix: &str, name: &str) -> Option<ObjectKey> {
    let key = name.strip_prefix(prefix)?;
    let is_lock = key.strip_prefix(LOCKS).is_some_and(|rest| rest.starts_with('/'));
    let is_ours = !is_lock && key.split('/').all(ObjectKey::is_component);
    is_ours.then(|| ObjectKey::new(key.to_owned()))
}

/// The text of the first element of this name in an answer in XML.
#[cfg(any(feature = "s3", feature = "azure"))]
pub(crate) fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once("</")?;
    (!inner.is_empty()).then_some(inner)
}

/// The error of a bucket (`subject`) that keeps nothing of the past.
pub(crate) fn keeps_nothing(subject: String, why: &str, way_out: &str) -> SinkError {
    SinkError::new(SinkErrorKind::Unsupported, subject).caused_by(why.to_owned()).with_hint(way_out.to_owned())
}
