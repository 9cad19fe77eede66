//! One pass over a source for several repositories: read once, the same snapshot everywhere, and none stops another.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use backup_core::cancel::Cancel;
use backup_core::care::{CheckOptions, CopyFate, CopyOptions, ReadData, Severity, SnapshotCopy, check};
use backup_core::clock::SystemClock;
use backup_core::contracts::{Proof, Sink, SinkErrorKind};
use backup_core::limits::DESTINATIONS_MAX;
use backup_core::observe::{Event, Observer, Silent};
use backup_core::pipeline::{BackupOptions, BackupOutcome, RestoreOptions, backup, backup_to_all, restore};
use backup_core::repository::{CreateOptions, Identity, Like, LockMode, Passphrase, Repository, ScryptCost};
use backup_core::testing::{Call, Fault, FaultySink, MemorySink, MemoryTarget, MemoryTree, RecordingSink, Verb};
use backup_core::{ErrorKind, Result};

const CHEAP: ScryptCost = ScryptCost { n: 2, r: 1, p: 1 };

fn identity() -> Identity {
    let pid = i32::try_from(std::process::id()).unwrap();
    Identity { hostname: "host".into(), username: "user".into(), uid: 1, gid: 1, pid }
}

fn create(sink: Arc<dyn Sink>, like: Like) -> Repository {
    let options = CreateOptions { like, cost: Some(CHEAP) };
    Repository::create(sink, &Passphrase::new("x"), &options, identity(), Arc::new(SystemClock)).unwrap()
}

fn open(sink: Arc<dyn Sink>) -> Repository {
    Repository::open(sink, &Passphrase::new("x"), identity(), Arc::new(SystemClock), &Silent).unwrap()
}

fn memory() -> Repository {
    create(Arc::new(MemorySink::new()), Like::Nothing)
}

fn options() -> BackupOptions {
    BackupOptions { lock: LockMode::None, ..BackupOptions::default() }
}

fn back_up(repositories: &[Repository], tree: &MemoryTree) -> Result<Vec<Result<BackupOutcome>>> {
    backup_to_all(repositories, &mut tree.source(50_000), &options(), &Cancel::new(), &Silent)
}

fn noise(seed: u32, bytes: usize) -> Vec<u8> {
    let mut state = u64::from(seed) * 977 + 5;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn tree() -> MemoryTree {
    MemoryTree::new()
        .with_file("/a/large", noise(1, 3_000_000))
        .with_file("/a/text", "all work and no play ".repeat(20_000))
        .with_file("/b/small", "1")
}

/// The newest snapshot restores to `tree`, and a check that reads everything finds nothing damaged.
fn assert_holds(repository: &Repository, tree: &MemoryTree) {
    let (_, snapshot) = repository.snapshots().unwrap().pop().unwrap();
    let target = MemoryTarget::default();
    let options = RestoreOptions { lock: LockMode::None, ..RestoreOptions::default() };
    assert_eq!(restore(repository, &snapshot, &target, &options, &Cancel::new(), &Silent).unwrap().losses, 0);
    assert!(target.tree() == *tree);
    let options = CheckOptions { read_data: ReadData::All, lock: LockMode::None };
    let report = check(repository, &options, &Cancel::new(), &Silent).unwrap();
    let damages: Vec<_> = report.findings.iter().filter(|finding| finding.severity == Severity::Damage).collect();
    assert!(damages.is_empty(), "{damages:?}");
}

/// Counts the bytes that are read of the source, and what is told.
#[derive(Debug, Default)]
struct Listener {
    read: AtomicU64,
    notices: std::sync::Mutex<Vec<String>>,
}

impl Observer for Listener {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Progress(amount) if amount.items == 0 => {
                self.read.fetch_add(amount.bytes, Ordering::Relaxed);
            }
            Event::Notice(text) => self.notices.lock().unwrap().push(text.to_owned()),
            _ => {}
        }
    }
}

/// A sink that, once it is told to, fails every change in a folder.
fn breakable(inner: Arc<MemorySink>, folder: &'static str) -> (Arc<AtomicBool>, Arc<dyn Sink>) {
    let is_broken = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_broken);
    let applies = move |call: &Call| call.is_change() && call.is_below(folder) && told.load(Ordering::Relaxed);
    (is_broken, Arc::new(FaultySink::new(inner).when(applies, Fault::Failed(SinkErrorKind::Unavailable))))
}

