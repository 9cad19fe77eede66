//! Create, look, check, restore, forget, prune, and check again, on each kind of store.

use std::fs;
use std::process::{Command, Stdio};

use crate::driver::{PASSPHRASE, Ran, World};
use crate::midrun::check_and_restore;
use crate::servers::{BUCKET, Server};
use crate::{command, run, tree};

/// The prefix of the repository; it wants to be encoded in a URL.
const PREFIX: &str = "some%20where/repo";

/// Lives a repository's life; gives the world it happened in.
fn live(server: &Server) -> World {
    let world = World::new();
    let source = world.source();
    fs::write(source.join("large"), tree::noise(20_000_000, 1)).unwrap();
    let source_name = source.to_str().unwrap();
    let place = server.place(PREFIX);
    let go = |arguments: &[&str]| run(&world, &place, server.variables(), arguments);

    go(&["snapshots"]).ends_with(10);
    let made = go(&["init"]).succeeds();
    assert!(made.out.contains(&place), "{}", made.out);
    go(&["init"]).ends_with(1);
    go(&["create", source_name]).succeeds();
    fs::write(source.join("large"), tree::noise(20_000_000, 2)).unwrap();
    fs::write(source.join("new"), "new\n").unwrap();
    go(&["create", source_name]).succeeds();
    go(&["check", "--read-data"]).succeeds();
    assert_eq!(go(&["--json", "snapshots"]).succeeds().lines()[0]["snapshots"].as_array().unwrap().len(), 2);

    let restores = |step: &str| {
        let to = tempfile::tempdir_in(world.path()).unwrap();
        let at = to.path().join("restored");
        go(&["restore", "latest", "--to", at.to_str().unwrap()]).succeeds();
        let found = tree::differences(&source, &at.join(source.strip_prefix("/").unwrap()));
        assert!(found.is_empty(), "{step}: {}", found.join("\n"));
    };
    restores("after the second create");
    go(&["forget", "--keep-last", "1"]).succeeds();
    let marked = go(&["--json", "prune"]).succeeds().lines().pop().unwrap();
    assert!(marked["done"]["marked"].as_u64().unwrap() > 0, "{marked}");
    let before = stored(&go(&["--json", "stats"]).succeeds());
    go(&["prune", "--instant"]).succeeds();
    go(&["check", "--read-data"]).succeeds();
    restores("after the prune");
    go(&["create", source_name]).succeeds();
    go(&["check"]).succeeds();
    assert!(before > 0, "stats knows what lies there");
    copies_go_out_and_back(&world, server, &place);
    world
}

/// A copy in a folder, and a copy of that beside the first: all in this store's own words.
fn copies_go_out_and_back(world: &World, server: &Server, place: &str) {
    let (folder, second) = (world.path().join("copy"), server.place("second"));
    let folder = folder.to_str().unwrap();
    for (here, there) in [(place, folder), (folder, &second)] {
        run(world, there, server.variables(), &["init", "--like", here]).succeeds();
        run(world, here, server.variables(), &["copy", "--to", there]).succeeds();
        check_and_restore(world, server, there);
    }
}

fn stored(ran: &Ran) -> u64 {
    let document = ran.lines().pop().unwrap();
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or_default();
    document.as_object().unwrap().values().map(number).max().unwrap_or_default()
}

