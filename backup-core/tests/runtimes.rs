//! The library runs inside a caller's runtime of any kind and without one, and can be cancelled.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::pin::pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use backup_core::bridge;
use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::contracts::{Entry, Report, Source, SourceError, SourceEvent, SourceInfo};
use backup_core::model::{Metadata, Node, NodeKind};
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOptions, RestoreOptions, backup, restore};
use backup_core::repository::{CreateOptions, Identity, Passphrase, Repository, ScryptCost, SnapshotQuery};
use backup_core::testing::{MemorySink, MemoryTarget, MemoryTree};
use backup_core::{ErrorKind, Result};
use tokio::runtime::Builder;

/// How long a verb may take to notice that it was asked to stop; only a hang is longer.
const PATIENCE: Duration = Duration::from_secs(180);

fn repository() -> Repository {
    let options = CreateOptions { cost: Some(ScryptCost { n: 2, r: 1, p: 1 }), ..CreateOptions::default() };
    let pid = i32::try_from(std::process::id()).unwrap();
    let identity = Identity { hostname: "host".into(), username: "user".into(), uid: 1, gid: 1, pid };
    Repository::create(Arc::new(MemorySink::new()), &Passphrase::new("x"), &options, identity, Arc::new(SystemClock))
        .unwrap()
}

/// Creates a repository, backs up and restores, as a caller's code would.
fn round_trip(cancel: &Cancel) -> Result<()> {
    let repository = repository();
    let tree = MemoryTree::new().with_file("/a/b", "1").with_file("/c", vec![3; 2_000_000]);
    backup(&repository, &mut tree.source(10_000), &BackupOptions::default(), cancel, &Silent)?;
    let (_, snapshot) = repository.find_snapshot("latest", &SnapshotQuery::default())?;
    let target = MemoryTarget::default();
    restore(&repository, &snapshot, &target, &RestoreOptions::default(), cancel, &Silent)?;
    assert_eq!(target.tree(), tree);
    Ok(())
}

#[test]
fn it_runs_without_any_runtime() {
    round_trip(&Cancel::new()).unwrap();
}

#[test]
fn its_futures_run_on_an_executor_that_is_nobodys_runtime() {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let mut run = pin!(bridge::run(round_trip));
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let outcome = loop {
        match run.as_mut().poll(&mut context) {
            Poll::Ready(outcome) => break outcome,
            Poll::Pending => thread::park(),
        }
    };
    outcome.unwrap();
}

#[test]
fn it_runs_inside_a_current_thread_runtime_which_goes_on_meanwhile() {
    // Neither timers nor input and output: nothing of the caller's runtime is used.
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut others = 0_u32;
        let mut run = pin!(bridge::run(round_trip));
        loop {
            tokio::select! {
                biased;
                outcome = &mut run => break outcome.unwrap(),
                () = tokio::task::yield_now() => others += 1,
            }
        }
        assert!(others > 0, "the caller's own work stood still");
    });
}

#[test]
fn it_runs_inside_a_multi_thread_runtime_several_times_at_once() {
    let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..3).map(|_| tokio::spawn(bridge::run(round_trip))).collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    });
}

#[test]
fn blocking_calls_work_inside_either_runtime_and_the_repository_may_be_dropped_there() {
    for mut builder in [Builder::new_current_thread(), Builder::new_multi_thread()] {
        builder.build().unwrap().block_on(async { round_trip(&Cancel::new()).unwrap() });
    }
}

/// Names pipes without end, and says when the third one was asked for.
#[derive(Debug)]
struct Endless {
    count: u32,
    running: Mutex<Sender<()>>,
}

impl Endless {
    fn new() -> (Self, Receiver<()>) {
        let (running, is_running) = channel();
        (Self { count: 0, running: Mutex::new(running) }, is_running)
    }
}

impl Source for Endless {
    fn info(&self) -> SourceInfo {
        SourceInfo { paths: vec!["/".to_owned()], excludes: Vec::new() }
    }

    fn next(&mut self) -> Result<Option<SourceEvent>, SourceError> {
        self.count += 1;
        if self.count == 3 {
            self.running.lock().unwrap().send(()).unwrap();
        }
        thread::sleep(Duration::from_millis(1));
        let name = format!("{:08}", self.count).into_bytes();
        let node = Node { name, kind: NodeKind::Fifo, metadata: Metadata::default() };
        Ok(Some(SourceEvent::Entry(Entry::without_content(node))))
    }

    fn finish(&mut self) -> Result<Report, SourceError> {
        unreachable!("an endless walk has no end")
    }
}

/// A backup that never ends by itself; how it ended comes through the channel.
fn endless_backup(
    repository: Repository,
    mut source: Endless,
    ended: Sender<Option<ErrorKind>>,
) -> impl FnOnce(&Cancel) -> Result<()> {
    move |cancel| {
        let outcome = backup(&repository, &mut source, &BackupOptions::default(), cancel, &Silent);
        ended.send(outcome.as_ref().err().map(|error| error.kind().clone())).unwrap();
        outcome.map(drop)
    }
}

/// No snapshot, no lock, and the next backup works.
fn assert_untouched(repository: &Repository) {
    assert!(repository.snapshots().unwrap().is_empty());
    assert!(repository.locks().unwrap().is_empty());
    let tree = MemoryTree::new().with_file("/a", "1");
    let next = backup(repository, &mut tree.source(10), &BackupOptions::default(), &Cancel::new(), &Silent);
    assert!(next.unwrap().snapshot.is_some());
}

#[test]
fn a_verb_that_is_asked_to_stop_says_so_and_leaves_no_snapshot() {
    let repository = repository();
    let (source, is_running) = Endless::new();
    let (ended, _has_ended) = channel();
    let run = bridge::run(endless_backup(repository.clone(), source, ended));
    let cancel = run.cancel();
    thread::spawn(move || {
        is_running.recv_timeout(PATIENCE).unwrap();
        cancel.request();
    });
    let outcome = Builder::new_current_thread().build().unwrap().block_on(run);
    assert_eq!(*outcome.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_untouched(&repository);
}

#[test]
fn a_future_that_is_dropped_stops_its_verb() {
    let repository = repository();
    let (source, is_running) = Endless::new();
    let (ended, has_ended) = channel();
    let run = bridge::run(endless_backup(repository.clone(), source, ended));
    is_running.recv_timeout(PATIENCE).unwrap();
    drop(run);
    assert_eq!(has_ended.recv_timeout(PATIENCE).unwrap(), Some(ErrorKind::Cancelled));
    assert_untouched(&repository);
}

#[test]
fn a_verb_that_was_cancelled_before_it_began_does_nothing() {
    let repository = repository();
    let cancel = Cancel::new();
    cancel.request();
    let (mut source, _is_running) = Endless::new();
    let outcome = backup(&repository, &mut source, &BackupOptions::default(), &cancel, &Silent);
    assert_eq!(*outcome.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_untouched(&repository);
}
