//! What must not pass, and what must not be left behind: the same cases for every engine.
//!
//! | case | files | PostgreSQL | MySQL, MariaDB | MongoDB | Redis | SQLite |
//! |---|---|---|---|---|---|---|
//! | a flipped bit in a pack, a missing pack | f | n | n | n | n | n |
//! | a dump cut at 5 % and at 95 %, an empty dump | - | s | s | s | s | s |
//! | a row missing, a row altered | f | s | s | s | s | s |
//! | an index missing | - | s | s | s | - | s |
//! | a sequence behind | - | s | - | - | - | s |
//! | `not_run`: another major version | - | s | s | s | s | - |
//! | `not_run`: an extension missing | - | s | - | - | - | - |
//! | `not_run`: a disk too small, before anything starts | f | s | s | s | s | s |
//! | `not_run`: a disk that fills up on the way | f | d | d | d | - | d |
//! | `not_run`: the wrong passphrase | c | c | c | c | c | c |
//! | a hostile dump gets nowhere | h | s | s | s | - | s |
//! | killed: the next drill cleans up processes and folders | c | n | n | n | n | n |
//! | as root and as a plain user | f | s | n | n | n | f |
//! | two drills at once on one host | c | n | n | n | n | n |
//!
//! *n*: here; *d*: in `full_disk.rs`; *s*: in the engine's own `sandbox_….rs` (the programs of a hostile dump of PostgreSQL in
//! `sandbox_hostile.rs`); *f*: in `tests/drills/`, and everything there and of SQLite starts nothing that a uid could
//! change; *c*: in the tests of the program, `drills.rs`, because the case ends before an engine is known; *h*: in
//! `tests/hostile_repository.rs`. A dash: there is no such case. MySQL counts on from the highest number by itself, MongoDB
//! and Redis have no sequences, and Redis has no indexes. Nothing that Redis restores is run: functions are registered
//! and not called, which `sandbox_redis.rs` asks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::contracts::{CheckResult, Level, Sandbox};
use backup_core::drill::{DrillOutcome, Verdict};
use backup_core::testing::copy_program;
use backup_sources::databases::manifest::Manifest;
use backup_sources::databases::mongodb::{MongodbDump, MongodbSandbox};
use backup_sources::databases::mysql::MysqlSandbox;
use backup_sources::databases::postgres::{Folders, PostgresSandbox};
use backup_sources::databases::redis::RedisSandbox;
use backup_sources::databases::sqlite::SqliteSandbox;
use backup_sources::databases::url::Engine;
use backup_sources::sandbox::{SandboxPlace, remove_leftovers};

use crate::drill::{LITTLE, left};
use crate::mysql_server::Flavour;
use crate::postgres_server::{NOBODY, as_nobody, is_root, open_folder, programs};
use crate::repository::Repo;
use crate::{mongodb_server, mysql_server, postgres_server, redis, sqlite};

/// A dump, and what is known of it before it is restored.
pub(crate) struct Dumped {
    engine: Engine,
    repo: Repo,
    folder: &'static str,
    dump: MongodbDump,
}

impl Dumped {
    pub(crate) fn new(engine: Engine, repo: Repo, folder: &'static str) -> Self {
        let beforehand = if engine == Engine::Mongodb { crate::mongodb::beforehand(&repo, folder) } else { Vec::new() };
        let dump = MongodbDump { manifest: repo.manifest(folder), beforehand };
        Self { engine, repo, folder, dump }
    }

    pub(crate) fn drill(&self, parent: &Path) -> DrillOutcome {
        self.drill_in(self.sandbox(parent))
    }

    pub(crate) fn drill_in(&self, made: Box<dyn Sandbox>) -> DrillOutcome {
        self.repo.drill(self.folder, made, &self.dump.manifest.report)
    }

    pub(crate) fn sandbox(&self, parent: &Path) -> Box<dyn Sandbox> {
        sandbox(self.engine, self.dump.clone(), parent)
    }
}

/// The sandbox of an engine, with the programs that the tests have.
fn sandbox(engine: Engine, dump: MongodbDump, parent: &Path) -> Box<dyn Sandbox> {
    let place = SandboxPlace::new(parent);
    let named = |name: &str| {
        let program = PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} names no program")));
        vec![program.parent().unwrap().to_owned()]
    };
    match engine {
        Engine::Postgres => {
            let folders = Folders { only: Some(programs(15)), also: Vec::new() };
            Box::new(PostgresSandbox::new(dump.manifest, place, folders))
        }
        Engine::Mysql => {
            let flavour = &Flavour::all()[0];
            let programs = vec![flavour.programs(), flavour.server.parent().unwrap().to_owned()];
            Box::new(MysqlSandbox::new(dump.manifest, place, programs))
        }
        Engine::Mongodb => Box::new(MongodbSandbox::new(dump, place, named("BACKUP_TEST_FERRETDB"))),
        Engine::Redis => {
            let programs = named("BACKUP_TEST_REDIS_SERVER");
            Box::new(RedisSandbox::new(dump.manifest, place, programs, Arc::new(SystemClock)))
        }
        Engine::Sqlite => Box::new(SqliteSandbox::new(parent)),
        other => panic!("no sandbox for {other:?}"),
    }
}

