//! The runbook, as its users meet it: from the configuration, and on a machine that has nothing but the passphrase.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::driver::{PASSPHRASE, Ran, World};
use crate::jobs;
use crate::json::assert_documented;

const JOBS: &str = "[jobs.files]\nsource = \"PATH/source\"\nobjectives = { rto = \"4h\" }\n\
    [jobs.db]\nsource = \"sqlite:PATH/app.db\"\nobjectives = { rpo = \"26h\", rto = \"1h\" }\n\
    [contacts]\ndba = \"Ada <ada@example.org>\"\n[checklist]\npassphrase_copy = { place = \"the safe\", on = \"2026-05-02\" }\n";

/// Two jobs that ran once.
fn world() -> World {
    let world = jobs::world(JOBS);
    let made = rusqlite::Connection::open(world.path().join("app.db")).unwrap();
    made.execute_batch("create table t (a); insert into t values (1), (2)").unwrap();
    jobs::run(&world, &["init"]).succeeds();
    jobs::run(&world, &["run"]).succeeds();
    world
}

/// A machine that has nothing: another home, another folder, no configuration.
fn bare(world: &World, arguments: &[&str]) -> Ran {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_backup"));
    command.env_clear().env("BACKUP_PASSWORD", PASSPHRASE).current_dir(elsewhere.path()).env("HOME", elsewhere.path());
    Ran::of(&command.arg("-r").arg(world.path().join("far")).args(arguments).output().unwrap())
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_runbook_has_the_commands_and_the_times_of_the_last_drill_and_no_secret() {
    let world = world();
    let page = jobs::run(&world, &["runbook"]).succeeds().out;
    let path = world.path().display();
    assert!(page.contains(&format!("restore latest --job db --to sqlite:{path}/app.db\n")), "{page}");
    assert!(page.contains("**Never measured**") && page.contains("Ada \\<ada@example.org\\>"), "{page}");
    assert!(
        page.contains("second copy: **the safe, seen there on 2026-05-02**") && !page.contains(PASSPHRASE),
        "{page}"
    );
    assert!(page.find("| 1 | `db`") < page.find("| 2 | `files`"), "the shorter objective first: {page}");

    jobs::run(&world, &["drill", "db", "-r", "near"]).succeeds();
    let page = jobs::run(&world, &["runbook", "db"]).succeeds().out;
    assert!(page.contains("data ready after") && page.contains("(level 4)"), "{page}");
    assert!(!page.contains("`files`"), "only the job that was named");
    // Which copy it was that came back.
    let status = jobs::json(&world, &["status", "db"], 0).pop().unwrap();
    let copies = &status["jobs"][0]["copies"];
    assert!(copies[0]["restored"].is_string() && copies[1]["restored"].is_null(), "{copies}");
    let told = jobs::run(&world, &["status", "db"]).succeeds().out;
    assert!(told.contains("restored by a drill ") && told.contains("restored by no drill"), "{told}");

    let file = world.path().join("runbook.html");
    let told = jobs::json(&world, &["runbook", "-o", file.to_str().unwrap()], 0).pop().unwrap();
    assert_documented(&told, "runbook.md", "`runbook`");
    assert_documented(&told["hosts"][0], "runbook.md", "`hosts`");
    assert_eq!((told["format"].as_str(), &told["text"]), (Some("html"), &Value::Null));
    assert!(text(&file).starts_with("<!doctype html>") && text(&file).contains("Ada &lt;ada@example.org&gt;"));
}

#[test]
fn a_drill_executes_the_runbooks_own_command_and_its_record_says_so() {
    let world = world();
    for job in ["files", "db"] {
        let drilled = jobs::json(&world, &["drill", job, "--runbook", "-r", "far"], 0).pop().unwrap();
        assert_eq!((&drilled["verdict"], &drilled["level"]), (&"passed".into(), &4.into()), "{drilled}");
        let command = drilled["commands"][0].as_str().unwrap();
        assert!(command.contains(&format!("restore latest --job {job} --to ")), "{command}");
        let untested = drilled["not_tested"].as_array().unwrap();
        assert!(untested.iter().any(|one| one.as_str().unwrap().contains("the command's own target")), "{drilled}");
    }
    let left = fs::read_dir(world.path()).unwrap().flatten().map(|entry| entry.file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with("backup-")), "nothing is left");
    // A row that only the backup's copy of the passphrase can bring back: with another one the command cannot work.
    fs::write(world.path().join("passphrase"), "another\n").unwrap();
    jobs::run(&world, &["drill", "db", "--runbook"]).ends_with(4);
    jobs::run(&world, &["drill", "db", "--runbook", "--snapshot", "oldest"]).ends_with(2);
}

