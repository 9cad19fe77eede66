//! Leases: whatever one says of its holder and its times, who asks for the slot gets an answer.

#![no_main]

use backup_core::contracts::ObjectKey;
use backup_core::repository::{Claim, KeptConfiguration};
use backup_fuzz::{MIB, SEALED, bounded, of_json};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bounded(of_json(bytes) + 16 * MIB, || {
    let taken = ObjectKey::new("ext/leases/app/19700101T000000Z");
    SEALED.with_object_at(taken, bytes, |repository| {
        let claim = repository.claim("app", Timestamp::UNIX_EPOCH).expect("leases in memory can be taken");
        if let Claim::Held(lease) = claim {
            let text = serde_json::to_vec(&lease).expect("what was read can be written");
            serde_json::from_slice::<backup_core::repository::Lease>(&text).expect("what was written reads");
        }
    });
    // What lies beside them, and is read on a bare machine.
    SEALED.with_object("ext/configurations", bytes, |repository| {
        let kept = repository.configurations().expect("configurations in memory can be listed");
        for (_, kept) in kept {
            let text = serde_json::to_vec(&kept).expect("what was read can be written");
            serde_json::from_slice::<KeptConfiguration>(&text).expect("what was written reads");
        }
    });
}));
