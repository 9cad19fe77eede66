//! Backups with credentials that can neither delete nor replace, and what comes back when somebody had more.

use std::fs;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use crate::driver::{Ran, World};
use crate::proxy::{Fault, Proxy};
use crate::servers::signed::{s3, sha256};
use crate::servers::{BUCKET, Server};
use crate::{run, tree};

/// Switches versions on.
fn keep_versions(server: &Server) {
    let versioning = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    let url = server.url(&format!("{BUCKET}?versioning"));
    assert_eq!(s3(&server.keys(), "PUT", &url, &[], versioning).status, 200);
}

/// Insists that what was there at an instant is there again, whole.
#[track_caller]
pub(crate) fn assert_all_is_back(world: &World, go: impl Fn(&[&str]) -> Ran, at: &str) {
    go(&["check", "--read-data"]).succeeds();
    assert!(go(&["repair", "undelete", "--at", at]).succeeds().out.contains("nothing was deleted"));
    let to = world.path().join("restored");
    go(&["restore", "latest", "--to", to.to_str().unwrap()]).succeeds();
    let source = world.source();
    let found = tree::differences(&source, &to.join(source.strip_prefix("/").unwrap()));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
#[ignore = "needs minio"]
fn what_a_thief_deletes_and_replaces_comes_back() {
    let server = Server::minio();
    keep_versions(&server);
    let world = World::new();
    let place = server.place("p");
    let go = |arguments: &[&str]| run(&world, &place, server.variables(), arguments);
    go(&["init"]).succeeds();
    let source = world.source();
    fs::write(source.join("large"), tree::noise(20_000_000, 5)).unwrap();
    go(&["create", source.to_str().unwrap()]).succeeds();
    go(&["check"]).succeeds();
    let good = Timestamp::now();
    thread::sleep(Duration::from_millis(1_100));
    assert!(go(&["repair", "undelete", "--at", &good.to_string()]).succeeds().out.contains("nothing was deleted"));

    let listed = s3(&server.keys(), "GET", &server.url(&format!("{BUCKET}?list-type=2")), &[], "").body;
    let keys: Vec<&str> = listed.split("<Key>").skip(1).map(|rest| rest.split_once("</Key>").unwrap().0).collect();
    assert!(keys.len() > 6, "{keys:?}");
    for (number, key) in keys.iter().enumerate() {
        let url = server.url(&format!("{BUCKET}/{key}"));
        if number % 3 == 0 {
            assert_eq!(s3(&server.keys(), "PUT", &url, &[], "ransom").status, 200);
        } else {
            assert_eq!(s3(&server.keys(), "DELETE", &url, &[], "").status, 204);
        }
    }
    // Ids are random, so it depends on the run which object is missed first: the configuration, a key, or what follows.
    let robbed = go(&["check"]);
    assert!([1, 10, 12].contains(&robbed.code), "{}\n{}", robbed.code, robbed.err);
    let at = good.to_string();
    let planned = go(&["--json", "repair", "undelete", "--at", &at, "--dry-run"]).succeeds().lines().pop().unwrap();
    assert_eq!(planned["objects"].as_array().unwrap().len(), keys.len(), "{planned}");
    go(&["repair", "undelete", "--at", &at]).succeeds();
    assert_all_is_back(&world, go, &at);
}

#[test]
#[ignore = "needs minio"]
fn a_bucket_without_versions_says_that_nothing_can_come_back() {
    let server = Server::minio();
    let world = World::new();
    let ran = run(&world, &server.place("p"), server.variables(), &["repair", "undelete", "--at", "2026-01-01"]);
    assert!(ran.ends_with(1).err.contains("keeps no versions"));
    let folder = world.path().join("folder");
    run(&world, folder.to_str().unwrap(), Vec::new(), &["repair", "undelete", "--at", "2026-01-01"]).ends_with(2);
}

#[test]
#[ignore = "needs minio"]
fn credentials_that_can_only_add_are_enough_for_a_backup_and_nothing_is_replaced() {
    let server = Server::minio();
    keep_versions(&server);
    let world = World::new();
    let place = server.place("p");
    run(&world, &place, server.variables(), &["init"]).succeeds();
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[
        {{"Effect":"Allow","Action":["s3:ListBucket"],"Resource":["arn:aws:s3:::{BUCKET}"]}},
        {{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":["arn:aws:s3:::{BUCKET}/p/*"]}}]}}"#
    );
    let adder = server.keys().restricted(&server.endpoint(), &policy);
    let source = world.source();
    for round in 0..3 {
        fs::write(source.join("new"), format!("{round}")).unwrap();
        run(&world, &place, adder.variables(), &["--no-lock", "create", source.to_str().unwrap()]).succeeds();
    }
    run(&world, &place, adder.variables(), &["--no-lock", "check", "--read-data"]).succeeds();
    let listed = s3(&server.keys(), "GET", &server.url(&format!("{BUCKET}?versions")), &[], "").body;
    let count = |element: &str| listed.matches(element).count();
    assert_eq!(count("<Version>"), count("<IsLatest>true</IsLatest>"), "something was replaced: {listed}");
    assert_eq!(count("<DeleteMarker>"), 0, "{listed}");
}

#[test]
#[ignore = "needs minio"]
fn what_the_snapshots_need_is_protected_for_longer_and_that_is_read_back() {
    let server = Server::minio();
    let bucket = server.url("locked");
    let with_lock = [("x-amz-bucket-object-lock-enabled", "true")];
    assert_eq!(s3(&server.keys(), "PUT", &bucket, &with_lock, "").status, 200);
    let a_day = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                 <Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
    assert_eq!(s3(&server.keys(), "PUT", &format!("{bucket}?object-lock"), &[], a_day).status, 200);
    let world = World::new();
    let place = server.place("p").replace(BUCKET, "locked");
    let go = |arguments: &[&str]| run(&world, &place, server.variables(), arguments);
    let last = |arguments: &[&str], code| go(arguments).ends_with(code).lines().pop().unwrap();
    go(&["init"]).succeeds();
    go(&["create", world.source().to_str().unwrap()]).succeeds();

    let looked = last(&["--json", "protect", "--days", "30", "--dry-run"], 1);
    let objects = looked["objects"].as_u64().unwrap();
    assert!(objects >= 6, "{looked}");
    assert_eq!(looked["short"].as_array().unwrap().len() as u64, objects, "{looked}");
    assert!(looked["short"][0]["until"].is_string(), "the bucket's day counts: {looked}");
    let done = last(&["--json", "protect", "--days", "30"], 0);
    assert_eq!((done["prolonged"].as_u64(), done["enough"].as_u64()), (Some(objects), Some(0)), "{done}");
    // The index, the snapshot, the packs and the rest are what they were; nothing is new but a lock, which is no part.
    let again = last(&["--json", "protect", "--days", "29"], 0);
    assert_eq!(again["enough"].as_u64(), Some(objects), "{again}");

    let listed = s3(&server.keys(), "GET", &format!("{bucket}?versions"), &[], "").body;
    let (_, config) = listed.split_once("<Key>p/config</Key>").unwrap();
    let version = config.split_once("<VersionId>").unwrap().1.split('<').next().unwrap();
    let removed = s3(&server.keys(), "DELETE", &format!("{bucket}/p/config?versionId={version}"), &[], "");
    assert_ne!(removed.status, 204, "the store says that it is protected, and removes it");
    go(&["check", "--read-data"]).succeeds();

    let ran = run(&world, &server.place("p"), server.variables(), &["init"]).succeeds();
    drop(ran);
    let unprotected = run(&world, &server.place("p"), server.variables(), &["protect", "--days", "1"]);
    assert!(unprotected.ends_with(1).err.contains("no object lock"));
}

#[test]
#[ignore = "needs minio"]
fn until_when_nobody_can_delete_a_backup_is_known_once_protect_has_seen_it() {
    let server = Server::minio();
    let bucket = server.url("sealed");
    let with_lock = [("x-amz-bucket-object-lock-enabled", "true")];
    assert_eq!(s3(&server.keys(), "PUT", &bucket, &with_lock, "").status, 200);
    let a_day = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                 <Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
    assert_eq!(s3(&server.keys(), "PUT", &format!("{bucket}?object-lock"), &[], a_day).status, 200);
    let world = World::new();
    let place = server.place("p").replace(BUCKET, "sealed");
    let file = world.path().join("backup.toml");
    let job = format!("[jobs.app]\nsource = \"{}\"\noffsite = \"none: a test\"\n", world.source().display());
    fs::write(&file, format!("[repositories.sealed]\nurl = \"{place}\"\n{job}")).unwrap();
    let go = |arguments: &[&str]| {
        let configured = ["-c", "backup.toml"].iter().chain(arguments).copied().collect::<Vec<_>>();
        run(&world, &place, server.variables(), &configured)
    };
    go(&["init"]).succeeds();
    go(&["run"]).succeeds();
    let status = || {
        let status = go(&["--json", "status"]).succeeds().lines().pop().unwrap();
        let job = &status["jobs"][0];
        (job["copies"][0]["newest"]["immutable_until"].clone(), job["standing"]["compromised"]["exposure"].clone())
    };
    assert_eq!(status(), (serde_json::Value::Null, "unknown".into()), "nobody has asked the store yet");
    let before = Timestamp::now();
    let done = go(&["--json", "protect", "--days", "2"]).succeeds().lines().pop().unwrap();
    assert_eq!((&done["recorded"], &done["least"]["mode"]), (&true.into(), &"COMPLIANCE".into()), "{done}");
    let (until, exposure) = status();
    let until: Timestamp = until.as_str().unwrap().parse().unwrap();
    let two_days = jiff::SignedDuration::from_hours(48);
    assert!(until >= before + two_days && until < before + two_days + two_days, "{until}");
    assert_eq!(exposure, "since");
    let told = go(&["status"]).succeeds().out;
    assert!(told.contains("nobody can delete it in sealed before"), "{told}");
    // What came since is not known to be protected for so long.
    fs::write(world.source().join("new"), "new").unwrap();
    go(&["run"]).succeeds();
    assert_eq!(status(), (serde_json::Value::Null, "since".into()), "the one before it is left");
}

/// A world whose repository lies in a bucket of this name with object lock.
fn in_locked_bucket(server: &Server, name: &str) -> (World, String) {
    let with_lock = [("x-amz-bucket-object-lock-enabled", "true")];
    assert_eq!(s3(&server.keys(), "PUT", &server.url(name), &with_lock, "").status, 200);
    let (world, place) = (World::new(), server.place("p").replace(BUCKET, name));
    run(&world, &place, server.variables(), &["init"]).succeeds();
    run(&world, &place, server.variables(), &["create", world.source().to_str().unwrap()]).succeeds();
    (world, place)
}

/// The names of a bucket's objects that contain `part`.
fn keys(server: &Server, bucket: &str, part: &str) -> Vec<String> {
    let listed = s3(&server.keys(), "GET", &server.url(&format!("{bucket}?list-type=2")), &[], "").body;
    let keys = listed.split("<Key>").skip(1).map(|rest| rest.split_once("</Key>").unwrap().0.to_owned());
    keys.filter(|key| key.contains(part)).collect()
}

#[test]
#[ignore = "needs minio"]
fn what_was_written_over_a_backup_or_deleted_is_not_certified_as_protected() {
    let server = Server::minio();
    let (world, place) = in_locked_bucket(&server, "robbed");
    let protect = |code| {
        let ran = run(&world, &place, server.variables(), &["--json", "protect", "--days", "5"]).ends_with(code);
        ran.lines().pop().unwrap()
    };
    let whole = protect(0);
    assert_eq!((&whole["uncompared"], &whole["recorded"]), (&0.into(), &true.into()), "{whole}");
    let good = Timestamp::now();
    thread::sleep(Duration::from_millis(1_100));
    let packs = keys(&server, "robbed", "/data/");
    let bytes = s3(&server.keys(), "GET", &server.url(&format!("robbed/{}", packs[1])), &[], "").length;
    // One with something of another size, one with something of its own size.
    let other = "x".repeat(bytes);
    for (pack, content) in [(&packs[0], "ransom"), (&packs[1], other.as_str())] {
        let sum = sha256(content);
        let sums = [("x-amz-checksum-sha256", sum.as_str())];
        assert_eq!(s3(&server.keys(), "PUT", &server.url(&format!("robbed/{pack}")), &sums, content).status, 200);
    }
    let robbed = protect(1);
    let why: Vec<_> =
        robbed["short"].as_array().unwrap().iter().map(|short| short["reason"].as_str().unwrap()).collect();
    assert_eq!(why, ["replaced", "replaced"], "{robbed}");
    assert_eq!(robbed["recorded"], false, "{robbed}");
    let told = run(&world, &place, server.variables(), &["protect", "--days", "5"]).ends_with(1).out;
    assert!(told.contains("2 not protected") && told.contains("undelete"), "{told}");
    run(&world, &place, server.variables(), &["repair", "undelete", "--at", &good.to_string()]).succeeds();
    protect(0);
    assert_eq!(s3(&server.keys(), "DELETE", &server.url(&format!("robbed/{}", packs[0])), &[], "").status, 204);
    assert_eq!(protect(1)["short"][0]["reason"], "missing");
}

#[test]
#[ignore = "needs minio"]
fn a_server_that_is_busy_now_and_then_delays_protect_and_undelete_and_does_not_end_them() {
    let server = Server::minio();
    let (world, place) = in_locked_bucket(&server, "busy");
    let good = Timestamp::now();
    thread::sleep(Duration::from_millis(1_100));
    let plan = |number| (number % 5 == 3).then_some(Fault::Status(503, Some(0)));
    let proxy = Proxy::start(([127, 0, 0, 1], server.port).into(), plan);
    let through = place.replace(&format!("127.0.0.1:{}", server.port), &proxy.address.to_string());
    run(&world, &through, server.variables(), &["protect", "--days", "5"]).succeeds();
    let packs = keys(&server, "busy", "/data/");
    for pack in &packs {
        assert_eq!(s3(&server.keys(), "DELETE", &server.url(&format!("busy/{pack}")), &[], "").status, 204);
    }
    run(&world, &through, server.variables(), &["repair", "undelete", "--at", &good.to_string()]).succeeds();
    assert_eq!(keys(&server, "busy", "/data/"), packs);
    assert!(proxy.faults() > 3, "{}", proxy.faults());
}

#[test]
#[ignore = "needs minio"]
fn what_came_back_into_a_bucket_that_encrypts_is_known_to_be_back() {
    let server = Server::minio();
    keep_versions(&server);
    let encryption = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms\
                      </SSEAlgorithm><KMSMasterKeyID>tests</KMSMasterKeyID></ApplyServerSideEncryptionByDefault></Rule>\
                      </ServerSideEncryptionConfiguration>";
    let url = server.url(&format!("{BUCKET}?encryption"));
    assert_eq!(s3(&server.keys(), "PUT", &url, &[], encryption).status, 200);
    let (world, place) = (World::new(), server.place("p"));
    run(&world, &place, server.variables(), &["init"]).succeeds();
    run(&world, &place, server.variables(), &["create", world.source().to_str().unwrap()]).succeeds();
    let good = Timestamp::now();
    thread::sleep(Duration::from_millis(1_100));
    let all = keys(&server, BUCKET, "p/");
    for key in &all {
        assert_eq!(s3(&server.keys(), "DELETE", &server.url(&format!("{BUCKET}/{key}")), &[], "").status, 204);
    }
    let undelete = || {
        let arguments = ["--json", "repair", "undelete", "--at", &good.to_string()];
        run(&world, &place, server.variables(), &arguments).succeeds().lines().pop().unwrap()
    };
    assert_eq!(undelete()["objects"].as_array().unwrap().len(), all.len());
    let again = undelete();
    assert_eq!(again["objects"].as_array().unwrap().len(), 0, "{again}");
    run(&world, &place, server.variables(), &["check", "--read-data"]).succeeds();
}
