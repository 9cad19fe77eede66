//! Any tree on a real file system comes back as it was.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use backup_sources::files::{Extra, FilesOptions, RestoreOptions};
use proptest::collection::vec;
use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, mknodat, utimensat};
use tempfile::tempdir;

use crate::driver::{Memory, below, describe, is_root, restore};

/// What is made in a folder.
#[derive(Clone, Debug)]
enum Thing {
    File { pieces: Vec<(u32, Vec<u8>)>, length: u32, links: u8 },
    Folder(Vec<(Vec<u8>, Made)>),
    Link(Vec<u8>),
    Fifo,
}

#[derive(Clone, Debug)]
struct Made {
    thing: Thing,
    mode: u32,
    time: (i64, i64),
    xattrs: Vec<(String, Vec<u8>)>,
    owner: u32,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("no separator", |byte| !matches!(byte, 0 | b'/'));
    prop_oneof![vec(byte, 1..20), "[a-z]{1,8}".prop_map(String::into_bytes)]
        .prop_filter("a name", |name| name != b"." && name != b"..")
}

fn made(thing: impl Strategy<Value = Thing>) -> impl Strategy<Value = Made> {
    let xattrs = vec(("user\\.[a-zé]{1,8}", vec(any::<u8>(), 0..40)), 0..3);
    let time = (-1_000_000_000_i64..4_000_000_000, 0_i64..1_000_000_000);
    (thing, 0_u32..0o10000, time, xattrs, 0_u32..3).prop_map(|(thing, mode, time, xattrs, owner)| Made {
        thing,
        mode,
        time,
        xattrs,
        owner,
    })
}

fn leaf() -> impl Strategy<Value = Thing> {
    let pieces = vec((0_u32..600_000, vec(any::<u8>(), 1..3_000)), 0..4);
    prop_oneof![
        4 => (pieces, 0_u32..700_000, 0_u8..3).prop_map(|(pieces, length, links)| Thing::File { pieces, length, links }),
        1 => vec(any::<u8>().prop_filter("no NUL", |byte| *byte != 0), 1..60).prop_map(Thing::Link),
        1 => Just(Thing::Fifo),
    ]
}

fn tree() -> impl Strategy<Value = Vec<(Vec<u8>, Made)>> {
    let leaf = made(leaf()).boxed();
    let entry = leaf.prop_recursive(3, 24, 6, |inner| made(vec((name(), inner), 0..6).prop_map(Thing::Folder)).boxed());
    vec((name(), entry), 0..8)
}

fn make(dir: &Path, entries: &[(Vec<u8>, Made)]) {
    for (name, made) in entries {
        let path = below(dir, name);
        if path.symlink_metadata().is_ok() {
            continue;
        }
        match &made.thing {
            Thing::File { pieces, length, .. } => {
                let file = File::create(&path).unwrap();
                pieces.iter().for_each(|(offset, bytes)| file.write_all_at(bytes, (*offset).into()).unwrap());
                file.set_len((*length).into()).unwrap();
            }
            Thing::Folder(entries) => {
                fs::create_dir(&path).unwrap();
                make(&path, entries);
            }
            Thing::Link(target) => symlink(std::ffi::OsStr::from_bytes(target), &path).unwrap(),
            Thing::Fifo => mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap(),
        }
        let may_have_xattrs = matches!(made.thing, Thing::File { .. } | Thing::Folder(_));
        for (name, value) in made.xattrs.iter().filter(|_| may_have_xattrs) {
            lsetxattr(&path, name.as_str(), value, XattrFlags::empty()).unwrap();
        }
        if is_root() {
            std::os::unix::fs::lchown(&path, Some(made.owner), Some(made.owner)).unwrap();
        }
        if !matches!(made.thing, Thing::Link(_)) {
            // Who is not root must still be able to walk it.
            let mode = if is_root() { made.mode } else { made.mode & 0o777 | 0o700 };
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        }
        if let Thing::File { links, .. } = made.thing {
            for index in 0..links {
                let _ = fs::hard_link(&path, dir.join(format!("link {index}")));
            }
        }
        let time = Timespec { tv_sec: made.time.0, tv_nsec: made.time.1 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_comes_back_as_it_was(tree in tree()) {
        let (source, target) = (tempdir().unwrap(), tempdir().unwrap());
        make(source.path(), &tree);
        let memory = Memory::of(source.path(), &FilesOptions::default());
        prop_assert!(memory.problems.is_empty(), "{:?}", memory.problems);
        let told = restore(memory.entries(source.path()), target.path(), RestoreOptions::default());
        prop_assert!(told.errors.is_empty(), "{:?}", told.errors);
        prop_assert_eq!(describe(source.path()), describe(target.path()));
    }

    #[test]
    fn any_tree_comes_back_over_any_other(tree in tree(), other in tree()) {
        let (source, target) = (tempdir().unwrap(), tempdir().unwrap());
        make(source.path(), &tree);
        make(target.path(), &other);
        let memory = Memory::of(source.path(), &FilesOptions::default());
        let options = RestoreOptions { extra: Extra::Delete, ..RestoreOptions::default() };
        // Without an entry for the root, what is only in the target's root stays.
        let names: Vec<_> = memory.entries(source.path()).iter().map(|entry| entry.node.name.clone()).collect();
        let told = restore(memory.entries(source.path()), target.path(), options);
        prop_assert!(told.errors.is_empty(), "{:?}", told.errors);
        for entry in fs::read_dir(target.path()).unwrap().map(Result::unwrap) {
            if !names.iter().any(|name| name == entry.file_name().as_bytes()) {
                let _ = fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path()));
            }
        }
        prop_assert_eq!(describe(source.path()), describe(target.path()));
    }
}

#[test]
fn the_time_of_a_folder_is_its_own_and_not_that_of_its_restore() {
    let (source, target) = (tempdir().unwrap(), tempdir().unwrap());
    fs::create_dir(source.path().join("a")).unwrap();
    fs::write(source.path().join("a/b"), "x").unwrap();
    let long_ago = UNIX_EPOCH + Duration::new(1_000_000, 123_456_789);
    File::open(source.path().join("a")).unwrap().set_modified(long_ago).unwrap();
    let memory = Memory::of(source.path(), &FilesOptions::default());
    restore(memory.entries(source.path()), target.path(), RestoreOptions::default());
    assert_eq!(fs::metadata(target.path().join("a")).unwrap().modified().unwrap(), long_ago);
}
