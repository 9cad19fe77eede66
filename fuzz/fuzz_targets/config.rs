//! The config: whatever a repository asks for, cutting stays within the limits.

#![no_main]

use backup_core::contracts::ObjectKey;
use backup_core::limits::CHUNK_BYTES_MAX;
use backup_core::repository::Config;
use backup_fuzz::{bounded, of_json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bounded(of_json(bytes), || {
    let Ok(config) = serde_json::from_slice::<Config>(bytes) else { return };
    let _ = config.validate(&ObjectKey::new("config"));
    if let Ok(chunking) = config.chunking() {
        assert!((1..=CHUNK_BYTES_MAX).contains(&chunking.max_chunk_bytes()));
        assert!(chunking.min_chunk_bytes() <= chunking.max_chunk_bytes());
        let data: Vec<u8> = bytes.iter().copied().cycle().take(64 * 1024).collect();
        let mut cutter = chunking.cutter();
        let mut rest = data.as_slice();
        while let Some(cut) = cutter.next_cut(rest) {
            assert!((chunking.min_chunk_bytes()..=chunking.max_chunk_bytes()).contains(&cut));
            rest = &rest[cut..];
        }
    }
    let text = serde_json::to_vec(&config).expect("what was read can be written");
    let again: Config = serde_json::from_slice(&text).expect("what was written reads");
    assert_eq!(again, config);
}));
