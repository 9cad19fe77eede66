//! Records of what was proven: of any version, also of one that does not exist yet.

#![no_main]

use backup_core::repository::Record;
use backup_fuzz::{bounded, of_json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bounded(of_json(bytes), || {
    let Ok(record) = serde_json::from_slice::<Record>(bytes) else { return };
    let text = serde_json::to_vec(&record).expect("what was read can be written");
    let again: Record = serde_json::from_slice(&text).expect("what was written reads");
    assert_eq!(again, record);
}));
