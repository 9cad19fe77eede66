//! What a bucket of S3 with versions still has of the past, and how it comes back.
//!
//! In such a bucket a delete leaves a marker, and a write leaves what was there before: whoever steals credentials that
//! can delete and replace, but not remove versions, can hide a repository and not destroy it. Nothing is removed here
//! either: what comes back is a copy of the old version, which becomes the newest. A crash leaves some objects back and
//! some not; the next run does the rest, since what is back is known by its tag, or by its hash. [`Versions`] calls it.
//!
//! [`Versions`]: crate::sinks::Versions

use async_trait::async_trait;
use backup_core::Result;
use backup_core::contracts::{SinkError, SinkErrorKind};
use backup_core::model::Id;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use jiff::Timestamp;

use super::Reach;
use super::requests::{Ask, Requests, sha256_of};
use crate::access::Access;
use crate::bucket::{Bucket, encoded};
use crate::layers::Patience;
use crate::sinks::object::{Action, Lost, LostKind, OBJECTS_MAX, Past, Way, element, keeps_nothing, key_of};
use crate::url::percent_decoded;

/// What errors call the answer.
const LISTING: &str = "the list of versions";

/// The versions of objects in a bucket.
pub(crate) struct S3Versions(Requests);

/// A line of the store's listing. An object's lines come together, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    key: String,
    id: String,
    since: Timestamp,
    /// `None` for a delete.
    content: Option<Content>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    bytes: u64,
    tag: String,
    storage_class: String,
}

impl S3Versions {
    /// Opens the bucket. Asks the store nothing yet.
    ///
    /// # Errors
    ///
    /// [`backup_core::ErrorKind::Invalid`] for settings or credentials that cannot be used.
    pub(crate) fn open(bucket: &Bucket, access: &Access, patience: Patience) -> Result<Self> {
        Ok(Self(Requests::new(Reach::of(bucket, access)?, bucket.clone()).with_patience(patience)))
    }

    /// Whether an object is another one than it was. Where the store encrypts with a key of its own each time, as with KMS,
    /// a copy has another tag than what it was copied from; so of those that have kept their size the hash is asked for.
    async fn is_lost(&self, Found { lost, has_kept_its_size }: &Found) -> Result<bool, SinkError> {
        if lost.kind == LostKind::Deleted || !has_kept_its_size {
            return Ok(true);
        }
        let Some(now) = self.sha256(lost, "").await? else { return Ok(true) };
        if let Ok(id) = lost.key.name().parse::<Id>() {
            return Ok(STANDARD.encode(id.as_bytes()) != now);
        }
        let then = self.sha256(lost, &format!("versionId={}", encoded(&lost.version, ""))).await?;
        Ok(then.is_none_or(|then| then != now))
    }

    async fn sha256(&self, lost: &Lost, query: &str) -> Result<Option<String>, SinkError> {
        let path = self.0.bucket().path(lost.key.as_str());
        let headers = [("x-amz-checksum-mode", String::from("ENABLED"))];
        let ask = Ask {
            method: Method::HEAD,
            path: &path,
            query,
            headers: &headers,
            body: String::new(),
            action: Action::Read,
        };
        Ok(sha256_of(&self.0.send(ask).await?.0))
    }

    async fn look(&self, query: &str) -> Result<String, SinkError> {
        let ask = Ask { method: Method::GET, path: "", query, headers: &[], body: String::new(), action: Action::List };
        Ok(self.0.send(ask).await?.1)
    }
}

