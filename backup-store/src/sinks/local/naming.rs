//! Which files below the folder are objects, which are unfinished ones of ours, and which are somebody else's.

use std::sync::atomic::{AtomicU64, Ordering};

use backup_core::contracts::ObjectKey;

/// What stands between an object's name and a number in the name of a temporary file. `~` cannot be part of a key, so
/// that no temporary file is ever taken for an object; restic and rustic ignore every name that is not an id.
const MARK: &str = ".tmp~";

/// Gives temporary names, different ones each time.
#[derive(Debug, Default)]
pub(super) struct TemporaryNames(AtomicU64);

impl TemporaryNames {
    /// Names that differ from other processes' with near certainty; the file is made exclusively all the same.
    pub(super) fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self(AtomicU64::new(RandomState::new().hash_one(std::process::id())))
    }

    /// The path of a temporary file for the object: in the object's folder, so that renaming never crosses devices.
    pub(super) fn path_for(&self, key: &ObjectKey) -> String {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let separator = if folder_of(key.as_str()).is_empty() { "" } else { "/" };
        format!("{}{separator}.{}{MARK}{number:016x}", folder_of(key.as_str()), key.name())
    }
}

/// Whether a file of this name is an unfinished object of this program's.
pub(super) fn is_temporary(name: &str) -> bool {
    let number = name.strip_prefix('.').and_then(|rest| rest.rsplit_once(MARK)).map(|(_, number)| number);
    number.is_some_and(|number| number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The path of the folder that holds what is at `path`; the empty path is the sink's own folder.
pub(super) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A path as the system takes it: the sink's own folder is `.`.
pub(super) fn or_self(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_are_ours_and_no_keys() {
        let names = TemporaryNames::new();
        for key in ["config", "data/ab/abcd"] {
            let key = ObjectKey::new(key);
            let path = names.path_for(&key);
            assert_ne!(path, names.path_for(&key));
            assert_eq!(folder_of(&path), folder_of(key.as_str()));
            let name = path.rsplit('/').next().unwrap();
            assert!(is_temporary(name) && !ObjectKey::is_component(name), "{name}");
        }
        for foreign in [".tmp~0", "a.tmp~0123456789abcdef", ".a.tmp~0123456789abcdeg", ".a.tmp-0123456789abcdef", ""] {
            assert!(!is_temporary(foreign), "{foreign}");
        }
    }

    #[test]
    fn every_byte_of_the_alphabet_is_the_keys() {
        for byte in 1..=127_u8 {
            let name = format!("a{}", char::from(byte));
            if ObjectKey::is_component(&name) {
                assert_eq!(ObjectKey::new(name.clone()).as_str(), name);
            }
        }
    }
}
