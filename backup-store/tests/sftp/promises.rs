//! What every sink promises; what happens when the line breaks; whom it speaks with and whom not.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backup_core::contracts::{ObjectKey, Placement, PutMode, Sink, SinkErrorKind};
use backup_core::testing::sink_suite;
use backup_store::layers::{RetryPolicy, RetrySink};
use backup_store::{Access, Place};
use bytes::Bytes;
use futures::TryStreamExt;

use crate::server::Server;

fn key(name: &'static str) -> ObjectKey {
    ObjectKey::new(name)
}

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work);
}

#[test]
#[ignore = "needs sshd"]
fn the_sink_keeps_the_contract() {
    let server = Server::start();
    let number = AtomicU32::new(0);
    sink_suite(|| server.sink(&format!("store{}", number.fetch_add(1, Ordering::Relaxed))));
}

#[test]
#[ignore = "needs sshd"]
fn a_line_that_breaks_is_mended_by_the_next_attempt() {
    let mut server = Server::start();
    let sink = server.sink("store");
    let brisk = RetryPolicy {
        wait_first: Duration::from_millis(50),
        wait_max: Duration::from_millis(200),
        ..RetryPolicy::default()
    };
    let patient = RetrySink::new(sink.clone(), brisk);
    let content = Bytes::from(vec![7; 3_000_000]);
    run(async {
        patient.put(&key("data/ab/one"), content.clone(), PutMode::Bulk(Placement::Cold)).await.unwrap();
        server.stop();
        let broken = sink.get(&key("data/ab/one"), None).await.unwrap_err();
        assert_eq!(broken.kind, SinkErrorKind::Unavailable, "{broken:?}");
        let refused = sink.get(&key("data/ab/one"), None).await.unwrap_err();
        assert_eq!(refused.kind, SinkErrorKind::Unavailable, "{refused:?}");
        server.run();
        assert!(patient.get(&key("data/ab/one"), None).await.unwrap() == content);
        patient.put(&key("data/ab/two"), content.clone(), PutMode::Bulk(Placement::Cold)).await.unwrap();
    });
}

#[test]
#[ignore = "needs sshd"]
fn an_unknown_host_and_one_with_another_key_are_refused() {
    let server = Server::start();
    let refused = |what: &str, words: &str| {
        let sink = server.sink("store");
        run(async {
            let error = sink.stat(&key("config")).await.unwrap_err();
            assert_eq!(error.kind, SinkErrorKind::PermissionDenied, "{what}: {error:?}");
            assert!(error.hint.as_ref().is_some_and(|hint| hint.contains(words)), "{what}: {error:?}");
        });
    };
    server.know_host("user_key.pub");
    refused("another key", "take the old key out");
    fs::write(server.path("known_hosts"), "").unwrap();
    refused("no key", "compare its key");
    assert_eq!(fs::read_to_string(server.path("known_hosts")).unwrap(), "", "nothing is learned on the way");
}

#[test]
#[ignore = "needs sshd"]
fn a_user_without_a_key_is_refused_and_not_asked() {
    let server = Server::start();
    fs::write(server.path("authorized_keys"), "").unwrap();
    let sink = server.sink("store");
    run(async {
        let error = sink.stat(&key("config")).await.unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::PermissionDenied, "{error:?}");
        assert!(error.hint.is_some_and(|hint| hint.contains("log in by key")));
    });
}

#[test]
#[ignore = "needs sshd"]
fn a_disk_that_is_not_mounted_gets_no_folder_but_a_new_repository_does() {
    let server = Server::start();
    let sink = server.sink("disk");
    fs::remove_dir(server.path("disk")).unwrap();
    run(async {
        let error = sink.put(&key("index/a"), "x".into(), PutMode::Overwrite).await.unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::NotFound);
        assert!(!server.path("disk").exists());
        sink.put(&key("keys/a"), "x".into(), PutMode::Overwrite).await.unwrap();
        sink.put(&key("index/a"), "x".into(), PutMode::Overwrite).await.unwrap();
        assert_eq!(sink.list("").try_collect::<Vec<_>>().await.unwrap().len(), 2);
    });
}

#[test]
#[ignore = "needs sshd"]
fn a_folder_that_may_not_be_made_is_not_said_to_be_missing() {
    let server = Server::start();
    // Nobody makes folders there, root neither.
    let place = Place::parse(server.place(Path::new("/sys/backup"))).unwrap();
    let sink = place.open(&Access::default()).unwrap();
    run(async {
        let error = sink.put(&key("keys/a"), "x".into(), PutMode::Overwrite).await.unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::PermissionDenied, "{error:?}");
        assert!(error.source.as_ref().unwrap().to_string().contains("may not write"), "{error:?}");
    });
}

#[test]
#[ignore = "needs sshd"]
fn what_a_user_may_not_do_is_said() {
    let mut server = Server::start();
    let sink = server.sink("store");
    run(async { sink.put(&key("index/a"), "x".into(), PutMode::Overwrite).await.unwrap() });
    server.make_read_only();
    let sink = server.sink("store");
    run(async {
        let put = sink.put(&key("index/b"), "x".into(), PutMode::Overwrite).await.unwrap_err();
        let deleted = sink.delete(&key("index/a")).await.unwrap_err();
        for (error, word) in [(put, "write"), (deleted, "delete")] {
            assert_eq!(error.kind, SinkErrorKind::PermissionDenied, "{error:?}");
            let cause = error.source.as_ref().unwrap().to_string();
            assert!(cause.contains(&format!("may not {word}")), "{cause}");
            assert!(error.hint.unwrap().contains(&format!("let the user {word}")));
        }
        assert_eq!(sink.get(&key("index/a"), None).await.unwrap(), "x");
    });
}
