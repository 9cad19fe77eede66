//! One store made of two: a cold one, slow and cheap to keep, and a hot one for all that is looked at often.
//!
//! What is always true:
//!
//! * An object lies in one of the two. Content of files goes to the cold one ([`Placement::Cold`]); trees, indexes,
//!   snapshots, keys and locks to the hot one. So everything but restoring and checking content works without what is
//!   archived being read.
//! * The config lies in the cold one, which is never archived by us. So neither of the two is a repository by itself: to
//!   every program the hot one has no config and the cold one no key, and nobody takes the half that is there for the
//!   whole, and removes from its index what lies in the other. Put into one place, the two are a repository again.
//! * Nothing but the config and what is below `data/` is ever looked for in the cold one.
//! * What the cold one answers is passed on as it is: [`SinkErrorKind::Frozen`] where it must be thawed first.
//!
//! A crash between the two leaves what a crash of one leaves: each operation that changes something changes one object,
//! but for a delete, which both can repeat.

#![deny(clippy::missing_trait_methods)]

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backup_core::contracts::{
    ObjectInfo, ObjectKey, Placement, PutMode, Sink, SinkError, SinkErrorKind, SinkFuture, SinkStream,
};
use backup_core::repository::layout::{self, DATA};
use bytes::Bytes;
use futures::future;
use futures::stream::{self, StreamExt};

/// Objects that are remembered to lie in the cold store, so that the hot one is asked once for each: about 10 MB.
const REMEMBERED_MAX: usize = 65_536;

/// A hot and a cold store as one.
#[derive(Debug)]
pub struct HotColdSink {
    hot: Arc<dyn Sink>,
    cold: Arc<dyn Sink>,
    in_cold: Mutex<HashSet<ObjectKey>>,
}

impl HotColdSink {
    /// The two as one.
    pub fn new(hot: Arc<dyn Sink>, cold: Arc<dyn Sink>) -> Self {
        Self { hot, cold, in_cold: Mutex::default() }
    }

    fn is_remembered(&self, key: &ObjectKey) -> bool {
        self.in_cold.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    fn remember(&self, key: &ObjectKey) {
        let mut remembered = self.in_cold.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(key.clone());
    }

    fn forget(&self, key: &ObjectKey) {
        self.in_cold.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// The config, where there is one, as a listing.
    fn config(&self) -> SinkStream<'_> {
        stream::once(async move { self.cold.stat(&layout::config()).await })
            .filter_map(|answer| {
                let is_there = !matches!(&answer, Err(error) if error.kind == SinkErrorKind::NotFound);
                future::ready(is_there.then_some(answer))
            })
            .boxed()
    }

    /// Asks the hot store and, for what may lie there, the cold one.
    async fn ask<'a, T>(
        &'a self,
        key: &'a ObjectKey,
        question: impl Fn(&'a dyn Sink) -> SinkFuture<'a, T>,
    ) -> Result<T, SinkError> {
        if !self.is_remembered(key) && !is_config(key) {
            match question(&*self.hot).await {
                Err(error) if error.kind == SinkErrorKind::NotFound && may_be_cold(key) => {}
                answer => return answer,
            }
        }
        let answer = question(&*self.cold).await;
        match &answer {
            Err(error) if error.kind == SinkErrorKind::NotFound => self.forget(key),
            _ if is_config(key) => {}
            _ => self.remember(key),
        }
        answer
    }
}

fn is_config(key: &ObjectKey) -> bool {
    *key == layout::config()
}

fn may_be_cold(key: &ObjectKey) -> bool {
    key.as_str().strip_prefix(DATA).is_some_and(|rest| rest.starts_with('/'))
}

impl Sink for HotColdSink {
    fn location(&self) -> String {
        format!("{} with {}", self.hot.location(), self.cold.location())
    }

    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()> {
        let is_cold = is_config(key) || (mode == PutMode::Bulk(Placement::Cold) && may_be_cold(key));
        if is_cold { self.cold.put(key, bytes, mode) } else { self.hot.put(key, bytes, mode) }
    }

    fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes> {
        Box::pin(self.ask(key, move |sink| sink.get(key, range.clone())))
    }

    fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo> {
        Box::pin(self.ask(key, move |sink| sink.stat(key)))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        let hot = self.hot.list(prefix);
        let is_below_data = prefix.strip_prefix(DATA).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        match prefix {
            // In the cold store there is nothing else, unless somebody else uses it too.
            "" => hot.chain(self.cold.list(DATA)).chain(self.config()).boxed(),
            _ if is_below_data => hot.chain(self.cold.list(prefix)).boxed(),
            _ => hot,
        }
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(async move {
            if !is_config(key) {
                self.hot.delete(key).await?;
            }
            if is_config(key) || may_be_cold(key) {
                self.cold.delete(key).await?;
                self.forget(key);
            }
            Ok(())
        })
    }

    fn sync(&self) -> SinkFuture<'_, ()> {
        Box::pin(async move { future::try_join(self.hot.sync(), self.cold.sync()).await.map(|_| ()) })
    }

