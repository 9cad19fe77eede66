//! The contract suite of [`Sink`]: one function per promise.

#![expect(clippy::unwrap_used, reason = "a suite reports a broken promise by panicking, as a test does")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use futures::{FutureExt, future};

use crate::contracts::{ObjectKey, PutMode, Sink, SinkErrorKind};

/// Checks every promise of [`Sink`], each on a store of its own that `make` gives: empty, and writable.
///
/// What cannot be checked from inside one process, that synced objects survive a power failure, is the implementer's
/// to argue; the suite checks that `sync` succeeds and that nothing changes by it.
///
/// # Panics
///
/// When a promise is broken, with the promise in the message or the name of the function that checks it in the
/// backtrace.
pub fn sink_suite(make: impl Fn() -> Arc<dyn Sink>) {
    sink_suite_except(&[], make);
}

/// A promise that a store cannot be made to keep. Whoever leaves one out says so where people read of that store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// Of several who create one object at the same moment more than one may succeed: the store cannot be asked for it.
    /// Who comes later is still told. In a repository this concerns its config alone, so two who create one at the same
    /// place in the same moment.
    OneCreatorOfMany,
    /// Deleting the name of a folder may delete what is in it: the store keeps objects in folders. The engine never
    /// does.
    NamesOfFolders,
    /// While an object is replaced a reader may find what nobody put. The engine replaces the config alone, when it
    /// migrates a repository.
    Replacing,
}

/// As [`sink_suite`], for a store that cannot keep some of the promises.
///
/// # Panics
///
/// As [`sink_suite`].
pub fn sink_suite_except(exceptions: &[Exception], make: impl Fn() -> Arc<dyn Sink>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        objects_come_back_as_they_were_put(&*make()).await;
        large_objects_come_back(&*make()).await;
        what_is_not_there_is_not_found(&*make()).await;
        create_never_replaces(&*make()).await;
        overwrite_replaces(&*make()).await;
        ranges_are_exact_and_never_short(&*make()).await;
        listings_are_exact(&*make()).await;
        listings_name_all_of_many_objects(&*make()).await;
        deleting_can_be_repeated(&*make()).await;
        if !exceptions.contains(&Exception::NamesOfFolders) {
            deleting_a_folder_does_nothing(&*make()).await;
        }
        if !exceptions.contains(&Exception::OneCreatorOfMany) {
            one_creator_of_many_wins(make()).await;
        }
        if !exceptions.contains(&Exception::Replacing) {
            readers_see_whole_objects_only(make()).await;
        }
        a_dropped_put_is_done_or_not_done(&*make()).await;
        syncing_changes_nothing(&*make()).await;
        assert!(!make().location().is_empty(), "a sink says where it is");
    });
}

async fn objects_come_back_as_they_were_put(sink: &dyn Sink) {
    let contents = [Bytes::new(), Bytes::from("x"), pattern(1, 4_097), (0..=255).collect()];
    let names = ["config", "keys/0a", "data/ab/abcdef", "ext/records/2026-01-02T03:04:05Z_a.b-c"];
    for (name, content) in names.iter().zip(&contents) {
        put(sink, name, content.clone()).await;
    }
    for (name, content) in names.iter().zip(&contents) {
        assert_eq!(sink.get(&key(name), None).await.unwrap(), content, "{name} is not what was put");
        let info = sink.stat(&key(name)).await.unwrap();
        assert_eq!((info.key, info.bytes), (key(name), content.len() as u64));
    }
}

async fn large_objects_come_back(sink: &dyn Sink) {
    let content = pattern(2, 40 * 1024 * 1024 + 1);
    put(sink, "data/ab/large", content.clone()).await;
    assert_eq!(sink.stat(&key("data/ab/large")).await.unwrap().bytes, content.len() as u64);
    assert!(sink.get(&key("data/ab/large"), None).await.unwrap() == content, "a large object came back changed");
    let end = content.len() as u64;
    let tail = sink.get(&key("data/ab/large"), Some(end - 100..end)).await.unwrap();
    assert_eq!(tail, content.slice(content.len() - 100..));
}

