//! What a restore does with what is there, with metadata, and with what it may not do.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use backup_core::contracts::Target;
use backup_core::model::{Metadata, Node, NodeKind, SnapshotPath};
use backup_core::observe::Amount;
use backup_sources::files::{Extra, FilesOptions, FilesTarget, Overwrite, Owner, RestoreOptions, SpaceCheck, Zeros};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};
use tempfile::{TempDir, tempdir};

use crate::driver::{Memory, Told, describe, is_root, restore};
use crate::walk::as_nobody;

fn snapshot(make: impl FnOnce(&Path)) -> (TempDir, Memory) {
    let dir = tempdir().unwrap();
    make(dir.path());
    let memory = Memory::of(dir.path(), &FilesOptions::default());
    assert!(memory.problems.is_empty());
    (dir, memory)
}

fn restored(source: &TempDir, memory: &Memory, target: &Path, options: RestoreOptions) -> Told {
    let told = restore(memory.entries(source.path()), target, options);
    assert!(told.errors.is_empty(), "{:?}", told.errors);
    told
}

/// Empties a folder by restoring nothing to it with deletion.
pub(crate) fn empty(dir: &Path) {
    let options = RestoreOptions { extra: Extra::Delete, ..RestoreOptions::default() };
    let target = FilesTarget::new(dir.to_owned(), options);
    target.begin(Amount::default()).unwrap();
    let metadata = Metadata { mode: 0o700, ..Metadata::default() };
    let node = Node { name: Vec::new(), kind: NodeKind::Dir { subtree: None }, metadata };
    target.enter(&SnapshotPath::root(), &node).unwrap();
    target.leave(&SnapshotPath::root(), &node, Some(&[])).unwrap();
}

