//! Whatever the network does before a bucket, an operation ends with success, and nothing is damaged.

use std::net::SocketAddr;
use std::sync::Arc;

use backup_core::cancel::Cancel;
use backup_core::care::{CheckOptions, ReadData, check};
use backup_core::clock::SystemClock;
use backup_core::contracts::Sink;
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::repository::{CreateOptions, Identity, Passphrase, Repository, ScryptCost};
use backup_core::testing::MemoryTree;
use backup_store::layers::RetrySink;

use crate::open;
use crate::proxy::{Fault, Proxy, at_random};
use crate::servers::Server;
use crate::work::{brisk, every_fault, works_through};

/// The place, seen through what listens at `address`.
fn through(server: &Server, address: SocketAddr, prefix: &str) -> Arc<dyn Sink> {
    let place = server.place(prefix).replace(&format!("127.0.0.1:{}", server.port), &address.to_string());
    open(&place, server.variables())
}

fn address(server: &Server) -> SocketAddr {
    ([127, 0, 0, 1], server.port).into()
}

/// Each fault alone, the slow ones less often.
fn each_alone(server: &Server, operations: u32) {
    for (number, fault) in every_fault().into_iter().enumerate() {
        let permille = match fault {
            Fault::Stall => 10,
            Fault::Status(_, Some(1..)) => 30,
            _ => 250,
        };
        let proxy = Proxy::start(address(server), at_random(number as u64, permille, vec![fault]));
        let prefix = format!("each-{number}");
        let direct = open(&server.place(&prefix), server.variables());
        works_through(&proxy, through(server, proxy.address, &prefix), &direct, 4, operations);
    }
}

fn all_at_random(server: &Server, operations: u32) {
    let proxy = Proxy::start(address(server), at_random(21, 120, every_fault()));
    let direct = open(&server.place("all"), server.variables());
    works_through(&proxy, through(server, proxy.address, "all"), &direct, 8, operations);
}

#[test]
#[ignore = "needs minio"]
fn under_each_fault_alone_everything_is_done_as_if_there_was_none() {
    each_alone(&Server::minio(), 30);
}

#[test]
#[ignore = "needs minio"]
fn under_all_faults_at_random_everything_ends_well() {
    all_at_random(&Server::minio(), 60);
}

#[test]
#[ignore = "needs azurite"]
fn under_faults_azure_is_as_good_as_without() {
    let server = Server::azurite();
    each_alone(&server, 30);
    all_at_random(&server, 30);
}

#[test]
#[ignore = "needs gcs-server"]
fn under_faults_google_is_as_good_as_without() {
    let server = Server::gcs();
    each_alone(&server, 12);
    all_at_random(&server, 20);
}

#[test]
#[ignore = "needs minio"]
fn a_repository_made_through_a_bad_network_is_sound() {
    let server = Server::minio();
    let identity = Identity { hostname: "host".into(), username: "user".into(), uid: 0, gid: 0, pid: 1 };
    let (passphrase, clock) = (Passphrase::new("secret"), Arc::new(SystemClock));
    let options = CreateOptions { cost: Some(ScryptCost { n: 2, r: 1, p: 1 }), ..CreateOptions::default() };
    let proxy = Proxy::start(address(&server), at_random(31, 100, every_fault()));
    let bad = || Arc::new(RetrySink::new(through(&server, proxy.address, "repo"), brisk()));
    drop(Repository::create(bad(), &passphrase, &options, identity.clone(), clock.clone()).unwrap());
    let open_by =
        |sink: Arc<dyn Sink>| Repository::open(sink, &passphrase, identity.clone(), clock.clone(), &Silent).unwrap();
    let cancel = Cancel::new();
    let mut snapshots = Vec::new();
    let mut tree = MemoryTree::new();
    for number in 0..4_u8 {
        tree = tree.with_file(&format!("/{number}/file"), vec![number; 300_000]).with_file("/changed", [number]);
        let options = BackupOptions::default();
        let outcome = backup(&open_by(bad()), &mut tree.source(50_000), &options, &cancel, &Silent).unwrap();
        snapshots.push(outcome.snapshot.unwrap());
    }
    let direct = open_by(open(&server.place("repo"), server.variables()));
    let there: Vec<_> = direct.snapshots().unwrap().into_iter().map(|(id, _)| id).collect();
    assert!(snapshots.iter().all(|id| there.contains(id)));
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    let report = check(&direct, &options, &cancel, &Silent).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert!(proxy.faults() > 5);
}
