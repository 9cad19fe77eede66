//! What the cache answers, what it throws away, and how few calls reach the store behind a warm one.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::model::SnapshotPath;
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOptions, TreeReader, WalkStep, backup, walk};
use backup_core::repository::{CreateOptions, Identity, Passphrase, Repository, ScryptCost};
use backup_core::testing::{MemorySink, MemoryTree, RecordingSink, Verb, sink_suite};

use serde_json::json;

use super::*;
use crate::sinks::LocalSink;

const LARGE: u64 = 1 << 30;

struct World {
    scratch: tempfile::TempDir,
    store: Arc<MemorySink>,
    calls: Arc<RecordingSink>,
}

impl World {
    fn new() -> Self {
        let store = Arc::new(MemorySink::new());
        let calls = Arc::new(RecordingSink::new(store.clone()));
        Self { scratch: tempfile::tempdir().unwrap(), store, calls }
    }

    fn root(&self) -> PathBuf {
        self.scratch.path().join("cache")
    }

    /// Another process with the same folder.
    fn open(&self, bytes_max: u64) -> Arc<CacheSink> {
        Arc::new(CacheSink::open(self.calls.clone(), &self.root(), bytes_max).unwrap())
    }

    fn copies(&self) -> Vec<PathBuf> {
        let below = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        let mut copies: Vec<_> = below(self.root()).flat_map(below).flat_map(below).collect();
        copies.sort();
        copies
    }

