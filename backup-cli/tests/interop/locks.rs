//! Restic and we honour each other's locks.

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::driver::{Ran, World};
use crate::judge::{Judge, Kind};

/// A run that holds its lock until its standard input ends.
struct Held(Child);

impl Held {
    /// Starts it and waits until its lock is there.
    fn start(world: &World, mut command: Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let held = Self(command.spawn().unwrap());
        let began = Instant::now();
        while locks(world) == 0 {
            assert!(began.elapsed() < Duration::from_secs(180), "it never took a lock");
            std::thread::sleep(Duration::from_millis(20));
        }
        held
    }

    fn finish(mut self) -> Ran {
        self.0.stdin.take().unwrap().write_all(b"the end of the dump").unwrap();
        Ran::of(&self.0.wait_with_output().unwrap())
    }
}

/// How many locks there are. What is being written has another name still.
fn locks(world: &World) -> usize {
    let entries = fs::read_dir(world.repository().join("locks")).into_iter().flatten();
    entries.filter(|entry| entry.as_ref().unwrap().file_name().len() == 64).count()
}

fn restic_holds(kind: Kind) {
    let world = World::with_snapshot();
    let first = world.json(["snapshots"])["snapshots"][0]["id"].as_str().unwrap().to_owned();
    let restic = Judge::new(kind, &world);
    let mut backup = restic.command();
    backup.args(["backup", "--stdin"]);
    let held = Held::start(&world, backup);
    let pid = held.0.id().to_string();

    world.create(["--tag", "beside"]);
    for refused in [&["prune", "--instant"][..], &["forget", &first], &["tag", &first, "--add", "x"]] {
        let ran = world.run(refused).ends_with(11);
        assert!(ran.err.contains(&format!("process {pid} of ")), "{}", ran.err);
    }
    world.run(["unlock"]).succeeds();
    assert_eq!(locks(&world), 1, "a lock that is held is not removed");
    held.finish().succeeds();
    assert_eq!(locks(&world), 0);
    world.run(["forget", &first]).succeeds();
    world.run(["prune", "--instant"]).succeeds();
    world.run(["check", "--read-data"]).succeeds();
}

fn we_hold(kind: Kind) {
    let world = World::with_snapshot();
    let first = world.json(["snapshots"])["snapshots"][0]["id"].as_str().unwrap().to_owned();
    let restic = Judge::new(kind, &world);
    let mut create = world.command();
    create.args(["create", "-", "--stdin-name", "dump.sql"]);
    let held = Held::start(&world, create);
    let pid = held.0.id().to_string();

    restic.backup();
    for refused in [&["prune"][..], &["forget", &first]] {
        let ran = restic.run(refused);
        assert_ne!(ran.code, 0, "{refused:?}\n{}", ran.out);
        assert!(ran.err.contains("locked") && ran.err.contains(&pid), "{}", ran.err);
    }
    // It asks whether a process lives by a signal that ends those who do not expect it.
    restic.run(["unlock"]).succeeds();
    assert_eq!(locks(&world), 1, "a lock that is held is not removed");
    held.finish().succeeds();
    assert_eq!(locks(&world), 0);
    assert_eq!(
        world.run(["cat", "latest", "/dump.sql", "--source", "/dump.sql"]).succeeds().out,
        "the end of the dump"
    );
    restic.run(["forget", &first, "--prune"]).succeeds();
    world.run(["check", "--read-data"]).succeeds();
}

#[test]
#[ignore = "needs restic"]
fn beside_a_backup_of_restic_we_create_and_do_not_delete() {
    restic_holds(Kind::Restic);
    restic_holds(Kind::ResticDebian);
}

#[test]
#[ignore = "needs restic"]
fn beside_our_create_restic_backs_up_and_does_not_delete() {
    we_hold(Kind::Restic);
    we_hold(Kind::ResticDebian);
}
