//! A disk that is really too small, or really fills up, under a drill of each engine that writes to disk, and under a restore
//! of PostgreSQL, which copies the dump first.
//!
//! Redis holds what it restores in memory: a disk that fills up under it changes nothing.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use backup_core::contracts::CheckResult;
use backup_core::drill::DrillOutcome;
use backup_sources::databases::postgres::{Existing, LoadOptions, OwnSettings, PostgresTarget, Readers, Roles};
use backup_sources::databases::url::Engine;
use backup_sources::files::SpaceCheck;

use crate::mysql_server::Flavour;
use crate::negative::Dumped;
use crate::repository::{Repo, words};
use crate::small_disk::{Crowded, SmallDisk, When, fill_up};
use crate::{mongodb_server, mysql_server, postgres_server, sqlite};

/// Where a server and some megabytes fit.
const ENOUGH_MEGABYTES: u64 = 400;

/// Another program, which takes what is left as soon as somebody writes.
fn take_the_rest_when_somebody_writes(disk: &Path) {
    let free = || rustix::fs::statvfs(disk).unwrap().f_bavail;
    let (before, began) = (free(), Instant::now());
    while free() == before && began.elapsed() < Duration::from_secs(60) {
        thread::yield_now();
    }
    fill_up(disk, 0);
}

/// Too small a disk is found before anything is started; one that fills up is no fault of the backup.
fn every_full_disk_is_told(dumped: &Dumped, fillings: &[(When, u64)]) {
    let disk = SmallDisk::new(200);
    let outcome = dumped.drill(disk.path());
    is_for_want_of_space(&outcome, &disk);
    assert!(outcome.sandbox.is_none(), "nothing was started: {outcome:#?}");
    drop(disk);
    for &(when, left_bytes) in fillings {
        let disk = SmallDisk::new(ENOUGH_MEGABYTES);
        let inner = dumped.sandbox(disk.path());
        let outcome = dumped.drill_in(Box::new(Crowded { inner, disk: disk.path().to_owned(), when, left_bytes }));
        is_for_want_of_space(&outcome, &disk);
        assert!(outcome.sandbox.is_some(), "it filled up on the way: {outcome:#?}");
    }
}

