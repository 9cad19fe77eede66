//! What a walk finds, leaves out, and says of what it cannot read.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use backup_core::contracts::{Source, SourceEvent};
use backup_core::limits;
use backup_core::model::NodeKind;
use backup_core::observe::Severity;
use backup_core::testing::copy_program;
use backup_sources::files::{Atime, Case, FileSystems, FilesOptions, FilesSource, Gitignore, Marker};
use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags, mkdirat, mknodat, openat, setxattr};
use tempfile::tempdir;

use crate::driver::{Memory, is_root};

fn excluding(patterns: &[&str]) -> FilesOptions {
    let mut options = FilesOptions::default();
    for pattern in patterns {
        options.excludes.add(pattern, Case::Sensitive).unwrap();
    }
    options
}

fn make(dir: &Path, files: &[&str]) {
    for file in files {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
}

#[test]
fn entries_stand_under_their_absolute_paths_in_the_order_of_their_bytes() {
    let dir = tempdir().unwrap();
    make(dir.path(), &["b", "a/y", "a/x", "a.b", "é", "Z"]);
    let memory = Memory::of(dir.path(), &FilesOptions::default());
    assert_eq!(memory.paths_below(dir.path()), ["Z", "a", "a/x", "a/y", "a.b", "b", "é"]);
    assert_eq!(memory.entries(dir.path())[0].bytes, b"Z");
    assert!(memory.problems.is_empty());
}

#[test]
fn folders_on_the_way_have_their_metadata_and_nothing_else_in_them() {
    let dir = tempdir().unwrap();
    make(dir.path(), &["way/source/file", "way/other"]);
    fs::set_permissions(dir.path().join("way"), PermissionsExt::from_mode(0o751)).unwrap();
    let memory = Memory::of(&dir.path().join("way/source"), &FilesOptions::default());
    assert_eq!(memory.names(&dir.path().join("way")), ["source"]);
    assert_eq!(memory.entries(dir.path())[0].node.metadata.mode, 0o751);
}

#[test]
fn several_sources_are_one_tree_and_overlapping_ones_are_read_once() {
    let dir = tempdir().unwrap();
    make(dir.path(), &["a/b/c", "a/d", "e", "f"]);
    let paths = [dir.path().join("e"), dir.path().join("a"), dir.path().join("a/b")];
    let memory = Memory::of_all(&[&paths[0], &paths[1], &paths[2]], &FilesOptions::default());
    assert_eq!(memory.paths_below(dir.path()), ["a", "a/b", "a/b/c", "a/d", "e"]);
}

#[test]
fn a_source_that_does_not_exist_is_refused_at_once() {
    let dir = tempdir().unwrap();
    let paths = vec![dir.path().to_owned(), dir.path().join("missing")];
    let error = FilesSource::new(paths, &FilesOptions::default()).unwrap_err();
    assert!(error.vanished && error.to_string().contains("missing"), "{error}");
    assert!(FilesSource::new(Vec::new(), &FilesOptions::default()).is_err());
}

#[test]
fn a_source_that_vanishes_before_the_walk_prevents_the_snapshot() {
    let dir = tempdir().unwrap();
    make(dir.path(), &["a/b"]);
    let mut source = FilesSource::new(vec![dir.path().join("a/b")], &FilesOptions::default()).unwrap();
    fs::remove_file(dir.path().join("a/b")).unwrap();
    let failed = loop {
        match source.next() {
            Ok(Some(_)) => {}
            Ok(None) => break false,
            Err(error) => break error.vanished,
        }
    };
    assert!(failed);
}

#[test]
fn a_source_that_is_a_link_is_stored_as_that_link_and_links_on_the_way_are_followed() {
    let dir = tempdir().unwrap();
    make(dir.path(), &["real/file"]);
    symlink("real", dir.path().join("link")).unwrap();
    let memory = Memory::of(&dir.path().join("link"), &FilesOptions::default());
    assert!(matches!(&memory.entries(dir.path())[0].node.kind, NodeKind::Symlink { target } if target == b"real"));
    let memory = Memory::of(&dir.path().join("link/file"), &FilesOptions::default());
    assert_eq!(memory.entries(&dir.path().join("link"))[0].bytes, b"real/file");
}

#[test]
fn what_lies_behind_a_link_that_is_stored_as_such_is_reported() {
    let dir = tempdir().unwrap();
    make(dir.path(), &["real/file"]);
    symlink("real", dir.path().join("link")).unwrap();
    let memory = Memory::of_all(&[dir.path(), &dir.path().join("link/file")], &FilesOptions::default());
    assert_eq!(memory.losses().len(), 1);
}

#[test]
fn excluded_folders_are_not_entered_and_what_was_left_out_is_counted() {
    let dir = tempdir().unwrap();
    make(dir.path(), &["cache/x", "src/a.o", "src/a.c", "src/cache/y", "keep.o"]);
    let memory = Memory::of(dir.path(), &excluding(&["cache", "*.o", "!keep.o"]));
    assert_eq!(memory.paths_below(dir.path()), ["keep.o", "src", "src/a.c"]);
    assert_eq!(memory.left_out.by_pattern, 3);
}

#[test]
fn what_was_asked_for_is_not_excluded() {
    let dir = tempdir().unwrap();
    make(dir.path(), &["cache/deep/x", "cache/y", "z"]);
    let options = excluding(&["cache", "deep"]);
    let memory = Memory::of(&dir.path().join("cache"), &options);
    assert_eq!(memory.names(&dir.path().join("cache")), ["y"]);
    let memory = Memory::of_all(&[dir.path(), &dir.path().join("cache/deep")], &options);
    assert_eq!(memory.paths_below(dir.path()), ["cache", "cache/deep", "cache/deep/x", "z"]);
}

#[test]
fn gitignore_is_honoured_on_request() {
    let dir = tempdir().unwrap();
    make(dir.path(), &["a.log", "build/x", "src/build", "src/b.log", "src/c.log"]);
    fs::write(dir.path().join(".gitignore"), "*.log\nbuild/\n").unwrap();
    fs::write(dir.path().join("src/.gitignore"), "!b.log\n").unwrap();
    let all = Memory::of(dir.path(), &FilesOptions::default());
    assert_eq!(all.paths_below(dir.path()).len(), 9);
    let options = FilesOptions { gitignore: Gitignore::Honoured, ..FilesOptions::default() };
    let memory = Memory::of(dir.path(), &options);
    assert_eq!(memory.paths_below(dir.path()), [".gitignore", "src", "src/.gitignore", "src/b.log", "src/build"]);
    assert_eq!(memory.left_out.by_gitignore, 3);
}

#[test]
fn a_cache_keeps_its_tag_alone_and_a_false_tag_is_none() {
    let dir = tempdir().unwrap();
    make(dir.path(), &["real/a/b", "false/a", "marked/a"]);
    fs::write(dir.path().join("real/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n# x").unwrap();
    fs::write(dir.path().join("false/CACHEDIR.TAG"), "Signature: other").unwrap();
    fs::write(dir.path().join("marked/.nobackup"), "").unwrap();
    let markers = vec![Marker::cachedir_tag(), Marker::named(".nobackup")];
    let memory = Memory::of(dir.path(), &FilesOptions { markers, ..FilesOptions::default() });
    let expected =
        ["false", "false/CACHEDIR.TAG", "false/a", "marked", "marked/.nobackup", "real", "real/CACHEDIR.TAG"];
    assert_eq!(memory.paths_below(dir.path()), expected);
    assert_eq!(memory.left_out.marked_folders, 2);
}

#[test]
fn large_files_are_left_out_on_request() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("large"), [1; 101]).unwrap();
    fs::write(dir.path().join("small"), [1; 100]).unwrap();
    let memory = Memory::of(dir.path(), &FilesOptions { file_bytes_max: Some(100), ..FilesOptions::default() });
    assert_eq!(memory.names(dir.path()), ["small"]);
    assert_eq!((memory.left_out.large_files, memory.left_out.large_files_bytes), (1, 101));
}

