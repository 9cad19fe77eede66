//! MongoDB: what is backed up comes back document for document, whatever is written meanwhile, and each way to fail in
//! the middle does.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use backup_core::contracts::{Consistency, Expectation, Report};
use backup_core::testing::source_suite;
use backup_sources::databases::differences;
use backup_sources::databases::mongodb::{
    DumpOptions, Existing, Grants, LoadOptions, MongodbSource, MongodbTarget, Selection, is_needed_beforehand, observe,
};
use backup_sources::files::{FilesOptions, FilesSource};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Regex, Timestamp, doc};
use tempfile::{TempDir, tempdir};

use crate::mongodb_server::{Kind, Server, cut_after, settings, url};
use crate::repository::{Meddled, Repo, words};

/// A name whose file's name has to be cut.
fn long_name() -> String {
    "ü".repeat(100)
}

/// A database with everything in it that the server takes.
pub(crate) fn fill(server: &Server, database: &str) {
    let every_type = doc! {
        "_id": 1, "double": 1.5, "text": "ü\0\"", "document": {"b": 1, "a": {"c": []}}, "list": [1, "two", {"n": 3}],
        "binary": Binary { subtype: BinarySubtype::Generic, bytes: vec![0, 255] },
        "uuid": Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] },
        "id": ObjectId::parse_str("0123456789abcdef01234567").unwrap(), "yes": true,
        "date": DateTime::from_millis(-62_135_596_800_000), "none": Bson::Null, "int": i32::MIN, "long": i64::MAX,
        "regex": Regex { pattern: "^a.*".try_into().unwrap(), options: "i".try_into().unwrap() }, "stamp": Timestamp { time: 1, increment: 2 }, "": "no name",
    };
    server.insert(database, "types", &[every_type]);
    let mut deep = doc! {"end": true};
    for _ in 0..80 {
        deep = doc! {"in": deep};
    }
    server.insert(database, "deep", &[deep]);
    server.insert(database, "big", &[doc! {"_id": 1, "text": "x".repeat(15_000_000)}, doc! {"_id": 2}]);
    let ids = [Bson::from("text"), doc! {"a": 1, "b": "x"}.into(), 5_i64.into(), ObjectId::new().into()];
    server.insert(database, "ids", &ids.map(|id| doc! {"_id": id, "same": 1}));
    let users: Vec<_> = (0..3_000).map(|n| doc! {"_id": n, "mail": format!("{n}@example.org"), "n": n % 7}).collect();
    server.insert(database, "users", &users);
    let by_mail = doc! {"key": {"mail": 1}, "name": "mail", "unique": true};
    let by_both = doc! {"key": {"n": -1, "mail": 1}, "name": "n_-1_mail_1"};
    server.run(database, doc! {"createIndexes": "users", "indexes": [by_mail, by_both]});
    server.run(database, doc! {"create": "empty"});
    server.run(database, doc! {"create": "capped", "capped": true, "size": 8192, "max": 100});
    server.insert(database, "capped", &[doc! {"_id": 1}, doc! {"_id": 2}]);
    for name in ["a b", "with.dots", "50%", "a/b", "-x", "oplog", "manifest.json", &long_name()] {
        server.insert(database, name, &[doc! {"_id": name}]);
    }
    if server.kind.is_real() {
        fill_what_only_mongodb_has(server, database);
    }
}

