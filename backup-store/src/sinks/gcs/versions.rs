//! What a bucket of Google's still has of the past, and how it comes back.
//!
//! There are two such things, and a bucket may have both: **versions**, where what is deleted or written over becomes a
//! noncurrent generation, which is copied; and **soft delete**, which every new bucket has for seven days, where it can
//! be listed and restored and nothing else. Nothing is removed here: what comes back becomes the live generation. A crash
//! leaves some objects back and some not; the next run does the rest, since what is back is known by its size and its
//! checksums, which are those of its content. [`Versions`] calls it.
//!
//! [`Versions`]: crate::sinks::Versions

use std::collections::BTreeMap;

use async_trait::async_trait;
use backup_core::Result;
use backup_core::contracts::{SinkError, SinkErrorKind};
use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Reach;
use super::requests::{Ask, Requests};
use crate::access::Access;
use crate::bucket::{Bucket, encoded};
use crate::layers::Patience;
use crate::sinks::object::{Action, Lost, LostKind, Past, Way, keeps_nothing, key_of};

/// What errors call the answer.
const LISTING: &str = "the list of versions";

/// What of each generation is asked for.
const FIELDS: &str =
    "nextPageToken,items(name,generation,size,storageClass,md5Hash,crc32c,timeCreated,timeDeleted,softDeleteTime)";

/// What a bucket still has of its objects.
pub(crate) struct GcsVersions(Requests);

/// A generation of an object, as the store lists it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Generation {
    name: String,
    generation: String,
    size: String,
    #[serde(default)]
    storage_class: String,
    md5_hash: Option<String>,
    crc32c: Option<String>,
    time_created: Timestamp,
    /// Since when it is noncurrent.
    time_deleted: Option<Timestamp>,
    /// Since when it is deleted softly.
    soft_delete_time: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    items: Vec<Generation>,
    next_page_token: Option<String>,
}

impl Generation {
    /// Since when it is not live any more.
    fn gone_since(&self) -> Option<Timestamp> {
        [self.time_deleted, self.soft_delete_time].into_iter().flatten().min()
    }

    fn was_live(&self, at: Timestamp) -> bool {
        self.time_created <= at && self.gone_since().is_none_or(|gone| gone > at)
    }

    /// Whether both have the same content, as far as the store tells: what has no checksum counts as another.
    fn is_like(&self, other: &Self) -> bool {
        let same = |one: &Option<String>, other: &Option<String>| one.is_some() && one == other;
        let has_md5 = self.md5_hash.is_some() && other.md5_hash.is_some();
        let is_same = if has_md5 { same(&self.md5_hash, &other.md5_hash) } else { same(&self.crc32c, &other.crc32c) };
        self.size == other.size && is_same
    }
}

impl GcsVersions {
    /// Opens the bucket. Asks the store nothing yet.
    ///
    /// # Errors
    ///
    /// [`backup_core::ErrorKind::Invalid`] for settings or credentials that cannot be used.
    pub(crate) fn open(bucket: &Bucket, access: &Access, patience: Patience) -> Result<Self> {
        Ok(Self(Requests::new(Reach::of(bucket, access)?, bucket.clone(), patience)))
    }

    /// Hands over all generations of a listing, those of one name together.
    async fn each(&self, prefix: &str, which: &str, mut found: impl FnMut(Generation)) -> Result<(), SinkError> {
        let mut next = String::new();
        loop {
            let rest = format!("/o?{which}&prefix={}&fields={}{next}", encoded(prefix, ""), encoded(FIELDS, "(),"));
            let ask = Ask { method: Method::GET, key: "", rest, body: None, action: Action::List };
            let page = self.0.send(ask).await?;
            let page: Page = serde_json::from_value(page).map_err(|_| self.0.not_understood(LISTING))?;
            page.items.into_iter().for_each(&mut found);
            match page.next_page_token {
                None => return Ok(()),
                Some(token) => {
                    let following = format!("&pageToken={}", encoded(&token, ""));
                    if following == next {
                        return Err(self.0.not_understood(LISTING));
                    }
                    next = following;
                }
            }
        }
    }

