//! A hot and a cold bucket as one repository: what protects one bucket protects both, and what comes back comes back in
//! both.

use std::fs;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::driver::{Ran, World};
use crate::servers::signed::s3;
use crate::servers::{BUCKET, Server};
use crate::{command, tree};

/// Two buckets with object lock, which keep versions therefore, and a snapshot in them.
struct Pair {
    world: World,
    server: Server,
}

impl Pair {
    fn new() -> Self {
        let pair = Self { world: World::new(), server: Server::minio() };
        for bucket in ["hot", "cold"] {
            let lock = [("x-amz-bucket-object-lock-enabled", "true")];
            assert_eq!(s3(&pair.server.keys(), "PUT", &pair.server.url(bucket), &lock, "").status, 200);
        }
        fs::write(pair.world.source().join("large"), tree::noise(3_000_000, 8)).unwrap();
        pair.run(&["init"]).succeeds();
        pair.run(&["create", pair.world.source().to_str().unwrap()]).succeeds();
        pair
    }

    fn place(&self, bucket: &str) -> String {
        self.server.place("p").replace(BUCKET, bucket)
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = command(&self.world, &self.place("hot"), self.server.variables());
        Ran::of(&command.env("BACKUP_REPO_COLD", self.place("cold")).args(arguments).output().unwrap())
    }

    fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let all: Vec<_> = ["--json"].iter().chain(arguments).copied().collect();
        self.run(&all).ends_with(code).lines().pop().unwrap()
    }

    fn keys(&self, bucket: &str) -> Vec<String> {
        let listed = s3(&self.server.keys(), "GET", &self.server.url(&format!("{bucket}?list-type=2")), &[], "").body;
        listed.split("<Key>").skip(1).map(|rest| rest.split_once("</Key>").unwrap().0.to_owned()).collect()
    }
}

#[test]
#[ignore = "needs minio"]
fn both_halves_of_a_pair_are_protected() {
    let pair = Pair::new();
    let looked = pair.json(1, &["protect", "--days", "30", "--dry-run"]);
    let short = looked["short"].as_array().unwrap();
    let of = |bucket: &str| short.iter().filter(|one| one["place"] == format!("s3://{bucket}/p")).count();
    assert_eq!((of("hot") + of("cold")) as u64, looked["objects"].as_u64().unwrap(), "{looked}");
    // Packs of content and the config; key, index, snapshot and a pack of folders.
    assert_eq!((of("cold"), of("hot")), (pair.keys("cold").len(), 4), "{looked}");
    let done = pair.json(0, &["protect", "--days", "30"]);
    assert_eq!(done["prolonged"], looked["objects"], "{done}");
    assert_eq!(pair.json(0, &["protect", "--days", "29"])["enough"], looked["objects"]);
}

#[test]
#[ignore = "needs minio"]
fn what_was_deleted_in_either_half_comes_back() {
    let pair = Pair::new();
    thread::sleep(Duration::from_millis(1_100));
    let at = Timestamp::now().to_string();
    thread::sleep(Duration::from_millis(1_100));
    let all: Vec<_> =
        ["hot", "cold"].iter().flat_map(|bucket| pair.keys(bucket).into_iter().map(move |key| (bucket, key))).collect();
    for (bucket, key) in &all {
        assert_eq!(
            s3(&pair.server.keys(), "DELETE", &pair.server.url(&format!("{bucket}/{key}")), &[], "").status,
            204
        );
    }
    pair.run(&["snapshots"]).ends_with(10);
    let planned = pair.json(0, &["repair", "undelete", "--at", &at, "--dry-run"]);
    let places: Vec<_> = planned["objects"].as_array().unwrap().iter().map(|one| one["place"].clone()).collect();
    assert_eq!(places.len(), all.len(), "{planned}");
    assert!(places.contains(&"s3://hot/p".into()) && places.contains(&"s3://cold/p".into()), "{planned}");
    pair.run(&["repair", "undelete", "--at", &at]).succeeds();
    pair.run(&["check", "--read-data"]).succeeds();
    assert!(pair.run(&["repair", "undelete", "--at", &at]).succeeds().out.contains("nothing was deleted"));
}

#[test]
#[ignore = "needs minio"]
fn half_of_a_pair_that_is_no_bucket_or_keeps_no_versions_is_told_before_anything_is_changed() {
    let pair = Pair::new();
    let mut with_folder = command(&pair.world, &pair.place("hot"), pair.server.variables());
    let with_folder = with_folder.env("BACKUP_REPO_COLD", pair.world.path().join("cold"));
    let refused = Ran::of(&with_folder.args(["protect", "--days", "3"]).output().unwrap()).ends_with(2);
    assert!(refused.err.contains("is no bucket"), "{}", refused.err);

    for key in pair.keys("hot") {
        assert_eq!(s3(&pair.server.keys(), "DELETE", &pair.server.url(&format!("hot/{key}")), &[], "").status, 204);
    }
    let mut without = command(&pair.world, &pair.place("hot"), pair.server.variables());
    let without = without.env("BACKUP_REPO_COLD", pair.place(BUCKET));
    let refused = Ran::of(&without.args(["repair", "undelete", "--at", "2026-01-01"]).output().unwrap()).ends_with(1);
    assert!(refused.err.contains("keeps no versions"), "{}", refused.err);
    assert!(pair.keys("hot").is_empty(), "something came back all the same");
}