    fn gets(&self) -> usize {
        self.calls.count(Verb::Get, "")
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

/// An object as the engine makes them: named by the hash of its content.
fn object(folder: &str, content: &str) -> (ObjectKey, Bytes) {
    (ObjectKey::new(format!("{folder}/{}", Id::of(content.as_bytes()))), content.to_owned().into())
}

fn hot() -> PutMode {
    PutMode::Bulk(Placement::Hot)
}

#[test]
fn the_layer_keeps_the_contract() {
    let scratch = tempfile::tempdir().unwrap();
    let number = AtomicU32::new(0);
    let fresh = || scratch.path().join(number.fetch_add(1, Ordering::Relaxed).to_string());
    sink_suite(|| Arc::new(CacheSink::open(Arc::new(MemorySink::new()), &fresh(), LARGE).unwrap()));
    sink_suite(|| {
        let store = LocalSink::create(fresh()).unwrap();
        Arc::new(CacheSink::open(Arc::new(store), &fresh(), LARGE).unwrap())
    });
}

#[test]
fn what_was_put_or_read_once_is_not_asked_for_again() {
    let world = World::new();
    let (put, put_content) = object("index", "put here");
    let (tree, tree_content) = object("data/aa", "trees, trees, trees");
    let (read, read_content) = object("snapshots", "put elsewhere");
    world.store.replace(read.clone(), read_content.clone());
    block_on(async {
        let first = world.open(LARGE);
        first.put(&put, put_content.clone(), PutMode::Overwrite).await.unwrap();
        first.put(&tree, tree_content.clone(), hot()).await.unwrap();
        assert_eq!(first.get(&read, None).await.unwrap(), read_content);
        world.calls.clear();
        let second = world.open(LARGE);
        for _ in 0..2 {
            assert_eq!(second.get(&put, None).await.unwrap(), put_content);
            assert_eq!(second.get(&read, Some(0..3)).await.unwrap(), "put");
            assert_eq!(second.get(&tree, Some(7..12)).await.unwrap(), "trees");
            let beyond = second.get(&tree, Some(7..99)).await.unwrap_err();
            assert_eq!(beyond.kind, SinkErrorKind::Truncated);
        }
    });
    assert_eq!(world.gets(), 0);
}

#[test]
fn content_of_files_keys_locks_and_the_config_are_never_kept() {
    let world = World::new();
    block_on(async {
        let sink = world.open(LARGE);
        let (data, content) = object("data/aa", "content");
        sink.put(&data, content, PutMode::Bulk(Placement::Cold)).await.unwrap();
        sink.get(&data, None).await.unwrap();
        sink.get(&data, Some(0..1)).await.unwrap();
        for folder in ["keys", "locks", "ext/records"] {
            let (key, content) = object(folder, "x");
            sink.put(&key, content, PutMode::Overwrite).await.unwrap();
            sink.get(&key, None).await.unwrap();
        }
        sink.put(&ObjectKey::new("config"), "x".into(), PutMode::Create).await.unwrap();
    });
    assert_eq!(world.copies(), Vec::<PathBuf>::new());
}

#[test]
fn a_damaged_copy_is_not_believed_and_is_mended() {
    let world = World::new();
    let objects = [object("index", "an index"), object("data/aa", "some trees")];
    block_on(async {
        let sink = world.open(LARGE);
        for (key, content) in &objects {
            sink.put(key, content.clone(), hot()).await.unwrap();
        }
        for copy in world.copies() {
            fs::write(copy, "an indeX and some trees").unwrap();
        }
        let sink = world.open(LARGE);
        for (key, content) in &objects {
            assert_eq!(sink.get(key, Some(0..4)).await.unwrap(), content.slice(0..4));
        }
        assert_eq!(sink.get(&objects[0].0, None).await.unwrap(), objects[0].1);
    });
    let left: Vec<_> = world.copies().iter().map(|copy| fs::read_to_string(copy).unwrap()).collect();
    assert_eq!(left, ["an index"], "the index was fetched whole and kept, the pack only in part");
}

#[test]
fn what_the_store_no_longer_lists_is_dropped() {
    let world = World::new();
    let (gone, content) = object("index", "pruned by another machine");
    let (stays, stays_content) = object("index", "still there");
    block_on(async {
        let sink = world.open(LARGE);
        sink.put(&gone, content, PutMode::Overwrite).await.unwrap();
        sink.put(&stays, stays_content, PutMode::Overwrite).await.unwrap();
        world.store.remove(&gone);
        let mut part = sink.list("index");
        part.next().await.unwrap().unwrap();
        drop(part);
        assert_eq!(world.copies().len(), 2, "a listing that was not read to its end says nothing");
        assert_eq!(sink.list("index").try_collect::<Vec<_>>().await.unwrap().len(), 1);
        assert_eq!(sink.get(&gone, None).await.unwrap_err().kind, SinkErrorKind::NotFound);
        sink.delete(&stays).await.unwrap();
        assert_eq!(sink.get(&stays, None).await.unwrap_err().kind, SinkErrorKind::NotFound);
    });
    assert_eq!(world.copies(), Vec::<PathBuf>::new());
}

#[test]
fn the_folder_may_vanish_and_others_cannot_look_into_it() {
    let world = World::new();
    let (key, content) = object("index", "an index");
    block_on(async {
        let sink = world.open(LARGE);
        sink.put(&key, content.clone(), PutMode::Overwrite).await.unwrap();
        for path in world.copies().into_iter().chain([world.root()]) {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
        }
        fs::remove_dir_all(world.root()).unwrap();
        assert_eq!(sink.get(&key, None).await.unwrap(), content);
        sink.put(&key, content.clone(), PutMode::Overwrite).await.unwrap();
        sink.delete(&key).await.unwrap();
        assert!(sink.list("index").try_collect::<Vec<_>>().await.unwrap().is_empty());
    });
}

#[test]
fn a_folder_that_others_can_write_is_refused() {
    let world = World::new();
    fs::create_dir(world.root()).unwrap();
    fs::set_permissions(world.root(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = CacheSink::open(world.calls.clone(), &world.root(), LARGE).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn the_longest_unused_go_when_the_bound_is_reached() {
    let world = World::new();
    block_on(async {
        let sink = world.open(100_000);
        for number in 0..100 {
            let (key, content) = object("index", &format!("{number:05000}"));
            sink.put(&key, content, PutMode::Overwrite).await.unwrap();
        }
    });
    let bytes: u64 = world.copies().iter().map(|copy| fs::metadata(copy).unwrap().len()).sum();
    // Measured after each eighth, so it may be over by one.
    assert!((75_000..=115_000).contains(&bytes), "{bytes}");
}

#[test]
fn opening_a_repository_and_listing_its_snapshots_costs_a_handful_of_calls_with_a_warm_cache() {
    let world = World::new();
    let identity = Identity { hostname: "host".into(), username: "user".into(), uid: 0, gid: 0, pid: 1 };
    let passphrase = Passphrase::new("secret");
    let options = CreateOptions { cost: Some(ScryptCost { n: 2, r: 1, p: 1 }), ..CreateOptions::default() };
    let clock = Arc::new(SystemClock);
    let repository =
        Repository::create(world.open(LARGE), &passphrase, &options, identity.clone(), clock.clone()).unwrap();
    for number in 0..50 {
        let snapshot = json!({"time": "2026-01-02T03:04:05Z", "tree": Id::of(b"tree").to_string(), "uid": number});
        repository.save_snapshot(&serde_json::from_value(snapshot).unwrap()).unwrap();
    }
    let calls = || {
        world.calls.clear();
        let repository =
            Repository::open(world.open(LARGE), &passphrase, identity.clone(), clock.clone(), &Silent).unwrap();
        assert_eq!(repository.snapshots().unwrap().len(), 50);
        world.calls.records().len()
    };
    assert_eq!(calls(), 4, "config, list of keys, key, list of snapshots");
    fs::remove_dir_all(world.root()).unwrap();
    assert_eq!(calls(), 54, "and each snapshot without a cache");
}

/// A tree whose folders take about `bytes`, which no compression makes smaller than half.
fn folders_of(bytes: usize) -> MemoryTree {
    let name = |seed: usize| -> String {
        (0..32).map(|part| Id::of(format!("{seed} {part}").as_bytes()).to_string()).collect()
    };
    (0..bytes / 2_048).fold(MemoryTree::new(), |tree, number| {
        tree.with_file(&format!("/{}/{}", number / 64, name(number)), format!("{number}"))
    })
}

#[test]
fn folders_that_another_machine_wrote_are_fetched_once_and_then_read_here() {
    for (bytes, first) in [(100_000, 1), (5_000_000, 2)] {
        let world = World::new();
        let identity = Identity { hostname: "host".into(), username: "user".into(), uid: 0, gid: 0, pid: 1 };
        let passphrase = Passphrase::new("secret");
        let options = CreateOptions { cost: Some(ScryptCost { n: 2, r: 1, p: 1 }), ..CreateOptions::default() };
        let (clock, cancel, tree) = (Arc::new(SystemClock), Cancel::new(), folders_of(bytes));
        let theirs =
            Repository::create(world.store.clone(), &passphrase, &options, identity.clone(), clock.clone()).unwrap();
        let back_up = |repository: &Repository| {
            backup(repository, &mut tree.source(50_000), &BackupOptions::default(), &cancel, &Silent).unwrap()
        };
        back_up(&theirs);
        let packs_read = |work: &dyn Fn(&Repository)| {
            let ours =
                Repository::open(world.open(LARGE), &passphrase, identity.clone(), clock.clone(), &Silent).unwrap();
            world.calls.clear();
            work(&ours);
            world.calls.count(Verb::Get, "data")
        };
        let look = |ours: &Repository| {
            let index = ours.load_index(&Silent).unwrap();
            let (_, snapshot) = ours.snapshots().unwrap().remove(0);
            let mut files = 0;
            let reader = TreeReader::new(ours, &index);
            walk(&reader, &snapshot.tree, &SnapshotPath::default(), |_, step| {
                files += usize::from(matches!(step, WalkStep::Node(node) if !node.is_dir()));
                Ok(ControlFlow::Continue(()))
            })
            .unwrap();
            assert_eq!(files, bytes / 2_048);
        };
        assert_eq!(packs_read(&look), first, "{bytes}: a small pack whole at once, a large one for its second stretch");
        assert_eq!(packs_read(&look), 0, "{bytes}: looked at once more");
        assert_eq!(packs_read(&|ours| drop(back_up(ours))), 0, "{bytes}: an unchanged backup");
    }
}

#[test]
fn where_no_copy_can_be_written_whole_packs_are_not_fetched_again_and_again() {
    let world = World::new();
    let sink = world.open(LARGE);
    let packs = ["a pack", "another", "a third"].map(|content| object("data/aa", content));
    let (damaged, _) = object("data/aa", "what it was");
    for (key, content) in &packs {
        world.store.replace(key.clone(), content.clone());
    }
    world.store.replace(damaged.clone(), "something else");
    block_on(async {
        sink.bring_near(&damaged).await.unwrap();
        sink.bring_near(&packs[0].0).await.unwrap();
        sink.bring_near(&packs[0].0).await.unwrap();
        assert_eq!((world.gets(), world.copies().len()), (2, 1));
        fs::remove_dir_all(world.root()).unwrap();
        sink.bring_near(&packs[1].0).await.unwrap();
        sink.bring_near(&packs[2].0).await.unwrap();
        assert_eq!(world.gets(), 3, "the first that could not be kept is the last");
        assert_eq!(sink.get(&packs[2].0, Some(0..3)).await.unwrap(), "a t");
    });
}
