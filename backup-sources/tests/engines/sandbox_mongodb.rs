//! MongoDB's sandboxes: a good snapshot passes, each kind of damage fails for its own reason, and what cannot run says so
//! before anything is started.

use std::path::PathBuf;

use backup_core::cancel::Cancel;
use backup_core::contracts::{Answer, CheckResult, NotReady, Question, Sandbox, Tool, Trace};
use backup_sources::databases::mongodb::{MongodbDump, MongodbSandbox, MongodbScratch};
use backup_sources::sandbox::SandboxPlace;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{DateTime, Document, doc};
use tempfile::TempDir;

use crate::drill::{LITTLE, TOO_MUCH, examined, failed, left, load, not_run, restored};
use crate::mongodb::{beforehand, fill, source};
use crate::mongodb_server::{Kind, Server};
use crate::postgres_server::open_folder;
use crate::repository::Repo;

pub(crate) fn back_up(server: &Server, repo: &Repo) -> MongodbDump {
    repo.back_up(&mut source(server, "app")).unwrap();
    MongodbDump { manifest: repo.manifest("/mongodb/app"), beforehand: beforehand(repo, "/mongodb/app") }
}

/// The folder of the program that this kind of server is.
fn programs(kind: Kind) -> Vec<PathBuf> {
    let variable = if kind.is_real() { "BACKUP_TEST_MONGOD" } else { "BACKUP_TEST_FERRETDB" };
    let program = PathBuf::from(std::env::var_os(variable).unwrap());
    vec![program.parent().unwrap().to_owned()]
}

fn sandbox(kind: Kind, dump: &MongodbDump, parent: &TempDir) -> Box<dyn Sandbox> {
    Box::new(MongodbSandbox::new(dump.clone(), SandboxPlace::new(parent.path()), programs(kind)))
}

fn asked(sandbox: &mut dyn Sandbox, collection: &str, pipeline: &str) -> Result<Option<String>, String> {
    let question = Question::Aggregation { collection: collection.into(), pipeline: pipeline.into() };
    sandbox.ask(&question, &Cancel::new()).map(|Answer(answer)| answer).map_err(|error| error.to_string())
}

