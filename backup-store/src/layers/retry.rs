//! [`Patience`] with a store that does not answer: tries again what may be tried again, and never waits without an end.
//!
//! What is always true:
//!
//! * Reads, deletes and syncs may be repeated by their contract. A put may have been carried out although it was
//!   reported as failed, so the object is looked at before it is sent again; see [`RetrySink::is_in_place`]. Where the
//!   store says that something else has arrived, it is sent again without a look.
//! * Each attempt has a time-out that grows with the bytes it moves, and all attempts together have one too: no
//!   operation hangs.
//!
//! The binary puts it around every store that is a network. A process that ends in the middle of an attempt leaves what
//! the attempt would have left. Why the numbers are what they are: `docs/decisions/network.md`.

#![deny(clippy::missing_trait_methods)]

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backup_core::cancel::Cancel;
use backup_core::contracts::{ObjectInfo, ObjectKey, PutMode, Sink, SinkError, SinkErrorKind, SinkFuture, SinkStream};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::time::timeout;

use super::patience::{Patience, RetryPolicy, Setback};

/// What an object of unknown size is first taken for: a pack of the usual size. If that was too little time, its size is
/// asked for.
const UNKNOWN_BYTES: u64 = 16 * 1024 * 1024;

/// Tries again what a store could not do for now.
pub struct RetrySink {
    inner: Arc<dyn Sink>,
    patience: Patience,
}

impl RetrySink {
    /// A layer around `inner`.
    pub fn new(inner: Arc<dyn Sink>, policy: RetryPolicy) -> Self {
        Self { inner, patience: Patience::new(policy) }
    }

