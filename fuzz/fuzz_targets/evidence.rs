//! Records of evidence: there is one text for what was read, and that reads as the same.

#![no_main]

use backup_core::evidence::EvidenceRecord;
use backup_fuzz::{bounded, of_json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bounded(2 * of_json(bytes), || {
    let Ok(record) = EvidenceRecord::parse(&String::from_utf8_lossy(bytes)) else { return };
    let Ok(text) = record.to_text() else { return };
    let again = EvidenceRecord::parse(&text).expect("what was written reads");
    assert_eq!(again.to_text().expect("it was written before"), text);
}));