/// Two drills at once pass; a damaged store fails them; a killed one is cleaned up by the next.
fn every_case_holds(dumped: &Dumped) {
    let parent = open_folder();
    two_at_once_do_not_meet(dumped, parent.path());
    a_damaged_store_fails(dumped, parent.path());
    a_killed_one_is_cleaned_up(dumped, parent.path());
}

fn two_at_once_do_not_meet(dumped: &Dumped, parent: &Path) {
    let drill = || dumped.drill(parent);
    let (one, other) = thread::scope(|scope| {
        let other = scope.spawn(drill);
        (drill(), other.join().unwrap())
    });
    for outcome in [one, other] {
        assert_eq!((&outcome.verdict, outcome.level), (&Verdict::Passed, Some(Level::Examined)), "{outcome:#?}");
    }
    assert_eq!(left(parent), Vec::<String>::new());
}

fn a_damaged_store_fails(dumped: &Dumped, parent: &Path) {
    let (sink, key) = (dumped.repo.sink(), dumped.repo.pack());
    let whole = sink.content(&key).unwrap();
    let mut flipped = whole.to_vec();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    sink.replace(key.clone(), flipped);
    let outcome = dumped.drill(parent);
    assert_eq!((outcome.verdict.word(), outcome.level), ("failed", Some(Level::Present)), "{outcome:#?}");
    let reason = outcome.verdict.reason().unwrap();
    // Not what the engine made of it: that is a consequence.
    assert!(reason.starts_with("entries not restored: ") && reason.contains("damaged"), "{outcome:#?}");

    sink.remove(&key);
    let outcome = dumped.drill(parent);
    assert_eq!((outcome.verdict.word(), outcome.level), ("failed", None), "{outcome:#?}");
    let failed: Vec<_> = outcome.checks.iter().filter(|check| check.result == CheckResult::Failed).collect();
    assert!(failed.len() == 1 && failed[0].id == "blobs not in the store", "{failed:?}");
    assert!(outcome.verdict.reason().unwrap().contains(key.as_str()) && outcome.sandbox.is_none(), "{outcome:#?}");
    sink.replace(key, whole);
    assert_eq!(left(parent), Vec::<String>::new());
}

/// What a drill in a process of its own starts that is killed: the variables that tell it what.
const HELD: &str = "BACKUP_TEST_HELD";
const HELD_ENGINE: &str = "BACKUP_TEST_HELD_ENGINE";

fn a_killed_one_is_cleaned_up(dumped: &Dumped, parent: &Path) {
    let folder = open_folder();
    fs::write(folder.path().join("manifest"), dumped.dump.manifest.to_bytes().unwrap()).unwrap();
    let mut held = Command::new(std::env::current_exe().unwrap());
    held.args(["--exact", "negative::a_drill_is_held_until_it_is_killed"]);
    held.env(HELD, folder.path()).env(HELD_ENGINE, dumped.engine.name()).env("BACKUP_TEST_HELD_IN", parent);
    let mut held = held.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while !folder.path().join("started").exists() {
        let is_well = held.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(180);
        assert!(is_well, "it does not start");
        thread::sleep(Duration::from_millis(20));
    }
    let name = left(parent).pop().unwrap();
    let has_server = dumped.engine != Engine::Sqlite;
    assert_eq!(processes_of(&name) > 0, has_server, "the server runs");
    assert!(remove_leftovers(parent).unwrap().is_empty(), "a living drill is left alone");
    held.kill().unwrap();
    held.wait().unwrap();
    let found = remove_leftovers(parent).unwrap();
    assert!(found.len() == 1 && found[0].removed.is_ok(), "{found:?}");
    assert_eq!((left(parent), processes_of(&name)), (vec![], 0));
}

/// Started by [`a_killed_one_is_cleaned_up`] in a process of its own; without its variables there is nothing to hold.
#[test]
fn a_drill_is_held_until_it_is_killed() {
    let Some(folder) = std::env::var_os(HELD) else { return };
    let folder = Path::new(&folder);
    let manifest = Manifest::read(fs::File::open(folder.join("manifest")).unwrap()).unwrap();
    let engines = [Engine::Postgres, Engine::Mysql, Engine::Mongodb, Engine::Redis, Engine::Sqlite];
    let name = std::env::var(HELD_ENGINE).unwrap();
    let engine = engines.into_iter().find(|engine| engine.name() == name).unwrap();
    let parent = PathBuf::from(std::env::var_os("BACKUP_TEST_HELD_IN").unwrap());
    let mut made = sandbox(engine, MongodbDump { manifest, beforehand: Vec::new() }, &parent);
    // On a thread that ends: the server must not end with it.
    let made = thread::spawn(move || made.start(LITTLE, &Cancel::new()).map(|()| made)).join().unwrap();
    let _made = made.unwrap();
    thread::sleep(Duration::from_millis(200));
    fs::write(folder.join("started"), "").unwrap();
    thread::sleep(Duration::from_secs(600));
}

