//! Any tree survives create → restore, whatever is in it, however it is read.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::model::{Metadata, NodeKind, Snapshot, SnapshotPath, Xattr};
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOptions, BackupOutcome, RestoreOptions, RestoreOutcome, backup, restore};
use backup_core::repository::{CreateOptions, Identity, LockMode, Passphrase, Repository, ScryptCost};
use backup_core::testing::{MemoryEntry, MemorySink, MemoryTarget, MemoryTree, RecordingSink, Verb};
use jiff::Timestamp;
use proptest::prelude::*;

const CHEAP: ScryptCost = ScryptCost { n: 2, r: 1, p: 1 };

fn identity() -> Identity {
    let pid = i32::try_from(std::process::id()).unwrap();
    Identity { hostname: "host".into(), username: "user".into(), uid: 1, gid: 1, pid }
}

fn repository(sink: Arc<dyn backup_core::contracts::Sink>) -> Repository {
    let options = CreateOptions { cost: Some(CHEAP), ..CreateOptions::default() };
    Repository::create(sink, &Passphrase::new("x"), &options, identity(), Arc::new(SystemClock)).unwrap()
}

fn create(repository: &Repository, tree: &MemoryTree) -> BackupOutcome {
    backup(repository, &mut tree.source(70_000), &BackupOptions::default(), &Cancel::new(), &Silent).unwrap()
}

fn snapshot(repository: &Repository, outcome: &BackupOutcome) -> Snapshot {
    repository.find_snapshot(&outcome.snapshot.unwrap().to_string(), &Default::default()).unwrap().1
}

fn restored(
    repository: &Repository,
    snapshot: &Snapshot,
    target: &MemoryTarget,
    options: &RestoreOptions,
) -> RestoreOutcome {
    restore(repository, snapshot, target, options, &Cancel::new(), &Silent).unwrap()
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let step = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(step).take(bytes).collect()
}

#[test]
fn a_tree_comes_back_as_it_was_and_an_unchanged_one_stores_nothing() {
    let repository = repository(Arc::new(MemorySink::new()));
    let tree = MemoryTree::new()
        .with_file("/a/empty", "")
        .with_file("/a/small", "small")
        .with_file("/a/same", "small")
        .with_file("/b/large", noise(7, 20_000_000))
        .with_file("/zeros", vec![0; 9_000_000]);
    let first = create(&repository, &tree);
    assert_eq!((first.losses, first.summary.files_new, first.summary.dirs_new), (0, 5, 2));
    assert_eq!(first.summary.total_bytes_processed, 29_000_010);

    let target = MemoryTarget::default();
    let options = RestoreOptions { verify: true, ..RestoreOptions::default() };
    let outcome = restored(&repository, &snapshot(&repository, &first), &target, &options);
    assert_eq!(target.tree(), tree);
    assert_eq!((outcome.losses, outcome.verified, outcome.bytes_written), (0, Some(5), 29_000_010));

    // Onto what is there already, nothing is written.
    let outcome = restored(&repository, &snapshot(&repository, &first), &target, &RestoreOptions::default());
    assert_eq!((outcome.losses, outcome.bytes_written, outcome.files_kept), (0, 0, 4));

    let second = create(&repository, &tree);
    assert_eq!((second.summary.files_unmodified, second.summary.dirs_unmodified), (5, 2));
    assert_eq!((second.summary.data_blobs, second.summary.tree_blobs, second.summary.data_added), (0, 0, 0));
    assert_eq!(second.parent, first.snapshot);
}

#[test]
fn only_what_differs_is_written_to_files_that_are_there() {
    let repository = repository(Arc::new(MemorySink::new()));
    let content = noise(3, 12_000_000);
    let tree = MemoryTree::new().with_file("/large", content.clone()).with_file("/other", "1");
    let snapshot = snapshot(&repository, &create(&repository, &tree));
    let mut damaged = content;
    damaged[11_000_000] ^= 1;
    damaged.extend_from_slice(b"too long");
    let target = MemoryTarget::holding(MemoryTree::new().with_file("/large", damaged));
    let outcome = restored(&repository, &snapshot, &target, &RestoreOptions::default());
    assert_eq!(target.tree(), tree);
    assert!(outcome.bytes_written < 9_000_000, "{outcome:?}");
}

#[test]
fn a_part_of_a_snapshot_is_restored_to_the_root_of_the_target() {
    let repository = repository(Arc::new(MemorySink::new()));
    let tree = MemoryTree::new().with_file("/a/b/c", "1").with_file("/a/b/d/e", "2").with_file("/x", "3");
    let snapshot = snapshot(&repository, &create(&repository, &tree));
    for (path, expected) in [
        ("/a/b", MemoryTree::new().with_file("/c", "1").with_file("/d/e", "2")),
        ("/a/b/c", MemoryTree::new().with_file("/c", "1")),
    ] {
        let target = MemoryTarget::default();
        let path = Some(SnapshotPath::parse(path.as_bytes()));
        restored(&repository, &snapshot, &target, &RestoreOptions { path, ..RestoreOptions::default() });
        assert_eq!(target.tree(), expected);
    }
}

