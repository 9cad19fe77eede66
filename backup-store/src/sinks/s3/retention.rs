//! Until when objects cannot be removed, read back one by one, and prolonged.
//!
//! Object lock counts from each upload. What a snapshot of today needs may have been uploaded long ago, so its time runs
//! out while it is needed: whoever owns the bucket prolongs it now and then. A time is only ever moved to a later one,
//! so a crash, or a second run beside the first, leaves some prolonged and some not, and the next run does the rest.

use backup_core::Result;
use backup_core::contracts::{ObjectKey, SinkError, SinkErrorKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use sha2::{Digest as _, Sha256};

use super::Reach;
use super::requests::{Ask, Requests};
use crate::access::Access;
use crate::bucket::Bucket;
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
    /// Objects that are not protected for long enough: with [`Prolong::DryRun`] those that would be prolonged, otherwise
    /// those of which the store said that it was done, and says something else when it is asked.
    pub short: Vec<(ObjectKey, Option<Retention>)>,
    /// What protects the others at least: the earliest of their times, and `COMPLIANCE` where all of them have that.
    pub least: Option<Retention>,
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
    pub fn open(bucket: &Bucket, access: &Access) -> Result<Self> {
        Ok(Self(Requests::new(Reach::of(bucket, access)?, bucket.clone())))
    }

    /// Until when an object cannot be removed; `None` when it can be.
    ///
    /// # Errors
    ///
    /// What the store says; credentials that may not read retentions see none.
    pub async fn of(&self, key: &ObjectKey) -> Result<Option<Retention>, SinkError> {
        let (headers, _) = self.send(Method::HEAD, key, "", String::new(), Action::Read).await?;
        let header = |name: &str| headers.get(name)?.to_str().ok();
        let Some(until) = header("x-amz-object-lock-retain-until-date") else { return Ok(None) };
        let until = until.parse().map_err(|_| self.0.not_understood("the time until which an object is kept"))?;
        let mode = header("x-amz-object-lock-mode").unwrap_or_default().to_owned();
        Ok(Some(Retention { until, mode }))
    }

    /// Sees to it that none of `keys` can be removed before `until`, rounded up to the second, which is what stores keep.
    /// An object's mode stays as it is; one that has none
    /// gets `GOVERNANCE`, because the other cannot be undone by anybody.
    ///
    /// # Errors
    ///
    /// The first that occurs, [`SinkErrorKind::Unsupported`] when the bucket has no object lock. What was prolonged
    /// before stays so.
    pub async fn ensure(
        &self,
        keys: &[ObjectKey],
        until: Timestamp,
        prolong: Prolong,
    ) -> Result<RetentionReport, SinkError> {
        self.require_object_lock().await?;
        let until = until.round(TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil));
        let until = until.map_err(|_| self.0.not_understood("the time"))?;
        // Boxed, because the compiler cannot tell that the plain ones may move between threads.
        let each: Vec<_> = keys.iter().map(|key| self.ensure_one(key, until, prolong).boxed()).collect();
        let report = RetentionReport::default();
        stream::iter(each)
            .buffered(OBJECTS_MAX)
            .try_fold(report, |mut report, (key, ended)| async move {
                match ended {
                    Ended::Enough(found) => {
                        report.enough += 1;
                        report.see(found);
                    }
                    Ended::Prolonged(found) => {
                        report.prolonged += 1;
                        report.see(found);
                    }
                    Ended::Short(found) => report.short.push((key, found)),
                }
                Ok(report)
            })
            .await
    }

    async fn ensure_one(
        &self,
        key: &ObjectKey,
        until: Timestamp,
        prolong: Prolong,
    ) -> Result<(ObjectKey, Ended), SinkError> {
        let found = match self.of(key).await? {
            Some(found) if found.until >= until => return Ok((key.clone(), Ended::Enough(found))),
            found => found,
        };
        if prolong == Prolong::DryRun {
            return Ok((key.clone(), Ended::Short(found)));
        }
        let mode = found.map_or_else(|| String::from("GOVERNANCE"), |found| found.mode);
        let body = format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>");
        self.send(Method::PUT, key, "retention", body, Action::Write).await?;
        let ended = match self.of(key).await? {
            Some(found) if found.until >= until => Ended::Prolonged(found),
            found => Ended::Short(found),
        };
        Ok((key.clone(), ended))
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

    async fn send(
        &self,
        method: Method,
        key: &ObjectKey,
        query: &str,
        body: String,
        action: Action,
    ) -> Result<(http::HeaderMap, String), SinkError> {
        // A change of this kind is refused without a checksum.
        let checksum = STANDARD.encode(Sha256::digest(&body));
        let headers = [("x-amz-checksum-sha256", checksum)];
        let headers = if body.is_empty() { &[][..] } else { &headers[..] };
        let path = self.0.path(key.as_str());
        self.0.send(Ask { method, path: &path, query, headers, body, action }).await
    }
}

/// How it ended with one object.
enum Ended {
    Enough(Retention),
    Prolonged(Retention),
    Short(Option<Retention>),
}

impl std::fmt::Debug for S3Retention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "S3Retention({})", self.0.bucket())
    }
}
