//! A copy holds what its original holds, is made once, and is never visible before it is whole: with another key and
//! with the same, cut off at any moment, beside others, and from a repository that has lost something.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use backup_core::cancel::Cancel;
use backup_core::care::{
    CheckOptions, CopyFate, CopyOptions, CopyOutcome, Prune, PruneOptions, ReadData, Severity, SnapshotCopy, check,
};
use backup_core::clock::SystemClock;
use backup_core::contracts::{Proof, Sink};
use backup_core::model::{Snapshot, SnapshotId};
use backup_core::observe::{Event, Observer, Phase, Silent};
use backup_core::pipeline::{BackupOptions, RestoreOptions, backup, restore};
use backup_core::repository::{CreateOptions, Identity, Like, LockMode, Passphrase, Repository, ScryptCost};
use backup_core::testing::{Call, Ending, MemorySink, MemoryTarget, MemoryTree, RecordingSink, Verb};
use backup_core::{ErrorKind, Result};

const CHEAP: ScryptCost = ScryptCost { n: 2, r: 1, p: 1 };
/// Waiting for locks to be seen is not what is tested here; every batch is as small as it can be.
const WITHOUT_LOCKS: CopyOptions = CopyOptions {
    from_lock: LockMode::None,
    to_lock: LockMode::None,
    level: 3,
    proof: backup_core::codec::Proof::Each,
    batch_bytes: 1,
};

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

fn back_up(repository: &Repository, tree: &MemoryTree, tag: &str) -> SnapshotId {
    let options = BackupOptions { tags: vec![tag.into()], lock: LockMode::None, ..BackupOptions::default() };
    backup(repository, &mut tree.source(50_000), &options, &Cancel::new(), &Silent).unwrap().snapshot.unwrap()
}

fn ids(repository: &Repository) -> Vec<SnapshotId> {
    repository.snapshots().unwrap().into_iter().map(|(id, _)| id).collect()
}

fn plan(from: &Repository, to: &Repository) -> SnapshotCopy {
    SnapshotCopy::plan(from, to, &ids(from), &WITHOUT_LOCKS, &Cancel::new(), &Silent).unwrap()
}

fn copy(from: &Repository, to: &Repository) -> CopyOutcome {
    plan(from, to).apply(&Cancel::new(), &Silent).unwrap()
}

/// Bytes that do not compress.
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

/// Three states of one tree, under the tags that their snapshots get.
fn states() -> [(&'static str, MemoryTree); 3] {
    let one = MemoryTree::new()
        .with_file("/a/large", noise(1, 3_000_000))
        .with_file("/a/text", "all work and no play ".repeat(20_000))
        .with_file("/a/b/small", "1")
        .with_file("/empty", "");
    let two = one.clone().with_file("/a/b/small", "22").with_file("/c/more", noise(2, 900_000));
    let three = two.clone().with_file("/a/large", noise(3, 2_000_000));
    [("one", one), ("two", two), ("three", three)]
}

/// A repository with a snapshot of each state.
fn with_states(sink: Arc<dyn Sink>) -> Repository {
    let repository = create(sink, Like::Nothing);
    for (tag, tree) in &states() {
        back_up(&repository, tree, tag);
    }
    repository
}

/// Every snapshot restores to the state of its tag, and a check that reads everything finds nothing damaged.
fn assert_whole(repository: &Repository, moment: &str) {
    let states = states();
    for (id, snapshot) in repository.snapshots().unwrap() {
        let (_, expected) = states.iter().find(|(tag, _)| snapshot.tags.iter().any(|has| has == tag)).unwrap();
        let target = MemoryTarget::default();
        let options = RestoreOptions { lock: LockMode::None, ..RestoreOptions::default() };
        let outcome = restore(repository, &snapshot, &target, &options, &Cancel::new(), &Silent).unwrap();
        assert_eq!(outcome.losses, 0, "{moment}: {id}");
        assert!(target.tree() == *expected, "{moment}: {id}");
    }
    let options = CheckOptions { read_data: ReadData::All, lock: LockMode::None };
    let report = check(repository, &options, &Cancel::new(), &Silent).unwrap();
    let damages: Vec<_> = report.findings.iter().filter(|finding| finding.severity == Severity::Damage).collect();
    assert!(damages.is_empty(), "{moment}: {damages:?}");
}

fn copies(outcome: &CopyOutcome) -> usize {
    outcome.snapshots.iter().filter(|snapshot| matches!(snapshot.fate, CopyFate::Copied(_))).count()
}

/// Does something once, when a copy begins to copy.
struct WhenCopying<F>(F, AtomicBool);

impl<F: Fn()> WhenCopying<F> {
    fn new(what: F) -> Self {
        Self(what, AtomicBool::new(false))
    }
}

impl<F> fmt::Debug for WhenCopying<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WhenCopying")
    }
}

