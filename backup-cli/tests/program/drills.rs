//! Drills and their evidence, as users meet them.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;

use super::driver::{Ran, World};

/// A world whose program has a home, for keys and journals.
fn home(world: &World) -> PathBuf {
    world.path().join("home")
}

fn run<const COUNT: usize>(world: &World, arguments: [&str; COUNT]) -> Ran {
    let mut command = world.command();
    command.env("HOME", home(world)).args(arguments);
    Ran::of(&command.output().unwrap())
}

fn json<const COUNT: usize>(world: &World, arguments: [&str; COUNT]) -> (i32, Value) {
    let mut command = world.command();
    command.env("HOME", home(world)).arg("--json").args(arguments);
    let ran = Ran::of(&command.output().unwrap());
    let last = ran.lines().pop().unwrap_or_else(|| panic!("no line: {}", ran.err));
    (ran.code, last)
}

/// The packs of the repository, the largest first.
fn packs(world: &World) -> Vec<PathBuf> {
    let folders = fs::read_dir(world.repository().join("data")).unwrap().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten());
    let mut packs: Vec<_> = files.map(|file| file.path()).collect();
    packs.sort_by_key(|pack| std::cmp::Reverse(fs::metadata(pack).unwrap().len()));
    packs
}

/// The folders of drills that are there.
fn leftovers(world: &World) -> usize {
    let entries = fs::read_dir(world.path()).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("backup-drill-")).count()
}