#[test]
fn a_dry_run_of_a_restore_touches_nothing_and_loses_nothing() {
    let repository = repository(Arc::new(MemorySink::new()));
    let tree = MemoryTree::new().with_file("/a/b/c", "1").with_file("/x", "22");
    let snapshot = snapshot(&repository, &create(&repository, &tree));
    let target = MemoryTarget::default();
    let options = RestoreOptions { dry_run: true, ..RestoreOptions::default() };
    let outcome = restored(&repository, &snapshot, &target, &options);
    assert_eq!((outcome.files, outcome.dirs, outcome.bytes, outcome.losses), (2, 2, 3, 0));
    assert_eq!(target.tree(), MemoryTree::new());
}

#[test]
fn an_unchanged_backup_writes_what_it_must_and_lists_no_more_than_it_must() {
    let sink = Arc::new(RecordingSink::new(Arc::new(MemorySink::new())));
    let repository = repository(Arc::clone(&sink) as _);
    let tree = MemoryTree::new().with_file("/a/b", "1").with_file("/a/c", noise(1, 3_000_000));
    create(&repository, &tree);
    sink.clear();
    create(&repository, &tree);
    // One lock, one snapshot, one record; and the lock goes again.
    assert_eq!(sink.count(Verb::Put, ""), 3);
    assert_eq!((sink.count(Verb::Put, "locks"), sink.count(Verb::Delete, "")), (1, 1));
    assert_eq!((sink.count(Verb::Put, "snapshots"), sink.count(Verb::Put, "ext/records")), (1, 1));
    // Locks before and after settling; the index at the beginning and before the commit.
    let lists = ["locks", "snapshots", "index", "data", ""].map(|folder| sink.count(Verb::List, folder));
    assert_eq!(lists, [2, 1, 2, 1, 6]);
}

fn entry() -> impl Strategy<Value = MemoryEntry> {
    let kind = prop_oneof![
        4 => Just(NodeKind::File { size: 0, content: Vec::new() }),
        1 => proptest::collection::vec(1..=255_u8, 1..20).prop_map(|target| NodeKind::Symlink { target }),
        1 => Just(NodeKind::Fifo),
        1 => Just(NodeKind::Dir { subtree: None }),
        1 => any::<u64>().prop_map(|device| NodeKind::CharDevice { device }),
    ];
    let bytes = prop_oneof![
        8 => proptest::collection::vec(any::<u8>(), 0..300),
        1 => (any::<u64>(), 0..3_000_000_usize).prop_map(|(seed, bytes)| noise(seed, bytes)),
        1 => (0..3_000_000_usize).prop_map(|bytes| vec![0; bytes]),
    ];
    let metadata = (0..0o10000_u32, 0..4_000_000_000_i64, 0..1_000_000_000_i32, any::<u32>(), any::<String>());
    (kind, bytes, metadata).prop_map(|(kind, bytes, (mode, second, nanosecond, uid, user))| {
        let mtime = Timestamp::new(second, nanosecond).unwrap();
        let xattrs = vec![Xattr { name: b"user.a".to_vec(), value: vec![1, 2] }];
        let metadata = Metadata { mode, mtime: Some(mtime), uid, user, xattrs, ..Metadata::default() };
        let bytes = if matches!(kind, NodeKind::File { .. }) { bytes } else { Vec::new() };
        MemoryEntry { kind, metadata, bytes }
    })
}

fn trees() -> impl Strategy<Value = MemoryTree> {
    let name = prop_oneof![Just(b"a".to_vec()), Just(b"a b".to_vec()), proptest::collection::vec(any::<u8>(), 1..12)];
    let name =
        name.prop_filter("a name", |name| name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0));
    let path = proptest::collection::vec(name, 1..5);
    proptest::collection::vec((path, entry()), 0..30).prop_map(|entries| {
        let mut tree = MemoryTree::new();
        for (components, entry) in entries {
            let mut path = SnapshotPath::root();
            for component in &components {
                // Nothing lies below what is no folder.
                tree.remove_unless_folder(&path);
                path.push(component);
            }
            tree.remove(&path);
            tree.put(&path, entry);
        }
        tree
    })
}

trait RemoveUnlessFolder {
    fn remove_unless_folder(&mut self, path: &SnapshotPath);
}

impl RemoveUnlessFolder for MemoryTree {
    fn remove_unless_folder(&mut self, path: &SnapshotPath) {
        let is_folder = self.entries().any(|(at, entry)| at == *path && matches!(entry.kind, NodeKind::Dir { .. }));
        if !path.is_root() && !is_folder {
            self.remove(path);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_trees_survives(versions in proptest::collection::vec(trees(), 1..4), read_bytes in 1..100_000_usize) {
        let repository = repository(Arc::new(MemorySink::new()));
        let mut snapshots = Vec::new();
        for tree in &versions {
            let mut source = tree.source(read_bytes);
            // Locks wait for others to be seen, which is tested elsewhere and takes most of the time here.
            let options = BackupOptions { lock: LockMode::None, ..BackupOptions::default() };
            let outcome = backup(&repository, &mut source, &options, &Cancel::new(), &Silent).unwrap();
            prop_assert_eq!(outcome.losses, 0);
            snapshots.push(snapshot(&repository, &outcome));
        }
        for (tree, snapshot) in versions.iter().zip(&snapshots) {
            let target = MemoryTarget::default();
            let outcome = restored(&repository, snapshot, &target, &RestoreOptions { verify: true, lock: LockMode::None, ..RestoreOptions::default() });
            prop_assert_eq!(outcome.losses, 0);
            prop_assert_eq!(&target.tree(), tree);
        }
    }
}
