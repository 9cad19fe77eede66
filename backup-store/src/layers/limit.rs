//! Bandwidth and requests kept below a bound, upload and download apart.
//!
//! What is always true: over any stretch of time no more bytes were moved than the rate allows, but for the requests
//! that are under way, and for small objects, which never wait: a lock must not go stale behind packs. A request is never cut into pieces, so a pack leaves at the line's speed and the pause comes after
//! it: what is bounded is the average over a few packs.
//!
//! The binary puts it between the engine and [`RetrySink`](super::RetrySink), so that waiting here is nobody's time-out.
//! It holds nothing that a crash could lose.

#![deny(clippy::missing_trait_methods)]

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backup_core::contracts::{ObjectInfo, ObjectKey, PutMode, Sink, SinkError, SinkErrorKind, SinkFuture, SinkStream};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// What a [`LimitSink`] bounds; `None` is no bound. Sinks that share a [`Pace`] share its bytes.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// What is sent.
    pub upload: Option<Arc<Pace>>,
    /// What is fetched.
    pub download: Option<Arc<Pace>>,
    /// Requests under way at once.
    pub requests_max: Option<NonZeroU64>,
}

impl Limits {
    /// Whether nothing is bounded.
    pub fn is_none(&self) -> bool {
        self.upload.is_none() && self.download.is_none() && self.requests_max.is_none()
    }
}

/// Makes others wait so that limits are kept.
#[derive(Debug)]
pub struct LimitSink {
    inner: Arc<dyn Sink>,
    upload: Option<Arc<Pace>>,
    download: Option<Arc<Pace>>,
    requests: Option<Semaphore>,
    requests_max: usize,
}

impl LimitSink {
    /// A layer around `inner`.
    pub fn new(inner: Arc<dyn Sink>, limits: Limits) -> Self {
        let most = |most: NonZeroU64| usize::try_from(most.get()).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let requests_max = limits.requests_max.map_or(usize::MAX, most);
        let requests = limits.requests_max.map(|_| Semaphore::new(requests_max));
        let Limits { upload, download, .. } = limits;
        Self { inner, upload, download, requests, requests_max }
    }

    async fn permit(&self) -> Result<Option<SemaphorePermit<'_>>, SinkError> {
        let Some(requests) = &self.requests else { return Ok(None) };
        // It is never closed.
        let closed = |error| SinkError::new(SinkErrorKind::Other, self.location()).caused_by(error);
        requests.acquire().await.map(Some).map_err(closed)
    }

    async fn admitted<T>(&self, work: SinkFuture<'_, T>) -> Result<T, SinkError> {
        let _permit = self.permit().await?;
        work.await
    }
}

/// A rate, and when the next byte may go.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: NonZeroU64,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// A rate of so many bytes a second, none of which was used yet.
    pub fn new(bytes_per_second: NonZeroU64) -> Self {
        Self { bytes_per_second, next: Mutex::new(None) }
    }

    /// Takes the next free stretch of time that `bytes` fill, and waits until it begins.
    async fn take(&self, bytes: u64) {
        tokio::time::sleep_until(self.book(bytes)).await;
    }

    /// Takes the next free stretch of time that `bytes` fill, and says when it begins.
    /// For what goes without waiting, so that others wait for it.
    pub fn book(&self, bytes: u64) -> Instant {
        let rate = self.bytes_per_second.get();
        let stretch = Duration::from_secs(bytes / rate) + Duration::from_nanos(bytes % rate * 1_000_000_000 / rate);
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = next.map_or(now, |next| next.max(now));
        // What lies beyond all clocks is never.
        *next = begin.checked_add(stretch).or(*next);
        begin
    }
}

impl Sink for LimitSink {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()> {
        Box::pin(async move {
            if let Some(pace) = &self.upload {
                let bytes = bytes.len() as u64;
                match mode {
                    PutMode::Bulk(_) => pace.take(bytes).await,
                    // Small, and somebody may depend on it: a lock that waits for its turn behind packs goes stale.
                    PutMode::Create | PutMode::Overwrite => drop(pace.book(bytes)),
                }
            }
            let _permit = self.permit().await?;
            self.inner.put(key, bytes, mode).await
        })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes> {
        Box::pin(async move {
            if let Some(pace) = &self.download {
                pace.take(0).await;
            }
            let _permit = self.permit().await?;
            let content = self.inner.get(key, range).await?;
            // Only now is known how much it is. The next one waits for it.
            if let Some(pace) = &self.download {
                pace.book(content.len() as u64);
            }
            Ok(content)
        })
    }

    fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo> {
        Box::pin(self.admitted(self.inner.stat(key)))
    }

    /// Holds its permit until the last entry was taken.
    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        stream::once(async move {
            let permit = self.permit().await?;
            Ok::<_, SinkError>(self.inner.list(prefix).inspect_ok(move |_| {
                let _held = &permit;
            }))
        })
        .try_flatten()
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(self.admitted(self.inner.delete(key)))
    }

