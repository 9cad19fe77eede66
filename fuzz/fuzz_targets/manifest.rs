//! Manifests of databases: what is read can be written, and reads as the same.

#![no_main]

use backup_fuzz::{bounded, of_json};
use backup_sources::databases::manifest::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bounded(of_json(bytes), || {
    let Ok(manifest) = Manifest::read(bytes) else { return };
    let text = manifest.to_bytes().expect("what was read can be written");
    assert_eq!(Manifest::read(&text[..]).expect("what was written reads"), manifest);
}));
