//! Every kind of object, damaged in every way: the check names it, a restore writes no wrong byte, and what can be
//! mended is mended. One table, one loop.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use backup_core::ErrorKind;
use backup_core::cancel::Cancel;
use backup_core::care::{
    CheckOptions, CheckReport, IndexRepair, Originals, ReadData, ReadPacks, RepairedPack, Severity, SnapshotRepair,
    SnapshotRepairOptions, SnapshotVerdict, check, proofs,
};
use backup_core::clock::SystemClock;
use backup_core::contracts::{ObjectKey, Proof, Sink, SinkErrorKind};
use backup_core::model::{BlobKind, KeyId, PackId, SnapshotId, SnapshotPath};
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOptions, RestoreOptions, TreeReader, backup, find_node, restore};
use backup_core::repository::layout::Named;
use backup_core::repository::{CreateOptions, Identity, KeyFile, LockMode, Passphrase, Repository, ScryptCost};
use backup_core::testing::{Call, Fault, FaultySink, MemorySink, MemoryTarget, MemoryTree};

const CHEAP: ScryptCost = ScryptCost { n: 2, r: 1, p: 1 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Config,
    Key,
    Lock,
    Index,
    Snapshot,
    TreePack,
    DataPack,
    Record,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    BitFlip,
    Truncation,
    Deletion,
    Swap,
    ZeroLength,
}

/// What a check is expected to say of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// The repository does not even open, and the error names the object.
    AtTheDoor,
    /// A finding names the object.
    ByName,
    /// A finding names the object, and does not count as damage: an empty lock locks nothing, and with a record goes a
    /// proof and nothing that can be restored.
    AsANote,
    /// A finding names the folder: what is not there has no name any more.
    ByFolder,
    /// Nothing: an object that nothing refers to is gone, and nobody can know that it was there.
    NotAtAll,
}

const KINDS: [Kind; 8] =
    [Kind::Config, Kind::Key, Kind::Lock, Kind::Index, Kind::Snapshot, Kind::TreePack, Kind::DataPack, Kind::Record];
const DAMAGES: [Damage; 5] = [Damage::BitFlip, Damage::Truncation, Damage::Deletion, Damage::Swap, Damage::ZeroLength];

fn expected(kind: Kind, damage: Damage) -> Told {
    match (kind, damage) {
        // Of two keys that were swapped neither is left.
        (Kind::Config, _) | (Kind::Key, Damage::Swap) => Told::AtTheDoor,
        (Kind::Key | Kind::Lock | Kind::Snapshot | Kind::Record, Damage::Deletion) => Told::NotAtAll,
        (Kind::Lock, Damage::ZeroLength) | (Kind::Record, _) => Told::AsANote,
        (Kind::Index, Damage::Deletion) => Told::ByFolder,
        _ => Told::ByName,
    }
}

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

/// The objects of a kind, sorted: for packs those whose blobs are of the kind.
fn objects(sink: &MemorySink, kind: Kind) -> Vec<ObjectKey> {
    let below = |folder: &str| -> Vec<ObjectKey> {
        sink.objects().into_keys().filter(|key| key.as_str().starts_with(folder)).collect()
    };
    let packs = |kind: BlobKind| -> Vec<ObjectKey> {
        let repository = open(Arc::new(sink.fork())).unwrap();
        let index = repository.load_index(&Silent).unwrap();
        let mut packs: Vec<_> = index.blobs(kind).map(|place| place.pack.key()).collect();
        packs.sort();
        packs.dedup();
        packs
    };
    match kind {
        Kind::Config => vec![ObjectKey::new("config")],
        Kind::Key => below("keys/"),
        Kind::Lock => below("locks/"),
        Kind::Index => below("index/"),
        Kind::Snapshot => below("snapshots/"),
        Kind::TreePack => packs(BlobKind::Tree),
        Kind::DataPack => packs(BlobKind::Data),
        Kind::Record => below("ext/records/"),
    }
}

