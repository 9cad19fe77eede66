//! The contract suite, and what a bucket does beyond it.

use std::sync::Arc;

use backup_core::contracts::{ObjectKey, Placement, PutMode, SinkErrorKind};
use backup_core::testing::{Exception, sink_suite, sink_suite_except};
use bytes::Bytes;

use crate::patient::Patient;
use crate::servers::signed::s3;
use crate::servers::{BUCKET, Server};
use crate::{block_on, open};

#[test]
#[ignore = "needs minio"]
fn minio_keeps_every_promise() {
    let server = Server::minio();
    sink_suite(|| open(&server.fresh_place(), server.variables()));
}

#[test]
#[ignore = "needs rclone"]
fn rclone_keeps_every_promise_that_a_server_of_folders_without_conditions_can() {
    let server = Server::rclone();
    let exceptions = [Exception::OneCreatorOfMany, Exception::NamesOfFolders, Exception::Replacing];
    sink_suite_except(&exceptions, || Arc::new(Patient(open(&server.fresh_place(), server.variables()))));
}

#[test]
#[ignore = "needs azurite"]
fn azurite_keeps_every_promise() {
    let server = Server::azurite();
    sink_suite(|| open(&server.fresh_place(), server.variables()));
}

#[test]
#[ignore = "needs gcs-server"]
fn a_google_cloud_storage_keeps_every_promise() {
    let server = Server::gcs();
    sink_suite(|| open(&server.fresh_place(), server.variables()));
}

#[test]
#[ignore = "needs minio"]
fn a_write_that_is_repeated_makes_no_second_version_and_one_that_differs_does() {
    let server = Server::minio();
    let versioning = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    let url = server.url(&format!("{BUCKET}?versioning"));
    assert_eq!(s3(&server.keys(), "PUT", &url, &[], versioning).status, 200);
    let sink = open(&server.place("p"), server.variables());
    let key = ObjectKey::new("index/a");
    let versions = || {
        let listed = s3(&server.keys(), "GET", &server.url(&format!("{BUCKET}?versions")), &[], "");
        listed.body.matches("<Version>").count()
    };
    for (content, expected) in [("one", 1), ("one", 1), ("two", 2), ("two", 2)] {
        for mode in [PutMode::Overwrite, PutMode::Bulk(Placement::Hot)] {
            block_on(sink.put(&key, Bytes::from(content), mode)).unwrap();
            assert_eq!(versions(), expected);
        }
    }
    let again = block_on(sink.put(&key, Bytes::from("two"), PutMode::Create)).unwrap_err();
    assert_eq!(again.kind, SinkErrorKind::AlreadyExists);
    assert_eq!(block_on(sink.get(&key, None)).unwrap(), "two");
}

#[test]
#[ignore = "needs minio"]
fn only_what_is_read_seldom_goes_into_the_storage_class() {
    let server = Server::minio();
    let place = format!("{}&storage_class=REDUCED_REDUNDANCY", server.place("p"));
    let sink = open(&place, server.variables());
    for (name, mode) in [
        ("data/00/cold", PutMode::Bulk(Placement::Cold)),
        ("data/00/hot", PutMode::Bulk(Placement::Hot)),
        ("index/0", PutMode::Overwrite),
        ("config", PutMode::Create),
    ] {
        block_on(sink.put(&ObjectKey::new(name), Bytes::from("x"), mode)).unwrap();
    }
    let listed = s3(&server.keys(), "GET", &server.url(&format!("{BUCKET}?list-type=2")), &[], "").body;
    let class_of = |name: &str| {
        let (_, entry) = listed.split_once(&format!("<Key>p/{name}</Key>")).unwrap();
        entry.split_once("<StorageClass>").unwrap().1.split('<').next().unwrap().to_owned()
    };
    assert_eq!(class_of("data/00/cold"), "REDUCED_REDUNDANCY");
    for name in ["data/00/hot", "index/0", "config"] {
        assert_eq!(class_of(name), "STANDARD", "{name}");
    }
}
