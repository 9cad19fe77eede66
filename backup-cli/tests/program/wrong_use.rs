//! What goes wrong ends with the right exit code, in two lines, with nothing lost and nothing secret told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::driver::{PASSPHRASE, Ran, World};

/// A failure is one line that says what, and at most one that says what to try.
#[track_caller]
pub(crate) fn assert_two_lines(ran: &Ran) {
    let lines: Vec<_> = ran.err.lines().filter(|line| !line.starts_with("warning:")).collect();
    assert!(lines.len() <= 2 && !lines.is_empty(), "{}", ran.err);
    assert!(lines[0].starts_with("backup: "), "{}", ran.err);
    assert!(lines.get(1).is_none_or(|line| line.starts_with("  try: ")), "{}", ran.err);
    assert!(!ran.err.contains(PASSPHRASE) && !ran.err.contains("panicked"), "{}", ran.err);
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_2() {
    let world = World::new();
    for arguments in [
        &["frobnicate"][..],
        &["create"],
        &["create", "source", "--command", "true"],
        &["create", "source", "--exclude", "["],
        &["create", "source", "--tag", "a,b"],
        &["create", "source", "--name", "x"],
        &["create", "-", "source"],
        &["create", "mongodb://me:secret@host:port/db"],
        &["create", "postgres://me:secret@host/db", "source"],
        &["create", "postgres://me:secret@host/db", "--exclude", "x"],
        &["create", "postgres://me:secret@host:port/db"],
        &["create", "postgres://me:secret@host/db?sslmod=require"],
        &["create", "source", "--schema", "public"],
        &["create", "source", "--compression", "99"],
        &["create", "source", "--exclude-larger-than", "much"],
        &["create", "--command", "true", "--name", "a/b"],
        &["ls"],
        &["restore", "latest"],
        &["restore", "latest", "--to", "source/hello.txt"],
        &["restore", "latest", "--to", "out", "--clean"],
        &["restore", "latest", "--to", "postgres://me:secret@host/db", "--delete"],
        &["forget"],
        &["forget", "latest", "--keep-last", "1"],
        &["forget", "--keep-last", "some"],
        &["forget", "--keep-last", "0"],
        &["forget", "--keep-last", "1", "--time-zone", "Mars/Olympus"],
        &["forget", "--keep-last", "1", "--group-by", "colour"],
        &["forget", "--keep-last", "1", "--require", "uploaded"],
        &["prune", "--max-unused", "101%"],
        &["prune", "--no-lock"],
        &["check", "--read-data-subset", "0"],
        &["snapshots", "--at", "yesterday"],
        &["tag", "latest"],
        &["tag", "latest", "--add", "hold"],
        &["hold", "latest", "--until", "2001-01-01"],
        &["find", "["],
        &["cat", "latest", "/x", "--json"],
        &["--quiet", "--verbose", "snapshots"],
    ] {
        let ran = world.run(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}\n{}", ran.err);
        assert_two_lines(&ran);
        assert!(!ran.err.contains("secret"), "{}", ran.err);
    }
    let nothing = world.run::<&str>([]).ends_with(2);
    assert!(nothing.err.contains("Usage"), "{}", nothing.err);
}

#[test]
fn a_place_without_a_repository_ends_with_10() {
    let world = World::new();
    for arguments in [&["snapshots"][..], &["create", "source"], &["check"], &["ls", "latest"], &["unlock"]] {
        let ran = world.run(arguments).ends_with(10);
        assert_two_lines(&ran);
    }
    assert!(!world.repository().exists());
    fs::create_dir(world.repository()).unwrap();
    assert_two_lines(&world.run(["snapshots"]).ends_with(10));
    let unnamed = Ran::of(&world.command().env_remove("BACKUP_REPO").arg("snapshots").output().unwrap());
    assert_two_lines(&unnamed.ends_with(2));
    let remote = world.run(["snapshots", "-r", "s3://me:secret@bucket/x"]).ends_with(2);
    assert!(!remote.err.contains("secret"), "{}", remote.err);
}

#[test]
fn passphrases_come_from_where_they_are_said_to_be() {
    let world = World::with_repository();
    let file = world.path().join("passphrase");
    fs::write(&file, format!("{PASSPHRASE}\n")).unwrap();
    let without = || {
        let mut command = world.command();
        command.env_remove("BACKUP_PASSWORD").arg("snapshots");
        command
    };
    let run = |command: &mut std::process::Command| Ran::of(&command.output().unwrap());

    assert_two_lines(&run(&mut without()).ends_with(2));
    let wrong = run(without().env("BACKUP_PASSWORD", "wrong")).ends_with(12);
    assert_two_lines(&wrong);

    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let warned = run(without().arg("--password-file").arg(&file)).succeeds();
    assert!(warned.err.contains("warning: everybody on this machine can read"), "{}", warned.err);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let silent = run(without().env("BACKUP_PASSWORD_FILE", &file)).succeeds();
    assert_eq!(silent.err, "");
    run(without().env("BACKUP_PASSWORD", "wrong").arg("--password-file").arg(&file)).succeeds();
    let command = format!("cat '{}'", file.display());
    run(without().env("BACKUP_PASSWORD_COMMAND", &command)).succeeds();
    run(without().arg("--password-command").arg(&command)).succeeds();

    assert_two_lines(&run(without().arg("--password-command").arg("exit 3")).ends_with(2));
    assert_two_lines(&run(without().arg("--password-command").arg("true")).ends_with(2));
    assert_two_lines(&run(without().arg("--password-file").arg("/nowhere")).ends_with(2));
}

#[test]
fn a_second_repository_in_the_same_place_is_refused() {
    let world = World::with_repository();
    assert_two_lines(&world.run(["init"]).ends_with(1));
    world.run(["snapshots"]).succeeds();
}

#[test]
fn a_source_that_does_not_exist_makes_no_snapshot() {
    let world = World::with_repository();
    let ran = world.run(["create", "source", "nowhere"]).ends_with(1);
    assert_two_lines(&ran);
    assert!(ran.err.contains("nowhere"), "{}", ran.err);
    let failed = world.run(["create", "--command", "echo half; exit 7"]).ends_with(1);
    assert!(failed.err.contains("exit status: 7"), "{}", failed.err);
    assert_eq!(world.json(["snapshots"])["snapshots"].as_array().unwrap().len(), 0);
}

#[test]
fn what_is_not_there_ends_with_1() {
    let world = World::with_snapshot();
    for arguments in [
        &["ls", "ffffffffffff"][..],
        &["ls", "latest", "/nowhere"],
        &["cat", "latest", "/nowhere"],
        &["ls", "latest", "--host", "elsewhere"],
        &["ls", "latest", "--at", "2001-01-01"],
        &["key", "remove", "ffffffff"],
    ] {
        let ran = world.run(arguments);
        assert_eq!(ran.code, 1, "{arguments:?}\n{}", ran.err);
        assert_two_lines(&ran);
    }
    let source = world.source();
    let folder = world.run(["cat", "latest", source.to_str().unwrap()]).ends_with(2);
    assert_two_lines(&folder);
    let filtered = world.run(["ls", "0123", "--host", "x"]).ends_with(2);
    assert_two_lines(&filtered);
}

#[test]
fn latest_among_several_groups_ends_with_2_and_lists_them() {
    let world = World::with_snapshot();
    world.run(["create", "source/sub", "--job", "nightly"]).succeeds();
    let ran = world.run(["ls", "latest"]).ends_with(2);
    assert_two_lines(&ran);
    assert!(ran.err.contains("job nightly") && ran.err.contains("source"), "{}", ran.err);
    world.run(["ls", "latest", "--job", "nightly"]).succeeds();
}

#[test]
fn a_lock_that_forbids_ends_with_11() {
    let world = World::with_repository();
    let source = world.path().join("slow");
    // The writer holds its lock for as long as the program that it backs up runs.
    fs::write(&source, "#!/bin/sh\necho begun; echo >began; while [ ! -e done ]; do sleep 0.05; done\n").unwrap();
    let mut holder = world.command();
    let mut holder =
        holder.args(["--quiet", "--json", "create", "--", "/bin/sh", "slow"]).stdout(Stdio::null()).spawn().unwrap();
    let wait_until = |what: &dyn Fn() -> bool| {
        (0..4_800).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(25));
            what()
        })
    };
    assert!(wait_until(&|| world.path().join("began").exists()));
    let ran = world.run(["prune", "--instant"]);
    fs::write(world.path().join("done"), "").unwrap();
    holder.wait().unwrap();
    assert_two_lines(&ran.ends_with(11));
    world.run(["prune", "--instant"]).succeeds();
}