#[test]
fn one_file_system_stores_mount_points_as_empty_folders_unless_they_were_asked_for() {
    let options = FilesOptions { file_systems: FileSystems::One, ..FilesOptions::default() };
    let mut options = options;
    options.excludes.add("/*", Case::Sensitive).unwrap();
    options.excludes.add("!/proc", Case::Sensitive).unwrap();
    assert_ne!(fs::metadata("/").unwrap().dev(), fs::metadata("/proc").unwrap().dev());
    let memory = Memory::of(Path::new("/"), &options);
    assert_eq!(memory.names(Path::new("/")), ["proc"]);
    assert!(memory.names(Path::new("/proc")).is_empty());
    assert_eq!(memory.left_out.other_file_systems, 1);
    let memory = Memory::of_all(&[Path::new("/"), Path::new("/proc/sys/kernel/ostype")], &options);
    assert_eq!(memory.entries(Path::new("/proc/sys/kernel"))[0].bytes, b"Linux\n");
}

#[test]
fn a_sparse_file_gives_zeros_for_its_holes() {
    let dir = tempdir().unwrap();
    let file = File::create(dir.path().join("sparse")).unwrap();
    file.set_len(10_000_000).unwrap();
    file.write_all_at(b"middle", 5_000_000).unwrap();
    let mut expected = vec![0; 10_000_000];
    expected[5_000_000..5_000_006].copy_from_slice(b"middle");
    let memory = Memory::of(dir.path(), &FilesOptions::default());
    assert!(memory.entries(dir.path())[0].bytes == expected);
}

