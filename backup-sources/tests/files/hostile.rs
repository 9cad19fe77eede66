//! Names and links that lead elsewhere lead nowhere, also while a restore runs.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use backup_core::contracts::Target;
use backup_core::model::{Metadata, Node, NodeKind, SnapshotPath};
use backup_core::observe::Amount;
use backup_sources::files::{Extra, FilesOptions, FilesTarget, RestoreOptions};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::tempdir;

use crate::driver::{Memory, Stored, describe, restore};

fn node(name: &[u8], kind: NodeKind) -> Node {
    let metadata = Metadata { mode: 0o755, ..Metadata::default() };
    Node { name: name.to_vec(), kind, metadata }
}

fn file(name: &[u8]) -> Node {
    node(name, NodeKind::File { size: 1, content: Vec::new() })
}

fn folder(name: &[u8]) -> Node {
    node(name, NodeKind::Dir { subtree: None })
}

#[test]
fn a_name_that_leads_elsewhere_is_refused_by_every_call() {
    let above = tempdir().unwrap();
    let target = FilesTarget::new(above.path().join("target"), RestoreOptions::default());
    target.begin(Amount::default()).unwrap();
    let root = SnapshotPath::root();
    for name in [b"..".as_slice(), b".", b"", b"../x", b"a/../../x", b"/x", b"x/", b"a\0b"] {
        let path = root.join(name);
        assert!(target.file(&path, &file(name)).is_err(), "{name:?}");
        assert!(target.enter(&path, &folder(name)).is_err(), "{name:?}");
        assert!(target.leave(&path, &folder(name), Some(&[])).is_err(), "{name:?}");
        let link = node(name, NodeKind::Symlink { target: b"/".to_vec() });
        assert!(target.special(&path, &link).is_err(), "{name:?}");
        assert!(target.hard_link(&path, &root.join(b"first"), &file(name)).is_err(), "{name:?}");
    }
    // A harmless node at a path that is not.
    for path in [root.join(b"..").join(b"x"), root.join(b"a").join(b"..").join(b"..").join(b"x")] {
        assert!(target.file(&path, &file(b"x")).is_err());
        assert!(target.hard_link(&root.join(b"x"), &path, &file(b"x")).is_err());
    }
    assert_eq!(fs::read_dir(above.path()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(above.path().join("target")).unwrap().count(), 0);
}

#[test]
fn a_snapshot_cannot_write_through_a_link_of_its_own() {
    let outside = tempdir().unwrap();
    let target = tempdir().unwrap();
    // First a link `a` that points outside, then a folder `a` with a file in it.
    let link = node(b"a", NodeKind::Symlink { target: outside.path().to_str().unwrap().into() });
    let inner = Stored { node: file(b"x"), bytes: b"x".to_vec(), entries: Vec::new() };
    let entries = [
        Stored { node: link, bytes: Vec::new(), entries: Vec::new() },
        Stored { node: folder(b"a"), bytes: Vec::new(), entries: vec![inner] },
    ];
    let told = restore(&entries, target.path(), RestoreOptions::default());
    assert!(told.errors.is_empty(), "{:?}", told.errors);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(target.path().join("a/x").is_file());
    // The same without the folder being entered.
    let target = tempdir().unwrap();
    symlink(outside.path(), target.path().join("a")).unwrap();
    let files = FilesTarget::new(target.path().to_owned(), RestoreOptions::default());
    files.begin(Amount::default()).unwrap();
    assert!(files.file(&SnapshotPath::parse(b"/a/x"), &file(b"x")).is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn links_that_lie_in_the_target_are_replaced_and_not_followed() {
    let (source, outside, target) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    fs::create_dir(source.path().join("folder")).unwrap();
    fs::write(source.path().join("folder/file"), "new").unwrap();
    fs::write(source.path().join("file"), "new").unwrap();
    fs::write(outside.path().join("file"), "precious").unwrap();
    let before = describe(outside.path());
    symlink(outside.path(), target.path().join("folder")).unwrap();
    symlink(outside.path().join("file"), target.path().join("file")).unwrap();
    let memory = Memory::of(source.path(), &FilesOptions::default());
    let told = restore(memory.entries(source.path()), target.path(), RestoreOptions::default());
    assert!(told.errors.is_empty());
    assert_eq!(describe(source.path()), describe(target.path()));
    assert_eq!(describe(outside.path()), before);
}

/// Swaps the entry `name` of `folder` and `link` back and forth until it is told to stop. The folder is opened once, so
/// that the swapper itself never goes through a link that another one put there.
fn swap(folder: &File, name: &str, link: &Path, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let _ = renameat_with(folder, name, CWD, link, RenameFlags::EXCHANGE);
    }
}

#[test]
fn a_link_that_is_swapped_in_while_the_restore_runs_leads_nowhere() {
    let (source, outside, work) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    for folder in ["a", "a/b"] {
        fs::create_dir(source.path().join(folder)).unwrap();
        for index in 0..30 {
            fs::write(source.path().join(folder).join(format!("{index}")), "restored").unwrap();
            symlink("x", source.path().join(folder).join(format!("l{index}"))).unwrap();
        }
    }
    // What a restore that went astray would overwrite, delete, or make.
    fs::create_dir(outside.path().join("b")).unwrap();
    for index in 0..40 {
        fs::write(outside.path().join(format!("{index}")), "precious").unwrap();
        fs::write(outside.path().join(format!("b/{index}")), "precious").unwrap();
    }
    let before = describe(outside.path());
    let memory = Memory::of(source.path(), &FilesOptions::default());
    let target = work.path().join("target");
    let links = work.path().join("links");
    fs::create_dir_all(target.join("a/b")).unwrap();
    fs::create_dir(&links).unwrap();
    symlink(outside.path(), links.join("a")).unwrap();
    symlink(outside.path(), links.join("b")).unwrap();
    let (inner, outer) = (File::open(target.join("a")).unwrap(), File::open(&target).unwrap());
    let stop = AtomicBool::new(false);
    let options = RestoreOptions { extra: Extra::Delete, ..RestoreOptions::default() };
    thread::scope(|scope| {
        scope.spawn(|| swap(&inner, "b", &links.join("b"), &stop));
        scope.spawn(|| swap(&outer, "a", &links.join("a"), &stop));
        for _ in 0..60 {
            // Errors are to be expected; escapes are not.
            restore(memory.entries(source.path()), &target, options);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(describe(outside.path()), before);
}
