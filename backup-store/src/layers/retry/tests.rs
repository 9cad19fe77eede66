//! What the retry layer does with each lie that a store can tell. Time is tokio's and stands still: no test waits.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

use backup_core::contracts::Placement;
use backup_core::testing::{Call, Fault, FaultySink, MemorySink, RecordingSink, Verb, sink_suite};
use futures::future;
use tokio::time::Instant;

use super::*;
use crate::sinks::LocalSink;

fn key() -> ObjectKey {
    ObjectKey::new("data/ab/abc")
}

fn patient(inner: Arc<dyn Sink>) -> RetrySink {
    RetrySink::new(inner, RetryPolicy::default())
}

/// Runs `work` on a clock that jumps to the next event whenever nothing else is to be done.
fn without_waiting<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(work)
}

fn unavailable(verb: Verb) -> impl Fn(&Call) -> bool + Send + Sync + 'static {
    let failed = AtomicU32::new(0);
    move |call: &Call| call.verb() == verb && failed.fetch_add(1, Ordering::Relaxed) < 2
}

/// Every third number, in no order (the mixer of SplitMix64).
fn is_unlucky(number: u32) -> bool {
    let mut mixed = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).is_multiple_of(3)
}

#[test]
fn the_layer_keeps_the_contract() {
    sink_suite(|| Arc::new(patient(Arc::new(MemorySink::new()))));
    let scratch = tempfile::tempdir().unwrap();
    let number = AtomicU32::new(0);
    sink_suite(|| {
        let folder = scratch.path().join(number.fetch_add(1, Ordering::Relaxed).to_string());
        Arc::new(patient(Arc::new(LocalSink::create(folder).unwrap())))
    });
}

#[test]
fn behind_the_layer_a_store_that_lies_every_third_time_does_what_it_is_told() {
    for fault in [Fault::Failed(SinkErrorKind::Unavailable), Fault::DoneButFailed(SinkErrorKind::Unavailable)] {
        let calls = AtomicU32::new(0);
        let one_in_three = move |_: &Call| is_unlucky(calls.fetch_add(1, Ordering::Relaxed));
        let store = Arc::new(MemorySink::new());
        let store_that_lies = FaultySink::new(store.clone()).when(one_in_three, fault);
        let brisk = RetryPolicy { wait_max: Duration::from_secs(1), ..RetryPolicy::default() };
        let sink = RetrySink::new(Arc::new(store_that_lies), brisk);
        let mut expected = BTreeMap::new();
        without_waiting(async {
            sink.stat(&key()).await.unwrap_err();
            for number in 0..3_000_u32 {
                let key = ObjectKey::new(format!("data/{}", number.wrapping_mul(0x9e37_79b9) >> 28));
                let content = Bytes::from(number.to_string());
                match number % 5 {
                    0 => {
                        let is_new = sink.put(&key, content.clone(), PutMode::Create).await.is_ok();
                        assert_eq!(is_new, !expected.contains_key(&key), "{number}");
                        expected.entry(key).or_insert(content);
                    }
                    1 => {
                        sink.put(&key, content.clone(), PutMode::Overwrite).await.unwrap();
                        expected.insert(key, content);
                    }
                    2 => assert_eq!(sink.get(&key, None).await.ok().as_ref(), expected.get(&key)),
                    3 => assert_eq!(sink.list("data").count().await, expected.len()),
                    _ => {
                        sink.delete(&key).await.unwrap();
                        expected.remove(&key);
                    }
                }
            }
        });
        assert_eq!(store.objects(), expected);
    }
}

#[test]
fn every_operation_outlasts_two_failures() {
    for verb in [Verb::Put, Verb::Get, Verb::Stat, Verb::List, Verb::Delete, Verb::Sync] {
        let store = MemorySink::from_iter([(key(), Bytes::from("content"))]);
        let faulty =
            FaultySink::new(Arc::new(store)).when(unavailable(verb), Fault::Failed(SinkErrorKind::Unavailable));
        let setbacks = Arc::new(AtomicU32::new(0));
        let heard = Arc::clone(&setbacks);
        let sink = patient(Arc::new(faulty)).watched_by(move |setback| {
            assert_eq!(setback.failures, heard.fetch_add(1, Ordering::Relaxed) + 1);
        });
        without_waiting(async {
            match verb {
                Verb::Put => sink.put(&key(), "new".into(), PutMode::Overwrite).await.unwrap(),
                Verb::Get => assert_eq!(sink.get(&key(), None).await.unwrap(), "content"),
                Verb::Stat => assert_eq!(sink.stat(&key()).await.unwrap().bytes, 7),
                Verb::List => assert_eq!(sink.list("data").try_collect::<Vec<_>>().await.unwrap().len(), 1),
                Verb::Delete => sink.delete(&key()).await.unwrap(),
                Verb::Sync => sink.sync().await.unwrap(),
            }
        });
        assert_eq!(setbacks.load(Ordering::Relaxed), 2, "{verb:?}");
    }
}