#[test]
fn special_files_are_stored_and_sockets_are_counted() {
    let dir = tempdir().unwrap();
    mknodat(CWD, dir.path().join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
    let memory = Memory::of(dir.path(), &FilesOptions::default());
    assert_eq!(memory.names(dir.path()), ["fifo"]);
    let node = &memory.entries(dir.path())[0].node;
    assert_eq!((&node.kind, node.metadata.links), (&NodeKind::Fifo, 0));
    assert_eq!(memory.left_out.sockets, 1);
}

#[test]
fn metadata_is_what_the_system_says() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "x").unwrap();
    fs::hard_link(&path, dir.path().join("link")).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o4751)).unwrap();
    setxattr(&path, "user.comment", b"hello", XattrFlags::empty()).unwrap();
    let options = FilesOptions { atime: Atime::Recorded, ..FilesOptions::default() };
    let memory = Memory::of(dir.path(), &options);
    let (m, stat) = (&memory.entries(dir.path())[0].node.metadata, fs::metadata(&path).unwrap());
    assert_eq!((m.mode, m.links, m.inode, m.device_id), (0o4751, 2, stat.ino(), stat.dev()));
    assert_eq!((m.uid, m.gid), (stat.uid(), stat.gid()));
    assert_eq!(
        m.mtime.unwrap().as_nanosecond(),
        i128::from(stat.mtime()) * 1_000_000_000 + i128::from(stat.mtime_nsec())
    );
    assert_eq!(
        m.atime.unwrap().as_nanosecond(),
        i128::from(stat.atime()) * 1_000_000_000 + i128::from(stat.atime_nsec())
    );
    assert_eq!((m.xattrs.len(), m.xattrs[0].value.as_slice()), (1, b"hello".as_slice()));
    if is_root() {
        assert_eq!(m.user, "root");
    }
    let memory = Memory::of(dir.path(), &FilesOptions::default());
    let m = &memory.entries(dir.path())[0].node.metadata;
    assert_eq!(m.atime, m.mtime);
}

#[test]
fn a_file_that_vanishes_is_a_note_and_one_that_becomes_something_else_is_a_loss() {
    let dir = tempdir().unwrap();
    make(dir.path(), &["gone", "link", "pipe", "stays"]);
    let source = FilesSource::new(vec![dir.path().to_owned()], &FilesOptions::default()).unwrap();
    let memory = Memory::read(source, |path| {
        let path = PathBuf::from(path.to_string());
        match path.file_name().unwrap().to_str().unwrap() {
            "gone" => fs::remove_file(path).unwrap(),
            "link" => {
                fs::remove_file(&path).unwrap();
                symlink("/etc/passwd", path).unwrap();
            }
            "pipe" => {
                fs::remove_file(&path).unwrap();
                mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
            }
            _ => {}
        }
    });
    let severities: Vec<_> = memory.problems.iter().map(|problem| problem.severity).collect();
    assert_eq!(severities, [Severity::Note, Severity::Loss, Severity::Loss]);
    assert_eq!(memory.names(dir.path()), ["stays"]);
}

#[test]
fn a_file_that_changes_before_it_is_opened_has_its_new_metadata() {
    let dir = tempdir().unwrap();
    make(dir.path(), &["file"]);
    let source = FilesSource::new(vec![dir.path().to_owned()], &FilesOptions::default()).unwrap();
    let path = dir.path().join("file");
    let memory = Memory::read(source, |_| fs::write(&path, "much longer than before").unwrap());
    assert!(memory.notes.is_empty());
    let stored = &memory.entries(dir.path())[0];
    assert_eq!(stored.bytes, b"much longer than before");
    let stat = fs::metadata(&path).unwrap();
    assert_eq!(stored.node.metadata.ctime.as_second(), stat.ctime());
    assert_eq!(i64::from(stored.node.metadata.mtime.unwrap().subsec_nanosecond()), stat.mtime_nsec());
}

#[test]
fn a_file_that_changes_while_it_is_read_is_kept_with_a_note() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, vec![1; 200_000]).unwrap();
    let mut source = FilesSource::new(vec![path.clone()], &FilesOptions::default()).unwrap();
    let mut entry = loop {
        if let SourceEvent::Entry(entry) = source.next().unwrap().unwrap() {
            break entry;
        }
    };
    let mut reader = entry.content.take().unwrap().open(&mut entry.node).unwrap();
    let before = entry.node.metadata.clone();
    assert_eq!(reader.read(&mut [0; 100_000]).unwrap(), 100_000);
    File::options().write(true).open(&path).unwrap().set_len(150_000).unwrap();
    while reader.read(&mut [0; 100_000]).unwrap() > 0 {}
    assert!(reader.finish(&mut entry.node).unwrap().unwrap().contains("150000"));
    assert_eq!(entry.node.metadata, before);
}

