//! Dumps of PostgreSQL, as a repository may hold them.

#![no_main]

use backup_fuzz::{MIB, bounded};
use backup_sources::databases::postgres::inspect;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bounded(4 * MIB + 64 * bytes.len(), || {
    let _ = inspect(bytes);
}));