/// What restic says of the repository, and what it restores.
fn restic_agrees(server: &Server, world: &World) {
    let program =
        std::env::var_os("BACKUP_TEST_RESTIC").unwrap_or_else(|| panic!("BACKUP_TEST_RESTIC names no program"));
    let repository = format!("s3:{}/{BUCKET}/{}", server.endpoint(), PREFIX.replace("%20", " "));
    let to = world.path().join("restored by restic");
    for arguments in [&["check", "--read-data"][..], &["restore", "latest", "--target", to.to_str().unwrap()]] {
        let mut command = Command::new(&program);
        command.env_clear().env("HOME", world.path()).env("TMPDIR", world.path()).envs(server.variables());
        command.env("RESTIC_REPOSITORY", &repository).env("RESTIC_PASSWORD", PASSPHRASE).arg("--no-cache");
        let ran = Ran::of(&command.args(arguments).output().unwrap()).succeeds();
        assert!(arguments[0] != "check" || ran.out.contains("no errors were found"), "{}", ran.out);
    }
    let source = world.source();
    let found = tree::differences(&source, &to.join(source.strip_prefix("/").unwrap()));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
#[ignore = "needs minio and restic"]
fn on_minio_and_restic_reads_it() {
    let server = Server::minio();
    let world = live(&server);
    restic_agrees(&server, &world);
}

#[test]
#[ignore = "needs rclone and restic"]
fn on_rclones_server_and_restic_reads_it() {
    let server = Server::rclone();
    let world = live(&server);
    restic_agrees(&server, &world);
}

#[test]
#[ignore = "needs azurite"]
fn on_azure() {
    live(&Server::azurite());
}

#[test]
#[ignore = "needs azurite"]
fn on_azure_a_lock_that_a_killed_run_left_is_no_obstacle_for_who_may_not_delete() {
    let (server, world) = (Server::azurite(), World::new());
    let place = server.place("p");
    run(&world, &place, server.variables(), &["init"]).succeeds();
    let adder = || server.signed_variables("rcl", 2099);
    for round in 0..3 {
        // Each leaves its lock, since it may not remove it, and ends.
        let ran = run(&world, &place, adder(), &["create", world.source().to_str().unwrap()]).succeeds();
        assert_eq!(ran.err.contains("passed over a stale lock"), round > 0, "{round}: {}", ran.err);
    }
    let source = world.source().to_str().unwrap().to_owned();
    let snapshots = run(&world, &place, server.variables(), &["--json", "snapshots"]).succeeds().lines();
    let id = snapshots[0]["snapshots"][0]["id"].as_str().unwrap().to_owned();
    let refused = run(&world, &place, adder(), &["--quiet", "forget", &id]).ends_with(1);
    assert!(refused.err.contains("may not delete") && refused.err.trim_end().lines().count() <= 2, "{}", refused.err);
    run(&world, &place, server.variables(), &["unlock"]).succeeds();
    run(&world, &place, server.variables(), &["create", &source]).succeeds();
    check_and_restore(&world, &server, &place);
}

#[test]
#[ignore = "needs minio"]
fn several_machines_back_up_at_once_beside_a_prune_and_all_restores() {
    let server = Server::minio();
    let place = server.place("many");
    let owner = World::new();
    run(&owner, &place, server.variables(), &["init"]).succeeds();
    let worlds: Vec<_> = (0..3).map(|_| World::new()).collect();
    let create = |number: usize, world: &World| {
        let mut create = command(world, &place, server.variables());
        create.args(["create", "--host", &format!("host-{number}"), world.source().to_str().unwrap()]);
        create
    };
    for round in 0..2 {
        let running: Vec<_> = worlds
            .iter()
            .enumerate()
            .map(|(number, world)| {
                fs::write(world.source().join("own"), tree::noise(6_000_000, 10 * round + number as u64)).unwrap();
                let mut create = create(number, world);
                create.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        // It marks while they run, or is kept away by their locks.
        let pruned = run(&owner, &place, server.variables(), &["prune"]);
        assert!([0, 11].contains(&pruned.code), "{}", pruned.err);
        for (number, child) in running.into_iter().enumerate() {
            let mut ran = Ran::of(&child.wait_with_output().unwrap());
            // The moment in which the prune wants nobody beside it passes.
            while ran.code == 11 {
                ran = Ran::of(&create(number, &worlds[number]).output().unwrap());
            }
            ran.succeeds();
        }
        run(&owner, &place, server.variables(), &["forget", "--keep-last", "1"]).succeeds();
    }
    run(&owner, &place, server.variables(), &["check", "--read-data"]).succeeds();
    for (number, world) in worlds.iter().enumerate() {
        let to = tempfile::tempdir_in(world.path()).unwrap();
        let (source, host) = (world.source(), format!("host-{number}"));
        let path = ["--path", source.to_str().unwrap(), "--to", to.path().to_str().unwrap()];
        let arguments = [&["restore", "latest", "--host", &host], &path[..]].concat();
        run(world, &place, server.variables(), &arguments).succeeds();
        let found = tree::differences(&source, to.path());
        assert!(found.is_empty(), "{host}: {}", found.join("\n"));
    }
}

#[test]
#[ignore = "needs minio"]
fn content_in_a_class_of_its_own_is_not_written_anew_by_who_does_not_name_the_class() {
    let (server, world) = (Server::minio(), World::new());
    let place = server.place("p");
    let with_class = format!("{place}&storage_class=REDUCED_REDUNDANCY");
    let (keep, go) = (world.source().join("keep"), world.source().join("go"));
    fs::write(keep, tree::noise(3_000_000, 1)).unwrap();
    fs::write(&go, tree::noise(6_000_000, 2)).unwrap();
    run(&world, &with_class, server.variables(), &["init"]).succeeds();
    for _ in 0..2 {
        run(&world, &with_class, server.variables(), &["create", world.source().to_str().unwrap()]).succeeds();
        let _ = fs::remove_file(&go);
    }
    run(&world, &with_class, server.variables(), &["forget", "--keep-last", "1"]).succeeds();
    for place in [&with_class, &place] {
        let planned = run(&world, place, server.variables(), &["--json", "prune", "--dry-run"]).succeeds();
        let plan = planned.lines().pop().unwrap();
        assert_eq!(plan["plan"]["repack"]["bytes"], 0, "{place}: {plan}");
    }
    let told = run(&world, &place, server.variables(), &["prune", "--dry-run"]).succeeds();
    assert!(told.err.contains("REDUCED_REDUNDANCY"), "{}", told.err);
}

#[test]
#[ignore = "needs gcs-server"]
fn on_google_cloud_storage() {
    live(&Server::gcs());
}