fn fill_what_only_mongodb_has(server: &Server, database: &str) {
    let rare = doc! {
        "_id": 1, "decimal": Bson::Decimal128("1.50".parse().unwrap()), "code": Bson::JavaScriptCode("f()".into()),
        "min": Bson::MinKey, "max": Bson::MaxKey, "nan": f64::NAN, "inf": f64::INFINITY, "zero": -0.0, "a.b": 1, "$c": 2,
    };
    server.insert(database, "rare", &[rare]);
    server.run(database, doc! {"create": "sorted", "collation": {"locale": "de", "strength": 1}});
    server.insert(database, "sorted", &[doc! {"_id": "Ä", "at": DateTime::now(), "text": "some words", "n": 1}]);
    let indexes = vec![
        doc! {"key": {"at": 1}, "name": "ttl", "expireAfterSeconds": 1_000_000},
        doc! {"key": {"n": 1}, "name": "partial", "partialFilterExpression": {"n": {"$gt": 0}}},
        doc! {"key": {"text": "text"}, "name": "words", "collation": {"locale": "simple"}, "default_language": "german"},
        doc! {"key": {"_id": "hashed"}, "name": "_id_hashed", "collation": {"locale": "simple"}},
        doc! {"key": {"$**": 1}, "name": "any"},
        doc! {"key": {"place": "2dsphere"}, "name": "place", "sparse": true},
    ];
    server.run(database, doc! {"createIndexes": "sorted", "indexes": indexes});
    let validator = doc! {"$jsonSchema": {"required": ["must"], "properties": {"must": {"bsonType": "int"}}}};
    server.insert(database, "valid", &[doc! {"_id": 1, "from": "before the validator"}]);
    server.run(database, doc! {"collMod": "valid", "validator": validator, "validationAction": "error"});
    server.run(database, doc! {"create": "view", "viewOn": "users", "pipeline": [{"$match": {"n": {"$gt": 3}}}]});
    server.run(database, doc! {"create": "a view of it", "viewOn": "view", "pipeline": []});
    let series = doc! {"timeField": "at", "metaField": "who", "granularity": "hours"};
    server.run(database, doc! {"create": "series", "timeseries": series, "expireAfterSeconds": 1_000_000});
    let measured = |n: i32| doc! {"at": DateTime::now(), "who": n % 2, "n": n};
    server.insert(database, "series", &(0..100).map(measured).collect::<Vec<_>>());
    let pwd = "pw";
    server.run(database, doc! {"createUser": "reader", "pwd": pwd, "roles": ["read"]});
}

pub(crate) fn source(server: &Server, database: &str) -> MongodbSource {
    MongodbSource::connect(&server.settings(database), database, &DumpOptions::default()).unwrap()
}

pub(crate) fn back_up(repo: &Repo, server: &Server, database: &str) -> Report {
    repo.back_up(&mut source(server, database)).map_err(|error| words(&error)).unwrap().report
}

/// The files of a folder of the newest snapshot that a target has to know beforehand.
pub(crate) fn beforehand(repo: &Repo, folder: &str) -> Vec<(String, Vec<u8>)> {
    let names = repo.names(folder).into_iter().filter(|name| is_needed_beforehand(name));
    names.map(|name| (name.clone(), repo.file(&format!("{folder}/{name}")))).collect()
}

fn target(repo: &Repo, server: &Server, database: &str, options: LoadOptions) -> Result<MongodbTarget, String> {
    let (folder, manifest) = ("/mongodb/app", repo.manifest("/mongodb/app"));
    MongodbTarget::connect(&server.settings(database), database, &beforehand(repo, folder), manifest, options)
        .map_err(|error| words(&error))
}

fn restore(repo: &Repo, server: &Server, database: &str, options: LoadOptions) -> Result<u64, String> {
    let target = target(repo, server, database, options)?;
    repo.restore("/mongodb/app", &target).map(|outcome| outcome.losses).map_err(|error| words(&error))
}

pub(crate) fn shown(server: &Server, database: &str) -> Vec<Expectation> {
    observe(&server.settings(database), database, &Selection::default()).unwrap()
}

pub(crate) fn only(names: &[&str]) -> Selection {
    Selection { only: names.iter().map(|&name| name.to_owned()).collect(), except: Vec::new() }
}

