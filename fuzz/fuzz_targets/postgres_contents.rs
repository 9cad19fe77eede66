//! Tables of contents of PostgreSQL's directory format, as a repository may hold them: no file that they name is elsewhere.

#![no_main]

use backup_fuzz::{MIB, bounded};
use backup_sources::databases::postgres::inspect_contents;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bounded(4 * MIB + 64 * bytes.len(), || {
    let Ok(Some(files)) = inspect_contents(bytes) else { return };
    for file in files {
        assert!(!file.is_empty() && !file.contains(['/', '\0']) && file != ".." && file != ".");
    }
}));
