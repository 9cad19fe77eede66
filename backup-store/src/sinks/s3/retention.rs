//! Until when objects cannot be removed, read back one by one, and prolonged.
//!
//! Object lock counts from each upload. What a snapshot of today needs may have been uploaded long ago, so its time runs
//! out while it is needed: whoever owns the bucket prolongs it now and then. A time is only ever moved to a later one,
//! so a crash, or a second run beside the first, leaves some prolonged and some not, and the next run does the rest.

use backup_core::Result;
use backup_core::contracts::{ObjectKey, SinkError, SinkErrorKind};
use backup_core::model::Id;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use sha2::{Digest as _, Sha256};

use super::Reach;
use super::requests::{Ask, Requests, encoded, sha256_of};
use crate::access::Access;
use crate::bucket::Bucket;
use crate::layers::Patience;
use crate::sinks::object::Action;

/// How many objects are asked about at once.
const OBJECTS_MAX: usize = 16;

/// The mode in which nobody can remove an object, whatever they may.
pub const COMPLIANCE: &str = "COMPLIANCE";

/// The object lock of a bucket's objects.
pub struct S3Retention(Requests);

/// Until when an object cannot be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The instant.
    pub until: Timestamp,
    /// `COMPLIANCE`: by nobody; `GOVERNANCE`: but by who may pass over it.
    pub mode: String,
}

/// Whether times are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prolong {
    /// Yes, where they end too early.
    Now,
    /// No: it is only looked.
    DryRun,
}

/// What was found, and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionReport {
    /// Objects that were protected for long enough.
    pub enough: u64,
    /// Objects whose time was moved, and read back as it should be.
    pub prolonged: u64,
    /// Objects that are not protected for long enough.
    pub short: Vec<Short>,
    /// Of those that are, how many the store keeps no SHA-256 of: whether they are still what they were is not known.
    pub uncompared: u64,
    /// What protects the others at least: the earliest of their times, and `COMPLIANCE` where all of them have that.
    pub least: Option<Retention>,
}

/// An object that is not protected for long enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Short {
    /// The object.
    pub key: ObjectKey,
    /// What protects what has its name.
    pub retention: Option<Retention>,
    /// Why that is not enough.
    pub why: ShortReason,
}

/// Why an object is not protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortReason {
    /// Its time ends too early: with [`Prolong::DryRun`] it would be moved, otherwise the store said that it was, and says
    /// something else when it is asked.
    TooEarly,
    /// Something else was written over it: its size or its hash is another one.
    Replaced,
    /// It was deleted.
    Missing,
}

/// An object that is to be protected, and how it is known for what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name; where the last part is a SHA-256, it is that of its content.
    pub key: ObjectKey,
    /// Its size, where that is known from elsewhere than from the store.
    pub bytes: Option<u64>,
}

impl RetentionReport {
    /// Takes what protects one more object, or what protects others at least.
    pub fn see(&mut self, found: Retention) {
        self.least = Some(match self.least.take() {
            None => found,
            Some(least) => {
                let mode = if least.mode == COMPLIANCE { found.mode } else { least.mode };
                Retention { until: least.until.min(found.until), mode }
            }
        });
    }
}

impl S3Retention {
    /// Opens the bucket. Asks the store nothing yet.
    ///
    /// # Errors
    ///
    /// [`backup_core::ErrorKind::Invalid`] for settings or credentials that cannot be used.
    pub fn open(bucket: &Bucket, access: &Access, patience: Patience) -> Result<Self> {
        Ok(Self(Requests::new(Reach::of(bucket, access)?, bucket.clone()).with_patience(patience)))
    }

    /// Until when an object cannot be removed; `None` when it can be.
    ///
    /// # Errors
    ///
    /// What the store says; credentials that may not read retentions see none.
    pub async fn of(&self, key: &ObjectKey) -> Result<Option<Retention>, SinkError> {
        Ok(self.look(key).await?.retention)
    }

    async fn look(&self, key: &ObjectKey) -> Result<Seen, SinkError> {
        let path = self.0.path(key.as_str());
        let headers = [("x-amz-checksum-mode", String::from("ENABLED"))];
        let ask = Ask {
            method: Method::HEAD,
            path: &path,
            query: "",
            headers: &headers,
            body: String::new(),
            action: Action::Read,
        };
        let (headers, _) = self.0.send(ask).await?;
        let header = |name: &str| headers.get(name)?.to_str().ok();
        let retention = match header("x-amz-object-lock-retain-until-date") {
            None => None,
            Some(until) => {
                let until = until.parse();
                let until = until.map_err(|_| self.0.not_understood("the time until which an object is kept"))?;
                Some(Retention { until, mode: header("x-amz-object-lock-mode").unwrap_or_default().to_owned() })
            }
        };
        Ok(Seen {
            retention,
            bytes: header("content-length").and_then(|length| length.parse().ok()),
            sha256: sha256_of(&headers),
            version: header("x-amz-version-id").map(str::to_owned),
        })
    }

