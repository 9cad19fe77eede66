//! The sandbox of Redis and Valkey: a good snapshot passes, each kind of damage fails for its own reason, keys that expire are no
//! damage, and what cannot run says so.

use std::sync::Arc;
use std::thread;

use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::contracts::{Answer, Question, Sandbox};
use backup_sources::databases::manifest::Manifest;
use backup_sources::databases::redis::{RedisSandbox, RedisSource};
use backup_sources::sandbox::{Namespaces, SandboxPlace};
use tempfile::TempDir;

use crate::drill::{LITTLE, TOO_MUCH, examined, failed, left, load, not_run, restored};
use crate::postgres_server::open_folder;
use crate::redis::{Kind, Server};
use crate::repository::Repo;

fn sandbox(server: &Server, manifest: &Manifest, parent: &TempDir, namespaces: Namespaces) -> Box<dyn Sandbox> {
    // Beside a server that is not installed are its libraries' places, below a folder of root's.
    let place = SandboxPlace { namespaces, ..SandboxPlace::new(parent.path()) };
    let programs = vec![server.program.parent().unwrap().to_owned()];
    Box::new(RedisSandbox::new(manifest.clone(), place, programs, Arc::new(SystemClock)))
}

pub(crate) fn back_up(server: &Server, repo: &Repo) -> Manifest {
    let clock: Arc<dyn backup_core::clock::Clock> = Arc::new(SystemClock);
    let settings = backup_sources::databases::redis::RedisSettings { name: Some("r".into()), ..server.settings() };
    repo.back_up(&mut RedisSource::connect(&settings, &clock).unwrap()).unwrap();
    repo.manifest("/redis/r")
}

fn asked(sandbox: &mut dyn Sandbox, words: &[&str]) -> Result<Option<String>, String> {
    let question = Question::Engine(words.iter().map(|word| (*word).to_owned()).collect());
    sandbox.ask(&question, &Cancel::new()).map(|Answer(answer)| answer).map_err(|error| error.to_string())
}

#[test]
#[ignore = "needs redis-server, valkey-server"]
fn a_good_snapshot_passes_and_is_asked() {
    for kind in Kind::BOTH {
        let (server, repo, parent) = (Server::filled(kind, &[]), Repo::new(), open_folder());
        let manifest = back_up(&server, &repo);
        let mut sandbox = restored(sandbox(&server, &manifest, &parent, Namespaces::WherePossible), &repo, "/redis/r");
        let checks = examined(&mut *sandbox, &manifest.report);
        assert_eq!(failed(&checks), Vec::<&str>::new(), "{checks:#?}");
        let ids: Vec<_> = checks.iter().map(|check| check.id.as_str()).collect();
        assert!(ids.contains(&"database 3 content") && ids.contains(&"function library value"), "{ids:?}");
        assert_eq!(asked(&mut *sandbox, &["GET", "text"]).unwrap().as_deref(), Some("plain"));
        assert_eq!(asked(&mut *sandbox, &["EXISTS", "nothing"]).unwrap().as_deref(), Some("0"));
        assert_eq!(asked(&mut *sandbox, &["GET", "nothing"]).unwrap(), None);
        for wrong in [&["SET", "text", "x"][..], &["FLUSHALL"], &["CONFIG", "GET", "dir"], &["FCALL", "answer", "0"]] {
            assert!(asked(&mut *sandbox, wrong).unwrap_err().contains("NOPERM"), "{wrong:?}");
        }
        let engine = sandbox.facts().engine.unwrap();
        assert!(engine.name == kind.name() && engine.version.starts_with(kind.major()), "{engine:?}");
        sandbox.remove().unwrap();
        assert_eq!(left(parent.path()), Vec::<String>::new());
    }
}

#[test]
#[ignore = "needs redis-server"]
fn a_snapshot_that_is_cut_off_or_empty_is_not_restored() {
    let (server, repo, parent) = (Server::with_zoo(&[]), Repo::new(), open_folder());
    let manifest = back_up(&server, &repo);
    let dump = repo.file("/redis/r/dump.rdb");
    for length in [dump.len() / 20, dump.len() * 19 / 20, 0] {
        let mut made = sandbox(&server, &manifest, &parent, Namespaces::WherePossible);
        let error = load(&mut *made, &[("dump.rdb", &dump[..length])]).unwrap_err();
        assert!(error.reason.contains("end"), "{length}: {error}");
    }
}

