//! What keeps blobs of a container from being removed, and how that is moved: version-level immutability policies. When and
//! why: [`ObjectRetention`].
//!
//! A policy belongs to a version of a blob, and whoever writes over it makes a new version and removes none. A policy of the
//! container or the account is given to each new version by the store. Azure keeps no SHA-256 of what it has, so that only
//! sizes are compared. It holds nothing that a crash could lose. Written from Azure's reference, and untested against the
//! real service.
//!
//! [`ObjectRetention`]: crate::sinks::ObjectRetention

use async_trait::async_trait;
use backup_core::Result;
use backup_core::contracts::{ObjectKey, SinkError, SinkErrorKind};
use http::{HeaderMap, Method};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use super::requests::{Ask, On, Requests, header};
use crate::access::Access;
use crate::bucket::{Bucket, encoded};
use crate::layers::Patience;
use crate::sinks::object::{Action, COMPLIANCE, GOVERNANCE, Keeps, Retention, Seen};

/// What Azure calls a policy that nobody can take back; answers have it in small letters.
const LOCKED: &str = "Locked";

/// What it calls one that can be taken back by who has the right to.
const UNLOCKED: &str = "Unlocked";

/// Times as the store reads and writes them.
const FORM: &str = "%a, %d %b %Y %H:%M:%S GMT";

const UNTIL: &str = "x-ms-immutability-policy-until-date";
const MODE: &str = "x-ms-immutability-policy-mode";

/// The policies of a container's blobs.
pub(crate) struct AzureRetention(Requests);

impl AzureRetention {
    /// Opens the container. Asks the store nothing yet.
    ///
    /// # Errors
    ///
    /// [`backup_core::ErrorKind::Invalid`] for settings or credentials that cannot be used.
    pub(crate) fn open(bucket: &Bucket, access: &Access, patience: Patience) -> Result<Self> {
        Requests::open(bucket, access, patience).map(Self)
    }
}

#[async_trait]
impl Keeps for AzureRetention {
    async fn require(&self) -> Result<(), SinkError> {
        let query = String::from("restype=container");
        let ask = Ask { method: Method::HEAD, on: On::Container, query, headers: Vec::new(), action: Action::Read };
        let headers = match self.0.send(ask).await {
            // A signature for the container may not ask about it; what cannot be prolonged is told of by each blob.
            Err(error) if error.kind == SinkErrorKind::PermissionDenied => return Ok(()),
            answer => answer?.0,
        };
        match header(&headers, "x-ms-immutable-storage-with-versioning-enabled") {
            Some("true") => Ok(()),
            _ => Err(SinkError::new(SinkErrorKind::Unsupported, self.0.bucket().short())
                .caused_by("the container has no version-level immutability")
                .with_hint("it is switched on by the container's owner: docs/manual/azure.md")),
        }
    }

    async fn look(&self, key: &ObjectKey) -> Result<Seen, SinkError> {
        let on = On::Object(key.as_str());
        let ask = Ask { method: Method::HEAD, on, query: String::new(), headers: Vec::new(), action: Action::Read };
        let (headers, _) = self.0.send(ask).await?;
        seen(&headers).ok_or_else(|| self.0.not_understood("the time until which a blob is kept"))
    }

    async fn prolong(&self, key: &ObjectKey, found: &Seen, until: Timestamp) -> Result<(), SinkError> {
        let is_locked = found.own.as_ref().is_some_and(|own| own.mode == COMPLIANCE);
        let mode = if is_locked { LOCKED } else { UNLOCKED };
        // What was looked at, and not what may have been written over it since.
        let version = found.version.as_deref().map(|version| format!("&versionid={}", encoded(version, "")));
        let ask = Ask {
            method: Method::PUT,
            on: On::Object(key.as_str()),
            query: format!("comp=immutabilityPolicies{}", version.unwrap_or_default()),
            headers: vec![(UNTIL, until.strftime(FORM).to_string()), (MODE, mode.to_owned())],
            action: Action::Write,
        };
        self.0.send(ask).await.map(drop)
    }
}

/// What a blob's headers say; nothing where a time or a mode is not understood.
fn seen(headers: &HeaderMap) -> Option<Seen> {
    let own = match (header(headers, UNTIL), header(headers, MODE)) {
        (None, _) => None,
        (Some(until), mode) => {
            let mode = match mode?.to_ascii_lowercase().as_str() {
                "locked" => COMPLIANCE,
                "unlocked" => GOVERNANCE,
                _ => return None,
            };
            Some(Retention { until: rfc2822::parse(until).ok()?.timestamp(), mode: mode.to_owned() })
        }
    };
    Some(Seen {
        own,
        // The store writes what holds for all of them to each.
        by_bucket: None,
        bytes: header(headers, "content-length").and_then(|length| length.parse().ok()),
        sha256: None,
        version: header(headers, "x-ms-version-id").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests;
