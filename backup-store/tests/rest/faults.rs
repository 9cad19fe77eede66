//! Whatever the network does, an operation ends with success or with an error, in time, and nothing is damaged.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use backup_core::cancel::Cancel;
use backup_core::care::{CheckOptions, ReadData, check};
use backup_core::clock::SystemClock;
use backup_core::contracts::{ObjectKey, PutMode, Sink, SinkErrorKind};
use backup_core::model::Id;
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::repository::{CreateOptions, Identity, Passphrase, Repository, ScryptCost};
use backup_core::testing::MemoryTree;
use backup_store::layers::{RetryPolicy, RetrySink};
use futures::future;
use futures::stream::TryStreamExt;

use crate::proxy::{Fault, Proxy, at_random};
use crate::server::{Server, sink};
use crate::work::{brisk, every_fault, run, works_through};

#[test]
#[ignore = "needs rest-server"]
fn under_each_fault_alone_everything_is_done_as_if_there_was_none() {
    let server = Server::start();
    for (number, fault) in every_fault().into_iter().enumerate() {
        // The slow ones less often.
        let permille = match fault {
            Fault::Stall => 10,
            Fault::Status(_, Some(1..)) => 30,
            _ => 250,
        };
        let proxy = Proxy::start(server.address, at_random(number as u64, permille, vec![fault]));
        let path = format!("repo{number}/");
        works_through(&proxy, sink(proxy.address, &path), &server.sink(&path), 4, 60);
    }
}

#[test]
#[ignore = "needs rest-server"]
fn under_all_faults_at_random_thousands_of_operations_end_well() {
    let server = Server::start();
    for seed in 1..=2 {
        let proxy = Proxy::start(server.address, at_random(seed, 120, every_fault()));
        let path = format!("repo{seed}/");
        works_through(&proxy, sink(proxy.address, &path), &server.sink(&path), 8, 100);
        assert!(proxy.requests() > 1_500, "{}", proxy.requests());
    }
}

#[test]
#[ignore = "needs rest-server"]
fn a_server_that_goes_on_failing_is_given_up_in_time_with_an_error() {
    let server = Server::start();
    let policy = RetryPolicy { patience: Duration::from_secs(3), patience_at_first: Duration::from_secs(3), ..brisk() };
    for fault in [Fault::Reset, Fault::Status(503, None), Fault::Stall, Fault::DoneThenReset, Fault::HalfAnAnswer] {
        let proxy = Proxy::start(server.address, move |_| Some(fault));
        let sink = RetrySink::new(sink(proxy.address, ""), policy);
        // Only a hang is longer.
        let longest = Duration::from_secs(120);
        run(async {
            let key = ObjectKey::new(format!("index/{}", Id::of(b"x")));
            let all = future::join3(
                sink.put(&key, "x".into(), PutMode::Overwrite),
                sink.list("index").try_collect::<Vec<_>>(),
                sink.get(&key, None),
            );
            let ended = tokio::time::timeout(longest, all).await;
            let (put, listed, got) = ended.unwrap_or_else(|_| panic!("{fault:?}: it is never given up"));
            for error in [put.err(), listed.err(), got.err()].into_iter().flatten() {
                // An object that was put after all may have been read, or not been there yet.
                assert!(matches!(error.kind, SinkErrorKind::Unavailable | SinkErrorKind::NotFound), "{error:?}");
            }
        });
    }
}

#[test]
#[ignore = "needs rest-server"]
fn a_store_that_asks_for_a_second_gets_a_second_and_the_user_is_told() {
    let server = Server::start();
    let proxy = Proxy::start(server.address, |number| (number == 0).then_some(Fault::Status(503, Some(1))));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let waits = Arc::clone(&heard);
    let sink = RetrySink::new(sink(proxy.address, ""), brisk())
        .watched_by(move |setback| waits.lock().unwrap().push((setback.wait, setback.error.kind)));
    run(async { assert!(sink.list("index").try_collect::<Vec<_>>().await.unwrap().is_empty()) });
    assert_eq!(*heard.lock().unwrap(), [(Duration::from_secs(1), SinkErrorKind::Unavailable)]);
}

#[test]
#[ignore = "needs rest-server"]
fn a_repository_made_through_a_bad_network_is_sound() {
    let server = Server::start();
    let identity = Identity { hostname: "host".into(), username: "user".into(), uid: 0, gid: 0, pid: 1 };
    let (passphrase, clock) = (Passphrase::new("secret"), Arc::new(SystemClock));
    let options = CreateOptions { cost: Some(ScryptCost { n: 2, r: 1, p: 1 }), ..CreateOptions::default() };
    for seed in 11..=12 {
        let path = format!("repo{seed}/");
        // Half a config may stay when its upload breaks, which no client can mend: that one goes straight.
        drop(Repository::create(server.sink(&path), &passphrase, &options, identity.clone(), clock.clone()).unwrap());
        let proxy = Proxy::start(server.address, at_random(seed, 100, every_fault()));
        let open = |sink: Arc<dyn Sink>| {
            let sink = Arc::new(RetrySink::new(sink, brisk()));
            Repository::open(sink, &passphrase, identity.clone(), clock.clone(), &Silent).unwrap()
        };
        let (silent, cancel) = (Silent, Cancel::new());
        let mut snapshots = Vec::new();
        let mut tree = MemoryTree::new();
        for number in 0..4_u8 {
            let repository = open(sink(proxy.address, &path));
            tree = tree.with_file(&format!("/{number}/file"), vec![number; 300_000]).with_file("/changed", [number]);
            let options = BackupOptions::default();
            let outcome = backup(&repository, &mut tree.source(50_000), &options, &cancel, &silent).unwrap();
            snapshots.push(outcome.snapshot.unwrap());
        }
        let direct = open(server.sink(&path));
        let there: Vec<_> = direct.snapshots().unwrap().into_iter().map(|(id, _)| id).collect();
        assert!(snapshots.iter().all(|id| there.contains(id)));
        let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
        let report = check(&direct, &options, &cancel, &silent).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        assert!(proxy.faults() > 5);
    }
}
