//! Databases, as people write them: no panic, and no password in what is shown.

#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use backup_fuzz::{MIB, bounded};
use backup_sources::databases::url::DatabaseUrl;
use libfuzzer_sys::fuzz_target;

const PASSWORD: &str = "pass-word-of-somebody";

fuzz_target!(|bytes: &[u8]| bounded(MIB + 64 * bytes.len(), || {
    if let Ok(url) = DatabaseUrl::parse(OsStr::from_bytes(bytes)) {
        let shown = url.to_string();
        let again = DatabaseUrl::parse(&shown).expect("what is shown can be written");
        assert_eq!(again.to_string(), shown);
    }
    // Three lines: user, the end of the password, what follows the `@`. These characters would end the authority.
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.splitn(3, '\n');
    let (Some(user), Some(end), Some(rest)) = (lines.next(), lines.next(), lines.next()) else { return };
    if [user, end].iter().any(|part| part.contains(['/', '?', '#'])) {
        return;
    }
    for scheme in ["postgres", "mysql", "mongodb", "redis"] {
        match DatabaseUrl::parse(format!("{scheme}://{user}:{PASSWORD}{end}@{rest}")) {
            Ok(url) => assert!(!format!("{url} {url:?}").contains(PASSWORD), "it shows its password"),
            Err(error) => assert!(!format!("{error} {error:?}").contains(PASSWORD), "an error shows it: {error}"),
        }
    }
}));
