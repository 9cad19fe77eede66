//! Objects in the archive classes of S3 (`GLACIER`, `DEEP_ARCHIVE`, and the archive tiers of `INTELLIGENT_TIERING`), and
//! how they are brought out: by a request of our own, because the library has no call for it.
//!
//! What is brought out is a copy for some days; the object stays where it is. Asking twice changes nothing, so a crash
//! leaves only objects that come out although nobody waits.

use backup_core::Result;
use backup_core::contracts::{
    Archive, ObjectKey, Readiness, SinkError, SinkErrorKind, SinkFuture, ThawRequest, ThawSpeed,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method};
use sha2::{Digest as _, Sha256};

use super::Reach;
use super::requests::{Ask, Requests};
use crate::access::Access;
use crate::bucket::Bucket;
use crate::layers::Patience;
use crate::sinks::object::Action;

/// Classes from which nothing is read at once. `GLACIER_IR` is none of them.
const ARCHIVE_CLASSES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// The archive of a bucket.
pub struct S3Archive(Requests);

impl S3Archive {
    /// Opens the bucket. Asks the store nothing yet.
    ///
    /// # Errors
    ///
    /// [`backup_core::ErrorKind::Invalid`] for settings or credentials that cannot be used.
    pub fn open(bucket: &Bucket, access: &Access) -> Result<Self> {
        Ok(Self(Requests::new(Reach::of(bucket, access)?, bucket.clone())))
    }

    /// The same, for requests that are repeated when they fail for now: who thaws has a patience of its own.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self(self.0.with_patience(patience))
    }

    /// The class that an object lies in; `None` for the bucket's usual one.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub async fn class_of(&self, key: &ObjectKey) -> Result<Option<String>, SinkError> {
        let headers = self.headers(key).await?;
        Ok(headers.get("x-amz-storage-class").and_then(|class| class.to_str().ok()).map(str::to_owned))
    }

    async fn state(&self, key: &ObjectKey) -> Result<State, SinkError> {
        Ok(State::of(&self.headers(key).await?))
    }

    async fn headers(&self, key: &ObjectKey) -> Result<HeaderMap, SinkError> {
        let path = self.0.bucket().path(key.as_str());
        let ask = Ask {
            method: Method::HEAD,
            path: &path,
            query: "",
            headers: &[],
            body: String::new(),
            action: Action::Read,
        };
        Ok(self.0.send(ask).await?.0)
    }

    async fn ask_for(&self, key: &ObjectKey, request: ThawRequest) -> Result<Readiness, SinkError> {
        let State { readiness, is_tier } = self.state(key).await?;
        if readiness != Readiness::Frozen {
            return Ok(readiness);
        }
        let path = self.0.bucket().path(key.as_str());
        let body = restore_request(request, is_tier);
        let headers = [("x-amz-checksum-sha256", STANDARD.encode(Sha256::digest(&body)))];
        let ask =
            Ask { method: Method::POST, path: &path, query: "restore", headers: &headers, body, action: Action::Thaw };
        match self.0.send(ask).await {
            Ok(_) => Ok(Readiness::Frozen),
            // Somebody was faster: it is on its way.
            Err(error) if error.kind == SinkErrorKind::AlreadyExists => Ok(Readiness::Thawing),
            Err(error) => Err(error),
        }
    }
}

impl Archive for S3Archive {
    fn readiness<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, Readiness> {
        Box::pin(async move { Ok(self.state(key).await?.readiness) })
    }

    fn thaw<'a>(&'a self, key: &'a ObjectKey, request: ThawRequest) -> SinkFuture<'a, Readiness> {
        Box::pin(self.ask_for(key, request))
    }
}

/// What the store says of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    readiness: Readiness,
    /// It lies in a tier of a class that tiers by itself, into whose upper one it then returns, for no number of days.
    is_tier: bool,
}

impl State {
    fn of(headers: &HeaderMap) -> Self {
        let header = |name: &str| headers.get(name)?.to_str().ok();
        let is_tier = header("x-amz-archive-status").is_some();
        // A bucket's usual class is not named.
        let is_archived =
            is_tier || header("x-amz-storage-class").is_some_and(|class| ARCHIVE_CLASSES.contains(&class));
        let readiness = match header("x-amz-restore") {
            _ if !is_archived => Readiness::Ready,
            Some(restore) if restore.contains("ongoing-request=\"true\"") => Readiness::Thawing,
            Some(restore) if restore.contains("ongoing-request=\"false\"") => Readiness::Ready,
            _ => Readiness::Frozen,
        };
        Self { readiness, is_tier }
    }
}

/// The body of `RestoreObject` (Amazon's API reference).
fn restore_request(ThawRequest { days, speed }: ThawRequest, is_tier: bool) -> String {
    let tier = match speed {
        ThawSpeed::Bulk => "Bulk",
        ThawSpeed::Standard => "Standard",
        ThawSpeed::Expedited => "Expedited",
    };
    let days = if is_tier { String::new() } else { format!("<Days>{days}</Days>") };
    format!(
        "<RestoreRequest xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{days}<GlacierJobParameters><Tier>{tier}</Tier>\
         </GlacierJobParameters></RestoreRequest>"
    )
}

impl std::fmt::Debug for S3Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "S3Archive({})", self.0.bucket())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(headers: &[(&'static str, &'static str)]) -> State {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.insert(*name, value.parse().unwrap());
        }
        State::of(&all)
    }

    #[test]
    fn what_can_be_read_is_told_from_what_lies_in_the_archive() {
        let class = |class| ("x-amz-storage-class", class);
        let under_way = ("x-amz-restore", "ongoing-request=\"true\"");
        let out = ("x-amz-restore", "ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\"");
        let tier = ("x-amz-archive-status", "ARCHIVE_ACCESS");
        for (headers, readiness, is_tier) in [
            (&[][..], Readiness::Ready, false),
            (&[class("GLACIER_IR")], Readiness::Ready, false),
            (&[class("GLACIER")], Readiness::Frozen, false),
            (&[class("DEEP_ARCHIVE"), under_way], Readiness::Thawing, false),
            (&[class("GLACIER"), out], Readiness::Ready, false),
            (&[class("INTELLIGENT_TIERING")], Readiness::Ready, false),
            (&[class("INTELLIGENT_TIERING"), tier], Readiness::Frozen, true),
            (&[class("INTELLIGENT_TIERING"), tier, under_way], Readiness::Thawing, true),
        ] {
            assert_eq!(state(headers), State { readiness, is_tier }, "{headers:?}");
        }
    }

    #[test]
    fn a_tier_is_left_for_good_and_a_class_for_some_days() {
        let request = ThawRequest { days: 3, speed: ThawSpeed::Bulk };
        assert!(restore_request(request, false).contains("<Days>3</Days><GlacierJobParameters><Tier>Bulk</Tier>"));
        assert!(!restore_request(request, true).contains("Days"));
    }
}
