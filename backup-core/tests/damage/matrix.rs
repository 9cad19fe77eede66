//! Every kind of object, damaged in every way: the check names it, a restore writes no wrong byte, and what can be
//! mended is mended. One table, one loop.

use std::sync::Arc;

use backup_core::cancel::Cancel;
use backup_core::care::{
    IndexRepair, Originals, ReadData, ReadPacks, Severity, SnapshotRepair, SnapshotRepairOptions, SnapshotVerdict,
    proofs,
};
use backup_core::contracts::{ObjectKey, Proof};
use backup_core::model::BlobKind;
use backup_core::observe::Silent;
use backup_core::pipeline::{RestoreOptions, restore};
use backup_core::repository::layout::Named;
use backup_core::repository::{LockMode, Repository};
use backup_core::testing::{MemorySink, MemoryTarget};

use crate::{back_up, checked, create, damages, open, sound_repository, trees};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
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

/// The objects of a kind, sorted: for packs those whose blobs are of the kind.
pub(crate) fn objects(sink: &MemorySink, kind: Kind) -> Vec<ObjectKey> {
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
pub(crate) fn assert_restores_nothing_wrong(repository: &Repository, cell: &str) -> usize {
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
