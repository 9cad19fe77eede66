//! Copies from one server to another: from S3 to S3 and to a REST server and back, cut off and taken up again.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::driver::{Ran, World};
use crate::midrun::check_and_restore;
use crate::servers::signed::s3;
use crate::servers::{BUCKET, Server};
use crate::{command, rest, run, tree};

/// What each of the snapshots adds.
const BYTES: usize = 16_000_000;

/// A world with three snapshots in a bucket.
fn with_snapshots(server: &Server, place: &str) -> World {
    let world = World::new();
    run(&world, place, server.variables(), &["init"]).succeeds();
    for state in 0..3 {
        fs::write(world.source().join(format!("large {state}")), tree::noise(BYTES, 20 + state)).unwrap();
        run(&world, place, server.variables(), &["create", world.source().to_str().unwrap()]).succeeds();
    }
    world
}

fn holds_all(world: &World, server: &Server, place: &str) {
    let listed = run(world, place, server.variables(), &["--json", "snapshots"]).succeeds().lines().pop().unwrap();
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 3, "{place}");
    check_and_restore(world, server, place);
}

/// How many packs lie in the server's bucket.
fn packs(server: &Server) -> usize {
    let listed = s3(&server.keys(), "GET", &server.url(&format!("{BUCKET}?list-type=2")), &[], "").body;
    listed.matches("/data/").count()
}

#[test]
#[ignore = "needs minio and rest-server"]
fn copies_go_from_a_bucket_to_a_server_and_on_to_another_bucket() {
    let (from, to) = (Server::minio(), rest::Server::start());
    let first = from.place("first");
    let world = with_snapshots(&from, &first);
    let second = format!("rest:http://{}/repo/", to.address);
    let third = from.place("third");
    for (here, there) in [(&first, &second), (&second, &third), (&third, &first)] {
        if there != &first {
            run(&world, there, from.variables(), &["init", "--like", here]).succeeds();
        }
        let copied = run(&world, here, from.variables(), &["--json", "copy", "--to", there]).succeeds();
        let told = copied.lines().pop().unwrap();
        // Round in a circle nothing is copied: they are the same snapshots.
        let is_new = there != &first;
        assert_eq!(told["done"]["bytes_stored"].as_u64().unwrap() > BYTES as u64, is_new, "{told}");
        holds_all(&world, &from, there);
    }
}

#[test]
#[ignore = "needs minio"]
fn a_copy_between_buckets_that_is_cut_off_shows_nothing_half_and_the_next_one_goes_on() {
    let (from, to) = (Server::minio(), Server::minio());
    let here = from.place("here");
    let world = with_snapshots(&from, &here);
    let there = to.place("there");
    run(&world, &there, to.variables(), &["init", "--like", &here]).succeeds();
    for signal in [Signal::KILL, Signal::TERM] {
        let mut copy = command(&world, &here, from.variables());
        // Six seconds for all of it.
        copy.args(["copy", "--to", &there, "--limit-upload", "8MB"]).stdout(Stdio::null()).stderr(Stdio::null());
        let before = packs(&to);
        let mut child = copy.spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(180);
        while packs(&to) == before && Instant::now() < end {
            thread::sleep(Duration::from_millis(50));
        }
        assert!(child.try_wait().unwrap().is_none(), "it was through before it could be cut off");
        kill_process(Pid::from_child(&child), signal).unwrap();
        let ended = child.wait().unwrap();
        assert_eq!(ended.code(), (signal == Signal::TERM).then_some(130));
        run(&world, &there, to.variables(), &["check"]).succeeds();
    }
    let mut copy = command(&world, &here, from.variables());
    let told =
        Ran::of(&copy.args(["--json", "copy", "--to", &there]).output().unwrap()).succeeds().lines().pop().unwrap();
    let stored = told["done"]["bytes_stored"].as_u64().unwrap();
    assert!(stored < 3 * BYTES as u64 - 5_000_000, "what was stored before is not sent again: {told}");
    holds_all(&world, &to, &there);
}
