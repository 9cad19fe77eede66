//! MongoDB: what is not there, who may not in, what a server refuses, by a server that refuses it, and TLS.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use backup_core::contracts::{Report, Target as _};
use backup_core::observe::Amount;
use backup_core::testing::free_port;
use backup_sources::databases::manifest::Manifest;
use backup_sources::databases::mongodb::{DumpOptions, LoadOptions, MongodbSource, MongodbTarget, databases};
use backup_sources::databases::url::Engine;
use mongodb::bson::{Document, deserialize_from_slice, doc, serialize_to_vec};
use tempfile::tempdir;

use crate::mongodb::{only, source};
use crate::mongodb_server::{Kind, Server, settings, url};
use crate::redis::certificates;
use crate::repository::{Repo, words};

/// As `error_codes.yml` of the server has them.
const UNAUTHORIZED: i32 = 13;
const UNKNOWN_ERROR: i32 = 8;

/// Stands before a server, and answers itself whoever reads the collection: with a refusal of this code. Gives its port.
///
/// After the MongoDB Wire Protocol's `OP_MSG`: a header of four numbers, flags, a zero, the command.
fn refusing(server: u16, collection: &'static str, code: i32) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", server))) else { return };
            let (mut to_client, mut from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from_server, &mut to_client));
            thread::spawn(move || while pass_or_refuse(&client, &server, collection, code).is_ok() {});
        }
    });
    port
}

fn pass_or_refuse(mut client: &TcpStream, mut server: &TcpStream, collection: &str, code: i32) -> std::io::Result<()> {
    let mut message = vec![0; 4];
    client.read_exact(&mut message)?;
    let length = i32::from_le_bytes(message[..4].try_into().unwrap());
    message.resize(usize::try_from(length).unwrap(), 0);
    client.read_exact(&mut message[4..])?;
    let is_message = message[12..16] == 2013_i32.to_le_bytes();
    let command = is_message.then(|| {
        let bytes = i32::from_le_bytes(message[21..25].try_into().unwrap());
        deserialize_from_slice::<Document>(&message[21..21 + usize::try_from(bytes).unwrap()]).unwrap()
    });
    if command.is_none_or(|command| command.get_str("find").ok() != Some(collection)) {
        return server.write_all(&message);
    }
    let refusal = doc! {"ok": 0.0, "errmsg": "it is refused", "code": code, "codeName": "Refused"};
    let refusal = serialize_to_vec(&refusal).unwrap();
    let length = i32::try_from(21 + refusal.len()).unwrap().to_le_bytes();
    let answer = [&length, &[0; 4], &message[4..8], &message[12..16], &[0; 5][..], &refusal].concat();
    client.write_all(&answer)
}

fn connect(port: u16) -> Result<MongodbSource, String> {
    MongodbSource::connect(&settings(&url(port, "app")), "app", &DumpOptions::default()).map_err(|error| words(&error))
}

#[test]
#[ignore = "needs ferretdb"]
fn users_that_may_not_be_read_whole_are_left_out_and_told_and_any_other_failure_fails_the_backup() {
    let server = Server::new(Kind::Ferret);
    server.insert("app", "a", &[doc! {"_id": 1}]);
    server.insert("admin", "system.users", &[doc! {"_id": "app.u", "user": "u", "db": "app", "roles": []}]);
    let named = |repo: &Repo| repo.names("/mongodb/app").into_iter().filter(|name| name.starts_with('$')).count();
    let repo = Repo::new();
    repo.back_up(&mut source(&server, "app")).unwrap();
    assert_eq!(named(&repo), 3);
    for (collection, told) in [
        ("system.users", "want of users"),
        ("system.roles", "want of roles"),
        ("system.version", "want of their version"),
    ] {
        let repo = Repo::new();
        let mut source = connect(refusing(server.port, collection, UNAUTHORIZED)).unwrap();
        let warnings = repo.back_up(&mut source).unwrap().report.warnings;
        assert!(warnings.iter().any(|warning| warning.contains(told)), "{collection}: {warnings:?}");
        assert_eq!(named(&repo), 0, "{collection}: users without the rest would be taken for whole ones");

        let error = connect(refusing(server.port, collection, UNKNOWN_ERROR)).unwrap_err();
        assert!(error.contains("of admin: it is refused"), "{collection}: {error}");
    }
}

#[test]
#[ignore = "needs ferretdb"]
fn a_collection_that_may_not_be_read_fails_the_backup_by_its_name() {
    let server = Server::new(Kind::Ferret);
    for name in ["a", "secret", "z"] {
        server.insert("app", name, &[doc! {"_id": 1}]);
    }
    let mut source = connect(refusing(server.port, "secret", UNAUTHORIZED)).unwrap();
    let repo = Repo::new();
    let told = repo.fail_to_back_up(&mut source);
    assert!(told.contains("collection secret") && told.contains("the role `backup`"), "{told}");
    assert_eq!(repo.snapshots(), 0);
}

