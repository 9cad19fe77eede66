//! Damage: each kind of it at each kind of object, what is mended and what is left, and a store that is gone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod gone;
mod matrix;

use std::sync::Arc;

use backup_core::cancel::Cancel;
use backup_core::care::{
    CheckOptions, CheckReport, IndexRepair, ReadData, ReadPacks, RepairedPack, Severity, SnapshotRepair,
    SnapshotRepairOptions, SnapshotVerdict, check, proofs,
};
use backup_core::clock::SystemClock;
use backup_core::contracts::{Proof, Sink};
use backup_core::model::{BlobKind, KeyId, PackId, SnapshotId, SnapshotPath};
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOptions, RestoreOptions, TreeReader, backup, find_node, restore};
use backup_core::repository::layout::Named;
use backup_core::repository::{CreateOptions, Identity, KeyFile, LockMode, Passphrase, Repository, ScryptCost};
use backup_core::testing::{MemorySink, MemoryTarget, MemoryTree};

use crate::matrix::{Kind, assert_restores_nothing_wrong, objects};

const CHEAP: ScryptCost = ScryptCost { n: 2, r: 1, p: 1 };

fn identity() -> Identity {
    let pid = i32::try_from(std::process::id()).unwrap();
    Identity { hostname: "host".into(), username: "user".into(), uid: 1, gid: 1, pid }
}

fn create(sink: Arc<dyn Sink>) -> Repository {
    let options = CreateOptions { cost: Some(CHEAP), ..CreateOptions::default() };
    Repository::create(sink, &Passphrase::new("x"), &options, identity(), Arc::new(SystemClock)).unwrap()
}

fn open(sink: Arc<dyn Sink>) -> Result<Repository, backup_core::Error> {
    Repository::open(sink, &Passphrase::new("x"), identity(), Arc::new(SystemClock), &Silent)
}

fn back_up(repository: &Repository, tree: &MemoryTree, tag: &str) -> Result<SnapshotId, backup_core::Error> {
    let options = BackupOptions { tags: vec![tag.into()], lock: LockMode::None, ..BackupOptions::default() };
    Ok(backup(repository, &mut tree.source(50_000), &options, &Cancel::new(), &Silent)?.snapshot.unwrap())
}

fn checked(repository: &Repository, read_data: ReadData) -> CheckReport {
    let options = CheckOptions { read_data, lock: LockMode::None };
    check(repository, &options, &Cancel::new(), &Silent).unwrap()
}

fn damages(report: &CheckReport) -> Vec<String> {
    report.findings.iter().filter(|f| f.severity == Severity::Damage).map(ToString::to_string).collect()
}

