//! What every sink promises, on a store that keeps only objects named by their hash and never replaces one; and what it
//! says to those who ask for more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use backup_core::contracts::{ObjectKey, Placement, PutMode, Sink, SinkErrorKind};
use backup_core::model::Id;
use bytes::Bytes;
use futures::future::{self, FutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::server::{Server, sink_as};

const BULK: PutMode = PutMode::Bulk(Placement::Cold);

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work);
}

/// An object as the engine names it.
fn object(folder: &str, content: impl Into<Bytes>) -> (ObjectKey, Bytes) {
    let content = content.into();
    let id = Id::of(&content);
    let key = if folder == "data" { format!("data/{:.2}/{id}", id.to_string()) } else { format!("{folder}/{id}") };
    (ObjectKey::new(key), content)
}

fn large(bytes: usize) -> Bytes {
    (0..bytes).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

async fn names(sink: &dyn Sink, prefix: &str) -> BTreeSet<(String, u64)> {
    let listed: Vec<_> = sink.list(prefix).try_collect().await.unwrap();
    let names: BTreeSet<_> = listed.iter().map(|info| (info.key.to_string(), info.bytes)).collect();
    assert_eq!(names.len(), listed.len(), "a listing names an object twice");
    names
}

fn of(objects: &[(ObjectKey, Bytes)]) -> BTreeSet<(String, u64)> {
    objects.iter().map(|(key, content)| (key.to_string(), content.len() as u64)).collect()
}

#[test]
#[ignore = "needs rest-server"]
fn objects_come_back_and_are_listed_where_they_are() {
    let server = Server::start();
    let sink = server.sink("repo/");
    run(async {
        assert!(names(&*sink, "").await.is_empty(), "nothing there is an empty listing");
        let config = (ObjectKey::new("config"), Bytes::from("a config"));
        sink.put(&config.0, config.1.clone(), PutMode::Create).await.unwrap();
        let mut all = vec![config];
        for folder in ["keys", "locks", "index", "snapshots", "data"] {
            all.push(object(folder, format!("in {folder}")));
            all.push(object(folder, format!("also in {folder}")));
        }
        all.push(object("data", large(20 * 1024 * 1024 + 1)));
        all.push(object("index", Bytes::new()));
        for (key, content) in &all[1..] {
            sink.put(key, content.clone(), BULK).await.unwrap();
        }
        for (key, content) in &all {
            assert!(sink.get(key, None).await.unwrap() == *content, "{key}");
            assert_eq!(sink.stat(key).await.unwrap().bytes, content.len() as u64, "{key}");
        }
        assert_eq!(names(&*sink, "").await, of(&all));
        let data: Vec<_> = all.iter().filter(|(key, _)| key.as_str().starts_with("data/")).cloned().collect();
        assert_eq!(names(&*sink, "data").await, of(&data));
        let first = data[0].0.as_str().get(..7).unwrap();
        assert!(names(&*sink, first).await.iter().all(|(name, _)| name.starts_with(first)));
        for nowhere in ["ext", "ext/records", "dat", "config", "data/zz"] {
            assert!(names(&*sink, nowhere).await.is_empty(), "{nowhere}");
        }
        let mut some = sink.list("data");
        assert!(some.next().await.is_some(), "a listing can be read in part");
    });
}

#[test]
#[ignore = "needs rest-server"]
fn ranges_are_exact_and_never_short() {
    let server = Server::start();
    let sink = server.sink("");
    run(async {
        let (key, content) = object("data", large(1_000));
        sink.put(&key, content.clone(), BULK).await.unwrap();
        let config = ObjectKey::new("config");
        sink.put(&config, content.clone(), PutMode::Create).await.unwrap();
        // The server sends a config whole, whatever was asked for.
        for key in [&key, &config] {
            for (start, end) in [(0, 1_000), (0, 1), (999, 1_000), (250, 750), (7, 7), (1_000, 1_000), (0, 0)] {
                let part = sink.get(key, Some(start as u64..end as u64)).await.unwrap();
                assert_eq!(part, content.slice(start..end), "bytes {start}..{end} of {key}");
            }
            for (start, end) in
                [(0, 1_001), (999, 1_001), (1_000, 1_001), (5_000, 5_001), (1_001, 1_001), (0, u64::MAX)]
            {
                let error = sink.get(key, Some(start..end)).await.unwrap_err();
                assert_eq!(error.kind, SinkErrorKind::Truncated, "bytes {start}..{end} of {key}");
            }
        }
        let (absent, _) = object("data", "absent");
        assert_eq!(sink.get(&absent, Some(0..1)).await.unwrap_err().kind, SinkErrorKind::NotFound);
        assert_eq!(sink.get(&absent, None).await.unwrap_err().kind, SinkErrorKind::NotFound);
        assert_eq!(sink.stat(&absent).await.unwrap_err().kind, SinkErrorKind::NotFound);
    });
}

#[test]
#[ignore = "needs rest-server"]
fn an_object_is_never_replaced_and_putting_it_again_is_no_failure() {
    let server = Server::start();
    let sink = server.sink("");
    run(async {
        let (key, content) = object("index", "an index");
        for mode in [PutMode::Overwrite, PutMode::Overwrite, BULK] {
            sink.put(&key, content.clone(), mode).await.unwrap();
        }
        let again = sink.put(&key, content.clone(), PutMode::Create).await.unwrap_err();
        assert_eq!(again.kind, SinkErrorKind::AlreadyExists);
        // What does not hash to its name is refused by the server, and never there.
        let (wrong, _) = object("index", "another");
        let error = sink.put(&wrong, content.clone(), PutMode::Overwrite).await.unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::Unavailable, "as if it had broken on the way");
        let config = ObjectKey::new("config");
        let creators = (0..8).map(|number| {
            let (sink, config) = (Arc::clone(&sink), config.clone());
            tokio::spawn(async move { sink.put(&config, vec![number; 99].into(), PutMode::Create).await.is_ok() })
        });
        let winners = future::join_all(creators).await.into_iter().filter(|end| *end.as_ref().unwrap()).count();
        assert_eq!(winners, 1, "of 8 creators of one config");
        let error = sink.put(&config, "new".into(), PutMode::Overwrite).await.unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::Unsupported);
        assert_eq!(sink.get(&config, None).await.unwrap().len(), 99);
        assert_eq!(names(&*sink, "").await.len(), 2);
    });
}

