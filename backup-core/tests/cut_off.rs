//! Commands that change a repository, cut off at every moment, by a kill or with the power: what was promised restores,
//! some passphrase opens, and the same command can be given again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use backup_core::cancel::Cancel;
use backup_core::care::{IndexRepair, Originals, ReadPacks, SnapshotRepair, SnapshotRepairOptions};
use backup_core::clock::SystemClock;
use backup_core::contracts::Sink;
use backup_core::model::SnapshotId;
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOptions, RestoreOptions, backup, restore};
use backup_core::repository::{CreateOptions, Identity, LockMode, Passphrase, Repository, ScryptCost};
use backup_core::testing::{Ending, MemorySink, MemoryTarget, MemoryTree, RecordingSink};

const CHEAP: ScryptCost = ScryptCost { n: 2, r: 1, p: 1 };
const SEEDS: u64 = 3;

/// A command: what makes work for it, what it does, and whether it may be given again by who opens with which passphrase.
struct Verb {
    name: &'static str,
    prepare: fn(&MemorySink),
    run: fn(&Repository),
    passphrases: &'static [&'static str],
}

const VERBS: [Verb; 7] = [
    Verb { name: "forget", prepare: |_| {}, run: forget_spare, passphrases: &["old"] },
    Verb { name: "tag", prepare: |_| {}, run: tag_kept, passphrases: &["old"] },
    Verb { name: "repair index", prepare: lose_an_index, run: repair_index, passphrases: &["old"] },
    Verb { name: "repair snapshots", prepare: lose_a_file_of_spare, run: repair_snapshots, passphrases: &["old"] },
    Verb { name: "key add", prepare: |_| {}, run: add_key, passphrases: &["old"] },
    Verb { name: "key passwd", prepare: |_| {}, run: change_passphrase, passphrases: &["old", "new"] },
    Verb { name: "key remove", prepare: second_key, run: remove_second_key, passphrases: &["old"] },
];

fn identity() -> Identity {
    let pid = i32::try_from(std::process::id()).unwrap();
    Identity { hostname: "host".into(), username: "user".into(), uid: 1, gid: 1, pid }
}

fn open(sink: Arc<dyn Sink>, passphrase: &str) -> Result<Repository, backup_core::Error> {
    Repository::open(sink, &Passphrase::new(passphrase), identity(), Arc::new(SystemClock), &Silent)
}

fn kept() -> MemoryTree {
    MemoryTree::new().with_file("/both", vec![7; 400_000]).with_file("/kept", "kept")
}

fn spare() -> MemoryTree {
    MemoryTree::new().with_file("/both", vec![7; 400_000]).with_file("/spare", vec![9; 300_000])
}

/// A repository with a snapshot that must stay, and one to spare, each with its own packs and index.
fn start() -> MemorySink {
    let sink = Arc::new(MemorySink::new());
    let options = CreateOptions { cost: Some(CHEAP), ..CreateOptions::default() };
    let created = Repository::create(
        Arc::clone(&sink) as _,
        &Passphrase::new("old"),
        &options,
        identity(),
        Arc::new(SystemClock),
    );
    let repository = created.unwrap();
    for (tag, tree) in [("kept", kept()), ("spare", spare())] {
        let options = BackupOptions { tags: vec![tag.into()], lock: LockMode::None, ..BackupOptions::default() };
        backup(&repository, &mut tree.source(50_000), &options, &Cancel::new(), &Silent).unwrap();
    }
    sink.fork()
}

fn of_tag(repository: &Repository, tag: &str) -> Vec<SnapshotId> {
    let all = repository.snapshots().unwrap();
    all.into_iter().filter(|(_, one)| one.tags.iter().any(|one| one == tag)).map(|(id, _)| id).collect()
}

fn forget_spare(repository: &Repository) {
    repository.remove_snapshots(&of_tag(repository, "spare"), &Silent).unwrap();
}

fn tag_kept(repository: &Repository) {
    let mut changed = repository.snapshots().unwrap();
    changed.retain(|(_, snapshot)| snapshot.tags == ["kept"]);
    changed.iter_mut().for_each(|(_, snapshot)| snapshot.tags.push("seen".into()));
    repository.rewrite_snapshots(&changed, &Silent).unwrap();
}

fn lose_an_index(sink: &MemorySink) {
    let index = sink.objects().into_keys().find(|key| key.as_str().starts_with("index/")).unwrap();
    sink.remove(&index).unwrap();
}

fn repair_index(repository: &Repository) {
    let repair = IndexRepair::plan(repository, ReadPacks::Suspicious, &Cancel::new(), &Silent).unwrap();
    repair.apply(&Cancel::new(), &Silent).unwrap();
}

/// The data of the second backup is gone, and the index repaired.
fn lose_a_file_of_spare(sink: &MemorySink) {
    // Only the second backup has the blob of its own file, in a data pack of its own.
    let all = sink.objects();
    let mut packs: Vec<_> = all.keys().filter(|key| key.as_str().starts_with("data/")).collect();
    packs.retain(|key| {
        let left = Arc::new(sink.fork());
        left.remove(key).unwrap();
        let repository = open(left, "old").unwrap();
        repair_index(&repository);
        restores(&repository, "kept", &kept()) && !restores(&repository, "spare", &spare()) && reads_trees(&repository)
    });
    let pack = packs[0].clone();
    sink.remove(&pack).unwrap();
    changed(sink, repair_index);
}