#[test]
#[ignore = "needs ferretdb"]
fn a_good_snapshot_passes_and_is_asked() {
    for kind in Kind::all() {
        let (server, repo, parent) = (Server::new(kind), Repo::new(), open_folder());
        fill(&server, "app");
        let id = ObjectId::from_bytes([0xf0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        server.insert("app", "ids", &[doc! {"_id": id, "same": 1}]);
        let dump = back_up(&server, &repo);
        let mut sandbox = restored(sandbox(kind, &dump, &parent), &repo, "/mongodb/app");
        let checks = examined(&mut *sandbox, &dump.manifest.report);
        assert_eq!(failed(&checks), Vec::<&str>::new(), "{checks:#?}");
        for id in ["collection users count", "collection users content", "index users.mail definition"] {
            assert!(checks.iter().any(|check| check.id == id && check.result == CheckResult::Passed), "{id}");
        }
        let newest = sandbox.newest().map(|newest| (newest.time.as_second(), newest.from));
        assert_eq!(newest, Some((0xf000_0000, Trace::ObjectId)));
        assert_eq!(asked(&mut *sandbox, "users", r#"[{"$count": "n"}]"#).unwrap().as_deref(), Some("3000"));
        let newest = r#"[{"$group": {"_id": null, "at": {"$max": "$date"}}}]"#;
        assert_eq!(asked(&mut *sandbox, "types", newest).is_ok(), kind.is_real(), "FerretDB groups by $sum alone");
        let highest = r#"[{"$sort": {"n": -1, "_id": 1}}, {"$limit": 1}, {"$project": {"_id": 1}}]"#;
        assert_eq!(asked(&mut *sandbox, "users", highest).unwrap().as_deref(), Some("6"));
        assert_eq!(asked(&mut *sandbox, "users", r#"[{"$match": {"n": 100}}]"#).unwrap(), None);
        for wrong in [r#"[{"$match": {}}]"#, r#"[{"$out": "x"}]"#, r#"[{"$nothing": 1}]"#, "users"] {
            assert!(asked(&mut *sandbox, "users", wrong).is_err(), "{wrong}");
        }
        assert!(sandbox.ask(&Question::Sql("SELECT 1".into()), &Cancel::new()).unwrap_err().is_ours);
        let program = ["sh", "-c", "test -S \"$BACKUP_SOCKET\" && echo $BACKUP_DATABASE"].map(str::to_owned).to_vec();
        let Answer(answer) = sandbox.ask(&Question::Program(program), &Cancel::new()).unwrap();
        assert_eq!(answer.as_deref(), Some("app"));
        assert_eq!(sandbox.facts().engine.unwrap().name, if kind.is_real() { "mongodb" } else { "ferretdb" });
        assert!(!sandbox.caveats().not_tested.is_empty());
        sandbox.remove().unwrap();
        assert_eq!(left(parent.path()), Vec::<String>::new());
    }
}

#[test]
#[ignore = "needs ferretdb"]
fn a_dump_that_is_cut_off_empty_or_no_dump_is_not_restored() {
    let (server, repo, parent) = (Server::new(Kind::Ferret), Repo::new(), open_folder());
    fill(&server, "app");
    let dump = back_up(&server, &repo);
    let users = repo.file("/mongodb/app/users.bson");
    for (what, bytes, words) in [
        ("cut at 5 %", &users[..users.len() / 20], "users"),
        ("cut at 95 %", &users[..users.len() * 19 / 20], "users"),
        ("empty", &users[..0], "not those that the manifest describes"),
        ("something else", &b"db.users.insert({})"[..], "no document"),
    ] {
        let mut made = sandbox(Kind::Ferret, &dump, &parent);
        let error = load(&mut *made, &[("users.bson", bytes)]).expect_err(what);
        assert!(error.reason.contains(words), "{what}: {error}");
    }
    let mut broken = dump;
    broken.beforehand[0].1.truncate(5);
    let mut made = sandbox(Kind::Ferret, &broken, &parent);
    made.start(LITTLE, &Cancel::new()).unwrap();
    assert!(!made.target().unwrap_err().is_ours, "what describes a collection is part of the backup");
}

#[test]
#[ignore = "needs ferretdb"]
fn what_is_not_as_it_was_fails_by_its_name() {
    let (server, parent) = (Server::new(Kind::Ferret), open_folder());
    let users: Vec<_> = (0..300).map(|n| doc! {"_id": n, "mail": format!("{n}@example.org"), "n": n % 7}).collect();
    server.insert("app", "users", &users);
    let index = doc! {"createIndexes": "users", "indexes": [{"key": {"mail": 1}, "name": "mail", "unique": true}]};
    server.run("app", index.clone());
    let original = back_up(&server, &Repo::new()).manifest.report;
    let updated = |n: i32| doc! {"update": "users", "updates": [{"q": {"_id": 7}, "u": {"$set": {"n": n}}}]};
    let changes: [(Document, Document, &[&str]); 4] = [
        (
            doc! {"delete": "users", "deletes": [{"q": {"_id": 7}, "limit": 1}]},
            doc! {"insert": "users", "documents": [users[7].clone()]},
            &["collection users count", "collection users content"],
        ),
        (updated(1), updated(0), &["collection users content"]),
        (doc! {"dropIndexes": "users", "index": "mail"}, index, &["index users.mail"]),
        (doc! {"create": "more"}, doc! {"drop": "more"}, &["collection more", "index more._id_"]),
    ];
    for (change, undo, expected) in changes {
        server.run("app", change.clone());
        let repo = Repo::new();
        let altered = back_up(&server, &repo);
        server.run("app", undo);
        let mut made = restored(sandbox(Kind::Ferret, &altered, &parent), &repo, "/mongodb/app");
        assert_eq!(failed(&examined(&mut *made, &original)), expected, "{change}");
    }
}

#[test]
#[ignore = "needs ferretdb"]
fn a_hostile_dump_reaches_no_other_database_and_no_file() {
    let (server, repo, parent) = (Server::new(Kind::Ferret), Repo::new(), open_folder());
    server.insert("app", "a", &[doc! {"_id": 1}]);
    let good = back_up(&server, &repo);
    let text = r#"{"options":{"$db":"other"},"indexes":[],"collectionName":"../../escaped","type":"collection"}"#;
    let mut hostile = good.clone();
    hostile.beforehand.push(("other.metadata.json".into(), text.as_bytes().to_vec()));
    // Users of a dump come from whoever wrote it: they are not made.
    let users =
        bson(&doc! {"_id": "admin.root", "user": "root", "db": "admin", "roles": [{"role": "root", "db": "admin"}]});
    let mut made = sandbox(Kind::Ferret, &hostile, &parent);
    let documents = repo.file("/mongodb/app/a.bson");
    let files: [(&str, &[u8]); 3] = [("$admin.system.users.bson", &users), ("a.bson", &documents), ("other.bson", &[])];
    load(&mut *made, &files).unwrap();
    let checks = examined(&mut *made, &good.manifest.report);
    let found = failed(&checks);
    assert!(found.iter().all(|id| id.contains("other")) && !found.is_empty(), "it is in the database: {checks:#?}");
    let drill = parent.path().join(left(parent.path()).pop().unwrap());
    assert!(!drill.join("own/other.sqlite").exists() && !drill.join("own/admin.sqlite").exists());
}

fn bson(document: &Document) -> Vec<u8> {
    mongodb::bson::serialize_to_vec(document).unwrap()
}

#[test]
#[ignore = "needs ferretdb"]
fn what_cannot_run_here_says_so_and_starts_nothing() {
    let (server, repo, parent) = (Server::new(Kind::Ferret), Repo::new(), open_folder());
    server.insert("app", "a", &[doc! {"_id": 1}]);
    let good = back_up(&server, &repo);
    let of = |tools: &[(&str, &str)]| {
        let mut other = good.clone();
        let tool = |(name, version): &(&str, &str)| Tool { name: (*name).into(), version: (*version).into() };
        other.manifest.report.tools = tools.iter().map(tool).collect();
        not_run(sandbox(Kind::Ferret, &other, &parent), LITTLE, parent.path())
    };
    assert_eq!(of(&[("mongodb", "3.2.1")]), "MongoDB 3.2 is not installed here");
    assert_eq!(of(&[("mongodb", "7.0.77"), ("ferretdb", "0.9.4")]), "FerretDB 0 is not installed here, but FerretDB 1");
    assert!(of(&[("mongodb", "7.0.77"), ("ferretdb", "2.1.0")]).starts_with("FerretDB 2 has no server"));
    assert!(of(&[]).contains("does not tell"));
    let reason = not_run(sandbox(Kind::Ferret, &good, &parent), TOO_MUCH, parent.path());
    assert!(reason.contains("are free"), "{reason}");
}

fn databases(server: &Server) -> Vec<String> {
    let said = server.run("admin", doc! {"listDatabases": 1, "nameOnly": true});
    let names = said.get_array("databases").unwrap().iter();
    names.map(|one| one.as_document().unwrap().get_str("name").unwrap().to_owned()).collect()
}

#[test]
#[ignore = "needs ferretdb"]
fn on_a_server_for_drills_a_database_is_made_and_dropped() {
    let (server, scratch, repo) = (Server::new(Kind::Ferret), Server::new(Kind::Ferret), Repo::new());
    fill(&server, "app");
    let dump = back_up(&server, &repo);
    let on = |server: &Server, dump: &MongodbDump| -> Box<dyn Sandbox> {
        Box::new(MongodbScratch::new(dump.clone(), server.settings("")))
    };
    let refused = |server: &Server, dump: &MongodbDump| match on(server, dump).start(LITTLE, &Cancel::new()) {
        Err(NotReady::CannotRun { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let mut made = restored(on(&scratch, &dump), &repo, "/mongodb/app");
    let mut beside = on(&scratch, &dump);
    beside.start(LITTLE, &Cancel::new()).unwrap();
    let checks = examined(&mut *made, &dump.manifest.report);
    assert_eq!(failed(&checks), Vec::<&str>::new(), "{checks:#?}");
    assert_eq!(asked(&mut *made, "users", r#"[{"$count": "n"}]"#).unwrap().as_deref(), Some("3000"));
    assert!(databases(&scratch).iter().any(|name| name.starts_with("backup_drill_")));
    made.remove().unwrap();
    beside.remove().unwrap();
    assert_eq!(databases(&scratch), ["backup_drill"]);

    // What a killed drill left is dropped once its line is old; what lives is not.
    let hour_ago = DateTime::from_millis(DateTime::now().timestamp_millis() - 3_600_000);
    for (name, alive) in [("backup_drill_old", hour_ago), ("backup_drill_new", DateTime::now())] {
        scratch.insert("backup_drill", "drills", &[doc! {"_id": name, "word": "x", "alive": alive}]);
        scratch.insert(name, "t", &[doc! {"_id": 1}]);
    }
    let mut made = on(&scratch, &dump);
    made.start(LITTLE, &Cancel::new()).unwrap();
    assert_eq!(made.caveats().warnings, ["the database backup_drill_old of a killed drill was dropped"]);
    assert_eq!(databases(&scratch), ["backup_drill", "backup_drill_new"]);

    // Somebody has taken its line: whatever bears its name now is left alone.
    scratch.run("backup_drill", doc! {"delete": "drills", "deletes": [{"q": {"word": {"$ne": "x"}}, "limit": 0}]});
    assert!(made.ready().unwrap_err().is_ours);
    assert!(made.remove().unwrap_err().reason.contains("left alone"));

    assert!(refused(&server, &dump).contains("holds the database app: it may be the one that was backed up"));
    let mut other = dump;
    other.manifest.report.tools.retain(|tool| tool.name == "mongodb");
    assert!(refused(&scratch, &other).contains("and the server for drills is FerretDB 1"));
    drop(scratch);
}