    /// Tells `watcher` of every failure that is followed by a wait, so that nobody has to guess why nothing moves.
    #[must_use]
    pub fn watched_by(self, watcher: impl Fn(&Setback<'_>) + Send + Sync + 'static) -> Self {
        Self { patience: self.patience.watched_by(watcher), ..self }
    }

    /// Lets `cancel` end what waits for a store that has not answered yet; see [`Patience::stopped_by`].
    #[must_use]
    pub fn stopped_by(self, cancel: Cancel) -> Self {
        Self { patience: self.patience.stopped_by(cancel), ..self }
    }

    /// One attempt, which may take as long as moving `bytes` can take.
    async fn bounded<T>(
        &self,
        subject: &str,
        bytes: u64,
        work: impl Future<Output = Result<T, SinkError>>,
    ) -> Result<T, SinkError> {
        in_time(subject, self.patience.policy().attempt_time(bytes), work).await
    }

    async fn put_patiently(&self, key: &ObjectKey, bytes: Bytes, mode: PutMode) -> Result<(), SinkError> {
        let size = bytes.len() as u64;
        // Once something else has arrived under the name, no look by size tells anything, and what is there is ours.
        let is_garbled = AtomicBool::new(false);
        let attempt = |failures| {
            let (bytes, is_garbled) = (bytes.clone(), &is_garbled);
            async move {
                let was_garbled = is_garbled.load(Ordering::Relaxed);
                if failures > 0 && !was_garbled && self.is_in_place(key, &bytes, mode).await? {
                    return Ok(());
                }
                let mode = if was_garbled && mode == PutMode::Create { PutMode::Overwrite } else { mode };
                let put = self.bounded(key.as_str(), size, self.inner.put(key, bytes.clone(), mode)).await;
                match put {
                    // The attempt before may have come to its end only now.
                    Err(error) if error.kind == SinkErrorKind::AlreadyExists && failures > 0 => {
                        if self.is_in_place(key, &bytes, mode).await? { Ok(()) } else { Err(error) }
                    }
                    Err(error) if error.kind == SinkErrorKind::Garbled => {
                        is_garbled.store(true, Ordering::Relaxed);
                        Err(error)
                    }
                    put => put,
                }
            }
        };
        self.patience.persist(size, attempt).await
    }

    /// Whether an earlier attempt has put the object there after all.
    ///
    /// A large object is known by its size: its name is the hash of its content, and an object appears whole or not at
    /// all. Others are small and read again, because a config keeps its name and its size when it changes.
    async fn is_in_place(&self, key: &ObjectKey, bytes: &Bytes, mode: PutMode) -> Result<bool, SinkError> {
        let size = bytes.len() as u64;
        let there = match self.bounded(key.as_str(), 0, self.inner.stat(key)).await {
            Ok(info) => info.bytes == size,
            Err(error) if error.kind == SinkErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !there || matches!(mode, PutMode::Bulk(_)) {
            return Ok(there);
        }
        match self.bounded(key.as_str(), size, self.inner.get(key, None)).await {
            Ok(found) => Ok(found == bytes),
            Err(error) if error.kind == SinkErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn get_patiently(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes, SinkError> {
        let attempt = |failures| {
            let range = range.clone();
            async move {
                let size = match &range {
                    Some(range) => range.end.saturating_sub(range.start).min(UNKNOWN_BYTES * 16),
                    None if failures == 0 => UNKNOWN_BYTES,
                    None => self.bounded(key.as_str(), 0, self.inner.stat(key)).await?.bytes,
                };
                self.bounded(key.as_str(), size, self.inner.get(key, range)).await
            }
        };
        self.patience.persist(0, attempt).await
    }

    async fn list_once(&self, prefix: &str) -> Result<Vec<ObjectInfo>, SinkError> {
        let mut entries = self.inner.list(prefix);
        let mut listed = Vec::new();
        let policy = self.patience.policy();
        let mut longest = policy.attempt_base.max(policy.listing_begins);
        while let Some(entry) = in_time(prefix, longest, async { entries.next().await.transpose() }).await? {
            listed.push(entry);
            longest = policy.attempt_base;
        }
        Ok(listed)
    }
}

impl Sink for RetrySink {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()> {
        Box::pin(self.put_patiently(key, bytes, mode))
    }

    fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes> {
        Box::pin(self.get_patiently(key, range))
    }

    fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo> {
        Box::pin(self.patience.persist(0, |_| self.bounded(key.as_str(), 0, self.inner.stat(key))))
    }

    /// A listing that breaks off is begun again, so its entries come when it is complete: what has come once must not
    /// come twice.
    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        stream::once(async move {
            // What a server never keeps, as a REST server our records, is listed as nothing without asking it.
            let is_evidence = |listed: &Vec<_>| !listed.is_empty();
            let listed = self.patience.persist_until(0, |_| self.list_once(prefix), is_evidence).await?;
            Ok::<_, SinkError>(stream::iter(listed.into_iter().map(Ok)))
        })
        .try_flatten()
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(self.patience.persist(0, |_| self.bounded(key.as_str(), 0, self.inner.delete(key))))
    }

    /// Bounded like all else, but by what may wait to become durable: a few packs.
    fn sync(&self) -> SinkFuture<'_, ()> {
        Box::pin(self.patience.persist(0, |_| self.bounded("sync", UNKNOWN_BYTES, self.inner.sync())))
    }

    fn parallelism(&self) -> usize {
        self.inner.parallelism()
    }

    fn listing_lag(&self) -> Duration {
        self.inner.listing_lag()
    }

    fn bring_near<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        self.inner.bring_near(key)
    }
}

impl fmt::Debug for RetrySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inner, patience } = self;
        f.debug_struct("RetrySink").field("inner", inner).field("patience", patience).finish()
    }
}

async fn in_time<T>(
    subject: &str,
    longest: Duration,
    work: impl Future<Output = Result<T, SinkError>>,
) -> Result<T, SinkError> {
    let timed_out = |_| {
        let cause = format!("no answer within {} s", longest.as_secs());
        Err(SinkError::new(SinkErrorKind::Unavailable, subject).caused_by(cause))
    };
    timeout(longest, work).await.unwrap_or_else(timed_out)
}

#[cfg(test)]
mod tests;
