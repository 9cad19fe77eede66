//! What goes wrong in the middle of a run: credentials that expire, a clock that is wrong, a place that goes away while
//! another one goes on.

use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::driver::{Ran, World};
use crate::proxy::{Fault, Proxy};
use crate::servers::Server;
use crate::{command, run, tree};

/// A proxy before the server that spoils everything once `is_on`.
fn proxy(server: &Server, fault: Fault, is_on: impl Fn(u64) -> bool + Send + Sync + 'static) -> Proxy {
    Proxy::start(([127, 0, 0, 1], server.port).into(), move |number| is_on(number).then_some(fault))
}

fn seen_through(server: &Server, proxy: &Proxy, prefix: &str) -> String {
    server.place(prefix).replace(&format!("127.0.0.1:{}", server.port), &proxy.address.to_string())
}

/// A world, and two new repositories of it.
fn two_places(server: &Server) -> (World, String, String) {
    let (world, near, far) = (World::new(), server.place("near"), server.place("far"));
    for place in [&near, &far] {
        run(&world, place, server.variables(), &["init"]).succeeds();
    }
    (world, near, far)
}

/// The repository is sound, and its newest snapshot comes back as the source is.
pub(crate) fn check_and_restore(world: &World, server: &Server, place: &str) {
    run(world, place, server.variables(), &["check", "--read-data"]).succeeds();
    let to = tempfile::tempdir_in(world.path()).unwrap();
    let source = world.source();
    let arguments = ["restore", "latest", "--path", source.to_str().unwrap(), "--to", to.path().to_str().unwrap()];
    run(world, place, server.variables(), &arguments).succeeds();
    let found = tree::differences(&source, to.path());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
#[ignore = "needs minio"]
fn credentials_that_expire_and_a_clock_that_is_wrong_are_two_lines_and_the_next_run_goes_on() {
    let server = Server::minio();
    for (prefix, code, word) in [("a", "ExpiredToken", "expired"), ("b", "RequestTimeTooSkewed", "clock")] {
        let world = World::new();
        let source = world.source();
        fs::write(source.join("large"), tree::noise(40_000_000, 3)).unwrap();
        let direct = server.place(prefix);
        run(&world, &direct, server.variables(), &["init"]).succeeds();
        // The lock and what is looked at first pass, and a pack or two.
        let proxy = proxy(&server, Fault::Refused(403, code), |number| number >= 9);
        let place = seen_through(&server, &proxy, prefix);
        let failed = run(&world, &place, server.variables(), &["--quiet", "create", source.to_str().unwrap()]);
        assert!(failed.code == 1 && failed.err.contains(word) && failed.err.contains(code), "{}", failed.err);
        assert!(failed.err.trim_end().lines().count() <= 2, "{}", failed.err);
        assert!(proxy.requests() >= 9, "it failed before anything was sent");
        assert!(run(&world, &direct, server.variables(), &["snapshots"]).succeeds().out.contains("no snapshots"));
        run(&world, &direct, server.variables(), &["create", source.to_str().unwrap()]).succeeds();
        check_and_restore(&world, &server, &direct);
    }
}

#[test]
#[ignore = "needs minio"]
fn a_restore_whose_credentials_expire_ends_with_two_lines() {
    let (server, world) = (Server::minio(), World::new());
    let source = world.source();
    for number in 0..60 {
        fs::write(source.join(format!("{number}")), tree::noise(700_000, number)).unwrap();
    }
    let direct = server.place("p");
    run(&world, &direct, server.variables(), &["init"]).succeeds();
    run(&world, &direct, server.variables(), &["create", source.to_str().unwrap()]).succeeds();
    // The lock, the index, the trees, and some of the content pass.
    let proxy = proxy(&server, Fault::Refused(403, "ExpiredToken"), |number| number >= 11);
    let place = seen_through(&server, &proxy, "p");
    let to = world.path().join("to");
    let arguments = ["--quiet", "--no-lock", "--no-cache", "restore", "latest", "--to", to.to_str().unwrap()];
    let failed = run(&world, &place, server.variables(), &arguments);
    assert!(failed.code == 1 && failed.err.contains("expired"), "{} {}", failed.code, failed.err);
    assert!(failed.err.trim_end().lines().count() <= 2, "{}", failed.err);
    assert!(to.join(source.strip_prefix("/").unwrap()).exists(), "it failed before anything was restored");
}

#[test]
#[ignore = "needs minio"]
fn one_of_two_places_that_goes_away_is_behind_and_the_next_run_catches_it_up() {
    let server = Server::minio();
    let (world, near, far) = two_places(&server);
    let source = world.source();
    fs::write(source.join("large"), tree::noise(40_000_000, 4)).unwrap();
    let proxy = proxy(&server, Fault::Refused(403, "ExpiredToken"), |number| number >= 9);
    let through = seen_through(&server, &proxy, "far");
    let both = |far: &str| {
        let arguments = ["--json", "create", "-r", &near, "-r", far, source.to_str().unwrap()];
        run(&world, "", server.variables(), &arguments)
    };
    let behind = both(&through).ends_with(5);
    let told = behind.lines().pop().unwrap();
    assert!(told["repositories"][0]["snapshot"].is_string() && told["repositories"][1]["snapshot"].is_null(), "{told}");
    check_and_restore(&world, &server, &near);
    both(&far).succeeds();
    for place in [&near, &far] {
        check_and_restore(&world, &server, place);
    }
}

#[test]
#[ignore = "needs minio"]
fn a_backup_to_two_places_that_is_killed_in_the_middle_leaves_both_sound_and_the_next_run_catches_both_up() {
    let server = Server::minio();
    let (world, near, far) = two_places(&server);
    let source = world.source();
    run(&world, "", server.variables(), &["create", "-r", &near, "-r", &far, source.to_str().unwrap()]).succeeds();
    fs::write(source.join("large"), tree::noise(50_000_000, 6)).unwrap();
    let is_seen = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_seen);
    // The far one is slow, and says when packs have begun to arrive.
    let proxy = proxy(&server, Fault::Latency(Duration::from_millis(300)), move |number| {
        seen.fetch_or(number >= 10, Ordering::Relaxed);
        true
    });
    let through = seen_through(&server, &proxy, "far");
    let mut create = command(&world, "", server.variables());
    create.args(["create", "-r", &near, "-r", &through, source.to_str().unwrap()]);
    let mut child = create.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(180);
    while !is_seen.load(Ordering::Relaxed) && Instant::now() < end {
        assert!(child.try_wait().unwrap().is_none(), "it was through before it could be killed");
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let snapshots = |place: &str| {
        let listed = run(&world, place, server.variables(), &["--json", "snapshots"]).succeeds().lines().pop().unwrap();
        listed["snapshots"].as_array().unwrap().len()
    };
    for place in [&near, &far] {
        assert_eq!(snapshots(place), 1);
        run(&world, place, server.variables(), &["check"]).succeeds();
    }
    let both = ["create", "-r", &near, "-r", &far, source.to_str().unwrap()];
    Ran::of(&command(&world, "", server.variables()).args(both).output().unwrap()).succeeds();
    for place in [&near, &far] {
        assert_eq!(snapshots(place), 2);
        check_and_restore(&world, &server, place);
    }
}