#[test]
#[ignore = "needs redis-server"]
fn a_key_that_is_missing_altered_or_besides_fails_and_one_that_expired_does_not() {
    let (server, parent) = (Server::with_zoo(&[]), open_folder());
    server.cli("SET short-lived x EX 100000\n");
    let original = back_up(&server, &Repo::new()).report;
    // Its time is over, and not before the backup is.
    server.cli("PEXPIRE short-lived 1\n");
    while server.cli("EXISTS short-lived\n").trim() != "0" {
        thread::yield_now();
    }
    for (command, undo, expected) in [
        ("PING", "PING", &[][..]),
        ("DEL number", "SET number 12345", &["database 0 count", "database 0 content"]),
        ("SET number 12346", "SET number 12345", &["database 0 content"]),
        // A key has expired, and what is in the others is compared all the same.
        ("LSET list 500 other", "LSET list 500 \"element 501\"", &["elements 0 value"]),
        ("SADD set more", "SREM set more", &["elements 0 value"]),
        ("SREM integers 3", "SADD integers 3", &["elements 0 value"]),
        ("HSET packed_hash field more", "HSET packed_hash field value", &["elements 0 value"]),
        ("HSET hash \"field 7\" 8", "HSET hash \"field 7\" 7", &["elements 0 value"]),
        ("ZINCRBY zset 1 \"member 7\"", "ZINCRBY zset -1 \"member 7\"", &["elements 0 value"]),
        ("ZADD packed_zset 2.5 a", "ZADD packed_zset 1.5 a", &["elements 0 value"]),
        ("SET more 1", "DEL more", &["database 0 content"]),
        ("FUNCTION FLUSH", "PING", &["function library"]),
        // Last: what was taken out of a stream does not come back as it was.
        ("XDEL stream 9-1", "PING", &["elements 0 value", "function library"]),
    ] {
        server.cli(&format!("{command}\n"));
        let repo = Repo::new();
        let altered = back_up(&server, &repo);
        server.cli(&format!("{undo}\n"));
        let mut made = sandbox(&server, &altered, &parent, Namespaces::WherePossible);
        made = restored(made, &repo, "/redis/r");
        assert_eq!(failed(&examined(&mut *made, &original)), expected, "{command}");
    }
    // And where none has, the content.
    let original = back_up(&server, &Repo::new()).report;
    server.cli("SET number 12346\n");
    let repo = Repo::new();
    let altered = back_up(&server, &repo);
    let mut made = restored(sandbox(&server, &altered, &parent, Namespaces::WherePossible), &repo, "/redis/r");
    assert_eq!(failed(&examined(&mut *made, &original)), ["database 0 content"]);
    // The same elements in other encodings are the same.
    server.cli(
        "SET number 12345\nCONFIG SET hash-max-listpack-entries 0\nCONFIG SET zset-max-listpack-entries 0\n\
        CONFIG SET set-max-intset-entries 0\nCONFIG SET list-max-listpack-size 3\nDEBUG RELOAD\n",
    );
    let encoded = server.cli("OBJECT ENCODING packed_hash\nOBJECT ENCODING integers\nOBJECT ENCODING packed_zset\n");
    assert_eq!(encoded.split_whitespace().collect::<Vec<_>>(), ["hashtable", "hashtable", "skiplist"]);
    let repo = Repo::new();
    let other = back_up(&server, &repo).report;
    assert_eq!(other.expectations, original.expectations);
}

#[test]
#[ignore = "needs redis-server"]
fn what_cannot_run_here_says_so_and_starts_nothing() {
    let (server, repo, parent) = (Server::new(&[]), Repo::new(), open_folder());
    server.cli("SET a b\n");
    let good = back_up(&server, &repo);
    let of_version = |version: &str| {
        let mut other = good.clone();
        other.report.tools.iter_mut().for_each(|tool| tool.version = version.into());
        not_run(sandbox(&server, &other, &parent, Namespaces::WherePossible), LITTLE, parent.path())
    };
    assert!(of_version("7.9.1").starts_with("the dump is of version 7.9, and redis-server here has 7."));
    assert!(of_version("6.2.1").starts_with("the dump is of version 6.2"));
    let reason = not_run(sandbox(&server, &good, &parent, Namespaces::WherePossible), TOO_MUCH, parent.path());
    assert!(reason.contains("are free"), "{reason}");
}