    fn sync(&self) -> SinkFuture<'_, ()> {
        Box::pin(self.admitted(self.inner.sync()))
    }

    fn parallelism(&self) -> usize {
        self.inner.parallelism().min(self.requests_max)
    }

    fn listing_lag(&self) -> Duration {
        self.inner.listing_lag()
    }

    fn bring_near<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        self.inner.bring_near(key)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use backup_core::contracts::Placement;
    use backup_core::testing::{MemorySink, RecordingSink, sink_suite};
    use futures::future;

    use super::*;
    use crate::sinks::LocalSink;

    const PACK: PutMode = PutMode::Bulk(Placement::Cold);

    fn limits(upload: u64, download: u64, requests: u64) -> Limits {
        let pace = |rate| NonZeroU64::new(rate).map(|rate| Arc::new(Pace::new(rate)));
        Limits { upload: pace(upload), download: pace(download), requests_max: NonZeroU64::new(requests) }
    }

    fn key(name: u32) -> ObjectKey {
        ObjectKey::new(format!("data/{name}"))
    }

    fn without_waiting<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(work)
    }

    #[test]
    fn the_layer_keeps_the_contract() {
        sink_suite(|| Arc::new(LimitSink::new(Arc::new(MemorySink::new()), limits(1 << 40, 1 << 40, 2))));
        let scratch = tempfile::tempdir().unwrap();
        let number = AtomicU32::new(0);
        sink_suite(|| {
            let folder = scratch.path().join(number.fetch_add(1, Ordering::Relaxed).to_string());
            Arc::new(LimitSink::new(Arc::new(LocalSink::create(folder).unwrap()), Limits::default()))
        });
    }

    #[test]
    fn ten_puts_of_a_second_each_begin_within_nine_seconds_and_not_sooner() {
        let sink = LimitSink::new(Arc::new(MemorySink::new()), limits(1_000, 0, 0));
        without_waiting(async {
            let started = Instant::now();
            let puts = (0..10).map(|number| {
                let sink = &sink;
                async move { sink.put(&key(number), vec![0; 1_000].into(), PACK).await }
            });
            future::try_join_all(puts).await.unwrap();
            assert_eq!(started.elapsed().as_secs(), 9);
        });
    }

    #[test]
    fn two_stores_that_share_a_pace_share_its_bytes() {
        let limits = limits(1_000, 0, 0);
        let sinks = [0, 1].map(|_| LimitSink::new(Arc::new(MemorySink::new()), limits.clone()));
        without_waiting(async {
            let started = Instant::now();
            let puts = (0..10).map(|number| {
                let sink = &sinks[number as usize % 2];
                async move { sink.put(&key(number), vec![0; 1_000].into(), PACK).await }
            });
            future::try_join_all(puts).await.unwrap();
            assert_eq!(started.elapsed().as_secs(), 9);
        });
    }

    #[test]
    fn a_lock_does_not_wait_behind_packs_but_they_wait_for_its_bytes() {
        let sink = LimitSink::new(Arc::new(MemorySink::new()), limits(1_000, 0, 0));
        without_waiting(async {
            let started = Instant::now();
            sink.put(&key(0), vec![0; 60_000].into(), PACK).await.unwrap();
            sink.put(&key(1), vec![0; 1_000].into(), PutMode::Overwrite).await.unwrap();
            assert_eq!(started.elapsed().as_secs(), 0);
            sink.put(&key(2), vec![0; 1].into(), PACK).await.unwrap();
            assert_eq!(started.elapsed().as_secs(), 61);
        });
    }

    #[test]
    fn upload_does_not_wait_for_download_nor_the_other_way_round() {
        let store = MemorySink::from_iter([(key(0), vec![0; 1_000].into())]);
        let sink = LimitSink::new(Arc::new(store), limits(1_000, 100, 0));
        without_waiting(async {
            let started = Instant::now();
            sink.get(&key(0), None).await.unwrap();
            sink.put(&key(1), vec![0; 5_000].into(), PACK).await.unwrap();
            assert_eq!(started.elapsed().as_secs(), 0, "both begin at once");
            sink.get(&key(0), Some(0..1)).await.unwrap();
            assert_eq!(started.elapsed().as_secs(), 10, "a thousand bytes at a hundred a second");
            sink.put(&key(2), vec![0; 1].into(), PACK).await.unwrap();
            assert_eq!(started.elapsed().as_secs(), 10, "five thousand at a thousand are long over");
        });
    }

    #[test]
    fn no_more_requests_run_at_once_than_are_allowed() {
        let recorder = Arc::new(RecordingSink::new(Arc::new(Slow(MemorySink::new()))));
        let sink = LimitSink::new(recorder.clone(), limits(0, 0, 3));
        without_waiting(async {
            let started = Instant::now();
            future::join_all((0..12).map(|number| {
                let sink = &sink;
                async move { sink.stat(&key(number)).await.is_ok() }
            }))
            .await;
            assert_eq!(started.elapsed().as_secs(), 4, "twelve requests of a second, three at a time");
        });
        let spans: Vec<_> = recorder.records().iter().map(|record| (record.began, record.ended.unwrap())).collect();
        let most = spans.iter().map(|(at, _)| spans.iter().filter(|(began, ended)| began <= at && at < ended).count());
        assert_eq!(most.max(), Some(3));
    }

    /// Needs a second to say how large an object is.
    #[derive(Debug)]
    struct Slow(MemorySink);

    impl Sink for Slow {
        fn location(&self) -> String {
            self.0.location()
        }

        fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()> {
            self.0.put(key, bytes, mode)
        }

        fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes> {
            self.0.get(key, range)
        }

        fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo> {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.0.stat(key).await
            })
        }

        fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
            self.0.list(prefix)
        }

        fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
            self.0.delete(key)
        }

        fn sync(&self) -> SinkFuture<'_, ()> {
            self.0.sync()
        }

        fn parallelism(&self) -> usize {
            self.0.parallelism()
        }

        fn listing_lag(&self) -> Duration {
            self.0.listing_lag()
        }

        fn bring_near<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
            self.0.bring_near(key)
        }
    }
}
