//! The sources and the target of this crate keep the engine's contracts.

use std::cell::Cell;
use std::fs;
use std::io::Cursor;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use backup_core::contracts::{Source, Target};
use backup_core::model::SnapshotPath;
use backup_core::testing::{source_suite, target_suite};
use backup_sources::command::{CommandSource, ReaderSource};
use backup_sources::files::{FilesOptions, FilesSource, FilesTarget, RestoreOptions, Zeros};
use jiff::Timestamp;
use tempfile::tempdir;

#[test]
fn the_files_source_keeps_the_contract() {
    let folder = tempdir().unwrap();
    let top = folder.path();
    fs::create_dir_all(top.join("a/deep/er")).unwrap();
    fs::create_dir(top.join("empty")).unwrap();
    // Names whose order by bytes is another than by letters, with a folder's slash, or in most languages.
    for name in ["a.b", "a-b", "a0", "B", "z", "\u{e9}", "a/x", "a/deep/er/y"] {
        fs::write(top.join(name), name.repeat(1_000)).unwrap();
    }
    fs::write(top.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "not UTF-8").unwrap();
    fs::write(top.join("nothing"), "").unwrap();
    fs::write(top.join("large"), vec![7; 3_000_000]).unwrap();
    fs::hard_link(top.join("z"), top.join("a/z")).unwrap();
    symlink("nowhere", top.join("link")).unwrap();
    let paths = [vec![top.to_owned()], vec![top.join("a"), top.join("z")], vec![top.join("empty")]];
    for paths in paths {
        source_suite(|| Box::new(FilesSource::new(paths.clone(), &FilesOptions::default()).unwrap()));
    }
}

#[test]
fn a_commands_output_keeps_the_contract_of_a_source() {
    for script in ["exit 0", "printf hello", "head -c 3000000 /dev/zero; echo; echo noise >&2"] {
        source_suite(|| -> Box<dyn Source> {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            Box::new(CommandSource::new("dump.sql", command, Timestamp::UNIX_EPOCH).unwrap())
        });
    }
}

#[test]
fn a_readers_bytes_keep_the_contract_of_a_source() {
    let path = SnapshotPath::parse(b"/some/where/stdin");
    for bytes in [0, 10, 1_000_000] {
        let reader = || Cursor::new(vec![3; bytes]);
        source_suite(|| Box::new(ReaderSource::new(path.clone(), reader(), Timestamp::UNIX_EPOCH).unwrap()));
    }
}

#[test]
fn the_files_target_keeps_the_contract() {
    let folder = tempdir().unwrap();
    let count = Cell::new(0);
    for zeros in [Zeros::Holes, Zeros::Written] {
        target_suite(|| -> Box<dyn Target> {
            count.set(count.get() + 1);
            let options = RestoreOptions { zeros, ..RestoreOptions::default() };
            Box::new(FilesTarget::new(folder.path().join(count.get().to_string()), options))
        });
    }
}