#[test]
fn what_was_put_but_reported_as_failed_is_not_sent_again() {
    for mode in [PutMode::Create, PutMode::Overwrite, PutMode::Bulk(Placement::Cold)] {
        let store =
            FaultySink::new(Arc::new(MemorySink::new())).on_nth(0, Fault::DoneButFailed(SinkErrorKind::Unavailable));
        let recorder = Arc::new(RecordingSink::new(Arc::new(store)));
        let sink = patient(recorder.clone());
        without_waiting(sink.put(&key(), "content".into(), mode)).unwrap();
        assert_eq!(recorder.count(Verb::Put, ""), 1, "{mode:?}");
    }
}

/// Takes in other bytes than were sent, and says so, as often as it is told to.
#[derive(Debug)]
struct Garbling {
    inner: Arc<MemorySink>,
    left: AtomicU32,
}

impl Sink for Garbling {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()> {
        Box::pin(async move {
            let left = self.left.load(Ordering::Relaxed);
            if left == 0 {
                return self.inner.put(key, bytes, mode).await;
            }
            self.left.store(left - 1, Ordering::Relaxed);
            let kind = match left % 2 {
                // The attempt after it never arrives: what lies there is still the wrong thing.
                0 => {
                    self.inner.put(key, bytes.iter().map(|byte| byte ^ 1).collect(), mode).await?;
                    SinkErrorKind::Garbled
                }
                _ => SinkErrorKind::Unavailable,
            };
            Err(SinkError::new(kind, "x"))
        })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes> {
        self.inner.get(key, range)
    }

    fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo> {
        self.inner.stat(key)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        self.inner.list(prefix)
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        self.inner.delete(key)
    }

    fn sync(&self) -> SinkFuture<'_, ()> {
        self.inner.sync()
    }

    fn parallelism(&self) -> usize {
        2
    }

    fn listing_lag(&self) -> Duration {
        Duration::ZERO
    }

    fn bring_near<'a>(&'a self, _key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

#[test]
fn what_arrived_as_something_else_is_sent_again_though_it_has_the_right_size() {
    for mode in [PutMode::Create, PutMode::Overwrite, PutMode::Bulk(Placement::Cold)] {
        let inner = Arc::new(MemorySink::new());
        let sink = patient(Arc::new(Garbling { inner: inner.clone(), left: AtomicU32::new(2) }));
        without_waiting(sink.put(&key(), "content".into(), mode)).unwrap();
        assert_eq!(inner.content(&key()), Some(Bytes::from("content")), "{mode:?}");
    }
}

#[test]
fn somebody_elses_object_is_not_taken_for_what_was_put() {
    let others = MemorySink::from_iter([(key(), Bytes::from("theirs!"))]);
    let store = FaultySink::new(Arc::new(others)).on_nth(0, Fault::Failed(SinkErrorKind::Unavailable));
    let error = without_waiting(patient(Arc::new(store)).put(&key(), "content".into(), PutMode::Create)).unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::AlreadyExists);
}

#[test]
fn an_object_that_keeps_its_size_is_replaced_all_the_same() {
    let store = Arc::new(MemorySink::from_iter([(key(), Bytes::from("content"))]));
    let faulty = FaultySink::new(store.clone()).on_nth(0, Fault::Failed(SinkErrorKind::Unavailable));
    without_waiting(patient(Arc::new(faulty)).put(&key(), "CONTENT".into(), PutMode::Overwrite)).unwrap();
    assert_eq!(store.content(&key()), Some(Bytes::from("CONTENT")));
}

#[test]
fn answers_are_not_tried_again() {
    use SinkErrorKind::{AlreadyExists, Frozen, NoSpace, NotFound, Other, PermissionDenied, ReadOnly, Truncated};
    for kind in [NotFound, AlreadyExists, Truncated, PermissionDenied, ReadOnly, NoSpace, Frozen, Other] {
        let store = Arc::new(FaultySink::new(Arc::new(MemorySink::new())).when(|_| true, Fault::Failed(kind)));
        let error = without_waiting(patient(store.clone()).get(&key(), None)).unwrap_err();
        assert_eq!((error.kind, store.calls()), (kind, 1));
    }
}

