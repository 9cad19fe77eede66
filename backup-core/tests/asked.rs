//! What the store is asked, and when: ahead of time, once, and for as much at a time as is wanted.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use backup_core::ErrorKind;
use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::model::Snapshot;
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOptions, RestoreOptions, backup, restore};
use backup_core::repository::{
    CreateOptions, FirstLook, Identity, LockMode, Passphrase, Repository, ScryptCost, SnapshotQuery,
};
use backup_core::testing::{MemorySink, MemoryTarget, MemoryTree, RecordingSink, Verb};

struct Asked {
    calls: Arc<RecordingSink>,
    repository: Repository,
}

impl Asked {
    fn new() -> Self {
        let calls = Arc::new(RecordingSink::new(Arc::new(MemorySink::new())));
        let options = CreateOptions { cost: Some(ScryptCost { n: 2, r: 1, p: 1 }), ..CreateOptions::default() };
        let (passphrase, clock) = (Passphrase::new("x"), Arc::new(SystemClock));
        let repository = Repository::create(calls.clone(), &passphrase, &options, identity(), clock).unwrap();
        Self { calls, repository }
    }

    fn open_to(&self, looks: &[FirstLook]) -> Repository {
        let (passphrase, clock) = (Passphrase::new("x"), Arc::new(SystemClock));
        Repository::open_to(looks, self.calls.clone(), &passphrase, identity(), clock, &Silent).unwrap()
    }

    fn back_up(&self, tree: &MemoryTree) -> Snapshot {
        let options = BackupOptions { lock: LockMode::None, ..BackupOptions::default() };
        backup(&self.repository, &mut tree.source(50_000), &options, &Cancel::new(), &Silent).unwrap();
        self.repository.find_snapshot("latest", &SnapshotQuery::default()).unwrap().1
    }

    fn restore(&self, snapshot: &Snapshot, target: &MemoryTarget) {
        let options = RestoreOptions { lock: LockMode::None, ..RestoreOptions::default() };
        restore(&self.repository, snapshot, target, &options, &Cancel::new(), &Silent).unwrap();
    }
}

fn identity() -> Identity {
    Identity { hostname: "host".into(), username: "user".into(), uid: 1, gid: 1, pid: 1 }
}

/// Small files that lie in one pack, each of them another.
fn small_files(count: u32) -> MemoryTree {
    (0..count).fold(MemoryTree::new(), |tree, number| {
        tree.with_file(&format!("/small/{number:04}"), format!("content of {number}").repeat(10))
    })
}

#[test]
fn what_is_asked_ahead_is_asked_once_and_the_next_look_is_a_new_one() {
    let asked = Asked::new();
    for number in 0..3 {
        asked.back_up(&MemoryTree::new().with_file("/a", format!("{number}")));
    }
    asked.calls.clear();
    let repository = asked.open_to(&[FirstLook::Snapshots, FirstLook::Records]);
    assert_eq!(repository.snapshots().unwrap().len(), 3);
    assert_eq!(repository.records().unwrap().len(), 3);
    let counts = |folder| (asked.calls.count(Verb::List, folder), asked.calls.count(Verb::Get, folder));
    assert_eq!((counts("snapshots"), counts("ext/records")), ((1, 3), (1, 3)));
    asked.back_up(&MemoryTree::new().with_file("/a", "another"));
    assert_eq!(repository.snapshots().unwrap().len(), 4, "what was given once is not given again");
}

#[test]
fn a_backup_that_looked_at_locks_ahead_does_not_pass_over_one_that_came_since() {
    let asked = Asked::new();
    let repository = asked.open_to(&[FirstLook::Locks]);
    // Until its listing is there, which is of before the lock.
    while asked.calls.records().iter().any(|record| record.ended.is_none()) {
        std::thread::yield_now();
    }
    let exclusive = asked.repository.lock(LockMode::Exclusive, &Silent).unwrap();
    let mut source = MemoryTree::new().with_file("/a", "a").source(1_000);
    let refused = backup(&repository, &mut source, &BackupOptions::default(), &Cancel::new(), &Silent).unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Locked(_)), "{refused}");
    drop(exclusive);
    assert!(repository.snapshots().unwrap().is_empty());
}

#[test]
fn a_thousand_small_files_of_a_pack_are_one_request() {
    let asked = Asked::new();
    let tree = small_files(1_000);
    let snapshot = asked.back_up(&tree);
    asked.calls.clear();
    let target = MemoryTarget::default();
    asked.restore(&snapshot, &target);
    assert_eq!(target.tree(), tree);
    // One for the trees, read once for the plan and kept for the walk.
    assert_eq!(asked.calls.count(Verb::Get, "data"), 2);
}

#[test]
fn where_most_is_there_already_only_what_is_missing_is_read() {
    let asked = Asked::new();
    let tree = small_files(1_000);
    let snapshot = asked.back_up(&tree);
    asked.calls.clear();
    let damaged = tree.clone().with_file("/small/0500", "something else");
    let target = MemoryTarget::holding(damaged);
    asked.restore(&snapshot, &target);
    assert_eq!(target.tree(), tree);
    let read: u64 = asked
        .calls
        .records()
        .iter()
        .filter_map(|record| match &record.call {
            backup_core::testing::Call::Get { key, range: Some(range) } if key.as_str().starts_with("data/") => {
                Some(range.end - range.start)
            }
            _ => None,
        })
        .min()
        .unwrap();
    assert!(read < 1_000, "{read} bytes for one small file");
}