#[async_trait]
impl Past for S3Versions {
    async fn lost_since(&self, at: Timestamp) -> Result<Vec<Lost>, SinkError> {
        let state = self.look("versioning").await?;
        if element(&state, "Status").is_none() {
            return Err(keeps_nothing(
                self.0.bucket().short(),
                "the bucket keeps no versions",
                "only a bucket with versioning switched on keeps what is deleted or replaced",
            ));
        }
        let prefix = self.0.bucket().path("");
        let (mut lost, mut of_one, mut next) = (Vec::new(), Vec::<Version>::new(), String::new());
        loop {
            let query = format!("encoding-type=url&prefix={}{next}&versions", encoded(&prefix, ""));
            let page = self.look(&query).await?;
            for version in versions_in(&page).ok_or_else(|| self.0.not_understood(LISTING))? {
                if of_one.first().is_some_and(|first| first.key != version.key) {
                    lost.extend(lost_of(&prefix, &of_one, at));
                    of_one.clear();
                }
                of_one.push(version);
            }
            let marker = |name| element(&page, name).map(|text| encoded(&decoded(text).unwrap_or_default(), ""));
            match (element(&page, "IsTruncated"), marker("NextKeyMarker")) {
                (Some("true"), Some(key)) => {
                    let version = marker("NextVersionIdMarker").map(|id| format!("&version-id-marker={id}"));
                    let following = format!("&key-marker={key}{}", version.unwrap_or_default());
                    if following == next {
                        return Err(self.0.not_understood(LISTING));
                    }
                    next = following;
                }
                (Some("true"), None) => return Err(self.0.not_understood(LISTING)),
                _ => break,
            }
        }
        lost.extend(lost_of(&prefix, &of_one, at));
        let is_lost: Vec<_> = lost.iter().map(|found| self.is_lost(found).boxed()).collect();
        let is_lost: Vec<bool> = stream::iter(is_lost).buffered(OBJECTS_MAX).try_collect().await?;
        let mut is_lost = is_lost.into_iter();
        lost.retain(|_| is_lost.next().unwrap_or(true));
        Ok(lost.into_iter().map(|found| found.lost).collect())
    }

    async fn bring_back(&self, lost: &Lost) -> Result<(), SinkError> {
        let path = self.0.bucket().path(lost.key.as_str());
        let version = encoded(&lost.version, "");
        let source = format!("/{}/{}?versionId={version}", self.0.bucket().name, encoded(&path, "/"));
        // So that the copy is known for what it is, also where its tag is another one.
        let mut headers = vec![("x-amz-checksum-algorithm", String::from("SHA256")), ("x-amz-copy-source", source)];
        if !matches!(lost.storage_class.as_str(), "" | "STANDARD") {
            headers.push(("x-amz-storage-class", lost.storage_class.clone()));
        }
        let ask = Ask {
            method: Method::PUT,
            path: &path,
            query: "",
            headers: &headers,
            body: String::new(),
            action: Action::Write,
        };
        // A copy may fail after it was answered with 200.
        let is_done = |answer: &str| match element(answer, "ETag") {
            Some(_) => Ok(()),
            None => Err(SinkError::new(SinkErrorKind::Unavailable, self.0.subject(lost.key.as_str()))
                .caused_by("the store did not finish the copy")),
        };
        self.0.send_until(ask, is_done).await.map(drop)
    }
}

/// An object that another one has the place of, as far as its tag tells.
struct Found {
    lost: Lost,
    has_kept_its_size: bool,
}

/// What an object has lost since `at`, by all its versions, the newest first.
fn lost_of(prefix: &str, versions: &[Version], at: Timestamp) -> Option<Found> {
    let newest = versions.first()?;
    let key = key_of(prefix, &newest.key)?;
    let then = versions.iter().find(|version| version.since <= at)?;
    // Deleted already at that time.
    let wanted = then.content.as_ref()?;
    let kind = match &newest.content {
        None => LostKind::Deleted,
        // The same version, or a copy of it.
        Some(now) if (now.bytes, &now.tag) == (wanted.bytes, &wanted.tag) => return None,
        Some(_) => LostKind::Replaced,
    };
    let has_kept_its_size = newest.content.as_ref().is_some_and(|now| now.bytes == wanted.bytes);
    let (version, storage_class) = (then.id.clone(), wanted.storage_class.clone());
    let lost = Lost { key, bytes: wanted.bytes, kind, version, storage_class, way: Way::Copy };
    Some(Found { lost, has_kept_its_size })
}

