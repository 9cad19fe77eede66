//! A prune never removes what a snapshot needs: in any order of backups, forgetting, prunes and days; cut off at any
//! moment; beside a backup that takes no lock.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use backup_core::cancel::Cancel;
use backup_core::care::{
    Action, CheckOptions, MaxUnused, Prune, PruneMode, PruneOptions, PruneOutcome, ReadData, Severity, check,
};
use backup_core::clock::ManualClock;
use backup_core::contracts::{PutMode, Report, Sink, Source, SourceError, SourceEvent, SourceInfo};
use backup_core::model::SnapshotId;
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOptions, RestoreOptions, backup, restore};
use backup_core::repository::{CreateOptions, Identity, LockMode, Passphrase, Repository, ScryptCost};
use backup_core::testing::{Ending, MemorySink, MemorySource, MemoryTarget, MemoryTree, RecordingSink};
use backup_core::{ErrorKind, Result};
use jiff::{SignedDuration, Timestamp};

const CHEAP: ScryptCost = ScryptCost { n: 2, r: 1, p: 1 };
const DAY_AND_A_BIT: SignedDuration = SignedDuration::from_hours(25);

struct Store {
    clock: Arc<ManualClock>,
    repository: Repository,
}

fn identity() -> Identity {
    let pid = i32::try_from(std::process::id()).unwrap();
    Identity { hostname: "host".into(), username: "user".into(), uid: 1, gid: 1, pid }
}

impl Store {
    fn create(sink: Arc<dyn Sink>) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::now()));
        let options = CreateOptions { cost: Some(CHEAP), ..CreateOptions::default() };
        let repository = Repository::create(sink, &Passphrase::new("x"), &options, identity(), Arc::clone(&clock) as _);
        Self { clock, repository: repository.unwrap() }
    }

    fn open(sink: Arc<dyn Sink>) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::now()));
        let repository = Repository::open(sink, &Passphrase::new("x"), identity(), Arc::clone(&clock) as _, &Silent);
        Self { clock, repository: repository.unwrap() }
    }

    fn back_up(&self, tree: &MemoryTree, tag: &str) -> SnapshotId {
        self.back_up_from(&mut tree.source(1_000_000), tag).unwrap()
    }

    fn back_up_from(&self, source: &mut dyn Source, tag: &str) -> Result<SnapshotId> {
        let options = BackupOptions { tags: vec![tag.into()], lock: LockMode::None, ..BackupOptions::default() };
        Ok(backup(&self.repository, source, &options, &Cancel::new(), &Silent)?.snapshot.unwrap())
    }

    fn forget(&self, id: SnapshotId) {
        self.repository.remove_snapshots(&[id], &Silent).unwrap();
    }

    fn prune(&self, options: &PruneOptions) -> PruneOutcome {
        let prune = Prune::plan(&self.repository, options, &Cancel::new(), &Silent).unwrap();
        prune.apply(&Cancel::new(), &Silent).unwrap()
    }

    /// Every snapshot restores to the tree of its tag, and a check finds nothing damaged.
    fn assert_whole(&self, trees: &[(String, MemoryTree)], moment: &str) {
        for (id, snapshot) in self.repository.snapshots().unwrap() {
            let (_, expected) = trees.iter().find(|(tag, _)| snapshot.tags.contains(tag)).unwrap();
            let target = MemoryTarget::default();
            let options = RestoreOptions { lock: LockMode::None, ..RestoreOptions::default() };
            let outcome = restore(&self.repository, &snapshot, &target, &options, &Cancel::new(), &Silent)
                .unwrap_or_else(|error| panic!("{moment}: {id}: {error}"));
            assert_eq!(outcome.losses, 0, "{moment}: {id}");
            assert!(target.tree() == *expected, "{moment}: {id}");
        }
        let options = CheckOptions { read_data: ReadData::None, lock: LockMode::None };
        let report = check(&self.repository, &options, &Cancel::new(), &Silent).unwrap();
        let damages: Vec<_> = report.findings.iter().filter(|finding| finding.severity == Severity::Damage).collect();
        assert!(damages.is_empty(), "{moment}: {damages:?}");
    }

    fn packs(&self) -> usize {
        self.repository.store().list("data").unwrap().len()
    }
}