impl<F: Fn() + Send + Sync> Observer for WhenCopying<F> {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::Phase { phase: Phase::Copy, .. }) && !self.1.swap(true, Ordering::Relaxed) {
            (self.0)();
        }
    }
}

#[test]
fn a_copy_with_another_key_restores_to_the_same_and_is_made_once() {
    let from_sink = Arc::new(RecordingSink::new(Arc::new(MemorySink::new())));
    let from = with_states(Arc::clone(&from_sink) as _);
    let to = create(Arc::new(MemorySink::new()), Like::Cuts(from.clone()));
    assert_ne!(from.master_key(), to.master_key());
    let options = CopyOptions::default();
    let planned = SnapshotCopy::plan(&from, &to, &ids(&from), &options, &Cancel::new(), &Silent).unwrap();
    assert!(planned.planned().snapshots.iter().all(|snapshot| snapshot.fate == CopyFate::ToCopy));
    let expected = planned.planned().blobs;
    let outcome = planned.apply(&Cancel::new(), &Silent).unwrap();
    assert_eq!((copies(&outcome), outcome.failures(), outcome.whole_packs), (3, 0, 0));
    assert_eq!((outcome.blobs, outcome.reached), (expected, Proof::Present));
    assert_whole(&to, "copied");
    assert_eq!((from.locks().unwrap().len(), to.locks().unwrap().len()), (0, 0));

    // What a copy says of itself is what restic says of one.
    for (id, copy) in to.snapshots().unwrap() {
        let original = copy.original.unwrap();
        let (_, source) = from.find_snapshot(&original.to_string(), &Default::default()).unwrap();
        assert_eq!(copy, Snapshot { parent: None, original: Some(original), ..source }, "{id}");
    }

    from_sink.clear();
    let again = copy(&from, &to);
    assert_eq!((copies(&again), again.blobs, ids(&to).len()), (0, 0, 3));
    assert!(again.snapshots.iter().all(|snapshot| matches!(snapshot.fate, CopyFate::There(_))));
    for folder in ["data", "index"] {
        assert_eq!(from_sink.count(Verb::Get, folder), 0, "what is there already is not even looked at");
    }

    let [_, _, (_, three)] = states();
    back_up(&from, &three.with_file("/new", "new"), "four");
    let increment = copy(&from, &to);
    assert_eq!(copies(&increment), 1);
    assert!(increment.blobs <= 2 && increment.bytes_read < 5_000, "{increment:?}");
    // And back: they are known by where they come from.
    assert_eq!(copies(&copy(&to, &from)), 0);
}

#[test]
fn with_the_same_key_whole_packs_go_over_sealed_as_they_are() {
    let from_sink = Arc::new(MemorySink::new());
    let from = with_states(Arc::clone(&from_sink) as _);
    let to_sink = Arc::new(MemorySink::new());
    let to = create(Arc::clone(&to_sink) as _, Like::CutsAndKey(from.clone()));
    let planned = plan(&from, &to);
    assert!(planned.planned().same_key);
    let outcome = planned.apply(&Cancel::new(), &Silent).unwrap();
    let packs = |sink: &MemorySink| -> Vec<_> {
        sink.objects().into_iter().filter(|(key, _)| key.as_str().starts_with("data/")).collect()
    };
    let (before, after) = (packs(&from_sink), packs(&to_sink));
    assert_eq!(outcome.whole_packs as usize, before.len());
    let sealed =
        |packs: &[(_, bytes::Bytes)]| -> Vec<u8> { packs.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect() };
    // Not one blob was sealed anew: every sealed byte is to be found over there.
    let all = sealed(&after);
    for (key, pack) in &before {
        let beginning = &pack[..200];
        assert!(all.windows(200).any(|window| window == beginning), "{key:?}");
        assert!(after.iter().all(|(other, _)| other != key), "a pack kept its name");
    }
    assert_whole(&to, "copied");

    // Of a pack that is wanted in part, what is wanted is proven blob by blob.
    let new = create(Arc::new(MemorySink::new()), Like::CutsAndKey(from.clone()));
    let first = ids(&from)[0];
    for chosen in [vec![first], ids(&from)] {
        let copy = SnapshotCopy::plan(&from, &new, &chosen, &WITHOUT_LOCKS, &Cancel::new(), &Silent).unwrap();
        copy.apply(&Cancel::new(), &Silent).unwrap();
        assert_whole(&new, "copied in two steps");
    }
}