/// The versions and delete markers of a page, in its order; `None` when it is none.
fn versions_in(page: &str) -> Option<Vec<Version>> {
    let mut versions = Vec::new();
    let mut rest = page.split_once("<ListVersionsResult")?.1;
    loop {
        let (version, marker) = (rest.find("<Version>"), rest.find("<DeleteMarker>"));
        let is_version = match (version, marker) {
            (None, None) => return Some(versions),
            (Some(version), Some(marker)) => version < marker,
            (version, _) => version.is_some(),
        };
        let (open, close) =
            if is_version { ("<Version>", "</Version>") } else { ("<DeleteMarker>", "</DeleteMarker>") };
        let (entry, after) = rest.split_once(open)?.1.split_once(close)?;
        let content = Content {
            bytes: element(entry, "Size").and_then(|size| size.parse().ok()).unwrap_or_default(),
            tag: element(entry, "ETag").unwrap_or_default().to_owned(),
            storage_class: element(entry, "StorageClass").unwrap_or_default().to_owned(),
        };
        versions.push(Version {
            key: decoded(element(entry, "Key")?)?,
            id: element(entry, "VersionId")?.to_owned(),
            since: element(entry, "LastModified")?.parse().ok()?,
            content: is_version.then_some(content),
        });
        rest = after;
    }
}

/// A name as the store writes it when it is asked for `encoding-type=url`, where a blank may be a plus.
fn decoded(text: &str) -> Option<String> {
    String::from_utf8(percent_decoded(text.replace('+', "%20").as_bytes())?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(entries: &[(&str, &str, &str, Option<&str>)]) -> String {
        let entries = entries.iter().map(|(key, id, minute, tag)| {
            let common = format!("<Key>{key}</Key><VersionId>{id}</VersionId><LastModified>2026-01-01T00:{minute}:00.000Z</LastModified>");
            match tag {
                Some(tag) => format!("<Version>{common}<ETag>&quot;{tag}&quot;</ETag><Size>7</Size><StorageClass>STANDARD</StorageClass><Owner><ID>x</ID></Owner></Version>"),
                None => format!("<DeleteMarker>{common}</DeleteMarker>"),
            }
        });
        format!(
            "<?xml version=\"1.0\"?>\n<ListVersionsResult xmlns=\"x\">{}</ListVersionsResult>",
            entries.collect::<String>()
        )
    }

    fn lost(entries: &[(&str, &str, &str, Option<&str>)]) -> Option<(LostKind, String)> {
        let versions = versions_in(&page(entries)).unwrap();
        let at = "2026-01-01T00:30:00Z".parse().unwrap();
        lost_of("p/", &versions, at).map(|found| (found.lost.kind, found.lost.version))
    }

    #[test]
    fn what_was_there_and_is_not_any_more_is_lost() {
        let deleted = |version: &str| Some((LostKind::Deleted, version.to_owned()));
        let replaced = |version: &str| Some((LostKind::Replaced, version.to_owned()));
        assert_eq!(lost(&[("p/a", "1", "10", Some("x"))]), None);
        assert_eq!(lost(&[("p/a", "2", "40", None), ("p/a", "1", "10", Some("x"))]), deleted("1"));
        assert_eq!(lost(&[("p/a", "2", "40", Some("y")), ("p/a", "1", "10", Some("x"))]), replaced("1"));
        // Deleted before; made later; deleted and made anew; brought back already.
        assert_eq!(lost(&[("p/a", "2", "20", None), ("p/a", "1", "10", Some("x"))]), None);
        assert_eq!(lost(&[("p/a", "1", "40", Some("x"))]), None);
        let again = [("p/a", "3", "50", Some("z")), ("p/a", "2", "40", None), ("p/a", "1", "30", Some("x"))];
        assert_eq!(lost(&again), replaced("1"));
        let back = [("p/a", "3", "50", Some("x")), ("p/a", "2", "40", None), ("p/a", "1", "30", Some("x"))];
        assert_eq!(lost(&back), None);
    }

    #[test]
    fn locks_and_foreign_names_stay_where_they_are() {
        for key in ["p/locks/a", "q/a", "p/my%20file", "p/"] {
            assert_eq!(lost(&[(key, "2", "40", None), (key, "1", "10", Some("x"))]), None, "{key}");
        }
    }

    #[test]
    fn a_page_that_is_cut_or_something_else_is_an_error() {
        let whole = page(&[("p/a", "2", "40", None), ("p/a", "1", "10", Some("x"))]);
        assert_eq!(versions_in(&whole).unwrap().len(), 2);
        assert_eq!(versions_in("<html>"), None);
        assert_eq!(versions_in(&whole[..whole.len() - 60]), None);
        assert_eq!(versions_in(&whole.replace("2026-01-01T", "yesterday")), None);
    }
}