#[test]
fn a_heartbeat_in_the_restored_data_is_the_recovery_point_that_the_objective_is_held_against() {
    let check = "{ sql = \"select max(at) from beat\", heartbeat = \"2h\" }";
    let world = jobs::world(&format!(
        "[jobs.db]\nsource = \"sqlite:PATH/app.db\"\nobjectives = {{ rpo = \"1h\" }}\ndrill = {{ checks = [{check}] }}\n"
    ));
    let database = rusqlite::Connection::open(world.path().join("app.db")).unwrap();
    database.execute_batch("create table beat (at); insert into beat values (datetime('now', '-90 minutes'))").unwrap();
    jobs::run(&world, &["init"]).succeeds();
    jobs::run(&world, &["run"]).succeeds();
    let drilled = jobs::run(&world, &["--json", "drill", "db"]).lines().pop().unwrap();
    assert_eq!((&drilled["verdict"], &drilled["level"]), (&"passed".into(), &5.into()), "{drilled}");
    assert_eq!(drilled["recovery_point_from"], "restored_data", "{drilled}");
    assert!((5_399..5_700).contains(&drilled["recovery_point_age_seconds"].as_i64().unwrap()), "{drilled}");

    database.execute_batch("update beat set at = datetime('now', '-3 hours')").unwrap();
    jobs::run(&world, &["run"]).succeeds();
    let drilled = jobs::json(&world, &["drill", "db"], 4).pop().unwrap();
    assert_eq!(drilled["verdict"], "failed", "what was backed up was not what is written to: {drilled}");
}

#[test]
fn on_a_bare_machine_the_passphrase_is_enough_and_the_commands_work_as_they_are() {
    let world = world();
    let page = bare(&world, &["runbook"]).succeeds().out;
    assert!(
        page.contains("that was kept on") && page.contains("second copy: **the safe, seen there on 2026-05-02**"),
        "{page}"
    );
    let told: Value = serde_json::from_str(&bare(&world, &["--json", "runbook", "db"]).succeeds().out).unwrap();
    let line = told["hosts"][0]["jobs"][0]["host_lost"]["lines"][0].as_str().unwrap().to_owned();
    // The host is lost, and so is its database.
    fs::remove_file(world.path().join("app.db")).unwrap();
    let (_, words) = line.split_once("backup ").unwrap();
    let mut command = Command::new("/bin/sh");
    command.env_clear().env("BACKUP_PASSWORD", PASSPHRASE).arg("-c").arg(format!("\"$0\" {words}"));
    Ran::of(&command.arg(env!("CARGO_BIN_EXE_backup")).output().unwrap()).succeeds();
    let back = rusqlite::Connection::open(world.path().join("app.db")).unwrap();
    let rows: i64 = back.query_row("select count(*) from t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 2);
    let wrong = bare(&world, &["runbook", "dbb"]).ends_with(2);
    assert!(wrong.err.contains("no job in"), "{}", wrong.err);
}

#[test]
fn where_no_configuration_is_kept_the_snapshots_tell_and_that_is_said() {
    let world = World::with_repository();
    world.create(["--job", "app"]);
    let ran = world.run(["runbook"]).succeeds();
    assert!(ran.err.contains("keeps no configuration"), "{}", ran.err);
    assert!(ran.out.contains("This repository keeps no configuration") && ran.out.contains("restore latest --job app"));
    let wrong = world.command().env("BACKUP_PASSWORD", "wrong").arg("runbook").output().unwrap();
    Ran::of(&wrong).ends_with(12);
}
