//! `.gitignore` files, from a folder up to its source.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// The rules of one folder, and those of the folders above it.
#[derive(Debug)]
pub(super) struct Ignores {
    rules: Gitignore,
    above: Option<Arc<Self>>,
}

impl Ignores {
    /// The rules that `text`, the `.gitignore` of `folder`, adds to those above it. Lines that git would not understand
    /// are passed over, as git does.
    pub(super) fn below(above: Option<Arc<Self>>, folder: &[u8], text: &[u8]) -> Option<Arc<Self>> {
        let mut builder = GitignoreBuilder::new(as_path(folder));
        for line in String::from_utf8_lossy(text).lines() {
            let _ = builder.add_line(None, line);
        }
        match builder.build() {
            Ok(rules) if !rules.is_empty() => Some(Arc::new(Self { rules, above })),
            _ => above,
        }
    }

    /// Whether the entry at `path` is ignored. The rules nearest to it are asked first.
    pub(super) fn ignores(&self, path: &[u8], is_folder: bool) -> bool {
        let path = as_path(path);
        let mut level = Some(self);
        while let Some(ignores) = level {
            match ignores.rules.matched(path, is_folder) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => level = ignores.above.as_deref(),
            }
        }
        false
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_rules_decide() {
        let outer = Ignores::below(None, b"/repo", b"*.o\n/target/\n[broken\n");
        let inner = Ignores::below(outer.clone(), b"/repo/sub", b"!keep.o\n").unwrap();
        let outer = outer.unwrap();
        assert!(outer.ignores(b"/repo/a.o", false));
        assert!(outer.ignores(b"/repo/target", true));
        assert!(!outer.ignores(b"/repo/target", false));
        assert!(!outer.ignores(b"/repo/sub/target", true));
        assert!(inner.ignores(b"/repo/sub/a.o", false));
        assert!(!inner.ignores(b"/repo/sub/keep.o", false));
    }

    #[test]
    fn a_file_without_rules_adds_nothing() {
        assert!(Ignores::below(None, b"/repo", b"# nothing\n\n").is_none());
    }
}
