//! A copy that is killed shows nothing that is not whole, and the next one finishes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::driver::{PASSPHRASE, Ran, World};
use crate::moments::{copied, files_in, make_key_cheap};
use crate::tree;

/// Kills in a row before somebody lets a copy come to its end.
const KILLS_ON_ONE: u32 = 6;

/// Kills without which nothing can be said, and how many times the time may be taken until they are there.
const KILLS_MIN: u32 = 5;
const SPANS_MAX: u32 = 8;

/// Copies into fresh repositories for `span` and kills them; `judge` sees what some kills in a row have left.
fn kill_copies_for(span: Duration, judge: impl Fn(&Path)) {
    let seed = std::env::var("BACKUP_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64);
    println!("BACKUP_TEST_SEED={seed}");
    let mut random = seed | 1;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let world = World::with_repository();
    make_key_cheap(&world.repository());
    for state in 0..4_u64 {
        fs::write(world.source().join("large"), tree::noise(8_000_000, 70 + state)).unwrap();
        fs::write(world.source().join(format!("small {state}")), tree::noise(900, state)).unwrap();
        world.create([]);
    }
    let from = world.repository();
    let empty = [world.path().join("empty"), world.path().join("empty, same key")];
    for (to, more) in empty.iter().zip([&[][..], &["--same-key"]]) {
        let init = ["init", "-r", to.to_str().unwrap(), "--like", from.to_str().unwrap()];
        world.run(init.iter().chain(more)).succeeds();
        make_key_cheap(to);
    }
    let measured = world.path().join("measured");
    copied(&empty[0], &measured);
    let began = Instant::now();
    world.run(["copy", "--to", measured.to_str().unwrap()]).succeeds();
    let takes = began.elapsed();
    let began = Instant::now();
    let (mut kills, mut seen_before_the_end) = (0, 0);
    for number in 0.. {
        // A machine that was busy when the time was measured lets more of them come to their end; then it takes more.
        if began.elapsed() > span * if kills < KILLS_MIN { SPANS_MAX } else { 1 } {
            break;
        }
        let to = world.path().join(format!("copy {number}"));
        copied(&empty[number % 2], &to);
        let mut visible = BTreeSet::new();
        for _ in 0..KILLS_ON_ONE {
            let delay = takes.mul_f64(draw(1 << 20) as f64 / f64::from(1 << 20));
            let mut copy = world.command();
            copy.args(["copy", "--to", to.to_str().unwrap()]).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = copy.spawn().unwrap();
            thread::sleep(delay);
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
            }
            let now: BTreeSet<_> = files_in(&to.join("snapshots")).collect();
            assert!(now.is_superset(&visible), "a snapshot went away");
            visible = now;
            let ran = world.run(["-r", to.to_str().unwrap(), "check"]);
            assert_eq!(ran.code, 0, "killed after {delay:?}\n{}{}", ran.out, ran.err);
        }
        judge(&to);
        seen_before_the_end += visible.len();
        world.run(["copy", "--to", to.to_str().unwrap()]).succeeds();
        world.run(["-r", to.to_str().unwrap(), "check", "--read-data"]).succeeds();
        assert_eq!(files_in(&to.join("snapshots")).filter(|path| path.extension().is_none()).count(), 4);
        let back = tempfile::tempdir_in(world.path()).unwrap();
        let back = back.path().to_str().unwrap();
        let source = world.source();
        let source = source.to_str().unwrap();
        world.run(["-r", to.to_str().unwrap(), "restore", "latest", "--path", source, "--to", back]).succeeds();
        let found = tree::differences(&world.source(), Path::new(back));
        assert!(found.is_empty(), "{}", found.join("\n"));
        fs::remove_dir_all(&to).unwrap();
    }
    println!("killed {kills}, snapshots that were there before the last copy: {seen_before_the_end}");
    assert!(kills >= KILLS_MIN, "too few kills to say anything: {kills}");
}

#[test]
fn a_copy_killed_at_any_moment_shows_only_what_is_whole_and_the_next_one_finishes() {
    kill_copies_for(Duration::from_secs(30), |_| {});
}

#[test]
#[ignore = "needs restic"]
fn what_a_killed_copy_leaves_restic_finds_sound() {
    let restic = std::env::var_os("BACKUP_TEST_RESTIC").expect("BACKUP_TEST_RESTIC names no program");
    kill_copies_for(Duration::from_secs(15), |repository| {
        let mut command = Command::new(&restic);
        command.env_clear().env("RESTIC_PASSWORD", PASSPHRASE).env("HOME", repository.parent().unwrap());
        command.args(["--no-cache", "check", "--read-data", "-r"]).arg(repository);
        let ran = Ran::of(&command.output().unwrap()).succeeds();
        assert!(ran.out.contains("no errors were found"), "{}{}", ran.out, ran.err);
    });
}