#[test]
fn a_repository_whose_locks_could_not_be_deleted_takes_none_and_the_others_do() {
    let sinks: Vec<_> = (0..2).map(|_| Arc::new(RecordingSink::new(Arc::new(MemorySink::new())))).collect();
    let all: Vec<_> = sinks.iter().map(|sink| create(Arc::clone(sink) as _, Like::Nothing)).collect();
    let options = BackupOptions { lock_free: vec![1], ..BackupOptions::default() };
    backup_to_all(&all, &mut tree().source(50_000), &options, &Cancel::new(), &Silent).unwrap();
    let locks: Vec<_> = sinks.iter().map(|sink| sink.count(Verb::Put, "locks") > 0).collect();
    assert_eq!(locks, [true, false]);
}

#[test]
fn the_source_is_read_once_and_every_repository_has_the_same_snapshot() {
    let one = memory();
    let same_key = create(Arc::new(MemorySink::new()), Like::CutsAndKey(one.clone()));
    let stranger = memory();
    let all = [one, same_key, stranger];
    let listener = Listener::default();
    let options = BackupOptions { lock: LockMode::Shared, ..BackupOptions::default() };
    let outcomes = backup_to_all(&all, &mut tree().source(50_000), &options, &Cancel::new(), &listener).unwrap();
    assert_eq!(listener.read.load(Ordering::Relaxed), 3_000_000 + 21 * 20_000 + 1);
    assert!(listener.notices.lock().unwrap().is_empty());
    let snapshots: Vec<_> = all.iter().map(|repository| repository.snapshots().unwrap().pop().unwrap()).collect();
    for ((repository, outcome), (id, snapshot)) in all.iter().zip(&outcomes).zip(&snapshots) {
        let outcome = outcome.as_ref().unwrap();
        assert_eq!((outcome.snapshot, outcome.reached), (Some(*id), Proof::Present));
        assert_eq!(snapshot.tree, snapshots[0].1.tree);
        assert_eq!(snapshot.original, (*id != snapshots[0].0).then_some(snapshots[0].0));
        assert_holds(repository, &tree());
        assert!(repository.locks().unwrap().is_empty());
    }
    // Each is the others' copy.
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 1)] {
        let (ids, copies) = (vec![snapshots[from].0], CopyOptions::default());
        let copy = SnapshotCopy::plan(&all[from], &all[to], &ids, &copies, &Cancel::new(), &Silent).unwrap();
        assert_eq!(copy.planned().snapshots[0].fate, CopyFate::There(snapshots[to].0));
    }
    // Nothing has changed: nothing is read, and each is compared with its own.
    let listener = Listener::default();
    let again = backup_to_all(&all, &mut tree().source(50_000), &options, &Cancel::new(), &listener).unwrap();
    assert_eq!(listener.read.load(Ordering::Relaxed), 0);
    for (outcome, (id, _)) in again.iter().zip(&snapshots) {
        let outcome = outcome.as_ref().unwrap();
        assert_eq!((outcome.parent, outcome.summary.files_unmodified), (Some(*id), 3));
        assert_eq!(outcome.summary.data_added, 0);
    }
}