async fn what_is_not_there_is_not_found(sink: &dyn Sink) {
    put(sink, "data/ab/abc", "x".into()).await;
    // A folder, if the store has folders, is no object; nor is there anything below an object.
    for name in ["config", "data/ab/abd", "data/ab", "data", "data/ab/abc/d", "data/ac/abc"] {
        assert_eq!(get_error(sink, name).await, SinkErrorKind::NotFound, "get of {name}");
        assert_eq!(sink.stat(&key(name)).await.unwrap_err().kind, SinkErrorKind::NotFound, "stat of {name}");
    }
    let ranged = sink.get(&key("config"), Some(0..1)).await.unwrap_err();
    assert_eq!(ranged.kind, SinkErrorKind::NotFound);
}

async fn create_never_replaces(sink: &dyn Sink) {
    put(sink, "config", "first".into()).await;
    for content in ["second", "", "first"] {
        let again = sink.put(&key("config"), content.into(), PutMode::Create).await;
        assert_eq!(again.unwrap_err().kind, SinkErrorKind::AlreadyExists);
    }
    assert_eq!(sink.get(&key("config"), None).await.unwrap(), "first");
    assert_eq!(names(sink, "").await, ["config"].map(String::from).into());
}

async fn overwrite_replaces(sink: &dyn Sink) {
    for content in ["a rather long content", "short", "", "longer again"] {
        sink.put(&key("index/a"), content.into(), PutMode::Overwrite).await.unwrap();
        assert_eq!(sink.get(&key("index/a"), None).await.unwrap(), content);
        assert_eq!(sink.stat(&key("index/a")).await.unwrap().bytes, content.len() as u64);
    }
}

async fn ranges_are_exact_and_never_short(sink: &dyn Sink) {
    let content = pattern(3, 1_000);
    put(sink, "data/ab/abc", content.clone()).await;
    for (start, end) in [(0, 1_000), (0, 1), (999, 1_000), (500, 501), (250, 750), (7, 7), (1_000, 1_000)] {
        let part = sink.get(&key("data/ab/abc"), Some(start as u64..end as u64)).await.unwrap();
        assert_eq!(part, content.slice(start..end), "bytes {start}..{end}");
    }
    for (start, end) in [(0, 1_001), (999, 1_001), (1_000, 1_001), (5_000, 5_001), (1_001, 1_001), (0, u64::MAX)] {
        let error = sink.get(&key("data/ab/abc"), Some(start..end)).await.unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::Truncated, "bytes {start}..{end} of 1000");
    }
    put(sink, "data/ab/empty", Bytes::new()).await;
    assert_eq!(sink.get(&key("data/ab/empty"), Some(0..0)).await.unwrap(), "");
    let error = sink.get(&key("data/ab/empty"), Some(0..1)).await.unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::Truncated);
}

async fn listings_are_exact(sink: &dyn Sink) {
    assert!(names(sink, "").await.is_empty());
    assert!(names(sink, "data").await.is_empty());
    let all = ["config", "data/ab/1", "data/ab/2", "data/ac/3", "data2/4", "dat/5", "keys/6", "ext/a/b/c/d"];
    for (size, name) in all.iter().enumerate() {
        put(sink, name, pattern(4, size)).await;
    }
    for (prefix, expected) in [
        ("", &all[..]),
        ("data", &["data/ab/1", "data/ab/2", "data/ac/3"]),
        ("data/ab", &["data/ab/1", "data/ab/2"]),
        ("data/a", &[]),
        ("da", &[]),
        ("ext", &["ext/a/b/c/d"]),
        ("ext/a/b", &["ext/a/b/c/d"]),
        ("keys", &["keys/6"]),
        ("keys/6", &[]),
        ("config", &[]),
        ("snapshots", &[]),
        ("snapshots/deep/er", &[]),
    ] {
        let expected: BTreeSet<String> = expected.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(names(sink, prefix).await, expected, "listing of {prefix:?}");
    }
    let infos: Vec<_> = sink.list("").try_collect().await.unwrap();
    for info in infos {
        assert_eq!(info.bytes, all.iter().position(|&name| name == info.key.as_str()).unwrap() as u64, "{info:?}");
    }
}