/// Does something in a repository, as if it had been done long before.
fn changed(sink: &MemorySink, work: fn(&Repository)) {
    let forked = Arc::new(sink.fork());
    work(&open(Arc::clone(&forked) as _, "old").unwrap());
    sink.objects().into_keys().for_each(|key| drop(sink.remove(&key)));
    for (key, content) in forked.objects() {
        sink.replace(key, content);
    }
}

fn repair_snapshots(repository: &Repository) {
    let options = SnapshotRepairOptions { originals: Originals::Forget, ..SnapshotRepairOptions::default() };
    let repair = SnapshotRepair::plan(repository, &options, &Cancel::new(), &Silent).unwrap();
    repair.apply(&Cancel::new(), &Silent).unwrap();
}

fn add_key(repository: &Repository) {
    repository.add_key(&Passphrase::new("second"), Some(CHEAP), &Silent).unwrap();
}

fn change_passphrase(repository: &Repository) {
    repository.change_passphrase(&Passphrase::new("new"), Some(CHEAP), &Silent).unwrap();
}

fn second_key(sink: &MemorySink) {
    changed(sink, add_key);
}

fn remove_second_key(repository: &Repository) {
    let keys = repository.keys().unwrap();
    for (id, _) in keys.into_iter().filter(|(id, _)| *id != repository.key_id()) {
        repository.remove_key(id, &Silent).unwrap();
    }
}

fn restores(repository: &Repository, tag: &str, expected: &MemoryTree) -> bool {
    let snapshots = repository.snapshots().unwrap();
    let mut of_tag = snapshots.iter().filter(|(_, one)| one.tags.iter().any(|one| one == tag)).peekable();
    of_tag.peek().is_some()
        && of_tag.all(|(_, snapshot)| {
            let target = MemoryTarget::default();
            let options = RestoreOptions { lock: LockMode::None, ..RestoreOptions::default() };
            let outcome = restore(repository, snapshot, &target, &options, &Cancel::new(), &Silent);
            outcome.is_ok_and(|outcome| outcome.losses == 0) && target.tree() == *expected
        })
}

/// Whether what is lost is data, and no tree.
fn reads_trees(repository: &Repository) -> bool {
    let options = SnapshotRepairOptions::default();
    let repair = SnapshotRepair::plan(repository, &options, &Cancel::new(), &Silent).unwrap();
    let is_lost =
        |verdict: &backup_core::care::SnapshotVerdict| matches!(verdict, backup_core::care::SnapshotVerdict::Lost(_));
    !repair.verdicts().any(|(_, verdict)| is_lost(verdict))
}

/// What is left when a verb is cut off at some moment is looked at, and the verb given again.
fn look_at(verb: &Verb, left: MemorySink, moment: &str) {
    let left = Arc::new(left);
    // Whose locks these are, and how long they count, is another test's question.
    for key in left.objects().into_keys().filter(|key| key.as_str().starts_with("locks/")) {
        left.remove(&key);
    }
    let opened = verb.passphrases.iter().find_map(|one| open(Arc::clone(&left) as _, one).ok());
    let repository = opened.unwrap_or_else(|| panic!("{moment}: no passphrase opens it"));
    if verb.name != "repair index" {
        assert!(restores(&repository, "kept", &kept()), "{moment}");
    }
    (verb.run)(&repository);
    assert!(restores(&repository, "kept", &kept()), "{moment}, after the same again");
}

#[test]
fn a_command_that_is_cut_off_costs_nothing_that_was_promised_and_can_be_given_again() {
    for verb in &VERBS {
        let before = start();
        (verb.prepare)(&before);
        let recorder = Arc::new(RecordingSink::new(Arc::new(before.fork())));
        (verb.run)(&open(Arc::clone(&recorder) as _, "old").unwrap());
        let recording = recorder.recording();
        let moments: Vec<_> = [Ending::Killed, Ending::PowerLost]
            .into_iter()
            .flat_map(|ending| (0..=recording.ticks()).map(move |tick| (ending, tick)))
            // What a kill leaves does not depend on chance.
            .flat_map(|(ending, tick)| {
                let seeds = if ending == Ending::Killed { 1 } else { SEEDS };
                (0..seeds).map(move |seed| (ending, tick, seed))
            })
            .collect();
        // Most of the time is spent waiting for locks to settle.
        std::thread::scope(|scope| {
            for lane in 0..16 {
                let (moments, recording, before) = (&moments, &recording, &before);
                scope.spawn(move || {
                    for (ending, tick, seed) in moments.iter().skip(lane).step_by(16) {
                        let left = recording.left_behind(before, *tick, *ending, *seed);
                        look_at(verb, left, &format!("{}, {ending:?} at {tick}/{seed}", verb.name));
                    }
                });
            }
        });
    }
}
