//! Objects in a bucket.
//!
//! One sink for all providers, over the crate `object_store`; the files beside this folder make the store of each. An
//! object is one request, so that it appears whole or not at all, and it is durable when the request has succeeded:
//! there is nothing to sync. What is written is verified by the server (see `docs/decisions/object-stores.md`).
//!
//! Nothing is sent twice from here. A failure that may pass is [`SinkErrorKind::Unavailable`], and whoever repeats the
//! write finds out by itself whether it was carried out: every write asks the store to leave what is there, and what is
//! there is compared. So credentials that can create but not replace are enough for a backup.
//!
//! A crash leaves whole objects, or none.

mod failure;
#[cfg(any(feature = "s3", feature = "gcs"))]
mod kept;
mod past;
mod retention;
mod service;

#[cfg(any(feature = "s3", feature = "gcs"))]
pub(crate) use failure::failure_in;
pub(crate) use failure::{Action, sink_error};
#[cfg(any(feature = "s3", feature = "gcs"))]
pub(crate) use kept::{Given, Kept};
#[cfg(feature = "s3")]
pub(crate) use past::OBJECTS_MAX;
#[cfg(any(feature = "s3", feature = "azure"))]
pub(crate) use past::element;
pub use past::{Lost, LostKind, Versions};
pub(crate) use past::{Past, Way, keeps_nothing, key_of};
pub use retention::{COMPLIANCE, ObjectRetention, Prolong, Retention, RetentionReport, Short, ShortReason, Wanted};
pub(crate) use retention::{GOVERNANCE, Keeps, Seen};
pub(crate) use service::{Proof, Service};

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backup_core::contracts::{
    LISTING_LAG, ObjectInfo, ObjectKey, Placement, PutMode, Sink, SinkError, SinkErrorKind, SinkFuture, SinkStream,
};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{BoxFuture, ready};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutOptions, RetryConfig,
};

use crate::bucket::Bucket;
use crate::stranger::is_of_a_repository;

/// A bucket, or what lies below a prefix of one.
#[derive(Debug)]
pub struct ObjectSink {
    store: Arc<dyn ObjectStore>,
    /// How objects are deleted, where the store's own way is of no use.
    deletion: Option<Arc<dyn Delete>>,
    /// How people write the place, which [`Sink::location`] gives.
    location: String,
    /// The begin of objects' names in messages: `s3://bucket/prefix`.
    name: String,
    prefix: String,
    /// The class in which packs are kept that are read seldom.
    storage_class: Option<String>,
    listing_lag: Duration,
    /// Whether the store can be asked to write only what is not there; set to `false` when it says that it cannot.
    is_conditional: AtomicBool,
}

/// Deletes an object, and says what the store said.
pub(crate) trait Delete: Send + Sync + std::fmt::Debug {
    /// Deletes it; one that is not there is an error.
    fn delete<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, object_store::Result<()>>;
}

/// What a sink over a store is called.
#[derive(Clone, Debug)]
pub(crate) struct Naming {
    pub(crate) location: String,
    pub(crate) name: String,
    pub(crate) prefix: String,
    pub(crate) storage_class: Option<String>,
    /// What [`Sink::listing_lag`] says.
    pub(crate) listing_lag: Duration,
}

impl Naming {
    pub(crate) fn of(bucket: &Bucket) -> Self {
        Self {
            location: bucket.to_string(),
            name: bucket.short(),
            prefix: bucket.prefix.clone(),
            storage_class: bucket.settings.storage_class.clone(),
            // Amazon, Google and Microsoft promise that a listing shows whatever was put before it; what stands behind
            // another address promises nothing.
            listing_lag: if bucket.settings.endpoint.is_none() { Duration::ZERO } else { LISTING_LAG },
        }
    }
}

/// No repetition: what is safe to repeat, and how often, is decided in one place, above all sinks.
pub(crate) fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

