//! Places of repositories, as people write them.

#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use backup_fuzz::{MIB, bounded};
use backup_store::Place;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bounded(MIB + 32 * bytes.len(), || {
    match Place::parse(OsStr::from_bytes(bytes)) {
        Ok(place) => {
            let _ = place.to_string();
        }
        Err(error) => {
            // The text is for a terminal, and must not repeat what may be a password.
            let text = error.to_string();
            if let Ok(place) = str::from_utf8(bytes)
                && let Some((scheme, rest)) = place.split_once("://")
                // A `file:` URL names a path, which is shown as it is.
                && !scheme.starts_with("file:")
                && scheme != "file"
                && let Some((user, _)) = rest.split('/').next().unwrap_or_default().rsplit_once('@')
                && let Some((_, password)) = user.split_once(':')
                && password.len() > 8
            {
                assert!(!text.contains(password), "an error repeats a password: {text}");
            }
        }
    }
}));
