//! Whatever the line does below `ssh`, an operation ends in time, and nothing is damaged.

use std::sync::Arc;
use std::time::Duration;

use backup_core::cancel::Cancel;
use backup_core::care::{CheckOptions, ReadData, check};
use backup_core::clock::SystemClock;
use backup_core::contracts::{ObjectKey, Placement, PutMode, Sink, SinkErrorKind};
use backup_core::model::Id;
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::repository::{CreateOptions, Identity, Passphrase, Repository, ScryptCost};
use backup_core::testing::MemoryTree;
use backup_store::layers::{RetryPolicy, RetrySink};
use bytes::Bytes;

use crate::line::{Line, Trouble, Way};
use crate::server::Server;

/// Stalls are noticed soon, and a test is over soon.
fn brisk(patience: Duration) -> RetryPolicy {
    RetryPolicy {
        wait_first: Duration::from_millis(2),
        wait_max: Duration::from_millis(100),
        patience,
        patience_at_first: patience,
        // A login is in it, which a busy machine takes its time for.
        attempt_base: Duration::from_secs(3),
        listing_begins: Duration::from_secs(3),
        bytes_per_second_min: 64 * 1024 * 1024,
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

#[test]
#[ignore = "needs sshd"]
fn an_object_comes_and_goes_whole_over_a_line_that_is_cut_or_stands_still_in_its_middle() {
    let server = Server::start();
    let content = Bytes::from_iter((0..1_000_000_u32).map(|number| u8::try_from(number % 251).unwrap()));
    let key = ObjectKey::new("data/ab/abcdef");
    let half = content.len() / 2;
    for (number, trouble) in [
        Trouble::Cut(Way::ToServer, half),
        Trouble::Cut(Way::ToClient, half),
        Trouble::Stall(Way::ToServer, half),
        Trouble::Stall(Way::ToClient, half),
        Trouble::Latency(Duration::from_millis(5)),
    ]
    .into_iter()
    .enumerate()
    {
        // Only one login comes to harm: without another one nothing would ever move again.
        let line = Line::once(&server, trouble);
        let sink = line.sink(&server, &format!("store{number}"));
        let patient = RetrySink::new(sink, brisk(Duration::from_secs(120)));
        run(async {
            patient.put(&key, content.clone(), PutMode::Bulk(Placement::Cold)).await.unwrap();
            assert!(patient.get(&key, None).await.unwrap() == content, "{trouble:?}");
        });
        assert_eq!(line.troubles(), u64::from(!matches!(trouble, Trouble::Latency(_))), "{trouble:?}");
    }
}

#[test]
#[ignore = "needs sshd"]
fn a_line_on_which_nothing_ever_moves_ends_with_an_error_when_patience_does() {
    let server = Server::start();
    let line = Line::start(&server, |_| Some(Trouble::Stall(Way::ToClient, 1)));
    let patient = RetrySink::new(line.sink(&server, "store"), brisk(Duration::from_secs(2)));
    run(async {
        let ended = tokio::time::timeout(Duration::from_secs(120), patient.stat(&ObjectKey::new("config"))).await;
        assert_eq!(ended.unwrap().unwrap_err().kind, SinkErrorKind::Unavailable);
    });
    assert!(line.troubles() > 0);
}

#[test]
#[ignore = "needs sshd"]
fn a_repository_made_over_a_bad_line_is_sound() {
    let server = Server::start();
    let identity = Identity { hostname: "host".into(), username: "user".into(), uid: 0, gid: 0, pid: 1 };
    let (passphrase, clock) = (Passphrase::new("secret"), Arc::new(SystemClock));
    let options = CreateOptions { cost: Some(ScryptCost { n: 2, r: 1, p: 1 }), ..CreateOptions::default() };
    // A login takes some 4 KB each way.
    let line = Line::start(&server, |number| {
        let some = |most: u64| 6_000 + usize::try_from(number * 77_777 % most).unwrap();
        Some(match number % 5 {
            0 | 1 => Trouble::Cut(Way::ToServer, some(300_000)),
            2 => Trouble::Cut(Way::ToClient, some(3_000)),
            3 => Trouble::Stall(Way::ToServer, some(300_000)),
            _ => Trouble::Cut(Way::ToServer, 2_000),
        })
    });
    let open = |sink: Arc<dyn Sink>| {
        let sink = Arc::new(RetrySink::new(sink, brisk(Duration::from_secs(120))));
        Repository::open(sink, &passphrase, identity.clone(), clock.clone(), &Silent).unwrap()
    };
    let direct = || server.sink("repo");
    drop(Repository::create(direct(), &passphrase, &options, identity.clone(), clock.clone()).unwrap());
    let (cancel, mut snapshots, mut tree) = (Cancel::new(), Vec::new(), MemoryTree::new());
    for number in 0..4_u32 {
        // No two of its pieces are alike, so that all of it has to cross the line.
        let content: Vec<u8> =
            (0..16_000_u32).flat_map(|at| *Id::of(format!("{number} {at}").as_bytes()).as_bytes()).collect();
        tree = tree.with_file(&format!("/{number}/file"), content).with_file("/changed", number.to_string());
        let repository = open(line.sink(&server, "repo"));
        let options = BackupOptions::default();
        let outcome = backup(&repository, &mut tree.source(50_000), &options, &cancel, &Silent).unwrap();
        snapshots.push(outcome.snapshot.unwrap());
    }
    let direct = open(direct());
    let there: Vec<_> = direct.snapshots().unwrap().into_iter().map(|(id, _)| id).collect();
    assert!(snapshots.iter().all(|id| there.contains(id)));
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    let report = check(&direct, &options, &cancel, &Silent).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert!(line.troubles() > 3, "{}", line.troubles());
}