/// Damages one object; says which are not what they were.
fn inflict(sink: &MemorySink, kind: Kind, damage: Damage, number: usize) -> Vec<ObjectKey> {
    let all = objects(sink, kind);
    let key = all[number % all.len()].clone();
    let content = sink.content(&key).unwrap();
    match damage {
        Damage::BitFlip => {
            let mut bytes = content.to_vec();
            let at = bytes.len() / 3;
            bytes[at] ^= 4;
            sink.replace(key.clone(), bytes);
        }
        Damage::Truncation => {
            sink.replace(key.clone(), content.slice(..content.len() * 2 / 3));
        }
        Damage::ZeroLength => {
            sink.replace(key.clone(), Vec::new());
        }
        Damage::Deletion => {
            sink.remove(&key);
        }
        Damage::Swap if kind == Kind::Config => {
            let other = Arc::new(MemorySink::new());
            create(Arc::clone(&other) as _);
            sink.replace(key.clone(), other.content(&key).unwrap());
        }
        Damage::Swap => {
            let other = all[(number + 1) % all.len()].clone();
            assert_ne!(key, other, "two objects of a kind are needed to swap them");
            let theirs = sink.replace(key.clone(), sink.content(&other).unwrap()).unwrap();
            sink.replace(other.clone(), theirs);
            return vec![key, other];
        }
    }
    vec![key]
}

/// Restores everything that can be found. No file that comes back under a name of its own has a wrong byte, and what
/// does not come back was counted. Returns how many snapshots came back whole.
fn assert_restores_nothing_wrong(repository: &Repository, cell: &str) -> usize {
    let mut whole = 0;
    let Ok(snapshots) = repository.readable_snapshots(|_, _| Ok(())) else { return 0 };
    for (id, snapshot) in snapshots {
        let all = trees();
        let (_, expected) = all.iter().find(|(tag, _)| snapshot.tags.iter().any(|other| other == tag)).unwrap();
        let target = MemoryTarget::default();
        let options = RestoreOptions { lock: LockMode::None, ..RestoreOptions::default() };
        let Ok(outcome) = restore(repository, &snapshot, &target, &options, &Cancel::new(), &Silent) else {
            continue;
        };
        let restored = target.tree();
        for (path, entry) in restored.entries() {
            let is_marked = path.to_string().contains(".damaged");
            let right = expected.get(&path.to_string());
            assert!(is_marked || right.is_some_and(|right| right.bytes == entry.bytes), "{cell}: {id} {path} is wrong");
        }
        let is_repaired = snapshot.tags.iter().any(|tag| tag == "repaired");
        let is_whole = restored.entries().count() == expected.entries().count();
        assert!(is_whole || outcome.losses > 0 || is_repaired, "{cell}: {id} lost something without a word");
        whole += usize::from(is_whole && !is_repaired);
    }
    whole
}

#[test]
fn every_damage_is_named_restores_nothing_wrong_and_is_mended_as_far_as_it_can_be() {
    let sound = sound_repository();
    let cells: Vec<_> = KINDS.into_iter().flat_map(|kind| DAMAGES.map(|damage| (kind, damage))).collect();
    // Most of the time is spent waiting for locks to settle.
    std::thread::scope(|scope| {
        for lane in 0..4 {
            let (sound, cells) = (&sound, &cells);
            scope.spawn(move || {
                for (kind, damage) in cells.iter().skip(lane).step_by(4) {
                    for number in 0..2 {
                        look_at_cell(sound, *kind, *damage, number);
                    }
                }
            });
        }
    });
}