/// The folder of the newest snapshot as files.
pub(crate) fn extracted(repo: &Repo) -> TempDir {
    let folder = tempdir().unwrap();
    for name in repo.names("/mongodb/app") {
        fs::write(folder.path().join(&name), repo.file(&format!("/mongodb/app/{name}"))).unwrap();
    }
    folder
}

#[test]
#[ignore = "needs ferretdb"]
fn everything_comes_back_into_another_database_and_another_server() {
    for kind in Kind::all() {
        let server = Server::new(kind);
        fill(&server, "app");
        let repo = Repo::new();
        let report = back_up(&repo, &server, "app");
        assert_eq!(report.tools[0].name, "mongodb");
        assert_eq!(repo.manifest("/mongodb/app").report, report);
        // A capped collection is never of the same instant as the others.
        assert_eq!(report.consistency, Consistency::Fuzzy);
        let count = |object: &str| report.expectations.iter().find(|it| it.object == object).unwrap().count;
        assert_eq!((count("users"), count("empty"), count("big")), (Some(3_000), Some(0), Some(2)));
        assert!(report.expectations.iter().any(|it| it.kind == "index" && it.object == "users.mail"));
        assert_eq!(shown(&server, "app"), report.expectations);

        let other = Server::new(kind);
        for (server, database) in [(&server, "again"), (&other, "app")] {
            assert_eq!(restore(&repo, server, database, LoadOptions::default()), Ok(0));
            assert_eq!(differences(&report.expectations, &shown(server, database)), Vec::<String>::new());
        }
    }
}