#[test]
#[ignore = "needs ferretdb, openssl"]
fn a_server_with_tls_is_asked_with_its_certificate_and_its_name_checked() {
    let folder = tempdir().unwrap();
    certificates(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let port = free_port();
    let server = Server::with(
        Kind::Ferret,
        &[
            &format!("--listen-tls=127.0.0.1:{port}"),
            &format!("--listen-tls-cert-file={}", path("server.pem")),
            &format!("--listen-tls-key-file={}", path("server.key")),
        ],
    );
    server.insert("app", "a", &[doc! {"_id": 1}]);
    let connect = |host: &str, more: &str, patience: u32| {
        let url =
            format!("mongodb://{host}:{port}/app?directConnection=true&serverSelectionTimeoutMS={patience}&{more}");
        MongodbSource::connect(&settings(&url), "app", &DumpOptions::default()).map_err(|error| words(&error))
    };
    let trusting = format!("tls=true&tlsCAFile={}", path("ca.pem"));
    let report = Repo::new().back_up(&mut connect("localhost", &trusting, 60_000).unwrap()).unwrap().report;
    assert_eq!(report.rows(), Some(1));
    for (host, more, told) in [
        ("localhost", "tls=true", "certificate"),
        ("127.0.0.1", trusting.as_str(), "not valid for name"),
        // In plain words to a port that wants others.
        ("localhost", "tls=false", "no server answers"),
    ] {
        let error = connect(host, more, 1_500).unwrap_err();
        assert!(error.contains(told), "{host} {more}: {error}");
    }
}

#[test]
#[ignore = "needs ferretdb"]
fn whatever_is_wrong_with_a_url_is_said_in_one_line_with_what_to_try() {
    let server = Server::new(Kind::Ferret);
    server.insert("app", "a", &[doc! {"_id": 1}]);
    // Answers in words of its own, as a web server does.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let _ = client.read(&mut [0; 64]);
            let _ = client.write_all(b"HTTP/1.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let own = server.port;
    let direct = "directConnection=true&serverSelectionTimeoutMS=1500";
    for (url, database, why, what_to_try) in [
        (format!("127.0.0.1:{own}/app?{direct}&tls=true"), "app", "no server answers in time", "only there"),
        (format!("127.0.0.1:{other}/app?{direct}"), "app", "does not speak MongoDB's protocol", "can be reached"),
        (
            format!("127.0.0.1:{own}/app?serverSelectionTimeoutMS=1500&replicaSet=rs0"),
            "app",
            "no member of the replica set rs0",
            "directConnection=true",
        ),
        (format!("u@127.0.0.1:{own}/app?{direct}"), "app", "no password", "BACKUP_MONGODB_PASSWORD"),
        (format!("u:pw@127.0.0.1:{own}/app?{direct}"), "app", "mechanism", "authMechanism="),
        (format!("127.0.0.1:{own}/a.b?{direct}"), "a.b", "Invalid namespace", "without spaces, dots"),
        (format!("127.0.0.1:{own}/local?{direct}"), "local", "deployment's own", "one of yours"),
    ] {
        let settings = settings(&format!("mongodb://{url}"));
        let manifest = Manifest::new(Engine::Mongodb, "app", Report::default());
        let target = MongodbTarget::connect(&settings, database, &[], manifest, LoadOptions::default());
        // The name is looked at when it begins.
        let filled = target.map_err(|error| words(&error)).and_then(|target| {
            target
                .begin(Amount::default())
                .map_err(|error| format!("{} {}", error.reason, error.hint.unwrap_or_default()))
        });
        let read = MongodbSource::connect(&settings, database, &DumpOptions::default()).map_err(|error| words(&error));
        for told in [read.unwrap_err(), filled.unwrap_err()] {
            assert!(told.contains(why) && told.contains(what_to_try) && !told.contains("Topology"), "{url}: {told}");
        }
    }
}

#[test]
#[ignore = "needs ferretdb"]
fn what_is_not_there_or_does_not_answer_is_told() {
    let server = Server::new(Kind::Ferret);
    server.insert("app", "a", &[doc! {"_id": 1}]);
    let fail = |database: &str, options: &DumpOptions| {
        words(&MongodbSource::connect(&server.settings(database), database, options).unwrap_err())
    };
    let told = fail("nobody", &DumpOptions::default());
    assert!(told.contains("no database nobody"), "{told}");
    let told = fail("app", &DumpOptions { selection: only(&["nothing"]), ..DumpOptions::default() });
    assert!(told.contains("no collection nothing"), "{told}");
    assert!(fail("local", &DumpOptions::default()).contains("deployment's own"));
    assert_eq!(databases(&server.settings("")).unwrap(), ["app"]);
    let nobody = settings("mongodb://127.0.0.1:1/app?serverSelectionTimeoutMS=300");
    let told = words(&MongodbSource::connect(&nobody, "app", &DumpOptions::default()).unwrap_err());
    assert!(told.contains("no server answers") && told.contains("refused"), "{told}");
    let unknown = settings("mongodb://u:s3cret@127.0.0.1:1/app?nosuchoption=1");
    let told = words(&MongodbSource::connect(&unknown, "app", &DumpOptions::default()).unwrap_err());
    assert!(told.contains("nosuchoption") && !told.contains("s3cret"), "{told}");
}

#[test]
#[ignore = "needs ferretdb"]
fn who_asks_needs_the_right_password() {
    for kind in Kind::all() {
        let login =
            ["--test-enable-new-auth", "--setup-username=backup", "--setup-password=pw", "--setup-database=app"];
        let server = Server::with(kind, if kind.is_real() { &[] } else { &login });
        let connect = |user: &str| {
            let url = server.url("app").replace("//", &format!("//{user}"));
            MongodbSource::connect(&settings(&url), "app", &DumpOptions::default())
        };
        // FerretDB lets nobody in who keeps to the letter of the exchange, as this driver does.
        if kind.is_real() {
            server.insert("app", "a", &[doc! {"_id": 1}]);
            server.run("app", doc! {"createUser": "backup", "pwd": "s/cret", "roles": ["read"]});
            let report = Repo::new().back_up(&mut connect("backup:s%2Fcret@").unwrap()).unwrap().report;
            assert!(!report.expectations.is_empty());
        }
        let told = words(&connect("backup:wr0ng@").unwrap_err());
        assert!(told.contains("authSource") && !told.contains("wr0ng"), "{told}");
    }
}