fn look_at_cell(sound: &MemorySink, kind: Kind, damage: Damage, number: usize) {
    let cell = format!("{kind:?} {damage:?} {number}");
    let sink = Arc::new(sound.fork());
    if kind == Kind::Lock {
        let repository = open(Arc::clone(&sink) as _).unwrap();
        for _ in 0..2 {
            std::mem::forget(repository.lock(LockMode::Shared, &Silent).unwrap());
        }
    }
    let touched = inflict(&sink, kind, damage, number);
    let told = expected(kind, damage);
    let repository = match open(Arc::clone(&sink) as _) {
        Ok(repository) => repository,
        Err(error) => {
            assert_eq!(told, Told::AtTheDoor, "{cell}: {error}");
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            let is_named = touched.iter().any(|key| text.contains(key.as_str()));
            assert!(is_named || text.contains("no repository"), "{cell}: {text}");
            return;
        }
    };

    let report = checked(&repository, ReadData::All);
    let named: Vec<_> = report.findings.iter().filter(|finding| finding.severity == Severity::Damage).collect();
    match told {
        Told::AtTheDoor => panic!("{cell}: opened"),
        Told::NotAtAll => assert!(report.is_sound(), "{cell}: {:?}", damages(&report)),
        Told::AsANote => {
            assert!(report.is_sound(), "{cell}: {:?}", damages(&report));
            assert!(report.findings.iter().any(|finding| finding.object == touched[0]), "{cell}");
        }
        Told::ByFolder => assert!(named.iter().any(|f| f.object.as_str() == "index"), "{cell}: {:?}", damages(&report)),
        Told::ByName => {
            for key in &touched {
                assert!(named.iter().any(|f| f.object == *key), "{cell}: {key} is not in {:?}", damages(&report));
            }
        }
    }
    let whole = assert_restores_nothing_wrong(&repository, &cell);
    let is_data = matches!(kind, Kind::TreePack | Kind::DataPack);
    if is_data {
        assert!(!report.broken_snapshots.is_empty(), "{cell}: a pack that a snapshot needs is damaged");
        let names_files = named.iter().any(|finding| finding.affected.path_count > 0);
        assert!(names_files, "{cell}: no file is said to be lost");
        let snapshots = repository.snapshots().unwrap();
        let records = repository.records().unwrap();
        let proofs = proofs(records.iter().map(|(_, record)| record), &snapshots);
        for id in &report.broken_snapshots {
            assert_eq!(proofs[id], Proof::Uploaded, "{cell}: {id} is still said to be proven");
        }
        assert_eq!(whole + report.broken_snapshots.len(), snapshots.len(), "{cell}: check and restore disagree");
    }
    if matches!(kind, Kind::Index | Kind::TreePack | Kind::DataPack) {
        assert_mends(&sink, &cell);
        assert_mends_without_the_files(&sink, &cell);
    }
}

/// A repair of the index and a backup of the same files bring everything back.
fn assert_mends(damaged: &MemorySink, cell: &str) {
    let sink = Arc::new(damaged.fork());
    let repository = open(sink).unwrap();
    let repair = IndexRepair::plan(&repository, ReadPacks::All, &Cancel::new(), &Silent).unwrap();
    let outcome = repair.apply(&Cancel::new(), &Silent).unwrap();
    assert_eq!(outcome.left, 0, "{cell}");
    assert_restores_nothing_wrong(&repository, cell);
    for (tag, tree) in trees() {
        back_up(&repository, &tree, tag).unwrap_or_else(|error| panic!("{cell}: {error}"));
    }
    let report = checked(&repository, ReadData::All);
    assert!(report.is_sound(), "{cell}: {:?}", damages(&report));
    assert_eq!(assert_restores_nothing_wrong(&repository, cell), 4, "{cell}");
}

