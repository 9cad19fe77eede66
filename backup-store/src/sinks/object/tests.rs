//! The sink over a store in memory: what holds for every provider.

use backup_core::testing::sink_suite;
use futures::{TryStreamExt as _, future};
use object_store::memory::InMemory;

use super::*;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn sink_over(store: Arc<dyn ObjectStore>, prefix: &str) -> ObjectSink {
    let naming = Naming {
        location: format!("memory://bucket/{prefix}"),
        name: String::from("memory://bucket"),
        prefix: prefix.to_owned(),
        storage_class: None,
        listing_lag: Duration::ZERO,
    };
    ObjectSink::new(store, naming)
}

fn names(sink: &dyn Sink, prefix: &str) -> Vec<String> {
    let found: Vec<_> = block_on(sink.list(prefix).try_collect()).unwrap();
    let mut names: Vec<_> = found.into_iter().map(|info| info.key.to_string()).collect();
    names.sort();
    names
}

#[test]
fn it_keeps_every_promise_at_the_top_of_a_bucket_and_below_a_prefix() {
    sink_suite(|| Arc::new(sink_over(Arc::new(InMemory::new()), "")));
    sink_suite(|| Arc::new(sink_over(Arc::new(InMemory::new()), "some/where")));
}

#[test]
fn what_lies_beside_the_prefix_or_bears_a_foreign_name_is_not_seen() {
    let store = Arc::new(InMemory::new());
    let all = ["a/b/config", "a/bc/config", "a/config", "config", "a/b/data/my file", "a/b/data/00/ok", "a/b/data/ü"];
    block_on(future::join_all(all.map(|name| {
        let store = Arc::clone(&store);
        async move { store.put(&Path::parse(name).unwrap(), Bytes::from("x").into()).await.unwrap() }
    })));
    let sink = sink_over(store, "a/b");
    assert_eq!(names(&sink, ""), ["config", "data/00/ok"]);
    assert_eq!(names(&sink, "data"), ["data/00/ok"]);
}
