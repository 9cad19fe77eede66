//! Killed anywhere, or the plug pulled anywhere: what is left is a repository, and the next run continues.
//!
//! A run is recorded at the sink, and what it would have left is made for every moment of it, with the liberties that
//! the sink's contract leaves: unsynced writes lost, damaged, reordered.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use backup_core::ErrorKind;
use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::contracts::{Sink, SinkErrorKind};
use backup_core::model::SnapshotId;
use backup_core::observe::{Event, Observer, Silent};
use backup_core::pipeline::{BackupOptions, RestoreOptions, backup, restore};
use backup_core::repository::{CreateOptions, Identity, LockMode, Passphrase, Repository, ScryptCost};
use backup_core::testing::{
    Call, Ending, Fault, FaultySink, MemorySink, MemoryTarget, MemoryTree, RecordingSink, Verb,
};

const CHEAP: ScryptCost = ScryptCost { n: 2, r: 1, p: 1 };
const SEEDS: u64 = 4;

fn identity() -> Identity {
    let pid = i32::try_from(std::process::id()).unwrap();
    Identity { hostname: "host".into(), username: "user".into(), uid: 1, gid: 1, pid }
}

fn create(sink: Arc<dyn Sink>) -> Result<Repository, backup_core::Error> {
    let options = CreateOptions { cost: Some(CHEAP), ..CreateOptions::default() };
    Repository::create(sink, &Passphrase::new("x"), &options, identity(), Arc::new(SystemClock))
}

fn open(sink: Arc<dyn Sink>) -> Result<Repository, backup_core::Error> {
    Repository::open(sink, &Passphrase::new("x"), identity(), Arc::new(SystemClock), &Silent)
}

/// Backs up `tree` under a tag that says which one it is.
fn back_up(repository: &Repository, tree: &MemoryTree, tag: &str) -> SnapshotId {
    // The locks of a run that was cut off are part of what the others must cope with; waiting for them is not.
    let options = BackupOptions { tags: vec![tag.into()], lock: LockMode::None, ..BackupOptions::default() };
    backup(repository, &mut tree.source(50_000), &options, &Cancel::new(), &Silent).unwrap().snapshot.unwrap()
}

fn assert_restores(repository: &Repository, trees: &[(&str, &MemoryTree)], moment: &str) {
    for (id, snapshot) in repository.snapshots().unwrap() {
        let expected = trees.iter().find(|(tag, _)| snapshot.tags.contains(&(*tag).to_owned())).unwrap().1;
        let target = MemoryTarget::default();
        let options = RestoreOptions { lock: LockMode::None, ..RestoreOptions::default() };
        let outcome = restore(repository, &snapshot, &target, &options, &Cancel::new(), &Silent).unwrap();
        assert_eq!(outcome.losses, 0, "{id} {moment}");
        // Not `assert_eq`: nobody reads a megabyte of bytes.
        assert!(target.tree() == *expected, "{id} {moment}: {} against {}", outline(&target.tree()), outline(expected));
    }
}

fn outline(tree: &MemoryTree) -> String {
    tree.entries().map(|(path, entry)| format!("{path} {} {:?}; ", entry.bytes.len(), entry.metadata.mode)).collect()
}

fn trees() -> [MemoryTree; 3] {
    let noise = |seed: u8| -> Vec<u8> {
        (0..700_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed).collect()
    };
    let one = MemoryTree::new().with_file("/a/b", noise(1)).with_file("/a/c", "1").with_file("/d", "");
    let two = one.clone().with_file("/a/c", "22").with_file("/e/f", noise(2));
    let three = two.clone().with_file("/g", "3");
    [one, two, three]
}

