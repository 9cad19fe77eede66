//! Patterns of what is left out, from the command line, from a file, and from a `.gitignore` in what is backed up.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use backup_core::contracts::Source;
use backup_fuzz::{MIB, bounded};
use backup_sources::files::{Case, Excludes, FilesOptions, FilesSource, Gitignore};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// A few entries for the patterns to be asked about.
static TREE: LazyLock<TempDir> = LazyLock::new(|| {
    let tree = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir_all(tree.path().join("a/b c")).expect("room for it");
    for name in ["a/one.tmp", "a/b c/two", "[three]"] {
        std::fs::write(tree.path().join(name), name).expect("room for it");
    }
    tree
});

fuzz_target!(|bytes: &[u8]| {
    let tree: PathBuf = TREE.path().to_owned();
    let text = String::from_utf8_lossy(bytes);
    // The machine of a pattern is built by its own libraries, which bound it to a few megabytes each.
    bounded(256 * MIB, || {
        let mut excludes = Excludes::default();
        for case in [Case::Sensitive, Case::Insensitive] {
            if excludes.add_lines(&text, case).is_err() {
                excludes = Excludes::default();
            }
        }
        std::fs::write(tree.join(".gitignore"), bytes).expect("room for it");
        let options = FilesOptions { excludes, gitignore: Gitignore::Honoured, ..FilesOptions::default() };
        let Ok(mut source) = FilesSource::new(vec![tree], &options) else { return };
        while source.next().expect("a folder can be walked").is_some() {}
        source.finish().expect("a walk has an end");
    });
});