#[test]
fn the_same_key_does_not_excuse_from_looking_at_what_is_copied() {
    let sink = Arc::new(MemorySink::new());
    let from = with_states(Arc::clone(&sink) as _);
    let (damaged, _) = sink
        .objects()
        .into_iter()
        .filter(|(key, _)| key.as_str().starts_with("data/"))
        .max_by_key(|(_, bytes)| bytes.len())
        .unwrap();
    let mut bytes = sink.content(&damaged).unwrap().to_vec();
    bytes[1_000_000] ^= 1;
    sink.replace(damaged, bytes);
    for like in [Like::CutsAndKey(from.clone()), Like::Cuts(from.clone())] {
        let to = create(Arc::new(MemorySink::new()), like);
        let outcome = copy(&from, &to);
        // Two of the three share what is damaged; they are in different batches.
        assert_eq!((outcome.failures(), copies(&outcome), ids(&to).len()), (2, 1, 1), "{outcome:?}");
        assert_whole(&to, "of damaged data");
    }
}

#[test]
fn a_snapshot_that_lacks_something_is_left_out_and_the_others_are_copied() {
    let sink = Arc::new(MemorySink::new());
    let from = with_states(Arc::clone(&sink) as _);
    let before: Vec<_> = sink.objects().into_keys().collect();
    let [_, (_, two), _] = states();
    let doomed = back_up(&from, &two.with_file("/only/here", noise(9, 100_000)), "doomed");
    let new: Vec<_> = sink.objects().into_keys().filter(|key| !before.contains(key)).collect();
    let packs: Vec<_> = new.into_iter().filter(|key| key.as_str().starts_with("data/")).collect();
    assert_eq!(packs.len(), 2, "data and trees");
    // Without its data, and without its trees: one is found out while copying, the other while planning.
    for pack in packs {
        let content = sink.remove(&pack).unwrap();
        let to = create(Arc::new(MemorySink::new()), Like::Nothing);
        let outcome = copy(&from, &to);
        assert_eq!((copies(&outcome), outcome.failures()), (3, 1));
        let fate = &outcome.snapshots.iter().find(|snapshot| snapshot.id == doomed).unwrap().fate;
        assert!(matches!(fate, CopyFate::Impossible(why) if why.contains("missing")), "{fate:?}");
        assert_eq!(ids(&to).len(), 3);
        assert_whole(&to, "without the doomed one");
        // Once the pack is back, the next copy makes up for it.
        sink.replace(pack, content);
        let outcome = copy(&from, &to);
        assert_eq!((copies(&outcome), outcome.failures()), (1, 0));
    }
}

#[test]
fn cut_off_anywhere_a_copy_shows_only_what_is_whole_and_the_next_one_finishes() {
    let from = with_states(Arc::new(MemorySink::new()));
    let before = Arc::new(MemorySink::new());
    drop(create(Arc::clone(&before) as _, Like::Cuts(from.clone())));
    let start = before.fork();
    let recorder = Arc::new(RecordingSink::new(before));
    assert_eq!(copies(&copy(&from, &open(Arc::clone(&recorder) as _))), 3);
    let recording = recorder.recording();
    let mut seen = std::collections::BTreeSet::new();
    for ending in [Ending::Killed, Ending::PowerLost] {
        for tick in 0..=recording.ticks() {
            let moment = format!("{ending:?} at {tick}");
            let to = open(Arc::new(recording.left_behind(&start, tick, ending, tick)));
            seen.insert(ids(&to).len());
            assert_whole(&to, &moment);
            let outcome = copy(&from, &to);
            assert_eq!(outcome.failures(), 0, "{moment}");
            assert_eq!(ids(&to).len(), 3, "{moment}");
            assert_whole(&to, &moment);
        }
    }
    assert!(seen.contains(&1), "the first batch is there before the last: {seen:?}");
}

