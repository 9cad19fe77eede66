//! Work for a store behind a proxy that spoils requests: many operations at once, and what must be there afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backup_core::contracts::{ObjectKey, Placement, PutMode, Sink, SinkErrorKind};
use backup_core::model::Id;
use backup_store::layers::{RetryPolicy, RetrySink};
use bytes::Bytes;
use futures::future;
use futures::stream::TryStreamExt;

use crate::proxy::{Fault, Proxy};

/// Stalls are noticed soon, and a test is over soon.
pub(crate) fn brisk() -> RetryPolicy {
    RetryPolicy {
        wait_first: Duration::from_millis(2),
        wait_max: Duration::from_millis(100),
        patience: Duration::from_secs(120),
        patience_at_first: Duration::from_secs(120),
        attempt_base: Duration::from_millis(1_500),
        listing_begins: Duration::from_millis(1_500),
        bytes_per_second_min: 64 * 1024 * 1024,
    }
}

pub(crate) fn every_fault() -> Vec<Fault> {
    vec![
        Fault::Latency(Duration::from_millis(50)),
        Fault::Slow(200_000),
        Fault::Reset,
        Fault::DoneThenReset,
        Fault::Status(500, None),
        Fault::Status(503, None),
        Fault::Status(503, Some(0)),
        Fault::Status(429, Some(1)),
        Fault::DoneButStatus(500),
        Fault::DoneButStatus(504),
        Fault::HalfAnUpload,
        Fault::FlippedBit,
        Fault::HalfAnAnswer,
        Fault::Stall,
        Fault::StaleListing,
    ]
}

pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

/// Puts, reads, lists and deletes objects named by `worker` and a number; what must be there afterwards.
async fn work(sink: Arc<dyn Sink>, worker: u32, operations: u32) -> BTreeMap<ObjectKey, Bytes> {
    let mut expected = BTreeMap::new();
    for number in 0..operations {
        let content = Bytes::from(format!("{worker} {number} ").repeat(1 + number as usize % 4_000));
        let id = Id::of(&content).to_string();
        let (folder, mode) = match number % 3 {
            0 => (format!("data/{id:.2}"), PutMode::Bulk(Placement::Cold)),
            1 => ("index".to_owned(), PutMode::Overwrite),
            _ => ("snapshots".to_owned(), PutMode::Create),
        };
        let key = ObjectKey::new(format!("{folder}/{id}"));
        match number % 5 {
            0..=2 => {
                sink.put(&key, content.clone(), mode).await.unwrap();
                assert_eq!(sink.stat(&key).await.unwrap().bytes, content.len() as u64);
                expected.insert(key, content);
            }
            3 => {
                for (key, content) in expected.iter().take(2) {
                    assert!(sink.get(key, None).await.unwrap() == *content, "{key}");
                    let middle = content.len() as u64 / 2;
                    let part = sink.get(key, Some(middle..content.len() as u64)).await.unwrap();
                    assert!(part == content.slice(content.len() / 2..), "a part of {key}");
                }
                assert_eq!(sink.get(&key, None).await.unwrap_err().kind, SinkErrorKind::NotFound);
            }
            _ => {
                // It may be an old one: that it comes at all, and is a listing, is what can be asked for.
                let listed = sink.list("index").try_collect::<Vec<_>>().await.unwrap();
                assert!(listed.iter().all(|info| info.key.as_str().starts_with("index/")));
                if let Some(key) = expected.keys().next().cloned() {
                    sink.delete(&key).await.unwrap();
                    assert_eq!(sink.stat(&key).await.unwrap_err().kind, SinkErrorKind::NotFound);
                    expected.remove(&key);
                }
            }
        }
    }
    expected
}

/// Works through the proxy with several workers at once, and looks at the store without it afterwards.
pub(crate) fn works_through(
    proxy: &Proxy,
    through: Arc<dyn Sink>,
    direct: &Arc<dyn Sink>,
    workers: u32,
    operations: u32,
) {
    let through = Arc::new(RetrySink::new(through, brisk())) as Arc<dyn Sink>;
    run(async {
        let workers = (0..workers).map(|worker| tokio::spawn(work(Arc::clone(&through), worker, operations)));
        let mut expected = BTreeMap::new();
        for end in future::join_all(workers).await {
            expected.extend(end.unwrap());
        }
        let mut found = BTreeMap::new();
        for info in direct.list("").try_collect::<Vec<_>>().await.unwrap() {
            found.insert(info.key.clone(), direct.get(&info.key, None).await.unwrap());
        }
        assert!(found == expected, "{} objects there, {} expected", found.len(), expected.len());
    });
    assert!(proxy.faults() > 0, "none of {} requests was spoilt", proxy.requests());
}
