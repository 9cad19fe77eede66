//! What changed, how much there is, where a file is: as a library's user asks it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use backup_core::Error;
use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::look::{Change, Search, diff, folder_at, stats};
use backup_core::model::{Snapshot, SnapshotPath};
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOptions, TreeReader, backup};
use backup_core::repository::{CreateOptions, Identity, Passphrase, Repository, ScryptCost, SnapshotQuery};
use backup_core::testing::{MemorySink, MemoryTree};

fn repository() -> Repository {
    let options = CreateOptions { cost: Some(ScryptCost { n: 2, r: 1, p: 1 }), ..CreateOptions::default() };
    let identity = Identity { hostname: "host".into(), username: "user".into(), uid: 1, gid: 1, pid: 1 };
    Repository::create(Arc::new(MemorySink::new()), &Passphrase::new("x"), &options, identity, Arc::new(SystemClock))
        .unwrap()
}

fn backed_up(repository: &Repository, tree: &MemoryTree) -> Snapshot {
    let outcome = backup(repository, &mut tree.source(1 << 20), &BackupOptions::default(), &Cancel::new(), &Silent);
    let id = outcome.unwrap().snapshot.unwrap();
    repository.find_snapshot(&id.to_string(), &SnapshotQuery::default()).unwrap().1
}

fn before() -> MemoryTree {
    let files = ["/a/same", "/b/changed", "/b/gone/deep", "/c", "/mode"];
    files.into_iter().fold(MemoryTree::new(), |tree, path| tree.with_file(path, "before"))
}

fn after() -> MemoryTree {
    let mut tree = before().with_file("/b/changed", "changed").with_file("/b/new", "new").with_file("/z/y", "after");
    tree.remove(&SnapshotPath::parse(b"/b/gone"));
    let mut mode = tree.get("/mode").unwrap().clone();
    mode.metadata.mode = 0o600;
    tree.put(&SnapshotPath::parse(b"/mode"), mode);
    tree
}

#[test]
fn what_differs_is_told_in_the_order_of_paths() {
    let repository = repository();
    let (old, new) = (backed_up(&repository, &before()), backed_up(&repository, &after()));
    let index = repository.load_index(&Silent).unwrap();
    let reader = TreeReader::new(&repository, &index);
    let told = |path: &str| {
        let path = SnapshotPath::parse(path.as_bytes());
        let tree = |snapshot: &Snapshot| folder_at(&reader, &snapshot.tree, &path).unwrap();
        let mut told = Vec::new();
        diff::<Error>(&reader, &path, &tree(&old), &tree(&new), &Cancel::new(), |difference| {
            assert_eq!(difference.old.is_some(), difference.change != Change::Added);
            assert_eq!(difference.new.is_some(), difference.change != Change::Removed);
            told.push((difference.change, difference.path.to_string()));
            Ok(())
        })
        .unwrap();
        told
    };
    let expected = [
        (Change::Content, "/b/changed"),
        (Change::Removed, "/b/gone"),
        (Change::Removed, "/b/gone/deep"),
        (Change::Added, "/b/new"),
        (Change::Metadata, "/mode"),
        (Change::Added, "/z"),
        (Change::Added, "/z/y"),
    ]
    .map(|(change, path)| (change, path.to_owned()));
    assert_eq!(told("/"), expected);
    assert_eq!(told("/b"), expected[..4]);
    assert_eq!(told("/a"), []);
    let file = folder_at(&reader, &old.tree, &SnapshotPath::parse(b"/c")).unwrap_err();
    assert!(file.to_string().contains("not a folder"), "{file}");
}

#[test]
fn a_search_finds_in_every_snapshot_what_is_there() {
    let repository = repository();
    let snapshots = [before(), after()].map(|tree| backed_up(&repository, &tree));
    let index = repository.load_index(&Silent).unwrap();
    let reader = TreeReader::new(&repository, &index);
    let find = |mut search: Search<'_>| {
        snapshots.each_ref().map(|snapshot| {
            let mut found = Vec::new();
            let no_loss = |path: &SnapshotPath, error: &Error| panic!("{path}: {error}");
            search.run(&reader, snapshot, &Cancel::new(), |path, _| found.push(path.to_string()), no_loss).unwrap();
            found
        })
    };
    assert_eq!(find(Search::by_name(|name| name == b"same")), [["/a/same"], ["/a/same"]]);
    assert_eq!(find(Search::by_name(|name| name == b"deep")), [vec!["/b/gone/deep".to_owned()], vec![]]);
    let in_b = |path: &SnapshotPath| path.to_string().starts_with("/b/");
    assert_eq!(
        find(Search::by_path(in_b)),
        [vec!["/b/changed", "/b/gone", "/b/gone/deep"], vec!["/b/changed", "/b/new"]]
    );
}

#[test]
fn figures_count_every_snapshot_and_each_piece_once() {
    let repository = repository();
    let snapshots = [before(), before(), after()].map(|tree| backed_up(&repository, &tree));
    let index = repository.load_index(&Silent).unwrap();
    let stats = stats(&repository, &index, &snapshots, &Cancel::new()).unwrap();
    assert_eq!((stats.snapshots, stats.files), (3, 5 + 5 + 6));
    assert_eq!(stats.bytes_restored, 2 * 5 * 6 + (3 * 6 + 7 + 3 + 5));
    assert_eq!(stats.bytes_unique, 6 + 7 + 3 + 5);
    assert_eq!(stats.packs, repository.store().list("data").unwrap().len() as u64);
    assert!(stats.bytes_stored > stats.bytes_unique);
}