#[test]
fn a_drill_of_a_good_backup_passes_and_the_snapshot_is_proven() {
    let world = World::with_snapshot();
    let (code, drilled) = json(&world, ["drill"]);
    assert_eq!(
        (code, &drilled["verdict"], &drilled["level"]),
        (0, &Value::from("passed"), &Value::from(4)),
        "{drilled}"
    );
    assert_eq!((&drilled["proven"], &drilled["recorded"]), (&Value::from(true), &Value::from(true)));
    assert!(drilled["technical_seconds"].as_f64() <= drilled["verified_seconds"].as_f64());
    assert_eq!(leftovers(&world), 0);
    let text = run(&world, ["drill", "--snapshot", "random", "--cold"]).succeeds().out;
    for word in ["passed, level 4", "not tested", "data ready after", "NOT signed"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let inside = world.source().strip_prefix("/").unwrap().join("hello.txt");
    let question = format!("grep -q hello '{}'", inside.display());
    assert_eq!(json(&world, ["drill", "--program", &question]).1["level"], 5);
    assert_eq!(json(&world, ["drill", "--program", "exit 1"]).0, 4);
}

#[test]
fn a_flipped_bit_and_a_missing_pack_fail_the_drill() {
    let world = World::with_snapshot();
    let pack = packs(&world).remove(0);
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 4;
    fs::write(&pack, bytes).unwrap();
    let (code, drilled) = json(&world, ["drill"]);
    assert_eq!(
        (code, &drilled["verdict"], &drilled["level"]),
        (4, &Value::from("failed"), &Value::from(0)),
        "{drilled}"
    );
    assert!(drilled["reason"].as_str().unwrap().contains("data.bin"), "{drilled}");
    fs::remove_file(&pack).unwrap();
    let (code, drilled) = json(&world, ["drill"]);
    assert_eq!((code, &drilled["verdict"], &drilled["level"]), (4, &Value::from("failed"), &Value::Null), "{drilled}");
    assert!(drilled["reason"].as_str().unwrap().contains("is missing"), "{drilled}");
}

#[test]
fn what_stands_in_the_way_is_not_run_and_has_a_record() {
    let world = World::with_snapshot();
    let mut command = world.command();
    command.env("HOME", home(&world)).env("BACKUP_PASSWORD", "wrong").args(["--json", "drill"]);
    let ran = Ran::of(&command.output().unwrap()).ends_with(4);
    let drilled = ran.lines().pop().unwrap();
    assert_eq!(drilled["verdict"], "not_run", "{drilled}");
    assert!(drilled["reason"].as_str().unwrap().contains("passphrase"), "{drilled}");
    let (code, drilled) = json(&world, ["drill", "--sandbox", "nowhere"]);
    assert_eq!((code, &drilled["verdict"]), (4, &Value::from("not_run")), "{drilled}");
    // What waited on this machine went along.
    let listed = json(&world, ["evidence", "list"]).1;
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    let (code, drilled) = json(&world, ["drill", "-r", "no-such-repository"]);
    assert_eq!((code, &drilled["verdict"]), (4, &Value::from("not_run")), "{drilled}");
}

#[test]
fn wrong_uses_of_a_drill_are_refused() {
    let world = World::with_repository();
    let source = world.source();
    run(&world, ["drill", "--snapshot", "newest"]).ends_with(2);
    run(&world, ["drill", "--snapshot", "00", "--job", "x"]).ends_with(2);
    run(&world, ["create", source.to_str().unwrap()]).succeeds();
    run(&world, ["drill", "--sql", "select 1"]).ends_with(2);
    run(&world, ["create", "--command", "echo dump", "--name", "dump.sql"]).succeeds();
    let listed = json(&world, ["snapshots"]).1;
    // Both may be of one instant: which is listed first then depends on their ids.
    let is_dump = |snapshot: &&Value| snapshot["paths"][0] == "/command/dump.sql";
    let command = listed["snapshots"].as_array().unwrap().iter().find(is_dump).unwrap();
    let command = command["short_id"].as_str().unwrap().to_owned();
    let refused = run(&world, ["drill", "--snapshot", &command]).ends_with(2);
    assert!(refused.err.contains("proves nothing"), "{}", refused.err);
    run(&world, ["drill", "--snapshot", &command, "--program", "grep -q dump command/dump.sql"]).succeeds();
}

#[test]
fn a_database_of_sqlite_is_drilled_by_its_counts_and_hashes() {
    let world = World::with_repository();
    let path = world.path().join("app.db");
    let database = Connection::open(&path).unwrap();
    database
        .execute_batch(
            "create table users (id integer primary key, name text); insert into users(name) values ('a'), ('b')",
        )
        .unwrap();
    drop(database);
    let url = format!("sqlite:{}", path.display());
    run(&world, ["create", &url]).succeeds();
    let (code, drilled) = json(&world, ["drill", "--sql", "select count(*) = 2 from users"]);
    assert_eq!(
        (code, &drilled["verdict"], &drilled["level"]),
        (0, &Value::from("passed"), &Value::from(5)),
        "{drilled}"
    );
    assert_eq!(drilled["recovery_point_from"], "manifest");
    assert_eq!(json(&world, ["drill", "--sql", "select count(*) > 2 from users"]).0, 4);
    assert_eq!(leftovers(&world), 0);
}

#[test]
fn a_killed_drill_is_cleaned_up_by_the_next_and_two_at_once_do_not_meet() {
    let world = World::with_snapshot();
    let mut command = world.command();
    command.env("HOME", home(&world)).args(["drill", "--program", "sleep 600"]);
    let mut killed = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    let sleeps = || {
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let ours = format!("{}/backup-drill-", world.path().canonicalize().unwrap().display());
        processes
            .filter(|path| fs::read(path.join("environ")).is_ok_and(|text| contains(&text, ours.as_bytes())))
            .count()
    };
    while sleeps() == 0 && began.elapsed() < Duration::from_secs(180) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(sleeps() > 0, "the question is being asked");
    // Meanwhile another one runs, and leaves this one alone.
    run(&world, ["drill"]).succeeds();
    assert_eq!(leftovers(&world), 1);
    killed.kill().unwrap();
    killed.wait().unwrap();
    // Behind walls what it started dies with it, and without them it goes with the folder.
    let next = run(&world, ["drill"]).succeeds();
    assert!(next.err.contains("left by a drill that was killed"), "{}", next.err);
    assert_eq!(leftovers(&world), 0);
    let began = Instant::now();
    while sleeps() > 0 {
        assert!(began.elapsed() < Duration::from_secs(180), "what it started lives on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[test]
fn evidence_is_signed_verified_and_exported() {
    let world = World::with_snapshot();
    let key = json(&world, ["evidence", "key", "create"]).1;
    let id = key["id"].as_str().unwrap();
    run(&world, ["evidence", "key", "create"]).ends_with(1);
    let inside = world.repository().join("key");
    run(&world, ["evidence", "key", "create", inside.to_str().unwrap()]).ends_with(2);
    for _ in 0..2 {
        let drilled = json(&world, ["drill"]).1;
        assert_eq!(
            (&drilled["evidence"]["signed"], &drilled["evidence"]["chain"]),
            (&Value::from(true), &Value::from(id))
        );
    }
    let repository = world.repository();
    let repository = repository.to_str().unwrap();
    let (code, verified) =
        json(&world, ["evidence", "verify", "-r", repository, "--public-key", key["public_key"].as_str().unwrap()]);
    let chain = &verified["places"][0]["chains"][0];
    assert_eq!((code, &chain["records"]), (0, &Value::from(2)), "{verified}");
    let head = chain["head"].as_str().unwrap().to_owned();

    let shown = json(&world, ["evidence", "show", "2"]).1;
    assert_eq!((&shown["record"]["verdict"], &shown["record"]["sequence"]), (&Value::from("passed"), &Value::from(2)));
    assert!(!shown["record"]["not_tested"].as_array().unwrap().is_empty());
    run(&world, ["evidence", "show", "7"]).ends_with(2);
    run(&world, ["evidence", "export", "audit"]).succeeds();
    assert!(world.path().join("audit/verify.sh").exists());
    run(&world, ["evidence", "export", "audit"]).ends_with(2);

    // The end is cut off: this machine remembers it, and so does whoever noted it down.
    let records = repository_records(&world);
    fs::remove_file(records.last().unwrap()).unwrap();
    let (code, verified) = json(&world, ["evidence", "verify", "-r", repository]);
    assert_eq!(code, 1, "{verified}");
    fs::remove_dir_all(home(&world).join(".local")).unwrap();
    run(&world, ["evidence", "verify", "-r", repository]).succeeds();
    let found = run(&world, ["evidence", "verify", "-r", repository, "--expect-head", &head]).ends_with(1);
    assert!(found.out.contains("is cut"), "{}", found.out);
}

/// The records of evidence in the repository, in their order.
fn repository_records(world: &World) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![world.repository().join("ext/evidence")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    assert!(files.iter().all(|path| !is_readable(path)), "records are sealed");
    files
}

fn is_readable(path: &Path) -> bool {
    contains(&fs::read(path).unwrap(), b"sequence")
}