/// How many processes have a path or a mark of this drill.
fn processes_of(name: &str) -> usize {
    let bears = |path: &Path| {
        ["environ", "cmdline"]
            .iter()
            .any(|file| fs::read(path.join(file)).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(name)))
    };
    fs::read_dir("/proc").unwrap().filter(|entry| bears(&entry.as_ref().unwrap().path())).count()
}

#[test]
#[ignore = "needs postgres-15"]
fn every_case_holds_for_postgresql() {
    let (server, repo) = (postgres_server::Server::new(), Repo::new());
    server.database(
        "app",
        "CREATE TABLE t (id serial PRIMARY KEY, v text); INSERT INTO t (v) SELECT md5(n::text) FROM generate_series(1, 2000) n",
    );
    server.back_up(&repo, "app");
    every_case_holds(&Dumped::new(Engine::Postgres, repo, "/postgres/app"));
}

#[test]
#[ignore = "needs mariadbd"]
fn every_case_holds_for_mariadb() {
    let (server, repo) = (mysql_server::Server::new(&Flavour::all()[0]), Repo::new());
    server.sql("mysql", "CREATE DATABASE app");
    server.sql(
        "app",
        "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v TEXT);
         INSERT INTO t (v) SELECT MD5(seq) FROM (WITH RECURSIVE s(seq) AS
         (SELECT 1 UNION ALL SELECT seq + 1 FROM s WHERE seq < 900) SELECT seq FROM s) numbers",
    );
    repo.back_up(&mut server.source("app")).unwrap();
    every_case_holds(&Dumped::new(Engine::Mysql, repo, "/mysql/app"));
}

#[test]
#[ignore = "needs ferretdb"]
fn every_case_holds_for_mongodb() {
    let (server, repo) = (mongodb_server::Server::new(mongodb_server::Kind::Ferret), Repo::new());
    let documents: Vec<_> = (0..2_000).map(|n| ::mongodb::bson::doc! {"_id": n, "v": format!("{n:032}")}).collect();
    server.insert("app", "t", &documents);
    repo.back_up(&mut crate::mongodb::source(&server, "app")).unwrap();
    every_case_holds(&Dumped::new(Engine::Mongodb, repo, "/mongodb/app"));
}

#[test]
#[ignore = "needs redis-server"]
fn every_case_holds_for_redis() {
    let (server, repo) = (redis::Server::with_zoo(&[]), Repo::new());
    crate::sandbox_redis::back_up(&server, &repo);
    every_case_holds(&Dumped::new(Engine::Redis, repo, "/redis/r"));
}

#[test]
fn every_case_holds_for_sqlite() {
    let (database, repo) = (sqlite::Database::new("wal", 500), Repo::new());
    repo.back_up(&mut database.source()).unwrap();
    every_case_holds(&Dumped::new(Engine::Sqlite, repo, "/sqlite/app.db"));
}

#[test]
#[ignore = "needs mariadbd, ferretdb, redis-server, valkey-server"]
fn a_plain_user_drills_as_root_does() {
    if !is_root() {
        // All the other tests are this one.
        return;
    }
    let folder = open_folder();
    std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
    let program = folder.path().join("tests");
    copy_program(&std::env::current_exe().unwrap(), &program);
    let mut tests = as_nobody(&program, folder.path());
    // Where others cannot look, as in root's home, their programs cannot be run.
    for (variable, above) in [
        ("BACKUP_TEST_MARIADBD", 3),
        ("BACKUP_TEST_FERRETDB", 2),
        ("BACKUP_TEST_REDIS_SERVER", 3),
        ("BACKUP_TEST_VALKEY_SERVER", 3),
    ] {
        let path = PathBuf::from(std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} names no program")));
        let tree = path.ancestors().nth(above).unwrap();
        let copied = folder.path().join(variable);
        let made = Command::new("cp").args(["-r", "--"]).arg(tree).arg(&copied).status().unwrap();
        let opened = Command::new("chmod").args(["-R", "a+rX"]).arg(&copied).status().unwrap();
        assert!(made.success() && opened.success());
        tests.env(variable, copied.join(path.strip_prefix(tree).unwrap()));
    }
    tests.env_remove("BACKUP_TEST_MYSQLD");
    tests.args(["--ignored", "sandbox_mysql::a_good", "sandbox_redis::a_good", "sandbox_mongodb::a_good"]);
    let ended = tests.env("TMPDIR", folder.path()).env("HOME", folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("3 passed"), "{said}");
}