/// Where the files are gone, a repair of index and snapshots leaves what can be read, under names that say so.
fn assert_mends_without_the_files(damaged: &MemorySink, cell: &str) {
    let repository = open(Arc::new(damaged.fork())).unwrap();
    let repair = IndexRepair::plan(&repository, ReadPacks::All, &Cancel::new(), &Silent).unwrap();
    repair.apply(&Cancel::new(), &Silent).unwrap();
    let again = IndexRepair::plan(&repository, ReadPacks::All, &Cancel::new(), &Silent).unwrap();
    assert!(again.is_empty(), "{cell}: {again:?}");
    drop(again);

    let options = SnapshotRepairOptions { originals: Originals::Forget, ..SnapshotRepairOptions::default() };
    let repair = SnapshotRepair::plan(&repository, &options, &Cancel::new(), &Silent).unwrap();
    let lost: Vec<_> = repair
        .verdicts()
        .filter(|(_, verdict)| matches!(verdict, SnapshotVerdict::Lost(_)))
        .map(|(id, _)| id)
        .collect();
    repair.apply(&Cancel::new(), &Silent).unwrap();
    repository.remove_snapshots(&lost, &Silent).unwrap();
    let report = checked(&repository, ReadData::All);
    assert!(report.is_sound(), "{cell}: {:?}", damages(&report));
    assert_restores_nothing_wrong(&repository, cell);
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

/// How a restore from twelve packs ends, through a store that fails with `kind` when a call `applies`.
fn restored_while(
    kind: SinkErrorKind,
    applies: impl Fn(&Call) -> bool + Send + Sync + 'static,
) -> Result<u64, backup_core::Error> {
    let store = Arc::new(MemorySink::new());
    let repository = create(Arc::clone(&store) as _);
    let mut tree = MemoryTree::new();
    for number in 0..12 {
        tree = tree.with_file(&format!("/{number}"), incompressible(number));
        back_up(&repository, &tree, "x").unwrap();
    }
    let fails = Arc::new(FaultySink::new(store).when(applies, Fault::Failed(kind)));
    let seen = repository.reopen(fails, identity(), Arc::new(SystemClock)).unwrap();
    let newest =
        repository.snapshots().unwrap().into_iter().map(|(_, snapshot)| snapshot).max_by_key(|s| s.time).unwrap();
    let options = RestoreOptions { lock: LockMode::None, ..RestoreOptions::default() };
    let outcome = restore(&seen, &newest, &MemoryTarget::default(), &options, &Cancel::new(), &Silent);
    outcome.map(|outcome| outcome.losses)
}

/// Bytes that a pack cannot make less of (the mixer of SplitMix64).
fn incompressible(seed: u64) -> Vec<u8> {
    let mixed = |number: u64| {
        let mut mixed = (seed << 32 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 31)
    };
    (0..40_000).flat_map(|number| mixed(number).to_le_bytes()).collect()
}

/// The pack whose content a call reads.
fn read_of_content(call: &Call) -> Option<&ObjectKey> {
    match call {
        Call::Get { key, range: Some(range) } if key.as_str().starts_with("data/") => {
            (range.end - range.start > 200_000).then_some(key)
        }
        _ => None,
    }
}

#[test]
fn a_restore_ends_when_the_store_is_gone_and_goes_on_when_one_object_is() {
    for kind in [SinkErrorKind::PermissionDenied, SinkErrorKind::Unavailable, SinkErrorKind::Other] {
        // Everything fails from the first look at content on, as when credentials expire.
        let is_gone = AtomicBool::new(false);
        let ended = restored_while(kind, move |call| {
            is_gone.fetch_or(read_of_content(call).is_some(), Ordering::Relaxed);
            is_gone.load(Ordering::Relaxed)
        });
        assert_eq!(*ended.unwrap_err().kind(), ErrorKind::Sink(kind));
        // One pack alone is closed, or lies on a bad spot.
        let bad = Mutex::new(None::<ObjectKey>);
        let losses = restored_while(kind, move |call| {
            read_of_content(call).is_some_and(|key| bad.lock().unwrap().get_or_insert_with(|| key.clone()) == key)
        });
        assert_eq!(losses.unwrap(), 1, "{kind:?}");
    }
}
