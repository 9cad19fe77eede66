//! A place beside the store for what it does not keep: our own objects below `ext/`, which a REST server of restic
//! refuses.
//!
//! What is always true: the store is asked first, and only what it calls [`SinkErrorKind::Unsupported`] goes aside. What
//! lies aside is known on this machine alone; without it a verb knows less, and retention removes less, never more.
//!
//! The binary puts it outermost and says where the place is. A crash leaves what it leaves of either.

#![deny(clippy::missing_trait_methods)]

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use backup_core::contracts::{ObjectInfo, ObjectKey, PutMode, Sink, SinkError, SinkErrorKind, SinkFuture, SinkStream};
use bytes::Bytes;
use futures::future;
use futures::stream::StreamExt;

/// The folder of our own objects.
const OURS: &str = "ext";

/// Keeps aside what the store does not keep.
#[derive(Debug)]
pub struct AsideSink {
    inner: Arc<dyn Sink>,
    aside: Arc<dyn Sink>,
}

impl AsideSink {
    /// A layer around `inner` with `aside` as the other place.
    pub fn new(inner: Arc<dyn Sink>, aside: Arc<dyn Sink>) -> Self {
        Self { inner, aside }
    }

    /// Asks the store, and the other place when the object may lie there and the store has nothing.
    async fn ask<'a, T>(
        &'a self,
        key: &'a ObjectKey,
        question: impl Fn(&'a dyn Sink) -> SinkFuture<'a, T>,
    ) -> Result<T, SinkError> {
        match question(&*self.inner).await {
            Err(error) if error.kind == SinkErrorKind::NotFound && is_ours(key.as_str()) => {
                question(&*self.aside).await
            }
            answer => answer,
        }
    }
}

fn is_ours(name: &str) -> bool {
    name.strip_prefix(OURS).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Sink for AsideSink {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()> {
        Box::pin(async move {
            match self.inner.put(key, bytes.clone(), mode).await {
                Err(error) if error.kind == SinkErrorKind::Unsupported && is_ours(key.as_str()) => {
                    self.aside.put(key, bytes, mode).await
                }
                answer => answer,
            }
        })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes> {
        Box::pin(self.ask(key, move |sink| sink.get(key, range.clone())))
    }

    fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo> {
        Box::pin(self.ask(key, move |sink| sink.stat(key)))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        let listed = self.inner.list(prefix);
        if prefix.is_empty() || is_ours(prefix) { listed.chain(self.aside.list(prefix)).boxed() } else { listed }
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(async move {
            self.inner.delete(key).await?;
            if is_ours(key.as_str()) { self.aside.delete(key).await } else { Ok(()) }
        })
    }

    fn sync(&self) -> SinkFuture<'_, ()> {
        Box::pin(async move { future::try_join(self.inner.sync(), self.aside.sync()).await.map(|_| ()) })
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use backup_core::testing::{Call, Fault, FaultySink, MemorySink, Verb, sink_suite};
    use futures::TryStreamExt as _;

    use super::*;
    use crate::sinks::LocalSink;

    /// A store that takes nothing below `ext/`.
    fn picky(store: Arc<MemorySink>) -> Arc<dyn Sink> {
        let is_ours = |call: &Call| call.verb() == Verb::Put && call.is_below("ext");
        Arc::new(FaultySink::new(store).when(is_ours, Fault::Failed(SinkErrorKind::Unsupported)))
    }

    #[test]
    fn the_layer_keeps_the_contract() {
        sink_suite(|| Arc::new(AsideSink::new(Arc::new(MemorySink::new()), Arc::new(MemorySink::new()))));
        let scratch = tempfile::tempdir().unwrap();
        let number = AtomicU32::new(0);
        sink_suite(|| {
            let folder = scratch.path().join(number.fetch_add(1, Ordering::Relaxed).to_string());
            Arc::new(AsideSink::new(picky(Arc::default()), Arc::new(LocalSink::create(folder).unwrap())))
        });
    }

    #[test]
    fn what_the_store_refuses_goes_aside_and_nothing_else() {
        let (store, aside) = (Arc::new(MemorySink::new()), Arc::new(MemorySink::new()));
        let sink = AsideSink::new(picky(store.clone()), aside.clone());
        let (record, snapshot) = (ObjectKey::new("ext/records/a"), ObjectKey::new("snapshots/a"));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            sink.put(&record, "r".into(), PutMode::Overwrite).await.unwrap();
            sink.put(&snapshot, "s".into(), PutMode::Overwrite).await.unwrap();
            assert_eq!(sink.get(&record, None).await.unwrap(), "r");
            assert_eq!(sink.list("ext/records").try_collect::<Vec<_>>().await.unwrap().len(), 1);
            assert_eq!(sink.list("").try_collect::<Vec<_>>().await.unwrap().len(), 2);
        });
        assert_eq!(store.objects().into_keys().collect::<Vec<_>>(), [snapshot]);
        assert_eq!(aside.objects().into_keys().collect::<Vec<_>>(), [record]);
    }

    #[test]
    fn a_store_that_takes_everything_keeps_everything() {
        let (store, aside) = (Arc::new(MemorySink::new()), Arc::new(MemorySink::new()));
        let sink = AsideSink::new(store.clone(), aside.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(sink.put(&ObjectKey::new("ext/records/a"), "r".into(), PutMode::Create)).unwrap();
        assert_eq!((store.objects().len(), aside.objects().len()), (1, 0));
    }
}
