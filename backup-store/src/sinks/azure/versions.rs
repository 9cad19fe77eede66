//! What a container still has of the past, and how it comes back.
//!
//! There are two such things, and an account may have both: **versions**, where what is deleted or written over stays as a
//! version, which is copied; and **soft delete**, where what was deleted (a blob, a version) or written over (as a snapshot)
//! has to be restored first. Nothing is removed here: what comes back becomes the current blob. A crash leaves some objects
//! back and some not; the next run does the rest, since what is back is known by its size and its MD5, which Azure makes of
//! every write and copies along. [`Versions`] calls it. Written from Azure's reference, and untested against the real
//! service.
//!
//! The list has no time of a deletion for a version, but a mark of its own for the blob that is deleted
//! (`HasVersionsOnly`), whose version is that time. Of several deletions there is only the last.
//!
//! [`Versions`]: crate::sinks::Versions

use async_trait::async_trait;
use backup_core::Result;
use backup_core::contracts::{SinkError, SinkErrorKind};
use http::{HeaderMap, Method};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use super::requests::{Ask, On, Requests, header};
use crate::access::Access;
use crate::bucket::{Bucket, encoded};
use crate::http::unescaped;
use crate::layers::Patience;
use crate::sinks::object::{Action, Lost, LostKind, Past, Way, element, keeps_nothing, key_of};

/// What errors call the answer.
const LISTING: &str = "the list of versions";

/// What is listed beside the current blobs.
const INCLUDED: &str = "deleted%2Cdeletedwithversions%2Csnapshots%2Cversions";

/// What a container still has of its blobs.
pub(crate) struct AzureVersions(Requests);

/// An entry of the list. A blob's entries come together.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    state: State,
    /// Of a deleted blob's mark the time of the deletion, else since when it was the current one.
    since: Timestamp,
    /// Since when it is deleted softly.
    gone_since: Option<Timestamp>,
    /// What of the blob it is, as it stands in a URL; empty for the blob itself.
    query: String,
    bytes: u64,
    md5: Option<String>,
    tag: String,
    /// The tier that was chosen for it.
    tier: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Current,
    /// A version, a snapshot, or what is deleted softly.
    Former,
    /// That the blob is deleted, and has versions.
    Deleted,
}

impl Entry {
    /// What an entry says; nothing where it is not understood.
    fn of(text: &str) -> Option<Self> {
        let time = |text: &str| Some(rfc2822::parse(text).ok()?.timestamp());
        let (version, snapshot) = (element(text, "VersionId"), element(text, "Snapshot"));
        let is_softly_deleted = element(text, "Deleted") == Some("true");
        let state = if element(text, "HasVersionsOnly") == Some("true") {
            State::Deleted
        } else if is_softly_deleted
            || snapshot.is_some()
            || version.is_some() && element(text, "IsCurrentVersion") != Some("true")
        {
            State::Former
        } else {
            State::Current
        };
        let query = match (version, snapshot) {
            (Some(version), _) => format!("versionid={}", encoded(version, "")),
            (None, Some(snapshot)) => format!("snapshot={}", encoded(snapshot, "")),
            (None, None) => String::new(),
        };
        Some(Self {
            name: unescaped(element(text, "Name")?),
            state,
            since: match version {
                Some(version) => version.parse().ok()?,
                None => time(element(text, "Last-Modified")?)?,
            },
            gone_since: match is_softly_deleted {
                true => Some(time(element(text, "DeletedTime")?)?),
                false => None,
            },
            query,
            bytes: element(text, "Content-Length")?.parse().ok()?,
            md5: element(text, "Content-MD5").map(str::to_owned),
            tag: element(text, "Etag").unwrap_or_default().to_owned(),
            tier: match element(text, "AccessTierInferred") {
                Some("true") => String::new(),
                _ => element(text, "AccessTier").unwrap_or_default().to_owned(),
            },
        })
    }

    /// Whether both have the same content, as far as the store tells: what has no MD5 counts as another.
    fn is_like(&self, other: &Self) -> bool {
        let is_same = match (&self.md5, &other.md5) {
            (Some(one), Some(other)) => one == other,
            _ => !self.tag.is_empty() && self.tag == other.tag,
        };
        self.bytes == other.bytes && is_same
    }
}

impl AzureVersions {
    /// Opens the container. Asks the store nothing yet.
    ///
    /// # Errors
    ///
    /// [`backup_core::ErrorKind::Invalid`] for settings or credentials that cannot be used.
    pub(crate) fn open(bucket: &Bucket, access: &Access, patience: Patience) -> Result<Self> {
        Requests::open(bucket, access, patience).map(Self)
    }

    /// Fails where the account keeps nothing of the past: no blob has a version, and soft delete is off.
    async fn require_past(&self) -> Result<(), SinkError> {
        let query = String::from("restype=service&comp=properties");
        let ask = Ask { method: Method::GET, on: On::Account, query, headers: Vec::new(), action: Action::Read };
        let why = match self.0.send(ask).await {
            Ok((_, told)) => {
                let policy = told.split_once("<DeleteRetentionPolicy>").and_then(|(_, rest)| element(rest, "Enabled"));
                if policy == Some("true") {
                    return Ok(());
                }
                "the account keeps no versions, and has no soft delete for blobs"
            }
            // A signature for the container says nothing of the account.
            Err(error) if error.kind == SinkErrorKind::PermissionDenied => {
                "nothing is kept of the past: no blob has a version, and nothing is deleted softly"
            }
            Err(error) => return Err(error),
        };
        let way_out = "only an account with versioning or soft delete switched on keeps what is deleted or replaced";
        Err(keeps_nothing(self.0.bucket().short(), why, way_out))
    }