    fn parallelism(&self) -> usize {
        self.cold.parallelism()
    }

    fn listing_lag(&self) -> Duration {
        self.hot.listing_lag().max(self.cold.listing_lag())
    }

    fn bring_near<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(self.ask(key, move |sink| sink.bring_near(key)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use backup_core::testing::{Fault, FaultySink, MemorySink, RecordingSink, Verb, sink_suite};
    use futures::TryStreamExt as _;

    use super::*;
    use crate::sinks::LocalSink;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    fn recorder() -> Arc<RecordingSink> {
        Arc::new(RecordingSink::new(Arc::new(MemorySink::new())))
    }

    fn key(name: &'static str) -> ObjectKey {
        ObjectKey::new(name)
    }

    #[test]
    fn the_layer_keeps_the_contract() {
        sink_suite(|| Arc::new(HotColdSink::new(Arc::new(MemorySink::new()), Arc::new(MemorySink::new()))));
        let scratch = tempfile::tempdir().unwrap();
        let number = AtomicU32::new(0);
        sink_suite(|| {
            let folder = scratch.path().join(number.fetch_add(1, Ordering::Relaxed).to_string());
            let open = |name| -> Arc<dyn Sink> { Arc::new(LocalSink::create(folder.join(name)).unwrap()) };
            Arc::new(HotColdSink::new(open("hot"), open("cold")))
        });
    }

    #[test]
    fn content_of_files_goes_to_the_cold_store_and_all_else_to_the_hot_one() {
        let (hot, cold) = (Arc::new(MemorySink::new()), Arc::new(MemorySink::new()));
        let sink = HotColdSink::new(hot.clone(), cold.clone());
        block_on(async {
            sink.put(&key("data/aa/content"), "c".into(), PutMode::Bulk(Placement::Cold)).await.unwrap();
            sink.put(&key("data/bb/trees"), "t".into(), PutMode::Bulk(Placement::Hot)).await.unwrap();
            for name in ["index/a", "snapshots/a", "config", "locks/a"] {
                sink.put(&key(name), "x".into(), PutMode::Overwrite).await.unwrap();
            }
            let all: Vec<_> = sink.list("").try_collect().await.unwrap();
            assert_eq!(all.len(), 6);
            let packs: Vec<_> = sink.list("data").try_collect().await.unwrap();
            assert_eq!(packs.len(), 2);
            assert_eq!(sink.get(&key("data/aa/content"), None).await.unwrap(), "c");
        });
        assert_eq!(cold.objects().into_keys().collect::<Vec<_>>(), [key("config"), key("data/aa/content")]);
        assert_eq!(hot.objects().len(), 4);
    }

    #[test]
    fn looking_at_snapshots_never_asks_the_cold_store_and_a_cold_pack_is_looked_for_once() {
        let (hot, cold) = (recorder(), recorder());
        let sink = HotColdSink::new(hot.clone(), cold.clone());
        block_on(async {
            sink.put(&key("data/aa/content"), "content".into(), PutMode::Bulk(Placement::Cold)).await.unwrap();
            sink.put(&key("data/bb/trees"), "trees".into(), PutMode::Bulk(Placement::Hot)).await.unwrap();
            cold.clear();
            for name in ["index", "snapshots", "keys", "locks"] {
                assert!(sink.list(name).try_collect::<Vec<_>>().await.unwrap().is_empty());
            }
            assert_eq!(sink.get(&key("data/bb/trees"), Some(0..2)).await.unwrap(), "tr");
            assert!(cold.records().is_empty(), "{:?}", cold.records());
            hot.clear();
            for _ in 0..3 {
                assert_eq!(sink.get(&key("data/aa/content"), Some(0..2)).await.unwrap(), "co");
            }
            assert_eq!((hot.count(Verb::Get, ""), cold.count(Verb::Get, "")), (1, 3));
        });
    }

    #[test]
    fn what_must_be_thawed_is_said_to_be_frozen() {
        let cold = MemorySink::from_iter([(key("data/aa/content"), "c".into())]);
        let cold = FaultySink::new(Arc::new(cold)).when(|_| true, Fault::Failed(SinkErrorKind::Frozen));
        let sink = HotColdSink::new(Arc::new(MemorySink::new()), Arc::new(cold));
        let error = block_on(sink.get(&key("data/aa/content"), None)).unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::Frozen);
        let hint = backup_core::Error::from(error).hint().map(str::to_owned);
        assert!(hint.is_some_and(|hint| hint.contains("thaw")));
    }

    #[test]
    fn a_deleted_object_is_gone_from_both() {
        let (hot, cold) = (MemorySink::new(), MemorySink::new());
        hot.replace(key("data/aa/x"), "x");
        cold.replace(key("data/aa/x"), "x");
        let sink = HotColdSink::new(Arc::new(hot), Arc::new(cold));
        block_on(async {
            sink.delete(&key("data/aa/x")).await.unwrap();
            assert_eq!(sink.stat(&key("data/aa/x")).await.unwrap_err().kind, SinkErrorKind::NotFound);
        });
    }
}