#[test]
fn every_kind_of_entry_comes_back() {
    let (source, memory) = snapshot(|dir| {
        fs::create_dir_all(dir.join("folder/empty")).unwrap();
        fs::write(dir.join("folder/file"), "content").unwrap();
        fs::hard_link(dir.join("folder/file"), dir.join("folder/second")).unwrap();
        symlink("../nowhere", dir.join("folder/link")).unwrap();
        mknodat(CWD, dir.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
        setxattr(dir.join("folder"), "user.a", b"b", XattrFlags::empty()).unwrap();
        setxattr(dir.join("folder/file"), "user.c", b"", XattrFlags::empty()).unwrap();
        fs::set_permissions(dir.join("folder/file"), PermissionsExt::from_mode(0o444)).unwrap();
        fs::set_permissions(dir.join("folder/empty"), PermissionsExt::from_mode(0o1775)).unwrap();
        fs::set_permissions(dir.join("folder"), PermissionsExt::from_mode(0o555)).unwrap();
        if is_root() {
            mknodat(CWD, dir.join("null"), FileType::CharacterDevice, Mode::RWXU, rustix::fs::makedev(1, 3)).unwrap();
            mknodat(CWD, dir.join("loop"), FileType::BlockDevice, Mode::RUSR, rustix::fs::makedev(7, 200)).unwrap();
            fs::write(dir.join("setuid"), "").unwrap();
            std::os::unix::fs::chown(dir.join("setuid"), Some(12), Some(34)).unwrap();
            fs::set_permissions(dir.join("setuid"), PermissionsExt::from_mode(0o6755)).unwrap();
            std::os::unix::fs::lchown(dir.join("folder/link"), Some(56), Some(78)).unwrap();
            // An access list: owner rw, user 12 r, group r, mask r, others nothing.
            let acl = [2_u32, 0x6_0001, u32::MAX, 0x4_0002, 12, 0x4_0004, u32::MAX, 0x4_0010, u32::MAX, 0x20, u32::MAX];
            let acl: Vec<u8> = acl.iter().flat_map(|word| word.to_le_bytes()).collect();
            let acl_set = setxattr(dir.join("folder/second"), "system.posix_acl_access", &acl, XattrFlags::empty());
            // A file system without access lists has none to lose.
            assert!(matches!(acl_set, Ok(()) | Err(rustix::io::Errno::NOTSUP)), "{acl_set:?}");
        }
    });
    let target = tempdir().unwrap();
    restored(&source, &memory, target.path(), RestoreOptions::default());
    let (before, after) = (describe(source.path()), describe(target.path()));
    assert_eq!(before, after);
    // And once more over itself, for which nothing must be written.
    let told = restored(&source, &memory, target.path(), RestoreOptions::default());
    assert_eq!(told.written_bytes, 0);
    assert_eq!(describe(source.path()), after);
    fs::set_permissions(source.path().join("folder"), PermissionsExt::from_mode(0o755)).unwrap();
    fs::set_permissions(target.path().join("folder"), PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn a_user_without_rights_gets_everything_but_owners_and_hears_it_once() {
    if is_root() {
        return as_nobody("restore::a_user_without_rights_gets_everything_but_owners_and_hears_it_once");
    }
    let (source, mut memory) = snapshot(|dir| {
        fs::create_dir(dir.join("folder")).unwrap();
        fs::write(dir.join("folder/a"), "a").unwrap();
        fs::write(dir.join("folder/b"), "b").unwrap();
        setxattr(dir.join("folder/a"), "user.x", b"y", XattrFlags::empty()).unwrap();
        fs::set_permissions(dir.join("folder/a"), PermissionsExt::from_mode(0o444)).unwrap();
        fs::set_permissions(dir.join("folder"), PermissionsExt::from_mode(0o555)).unwrap();
    });
    let target = tempdir().unwrap();
    restored(&source, &memory, target.path(), RestoreOptions::default());
    assert_eq!(describe(source.path()), describe(target.path()));
    // Again, into a folder that is write-protected now, over files that are.
    restored(&source, &memory, target.path(), RestoreOptions::default());
    assert_eq!(describe(source.path()), describe(target.path()));

    fn give_away(entries: &mut [crate::driver::Stored]) {
        for entry in entries {
            (entry.node.metadata.uid, entry.node.metadata.gid) = (0, 0);
            if !entry.node.is_dir() {
                entry.node.metadata.mode = 0o6755;
            }
            give_away(&mut entry.entries);
        }
    }
    give_away(&mut memory.root);
    let other = tempdir().unwrap();
    let told = restore(memory.entries(source.path()), other.path(), RestoreOptions::default());
    assert_eq!(told.errors.len(), 1, "{:?}", told.errors);
    assert!(told.errors[0].contains("owner"));
    // A program of root's must not become one that runs with the rights of whoever restored it.
    assert_eq!(fs::metadata(other.path().join("folder/b")).unwrap().mode() & 0o7777, 0o755);
    let options = RestoreOptions { owner: Owner::Restorer, ..RestoreOptions::default() };
    restored(&source, &memory, &other.path().join("third"), options);
    for path in [source.path().join("folder"), target.path().join("folder"), other.path().join("folder")] {
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
}

#[test]
fn only_what_differs_is_written_and_longer_files_are_cut() {
    let (source, memory) = snapshot(|dir| {
        fs::write(dir.join("file"), vec![7; 400_000]).unwrap();
    });
    let target = tempdir().unwrap();
    let path = target.path().join("file");
    let mut there = vec![7; 500_000];
    there[200_000] = 8;
    fs::write(&path, there).unwrap();
    let told = restored(&source, &memory, target.path(), RestoreOptions::default());
    assert_eq!(told.written_bytes, 150_000);
    assert_eq!(describe(source.path()), describe(target.path()));
}

#[test]
fn what_is_in_the_way_is_replaced_or_kept_as_asked() {
    let (source, memory) = snapshot(|dir| {
        fs::create_dir(dir.join("folder")).unwrap();
        fs::write(dir.join("folder/file"), "new").unwrap();
        fs::write(dir.join("was-folder"), "x").unwrap();
        symlink("a", dir.join("link")).unwrap();
    });
    let clutter = |dir: &Path| {
        fs::write(dir.join("folder"), "a file").unwrap();
        fs::create_dir(dir.join("was-folder")).unwrap();
        symlink("b", dir.join("link")).unwrap();
    };
    let target = tempdir().unwrap();
    clutter(target.path());
    restored(&source, &memory, target.path(), RestoreOptions::default());
    assert_eq!(describe(source.path()), describe(target.path()));

    let target = tempdir().unwrap();
    clutter(target.path());
    let before = describe(target.path());
    let options = RestoreOptions { overwrite: Overwrite::Never, ..RestoreOptions::default() };
    let told = restore(memory.entries(source.path()), target.path(), options);
    assert!(!told.errors.is_empty());
    assert_eq!(describe(target.path()), before);
}

#[test]
fn a_folder_with_content_gives_way_to_a_file_only_when_deleting_was_asked_for() {
    let (source, memory) = snapshot(|dir| fs::write(dir.join("x"), "file").unwrap());
    let target = tempdir().unwrap();
    fs::create_dir_all(target.path().join("x/deep")).unwrap();
    let told = restore(memory.entries(source.path()), target.path(), RestoreOptions::default());
    assert_eq!(told.errors.len(), 1);
    assert!(target.path().join("x/deep").exists());
    let options = RestoreOptions { extra: Extra::Delete, ..RestoreOptions::default() };
    restored(&source, &memory, target.path(), options);
    assert_eq!(describe(source.path()), describe(target.path()));
}

#[test]
fn newer_files_stay_when_asked() {
    let (source, memory) = snapshot(|dir| {
        fs::write(dir.join("older"), "snapshot").unwrap();
        fs::write(dir.join("newer"), "snapshot").unwrap();
    });
    let target = tempdir().unwrap();
    fs::write(target.path().join("newer"), "there").unwrap();
    let file = File::create(target.path().join("older")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let options = RestoreOptions { overwrite: Overwrite::IfNewer, ..RestoreOptions::default() };
    restored(&source, &memory, target.path(), options);
    assert_eq!(fs::read(target.path().join("older")).unwrap(), b"snapshot");
    assert_eq!(fs::read(target.path().join("newer")).unwrap(), b"there");
}

#[test]
fn entries_that_the_snapshot_does_not_have_are_removed_on_request_and_no_link_is_followed() {
    let (source, memory) = snapshot(|dir| {
        fs::create_dir(dir.join("folder")).unwrap();
        fs::write(dir.join("folder/file"), "x").unwrap();
    });
    let (outside, target) = (tempdir().unwrap(), tempdir().unwrap());
    fs::write(outside.path().join("precious"), "x").unwrap();
    let folder = target.path().join("folder");
    fs::create_dir_all(folder.join("extra/deep/deeper")).unwrap();
    fs::write(folder.join("extra/deep/file"), "x").unwrap();
    symlink(outside.path(), folder.join("extra/link")).unwrap();
    symlink(outside.path(), folder.join("link")).unwrap();
    let told = restored(&source, &memory, target.path(), RestoreOptions::default());
    assert!(told.removed.is_empty() && folder.join("extra/deep/file").exists());
    let options = RestoreOptions { extra: Extra::Delete, ..RestoreOptions::default() };
    let told = restored(&source, &memory, target.path(), options);
    assert_eq!(told.removed, ["/folder/extra", "/folder/link"]);
    assert_eq!(describe(source.path()), describe(target.path()));
    assert!(outside.path().join("precious").exists());
}

#[test]
fn long_runs_of_zeros_become_holes_unless_asked_otherwise() {
    let (source, memory) = snapshot(|dir| {
        let file = File::create(dir.join("file")).unwrap();
        file.set_len(4_000_001).unwrap();
        file.write_all_at(b"data", 2_000_003).unwrap();
    });
    for (zeros, is_sparse) in [(Zeros::Holes, true), (Zeros::Written, false)] {
        let target = tempdir().unwrap();
        restored(&source, &memory, target.path(), RestoreOptions { zeros, ..RestoreOptions::default() });
        assert_eq!(describe(source.path()), describe(target.path()));
        let blocks = fs::metadata(target.path().join("file")).unwrap().blocks();
        assert_eq!(blocks * 512 < 1_000_000, is_sparse, "{blocks}");
    }
}

#[test]
fn a_file_with_names_outside_is_replaced_and_those_keep_what_they_have() {
    let (source, memory) = snapshot(|dir| fs::write(dir.join("file"), vec![1; 300_000]).unwrap());
    let (outside, target) = (tempdir().unwrap(), tempdir().unwrap());
    let precious = outside.path().join("precious");
    let mut bytes = vec![1; 300_000];
    bytes[299_999] = 2;
    fs::write(&precious, &bytes).unwrap();
    fs::set_permissions(&precious, PermissionsExt::from_mode(0o640)).unwrap();
    let before = describe(outside.path());
    fs::hard_link(&precious, target.path().join("file")).unwrap();
    restored(&source, &memory, target.path(), RestoreOptions::default());
    assert_eq!(describe(source.path()), describe(target.path()));
    assert_eq!(describe(outside.path()), before);
    assert_eq!(fs::metadata(&precious).unwrap().nlink(), 1);
}

#[test]
fn a_new_file_that_is_not_finished_is_removed() {
    let target = tempdir().unwrap();
    let files = FilesTarget::new(target.path().join("made"), RestoreOptions::default());
    files.begin(Amount::default()).unwrap();
    let kind = NodeKind::File { size: 10, content: Vec::new() };
    let node = Node { name: b"file".to_vec(), kind, metadata: Metadata::default() };
    let file = files.file(&SnapshotPath::parse(b"/file"), &node).unwrap();
    file.write_at(0, b"half").unwrap();
    let path = target.path().join("made/file");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    drop(file);
    assert!(!path.exists());
}

#[test]
fn a_restore_that_will_not_fit_is_refused_before_it_begins() {
    let target = tempdir().unwrap();
    let expected = Amount { items: 1, bytes: u64::MAX / 2 };
    let files = FilesTarget::new(target.path().to_owned(), RestoreOptions::default());
    let error = files.begin(expected).unwrap_err();
    assert!(error.is_fatal && error.reason.contains("left"), "{error}");
    let options = RestoreOptions { space: SpaceCheck::Skip, ..RestoreOptions::default() };
    assert!(FilesTarget::new(target.path().to_owned(), options).begin(expected).is_ok());
    fs::write(target.path().join("file"), "").unwrap();
    assert!(FilesTarget::new(target.path().to_owned(), RestoreOptions::default()).begin(expected).is_ok());
}

#[test]
fn a_target_is_begun_before_anything_else_and_durable_at_the_end() {
    let dir = tempdir().unwrap();
    let target = FilesTarget::new(dir.path().join("made/on/the/way"), RestoreOptions::default());
    assert!(target.finish().is_err());
    target.begin(Amount::default()).unwrap();
    target.finish().unwrap();
    assert!(dir.path().join("made/on/the/way").is_dir());
}
