//! Servers for drills that take connections and say nothing, or nothing more: nobody waits for them beyond a bound, and nobody
//! at all once the drill was asked to stop.
//!
//! What hangs here hangs for ever: a test that waited would never end.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::Duration;

use backup_core::cancel::Cancel;
use backup_core::contracts::{NotReady, Report, Sandbox, Tool};
use backup_sources::databases::manifest::Manifest;
use backup_sources::databases::mongodb::{LoadOptions, MongodbDump, MongodbScratch, MongodbTarget};
use backup_sources::databases::postgres::{Folders, PostgresScratch, Server, Settings};
use backup_sources::databases::url::{DatabaseUrl, Engine};
use mongodb::bson::{DateTime, Document, doc};
use tempfile::TempDir;

use crate::drill::{LITTLE, left, write};
use crate::mongodb_server::settings;

/// What becomes of a connection.
type Serve = Box<dyn Fn(TcpStream) + Send + Sync>;

/// A server's port. Its connections stay open until the test ends.
fn listening(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = std::sync::Arc::new(serve);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let serve = std::sync::Arc::clone(&serve);
            thread::spawn(move || serve(client));
        }
    });
    port
}

/// Takes what comes and says nothing; `hears` is told.
fn silent(hears: impl Fn() + Send + Sync + 'static) -> Serve {
    Box::new(move |mut client: TcpStream| {
        let mut buffer = [0; 1_024];
        while matches!(client.read(&mut buffer), Ok(1..)) {
            hears();
        }
    })
}

fn manifest(engine: Engine, tool: &str, version: &str) -> Manifest {
    let tools = vec![Tool { name: tool.to_owned(), version: version.to_owned() }];
    Manifest::new(engine, "app", Report { tools, ..Report::default() })
}

