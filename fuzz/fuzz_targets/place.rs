//! Places of repositories, as people write them: no panic, and no password in what is shown.

#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use backup_fuzz::{MIB, bounded};
use backup_store::Place;
use libfuzzer_sys::fuzz_target;

const PASSWORD: &str = "pass-word-of-somebody";

fuzz_target!(|bytes: &[u8]| bounded(MIB + 64 * bytes.len(), || {
    if let Ok(place) = Place::parse(OsStr::from_bytes(bytes)) {
        let _ = place.to_string();
    }
    // Four lines: scheme, user, the end of the password, what follows the `@`. A slash would begin the path.
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.splitn(4, '\n');
    let (Some(scheme), Some(user), Some(end), Some(rest)) = (lines.next(), lines.next(), lines.next(), lines.next())
    else {
        return;
    };
    // A `file:` URL names a path, which is shown as it is. A scheme that is a whole place leaves no place for a password.
    if scheme.contains([':', '/', '?'])
        || [user, end].iter().any(|part| part.contains('/'))
        || scheme.starts_with("file")
    {
        return;
    }
    let place = format!("{scheme}://{user}:{PASSWORD}{end}@{rest}");
    if let Err(error) = Place::parse(&place) {
        assert!(!error.to_string().contains(PASSWORD), "an error shows a password: {error}");
    }
}));