fn instant() -> PruneOptions {
    PruneOptions { mode: PruneMode::Instant, ..PruneOptions::default() }
}

/// The next of a row of numbers that look random.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 11
}

/// Twelve files that trees are put together from, so that snapshots share some of their packs.
fn file(number: u64) -> Vec<u8> {
    let mut state = number * 977 + 5;
    (0..40_000 + number * 9_000).map(|_| next(&mut state) as u8).collect()
}

fn some_tree(state: &mut u64) -> MemoryTree {
    let chosen = next(state);
    (0..12)
        .filter(|number| chosen >> number & 1 == 1)
        .fold(MemoryTree::new().with_file("/always", "x"), |tree, number| {
            tree.with_file(&format!("/folder{}/file{number}", number % 3), file(number))
        })
}

#[test]
fn nothing_that_a_snapshot_needs_is_removed_in_any_order_of_things() {
    std::thread::scope(|scope| {
        for seed in 1..=12_u64 {
            scope.spawn(move || live(seed));
        }
    });
}

/// A life of a repository: ten things happen, and after each everything restores.
fn live(seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let store = Store::create(Arc::new(MemorySink::new()));
    let mut trees: Vec<(String, MemoryTree)> = Vec::new();
    let mut history = format!("seed {seed}:");
    for step in 0..14 {
        let snapshots = store.repository.snapshots().unwrap();
        let what = if step < 3 { 0 } else { next(&mut state) % 7 };
        match what {
            0 | 1 => {
                let tag = format!("tree{step}");
                // Now and then a tree of the past, whose packs may be marked.
                let tree = match trees.len() as u64 {
                    count if count > 0 && next(&mut state).is_multiple_of(3) => {
                        trees[usize::try_from(next(&mut state) % count).unwrap()].1.clone()
                    }
                    _ => some_tree(&mut state),
                };
                store.back_up(&tree, &tag);
                trees.push((tag, tree));
                history += " create";
            }
            2 | 3 if !snapshots.is_empty() => {
                let at = usize::try_from(next(&mut state) % snapshots.len() as u64).unwrap();
                store.forget(snapshots[at].0);
                history += " forget";
            }
            4 => {
                store.clock.advance(DAY_AND_A_BIT);
                history += " day";
            }
            5 => {
                store.prune(&PruneOptions { max_unused: MaxUnused::Bytes(0), ..instant() });
                history += " instant";
            }
            _ => {
                let max_unused =
                    if next(&mut state).is_multiple_of(2) { MaxUnused::Bytes(0) } else { MaxUnused::default() };
                let outcome = store.prune(&PruneOptions { max_unused, ..PruneOptions::default() });
                history += " prune";
                assert_eq!((outcome.left_for_next, outcome.damaged.len()), (0, 0), "{history}");
            }
        }
        store.assert_whole(&trees, &history);
    }
    // In the end everything that is not needed can go.
    let options = PruneOptions { max_unused: MaxUnused::Bytes(0), ..instant() };
    store.prune(&options);
    let plan = Prune::plan(&store.repository, &options, &Cancel::new(), &Silent).unwrap();
    assert!(plan.planned().is_empty(), "{history}: {}", plan.planned());
    assert_eq!(plan.planned().figures().unneeded_bytes_kept, 0, "{history}: {}", plan.planned());
    drop(plan);
    store.assert_whole(&trees, &history);
}

#[test]
fn what_is_unneeded_is_marked_and_goes_a_day_later_unless_it_is_needed_again() {
    let store = Store::create(Arc::new(MemorySink::new()));
    let one = MemoryTree::new().with_file("/a", file(1));
    let two = MemoryTree::new().with_file("/b", file(2));
    let first = store.back_up(&one, "one");
    let second = store.back_up(&two, "two");
    let trees = [("one".to_owned(), one.clone()), ("two".to_owned(), two.clone())];
    assert_eq!(store.prune(&PruneOptions::default()), PruneOutcome::default());

    store.forget(first);
    store.forget(second);
    let outcome = store.prune(&PruneOptions::default());
    assert_eq!((outcome.marked, outcome.deleted, store.packs()), (4, 0, 4));
    // Too early.
    store.clock.advance(SignedDuration::from_hours(23));
    assert_eq!(store.prune(&PruneOptions::default()), PruneOutcome::default());
    // A backup does not rely on what is marked: it stores the same once more.
    store.back_up(&one, "one");
    assert_eq!(store.packs(), 6);
    store.clock.advance(SignedDuration::from_hours(2));
    let outcome = store.prune(&PruneOptions::default());
    assert_eq!((outcome.deleted, store.packs()), (4, 2));
    store.assert_whole(&trees, "in the end");
}