#[test]
#[ignore = "needs rest-server"]
fn deleting_can_be_repeated() {
    let server = Server::start();
    let sink = server.sink("");
    run(async {
        let (key, content) = object("locks", "a lock");
        sink.put(&key, content, PutMode::Overwrite).await.unwrap();
        for _ in 0..3 {
            sink.delete(&key).await.unwrap();
            assert_eq!(sink.stat(&key).await.unwrap_err().kind, SinkErrorKind::NotFound);
        }
        for never in [object("data", "never").0, ObjectKey::new("ext/records/x"), ObjectKey::new("config")] {
            sink.delete(&never).await.unwrap();
        }
        sink.sync().await.unwrap();
    });
}

#[test]
#[ignore = "needs rest-server"]
fn a_listing_names_all_of_many_objects_and_none_that_is_unfinished() {
    let server = Server::start();
    let sink = server.sink("");
    run(async {
        let all: Vec<_> = (0..1_500_u32).map(|number| object("data", number.to_string())).collect();
        let put_one = |(key, content): (ObjectKey, Bytes)| {
            let sink = Arc::clone(&sink);
            async move { sink.put(&key, content, BULK).await.unwrap() }
        };
        stream::iter(all.clone()).map(put_one).buffer_unordered(16).collect::<()>().await;
        assert_eq!(names(&*sink, "data").await, of(&all));
        let content = large(8 * 1024 * 1024);
        let (key, _) = object("data", content.clone());
        for micros in [0, 200, 2_000, 10_000] {
            let putting = sink.put(&key, content.clone(), BULK);
            if micros == 0 {
                let _ = putting.now_or_never();
            } else {
                let _ = tokio::time::timeout(Duration::from_micros(micros), putting).await;
            }
            let there: Vec<_> = sink.list("data").try_filter(|info| future::ready(info.key == key)).collect().await;
            assert!(there.iter().all(|info| info.as_ref().unwrap().bytes == content.len() as u64), "{there:?}");
        }
        sink.put(&key, content.clone(), BULK).await.unwrap();
        assert!(sink.get(&key, None).await.unwrap() == content);
    });
    // The server keeps unfinished uploads under names of their own.
    assert!(server.files("").len() >= 1_501);
}

#[test]
#[ignore = "needs rest-server"]
fn an_append_only_server_takes_new_objects_and_gives_up_locks_alone() {
    let server = Server::start();
    let (snapshot, content) = object("snapshots", "a snapshot");
    let sink = server.sink("");
    run(async { sink.put(&snapshot, content, PutMode::Overwrite).await.unwrap() });
    let server = server.restart_with(&["--no-auth", "--append-only"]);
    let sink = server.sink("");
    run(async {
        let (pack, content) = object("data", "a pack");
        sink.put(&pack, content, BULK).await.unwrap();
        let (lock, content) = object("locks", "a lock");
        sink.put(&lock, content, PutMode::Overwrite).await.unwrap();
        sink.delete(&lock).await.unwrap();
        for kept in [&snapshot, &pack] {
            let error = sink.delete(kept).await.unwrap_err();
            assert_eq!(error.kind, SinkErrorKind::PermissionDenied);
            assert!(error.hint.is_some_and(|hint| hint.contains("append-only")));
            sink.stat(kept).await.unwrap();
        }
    });
}

#[test]
#[ignore = "needs rest-server"]
fn our_own_records_have_no_place_there_and_it_is_said() {
    let server = Server::start();
    let sink = server.sink("");
    run(async {
        let (record, content) = object("ext/records", "a record");
        let error = sink.put(&record, content, PutMode::Overwrite).await.unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::Unsupported);
        assert_eq!(sink.get(&record, None).await.unwrap_err().kind, SinkErrorKind::NotFound);
    });
}

#[test]
#[ignore = "needs rest-server"]
fn wrong_passwords_wrong_addresses_and_no_server_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    // "me" with the password "right", in the form that Apache calls {SHA}.
    std::fs::write(folder.path().join(".htpasswd"), "me:{SHA}0nofEXcSAJSXFLGvmfBIpBb11vQ=\n").unwrap();
    let server = Server::start_in(folder, &[]);
    let (key, content) = object("index", "x");
    run(async {
        let stranger = server.sink("").stat(&key).await.unwrap_err();
        assert_eq!(stranger.kind, SinkErrorKind::PermissionDenied);
        assert!(stranger.hint.unwrap().contains("BACKUP_REST_PASSWORD"));
        let wrong = sink_as(server.address, "me", "wrong").stat(&key).await.unwrap_err();
        assert_eq!(wrong.kind, SinkErrorKind::PermissionDenied);
        assert!(wrong.hint.unwrap().contains("check the user and the password"));
        sink_as(server.address, "me", "right").put(&key, content.clone(), BULK).await.unwrap();
        let address = server.address;
        drop(server);
        let nobody = sink_as(address, "me", "right").stat(&key).await.unwrap_err();
        assert_eq!(nobody.kind, SinkErrorKind::Unavailable);
        assert!(format!("{:?}", nobody.source).contains("cannot be reached"), "{nobody:?}");
    });
}
