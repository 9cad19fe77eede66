//! Restores onto what is there: what is deleted, what is linked, and what a verification may touch.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use backup_core::testing::copy_program;

use crate::driver::{PASSPHRASE, Ran, World};

/// Whose user number nobody has.
const NOBODY: u32 = 65_534;

/// The largest object below a folder of the repository.
fn largest(folder: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> = Vec::new();
    for shard in fs::read_dir(folder).unwrap() {
        files.extend(fs::read_dir(shard.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
    }
    files.into_iter().max_by_key(|file| file.metadata().unwrap().len()).unwrap()
}

/// The program, about to be run by somebody who may not write everything, and to whom `paths` belong.
fn as_nobody(world: &World, paths: &[&Path]) -> Command {
    // Who runs the tests without being root is somebody.
    if !rustix::process::geteuid().is_root() {
        return world.command();
    }
    fs::set_permissions(world.path(), PermissionsExt::from_mode(0o755)).unwrap();
    // The program may lie where others cannot go.
    let program = world.path().join("backup");
    if !program.exists() {
        copy_program(env!("CARGO_BIN_EXE_backup").as_ref(), &program);
    }
    paths.iter().for_each(|path| chown(path, Some(NOBODY), Some(NOBODY)).unwrap());
    let mut command = Command::new(program);
    command.env_clear().env("TMPDIR", world.path()).env("BACKUP_REPO", world.repository());
    command.env("BACKUP_PASSWORD", PASSPHRASE).current_dir("/").uid(NOBODY).gid(NOBODY);
    command
}

/// Everybody may read the repository, and nobody but root may write to it.
fn only_readable(repository: &Path) {
    assert!(Command::new("chmod").args(["-R", "a+rX,a-w"]).arg(repository).status().unwrap().success());
}

#[test]
fn a_repository_that_cannot_be_written_to_is_read_without_a_lock() {
    let world = World::with_snapshot();
    only_readable(&world.repository());
    let run = |arguments: &[&str]| Ran::of(&as_nobody(&world, &[]).arg("--no-cache").args(arguments).output().unwrap());
    let source = world.source();
    for arguments in [&["create", source.to_str().unwrap()][..], &["check"], &["ls", "latest"]] {
        let ran = run(arguments).ends_with(1);
        assert!(ran.err.contains("--no-lock") && ran.err.lines().count() <= 2, "{arguments:?}: {}", ran.err);
    }
    run(&["--no-lock", "check"]).succeeds();
    run(&["--no-lock", "ls", "latest"]).succeeds();
    let ran = run(&["forget", "latest"]).ends_with(1);
    assert!(!ran.err.contains("--no-lock"), "{}", ran.err);
}

#[test]
fn a_verification_leaves_what_its_user_may_not_write() {
    let world = World::with_repository();
    let (source, out) = (world.path().join("protected"), world.path().join("out"));
    for folder in [&source, &out] {
        fs::create_dir(folder).unwrap();
    }
    fs::write(source.join("readonly"), "for reading only").unwrap();
    fs::write(source.join("plain"), "plain").unwrap();
    fs::set_permissions(source.join("readonly"), PermissionsExt::from_mode(0o444)).unwrap();
    let mut restore = as_nobody(&world, &[&source, &source.join("readonly"), &source.join("plain"), &out]);
    world.run(["create", "--quiet", source.to_str().unwrap()]).succeeds();
    only_readable(&world.repository());
    let path = source.to_str().unwrap();
    restore.args(["--no-lock", "--no-cache", "restore", "latest", "--path", path, "--verify", "--to"]).arg(&out);
    let first = Ran::of(&restore.output().unwrap()).succeeds();
    assert!(first.out.contains("verified"), "{}", first.out);
    assert_eq!(fs::read(out.join("readonly")).unwrap(), b"for reading only");
    // What may only be read and is as it should be is not written again either.
    let again = Ran::of(&restore.arg("--json").output().unwrap()).succeeds();
    assert_eq!(again.lines().pop().unwrap()["bytes_written"], 0, "{}", again.out);
}

#[test]
fn a_verification_does_not_count_what_was_to_stay_or_was_lost_before() {
    let world = World::with_snapshot();
    let (source, out) = (world.source(), world.path().join("out"));
    fs::create_dir(&out).unwrap();
    fs::write(out.join("hello.txt"), "mine").unwrap();
    let arguments =
        ["restore", "latest", "--path", source.to_str().unwrap(), "--to", out.to_str().unwrap(), "--verify"];
    let told = world.json(arguments.into_iter().chain(["--overwrite", "never"]));
    assert_eq!((&told["verified"], &told["losses"]), (&1.into(), &0.into()), "{told}");
    assert_eq!(fs::read(out.join("hello.txt")).unwrap(), b"mine");
    // A file that cannot be had is one loss, not two.
    let pack = largest(&world.repository().join("data"));
    let mut bytes = fs::read(&pack).unwrap();
    bytes[10_000..10_008].fill(7);
    fs::set_permissions(&pack, PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();
    let other = world.path().join("other");
    let mut arguments = arguments;
    arguments[5] = other.to_str().unwrap();
    let ran = Ran::of(&world.command().arg("--json").args(arguments).output().unwrap()).ends_with(3);
    let told = ran.lines().pop().unwrap();
    assert_eq!(told["losses"], 1, "{told}");
}

#[test]
fn deletion_leaves_alone_what_lies_beside_the_way_to_a_source() {
    let world = World::with_repository();
    let www = world.path().join("var/www");
    fs::create_dir_all(&www).unwrap();
    fs::write(www.join("index.html"), "<html>").unwrap();
    world.run(["create", "--quiet", www.to_str().unwrap()]).succeeds();
    let out = world.path().join("out");
    let there = |path: &Path| out.join(path.strip_prefix("/").unwrap());
    let (beside, within) = (there(&world.path().join("var/lib")), there(&www.join("old.html")));
    fs::create_dir_all(&beside).unwrap();
    fs::create_dir_all(within.parent().unwrap()).unwrap();
    fs::write(&within, "old").unwrap();
    let arguments = ["restore", "latest", "--to", out.to_str().unwrap(), "--delete", "--yes"];
    let planned = world.json(arguments.into_iter().chain(["--dry-run"]));
    assert_eq!(planned["deleted"], 1, "{planned}");
    let done = world.json(arguments);
    assert_eq!(done["deleted"], 1, "{done}");
    assert!(beside.exists() && !within.exists() && there(&www.join("index.html")).exists());
}

#[test]
fn another_name_of_a_file_that_is_lost_is_lost_too_and_not_what_was_there_before() {
    let world = World::with_repository();
    let source = world.path().join("linked");
    fs::create_dir(&source).unwrap();
    fs::copy(world.source().join("sub/data.bin"), source.join("first")).unwrap();
    fs::hard_link(source.join("first"), source.join("second")).unwrap();
    world.run(["create", "--quiet", source.to_str().unwrap()]).succeeds();
    let pack = largest(&world.repository().join("data"));
    fs::set_permissions(&pack, PermissionsExt::from_mode(0o600)).unwrap();
    fs::File::options().write(true).open(&pack).unwrap().write_all_at(&[7; 8], 10_000).unwrap();
    let out = world.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("first"), "what was there before").unwrap();
    let arguments = ["--json", "restore", "latest", "--path", source.to_str().unwrap(), "--to", out.to_str().unwrap()];
    let ran = world.run(arguments).ends_with(3);
    assert_eq!(ran.lines().pop().unwrap()["losses"], 2, "{}", ran.out);
    assert!(!out.join("second").exists(), "the second name got what lay under the first one");
}