/// Delivers a tree; before its last word something happens.
struct Interrupted<F>(MemorySource, F);

impl<F> std::fmt::Debug for Interrupted<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupted")
    }
}

impl<F: FnMut() + Send> Source for Interrupted<F> {
    fn info(&self) -> SourceInfo {
        self.0.info()
    }

    fn next(&mut self) -> std::result::Result<Option<SourceEvent>, SourceError> {
        self.0.next()
    }

    fn finish(&mut self) -> std::result::Result<Report, SourceError> {
        (self.1)();
        self.0.finish()
    }
}

#[test]
fn a_backup_without_lock_takes_back_what_was_marked_while_it_ran() {
    let store = Store::create(Arc::new(MemorySink::new()));
    let tree = MemoryTree::new().with_file("/a", file(1)).with_file("/b", file(2));
    let first = store.back_up(&tree, "tree");
    let mut source = Interrupted(tree.source(1_000_000), || {
        store.forget(first);
        assert_eq!(store.prune(&PruneOptions::default()).marked, 2);
    });
    store.back_up_from(&mut source, "tree").unwrap();
    let trees = [("tree".to_owned(), tree.clone())];
    store.assert_whole(&trees, "after the backup");
    store.clock.advance(DAY_AND_A_BIT);
    for _ in 0..2 {
        let outcome = store.prune(&PruneOptions::default());
        assert_eq!((outcome.deleted, outcome.marked), (0, 0), "{outcome:?}");
        store.assert_whole(&trees, "after the second prune");
    }
}

#[test]
fn a_snapshot_that_was_committed_after_the_plan_keeps_what_it_needs() {
    let store = Store::create(Arc::new(MemorySink::new()));
    let tree = MemoryTree::new().with_file("/a", file(1)).with_file("/b", file(2));
    let first = store.back_up(&tree, "tree");
    let other = MemoryTree::new().with_file("/c", file(3));
    store.back_up(&other, "other");
    store.forget(first);
    let prune = Prune::plan(&store.repository, &PruneOptions::default(), &Cancel::new(), &Silent).unwrap();
    assert_eq!(prune.planned().figures().mark.packs, 2);
    store.back_up(&tree, "tree");
    let outcome = prune.apply(&Cancel::new(), &Silent).unwrap();
    assert_eq!((outcome.marked, outcome.spared), (0, 2));
    store.assert_whole(&[("tree".to_owned(), tree), ("other".to_owned(), other)], "after the prune");
}

#[test]
fn marked_packs_that_a_backup_without_lock_takes_back_after_the_plan_are_not_deleted() {
    let store = Store::create(Arc::new(MemorySink::new()));
    let tree = MemoryTree::new().with_file("/a", file(1)).with_file("/b", file(2));
    let first = store.back_up(&tree, "tree");
    let (_, snapshot) = store.repository.find_snapshot(&first.to_string(), &Default::default()).unwrap();
    let indexes = store.repository.store().list("index").unwrap();
    let before = store.repository.store().get(&indexes[0].key, None).unwrap();
    store.forget(first);
    assert_eq!(store.prune(&PruneOptions::default()).marked, 2);
    store.clock.advance(DAY_AND_A_BIT);
    let prune = Prune::plan(&store.repository, &PruneOptions::default(), &Cancel::new(), &Silent).unwrap();
    assert_eq!(prune.planned().figures().delete.packs, 2);
    // The index that lists them comes first, the snapshot later than the deletion would.
    store.repository.store().put(&indexes[0].key, before, PutMode::Overwrite).unwrap();
    let outcome = prune.apply(&Cancel::new(), &Silent).unwrap();
    assert_eq!((outcome.deleted, outcome.marked, store.packs()), (0, 0, 2));
    store.repository.save_snapshot(&snapshot).unwrap();
    store.assert_whole(&[("tree".to_owned(), tree)], "after the prune");
}