    /// Sees to it that none of `objects` can be removed before `until`, rounded up to the second, which is what stores keep.
    /// An object's mode stays as it is; one that has none
    /// gets `GOVERNANCE`, because the other cannot be undone by anybody. What was written over one of them is not protected
    /// in its place.
    ///
    /// # Errors
    ///
    /// The first that occurs, [`SinkErrorKind::Unsupported`] when the bucket has no object lock. What was prolonged
    /// before stays so.
    pub async fn ensure(
        &self,
        objects: &[Wanted],
        until: Timestamp,
        prolong: Prolong,
    ) -> Result<RetentionReport, SinkError> {
        self.require_object_lock().await?;
        let until = until.round(TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil));
        let until = until.map_err(|_| self.0.not_understood("the time"))?;
        // Boxed, because the compiler cannot tell that the plain ones may move between threads.
        let each: Vec<_> = objects.iter().map(|object| self.ensure_one(object, until, prolong).boxed()).collect();
        let report = RetentionReport::default();
        stream::iter(each)
            .buffered(OBJECTS_MAX)
            .try_fold(report, |mut report, ended| async move {
                match ended {
                    Ended::Enough(found, content) => {
                        report.enough += 1;
                        report.uncompared += u64::from(content == Content::Unknown);
                        report.see(found);
                    }
                    Ended::Prolonged(found, content) => {
                        report.prolonged += 1;
                        report.uncompared += u64::from(content == Content::Unknown);
                        report.see(found);
                    }
                    Ended::Short(short) => report.short.push(short),
                }
                Ok(report)
            })
            .await
    }

    async fn ensure_one(&self, object: &Wanted, until: Timestamp, prolong: Prolong) -> Result<Ended, SinkError> {
        let short = |retention, why| Ok(Ended::Short(Short { key: object.key.clone(), retention, why }));
        let found = match self.look(&object.key).await {
            Err(error) if error.kind == SinkErrorKind::NotFound && error.hint.is_none() => {
                return short(None, ShortReason::Missing);
            }
            found => found?,
        };
        let content = found.content(object);
        match found.retention {
            found if content == Content::Another => return short(found, ShortReason::Replaced),
            Some(found) if found.until >= until => return Ok(Ended::Enough(found, content)),
            found if prolong == Prolong::DryRun => return short(found, ShortReason::TooEarly),
            _ => {}
        }
        let mode = found.retention.map_or_else(|| String::from("GOVERNANCE"), |found| found.mode);
        let body = format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>");
        // What was looked at, and not what may have been written over it since.
        let version = found.version.as_deref().map(|version| format!("&versionId={}", encoded(version, "")));
        self.prolong(&object.key, &format!("retention{}", version.unwrap_or_default()), body).await?;
        let then = self.look(&object.key).await?;
        if then.version != found.version || then.content(object) == Content::Another {
            return short(then.retention, ShortReason::Replaced);
        }
        match then.retention {
            Some(found) if found.until >= until => Ok(Ended::Prolonged(found, content)),
            found => short(found, ShortReason::TooEarly),
        }
    }

    async fn require_object_lock(&self) -> Result<(), SinkError> {
        let bucket = Ask {
            method: Method::GET,
            path: "",
            query: "object-lock",
            headers: &[],
            body: String::new(),
            action: Action::Read,
        };
        match self.0.send(bucket).await {
            Ok(_) => Ok(()),
            Err(error)
                if matches!(error.kind, SinkErrorKind::NotFound | SinkErrorKind::Other) && error.hint.is_none() =>
            {
                Err(SinkError::new(SinkErrorKind::Unsupported, self.0.bucket().short())
                    .caused_by("the bucket has no object lock")
                    .with_hint("object lock is switched on when a bucket is made, or by its owner"))
            }
            Err(error) => Err(error),
        }
    }

    async fn prolong(&self, key: &ObjectKey, query: &str, body: String) -> Result<(), SinkError> {
        // A change of this kind is refused without a checksum.
        let headers = [("x-amz-checksum-sha256", STANDARD.encode(Sha256::digest(&body)))];
        let path = self.0.path(key.as_str());
        let ask = Ask { method: Method::PUT, path: &path, query, headers: &headers, body, action: Action::Write };
        self.0.send(ask).await.map(drop)
    }
}

/// How it ended with one object.
enum Ended {
    Enough(Retention, Content),
    Prolonged(Retention, Content),
    Short(Short),
}

/// What the store says of an object.
struct Seen {
    retention: Option<Retention>,
    bytes: Option<u64>,
    sha256: Option<String>,
    version: Option<String>,
}

/// Whether what has an object's name is that object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Same,
    Another,
    Unknown,
}

impl Seen {
    fn content(&self, object: &Wanted) -> Content {
        if object.bytes.is_some() && self.bytes.is_some() && self.bytes != object.bytes {
            return Content::Another;
        }
        match (object.key.name().parse::<Id>(), &self.sha256) {
            // Known by being used: the config, which is the only one without a hash for its name.
            (Err(_), _) => Content::Same,
            (Ok(_), None) => Content::Unknown,
            (Ok(id), Some(sum)) if STANDARD.encode(id.as_bytes()) == *sum => Content::Same,
            _ => Content::Another,
        }
    }
}

impl std::fmt::Debug for S3Retention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "S3Retention({})", self.0.bucket())
    }
}