#[test]
fn who_misuses_a_command_is_led_to_its_help() {
    let world = World::new();
    for (arguments, help) in [
        (&["restore", "latest"][..], "backup restore --help"),
        (&["-r", "create", "restore", "latest"], "backup restore --help"),
        (&["-r", "x", "key", "add", "--host"], "backup key add --help"),
        (&["--connections", "0", "snapshots"], "backup snapshots --help"),
        (&["frobnicate"], "backup --help"),
    ] {
        let ran = world.run(arguments).ends_with(2);
        assert!(ran.err.ends_with(&format!("  try: {help}\n")), "{arguments:?}: {}", ran.err);
    }
}

#[test]
fn with_json_a_failure_is_an_object_on_standard_output() {
    let world = World::new();
    let ran = world.run(["--json", "snapshots"]).ends_with(10);
    let line = ran.lines().pop().unwrap();
    assert_eq!((&line["event"], &line["exit_code"]), (&"error".into(), &10.into()));
    assert!(line["message"].is_string() && line["hint"].is_string());
    let misused = world.run(["--json", "frobnicate"]).ends_with(2);
    assert_eq!(misused.lines()[0]["exit_code"], 2);
}

#[test]
fn a_config_that_is_none_is_named() {
    let world = World::with_repository();
    let config = world.repository().join("config");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&config, "not a config at all, but long enough to be one of some kind").unwrap();
    let ran = world.run(["snapshots"]).ends_with(1);
    assert_two_lines(&ran);
    assert!(ran.err.contains("config is damaged"), "{}", ran.err);
}

#[test]
fn an_instant_prune_is_refused_where_backups_take_no_lock() {
    let world = World::with_snapshot();
    let configuration = world.path().join("backup.toml");
    let repository = world.repository();
    let text = format!("[repositories.r]\nurl = \"{}\"\nlock_free = true\n", repository.display());
    fs::write(&configuration, text).unwrap();
    let configuration = configuration.to_str().unwrap();
    for place in ["r", repository.to_str().unwrap()] {
        let ran = world.run(["--config", configuration, "-r", place, "prune", "--instant"]).ends_with(2);
        assert!(ran.err.contains("lock_free"), "{}", ran.err);
        world.run(["--config", configuration, "-r", place, "prune"]).succeeds();
    }
}
