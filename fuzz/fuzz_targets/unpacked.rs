//! Objects that lie in the store on their own, from the seal inwards: plain JSON, compressed JSON, neither.
//!
//! The first byte chooses the kind of object and whether the fuzzer's bytes are compressed for it first.

#![no_main]

use backup_core::observe::Silent;
use backup_core::repository::Unlock;
use backup_fuzz::{MIB, SEALED, bounded};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    let plain = match choice & 4 {
        0 => rest.to_vec(),
        _ => {
            let mut plain = vec![2];
            plain.extend(zstd::bulk::compress(rest, 1).expect("memory"));
            plain
        }
    };
    let sealed = &*SEALED;
    // A frame of zstd may expand by a few thousand times before it is seen to be no JSON.
    bounded(64 * MIB + 16_384 * bytes.len(), || match choice & 3 {
        0 => sealed.with_object("index", &plain, |repository| drop(repository.load_index(&Silent))),
        1 => sealed.with_object("snapshots", &plain, |repository| drop(repository.snapshots())),
        2 => sealed.with_object("ext/records", &plain, |repository| drop(repository.records())),
        _ => sealed.with_object("locks", &plain, |repository| {
            assert_eq!(repository.locks().map(|locks| locks.len()).ok(), Some(1));
            repository.unlock(Unlock::Stale).expect("a lock that cannot be read is removed");
        }),
    });
});