fn noise(seed: u32, bytes: u32) -> Vec<u8> {
    (0..bytes).map(|n| (n.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed as u8).collect()
}

/// Two trees that share a file, so that a pack of the first backup is needed by both snapshots.
fn trees() -> [(&'static str, MemoryTree); 2] {
    let one = MemoryTree::new()
        .with_file("/both/large", noise(1, 2_500_000))
        .with_file("/both/small", "small")
        .with_file("/first/only", noise(2, 90_000));
    let two = MemoryTree::new()
        .with_file("/both/large", noise(1, 2_500_000))
        .with_file("/both/small", "small")
        .with_file("/second/only", noise(3, 800_000))
        .with_file("/second/empty", "");
    [("one", one), ("two", two)]
}

/// A repository with two objects of every kind, but for the config.
fn sound_repository() -> MemorySink {
    let sink = Arc::new(MemorySink::new());
    let repository = create(Arc::clone(&sink) as _);
    let key =
        KeyFile::create(repository.master_key(), &Passphrase::new("x"), CHEAP, &identity(), repository.clock().now());
    let json = serde_json::to_vec(&key.unwrap()).unwrap();
    sink.replace(KeyId::of(&json).key(), json);
    for (tag, tree) in trees() {
        back_up(&repository, &tree, tag).unwrap();
    }
    sink.fork()
}

#[test]
fn a_sound_repository_is_proven_once_and_says_so() {
    let repository = open(Arc::new(sound_repository())).unwrap();
    let records = |repository: &Repository| repository.records().unwrap().len();
    let before = records(&repository);
    let report = checked(&repository, ReadData::None);
    assert!(report.is_sound() && report.findings.is_empty(), "{:?}", report.findings);
    // Each backup has proven its own snapshot to be present.
    assert_eq!((report.snapshots, report.reached, records(&repository)), (2, Some(Proof::Present), before));
    let report = checked(&repository, ReadData::All);
    assert_eq!((report.reached, report.packs_read), (Some(Proof::Verified), report.packs));
    assert_eq!((report.bytes_read, records(&repository)), (report.pack_bytes, before + 1));
    let snapshots = repository.snapshots().unwrap();
    let records = repository.records().unwrap();
    let proofs = proofs(records.iter().map(|(_, record)| record), &snapshots);
    assert!(proofs.values().all(|proof| *proof == Proof::Verified));
}

#[test]
fn a_subset_reads_so_many_packs_and_proves_no_more_than_presence() {
    let repository = open(Arc::new(sound_repository())).unwrap();
    for (percent, packs) in [(0.1, 1), (50.0, 2), (51.0, 3), (100.0, 4)] {
        let report = checked(&repository, ReadData::Subset(percent));
        assert_eq!((report.packs, report.packs_read, report.reached), (4, packs, Some(Proof::Present)));
    }
    for percent in [0.0, -1.0, 101.0, f64::NAN] {
        let options = CheckOptions { read_data: ReadData::Subset(percent), lock: LockMode::None };
        assert!(check(&repository, &options, &Cancel::new(), &Silent).is_err());
    }
}

#[test]
fn a_blob_that_lies_in_two_packs_is_lost_with_the_second_only() {
    let sink = Arc::new(sound_repository());
    let repository = open(Arc::clone(&sink) as _).unwrap();
    // What one index lists twice over: the first data pack's blobs sealed anew.
    let index = repository.load_index(&Silent).unwrap();
    let mut writer = backup_core::pack::PackWriter::new(BlobKind::Data);
    for place in index.blobs(BlobKind::Data) {
        let range = u64::from(place.blob.offset)..u64::from(place.blob.offset + place.blob.length);
        let sealed = repository.store().get(&place.pack.key(), Some(range)).unwrap();
        writer.append(place.blob.id, &sealed, place.blob.plain_bytes).unwrap();
    }
    let pack = writer.finish(repository.master_key()).unwrap();
    sink.replace(pack.id.key(), pack.bytes.clone());
    let entry = backup_core::repository::IndexPack::new(pack.id, &pack.blobs);
    let file = backup_core::repository::IndexFile { packs: vec![entry], ..Default::default() };
    repository.save_index(&file).unwrap();

    for key in objects(&sink, Kind::DataPack).into_iter().filter(|key| *key != pack.id.key()) {
        sink.remove(&key);
    }
    let report = checked(&repository, ReadData::All);
    assert!(!report.is_sound() && report.broken_snapshots.is_empty(), "{:?}", damages(&report));
    sink.remove(&pack.id.key());
    let report = checked(&repository, ReadData::All);
    assert_eq!(report.broken_snapshots.len(), 2);
}

#[test]
fn without_any_index_the_packs_tell_what_is_in_them() {
    let sink = Arc::new(sound_repository());
    for key in objects(&sink, Kind::Index) {
        sink.remove(&key);
    }
    let repository = open(Arc::clone(&sink) as _).unwrap();
    let repair = IndexRepair::plan(&repository, ReadPacks::Suspicious, &Cancel::new(), &Silent).unwrap();
    assert_eq!(repair.packs().len(), 4);
    repair.apply(&Cancel::new(), &Silent).unwrap();
    assert!(checked(&repository, ReadData::All).is_sound());
    assert_eq!(assert_restores_nothing_wrong(&repository, "no index"), 2);
    let nothing_left = IndexRepair::plan(&repository, ReadPacks::Suspicious, &Cancel::new(), &Silent).unwrap();
    assert!(nothing_left.is_empty());
}

#[test]
fn a_pack_that_a_power_failure_left_with_a_hole_is_not_believed_for_its_header() {
    let sink = Arc::new(sound_repository());
    let holed = objects(&sink, Kind::DataPack).remove(0);
    for key in objects(&sink, Kind::Index) {
        sink.remove(&key);
    }
    let mut bytes = sink.content(&holed).unwrap().to_vec();
    bytes[..20].fill(0);
    sink.replace(holed.clone(), bytes);
    let repository = open(Arc::clone(&sink) as _).unwrap();
    let repair = IndexRepair::plan(&repository, ReadPacks::Suspicious, &Cancel::new(), &Silent).unwrap();
    let found = &repair.packs()[&PackId::from_key(&holed).unwrap()];
    assert!(matches!(found, RepairedPack::Damaged { lost: 1, .. }), "{found:?}");
    repair.apply(&Cancel::new(), &Silent).unwrap();
    assert!(sink.content(&holed).is_none());
    for (tag, tree) in trees() {
        back_up(&repository, &tree, tag).unwrap();
    }
    assert!(checked(&repository, ReadData::All).is_sound());
}

#[test]
fn what_is_left_of_a_file_stands_beside_its_name_and_nothing_under_it() {
    // Longer than the longest piece, so that there are at least two.
    let mut whole = noise(5, 9_000_000);
    whole[..8].copy_from_slice(b"a number");
    let sink = Arc::new(MemorySink::new());
    let repository = create(Arc::clone(&sink) as _);
    let tree = MemoryTree::new().with_file("/a/large", whole.clone()).with_file("/a/small", "small");
    back_up(&repository, &tree, "one").unwrap();
    let index = repository.load_index(&Silent).unwrap();
    let largest = index.blobs(BlobKind::Data).max_by_key(|place| place.blob.opened_bytes()).unwrap();
    let (_, snapshot) = repository.find_snapshot("latest", &Default::default()).unwrap();
    let reader = TreeReader::new(&repository, &index);
    let node = find_node(&reader, &snapshot.tree, &SnapshotPath::parse(b"/a/large")).unwrap().unwrap();
    // How many pieces there are, and whether two are alike, depends on the repository's polynomial.
    let (mut expected, mut at) = (Vec::new(), 0);
    for id in node.content() {
        let end = at + usize::try_from(index.find(BlobKind::Data, id).unwrap().blob.opened_bytes()).unwrap();
        if *id != largest.blob.id {
            expected.extend_from_slice(&whole[at..end]);
        }
        at = end;
    }
    assert!(at == whole.len() && !expected.is_empty());
    let mut bytes = sink.content(&largest.pack.key()).unwrap().to_vec();
    bytes[largest.blob.offset as usize + 40] ^= 1;
    sink.replace(largest.pack.key(), bytes);
    let repair = IndexRepair::plan(&repository, ReadPacks::All, &Cancel::new(), &Silent).unwrap();
    repair.apply(&Cancel::new(), &Silent).unwrap();
    let repair = SnapshotRepair::plan(&repository, &SnapshotRepairOptions::default(), &Cancel::new(), &Silent).unwrap();
    for (_, verdict) in repair.verdicts() {
        let SnapshotVerdict::Repairable { dropped: 0, shortened: 1, paths, .. } = verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!(paths[0].to_string(), "/a/large");
    }
    let outcome = repair.apply(&Cancel::new(), &Silent).unwrap();
    let (_, new) = outcome.repaired[0];
    let (_, snapshot) = repository.find_snapshot(&new.to_string(), &Default::default()).unwrap();
    let target = MemoryTarget::default();
    let options = RestoreOptions { lock: LockMode::None, ..RestoreOptions::default() };
    assert_eq!(restore(&repository, &snapshot, &target, &options, &Cancel::new(), &Silent).unwrap().losses, 0);
    let tree = target.tree();
    assert!(tree.get("/a/large").is_none());
    assert_eq!(tree.get("/a/small").unwrap().bytes, b"small");
    assert!(tree.get("/a/large.damaged").unwrap().bytes == expected, "every other piece, in its order");
}

#[test]
fn a_repaired_snapshot_is_written_once_and_its_original_stays() {
    let sink = Arc::new(sound_repository());
    let repository = open(Arc::clone(&sink) as _).unwrap();
    let largest = objects(&sink, Kind::DataPack).into_iter().max_by_key(|key| sink.content(key).unwrap().len());
    let pack = largest.and_then(|key| PackId::from_key(&key)).unwrap();
    sink.remove(&pack.key());
    let plan =
        || SnapshotRepair::plan(&repository, &SnapshotRepairOptions::default(), &Cancel::new(), &Silent).unwrap();
    let repair = plan();
    assert!(!repair.is_empty());
    let outcome = repair.apply(&Cancel::new(), &Silent).unwrap();
    assert_eq!((outcome.repaired.len(), outcome.forgotten), (2, 0));
    assert_eq!(repository.snapshots().unwrap().len(), 4);
    for (_, new) in &outcome.repaired {
        let (_, snapshot) = repository.find_snapshot(&new.to_string(), &Default::default()).unwrap();
        assert!(snapshot.tags.contains(&"repaired".to_owned()) && snapshot.original.is_some());
    }
    let again = plan();
    assert!(again.is_empty(), "{again:?}");
}
