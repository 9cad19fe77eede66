//! A restore through a store that is gone, or that lacks one object.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use backup_core::ErrorKind;
use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::contracts::{ObjectKey, SinkErrorKind};
use backup_core::observe::Silent;
use backup_core::pipeline::{RestoreOptions, restore};
use backup_core::repository::LockMode;
use backup_core::testing::{Call, Fault, FaultySink, MemorySink, MemoryTarget, MemoryTree};

use crate::{back_up, create, identity};

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