#[test]
fn a_prune_marks_nothing_while_somebody_else_holds_a_lock() {
    let store = Store::create(Arc::new(MemorySink::new()));
    let first = store.back_up(&MemoryTree::new().with_file("/a", file(1)), "tree");
    store.forget(first);
    let theirs = store.repository.lock(LockMode::Shared, &Silent).unwrap();
    let prune = Prune::plan(&store.repository, &PruneOptions::default(), &Cancel::new(), &Silent).unwrap();
    let indexes = store.repository.store().list("index").unwrap();
    let error = prune.apply(&Cancel::new(), &Silent).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Locked(_)), "{error}");
    assert_eq!(store.repository.store().list("index").unwrap(), indexes);
    let error = Prune::plan(&store.repository, &instant(), &Cancel::new(), &Silent).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Locked(_)), "{error}");
    drop(theirs);
    assert_eq!(store.prune(&PruneOptions::default()).marked, 2);
}

#[test]
fn a_prune_that_misses_something_needed_removes_nothing() {
    let sink = Arc::new(MemorySink::new());
    let store = Store::create(Arc::clone(&sink) as _);
    store.back_up(&MemoryTree::new().with_file("/a", file(1)), "one");
    let unneeded = store.back_up(&MemoryTree::new().with_file("/b", file(2)), "two");
    store.forget(unneeded);
    let sound = sink.objects();
    for folder in ["data/", "index/", "snapshots/"] {
        let keys: Vec<_> = sound.keys().filter(|key| key.as_str().starts_with(folder)).collect();
        // Whatever the object: what is needed may be refused only if it is gone, and the rest must stay.
        for key in keys {
            let one = Arc::new(sound.clone().into_iter().collect::<MemorySink>());
            if folder == "data/" {
                one.remove(key);
            } else {
                one.replace(key.clone(), "damaged");
            }
            let before = one.objects();
            let store = Store::open(Arc::clone(&one) as _);
            let planned = Prune::plan(&store.repository, &instant(), &Cancel::new(), &Silent);
            match planned.map(|prune| prune.apply(&Cancel::new(), &Silent)) {
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::Damaged(_)), "{key}: {error}");
                    assert_eq!(one.objects(), before, "{key}");
                }
                Ok(outcome) => {
                    assert!(folder == "data/", "{key}: not refused: {outcome:?}");
                    store.assert_whole(&[("one".to_owned(), MemoryTree::new().with_file("/a", file(1)))], key.as_str());
                }
            }
        }
    }
}

#[test]
fn a_rotten_blob_is_not_copied_and_its_pack_stays() {
    let sink = Arc::new(MemorySink::new());
    let store = Store::create(Arc::clone(&sink) as _);
    let both = MemoryTree::new().with_file("/a", file(1)).with_file("/b", file(2));
    let unneeded = store.back_up(&both, "both");
    let kept = MemoryTree::new().with_file("/a", file(1));
    store.back_up(&kept, "kept");
    store.forget(unneeded);
    let index = store.repository.load_index(&Silent).unwrap();
    let plan = Prune::plan(
        &store.repository,
        &PruneOptions { max_unused: MaxUnused::Bytes(0), ..instant() },
        &Cancel::new(),
        &Silent,
    )
    .unwrap();
    let repacked = plan.planned().packs.iter().find(|pack| pack.action == Action::Repack).unwrap().id;
    for place in index.blobs(backup_core::model::BlobKind::Data).filter(|place| place.pack == repacked) {
        use backup_core::repository::layout::Named;
        let mut bytes = sink.content(&repacked.key()).unwrap().to_vec();
        bytes[place.blob.offset as usize + 20] ^= 1;
        sink.replace(repacked.key(), bytes);
    }
    let outcome = plan.apply(&Cancel::new(), &Silent).unwrap();
    assert_eq!((outcome.damaged.len(), outcome.repacked, outcome.spared), (1, 0, 1));
    assert_eq!(outcome.damaged[0].0, repacked);
    assert!(store.repository.load_index(&Silent).unwrap().packs().iter().any(|pack| pack.id == repacked));
}

