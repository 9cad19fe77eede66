//! What happens when the daemon is killed, when there are two, and when a repository is away for a while.

use std::fs;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::driver::{Ran, World};
use crate::postgres;
use crate::running::Daemon;
use crate::servers::{self, BUCKET};

/// A world with a job of one slot, which is the next minute, and a run of which waits until it is let go. It has run once
/// before, so that every daemon owes the slot.
fn waiting() -> World {
    let world = World::with_repository();
    let at = |name: &str| world.path().join(name).display().to_string();
    let text = |hook: &str| {
        format!(
            "[daemon]\nlisten = \"127.0.0.1:0\"\n[repositories.local]\nurl = \"{}\"\n[jobs.app]\nsource = \"{}\"\n\
            offsite = \"none: a test\"\nschedule = \"{} * * * *\"\n{hook}",
            world.repository().display(),
            world.source().display(),
            next_minute(),
        )
    };
    fs::write(world.path().join("backup.toml"), text("")).unwrap();
    backup(&world, &["run", "app"]).succeeds();
    let wait = format!("echo $PPID > {}; while [ ! -e {} ]; do sleep 0.05; done", at("run"), at("go"));
    let hooks = format!("hooks = {{ before = \"{wait}\", failure = \"sleep 0.2; touch {}\" }}\n", at("failed"));
    fs::write(world.path().join("backup.toml"), text(&hooks)).unwrap();
    world
}

/// The minute of the next hour's clock that begins soon, and not so soon that a daemon could miss it.
fn next_minute() -> u64 {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    ((seconds + 8) / 60 + 1) % 60
}

fn command(world: &World, arguments: &[&str]) -> Command {
    let mut command = world.command();
    command.env_remove("BACKUP_REPO").env("HOME", world.path()).args(["-c", "backup.toml"]).args(arguments);
    command
}

fn backup(world: &World, arguments: &[&str]) -> Ran {
    Ran::of(&command(world, arguments).output().unwrap())
}

fn daemon(world: &World) -> Daemon {
    Daemon::start(command(world, &["daemon"]))
}

fn snapshots(world: &World) -> usize {
    world.json(["snapshots"])["snapshots"].as_array().unwrap().len()
}

/// Waits until the run has begun; its process.
fn begun(world: &World, daemon: &Daemon) -> String {
    let path = world.path().join("run");
    daemon.wait_for("the run has begun", || fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')));
    fs::read_to_string(path).unwrap().trim().to_owned()
}

/// At once, because each waits for a minute to begin.
#[test]
#[ignore = "takes a minute"]
fn a_slot_is_run_once_whether_its_daemon_is_killed_or_stopped_with_its_run_or_without_or_is_one_of_two() {
    thread::scope(|scope| {
        scope.spawn(a_run_outlives_its_daemon_and_the_next_daemon_leaves_its_slot_alone);
        scope.spawn(a_slot_whose_run_was_killed_with_its_daemon_is_run_by_the_next_one);
        scope.spawn(of_two_daemons_on_one_repository_one_runs_a_slot);
        scope.spawn(a_run_that_was_stopped_with_its_daemon_is_owed_and_its_failure_hook_has_run);
    });
}

fn a_run_outlives_its_daemon_and_the_next_daemon_leaves_its_slot_alone() {
    let world = waiting();
    let first = daemon(&world);
    begun(&world, &first);
    first.kill();
    let second = daemon(&world);
    second.wait_for("it has asked for the slot", || second.said().contains("run app done"));
    assert_eq!(snapshots(&world), 1, "the run is still under way");
    fs::write(world.path().join("go"), "").unwrap();
    second.wait_for("the run has ended", || snapshots(&world) == 2);
    assert_eq!(second.stop().0, 0);
    assert_eq!(snapshots(&world), 2);
    world.run(["check", "--read-data"]).succeeds();
}

fn a_slot_whose_run_was_killed_with_its_daemon_is_run_by_the_next_one() {
    let world = waiting();
    let first = daemon(&world);
    let run = begun(&world, &first);
    first.kill();
    assert!(Command::new("kill").args(["-s", "KILL", &run]).status().unwrap().success());
    fs::write(world.path().join("go"), "").unwrap();
    let second = daemon(&world);
    second.wait_for("the slot is made up for", || second.said().contains("run app done"));
    assert_eq!(second.stop().0, 0);
    assert_eq!(snapshots(&world), 2);
    world.run(["check", "--read-data"]).succeeds();
}

fn a_run_that_was_stopped_with_its_daemon_is_owed_and_its_failure_hook_has_run() {
    let world = waiting();
    let first = daemon(&world);
    begun(&world, &first);
    assert_eq!(first.stop().0, 0);
    assert!(world.path().join("failed").exists(), "what the command before has stopped was started again");
    assert_eq!(snapshots(&world), 1);
    fs::write(world.path().join("go"), "").unwrap();
    let second = daemon(&world);
    second.wait_for("the slot is made up for", || second.said().contains("run app done"));
    assert_eq!(second.stop().0, 0);
    assert_eq!(snapshots(&world), 2);
}

fn of_two_daemons_on_one_repository_one_runs_a_slot() {
    let world = waiting();
    let both = [daemon(&world), daemon(&world)];
    begun(&world, &both[0]);
    // While one runs, the other has asked and was told.
    let done = |daemon: &Daemon| daemon.said().contains("run app done");
    both[0].wait_for("one of them leaves the slot to the other", || both.iter().any(done));
    assert_eq!(snapshots(&world), 1);
    fs::write(world.path().join("go"), "").unwrap();
    for daemon in &both {
        daemon.wait_for("both are done with it", || done(daemon));
    }
    assert_eq!(snapshots(&world), 2);
    for daemon in both {
        assert_eq!(daemon.stop().0, 0);
    }
}

/// A way to a server that can be cut.
struct Way {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
}

impl Way {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let way = Self { address: listener.local_addr().unwrap(), is_cut: Arc::default() };
        let is_cut = Arc::clone(&way.is_cut);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                let far = TcpStream::connect(("127.0.0.1", port)).unwrap();
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.flush();
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        way
    }

    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }

    fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

