//! Snapshots: nothing that another program put there is lost when one is written again.

#![no_main]

use backup_core::contracts::{Proof, SnapshotFacts};
use backup_core::model::Snapshot;
use backup_core::model::SnapshotId;
use backup_core::repository::SnapshotQuery;
use backup_core::retention::{GroupKey, Hold};
use backup_fuzz::{bounded, of_json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bounded(of_json(bytes), || {
    let Ok(snapshot) = serde_json::from_slice::<Snapshot>(bytes) else { return };
    let text = serde_json::to_vec(&snapshot).expect("what was read can be written");
    let again: Snapshot = serde_json::from_slice(&text).expect("what was written reads");
    assert_eq!(again, snapshot);

    let query = SnapshotQuery {
        host: Some(snapshot.hostname.clone()),
        tags: snapshot.tags.clone(),
        path: snapshot.paths.first().cloned(),
        at: Some(snapshot.time),
    };
    assert!(query.matches(&snapshot));
    let _ = Hold::of(&snapshot.tags);
    let _ = GroupKey::of(&SnapshotFacts {
        id: SnapshotId::of(bytes),
        time: snapshot.time,
        host: snapshot.hostname,
        paths: snapshot.paths,
        tags: snapshot.tags,
        proof: Proof::Uploaded,
    });
}));