#[test]
fn a_prune_that_was_cut_off_costs_no_snapshot_and_the_next_one_goes_on() {
    for (mode, aged) in [(PruneMode::Instant, false), (PruneMode::TwoPhase, false), (PruneMode::TwoPhase, true)] {
        let before = Arc::new(MemorySink::new());
        let store = Store::create(Arc::clone(&before) as _);
        let mut trees = Vec::new();
        for number in 0..4 {
            let tree = MemoryTree::new()
                .with_file("/f/kept", file(1))
                .with_file("/f/own", file(number + 2))
                .with_file("/g/other", file(number + 6));
            let id = store.back_up(&tree, &format!("tree{number}"));
            trees.push((format!("tree{number}"), tree));
            if number == 0 {
                trees.push(("part".to_owned(), MemoryTree::new().with_file("/f/own", file(2))));
                store.back_up(&trees[1].1, "part");
                store.forget(id);
            }
            if number == 2 {
                store.forget(id);
            }
        }
        let options = PruneOptions { mode, max_unused: MaxUnused::Bytes(0), ..PruneOptions::default() };
        // An index that lists a pack that stays beside one that goes: the data is needed still, its tree is not.
        let base = MemoryTree::new().with_file("/same", file(11));
        let first = store.back_up(&base, "base");
        let more = base.with_file("/more", "1");
        store.back_up(&more, "more");
        trees.push(("more".to_owned(), more));
        store.forget(first);
        if aged {
            store.prune(&options);
        }
        let start = before.fork();
        let recorder = Arc::new(RecordingSink::new(before));
        let pruned = Store::open(Arc::clone(&recorder) as _);
        if aged {
            pruned.clock.advance(DAY_AND_A_BIT);
        }
        let outcome = pruned.prune(&options);
        assert!(outcome.deleted + outcome.marked > 0);
        pruned.assert_whole(&trees, "not cut off");
        let recording = recorder.recording();
        let moments: Vec<_> = [Ending::Killed, Ending::PowerLost]
            .into_iter()
            .flat_map(|ending| (0..=recording.ticks()).map(move |tick| (ending, tick)))
            .collect();
        std::thread::scope(|scope| {
            for lane in 0..8 {
                let (moments, recording, start, trees, options) = (&moments, &recording, &start, &trees, &options);
                scope.spawn(move || {
                    for (ending, tick) in moments.iter().skip(lane).step_by(8) {
                        let moment = format!("{mode:?} {aged} {ending:?} at {tick}");
                        let left = Arc::new(recording.left_behind(start, *tick, *ending, *tick));
                        // Whose locks these are, and how long they count, is another test's question.
                        for key in left.objects().keys().filter(|key| key.as_str().starts_with("locks/")) {
                            left.remove(key);
                        }
                        let store = Store::open(left);
                        store.assert_whole(trees, &moment);
                        if tick % 5 == 0 {
                            store.prune(&PruneOptions { mode: PruneMode::Instant, ..options.clone() });
                            store.assert_whole(trees, &moment);
                            let plan = Prune::plan(&store.repository, options, &Cancel::new(), &Silent).unwrap();
                            assert!(plan.planned().is_empty(), "{moment}: {}", plan.planned());
                        }
                    }
                });
            }
        });
    }
}

#[test]
fn small_packs_become_one_and_stay_one() {
    let store = Store::create(Arc::new(MemorySink::new()));
    let mut trees = Vec::new();
    for number in 0..10 {
        let tree = MemoryTree::new().with_file("/same", "1").with_file("/own", file(number));
        store.back_up(&tree, &format!("tree{number}"));
        trees.push((format!("tree{number}"), tree));
    }
    assert_eq!(store.packs(), 20);
    let outcome = store.prune(&instant());
    assert_eq!((outcome.repacked, store.packs()), (20, 2));
    store.assert_whole(&trees, "after the prune");
    assert_eq!(store.prune(&instant()), PruneOutcome::default());
    assert_eq!(store.repository.store().list("locks").unwrap(), []);
}