/// A database of SQLite with a table of numbers.
fn sqlite(path: PathBuf, numbers: u32) {
    let database = rusqlite::Connection::open(path).unwrap();
    database.execute_batch("create table if not exists t (n integer)").unwrap();
    for number in 0..numbers {
        database.execute("insert into t values (?1)", [number]).unwrap();
    }
}

#[test]
#[ignore = "needs postgres-15 and minio"]
fn three_sources_go_to_a_folder_and_a_bucket_in_one_pass_and_the_bucket_catches_up_after_it_was_away() {
    let server = postgres::Server::start(15, &[]);
    server.database("shop", "CREATE TABLE orders AS SELECT generate_series(1, 1000) AS n");
    let store = servers::Server::minio();
    let way = Way::to(store.port);
    let world = &server.world;
    sqlite(world.path().join("app.db"), 10);
    let keys = store.keys();
    let text = format!(
        "[repositories.near]\nurl = \"{}/near\"\nsite = \"here\"\nmedia = \"disk\"\n\
        [repositories.far]\nurl = \"s3://{BUCKET}/three\"\nendpoint = \"http://{}\"\nregion = \"us-east-1\"\n\
        access_key_id = \"{}\"\nsecret_access_key = \"{}\"\nsite = \"there\"\n\
        [defaults]\nsite = \"here\"\nrepositories = [\"near\", \"far\"]\nretries = {{ attempts = 1 }}\n\
        [jobs.shop]\nsource = \"{}\"\n[jobs.files]\nsource = \"{}\"\n[jobs.small]\nsource = \"sqlite:{}/app.db\"\n",
        world.path().display(),
        way.address,
        keys.id,
        keys.secret,
        server.url("shop"),
        world.source().display(),
        world.path().display(),
    );
    fs::write(world.path().join("backup.toml"), text).unwrap();
    let run = |arguments: &[&str], code: i32| {
        let mut command = server.backup();
        command.env_remove("BACKUP_REPO").env("HOME", world.path()).args(["-c", "backup.toml", "--json"]);
        Ran::of(&command.args(arguments).output().unwrap()).ends_with(code).lines()
    };
    run(&["init"], 0);
    let first = run(&["run"], 0);
    assert_eq!(first.iter().filter(|line| line["event"] == "job" && line["outcome"] == "done").count(), 3);
    let blobs = |name: &str| run(&["-r", name, "stats"], 0).pop().unwrap()["blobs"].clone();
    assert_eq!(blobs("near"), blobs("far"), "one pass makes the same of both");

    way.cut();
    fs::write(world.source().join("new.txt"), "new").unwrap();
    sqlite(world.path().join("app.db"), 5);
    let away = run(&["run", "files", "small"], 5);
    for told in away.iter().filter(|line| line["event"] == "job") {
        assert_eq!(told["copies"][0]["failure"], Value::Null, "{told}");
        assert!(told["copies"][1]["failure"].is_string(), "{told}");
    }
    way.mend();
    thread::sleep(Duration::from_millis(100));
    run(&["run"], 0);
    run(&["status"], 0);
    for name in ["near", "far"] {
        run(&["-r", name, "check", "--read-data"], 0);
    }
    let newest = |name: &str, job: &str| {
        let listed = run(&["-r", name, "ls", "latest", "--job", job], 0);
        listed.iter().map(ToString::to_string).collect::<String>()
    };
    assert!(newest("far", "files").contains("new.txt"), "the bucket has what came meanwhile");
}
