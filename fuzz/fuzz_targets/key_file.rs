//! Key files, which anybody can write who can write to the store: they are read before any seal protects.

#![no_main]

use backup_core::limits::{SCRYPT_BYTES_MAX, SCRYPT_WORK_MAX};
use backup_core::repository::{KeyFile, Passphrase};
use backup_fuzz::{MIB, bounded, of_json};
use libfuzzer_sys::fuzz_target;

/// What the fuzzer has the time for: larger costs that are allowed are left out.
const WORK_TRIED_MAX: u128 = 1 << 12;

fuzz_target!(|bytes: &[u8]| bounded(of_json(bytes) + 2 * MIB, || {
    let Ok(key) = serde_json::from_slice::<KeyFile>(bytes) else { return };
    let cost = key.cost();
    let block = u128::from(cost.n) * u128::from(cost.r);
    let work = block * u128::from(cost.p);
    let is_refused = block * 128 > SCRYPT_BYTES_MAX.into() || work > SCRYPT_WORK_MAX.into();
    if is_refused || work <= WORK_TRIED_MAX {
        let opened = key.open(&Passphrase::new("fuzz"));
        assert!(!is_refused || opened.is_err(), "a key file may not ask for so much work");
    }
    let _ = (key.created(), key.made_by());
    let text = serde_json::to_vec(&key).expect("what was read can be written");
    serde_json::from_slice::<KeyFile>(&text).expect("what was written reads");
}));
