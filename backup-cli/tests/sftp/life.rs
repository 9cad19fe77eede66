//! Created, checked, restored, forgotten and pruned; and what is said of a host that nobody knows.

use std::fs;
use std::process::Command;

use crate::driver::{PASSPHRASE, Ran, World};
use crate::server::Server;
use crate::silent::Silent;

/// The program, about to work on the repository there, with a home of its own.
fn command(world: &World, place: &str) -> Command {
    let mut command = world.command();
    // `ssh` is found on the path.
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command.env("HOME", world.path()).env("BACKUP_REPO", place);
    command
}

fn run(world: &World, place: &str, arguments: &[&str]) -> Ran {
    Ran::of(&command(world, place).args(arguments).output().unwrap())
}

fn restic(world: &World, server: &Server, folder: &str, arguments: &[&str]) -> Ran {
    let program = std::env::var_os("BACKUP_TEST_RESTIC").expect("BACKUP_TEST_RESTIC names no program");
    let ssh = format!("sftp.command=ssh -F {} store -s sftp", server.path("ssh_config").display());
    let mut command = Command::new(program);
    command.env_clear().env("HOME", world.path()).env("TMPDIR", world.path()).env("RESTIC_PASSWORD", PASSPHRASE);
    command.current_dir(world.path());
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command.args(["--no-cache", "-o", &ssh, "-r", &format!("sftp:store:{folder}")]).args(arguments);
    Ran::of(&command.output().unwrap())
}

#[test]
#[ignore = "needs sshd and restic"]
fn a_repository_lives_on_another_machine_from_beginning_to_end_and_restic_reads_it() {
    let (world, server) = (World::new(), Server::start());
    let folder = server.path("new/repo");
    let place = server.place(&folder);
    let source = world.source();
    let create = || run(&world, &place, &["create", source.to_str().unwrap()]).succeeds();
    run(&world, &place, &["snapshots"]).ends_with(10);
    run(&world, &place, &["init"]).succeeds();
    run(&world, &place, &["init"]).ends_with(1);
    create();
    fs::write(source.join("hello.txt"), "changed\n").unwrap();
    create();
    run(&world, &place, &["check", "--read-data"]).succeeds();
    restic(&world, &server, folder.to_str().unwrap(), &["check", "--read-data"]).succeeds();
    run(&world, &place, &["restore", "latest", "--to", "out"]).succeeds();
    let restored = world.path().join("out").join(source.strip_prefix("/").unwrap());
    for file in ["hello.txt", "sub/data.bin"] {
        assert!(fs::read(restored.join(file)).unwrap() == fs::read(source.join(file)).unwrap(), "{file}");
    }
    run(&world, &place, &["forget", "--keep-last", "1"]).succeeds();
    run(&world, &place, &["prune", "--instant"]).succeeds();
    run(&world, &place, &["check", "--read-data"]).succeeds();
    restic(&world, &server, folder.to_str().unwrap(), &["check", "--read-data"]).succeeds();
    let copy = server.place(&server.path("copy"));
    let second = world.path().join("second");
    for (here, there) in [(place.as_str(), copy.as_str()), (copy.as_str(), second.to_str().unwrap())] {
        run(&world, there, &["init", "--like", here]).succeeds();
        run(&world, here, &["copy", "--to", there]).succeeds();
        run(&world, there, &["check", "--read-data"]).succeeds();
    }
    let locks = fs::read_dir(folder.join("locks")).map(Iterator::count).unwrap_or_default();
    assert_eq!(locks, 0, "a lock stayed");
}

#[test]
#[ignore = "needs sshd"]
fn a_host_that_nobody_knows_is_two_lines_and_an_exit_code() {
    let (world, server) = (World::new(), Server::start());
    fs::write(server.path("known_hosts"), "").unwrap();
    let refused = run(&world, &server.place(&server.path("repo")), &["snapshots"]).ends_with(1);
    assert!(refused.err.contains("Host key verification failed"), "{}", refused.err);
    assert!(refused.err.contains("compare its key"), "{}", refused.err);
    assert_eq!(refused.err.trim_end().lines().count(), 2, "{}", refused.err);
    let secret = run(&world, "sftp://me:secret@host/repo", &["snapshots"]).ends_with(2);
    assert!(!secret.err.contains("secret"), "{}", secret.err);
}

#[test]
#[ignore = "needs sshd"]
fn a_folder_that_holds_something_else_is_named_and_left_as_it_is() {
    let (world, server) = (World::new(), Server::start());
    let folder = server.path("photographs");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("sea.jpg"), "blue").unwrap();
    let refused = run(&world, &server.place(&folder), &["init"]).ends_with(1);
    assert!(refused.err.contains("sea.jpg lies there and is of no repository"), "{}", refused.err);
    assert_eq!(refused.err.trim_end().lines().count(), 2, "{}", refused.err);
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["sea.jpg"]);
}

#[test]
#[ignore = "needs sshd"]
fn a_run_that_is_interrupted_waits_for_no_server_that_never_answered() {
    let world = World::new();
    let settings = world.path().join("ssh_config");
    let place = format!("sftp://127.0.0.1/repo?ssh_config={}", settings.display());
    for arguments in [&["snapshots"][..], &["init"]] {
        let silent = Silent::start();
        fs::write(&settings, format!("Host *\nPort {}\n", silent.address.port())).unwrap();
        silent.interrupts(command(&world, &place).args(arguments));
    }
}