#[track_caller]
fn is_for_want_of_space(outcome: &DrillOutcome, disk: &SmallDisk) {
    assert_eq!(outcome.verdict.word(), "not_run", "{outcome:#?}");
    assert!(outcome.verdict.reason().unwrap().starts_with("disk: "), "{outcome:#?}");
    assert!(outcome.checks.iter().all(|check| check.result != CheckResult::Failed), "{outcome:#?}");
    assert_eq!(disk.left(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root and mount, postgres-15"]
fn a_full_disk_is_told_for_postgresql() {
    let (server, repo) = (postgres_server::Server::new(), Repo::new());
    let rows = "CREATE TABLE t AS SELECT n AS id, repeat(md5(n::text), 8) AS v FROM generate_series(1, 60000) n; \
                ALTER TABLE t ADD PRIMARY KEY (id)";
    server.database("app", rows);
    server.back_up(&repo, "app");
    let dumped = Dumped::new(Engine::Postgres, repo, "/postgres/app");
    // There is no room when the server has started, none when something is written, and some, but not for all rows.
    every_full_disk_is_told(&dumped, &[(When::Started, 1_000_000), (When::Writing, 0), (When::Writing, 12_000_000)]);
}

#[test]
#[ignore = "needs root and mount, mariadbd"]
fn a_full_disk_is_told_for_mariadb() {
    let (server, repo) = (mysql_server::Server::new(&Flavour::all()[0]), Repo::new());
    server.sql("mysql", "CREATE DATABASE app");
    server.sql(
        "app",
        "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v TEXT);
         INSERT INTO t (v) SELECT REPEAT(MD5(seq), 32) FROM seq_1_to_20000",
    );
    repo.back_up(&mut server.source("app")).unwrap();
    every_full_disk_is_told(&Dumped::new(Engine::Mysql, repo, "/mysql/app"), &[(When::Started, 4_000_000)]);
}

#[test]
#[ignore = "needs root and mount, ferretdb"]
fn a_full_disk_is_told_for_mongodb() {
    let (server, repo) = (mongodb_server::Server::new(mongodb_server::Kind::Ferret), Repo::new());
    let text = "x".repeat(1_000);
    let documents: Vec<_> = (0..10_000).map(|n| ::mongodb::bson::doc! {"_id": n, "v": format!("{n}{text}")}).collect();
    server.insert("app", "t", &documents);
    repo.back_up(&mut crate::mongodb::source(&server, "app")).unwrap();
    every_full_disk_is_told(&Dumped::new(Engine::Mongodb, repo, "/mongodb/app"), &[(When::Started, 2_000_000)]);
}

#[test]
#[ignore = "needs root and mount"]
fn a_full_disk_is_told_for_sqlite() {
    let (database, repo) = (sqlite::Database::new("wal", 5_000), Repo::new());
    repo.back_up(&mut database.source()).unwrap();
    let dumped = Dumped::new(Engine::Sqlite, repo, "/sqlite/app.db");
    every_full_disk_is_told(&dumped, &[(When::Started, 16_384), (When::Writing, 0), (When::Writing, 16_384)]);
}

/// The copy of the dump that a restore makes: no room is told before anything else, and a disk that fills up on the way
/// costs neither the database that was to be replaced nor the disk.
/// How a whole database is loaded, with a small disk for what is laid down.
fn options(disk: &SmallDisk) -> LoadOptions {
    LoadOptions {
        existing: Existing::Refused,
        roles: Roles::Kept,
        schemas: Vec::new(),
        tables: Vec::new(),
        own: OwnSettings::Restored,
        jobs: None,
        spool: disk.path().to_owned(),
        space: SpaceCheck::Refuse,
        readers: Readers::ThisUser,
    }
}

#[test]
#[ignore = "needs root and mount, postgres-15"]
fn a_full_disk_for_what_is_laid_down_of_a_dump_costs_a_database_nothing() {
    let (server, repo) = (postgres_server::Server::new(), Repo::new());
    // Each too small to be read as it is loaded, together more than there is room for.
    let small = (0..8).map(|table| {
        format!(
            "CREATE TABLE t{table} AS SELECT n AS id, repeat(md5(n::text), 8) AS v FROM generate_series(1, 2500) n;"
        )
    });
    server.database("app", &small.collect::<String>());
    let manifest = server.back_up(&repo, "app");
    for (space, told) in [(SpaceCheck::Refuse, "space"), (SpaceCheck::Skip, "No space left")] {
        let disk = SmallDisk::new(3);
        for (database, existing) in [("app", Existing::Replaced), ("new", Existing::Refused)] {
            let options = LoadOptions { existing, space, ..options(&disk) };
            let address = server.address("postgres");
            let target = PostgresTarget::connect(&address, database, manifest.clone(), options).unwrap();
            let error = words(&repo.restore("/postgres/app", &target).unwrap_err());
            assert!(error.contains(told), "{error}");
            drop(target);
            assert_eq!(disk.left(), Vec::<String>::new());
        }
        let names = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE NOT datistemplate";
        assert_eq!(server.sql("postgres", names), "app postgres");
        assert_eq!(server.sql("app", "SELECT count(*) FROM t7"), "2500");
    }
}

#[test]
#[ignore = "needs root and mount, postgres-15"]
fn a_table_needs_no_room_on_this_machine_to_be_restored() {
    let (server, repo) = (postgres_server::Server::new(), Repo::new());
    let rows = "CREATE TABLE t AS SELECT n AS id, repeat(md5(n::text), 8) AS v FROM generate_series(1, 20000) n";
    server.database("app", rows);
    let manifest = server.back_up(&repo, "app");
    let disk = SmallDisk::new(3);
    let target = PostgresTarget::connect(&server.address("postgres"), "new", manifest, options(&disk)).unwrap();
    assert!(repo.file("/postgres/app/dump").len() > 5_000_000);
    repo.restore("/postgres/app", &target).unwrap();
    assert_eq!(server.sql("new", "SELECT count(*) FROM t"), "20000");
}

#[test]
#[ignore = "needs root and mount"]
fn a_disk_that_fills_up_under_the_copy_of_a_database_of_sqlite_makes_no_snapshot() {
    // About 24 MB, in a mode in which it is copied before it is read.
    let database = sqlite::Database::new("delete", 50_000);
    let bytes = database
        .connect()
        .query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [], |row| {
            row.get::<_, u64>(0)
        })
        .unwrap();
    let repo = Repo::new();
    let fail = |disk: &SmallDisk| repo.fail_to_back_up(&mut database.source_by(disk.path()));
    // Too small from the start: nothing is written.
    let disk = SmallDisk::new(bytes / 1_000_000 - 2);
    let told = fail(&disk);
    assert!(told.contains("no copy can be made in") && told.contains("are free"), "{told}");
    // Large enough, until another program comes as soon as the copy has begun.
    let disk = SmallDisk::new(bytes / 1_000_000 + 2);
    let told = thread::scope(|scope| {
        let path = disk.path();
        scope.spawn(move || take_the_rest_when_somebody_writes(path));
        fail(&disk)
    });
    assert!(told.contains("full"), "{told}");
    assert_eq!((repo.snapshots(), disk.left()), (0, Vec::new()));
}
