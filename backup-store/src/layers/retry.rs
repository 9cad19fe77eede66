//! Patience with a store that does not answer: tries again what may be tried again, and never waits without an end.
//!
//! What is always true:
//!
//! * Only [`SinkErrorKind::Unavailable`] is tried again: everything else is an answer.
//! * Reads, deletes and syncs may be repeated by their contract. A put may have been carried out although it was
//!   reported as failed, so the object is looked at before it is sent again; see [`RetrySink::is_in_place`].
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

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use backup_core::contracts::{ObjectInfo, ObjectKey, PutMode, Sink, SinkError, SinkErrorKind, SinkFuture, SinkStream};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::time::{Instant, timeout};

/// How patient a [`RetrySink`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait after the first failure; each further one is twice as long, and up to as much again is added at random
    /// so that many machines do not come back at once.
    pub wait_first: Duration,
    /// No wait is longer, unless the store asks for more.
    pub wait_max: Duration,
    /// How long a failing operation is tried again, once the store has answered anything.
    pub patience: Duration,
    /// The same until the store has answered for the first time: a place that was never there is most often misspelt.
    pub patience_at_first: Duration,
    /// What every attempt may take, whatever its size. Between two entries of a listing no more may pass either.
    pub attempt_base: Duration,
    /// A line that moves fewer bytes a second is as good as none: it sets how much longer an attempt may take.
    pub bytes_per_second_min: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            wait_first: Duration::from_millis(500),
            wait_max: Duration::from_secs(30),
            patience: Duration::from_secs(10 * 60),
            patience_at_first: Duration::from_secs(20),
            attempt_base: Duration::from_secs(60),
            bytes_per_second_min: 16 * 1024,
        }
    }
}

/// What an object of unknown size is first taken for: a pack of the usual size. If that was too little time, its size is
/// asked for.
const UNKNOWN_BYTES: u64 = 16 * 1024 * 1024;

impl RetryPolicy {
    fn attempt_time(&self, bytes: u64) -> Duration {
        self.attempt_base + Duration::from_secs(bytes / self.bytes_per_second_min.max(1))
    }

    fn waits(&self) -> ExponentialBackoff {
        ExponentialBuilder::new()
            .with_min_delay(self.wait_first)
            .with_max_delay(self.wait_max)
            .with_jitter()
            .without_max_times()
            .build()
    }
}

/// A failure that is not the end: it will be tried again.
#[derive(Debug)]
pub struct Setback<'a> {
    /// What the store said.
    pub error: &'a SinkError,
    /// How long is waited now.
    pub wait: Duration,
    /// How often this operation has failed.
    pub failures: u32,
}

/// Hears of setbacks. Called from the threads of the store's runtime: be quick.
type Watcher = dyn Fn(&Setback<'_>) + Send + Sync;

/// Tries again what a store could not do for now.
pub struct RetrySink {
    inner: Arc<dyn Sink>,
    policy: RetryPolicy,
    watcher: Box<Watcher>,
    has_answered: AtomicBool,
}

impl RetrySink {
    /// A layer around `inner`.
    pub fn new(inner: Arc<dyn Sink>, policy: RetryPolicy) -> Self {
        Self { inner, policy, watcher: Box::new(|_| {}), has_answered: AtomicBool::new(false) }
    }

    /// Tells `watcher` of every failure that is followed by a wait, so that nobody has to guess why nothing moves.
    #[must_use]
    pub fn watched_by(mut self, watcher: impl Fn(&Setback<'_>) + Send + Sync + 'static) -> Self {
        self.watcher = Box::new(watcher);
        self
    }

    /// Runs `attempt` until it has an answer or patience ends.
    async fn persist<T, F>(&self, mut attempt: impl FnMut(u32) -> F) -> Result<T, SinkError>
    where
        F: Future<Output = Result<T, SinkError>>,
    {
        let started = Instant::now();
        let mut waits = self.policy.waits();
        let mut failures = 0;
        loop {
            let error = match attempt(failures).await {
                Err(error) if error.kind == SinkErrorKind::Unavailable => error,
                answer => {
                    self.has_answered.store(true, Ordering::Relaxed);
                    return answer;
                }
            };
            failures += 1;
            let wait = waits.next().unwrap_or(self.policy.wait_max).max(error.retry_after.unwrap_or_default());
            let patience = if self.has_answered.load(Ordering::Relaxed) {
                self.policy.patience
            } else {
                self.policy.patience_at_first
            };
            if started.elapsed() + wait > patience {
                return Err(error);
            }
            (self.watcher)(&Setback { error: &error, wait, failures });
            tokio::time::sleep(wait).await;
        }
    }

    /// One attempt, which may take as long as moving `bytes` can take.
    async fn bounded<T>(
        &self,
        subject: &str,
        bytes: u64,
        work: impl Future<Output = Result<T, SinkError>>,
    ) -> Result<T, SinkError> {
        let time = self.policy.attempt_time(bytes);
        timeout(time, work).await.unwrap_or_else(|_| Err(timed_out(subject, time)))
    }

    async fn put_patiently(&self, key: &ObjectKey, bytes: Bytes, mode: PutMode) -> Result<(), SinkError> {
        let size = bytes.len() as u64;
        let attempt = |failures| {
            let bytes = bytes.clone();
            async move {
                if failures > 0 && self.is_in_place(key, &bytes, mode).await? {
                    return Ok(());
                }
                let put = self.bounded(key.as_str(), size, self.inner.put(key, bytes.clone(), mode)).await;
                match put {
                    // The attempt before may have come to its end only now.
                    Err(error) if error.kind == SinkErrorKind::AlreadyExists && failures > 0 => {
                        if self.is_in_place(key, &bytes, mode).await? { Ok(()) } else { Err(error) }
                    }
                    put => put,
                }
            }
        };
        self.persist(attempt).await
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
        self.persist(attempt).await
    }

    async fn list_once(&self, prefix: &str) -> Result<Vec<ObjectInfo>, SinkError> {
        let mut entries = self.inner.list(prefix);
        let mut listed = Vec::new();
        while let Some(entry) = self.bounded(prefix, 0, async { entries.next().await.transpose() }).await? {
            listed.push(entry);
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
        Box::pin(self.persist(|_| self.bounded(key.as_str(), 0, self.inner.stat(key))))
    }

    /// A listing that breaks off is begun again, so its entries come when it is complete: what has come once must not
    /// come twice.
    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        stream::once(async move {
            let listed = self.persist(|_| self.list_once(prefix)).await?;
            Ok::<_, SinkError>(stream::iter(listed.into_iter().map(Ok)))
        })
        .try_flatten()
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(self.persist(|_| self.bounded(key.as_str(), 0, self.inner.delete(key))))
    }

    /// Bounded like all else, but by what may wait to become durable: a few packs.
    fn sync(&self) -> SinkFuture<'_, ()> {
        Box::pin(self.persist(|_| self.bounded("sync", UNKNOWN_BYTES, self.inner.sync())))
    }

    fn parallelism(&self) -> usize {
        self.inner.parallelism()
    }
}

impl fmt::Debug for RetrySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inner, policy, .. } = self;
        f.debug_struct("RetrySink").field("inner", inner).field("policy", policy).finish_non_exhaustive()
    }
}

fn timed_out(subject: &str, time: Duration) -> SinkError {
    SinkError::new(SinkErrorKind::Unavailable, subject).caused_by(format!("no answer within {} s", time.as_secs()))
}

#[cfg(test)]
mod tests;
