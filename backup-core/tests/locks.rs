//! Many that want a lock at once: whoever has confirmed its own is alone where it must be, on a store whose listings show
//! everything at once and on one whose listings lag. What is told where a lock, or what was replaced, cannot be removed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use backup_core::ErrorKind;
use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::contracts::{ObjectInfo, ObjectKey, PutMode, Sink, SinkErrorKind, SinkFuture, SinkStream};
use backup_core::model::Snapshot;
use backup_core::observe::{Event, Observer, Silent};
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::repository::{CreateOptions, Identity, LockMode, Passphrase, Repository, ScryptCost};
use backup_core::testing::{Call, Fault, FaultySink, MemorySink, MemoryTree};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, future};

const CHEAP: ScryptCost = ScryptCost { n: 2, r: 1, p: 1 };

fn identity() -> Identity {
    let pid = i32::try_from(std::process::id()).unwrap();
    Identity { hostname: "host".into(), username: "user".into(), uid: 1, gid: 1, pid }
}

/// A store in which a lock is read at once, and listed only later.
#[derive(Debug)]
struct Lagging {
    inner: MemorySink,
    lag: Duration,
    put: Mutex<HashMap<ObjectKey, Instant>>,
}

impl Lagging {
    fn is_listed(&self, object: &ObjectInfo) -> bool {
        !object.key.as_str().starts_with("locks/")
            || self.put.lock().unwrap().get(&object.key).is_none_or(|put| put.elapsed() >= self.lag)
    }
}

impl Sink for Lagging {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()> {
        self.put.lock().unwrap().insert(key.clone(), Instant::now());
        self.inner.put(key, bytes, mode)
    }

    fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes> {
        self.inner.get(key, range)
    }

    fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo> {
        self.inner.stat(key)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        self.inner.list(prefix).try_filter(|object| future::ready(self.is_listed(object))).boxed()
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        self.inner.delete(key)
    }

    fn sync(&self) -> SinkFuture<'_, ()> {
        self.inner.sync()
    }

    fn listing_lag(&self) -> Duration {
        // A machine that is busy must not make of a promise that was kept one that was broken.
        self.lag * 2
    }
}

/// Lets threads take locks at the same moments, `rounds` times each, and says how many were taken.
fn compete(sink: &Arc<dyn Sink>, rounds: usize) -> u64 {
    let options = CreateOptions { cost: Some(CHEAP), ..CreateOptions::default() };
    Repository::create(Arc::clone(sink), &Passphrase::new("x"), &options, identity(), Arc::new(SystemClock)).unwrap();
    // Holders that bear others beside them, or one that does not, as a large number.
    const ALONE: i64 = 1_000_000;
    let (holders, taken) = (AtomicI64::new(0), AtomicU64::new(0));
    let modes = [LockMode::Exclusive, LockMode::Exclusive, LockMode::Shared];
    thread::scope(|scope| {
        for mode in modes {
            let (holders, taken) = (&holders, &taken);
            scope.spawn(move || {
                let passphrase = Passphrase::new("x");
                let clock = Arc::new(SystemClock);
                let repository = Repository::open(Arc::clone(sink), &passphrase, identity(), clock, &Silent).unwrap();
                for _ in 0..rounds {
                    let lock = repository.lock(mode, &Silent).and_then(|lock| lock.confirm(&Silent).map(|()| lock));
                    let Ok(_lock) = lock.map_err(|error| {
                        assert!(matches!(error.kind(), ErrorKind::Locked(_)), "{error}");
                        thread::yield_now();
                    }) else {
                        continue;
                    };
                    let weight = if mode == LockMode::Exclusive { ALONE } else { 1 };
                    let others = holders.fetch_add(weight, Ordering::SeqCst);
                    assert!(others < ALONE && (mode == LockMode::Shared || others == 0), "{others} beside {mode:?}");
                    thread::yield_now();
                    holders.fetch_sub(weight, Ordering::SeqCst);
                    taken.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    taken.into_inner()
}

/// Keeps what is told.
#[derive(Debug, Default)]
struct Notices(Mutex<Vec<String>>);

impl Observer for Notices {
    fn event(&self, event: Event<'_>) {
        if let Event::Notice(text) = event {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
}

/// A new repository in a store that denies every deletion.
fn undeletable() -> Repository {
    let inner = Arc::new(MemorySink::new());
    let options = CreateOptions { cost: Some(CHEAP), ..CreateOptions::default() };
    let (passphrase, clock) = (Passphrase::new("x"), Arc::new(SystemClock));
    let sink = FaultySink::new(inner)
        .when(|call| matches!(call, Call::Delete { .. }), Fault::Failed(SinkErrorKind::PermissionDenied));
    Repository::create(Arc::new(sink), &passphrase, &options, identity(), clock).unwrap()
}

fn back_up(repository: &Repository, observer: &dyn Observer) {
    let mut source = MemoryTree::new().with_file("/a", "1").source(10);
    backup(repository, &mut source, &BackupOptions::default(), &Cancel::new(), observer).unwrap();
}

#[test]
fn a_backup_whose_lock_stays_says_so() {
    let told = Notices::default();
    back_up(&undeletable(), &told);
    let told = told.0.into_inner().unwrap();
    assert!(
        told.iter().any(|text| text.contains("its lock stays for 30 minutes") && text.contains("denied")),
        "{told:?}"
    );
    let whole = Notices::default();
    let options = CreateOptions { cost: Some(CHEAP), ..CreateOptions::default() };
    let (sink, passphrase, clock) = (Arc::new(MemorySink::new()), Passphrase::new("x"), Arc::new(SystemClock));
    back_up(&Repository::create(sink, &passphrase, &options, identity(), clock).unwrap(), &whole);
    assert_eq!(whole.0.into_inner().unwrap(), [""; 0]);
}

#[test]
fn who_may_not_delete_is_told_what_there_is_twice_now() {
    let repository = undeletable();
    let options = BackupOptions { lock: LockMode::None, ..BackupOptions::default() };
    let mut source = MemoryTree::new().with_file("/a", "1").source(10);
    backup(&repository, &mut source, &options, &Cancel::new(), &Silent).unwrap();
    let (id, snapshot) = repository.snapshots().unwrap().remove(0);
    let tagged = Snapshot { tags: vec!["new".into()], ..snapshot };
    let error = repository.rewrite_snapshots(&[(id, tagged)], &Silent).unwrap_err();
    let hint = error.hint().unwrap();
    let new = repository.snapshots().unwrap().into_iter().find(|(_, snapshot)| snapshot.tags == ["new"]).unwrap().0;
    assert!(hint.contains(&format!("{new:.8}")) && hint.contains(&format!("`forget {id:.8}`")), "{hint}");

    let error = undeletable().change_passphrase(&Passphrase::new("y"), Some(CHEAP), &Silent).unwrap_err();
    assert!(error.hint().unwrap().contains("the new passphrase opens the repository already"), "{error:?}");
}

#[test]
fn nobody_is_beside_an_exclusive_holder_where_listings_show_everything_at_once() {
    let sink: Arc<dyn Sink> = Arc::new(MemorySink::new());
    assert!(sink.listing_lag().is_zero());
    assert!(compete(&sink, 500) > 0);
}

#[test]
fn nobody_is_beside_an_exclusive_holder_where_listings_lag() {
    let lag = Duration::from_millis(40);
    compete(&(Arc::new(Lagging { inner: MemorySink::new(), lag, put: Mutex::default() }) as Arc<dyn Sink>), 10);
}
