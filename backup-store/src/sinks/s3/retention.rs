//! The object lock of S3: how an object's retention is read and moved. When and why: [`ObjectRetention`].
//!
//! It holds nothing that a crash could lose.
//!
//! [`ObjectRetention`]: crate::sinks::ObjectRetention

use async_trait::async_trait;
use backup_core::Result;
use backup_core::contracts::{ObjectKey, SinkError, SinkErrorKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::Reach;
use super::requests::{Ask, Requests, sha256_of};
use crate::access::Access;
use crate::bucket::{Bucket, encoded};
use crate::layers::Patience;
use crate::sinks::object::{Action, GOVERNANCE, Keeps, Retention, Seen};

/// The object lock of a bucket's objects.
pub(crate) struct S3Retention(Requests);

impl S3Retention {
    /// Opens the bucket. Asks the store nothing yet.
    ///
    /// # Errors
    ///
    /// [`backup_core::ErrorKind::Invalid`] for settings or credentials that cannot be used.
    pub(crate) fn open(bucket: &Bucket, access: &Access, patience: Patience) -> Result<Self> {
        Ok(Self(Requests::new(Reach::of(bucket, access)?, bucket.clone()).with_patience(patience)))
    }
}

#[async_trait]
impl Keeps for S3Retention {
    async fn require(&self) -> Result<(), SinkError> {
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

    async fn look(&self, key: &ObjectKey) -> Result<Seen, SinkError> {
        let path = self.0.bucket().path(key.as_str());
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
        let own = match header("x-amz-object-lock-retain-until-date") {
            None => None,
            Some(until) => {
                let until = until.parse();
                let until = until.map_err(|_| self.0.not_understood("the time until which an object is kept"))?;
                Some(Retention { until, mode: header("x-amz-object-lock-mode").unwrap_or_default().to_owned() })
            }
        };
        Ok(Seen {
            own,
            // The retention that a bucket has by default is written to each object.
            by_bucket: None,
            bytes: header("content-length").and_then(|length| length.parse().ok()),
            sha256: sha256_of(&headers),
            version: header("x-amz-version-id").map(str::to_owned),
        })
    }

    async fn prolong(&self, key: &ObjectKey, found: &Seen, until: Timestamp) -> Result<(), SinkError> {
        let mode = found.own.as_ref().map_or(GOVERNANCE, |own| &own.mode);
        let body = format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>");
        // What was looked at, and not what may have been written over it since.
        let version = found.version.as_deref().map(|version| format!("&versionId={}", encoded(version, "")));
        let query = format!("retention{}", version.unwrap_or_default());
        // A change of this kind is refused without a checksum.
        let headers = [("x-amz-checksum-sha256", STANDARD.encode(Sha256::digest(&body)))];
        let path = self.0.bucket().path(key.as_str());
        let ask =
            Ask { method: Method::PUT, path: &path, query: &query, headers: &headers, body, action: Action::Write };
        self.0.send(ask).await.map(drop)
    }
}
