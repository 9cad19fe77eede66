//! Locks: whatever one says of its process, its time and its machine, the others come to a verdict.

#![no_main]

use backup_core::repository::{LockFile, Unlock};
use backup_fuzz::{MIB, SEALED, bounded, of_json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bounded(of_json(bytes) + 16 * MIB, || {
    let Ok(file) = serde_json::from_slice::<LockFile>(bytes) else { return };
    let text = serde_json::to_vec(&file).expect("what was read can be written");
    serde_json::from_slice::<LockFile>(&text).expect("what was written reads");
    // On this machine, so that its process is looked for.
    let own = LockFile { hostname: "host".to_owned(), pid_space: None, ..file };
    let text = serde_json::to_vec(&own).expect("a lock can be written");
    SEALED.with_object("locks", &text, |repository| {
        let (removed, left) = repository.unlock(Unlock::Stale).expect("locks in memory can be removed");
        assert_eq!(removed + left, 1);
    });
}));