async fn listings_name_all_of_many_objects(sink: &dyn Sink) {
    let all: BTreeSet<String> = (0..3_000_u32)
        .map(|number| {
            // Half of them in one folder, half over many.
            let shard = if number % 2 == 0 { 0 } else { number % 256 };
            format!("data/{shard:02x}/{number:08x}")
        })
        .collect();
    let put_one = |name: String| async move { put(sink, &name, Bytes::from(name.clone())).await };
    stream::iter(all.clone()).map(put_one).buffer_unordered(16).collect::<()>().await;
    assert_eq!(names(sink, "data").await, all);
    let mut some = sink.list("data");
    assert!(some.next().await.is_some(), "a listing can be read in part");
    drop(some);
    assert_eq!(names(sink, "").await, all);
}

async fn deleting_can_be_repeated(sink: &dyn Sink) {
    put(sink, "locks/a", "x".into()).await;
    put(sink, "locks/b", "y".into()).await;
    for _ in 0..3 {
        sink.delete(&key("locks/a")).await.unwrap();
        assert_eq!(get_error(sink, "locks/a").await, SinkErrorKind::NotFound);
        assert_eq!(names(sink, "locks").await, ["locks/b".to_owned()].into());
    }
    // What was never there, in folders that never were.
    for name in ["locks/c", "keys/a", "ext/a/b/c"] {
        sink.delete(&key(name)).await.unwrap();
    }
    assert_eq!(sink.get(&key("locks/b"), None).await.unwrap(), "y");
    put(sink, "locks/a", "again".into()).await;
    assert_eq!(sink.get(&key("locks/a"), None).await.unwrap(), "again");
}

async fn deleting_a_folder_does_nothing(sink: &dyn Sink) {
    put(sink, "locks/b", "y".into()).await;
    // Below what is no folder, and what is one.
    for name in ["locks/b/c", "locks"] {
        sink.delete(&key(name)).await.unwrap();
        assert_eq!(sink.get(&key("locks/b"), None).await.unwrap(), "y");
    }
}

async fn one_creator_of_many_wins(sink: Arc<dyn Sink>) {
    for round in 0..8 {
        let name = format!("locks/{round}");
        let creators = (0..8).map(|number| {
            let (sink, name) = (Arc::clone(&sink), name.clone());
            tokio::spawn(async move { sink.put(&key(&name), pattern(number, 10_000), PutMode::Create).await })
        });
        let ends = future::join_all(creators).await;
        let winners: Vec<u64> =
            (0..).zip(ends).filter_map(|(number, end)| end.unwrap().is_ok().then_some(number)).collect();
        let [winner] = winners[..] else { panic!("{} of 8 creators of one object succeeded", winners.len()) };
        assert_eq!(sink.get(&key(&name), None).await.unwrap(), pattern(winner, 10_000));
    }
    assert_eq!(names(&*sink, "").await.len(), 8);
}

async fn readers_see_whole_objects_only(sink: Arc<dyn Sink>) {
    const BYTES: usize = 2 * 1024 * 1024;
    let versions: Vec<Bytes> = (0..4).map(|seed| pattern(seed, BYTES)).collect();
    let writers: Vec<_> = versions
        .iter()
        .cloned()
        .map(|version| {
            let sink = Arc::clone(&sink);
            tokio::spawn(async move {
                for _ in 0..4 {
                    sink.put(&key("index/a"), version.clone(), PutMode::Overwrite).await.unwrap();
                }
            })
        })
        .collect();
    let mut is_there = false;
    loop {
        let is_last = writers.iter().all(tokio::task::JoinHandle::is_finished);
        match sink.get(&key("index/a"), None).await {
            Ok(content) => {
                assert!(versions.contains(&content), "a reader saw an object that nobody put");
                is_there = true;
            }
            Err(error) => {
                assert_eq!(error.kind, SinkErrorKind::NotFound);
                assert!(!is_there, "an object was gone while it was replaced");
            }
        }
        for info in sink.list("").try_collect::<Vec<_>>().await.unwrap() {
            assert_eq!(
                (info.key.as_str(), info.bytes),
                ("index/a", BYTES as u64),
                "a listing shows what is unfinished"
            );
        }
        if is_last {
            break;
        }
    }
    future::try_join_all(writers).await.unwrap();
    assert!(is_there);
}