#[test]
fn what_may_not_be_read_costs_only_itself() {
    if is_root() {
        // Root may read everything; the same path is taken by a folder that is gone when it is listed.
        return as_nobody("walk::what_may_not_be_read_costs_only_itself");
    }
    let dir = tempdir().unwrap();
    make(dir.path(), &["closed/x", "file", "open"]);
    fs::set_permissions(dir.path().join("closed"), PermissionsExt::from_mode(0o000)).unwrap();
    fs::set_permissions(dir.path().join("file"), PermissionsExt::from_mode(0o000)).unwrap();
    let memory = Memory::of(dir.path(), &FilesOptions::default());
    fs::set_permissions(dir.path().join("closed"), PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(memory.paths_below(dir.path()), ["closed", "open"]);
    assert_eq!(memory.losses().len(), 2);
}

/// Runs a test again as a user without rights.
pub(crate) fn as_nobody(test: &str) {
    use std::os::unix::process::CommandExt;
    let dir = tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    // The test program may lie where others cannot go.
    let program = dir.path().join("test");
    copy_program(&std::env::current_exe().unwrap(), &program);
    let output = std::process::Command::new(program)
        .args(["--exact", test])
        .env("TMPDIR", dir.path())
        .current_dir("/")
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn ten_thousand_levels_are_walked_as_deep_as_the_limit_and_removed_again() {
    let dir = tempdir().unwrap();
    let name = "a".repeat(100);
    let mut at: OwnedFd = openat(CWD, dir.path(), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
    for _ in 0..10_000 {
        mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
        at = openat(&at, name.as_str(), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
    }
    let mut source = FilesSource::new(vec![dir.path().to_owned()], &FilesOptions::default()).unwrap();
    let (mut depth, mut deepest, mut losses) = (0, 0, 0);
    while let Some(event) = source.next().unwrap() {
        match event {
            SourceEvent::Enter(_) => depth += 1,
            SourceEvent::Leave => depth -= 1,
            SourceEvent::Problem(problem) => {
                assert_eq!(problem.severity, Severity::Loss);
                losses += 1;
            }
            SourceEvent::Entry(_) => panic!("there are only folders"),
        }
        deepest = deepest.max(depth);
    }
    assert_eq!((deepest, losses), (limits::TREE_DEPTH_MAX, 1));
    // A restore with deletion must get rid of such a tree too.
    let told = crate::driver::restore(&[], dir.path(), Default::default());
    assert!(told.errors.is_empty());
    crate::restore::empty(dir.path());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_file_deeper_than_a_path_can_say_is_read() {
    let dir = tempdir().unwrap();
    let name = "b".repeat(200);
    let mut at: OwnedFd = openat(CWD, dir.path(), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
    for _ in 0..60 {
        mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
        at = openat(&at, name.as_str(), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
    }
    let file = openat(&at, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
    rustix::fs::fsetxattr(&file, "user.deep", b"yes", XattrFlags::empty()).unwrap();
    let memory = Memory::of(dir.path(), &FilesOptions::default());
    assert!(memory.problems.is_empty());
    let mut entries = memory.entries(dir.path());
    while entries[0].node.is_dir() {
        entries = &entries[0].entries;
    }
    assert_eq!((entries[0].bytes.as_slice(), entries[0].node.metadata.xattrs.len()), (b"deep".as_slice(), 1));
    let target = tempdir().unwrap();
    let told = crate::driver::restore(memory.entries(dir.path()), target.path(), Default::default());
    assert!(told.errors.is_empty(), "{:?}", told.errors);
    assert_eq!(crate::driver::describe(target.path()), crate::driver::describe(dir.path()));
}

#[test]
fn a_folder_with_many_entries_is_complete_and_in_order() {
    let dir = tempdir().unwrap();
    let count = 3 * limits::WALK_BATCH_ENTRIES + 7;
    for index in 0..count {
        if index % 50 == 0 {
            make(dir.path(), &[&format!("{index:05}/x")]);
        } else {
            File::create(dir.path().join(format!("{index:05}"))).unwrap();
        }
    }
    let memory = Memory::of(dir.path(), &FilesOptions::default());
    let expected: Vec<_> = (0..count).map(|index| format!("{index:05}")).collect();
    assert_eq!(memory.names(dir.path()), expected);
}

#[test]
fn a_walk_that_is_given_up_ends_its_threads() {
    let mut source = FilesSource::new(vec!["/usr".into()], &FilesOptions::default()).unwrap();
    for _ in 0..100 {
        source.next().unwrap();
    }
    drop(source);
}