    /// Fails where the bucket keeps nothing of the past. That nothing was found says so only where it does not.
    async fn require_past(&self) -> Result<(), SinkError> {
        let rest = String::from("?fields=versioning,softDeletePolicy");
        let ask = Ask { method: Method::GET, key: "", rest, body: None, action: Action::Read };
        let bucket = self.0.send(ask).await?;
        let seconds = &bucket["softDeletePolicy"]["retentionDurationSeconds"];
        let is_soft = seconds.as_str().is_some_and(|seconds| seconds != "0");
        if bucket["versioning"]["enabled"] == true || is_soft {
            return Ok(());
        }
        Err(keeps_nothing(
            self.0.bucket().short(),
            "the bucket keeps no versions, and no soft delete",
            "only a bucket with one of both switched on keeps what is deleted or replaced",
        ))
    }
}

#[async_trait]
impl Past for GcsVersions {
    async fn lost_since(&self, at: Timestamp) -> Result<Vec<Lost>, SinkError> {
        let prefix = self.0.bucket().path("");
        // Of what is deleted softly, what was live at that time, by its name.
        let mut softly = BTreeMap::<String, Generation>::new();
        let mut has_past = false;
        self.each(&prefix, "softDeleted=true", |found| {
            // A server that does not know the word lists what is live.
            if found.soft_delete_time.is_some() {
                has_past = true;
                if found.was_live(at) {
                    softly.insert(found.name.clone(), found);
                }
            }
        })
        .await?;
        let (mut lost, mut of_one) = (Vec::new(), Vec::<Generation>::new());
        self.each(&prefix, "versions=true", |found| {
            has_past |= found.time_deleted.is_some();
            if of_one.first().is_some_and(|first| first.name != found.name) {
                lost.extend(lost_of(&prefix, &std::mem::take(&mut of_one), &mut softly, at));
            }
            of_one.push(found);
        })
        .await?;
        lost.extend(lost_of(&prefix, &of_one, &mut softly, at));
        // What there is nothing else of.
        while let Some((_, then)) = softly.pop_first() {
            lost.extend(lost_of(&prefix, &[then], &mut softly, at));
        }
        if !has_past {
            self.require_past().await?;
        }
        Ok(lost)
    }

    async fn bring_back(&self, lost: &Lost) -> Result<(), SinkError> {
        let key = lost.key.as_str();
        let version = encoded(&lost.version, "");
        if lost.way == Way::Restore {
            let rest = format!("/restore?generation={version}&fields=generation");
            let ask = Ask { method: Method::POST, key, rest, body: None, action: Action::Write };
            return self.0.send(ask).await.map(drop);
        }
        let (bucket, path) = (encoded(&self.0.bucket().name, ""), encoded(&self.0.bucket().path(key), ""));
        // Where the class is another than the bucket's, the store needs several requests, each of which says how to go on.
        let mut token = String::new();
        loop {
            let rest = format!("/rewriteTo/b/{bucket}/o/{path}?sourceGeneration={version}{token}");
            let body = Some(json!({"storageClass": lost.storage_class}));
            let ask = Ask { method: Method::POST, key, rest, body, action: Action::Write };
            let answer = self.0.send(ask).await?;
            match (&answer["done"], &answer["rewriteToken"]) {
                (Value::Bool(true), _) => return Ok(()),
                (Value::Bool(false), Value::String(next)) if !next.is_empty() => {
                    token = format!("&rewriteToken={}", encoded(next, ""));
                }
                _ => {
                    return Err(SinkError::new(SinkErrorKind::Other, self.0.subject(key))
                        .caused_by("the store does not say whether it has finished the copy"));
                }
            }
        }
    }
}

/// What an object has lost since `at`, by all its generations, in any order, and by what is deleted softly.
fn lost_of(
    prefix: &str,
    generations: &[Generation],
    softly: &mut BTreeMap<String, Generation>,
    at: Timestamp,
) -> Option<Lost> {
    let name = &generations.first()?.name;
    let softly = softly.remove(name);
    let key = key_of(prefix, name)?;
    let now = generations.iter().find(|found| found.gone_since().is_none());
    let all = generations.iter().chain(&softly).filter(|found| found.was_live(at));
    let then = all.max_by_key(|found| found.time_created)?;
    let kind = match now {
        None => LostKind::Deleted,
        Some(now) if now.is_like(then) => return None,
        Some(_) => LostKind::Replaced,
    };
    Some(Lost {
        key,
        bytes: then.size.parse().unwrap_or_default(),
        kind,
        version: then.generation.clone(),
        storage_class: then.storage_class.clone(),
        way: if then.soft_delete_time.is_some() { Way::Restore } else { Way::Copy },
    })
}

#[cfg(test)]
mod tests;