async fn a_dropped_put_is_done_or_not_done(sink: &dyn Sink) {
    let content = pattern(5, 4 * 1024 * 1024);
    for number in 0..24_u64 {
        let name = format!("data/ab/{number}");
        let wanted = key(&name);
        let putting = sink.put(&wanted, content.clone(), PutMode::Create);
        if number == 0 {
            // Polled once at most.
            let _ = putting.now_or_never();
        } else {
            let _ = tokio::time::timeout(Duration::from_micros(number * 200), putting).await;
        }
        match sink.get(&wanted, None).await {
            Ok(found) => assert!(found == content, "a dropped put left a part"),
            Err(error) => assert_eq!(error.kind, SinkErrorKind::NotFound),
        }
        for info in sink.list("").try_collect::<Vec<_>>().await.unwrap() {
            assert_eq!(info.bytes, content.len() as u64, "a dropped put left a part: {info:?}");
        }
        sink.put(&wanted, content.clone(), PutMode::Overwrite).await.unwrap();
        assert!(sink.get(&wanted, None).await.unwrap() == content);
    }
    sink.sync().await.unwrap();
    assert_eq!(names(sink, "").await.len(), 24);
}

async fn syncing_changes_nothing(sink: &dyn Sink) {
    sink.sync().await.unwrap();
    put(sink, "data/ab/a", "a".into()).await;
    put(sink, "data/ab/b", "b".into()).await;
    sink.delete(&key("data/ab/b")).await.unwrap();
    put(sink, "config", "c".into()).await;
    sink.put(&key("config"), "d".into(), PutMode::Overwrite).await.unwrap();
    let (one, two) = future::join(sink.sync(), sink.sync()).await;
    one.unwrap();
    two.unwrap();
    sink.sync().await.unwrap();
    assert_eq!(names(sink, "").await, ["config", "data/ab/a"].map(String::from).into());
    assert_eq!(sink.get(&key("config"), None).await.unwrap(), "d");
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name.to_owned())
}

/// Bytes that look random, the same for the same seed, and different for different ones at every length above a few.
fn pattern(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

async fn put(sink: &dyn Sink, name: &str, content: Bytes) {
    sink.put(&key(name), content, PutMode::Create).await.unwrap();
}

async fn get_error(sink: &dyn Sink, name: &str) -> SinkErrorKind {
    sink.get(&key(name), None).await.unwrap_err().kind
}

/// The names that a listing gives, each of which it must give once.
async fn names(sink: &dyn Sink, prefix: &str) -> BTreeSet<String> {
    let infos: Vec<_> = sink.list(prefix).try_collect().await.unwrap();
    let count = infos.len();
    let names: BTreeSet<String> = infos.into_iter().map(|info| info.key.as_str().to_owned()).collect();
    assert_eq!(names.len(), count, "a listing of {prefix:?} names an object twice");
    names
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::testing::{Call, Fault, FaultySink, MemorySink, Verb};

    #[test]
    fn the_suite_finds_sinks_that_break_a_promise() {
        let of = |verb: Verb| move |call: &Call| call.verb() == verb;
        let other = SinkErrorKind::Other;
        type Breaker = Box<dyn Fn(FaultySink) -> FaultySink>;
        let broken: [(&str, Breaker); 7] = [
            ("reads are damaged", Box::new(move |sink| sink.when(of(Verb::Get), Fault::FlippedBit(1)))),
            ("reads are short", Box::new(move |sink| sink.when(of(Verb::Get), Fault::CutShort(99)))),
            ("large objects are refused", Box::new(|sink| sink.full_after(30 << 20))),
            ("listings break", Box::new(move |sink| sink.when(of(Verb::List), Fault::DoneButFailed(other)))),
            ("deletes fail", Box::new(move |sink| sink.when(of(Verb::Delete), Fault::DoneButFailed(other)))),
            ("syncs fail", Box::new(move |sink| sink.when(of(Verb::Sync), Fault::DoneButFailed(other)))),
            ("sizes cannot be told", Box::new(move |sink| sink.when(of(Verb::Stat), Fault::Failed(other)))),
        ];
        for (what, break_it) in broken {
            let make = || -> Arc<dyn Sink> { Arc::new(break_it(FaultySink::new(Arc::new(MemorySink::new())))) };
            let run = catch_unwind(AssertUnwindSafe(|| sink_suite(make)));
            assert!(run.is_err(), "the suite did not notice that {what}");
        }
    }
}