/// Why it does not start.
#[track_caller]
fn reason(sandbox: &mut dyn Sandbox, cancel: &Cancel) -> String {
    match sandbox.start(LITTLE, cancel) {
        Err(NotReady::CannotRun { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// A sandbox on a server of PostgreSQL at this port, for which nothing of PostgreSQL has to be here.
fn postgres(port: u16, folder: &TempDir) -> PostgresScratch {
    let program = folder.path().join("pg_dump");
    fs::write(&program, "#!/bin/sh\necho 'pg_dump (PostgreSQL) 15.1'\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let folders = Folders { only: Some(folder.path().to_owned()), also: Vec::new() };
    let url = DatabaseUrl::parse(format!("postgres://drill@127.0.0.1:{port}/?connect_timeout=1&sslmode=disable"));
    let server = Server::new(&url.unwrap(), &Settings { folders, ..Settings::default() }).unwrap();
    PostgresScratch::new(manifest(Engine::Postgres, "postgresql", "15.1"), server, folder.path().to_owned())
}

#[test]
fn a_postgresql_for_drills_that_says_nothing_is_waited_for_only_so_long() {
    let folder = tempfile::tempdir().unwrap();
    let port = listening(silent(|| ()));
    let reason = reason(&mut postgres(port, &folder), &Cancel::new());
    assert!(reason.ends_with("the server has not answered for 2 seconds"), "{reason}");
    assert_eq!(left(folder.path()), ["pg_dump"]);
}

#[test]
fn a_postgresql_for_drills_that_says_nothing_keeps_no_drill_that_is_to_stop() {
    let (folder, cancel) = (tempfile::tempdir().unwrap(), Cancel::new());
    let asking = cancel.clone();
    let port = listening(silent(move || asking.request()));
    // It would wait for ever.
    let url = DatabaseUrl::parse(format!("postgres://drill@127.0.0.1:{port}/?connect_timeout=0&sslmode=disable"));
    drop(postgres(port, &folder));
    let folders = Folders { only: Some(folder.path().to_owned()), also: Vec::new() };
    let server = Server::new(&url.unwrap(), &Settings { folders, ..Settings::default() }).unwrap();
    let manifest = manifest(Engine::Postgres, "postgresql", "15.1");
    let mut sandbox = PostgresScratch::new(manifest, server, folder.path().to_owned());
    assert!(reason(&mut sandbox, &cancel).contains("stopped on request"));
}

/// Speaks MongoDB's protocol: `answer` tells what is answered to a message, which is nothing where it gives nothing.
fn mongodb(answer: impl Fn(&[u8]) -> Option<Document> + Send + Sync + 'static) -> Serve {
    const OP_QUERY: i32 = 2004;
    Box::new(move |mut client: TcpStream| {
        let number = |bytes: &[u8]| i32::from_le_bytes(bytes[..4].try_into().unwrap());
        let mut head = [0; 16];
        while client.read_exact(&mut head).is_ok() {
            let mut body = vec![0; usize::try_from(number(&head)).unwrap() - head.len()];
            client.read_exact(&mut body).unwrap();
            let Some(said) = answer(&body) else { continue };
            let said = mongodb::bson::serialize_to_vec(&said).unwrap();
            // OP_REPLY has flags, a cursor's number, where it starts and how many; OP_MSG flags and the kind of its section.
            let (code, before): (i32, &[u8]) = match number(&head[12..]) {
                OP_QUERY => (1, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]),
                _ => (2013, &[0; 5]),
            };
            let length = i32::try_from(head.len() + before.len() + said.len()).unwrap();
            let mut reply = [length.to_le_bytes(), [0; 4], head[4..8].try_into().unwrap(), code.to_le_bytes()].concat();
            reply.extend_from_slice(before);
            reply.extend_from_slice(&said);
            client.write_all(&reply).unwrap();
        }
    })
}

fn has(message: &[u8], word: &str) -> bool {
    message.windows(word.len()).any(|bytes| bytes == word.as_bytes())
}

/// What a server says when a connection is made.
fn hello() -> Document {
    doc! {
        "ok": 1, "helloOk": true, "isWritablePrimary": true, "ismaster": true, "minWireVersion": 0, "maxWireVersion": 21,
        "maxBsonObjectSize": 16_777_216, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000,
        "localTime": DateTime::now(),
    }
}

/// The greeting of a connection, which says who comes.
fn is_greeting(message: &[u8]) -> bool {
    has(message, "\u{3}client\0")
}

fn dump() -> MongodbDump {
    MongodbDump { manifest: manifest(Engine::Mongodb, "mongodb", "7.0.0"), beforehand: Vec::new() }
}

fn url(port: u16) -> String {
    format!("mongodb://127.0.0.1:{port}/?directConnection=true")
}

#[test]
fn a_mongodb_for_drills_that_says_no_more_is_waited_for_only_so_long() {
    let port = listening(mongodb(|message| is_greeting(message).then(hello)));
    let scratch = MongodbScratch::new(dump(), settings(&url(port)));
    let reason = reason(&mut scratch.with_silence_max(Duration::from_secs(1)), &Cancel::new());
    assert!(reason.ends_with("the server has not answered for 1 seconds"), "{reason}");
}

#[test]
fn a_mongodb_for_drills_that_says_no_more_keeps_no_drill_that_is_to_stop() {
    let cancel = Cancel::new();
    let asking = cancel.clone();
    let port = listening(mongodb(move |message| {
        if !is_greeting(message) {
            asking.request();
        }
        is_greeting(message).then(hello)
    }));
    // It would wait for as long as the test knows how to say.
    let scratch = MongodbScratch::new(dump(), settings(&url(port)));
    let mut scratch = scratch.with_silence_max(Duration::from_secs(1 << 30));
    assert!(reason(&mut scratch, &cancel).contains("stopped on request"));
}

#[test]
fn a_mongodb_that_takes_no_documents_any_more_keeps_no_restore_that_is_to_stop() {
    let cancel = Cancel::new();
    let asking = cancel.clone();
    let port = listening(mongodb(move |message| {
        if has(message, "\u{2}insert\0") {
            asking.request();
            return None;
        }
        let mut said = hello();
        said.insert("version", "7.0.0");
        said.insert("cursor", doc! {"id": 0_i64, "ns": "app.$cmd.listCollections", "firstBatch": []});
        Some(said)
    }));
    let mut settings = settings(&url(port));
    settings.cancel = Some(cancel);
    settings.silence_max = Duration::from_secs(1 << 30);
    let target = MongodbTarget::connect(&settings, "app", &[], dump().manifest, LoadOptions::default()).unwrap();
    let document = mongodb::bson::serialize_to_vec(&doc! {"_id": 1}).unwrap();
    let error = write(&target, &[("a.bson", &document)]).unwrap_err();
    assert!(error.reason.contains("the connection is gone") || error.reason.contains("stopped"), "{error}");
}
