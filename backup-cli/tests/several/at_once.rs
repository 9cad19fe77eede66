//! Backups beside backups, and beside prunes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::driver::{Ran, World};
use crate::tree;

/// Exit code of a command that another one's lock keeps away.
const LOCKED: i32 = 11;

/// A folder with what all have in common and something of its own.
fn source(world: &World, name: &str, own: u64) -> PathBuf {
    let folder = world.path().join(name);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("in all"), tree::noise(4_000_000, 77)).unwrap();
    fs::write(folder.join("own"), tree::noise(1_000_000, 100 + own)).unwrap();
    for number in 0..40 {
        fs::write(folder.join(format!("{number}")), tree::noise(3_000, 200 + number * (own % 2))).unwrap();
    }
    folder
}

fn create(world: &World, folder: &Path) -> Child {
    let mut command = world.command();
    command.args(["--json", "create"]).arg(folder).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[track_caller]
fn snapshot_of(ran: &Ran) -> String {
    let line = ran.lines().pop().unwrap();
    line["snapshot"].as_str().unwrap_or_else(|| panic!("no snapshot: {line}")).to_owned()
}

#[track_caller]
fn restores(world: &World, id: &str, folder: &Path, original: &Path) {
    let to = tempfile::tempdir_in(world.path()).unwrap();
    let (name, to_name) = (folder.to_str().unwrap(), to.path().to_str().unwrap());
    world.run(["restore", id, "--path", name, "--to", to_name]).succeeds();
    let found = tree::differences(original, to.path());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn four_backups_at_once_all_succeed_and_all_restore() {
    let world = World::new();
    world.run(["init"]).succeeds();
    let sources: Vec<_> = (0..4_u64).map(|number| source(&world, &format!("source {number}"), number)).collect();
    for _ in 0..2 {
        let running: Vec<_> = sources.iter().map(|source| create(&world, source)).collect();
        let ended: Vec<_> =
            running.into_iter().map(|child| Ran::of(&child.wait_with_output().unwrap()).succeeds()).collect();
        for (ran, source) in ended.iter().zip(&sources) {
            restores(&world, &snapshot_of(ran), source, source);
        }
    }
    assert_eq!(world.json(["snapshots"])["snapshots"].as_array().unwrap().len(), 8);
    world.run(["check", "--read-data"]).succeeds();
    // What they stored twice, because neither knew of the other, goes with the next prune; nothing else does.
    world.run(["prune", "--instant", "--max-unused", "0%"]).succeeds();
    world.run(["check", "--read-data"]).succeeds();
    let stored = world.json(["stats"]);
    assert!(stored["bytes_plain"].as_u64().unwrap() < 10_000_000, "{stored}");
}

/// Repeats a command while somebody else's lock keeps it away.
fn until_not_locked(mut command: impl FnMut() -> Command) -> Ran {
    let began = Instant::now();
    loop {
        let ran = Ran::of(&command().output().unwrap());
        if ran.code != LOCKED {
            return ran.succeeds();
        }
        assert!(began.elapsed() < Duration::from_secs(120), "kept away for ever: {}", ran.err);
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn prunes_mark_while_backups_run_and_every_snapshot_restores() {
    let world = World::new();
    world.run(["init"]).succeeds();
    let began = Instant::now();
    let taken = Mutex::new(Vec::new());
    let marked = AtomicU32::new(0);
    // A prune marks nothing while somebody holds a lock. Until it has, the backups go on, with pauses between them.
    let are_late = || began.elapsed() > Duration::from_secs(25);
    let is_over = || are_late() && (marked.load(Ordering::Relaxed) > 0 || began.elapsed() > Duration::from_secs(300));
    thread::scope(|scope| {
        for number in 0..2_u64 {
            let folder = source(&world, &format!("source {number}"), number);
            let (world, taken, is_over) = (&world, &taken, &is_over);
            scope.spawn(move || {
                for round in 0.. {
                    fs::write(folder.join("own"), tree::noise(1_500_000, 1_000 * number + round)).unwrap();
                    // A state comes back later: what was marked meanwhile is needed again.
                    fs::write(folder.join("in turns"), tree::noise(700_000, 5_000 + round % 3)).unwrap();
                    let ran = until_not_locked(|| {
                        let mut command = world.command();
                        command.args(["--json", "create"]).arg(&folder);
                        command
                    });
                    let copy = world.path().join(format!("copy {number} {round}"));
                    Ran::of(&Command::new("cp").arg("-a").arg(&folder).arg(&copy).output().unwrap()).succeeds();
                    taken.lock().unwrap().push((snapshot_of(&ran), folder.clone(), copy));
                    if is_over() {
                        break;
                    }
                    if are_late() {
                        thread::sleep(Duration::from_secs(2));
                    }
                }
            });
        }
        scope.spawn(|| {
            while !is_over() {
                // All but the newest go, so that there is something to mark.
                let forgotten: Vec<_> = {
                    let mut taken = taken.lock().unwrap();
                    let keep = taken.len().min(2);
                    let gone = taken.len() - keep;
                    taken.drain(..gone).collect()
                };
                for (id, _, copy) in forgotten {
                    until_not_locked(|| {
                        let mut command = world.command();
                        command.args(["forget", &id]);
                        command
                    });
                    fs::remove_dir_all(copy).unwrap();
                }
                let mut prune = world.command();
                prune.args(["--json", "prune", "--max-unused", "0%"]);
                let ran = Ran::of(&prune.output().unwrap());
                assert!([0, LOCKED].contains(&ran.code), "{}{}", ran.out, ran.err);
                if ran.code == 0 {
                    let done = &ran.lines().pop().unwrap()["done"]["marked"];
                    marked.fetch_add(done.as_u64().unwrap_or_default() as u32, Ordering::Relaxed);
                }
            }
        });
    });
    let taken = taken.into_inner().unwrap();
    println!("{} packs were marked; {} snapshots are left", marked.load(Ordering::Relaxed), taken.len());
    assert!(marked.load(Ordering::Relaxed) > 0, "no prune ever marked anything");
    world.run(["check", "--read-data"]).succeeds();
    for (id, folder, copy) in &taken {
        restores(&world, id, folder, copy);
    }
}