impl ObjectSink {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, naming: Naming) -> Self {
        let Naming { location, name, prefix, storage_class, listing_lag } = naming;
        let is_conditional = AtomicBool::new(true);
        Self { store, deletion: None, location, name, prefix, storage_class, listing_lag, is_conditional }
    }

    /// The same, with another way to delete.
    #[cfg_attr(not(feature = "azure"), expect(dead_code, reason = "one provider needs it, which is not built in"))]
    pub(crate) fn deleting_by(self, deletion: Arc<dyn Delete>) -> Self {
        Self { deletion: Some(deletion), ..self }
    }

    fn path(&self, key: &str) -> Result<Path, SinkError> {
        let path = match (self.prefix.as_str(), key) {
            ("", key) => Path::parse(key),
            (prefix, "") => Path::parse(prefix),
            (prefix, key) => Path::parse(format!("{prefix}/{key}")),
        };
        path.map_err(|error| SinkError::new(SinkErrorKind::Other, self.subject(key)).caused_by(error.to_string()))
    }

    fn subject(&self, key: &str) -> String {
        format!("{}/{key}", self.name)
    }

    fn failed(&self, key: &str, action: Action, error: &object_store::Error) -> SinkError {
        sink_error(self.subject(key), action, error)
    }

    async fn put_object(&self, key: &ObjectKey, bytes: Bytes, mode: PutMode) -> Result<(), SinkError> {
        if mode == PutMode::Create {
            // For the stores that know no condition, and for those that pay no heed to it.
            match self.head(key).await {
                Ok(_) => return Err(self.exists(key)),
                Err(error) if error.kind == SinkErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if self.is_conditional.load(Ordering::Relaxed) {
            match self.write(key, bytes.clone(), mode, object_store::PutMode::Create).await {
                Err(error) if error.kind == SinkErrorKind::Unsupported => {
                    self.is_conditional.store(false, Ordering::Relaxed);
                }
                Err(error) if error.kind == SinkErrorKind::AlreadyExists && mode != PutMode::Create => {
                    // An earlier attempt was carried out although it was reported as failed; or it is to be replaced.
                    if self.holds(key, &bytes).await? {
                        return Ok(());
                    }
                }
                result => return result,
            }
        }
        self.write(key, bytes, mode, object_store::PutMode::Overwrite).await
    }

    async fn write(
        &self,
        key: &ObjectKey,
        bytes: Bytes,
        mode: PutMode,
        condition: object_store::PutMode,
    ) -> Result<(), SinkError> {
        let mut attributes = Attributes::new();
        if let (Some(class), PutMode::Bulk(Placement::Cold)) = (&self.storage_class, mode) {
            attributes.insert(Attribute::StorageClass, class.clone().into());
        }
        let options = PutOptions { mode: condition, attributes, ..PutOptions::default() };
        let path = self.path(key.as_str())?;
        let put = self.store.put_opts(&path, bytes.into(), options).await;
        put.map(drop).map_err(|error| self.failed(key.as_str(), Action::Write, &error))
    }

    /// Whether the object is there with these bytes. Where that cannot be told for good, it counts as another.
    async fn holds(&self, key: &ObjectKey, bytes: &Bytes) -> Result<bool, SinkError> {
        let same = async {
            let is_as_long = self.head(key).await?.bytes == bytes.len() as u64;
            Ok(is_as_long && self.get_object(key, None).await? == *bytes)
        };
        let same: Result<bool, SinkError> = same.await;
        match same {
            Err(error) if error.kind == SinkErrorKind::Unavailable => Err(error),
            same => Ok(same.unwrap_or(false)),
        }
    }

    async fn get_object(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes, SinkError> {
        if let Some(range) = &range {
            // A range that is empty cannot be asked for, and one that no object can fill need not be.
            if range.is_empty() || i64::try_from(range.end).is_err() {
                let found = self.head(key).await?;
                let is_inside = range.end <= found.bytes && range.start <= range.end;
                return if is_inside { Ok(Bytes::new()) } else { Err(self.truncated(key)) };
            }
        }
        let failed = |error| self.failed(key.as_str(), Action::Read, &error);
        let options = GetOptions { range: range.clone().map(GetRange::Bounded), ..GetOptions::default() };
        let got = match self.store.get_opts(&self.path(key.as_str())?, options).await {
            Ok(got) => got,
            Err(error) => return Err(self.unless_beyond_the_end(key, range, failed(error)).await),
        };
        let expected = got.range.end - got.range.start;
        if range.is_some_and(|range| range != got.range) {
            return Err(self.truncated(key));
        }
        let bytes = got.bytes().await.map_err(failed)?;
        if bytes.len() as u64 == expected {
            Ok(bytes)
        } else {
            let cause = format!("{} of {expected} bytes came", bytes.len());
            Err(SinkError::new(SinkErrorKind::Unavailable, self.subject(key.as_str())).caused_by(cause))
        }
    }

    /// Servers differ in what they say of a range beyond the end; the size tells.
    async fn unless_beyond_the_end(&self, key: &ObjectKey, range: Option<Range<u64>>, error: SinkError) -> SinkError {
        let may_be = matches!(error.kind, SinkErrorKind::Truncated | SinkErrorKind::Other);
        match range {
            Some(range) if may_be && self.head(key).await.is_ok_and(|info| range.end > info.bytes) => {
                self.truncated(key)
            }
            _ => error,
        }
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, SinkError> {
        let path = self.path(key.as_str())?;
        let failed = |error| self.failed(key.as_str(), Action::Read, &error);
        match self.store.head(&path).await.map_err(failed) {
            Ok(meta) => Ok(ObjectInfo { key: key.clone(), bytes: meta.size }),
            Err(error) if matches!(error.kind, SinkErrorKind::PermissionDenied | SinkErrorKind::Other) => {
                // An answer to HEAD has no body, so no reason in it; one to GET has.
                let range = Some(GetRange::Bounded(0..1));
                let got = self.store.get_opts(&path, GetOptions { range, ..GetOptions::default() }).await;
                Err(got.map_err(failed).err().filter(|explained| explained.kind == error.kind).unwrap_or(error))
            }
            Err(error) => Err(error),
        }
    }

    /// The name of an object below the prefix that is of no repository.
    pub(crate) async fn stranger(&self) -> Result<Option<String>, SinkError> {
        let path = self.path("")?;
        let path = (!path.as_ref().is_empty()).then_some(path);
        let mut listed = self.store.list(path.as_ref());
        while let Some(found) = listed.next().await {
            let found = found.map_err(|error| self.failed("", Action::List, &error))?;
            let name = found.location.as_ref();
            let below = match self.prefix.as_str() {
                "" => Some(name),
                prefix => name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')),
            };
            if let Some(name) = below.filter(|name| !name.is_empty() && !is_of_a_repository(name)) {
                return Ok(Some(name.to_owned()));
            }
        }
        Ok(None)
    }

    fn exists(&self, key: &ObjectKey) -> SinkError {
        SinkError::new(SinkErrorKind::AlreadyExists, self.subject(key.as_str()))
    }

    fn truncated(&self, key: &ObjectKey) -> SinkError {
        SinkError::new(SinkErrorKind::Truncated, self.subject(key.as_str()))
    }

    /// What a listing of `prefix` found, if it is an object of ours.
    fn info(&self, prefix: &str, meta: &ObjectMeta) -> Option<ObjectInfo> {
        let inside = |text: &str, folder: &str| match folder {
            "" => Some(text.to_owned()),
            folder => text.strip_prefix(folder)?.strip_prefix('/').map(str::to_owned),
        };
        let key = inside(meta.location.as_ref(), &self.prefix)?;
        let below = inside(&key, prefix)?;
        let is_key = !below.is_empty() && key.split('/').all(ObjectKey::is_component);
        is_key.then(|| ObjectInfo { key: ObjectKey::new(key), bytes: meta.size })
    }
}

impl Sink for ObjectSink {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()> {
        Box::pin(self.put_object(key, bytes, mode))
    }

    fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes> {
        Box::pin(self.get_object(key, range))
    }

    fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo> {
        Box::pin(self.head(key))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        let path = match self.path(prefix) {
            Ok(path) => path,
            Err(error) => return Box::pin(futures::stream::once(ready(Err(error)))),
        };
        let path = (!path.as_ref().is_empty()).then_some(path);
        let listed = self.store.list(path.as_ref()).filter_map(move |found| {
            ready(match found {
                Ok(meta) => self.info(prefix, &meta).map(Ok),
                Err(error) => Some(Err(self.failed(prefix, Action::List, &error))),
            })
        });
        Box::pin(listed)
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(async move {
            let path = self.path(key.as_str())?;
            let deleted = match &self.deletion {
                Some(deletion) => deletion.delete(&path).await,
                None => self.store.delete(&path).await,
            };
            match deleted.map_err(|error| self.failed(key.as_str(), Action::Delete, &error)) {
                Err(error) if error.kind == SinkErrorKind::NotFound => Ok(()),
                result => result,
            }
        })
    }

    fn sync(&self) -> SinkFuture<'_, ()> {
        Box::pin(ready(Ok(())))
    }

    fn parallelism(&self) -> usize {
        crate::sinks::SERVER_PARALLELISM
    }

    fn listing_lag(&self) -> Duration {
        self.listing_lag
    }
}

#[cfg(all(test, any(feature = "s3", feature = "gcs", feature = "azure")))]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
