//! Each engine's target keeps the contract of those that load a dump: all of it, or an error.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use ::mongodb::bson::doc;
use backup_core::contracts::Target;
use backup_core::testing::load_suite;
use backup_sources::databases::mongodb::MongodbTarget;
use backup_sources::databases::mysql::{self, MysqlTarget};
use backup_sources::databases::postgres::{
    DumpOptions, Existing, LoadOptions, OwnSettings, Parallel, PostgresSource, PostgresTarget, Readers, Roles,
};
use backup_sources::databases::redis::{self, RedisTarget};
use backup_sources::databases::sqlite::{self, SqliteTarget, Users};
use backup_sources::files::SpaceCheck;
use tempfile::tempdir;

use crate::mysql_server::Flavour;
use crate::repository::{Repo, words};
use crate::{mongodb_server, mysql_server, postgres_server, redis as redis_server, sqlite as sqlite_file};

/// The files of a folder of the newest snapshot, and of the folder `inner` in it.
fn files(repo: &Repo, folder: &str, inner: Option<&str>) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for name in repo.names(folder) {
        match inner == Some(name.as_str()) {
            true => {
                let of_inner = repo.names(&format!("{folder}/{name}")).into_iter();
                files.extend(of_inner.map(|file| (format!("{name}/{file}"), Vec::new())));
            }
            false => files.push((name, Vec::new())),
        }
    }
    files.iter_mut().for_each(|(name, bytes)| *bytes = repo.file(&format!("{folder}/{name}")));
    files
}

fn boxed<T: Target + 'static>(made: backup_core::Result<T>) -> Result<Box<dyn Target>, String> {
    made.map(|target| Box::new(target) as Box<dyn Target>).map_err(|error| words(&error))
}

#[test]
#[ignore = "needs postgres-15"]
fn a_database_of_postgresql_keeps_the_contract_of_a_target() {
    let server = postgres_server::Server::new();
    // One table that is read out of the repository as it is loaded, one that is laid down, one between them that is empty.
    server.database(
        "app",
        "CREATE TABLE t AS SELECT n, repeat(md5(n::text), 2) FROM generate_series(1, 30000) n; CREATE TABLE s (); \
         CREATE TABLE r AS SELECT n FROM generate_series(1, 500) n; CREATE ROLE r",
    );
    let spool = tempdir().unwrap();
    let parallel = Parallel { jobs: NonZeroUsize::new(2).unwrap(), spool: spool.path().to_owned() };
    for (way, parallel) in [("streamed", None), ("parallel", Some(parallel))] {
        let repo = Repo::new();
        let inner = parallel.is_some().then_some("dump");
        let options = DumpOptions { parallel, ..DumpOptions::default() };
        repo.back_up(&mut PostgresSource::connect(&server.address("postgres"), "app", &options).unwrap()).unwrap();
        let manifest = repo.manifest("/postgres/app");
        let make = |place: usize| {
            let options = LoadOptions {
                existing: Existing::Refused,
                roles: Roles::Kept,
                schemas: Vec::new(),
                tables: Vec::new(),
                own: OwnSettings::Restored,
                jobs: None,
                spool: spool.path().to_owned(),
                space: SpaceCheck::Refuse,
                readers: Readers::ThisUser,
            };
            let name = format!("{way}_{place}");
            boxed(PostgresTarget::connect(&server.address("postgres"), &name, manifest.clone(), options))
        };
        load_suite(make, &files(&repo, "/postgres/app", inner));
        assert_eq!(server.sql(&format!("{way}_2"), "SELECT count(*) FROM t"), "30000");
        assert_eq!(server.sql(&format!("{way}_2"), "SELECT count(*) FROM r"), "500");
    }
    assert_eq!(spool.path().read_dir().unwrap().count(), 0);
}

#[test]
#[ignore = "needs mariadbd"]
fn a_database_of_mysql_keeps_the_contract_of_a_target() {
    for flavour in Flavour::all() {
        let (server, repo) = (mysql_server::Server::new(&flavour), Repo::new());
        server.sql("mysql", "CREATE DATABASE app");
        server.sql("app", "CREATE TABLE a (n INT); INSERT INTO a VALUES (1), (2); CREATE TABLE z (n INT)");
        repo.back_up(&mut server.source("app")).unwrap();
        let make = |place: usize| {
            let settings = server.settings(&format!("place_{place}"));
            boxed(MysqlTarget::connect(&settings, mysql::Existing::Refuse, None))
        };
        load_suite(make, &files(&repo, "/mysql/app", None));
        assert_eq!(server.sql("place_2", "SELECT COUNT(*) FROM a").trim(), "2");
    }
}

#[test]
#[ignore = "needs ferretdb"]
fn a_database_of_mongodb_keeps_the_contract_of_a_target() {
    for kind in mongodb_server::Kind::all() {
        let (server, repo) = (mongodb_server::Server::new(kind), Repo::new());
        let documents: Vec<_> = (0..300).map(|n| doc! {"_id": n, "text": "x".repeat(100)}).collect();
        server.insert("app", "a", &documents);
        server.insert("app", "b", &documents[..1]);
        repo.back_up(&mut crate::mongodb::source(&server, "app")).unwrap();
        let (manifest, known) = (repo.manifest("/mongodb/app"), crate::mongodb::beforehand(&repo, "/mongodb/app"));
        let make = |place: usize| {
            let name = format!("place_{place}");
            let settings = server.settings(&name);
            boxed(MongodbTarget::connect(&settings, &name, &known, manifest.clone(), Default::default()))
        };
        load_suite(make, &files(&repo, "/mongodb/app", None));
        assert_eq!(server.count("place_2", "a"), 300);
    }
}

#[test]
#[ignore = "needs redis-server"]
fn a_server_of_redis_keeps_the_contract_of_a_target() {
    let (server, repo) = (redis_server::Server::with_zoo(&[]), Repo::new());
    crate::sandbox_redis::back_up(&server, &repo);
    let places = RefCell::new(BTreeMap::new());
    let make = |place: usize| {
        let mut places = places.borrow_mut();
        let server = places.entry(place).or_insert_with(|| redis_server::Server::new(&[]));
        boxed(RedisTarget::connect(&server.settings(), redis::Existing::Refuse))
    };
    load_suite(make, &files(&repo, "/redis/r", None));
    assert!(places.borrow()[&2].cli("DBSIZE\n").trim() != "0");
}

#[test]
fn a_database_of_sqlite_keeps_the_contract_of_a_target() {
    let (database, repo, folder) = (sqlite_file::Database::new("wal", 300), Repo::new(), tempdir().unwrap());
    repo.back_up(&mut database.source()).unwrap();
    let make = |place: usize| {
        let path = folder.path().join(format!("{place}.db"));
        boxed(Ok(SqliteTarget::new(path, sqlite::Existing::Refuse, Users::Refuse)))
    };
    load_suite(make, &files(&repo, "/sqlite/app.db", None));
    assert!(folder.path().join("2.db").is_file());
}