#[test]
fn whichever_fails_the_others_have_their_snapshot_and_the_next_run_catches_up() {
    let cases = (0..3).flat_map(|broken| ["data", "index", "snapshots"].map(|folder| (broken, folder)));
    for ((broken, folder), when) in cases.flat_map(|case| [0, 1].map(|when| (case, when))) {
        let sinks: Vec<_> = (0..3).map(|_| Arc::new(MemorySink::new())).collect();
        let first = create(Arc::clone(&sinks[0]) as _, Like::Nothing);
        for sink in &sinks[1..] {
            create(Arc::clone(sink) as _, Like::Cuts(first.clone()));
        }
        let (is_broken, faulty) = breakable(Arc::clone(&sinks[broken]), folder);
        let all: Vec<Repository> = (0..3)
            .map(|number| open(if number == broken { Arc::clone(&faulty) } else { Arc::clone(&sinks[number]) as _ }))
            .collect();
        // With nothing stored yet, and with a snapshot that the others go on from.
        let before = if when == 1 { usize::from(back_up(&all, &tree()).unwrap().iter().all(Result::is_ok)) } else { 0 };
        is_broken.store(true, Ordering::Relaxed);
        let changed = tree().with_file("/new", noise(7, 400_000));
        let listener = Listener::default();
        let outcomes = backup_to_all(&all, &mut changed.source(50_000), &options(), &Cancel::new(), &listener).unwrap();
        for (number, outcome) in outcomes.iter().enumerate() {
            assert_eq!(outcome.is_err(), number == broken, "{broken} {number}");
            let snapshots = all[number].snapshots().unwrap();
            assert_eq!(snapshots.len(), before + usize::from(number != broken));
            if number != broken {
                assert_holds(&all[number], &changed);
            }
        }
        let newest: Vec<_> = (0..3).filter(|number| *number != broken).collect();
        let newest = newest.iter().map(|number| all[*number].snapshots().unwrap().pop().unwrap()).collect::<Vec<_>>();
        assert_eq!((newest[0].1.original, newest[1].1.original), (None, Some(newest[0].0)), "{broken} {folder}");
        let error = outcomes[broken].as_ref().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Sink(SinkErrorKind::Unavailable));
        assert!(listener.notices.lock().unwrap().iter().any(|text| text.contains("the others go on")));

        is_broken.store(false, Ordering::Relaxed);
        let caught_up = back_up(&all, &changed).unwrap();
        assert!(caught_up.iter().all(Result::is_ok));
        for repository in &all {
            assert_holds(repository, &changed);
        }
    }
}

#[test]
fn a_repository_that_is_locked_stops_only_itself() {
    let all = [memory(), memory()];
    let held = all[0].lock(LockMode::Exclusive, &Silent).unwrap();
    let options = BackupOptions::default();
    let outcomes = backup_to_all(&all, &mut tree().source(50_000), &options, &Cancel::new(), &Silent).unwrap();
    assert!(matches!(outcomes[0].as_ref().unwrap_err().kind(), ErrorKind::Locked(_)));
    assert_holds(&all[1], &tree());
    drop(held);
    let outcomes = backup_to_all(&all, &mut tree().source(50_000), &options, &Cancel::new(), &Silent).unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
    assert_holds(&all[0], &tree());
}

#[test]
fn when_every_repository_fails_the_first_failure_is_the_runs() {
    let (is_broken, sink) = breakable(Arc::new(MemorySink::new()), "data");
    let (too, other) = breakable(Arc::new(MemorySink::new()), "index");
    let all = [create(sink, Like::Nothing), create(other, Like::Nothing)];
    is_broken.store(true, Ordering::Relaxed);
    too.store(true, Ordering::Relaxed);
    let error = back_up(&all, &tree()).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Sink(SinkErrorKind::Unavailable));
    assert!(back_up(&[], &tree()).is_err());
    let many: Vec<_> = (0..=DESTINATIONS_MAX).map(|_| memory()).collect();
    assert!(matches!(back_up(&many, &tree()).unwrap_err().kind(), ErrorKind::Limit(_)));
    let twice = memory();
    assert!(matches!(back_up(&[twice.clone(), twice], &tree()).unwrap_err().kind(), ErrorKind::Invalid(_)));
}

#[test]
fn files_are_cut_as_the_first_repository_cuts_them() {
    let (one, other) = (memory(), memory());
    back_up(&[one.clone(), other.clone()], &tree()).unwrap();
    let alone = create(Arc::new(MemorySink::new()), Like::Cuts(one.clone()));
    backup(&alone, &mut tree().source(50_000), &options(), &Cancel::new(), &Silent).unwrap();
    let tree_of = |repository: &Repository| repository.snapshots().unwrap()[0].1.tree;
    assert_eq!(tree_of(&alone), tree_of(&other));
    // Of a short file two polynomials may make the same pieces, which end where the file does; of one that is longer than
    // two of the longest pieces they do not.
    let long = MemoryTree::new().with_file("/long", noise(5, 20_000_000));
    let (again, another) = (create(Arc::new(MemorySink::new()), Like::Cuts(one)), memory());
    for first in [&again, &another] {
        back_up(std::slice::from_ref(first), &long).unwrap();
    }
    assert_ne!(tree_of(&another), tree_of(&again));
}