    /// Waits until a copy is done that the store has begun.
    async fn copied(&self, on: On<'_>, headers: &HeaderMap) -> Result<(), SinkError> {
        let is_done =
            |headers: &HeaderMap| match header(headers, "x-ms-copy-status") {
                Some("success") => Ok(()),
                Some("pending") => Err(SinkError::new(SinkErrorKind::Unavailable, self.0.subject(on))
                    .caused_by("the store has not finished the copy yet")),
                _ => Err(SinkError::new(SinkErrorKind::Other, self.0.subject(on))
                    .caused_by("the store did not finish the copy")),
            };
        match is_done(headers) {
            Err(error) if error.kind == SinkErrorKind::Unavailable => {
                let (query, headers) = (String::new(), Vec::new());
                let ask = Ask { method: Method::HEAD, on, query, headers, action: Action::Read };
                self.0.send_until(ask, is_done).await.map(drop)
            }
            ended => ended,
        }
    }
}

#[async_trait]
impl Past for AzureVersions {
    async fn lost_since(&self, at: Timestamp) -> Result<Vec<Lost>, SinkError> {
        let prefix = self.0.bucket().path("");
        let (mut lost, mut of_one, mut next) = (Vec::new(), Vec::<Entry>::new(), String::new());
        let mut has_past = false;
        loop {
            let query = format!("restype=container&comp=list&include={INCLUDED}&prefix={}{next}", encoded(&prefix, ""));
            let ask = Ask { method: Method::GET, on: On::Container, query, headers: Vec::new(), action: Action::List };
            let (_, page) = self.0.send(ask).await?;
            for entry in entries_in(&page).ok_or_else(|| self.0.not_understood(LISTING))? {
                has_past |= entry.state != State::Current || !entry.query.is_empty();
                if of_one.first().is_some_and(|first| first.name != entry.name) {
                    lost.extend(lost_of(&prefix, &of_one, at));
                    of_one.clear();
                }
                of_one.push(entry);
            }
            match element(&page, "NextMarker") {
                None => break,
                Some(marker) => {
                    let following = format!("&marker={}", encoded(&unescaped(marker), ""));
                    if following == next {
                        return Err(self.0.not_understood(LISTING));
                    }
                    next = following;
                }
            }
        }
        lost.extend(lost_of(&prefix, &of_one, at));
        if !has_past {
            self.require_past().await?;
        }
        Ok(lost)
    }

    async fn bring_back(&self, lost: &Lost) -> Result<(), SinkError> {
        let on = On::Object(lost.key.as_str());
        if lost.way == Way::Restore {
            let query = String::from("comp=undelete");
            let ask = Ask { method: Method::PUT, on, query, headers: Vec::new(), action: Action::Write };
            self.0.send(ask).await?;
        }
        if lost.version.is_empty() {
            return Ok(());
        }
        let mut headers = vec![("x-ms-copy-source", self.0.source(lost.key.as_str(), &lost.version).await?)];
        if !lost.storage_class.is_empty() {
            headers.push(("x-ms-access-tier", lost.storage_class.clone()));
        }
        let ask = Ask { method: Method::PUT, on, query: String::new(), headers, action: Action::Write };
        let (headers, _) = self.0.send(ask).await?;
        self.copied(on, &headers).await
    }
}

/// What a blob has lost since `at`, by all its entries, in any order.
fn lost_of(prefix: &str, entries: &[Entry], at: Timestamp) -> Option<Lost> {
    let key = key_of(prefix, &entries.first()?.name)?;
    let now = entries.iter().find(|entry| entry.state == State::Current);
    let was_there = |entry: &&Entry| entry.since <= at && entry.gone_since.is_none_or(|gone| gone > at);
    let then = entries.iter().filter(was_there).max_by_key(|entry| (entry.since, entry.state == State::Current))?;
    let kind = match now {
        // Deleted already at that time.
        _ if then.state == State::Deleted => return None,
        Some(now) if now.is_like(then) => return None,
        Some(_) => LostKind::Replaced,
        None => LostKind::Deleted,
    };
    Some(Lost {
        key,
        bytes: then.bytes,
        kind,
        version: then.query.clone(),
        storage_class: then.tier.clone(),
        way: if then.gone_since.is_some() { Way::Restore } else { Way::Copy },
    })
}

/// The entries of a page, in its order; `None` when it is none. Names that XML cannot hold are no objects of ours.
fn entries_in(page: &str) -> Option<Vec<Entry>> {
    let (_, mut rest) = page.split_once("<EnumerationResults")?;
    rest.find("</EnumerationResults>")?;
    let mut entries = Vec::new();
    while let Some((_, opened)) = rest.split_once("<Blob>") {
        let (entry, after) = opened.split_once("</Blob>")?;
        if !entry.contains("<Name Encoded=") {
            entries.push(Entry::of(entry)?);
        }
        rest = after;
    }
    Some(entries)
}

#[cfg(test)]
mod tests;