#[test]
#[ignore = "needs ferretdb"]
fn what_is_written_meanwhile_is_counted_as_it_was_between_beginning_and_end() {
    for kind in Kind::all() {
        let server = Arc::new(Server::new(kind));
        server.insert("app", "log", &(0..20_000).map(|n| doc! {"_id": n, "pad": "x".repeat(100)}).collect::<Vec<_>>());
        let (written, is_done) = (Arc::new(AtomicU64::new(20_000)), Arc::new(AtomicBool::new(false)));
        let writer = {
            let (server, written, is_done) = (Arc::clone(&server), Arc::clone(&written), Arc::clone(&is_done));
            thread::spawn(move || {
                while !is_done.load(Ordering::SeqCst) {
                    let next = i64::try_from(written.load(Ordering::SeqCst)).unwrap();
                    server.insert("app", "log", &[doc! {"_id": next}]);
                    written.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let repo = Repo::new();
        for _ in 0..3 {
            let before = written.load(Ordering::SeqCst);
            let report = back_up(&repo, &server, "app");
            let after = written.load(Ordering::SeqCst) + 1;
            let point = report.recovery_point.clone().unwrap().position;
            let is_one_instant = kind == Kind::ReplicaSet;
            assert_eq!(report.consistency == Consistency::Transactional, is_one_instant);
            assert!(point.is_some() || !is_one_instant);
            let count = report.expectations[0].count.unwrap();
            assert!((before..=after).contains(&count), "{before} {count} {after}");
            let details = repo.manifest("/mongodb/app").details;
            assert!(details["began"]["time"].as_str() <= details["ended"]["time"].as_str());
            restore(&repo, &server, "again", LoadOptions { existing: Existing::Replace, ..LoadOptions::default() })
                .unwrap();
            assert_eq!(differences(&report.expectations, &shown(&server, "again")), Vec::<String>::new());
        }
        is_done.store(true, Ordering::SeqCst);
        writer.join().unwrap();
    }
}

#[test]
#[ignore = "needs ferretdb"]
fn a_server_that_goes_away_in_the_middle_makes_no_snapshot() {
    for kind in Kind::all() {
        let server = Server::new(kind);
        let documents: Vec<_> = (0..400).map(|n| doc! {"_id": n, "pad": "x".repeat(100_000)}).collect();
        documents.chunks(100).for_each(|some| server.insert("app", "log", some));
        let repo = Repo::new();
        let process = server.process().to_string();
        let mut source = Meddled::new(source(&server, "app"), move || {
            assert!(Command::new("kill").args(["-9", &process]).status().unwrap().success());
        });
        let told = repo.fail_to_back_up(&mut source);
        assert!(told.contains("collection log") || told.contains("connection"), "{told}");
    }
}

#[test]
#[ignore = "needs ferretdb"]
fn a_connection_that_is_cut_makes_no_snapshot_wherever_that_happens() {
    let server = Server::new(Kind::Ferret);
    let documents: Vec<_> = (0..100).map(|n| doc! {"_id": n, "pad": "x".repeat(20_000)}).collect();
    server.insert("app", "log", &documents);
    for bytes in [0, 500, 3_000, 50_000, 1_000_000] {
        let port = cut_after(server.port, bytes);
        let repo = Repo::new();
        let connected = MongodbSource::connect(&settings(&url(port, "app")), "app", &DumpOptions::default());
        match connected {
            Err(error) => assert!(!words(&error).is_empty()),
            Ok(mut source) => {
                let told = repo.fail_to_back_up(&mut source);
                assert!(told.contains("connection") || told.contains("server"), "{bytes}: {told}");
            }
        }
        assert_eq!(repo.snapshots(), 0);
    }
}

#[test]
#[ignore = "needs ferretdb"]
fn a_collection_that_is_dropped_meanwhile_fails_it_and_a_new_one_is_told() {
    for kind in Kind::all() {
        let server = Arc::new(Server::new(kind));
        for name in ["a", "b", "c"] {
            server.insert("app", name, &[doc! {"_id": name}]);
        }
        let repo = Repo::new();
        let meddler = Arc::clone(&server);
        let mut dropped = Meddled::new(source(&server, "app"), move || {
            meddler.run("app", doc! {"drop": "c"});
        });
        let told = repo.fail_to_back_up(&mut dropped);
        assert!(told.contains("c was dropped") || told.contains("collection c"), "{told}");

        let meddler = Arc::clone(&server);
        let mut grown = Meddled::new(source(&server, "app"), move || meddler.insert("app", "new", &[doc! {"_id": 1}]));
        let report = repo.back_up(&mut grown).unwrap().report;
        assert!(report.warnings.iter().any(|warning| warning.ends_with("not in it: new")), "{:?}", report.warnings);
    }
}

#[test]
#[ignore = "needs ferretdb"]
fn what_is_there_stays_unless_it_is_to_be_replaced() {
    let server = Server::new(Kind::Ferret);
    server.insert("app", "a", &[doc! {"_id": 1}]);
    server.insert("app", "b", &[doc! {"_id": 1}]);
    let repo = Repo::new();
    let report = back_up(&repo, &server, "app");
    server.insert("other", "mine", &[doc! {"_id": 1}]);
    let told = restore(&repo, &server, "other", LoadOptions::default()).unwrap_err();
    assert!(told.contains("not empty: it has mine\n") && told.contains("--clean"), "{told}");
    assert_eq!(server.names("other"), ["mine"]);

    // A part goes beside what is there.
    let part = |names: &[&str], existing| LoadOptions { selection: only(names), existing, ..LoadOptions::default() };
    restore(&repo, &server, "other", part(&["a"], Existing::Refuse)).unwrap();
    assert_eq!(server.names("other"), ["a", "mine"]);
    let told = restore(&repo, &server, "other", part(&["a"], Existing::Refuse)).unwrap_err();
    assert!(told.contains("a is there already"), "{told}");
    server.insert("other", "a", &[doc! {"_id": 2}]);
    restore(&repo, &server, "other", part(&["a"], Existing::Replace)).unwrap();
    assert_eq!((server.count("other", "a"), server.count("other", "mine")), (1, 1));
    let told = restore(&repo, &server, "other", part(&["nobody"], Existing::Refuse)).unwrap_err();
    assert!(told.contains("no collection nobody"), "{told}");

    let all = LoadOptions { existing: Existing::Replace, ..LoadOptions::default() };
    restore(&repo, &server, "other", all).unwrap();
    assert_eq!(shown(&server, "other"), report.expectations);
}

#[test]
#[ignore = "needs ferretdb"]
fn documents_that_are_not_those_of_the_manifest_or_end_early_are_not_taken_for_restored() {
    let server = Server::new(Kind::Ferret);
    server.insert("app", "a", &(0..100).map(|n| doc! {"_id": n}).collect::<Vec<_>>());
    let repo = Repo::new();
    back_up(&repo, &server, "app");
    let folder = extracted(&repo);
    let whole = fs::read(folder.path().join("a.bson")).unwrap();
    let one = whole.len() / 100;
    for (kept, told) in [(whole.len() - 3, "in the middle"), (whole.len() - one, "not those that the manifest")] {
        fs::write(folder.path().join("a.bson"), &whole[..kept]).unwrap();
        let damaged = Repo::new();
        let mut files = FilesSource::new(vec![folder.path().to_owned()], &FilesOptions::default()).unwrap();
        damaged.back_up(&mut files).unwrap();
        let path = folder.path().display().to_string();
        let (known, manifest) = (beforehand(&damaged, &path), damaged.manifest(&path));
        let into = format!("cut_at_{kept}");
        let target =
            MongodbTarget::connect(&server.settings(&into), &into, &known, manifest, LoadOptions::default()).unwrap();
        let error = words(&damaged.restore(&path, &target).unwrap_err());
        assert!(error.contains(told), "{error}");
    }
}

#[test]
#[ignore = "needs ferretdb"]
fn users_that_are_missing_are_made_when_that_is_asked_for_and_others_stay() {
    for kind in Kind::all() {
        let make = |server: &Server, name: &str, pwd: &str| match kind.is_real() {
            true => drop(server.run("app", doc! {"createUser": name, "pwd": pwd, "roles": []})),
            // Whoever has a user there needs one from then on; its users are documents like others.
            false => {
                let credentials = doc! {"SCRAM-SHA-256": {"storedKey": pwd}};
                let id = format!("app.{name}");
                let user = doc! {"_id": id, "user": name, "db": "app", "credentials": credentials, "roles": []};
                server.insert("admin", "system.users", &[user]);
            }
        };
        let kept = |server: &Server, name: &str| {
            let found = server.run("admin", doc! {"find": "system.users", "filter": {"user": name, "db": "app"}});
            let batch = found.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
            batch.first().map(|user| user.as_document().unwrap().get_document("credentials").unwrap().clone())
        };
        let (server, other, repo) = (Server::new(kind), Server::new(kind), Repo::new());
        server.insert("app", "a", &[doc! {"_id": 1}]);
        make(&server, "reader", "secret");
        make(&server, "both", "old");
        make(&other, "both", "new");
        back_up(&repo, &server, "app");
        let of_other = kept(&other, "both").unwrap();

        restore(&repo, &other, "app", LoadOptions::default()).unwrap();
        assert_eq!(kept(&other, "reader"), None, "nobody asked for it");
        let asked = LoadOptions { existing: Existing::Replace, grants: Grants::Restored, ..LoadOptions::default() };
        let target = target(&repo, &other, "app", asked.clone()).unwrap();
        assert_eq!(repo.restore("/mongodb/app", &target).unwrap().losses, 0);
        let warnings = target.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains("app.both"), "{warnings:?}");
        assert_eq!(kept(&other, "reader"), kept(&server, "reader"));
        assert_eq!(kept(&other, "both"), Some(of_other));
        assert!(!other.names("admin").iter().any(|name| name.starts_with("temp")));
        let told = restore(&repo, &other, "renamed", asked).unwrap_err();
        assert!(told.contains("--users") && told.contains("app"), "{told}");
    }
}

#[test]
#[ignore = "needs ferretdb"]
fn many_collections_are_many_files_and_come_back() {
    let server = Server::new(Kind::Ferret);
    for n in 0..300 {
        server.insert("app", &format!("c{n}"), &[doc! {"_id": n}]);
    }
    let repo = Repo::new();
    let report = back_up(&repo, &server, "app");
    assert_eq!(repo.names("/mongodb/app").len(), 601);
    restore(&repo, &server, "again", LoadOptions::default()).unwrap();
    assert_eq!(shown(&server, "again"), report.expectations);
}

#[test]
#[ignore = "needs ferretdb"]
fn the_source_keeps_the_contract() {
    let server = Server::new(Kind::Ferret);
    server.insert("app", "a", &(0..1_000).map(|n| doc! {"_id": n, "pad": "x".repeat(500)}).collect::<Vec<_>>());
    server.insert("app", "b", &[doc! {"_id": 1}]);
    source_suite(|| Box::new(source(&server, "app")));
}

#[test]
#[ignore = "needs ferretdb"]
fn a_source_may_live_and_die_inside_of_a_runtime() {
    let server = Server::new(Kind::Ferret);
    server.insert("app", "a", &[doc! {"_id": 1}]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        back_up(&Repo::new(), &server, "app");
        drop(source(&server, "app"));
    });
}

#[test]
#[ignore = "needs ferretdb"]
fn a_second_backup_of_the_same_documents_stores_the_last_chunk_and_no_more() {
    // Where the chunks are cut differs from repository to repository: only the longest chunk there is holds for each.
    const LONGEST: u64 = 8 << 20;
    let server = Server::new(Kind::Ferret);
    let noise = |n: i64| (0..30).map(move |m| format!("{:016x}", (n * 30 + m).wrapping_mul(0x5851_f42d_4c95_7f2d)));
    let documents: Vec<_> = (0..40_000).map(|n| doc! {"_id": n, "text": noise(n).collect::<String>()}).collect();
    documents.chunks(1_000).for_each(|some| server.insert("app", "a", some));
    let repo = Repo::new();
    let first = repo.back_up(&mut source(&server, "app")).unwrap().summary.data_added;
    server.insert("app", "a", &[doc! {"_id": 90_000}]);
    let second = repo.back_up(&mut source(&server, "app")).unwrap().summary.data_added;
    assert!(first > 2 * LONGEST && second < LONGEST + 100_000, "{first} {second}");
}

#[test]
#[ignore = "needs ferretdb"]
fn what_is_written_to_two_collections_at_once_comes_back_so_wherever_one_instant_is_promised() {
    for kind in Kind::all() {
        let server = Arc::new(Server::new(kind));
        for name in ["left", "right"] {
            server.insert(
                "app",
                name,
                &(0..5_000).map(|n| doc! {"_id": n, "pad": "x".repeat(200)}).collect::<Vec<_>>(),
            );
        }
        let is_done = Arc::new(AtomicBool::new(false));
        let writer = {
            let (server, is_done) = (Arc::clone(&server), Arc::clone(&is_done));
            thread::spawn(move || {
                for n in 5_000.. {
                    if is_done.load(Ordering::SeqCst) {
                        return;
                    }
                    server.insert_into_both("app", ["left", "right"], &doc! {"_id": n});
                }
            })
        };
        for _ in 0..3 {
            let report = Repo::new().back_up(&mut source(&server, "app")).unwrap().report;
            let count = |object: &str| report.expectations.iter().find(|it| it.object == object).unwrap().count;
            match report.consistency {
                Consistency::Transactional => assert_eq!(count("left"), count("right"), "half a transaction"),
                _ => assert_ne!(kind, Kind::ReplicaSet, "a replica set can be read as of one instant"),
            }
            assert_eq!(report.rows(), Some(count("left").unwrap() + count("right").unwrap()));
        }
        is_done.store(true, Ordering::SeqCst);
        writer.join().unwrap();
    }
}
