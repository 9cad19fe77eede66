//! Index objects: offsets and lengths may say anything; every blob that is listed is found, once or more.

#![no_main]

use backup_core::limits::SEAL_OVERHEAD_BYTES;
use backup_core::model::{BlobKind, IndexId};
use backup_core::repository::{IndexBuilder, IndexFile};
use backup_fuzz::{bounded, of_json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bounded(of_json(bytes), || {
    let Ok(file) = serde_json::from_slice::<IndexFile>(bytes) else { return };
    let mut builder = IndexBuilder::default();
    builder.add(IndexId::of(b"one"), &file);
    builder.add(IndexId::of(b"the same again"), &file);
    let index = builder.finish();
    for pack in &file.packs {
        for blob in &pack.blobs {
            let found = index.find(blob.kind, &blob.id);
            // Of two entries for one pack the first counts.
            assert!(found.is_some() || file.packs.iter().filter(|other| other.id == pack.id).count() > 1);
        }
    }
    for kind in [BlobKind::Data, BlobKind::Tree] {
        for location in index.blobs(kind) {
            let _ = location.blob.opened_bytes();
            assert!(index.find_all(kind, &location.blob.id).count() >= 1);
        }
    }
    assert!(index.packs().iter().all(|pack| pack.bytes >= SEAL_OVERHEAD_BYTES as u64 || pack.blobs == 0));

    let text = serde_json::to_vec(&file).expect("what was read can be written");
    let again: IndexFile = serde_json::from_slice(&text).expect("what was written reads");
    assert_eq!(again, file);
}));