#[test]
fn what_a_stopped_copy_has_sent_is_not_sent_again() {
    let from = with_states(Arc::new(MemorySink::new()));
    let to = create(Arc::new(MemorySink::new()), Like::Cuts(from.clone()));
    let cancel = Cancel::new();
    #[derive(Debug)]
    struct StopSoon(Cancel);
    impl Observer for StopSoon {
        fn event(&self, event: Event<'_>) {
            if let Event::Progress(amount) = event
                && amount.bytes > 1_000_000
            {
                self.0.request();
            }
        }
    }
    let all = plan(&from, &to).planned().bytes;
    let stopped = plan(&from, &to).apply(&cancel, &StopSoon(cancel.clone()));
    assert_eq!(*stopped.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(ids(&to).is_empty());
    let rest = plan(&from, &to);
    assert!(rest.planned().bytes < all - 1_000_000, "{} of {all}", rest.planned().bytes);
    rest.apply(&Cancel::new(), &Silent).unwrap();
    assert_whole(&to, "after a stop");
}

#[test]
fn packs_that_a_prune_marks_meanwhile_are_taken_back() {
    let from = with_states(Arc::new(MemorySink::new()));
    let to = create(Arc::new(MemorySink::new()), Like::Cuts(from.clone()));
    copy(&from, &to);
    let copied = ids(&to);
    to.remove_snapshots(&copied, &Silent).unwrap();
    let other = to.clone();
    let observer = WhenCopying::new(move || {
        let prune = Prune::plan(&other, &PruneOptions::default(), &Cancel::new(), &Silent).unwrap();
        assert!(prune.apply(&Cancel::new(), &Silent).unwrap().marked > 0);
    });
    let outcome = plan(&from, &to).apply(&Cancel::new(), &observer).unwrap();
    assert_eq!((copies(&outcome), outcome.blobs), (3, 0), "the data was there");
    let index = to.load_index(&Silent).unwrap();
    assert!(index.packs().iter().all(|pack| pack.marked.is_none()));
    assert_whole(&to, "beside a prune");
}

#[test]
fn of_two_copies_at_once_one_makes_the_snapshots() {
    let from = with_states(Arc::new(MemorySink::new()));
    let to = create(Arc::new(MemorySink::new()), Like::Cuts(from.clone()));
    let (near, far) = (from.clone(), to.clone());
    let observer = WhenCopying::new(move || assert_eq!(copies(&copy(&near, &far)), 3));
    let outcome = plan(&from, &to).apply(&Cancel::new(), &observer).unwrap();
    assert_eq!((copies(&outcome), outcome.failures(), ids(&to).len()), (0, 0, 3));
    assert_whole(&to, "two at once");
}

#[test]
fn a_copy_asks_for_parts_of_packs_that_lie_together_in_one_request() {
    let sink = Arc::new(RecordingSink::new(Arc::new(MemorySink::new())));
    let from = create(Arc::clone(&sink) as _, Like::Nothing);
    let tree = (0..3_000_u32).fold(MemoryTree::new(), |tree, number| {
        tree.with_file(&format!("/{}/{number}", number % 50), noise(number, 300))
    });
    back_up(&from, &tree, "one");
    let to = create(Arc::new(MemorySink::new()), Like::Nothing);
    sink.clear();
    let outcome = copy(&from, &to);
    assert_eq!(outcome.blobs, 3_000 + 51);
    let gets = sink
        .records()
        .iter()
        .filter(|record| matches!(&record.call, Call::Get { key, .. } if key.as_str().starts_with("data/")))
        .count();
    assert!(gets <= 6, "{gets} requests for two packs, of which one was read twice");
}

#[test]
fn a_repository_is_not_copied_to_itself() -> Result<()> {
    let repository = with_states(Arc::new(MemorySink::new()));
    let error = SnapshotCopy::plan(&repository, &repository, &[], &WITHOUT_LOCKS, &Cancel::new(), &Silent).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Invalid(_)), "{error}");
    Ok(())
}
