//! Created, checked, restored, forgotten and pruned; with a server that only appends; and what is said when it is wrong.

use std::fs;
use std::process::Command;

use crate::driver::{PASSPHRASE, Ran, World};
use crate::server::Server;
use crate::silent::Silent;

fn place(server: &Server) -> String {
    format!("rest:http://{}/repo/", server.address)
}

/// The program, about to work on the repository there, with a home of its own.
fn command(world: &World, place: &str) -> Command {
    let mut command = world.command();
    command.env("HOME", world.path()).env("BACKUP_REPO", place);
    command
}

fn run(world: &World, place: &str, arguments: &[&str]) -> Ran {
    Ran::of(&command(world, place).args(arguments).output().unwrap())
}

fn create(world: &World, place: &str) {
    let source = world.source();
    run(world, place, &["create", source.to_str().unwrap()]).succeeds();
}

fn snapshots(world: &World, place: &str) -> usize {
    let listed = run(world, place, &["snapshots", "--json"]).succeeds().lines().pop().unwrap();
    listed["snapshots"].as_array().unwrap().len()
}

fn restic(world: &World, server: &Server, arguments: &[&str]) -> Ran {
    let program = std::env::var_os("BACKUP_TEST_RESTIC").expect("BACKUP_TEST_RESTIC names no program");
    let mut command = Command::new(program);
    command.env_clear().env("HOME", world.path()).env("TMPDIR", world.path()).env("RESTIC_PASSWORD", PASSPHRASE);
    command.current_dir(world.path());
    command.args(["--no-cache", "-r", &place(server)]).args(arguments);
    Ran::of(&command.output().unwrap())
}

fn assert_restored(world: &World, target: &str) {
    let restored = world.path().join(target).join(world.source().strip_prefix("/").unwrap());
    for file in ["hello.txt", "sub/data.bin"] {
        assert!(fs::read(restored.join(file)).unwrap() == fs::read(world.source().join(file)).unwrap(), "{file}");
    }
}

#[test]
#[ignore = "needs rest-server and restic"]
fn a_repository_lives_on_a_server_from_beginning_to_end_and_restic_reads_it() {
    let (world, server) = (World::new(), Server::start());
    let place = place(&server);
    run(&world, &place, &["init"]).succeeds();
    create(&world, &place);
    fs::write(world.source().join("hello.txt"), "changed\n").unwrap();
    create(&world, &place);
    assert_eq!(snapshots(&world, &place), 2);
    let checked = run(&world, &place, &["check", "--read-data"]).succeeds();
    assert!(checked.out.contains("no damage found"), "{}", checked.out);
    restic(&world, &server, &["check", "--read-data"]).succeeds();
    restic(&world, &server, &["restore", "latest", "--target", "by-restic"]).succeeds();
    run(&world, &place, &["restore", "latest", "--to", "by-us"]).succeeds();
    assert_restored(&world, "by-us");
    // The server keeps no records, and still what is proven is known: the older snapshot may go.
    run(&world, &place, &["forget", "--keep-last", "1"]).succeeds();
    assert_eq!(snapshots(&world, &place), 1);
    run(&world, &place, &["prune", "--instant"]).succeeds();
    restic(&world, &server, &["check", "--read-data"]).succeeds();
    run(&world, &place, &["check", "--read-data", "--limit-download", "50MiB", "--connections", "2"]).succeeds();
    // What restic writes there, we see, and the other way round.
    restic(&world, &server, &["backup", world.source().to_str().unwrap()]).succeeds();
    assert_eq!(snapshots(&world, &place), 2);
}

#[test]
#[ignore = "needs rest-server and restic"]
fn a_server_that_only_appends_takes_backups_and_gives_nothing_up() {
    let (world, server) = (World::new(), Server::start());
    run(&world, &place(&server), &["init"]).succeeds();
    let server = server.restart_with(&["--no-auth", "--append-only"]);
    let place = place(&server);
    create(&world, &place);
    create(&world, &place);
    run(&world, &place, &["check"]).succeeds();
    let refused = run(&world, &place, &["forget", "--keep-last", "1"]).ends_with(1);
    assert!(refused.err.contains("append-only"), "{}", refused.err);
    assert_eq!(snapshots(&world, &place), 2);
    run(&world, &place, &["restore", "latest", "--to", "out"]).succeeds();
    assert_restored(&world, "out");
    restic(&world, &server, &["check", "--read-data", "--no-lock"]).succeeds();
    assert!(server.files("repo/locks").is_empty(), "a lock stayed");
}

#[test]
#[ignore = "needs rest-server"]
fn copies_on_this_machine_spare_requests_and_may_vanish_or_rot() {
    let (world, server) = (World::new(), Server::start());
    let place = place(&server);
    run(&world, &place, &["init"]).succeeds();
    create(&world, &place);
    let cache = world.path().join(".cache/backup");
    let mut copies = Vec::new();
    let mut folders = vec![cache.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() { folders.push(entry) } else { copies.push(entry) }
        }
    }
    assert!(copies.len() >= 3, "a snapshot, an index and a pack of trees: {copies:?}");
    for copy in copies {
        fs::write(copy, "rotten").unwrap();
    }
    create(&world, &place);
    run(&world, &place, &["ls", "latest"]).succeeds();
    fs::remove_dir_all(&cache).unwrap();
    run(&world, &place, &["ls", "latest", "--no-cache"]).succeeds();
    assert!(!cache.exists(), "--no-cache keeps none");
    // An index that rotted on the server is seen although a sound copy is here.
    create(&world, &place);
    run(&world, &place, &["snapshots"]).succeeds();
    for index in server.files("repo/index") {
        fs::write(index, "rotten").unwrap();
    }
    assert_ne!(run(&world, &place, &["check"]).code, 0);
}

#[test]
#[ignore = "needs rest-server"]
fn wrong_places_and_passwords_are_two_lines_and_an_exit_code() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    // "me" with the password "right", in the form that Apache calls {SHA}.
    fs::write(folder.path().join(".htpasswd"), "me:{SHA}0nofEXcSAJSXFLGvmfBIpBb11vQ=\n").unwrap();
    let server = Server::start_in(folder, &[]);
    let two_lines = |ran: &Ran| assert_eq!(ran.err.trim_end().lines().count(), 2, "{}", ran.err);
    let refused = run(&world, &place(&server), &["snapshots"]).ends_with(1);
    assert!(refused.err.contains("BACKUP_REST_PASSWORD"), "{}", refused.err);
    two_lines(&refused);
    let server = server.restart_with(&["--no-auth"]);
    let nothing = run(&world, &place(&server), &["snapshots"]).ends_with(10);
    two_lines(&nothing);
    for wrong in ["rest:ftp://host/", "rest:http://me:secret@host/", "rest:host"] {
        let refused = run(&world, wrong, &["snapshots"]).ends_with(2);
        assert!(!refused.err.contains("secret"), "{}", refused.err);
        two_lines(&refused);
    }
    let usage = run(&world, &place(&server), &["snapshots", "--limit-upload", "fast"]).ends_with(2);
    assert!(usage.err.contains("500K"), "{}", usage.err);
}

#[test]
fn a_run_that_is_interrupted_waits_for_no_server_that_never_answered() {
    let world = World::new();
    for arguments in [&["snapshots"][..], &["init"]] {
        let silent = Silent::start();
        let place = format!("rest:http://{}/repo/", silent.address);
        silent.interrupts(command(&world, &place).args(arguments));
    }
}