#[test]
fn a_creation_that_was_cut_off_is_repeated_or_complete() {
    let recorder = Arc::new(RecordingSink::new(Arc::new(MemorySink::new())));
    drop(create(Arc::clone(&recorder) as _).unwrap());
    let recording = recorder.recording();
    for ending in [Ending::Killed, Ending::PowerLost] {
        for (tick, seed) in (0..=recording.ticks()).flat_map(|tick| (0..SEEDS * 4).map(move |seed| (tick, seed))) {
            let left: Arc<MemorySink> = Arc::new(recording.left_behind(&MemorySink::new(), tick, ending, seed));
            match open(Arc::clone(&left) as _) {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(*error.kind(), ErrorKind::NoRepository, "{ending:?} at {tick}/{seed}: {error}");
                    let again = Arc::clone(&left) as Arc<dyn Sink>;
                    create(again).unwrap_or_else(|error| panic!("{ending:?} at {tick}/{seed}: {error}"));
                    open(Arc::clone(&left) as _).unwrap_or_else(|error| panic!("{ending:?} at {tick}/{seed}: {error}"));
                    // Other programs try one key alone.
                    let keys = left.objects().keys().filter(|key| key.as_str().starts_with("keys/")).count();
                    assert_eq!(keys, 1, "{ending:?} at {tick}/{seed}");
                }
            }
        }
    }
}

#[test]
fn a_creation_that_fails_takes_its_key_away_and_one_whose_key_stays_does_no_harm() {
    for kind in [SinkErrorKind::PermissionDenied, SinkErrorKind::Unavailable, SinkErrorKind::NoSpace] {
        let store = Arc::new(MemorySink::new());
        let is_config = |call: &Call| matches!(call, Call::Put { key, .. } if key.as_str() == "config");
        let refuses = FaultySink::new(Arc::clone(&store) as _).when(is_config, Fault::Failed(kind));
        assert_eq!(*create(Arc::new(refuses)).unwrap_err().kind(), ErrorKind::Sink(kind));
        assert!(store.objects().is_empty(), "{kind:?}");
        // It was carried out although it was reported as failed: the key is that of a repository.
        let lies = FaultySink::new(Arc::clone(&store) as _).when(is_config, Fault::DoneButFailed(kind));
        assert_eq!(*create(Arc::new(lies)).unwrap_err().kind(), ErrorKind::Sink(kind));
        open(Arc::clone(&store) as _).unwrap();
    }
    // Where nothing can be deleted, keys of earlier creations stay, and come first or last as chance has it.
    for _ in 0..8 {
        let store = Arc::new(MemorySink::new());
        let spoils = |call: &Call| {
            call.verb() == Verb::Delete || matches!(call, Call::Put { key, .. } if key.as_str() == "config")
        };
        let refuses =
            FaultySink::new(Arc::clone(&store) as _).when(spoils, Fault::Failed(SinkErrorKind::PermissionDenied));
        create(Arc::new(refuses)).unwrap_err();
        let keeps = FaultySink::new(Arc::clone(&store) as _)
            .when(|call| call.verb() == Verb::Delete, Fault::Failed(SinkErrorKind::PermissionDenied));
        create(Arc::new(keeps)).unwrap();
        assert_eq!(store.objects().keys().filter(|key| key.as_str().starts_with("keys/")).count(), 2);
        open(store).unwrap();
    }
}

#[test]
fn a_backup_that_was_cut_off_costs_no_earlier_snapshot_and_the_next_one_works() {
    let [one, two, three] = trees();
    let before = Arc::new(MemorySink::new());
    back_up(&create(Arc::clone(&before) as _).unwrap(), &one, "one");
    let start = before.fork();
    let recorder = Arc::new(RecordingSink::new(before));
    back_up(&open(Arc::clone(&recorder) as _).unwrap(), &two, "two");
    let recording = recorder.recording();
    for ending in [Ending::Killed, Ending::PowerLost] {
        for (tick, seed) in (0..=recording.ticks()).flat_map(|tick| (0..SEEDS).map(move |seed| (tick, seed))) {
            let moment = format!("{ending:?} at {tick}/{seed}");
            let left = Arc::new(recording.left_behind(&start, tick, ending, seed));
            let repository = open(left).unwrap_or_else(|error| panic!("{moment}: {error}"));
            let known = [("one", &one), ("two", &two), ("three", &three)];
            assert_restores(&repository, &known, &moment);
            back_up(&repository, &three, "three");
            assert_restores(&repository, &known, &moment);
            assert!(repository.snapshots().unwrap().len() >= 2, "{moment}");
        }
    }
}