#[test]
fn a_store_that_has_gone_away_is_given_up_after_the_patience_for_it() {
    let policy = RetryPolicy::default();
    for (answered, patience) in [(0, policy.patience_at_first), (1, policy.patience)] {
        let store = FaultySink::new(Arc::new(MemorySink::new())).dark_after(answered);
        let sink = patient(Arc::new(store));
        without_waiting(async {
            if answered > 0 {
                assert_eq!(sink.stat(&key()).await.unwrap_err().kind, SinkErrorKind::NotFound);
            }
            let started = Instant::now();
            assert_eq!(sink.get(&key(), None).await.unwrap_err().kind, SinkErrorKind::Unavailable);
            let waited = started.elapsed();
            // The last wait is the longest: two thirds of the patience are used at the least.
            assert!(waited <= patience && waited > patience / 3, "{waited:?} of {patience:?}");
        });
    }
}

#[test]
fn an_empty_listing_that_may_have_come_without_the_store_is_no_answer_of_it() {
    let patience = RetryPolicy::default().patience_at_first;
    // A listing passes, as that of a folder that a REST server never has, and then nothing.
    let sink = patient(Arc::new(FaultySink::new(Arc::new(MemorySink::new())).dark_after(1)));
    without_waiting(async {
        assert!(sink.list("ext/records").try_collect::<Vec<_>>().await.unwrap().is_empty());
        let started = Instant::now();
        assert_eq!(sink.get(&key(), None).await.unwrap_err().kind, SinkErrorKind::Unavailable);
        assert!(started.elapsed() <= patience, "{:?}", started.elapsed());
    });
}

/// Never answers, and asks for a wait before that.
#[derive(Debug)]
struct Silence {
    inner: MemorySink,
    asks_for: Option<Duration>,
    stalls: AtomicU32,
}

impl Silence {
    async fn stall<T>(&self, answer: Result<T, SinkError>) -> Result<T, SinkError> {
        if self.stalls.load(Ordering::Relaxed) == 0 {
            return answer;
        }
        self.stalls.fetch_sub(1, Ordering::Relaxed);
        match self.asks_for {
            Some(wait) => Err(SinkError::new(SinkErrorKind::Unavailable, "busy").asking_for(wait)),
            None => future::pending().await,
        }
    }
}

impl Sink for Silence {
    fn location(&self) -> String {
        "silence".to_owned()
    }

    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()> {
        Box::pin(async move { self.stall(self.inner.put(key, bytes, mode).await).await })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes> {
        Box::pin(async move { self.stall(self.inner.get(key, range).await).await })
    }

    fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo> {
        self.inner.stat(key)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        let first = self.inner.list(prefix).take(1);
        let rest = self.inner.list(prefix).skip(1);
        let pause = stream::once(async { self.stall(Ok(None)).await });
        first.map_ok(Some).chain(pause).chain(rest.map_ok(Some)).try_filter_map(future::ok).boxed()
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        self.inner.delete(key)
    }

    fn sync(&self) -> SinkFuture<'_, ()> {
        self.inner.sync()
    }

    fn parallelism(&self) -> usize {
        2
    }

    fn listing_lag(&self) -> Duration {
        Duration::ZERO
    }

    fn bring_near<'a>(&'a self, _key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn silent(stalls: u32, asks_for: Option<Duration>) -> Arc<Silence> {
    let inner = MemorySink::from_iter(["data/ab/abc", "data/ab/abd"].map(|name| (ObjectKey::new(name), "x".into())));
    Arc::new(Silence { inner, asks_for, stalls: AtomicU32::new(stalls) })
}

#[test]
fn a_store_that_stalls_does_not_hold_an_operation_for_ever() {
    let policy = RetryPolicy::default();
    let sink = patient(silent(1, None));
    without_waiting(async {
        sink.stat(&key()).await.unwrap();
        let started = Instant::now();
        assert_eq!(sink.get(&key(), Some(0..1)).await.unwrap(), "x");
        assert!(started.elapsed() < policy.attempt_base + 2 * policy.wait_max);
    });
    let sink = patient(silent(u32::MAX, None));
    without_waiting(async {
        let started = Instant::now();
        let error = sink.put(&key(), vec![0; 1 << 20].into(), PutMode::Create).await.unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::Unavailable);
        let attempt = policy.attempt_time(1 << 20);
        assert!(started.elapsed() <= policy.patience + attempt, "{:?}", started.elapsed());
    });
}

#[test]
fn a_listing_that_stalls_in_the_middle_names_everything_once() {
    let sink = patient(silent(3, None));
    let listed = without_waiting(async {
        sink.stat(&key()).await.unwrap();
        sink.list("data").map_ok(|info| info.key.to_string()).try_collect::<Vec<_>>().await
    });
    assert_eq!(listed.unwrap(), ["data/ab/abc", "data/ab/abd"]);
}

