//! SQLite from the command line.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rusqlite::Connection;

use crate::driver::{PASSPHRASE, World};

/// A world with a database, and its URL.
fn with_database() -> (World, PathBuf, String) {
    let world = World::with_repository();
    let path = world.path().join("app.db");
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES (1), (2), (3)").unwrap();
    let url = format!("sqlite:{}", path.display());
    (world, path, url)
}

fn rows(path: &PathBuf) -> u32 {
    Connection::open(path).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_database_goes_into_a_repository_and_comes_back() {
    let (world, path, url) = with_database();
    let summary = world.json(["create", &url]);
    assert_eq!(summary["consistency"], "transactional");
    assert_eq!(summary["paths"][0], "/sqlite/app.db");
    assert_eq!(summary["tools"][0]["name"], "sqlite");
    assert!(summary["recovery_point"]["time"].is_string());
    Connection::open(&path).unwrap().execute_batch("DELETE FROM t").unwrap();

    let again = world.path().join("again.db");
    let to = format!("sqlite:{}", again.display());
    let restored = world.json(["restore", "latest", "--verify", "--to", &to]);
    assert_eq!((&restored["losses"], &restored["differences"]), (&0.into(), &serde_json::json!([])));
    assert_eq!(rows(&again), 3);
    let told = world.run(["restore", "latest", "--to", &url]).ends_with(1).err;
    assert!(told.contains("--clean"), "{told}");
    world.run(["restore", "latest", "--to", &url, "--clean"]).succeeds();
    assert_eq!(rows(&path), 3);
}

#[test]
fn a_file_with_a_line_end_in_its_name_comes_back() {
    let (world, path, _) = with_database();
    let odd = path.with_file_name("new\nline %.db");
    fs::rename(&path, &odd).unwrap();
    let summary = world.json(["create", &format!("sqlite:{}", odd.display())]);
    assert_eq!(summary["paths"][0], "/sqlite/new%0Aline %25.db");
    let again = world.path().join("again.db");
    world.run(["restore", "latest", "--verify", "--to", &format!("sqlite:{}", again.display())]).succeeds();
    assert_eq!(rows(&again), 3);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let (world, _, url) = with_database();
    let missing = world.path().join("missing.db");
    let told = world.run(["create", &format!("sqlite:{}", missing.display())]).ends_with(1).err;
    assert!(told.contains("nothing was created") && !missing.exists(), "{told}");
    world.run(["create", "sqlite:"]).ends_with(2);
    world.run(["create", &url, "/etc"]).ends_with(2);
    world.run(["create", "sqlite:///x?what=1"]).ends_with(2);
    world.run(["restore", "latest", "--to", "/tmp/x", "--clean"]).ends_with(2);
    assert!(!world.run(["snapshots"]).succeeds().out.contains("app.db"));
}

#[test]
fn several_databases_are_a_snapshot_each_and_one_that_fails_costs_the_others_nothing() {
    let (world, path, url) = with_database();
    let other = world.path().join("other.db");
    fs::copy(&path, &other).unwrap();
    let text = world.path().join("text.db");
    fs::write(&text, "no database".repeat(1_000)).unwrap();
    let of = |path: &PathBuf| format!("sqlite:{}", path.display());
    world.run(["create", &url, &of(&text), &of(&other)]).ends_with(1);
    let listed = world.run(["snapshots"]).succeeds().out;
    assert!(listed.contains("/sqlite/app.db") && listed.contains("/sqlite/other.db"), "{listed}");
}

#[test]
fn a_database_that_is_empty_now_and_was_not_is_suspicious() {
    let (world, path, url) = with_database();
    assert_eq!(world.json(["create", &url])["suspicion"], serde_json::Value::Null);
    for emptied in ["DELETE FROM t", "INSERT INTO t VALUES (1), (2), (3)", "DROP TABLE t"] {
        Connection::open(&path).unwrap().execute_batch(emptied).unwrap();
        let suspicion = &world.json(["create", &url])["suspicion"];
        match emptied.starts_with("INSERT") {
            true => assert_eq!(*suspicion, serde_json::Value::Null),
            false => assert_eq!(suspicion, "0 rows, where it usually is 3", "{emptied}"),
        }
    }
}

#[test]
fn rows_that_refer_to_none_are_told_and_are_no_difference() {
    let (world, path, url) = with_database();
    let dangling = "PRAGMA foreign_keys = OFF; CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE k(p REFERENCES p); INSERT INTO k VALUES (7)";
    Connection::open(&path).unwrap().execute_batch(dangling).unwrap();
    world.run(["create", &url]).succeeds();
    let to = format!("sqlite:{}", world.path().join("again.db").display());
    let ran = world.run(["restore", "latest", "--verify", "--to", &to]).succeeds();
    assert!(format!("{}{}", ran.out, ran.err).contains("a row of k refers to none"), "{} {}", ran.out, ran.err);
}

#[test]
#[ignore = "needs restic"]
fn restic_alone_gets_the_database_back() {
    let (world, path, url) = with_database();
    world.run(["create", &url]).succeeds();
    let restic = std::env::var_os("BACKUP_TEST_RESTIC").expect("scripts/tools restic says where it is");
    let out = world.path().join("out");
    let status = Command::new(restic)
        .args(["restore", "latest", "--no-cache", "--target"])
        .arg(&out)
        .env("RESTIC_REPOSITORY", world.repository())
        .env("RESTIC_PASSWORD", PASSPHRASE)
        .status();
    assert!(status.unwrap().success());
    assert_eq!(rows(&out.join("sqlite/app.db/app.db")), rows(&path));
}