#[test]
fn a_lock_left_by_a_killed_run_does_not_stop_the_next_one() {
    let [one, two, _] = trees();
    let sink = Arc::new(MemorySink::new());
    let repository = create(Arc::clone(&sink) as _).unwrap();
    back_up(&repository, &one, "one");
    // A process that has ended: its number lives no more.
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    child.wait().unwrap();
    let dead = Identity { pid, ..identity() };
    let killed = Repository::open(sink, &Passphrase::new("x"), dead, Arc::new(SystemClock), &Silent).unwrap();
    std::mem::forget(killed.lock(LockMode::Exclusive, &Silent).unwrap());
    let options = BackupOptions { tags: vec!["two".into()], ..BackupOptions::default() };
    backup(&repository, &mut two.source(1_000_000), &options, &Cancel::new(), &Silent).unwrap();
    assert_eq!(repository.locks().unwrap().len(), 0);
    assert_restores(&repository, &[("one", &one), ("two", &two)], "after a killed run");
}

/// Four packs and more of bytes that cannot be compressed.
fn large() -> MemoryTree {
    let mut state = 88_172_645_463_325_252_u64;
    let mut noise = || -> Vec<u8> {
        let words = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        words.take(1_500_000).flatten().collect()
    };
    (0..6).fold(MemoryTree::new(), |tree, number| tree.with_file(&format!("/{number}"), noise()))
}

/// Ends a run when a few packs are stored.
#[derive(Debug)]
struct EndsAfter(AtomicUsize, Cancel);

impl Observer for EndsAfter {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::PackStored { .. }) && self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.1.request();
        }
    }
}

/// What the next run stores of what an earlier one has not.
fn stored_next(sink: Arc<MemorySink>, tree: &MemoryTree) -> u64 {
    let repository = open(sink).unwrap();
    let options = BackupOptions { tags: vec!["next".into()], ..BackupOptions::default() };
    let outcome = backup(&repository, &mut tree.source(1_000_000), &options, &Cancel::new(), &Silent).unwrap();
    assert_restores(&repository, &[("next", tree)], "after a run that was ended");
    outcome.summary.data_added
}

#[test]
fn a_run_that_is_ended_has_listed_what_it_stored_and_the_next_one_continues() {
    let sink = Arc::new(MemorySink::new());
    let (repository, tree, cancel) = (create(Arc::clone(&sink) as _).unwrap(), large(), Cancel::new());
    let observer = EndsAfter(AtomicUsize::new(2), cancel.clone());
    let ended = backup(&repository, &mut tree.source(1_000_000), &BackupOptions::default(), &cancel, &observer);
    assert_eq!(*ended.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(stored_next(sink, &tree) < 45_000_000, "two packs of 16 MiB need not be stored again");
}

#[test]
fn a_full_disk_ends_a_run_and_the_next_one_continues_from_what_was_stored() {
    let memory = Arc::new(MemorySink::new());
    drop(create(Arc::clone(&memory) as _).unwrap());
    let tree = large();
    // Two packs fit, however their pieces were cut: a pack is full at 16 MiB, and its last piece has 8 MiB at most.
    let full = FaultySink::new(Arc::clone(&memory) as _).full_after(52_000_000);
    let repository = open(Arc::new(full)).unwrap();
    let ended = backup(&repository, &mut tree.source(1_000_000), &BackupOptions::default(), &Cancel::new(), &Silent)
        .unwrap_err();
    assert_eq!(*ended.kind(), ErrorKind::Sink(SinkErrorKind::NoSpace));
    assert!(ended.hint().unwrap().contains("continued from"));
    assert_eq!(repository.snapshots().unwrap().len(), 0);
    assert!(stored_next(memory, &tree) < 45_000_000, "two packs of 16 MiB need not be stored again");
}