#[test]
fn a_store_that_asks_for_a_pause_gets_it() {
    let asked = Duration::from_secs(123);
    let waits = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&waits);
    let sink = patient(silent(2, Some(asked))).watched_by(move |setback| heard.lock().unwrap().push(setback.wait));
    without_waiting(async {
        sink.stat(&key()).await.unwrap();
        assert_eq!(sink.get(&key(), None).await.unwrap(), "x");
    });
    assert_eq!(*waits.lock().unwrap(), [asked, asked]);
}

#[test]
fn a_store_that_asks_for_a_pause_beyond_all_time_is_given_up_at_once() {
    let sink = patient(silent(u32::MAX, Some(Duration::MAX)));
    without_waiting(async {
        sink.stat(&key()).await.unwrap();
        let started = Instant::now();
        assert_eq!(sink.get(&key(), None).await.unwrap_err().kind, SinkErrorKind::Unavailable);
        assert_eq!(started.elapsed(), Duration::ZERO);
    });
}

/// A server that looks at every object before it begins to answer with a listing.
#[derive(Debug)]
struct Ponderous(MemorySink);

impl Sink for Ponderous {
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
        self.0.stat(key)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        let ponders =
            stream::once(tokio::time::sleep(Duration::from_secs(4 * 60))).filter_map(|()| future::ready(None));
        ponders.chain(self.0.list(prefix)).boxed()
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        self.0.delete(key)
    }

    fn sync(&self) -> SinkFuture<'_, ()> {
        self.0.sync()
    }

    fn parallelism(&self) -> usize {
        2
    }

    fn listing_lag(&self) -> Duration {
        Duration::ZERO
    }

    fn bring_near<'a>(&'a self, _key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

#[test]
fn a_listing_that_begins_after_four_minutes_is_waited_for() {
    let store = MemorySink::from_iter([(key(), Bytes::from("content"))]);
    let setbacks = Arc::new(AtomicU32::new(0));
    let heard = Arc::clone(&setbacks);
    let sink = patient(Arc::new(Ponderous(store))).watched_by(move |_| {
        heard.fetch_add(1, Ordering::Relaxed);
    });
    let listed = without_waiting(sink.list("data").try_collect::<Vec<_>>()).unwrap();
    assert_eq!((listed.len(), setbacks.load(Ordering::Relaxed)), (1, 0));
}

#[test]
fn a_stop_is_heeded_at_once_while_the_store_has_not_answered_and_left_to_its_caller_afterwards() {
    let store = || MemorySink::from_iter([(key(), Bytes::from("content"))]);
    // Time is only let go on by what waits for it: a wait for the store's four minutes would show.
    let cancel = Cancel::new();
    let sink = patient(Arc::new(Ponderous(store()))).stopped_by(cancel.clone());
    without_waiting(async {
        let (began, asked) = (Instant::now(), tokio::time::sleep(Duration::from_secs(1)));
        let listing = sink.list("data").try_collect::<Vec<_>>();
        let (listed, ()) = future::join(listing, async { (asked.await, cancel.request()).1 }).await;
        assert_eq!(listed.unwrap_err().kind, SinkErrorKind::Cancelled);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    });
    let cancel = Cancel::new();
    let sink = patient(Arc::new(Ponderous(store()))).stopped_by(cancel.clone());
    without_waiting(async {
        sink.get(&key(), None).await.unwrap();
        cancel.request();
        assert_eq!(sink.list("data").count().await, 1);
    });
}

#[test]
fn who_waits_for_a_connection_does_not_begin_one_after_a_stop() {
    let (cancel, one_at_a_time, begun) = (Cancel::new(), tokio::sync::Mutex::new(()), AtomicU32::new(0));
    let patience = Patience::new(RetryPolicy::default()).stopped_by(cancel.clone());
    let connect = || {
        patience.persist(0, |_| async {
            let _turn = one_at_a_time.lock().await;
            begun.fetch_add(1, Ordering::Relaxed);
            future::pending::<Result<(), SinkError>>().await
        })
    };
    without_waiting(async {
        let stop = async { (tokio::time::sleep(Duration::from_secs(1)).await, cancel.request()).1 };
        let (one, other, ()) = future::join3(connect(), connect(), stop).await;
        assert_eq!([one, other].map(|ended| ended.unwrap_err().kind), [SinkErrorKind::Cancelled; 2]);
    });
    assert_eq!(begun.load(Ordering::Relaxed), 1);
}
