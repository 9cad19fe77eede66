//! What keeps objects of a bucket of Google's from being removed, and how that is moved: object retention, and the
//! retention policy of the bucket. When and why: [`ObjectRetention`].
//!
//! A policy of the bucket counts from each upload and cannot be prolonged for one object; what it does not keep for long
//! enough gets a retention of its own, where the bucket allows that. Google keeps no SHA-256 of what it has, so that only
//! sizes are compared. It holds nothing that a crash could lose.
//!
//! [`ObjectRetention`]: crate::sinks::ObjectRetention

use async_trait::async_trait;
use backup_core::Result;
use backup_core::contracts::{ObjectKey, SinkError, SinkErrorKind};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::Reach;
use super::requests::{Ask, Requests};
use crate::access::Access;
use crate::bucket::Bucket;
use crate::layers::Patience;
use crate::sinks::object::{Action, COMPLIANCE, GOVERNANCE, Keeps, Retention, Seen};

/// What Google calls a retention that nobody can take back.
const LOCKED: &str = "Locked";

/// What it calls one that can be taken back by who has the right to.
const UNLOCKED: &str = "Unlocked";

/// The retention of a bucket's objects.
pub(crate) struct GcsRetention {
    requests: Requests,
    rules: OnceCell<Rules>,
}

/// What holds for all objects of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rules {
    /// Whether an object may have a retention of its own.
    is_by_object: bool,
    policy: Option<Policy>,
}

/// The bucket's own retention policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Policy {
    for_how_long: SignedDuration,
    is_locked: bool,
}

impl GcsRetention {
    /// Opens the bucket. Asks the store nothing yet.
    ///
    /// # Errors
    ///
    /// [`backup_core::ErrorKind::Invalid`] for settings or credentials that cannot be used.
    pub(crate) fn open(bucket: &Bucket, access: &Access, patience: Patience) -> Result<Self> {
        let requests = Requests::new(Reach::of(bucket, access)?, bucket.clone(), patience);
        Ok(Self { requests, rules: OnceCell::new() })
    }

    /// What holds for all objects, asked for once.
    async fn rules(&self) -> Result<Rules, SinkError> {
        let ask = async || {
            let rest = String::from("?fields=objectRetention,retentionPolicy");
            let ask = Ask { method: Method::GET, key: "", rest, body: None, action: Action::Read };
            let bucket = self.requests.send(ask).await?;
            Rules::of(&bucket).ok_or_else(|| self.requests.not_understood("the retention policy"))
        };
        self.rules.get_or_try_init(ask).await.copied()
    }
}

#[async_trait]
impl Keeps for GcsRetention {
    async fn require(&self) -> Result<(), SinkError> {
        match self.rules().await? {
            Rules { is_by_object: false, policy: None } => {
                Err(SinkError::new(SinkErrorKind::Unsupported, self.requests.bucket().short())
                    .caused_by("the bucket has no object retention and no retention policy")
                    .with_hint("object retention is switched on by the bucket's owner: docs/manual/gcs.md"))
            }
            _ => Ok(()),
        }
    }

    async fn look(&self, key: &ObjectKey) -> Result<Seen, SinkError> {
        let rest = String::from("?fields=size,generation,timeCreated,retention,retentionExpirationTime");
        let ask = Ask { method: Method::GET, key: key.as_str(), rest, body: None, action: Action::Read };
        let object = self.requests.send(ask).await?;
        let rules = self.rules().await?;
        let seen = seen(&object, rules.policy);
        seen.ok_or_else(|| self.requests.not_understood("the time until which an object is kept"))
    }

    async fn prolong(&self, key: &ObjectKey, found: &Seen, until: Timestamp) -> Result<(), SinkError> {
        if !self.rules().await?.is_by_object {
            // The bucket's policy is all that there is; that it is too short is found when it is looked at again.
            return Ok(());
        }
        let is_locked = found.own.as_ref().is_some_and(|own| own.mode == COMPLIANCE);
        let mode = if is_locked { LOCKED } else { UNLOCKED };
        // What was looked at, and not what may have been written over it since.
        let generation = found.version.as_deref().unwrap_or_default();
        let rest = format!("?generation={generation}&fields=generation");
        let body = json!({"retention": {"mode": mode, "retainUntilTime": until.to_string()}});
        let ask = Ask { method: Method::PATCH, key: key.as_str(), rest, body: Some(body), action: Action::Write };
        self.requests.send(ask).await.map(drop)
    }
}

impl Rules {
    /// What the bucket's document says.
    fn of(bucket: &Value) -> Option<Self> {
        let policy = match &bucket["retentionPolicy"] {
            Value::Null => None,
            policy => Some(Policy {
                for_how_long: SignedDuration::from_secs(number(&policy["retentionPeriod"])?),
                is_locked: policy["isLocked"].as_bool().unwrap_or_default(),
            }),
        };
        Some(Self { is_by_object: bucket["objectRetention"]["mode"] == "Enabled", policy })
    }
}

/// What an object's document says; nothing where a time or a mode is not understood.
fn seen(object: &Value, policy: Option<Policy>) -> Option<Seen> {
    let time = |value: &Value| value.as_str()?.parse::<Timestamp>().ok();
    let own = match &object["retention"] {
        Value::Null => None,
        retention => {
            let mode = match retention["mode"].as_str()? {
                LOCKED => COMPLIANCE,
                UNLOCKED => GOVERNANCE,
                _ => return None,
            };
            Some(Retention { until: time(&retention["retainUntilTime"])?, mode: mode.to_owned() })
        }
    };
    // The store names the later of both ends; without one, as with an object that is held, no end is known.
    let by_bucket = match (policy, &object["retentionExpirationTime"]) {
        (None, _) | (_, Value::Null) => None,
        (Some(policy), end) => {
            let until = time(&object["timeCreated"])?.checked_add(policy.for_how_long).ok()?.min(time(end)?);
            let mode = if policy.is_locked { COMPLIANCE } else { GOVERNANCE };
            Some(Retention { until, mode: mode.to_owned() })
        }
    };
    let bytes = number(&object["size"]).and_then(|bytes| u64::try_from(bytes).ok());
    let version = object["generation"].as_str().map(str::to_owned);
    Some(Seen { own, by_bucket, bytes, sha256: None, version })
}

/// A number as the interface writes it: in quotes, so that nobody rounds it.
fn number(value: &Value) -> Option<i64> {
    value.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests;
