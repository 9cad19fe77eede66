//! Create, look, check, restore, forget, prune, and check again, on each kind of store.

use std::fs;
use std::process::Command;

use crate::driver::{PASSPHRASE, Ran, World};
use crate::servers::{BUCKET, Server};
use crate::{run, tree};

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
    world
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
#[ignore = "needs gcs-server"]
fn on_google_cloud_storage() {
    live(&Server::gcs());
}
