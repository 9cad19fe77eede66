//! A repository's life in our hands, judged after every step.

use std::fs;
use std::process::Command;

use crate::driver::World;
use crate::judge::{Expect, Judge, Kind};
use crate::rich;

/// Goes through everything that writes, and calls `judge` after each step with its name, what may be found, and the
/// newest snapshot.
fn live(world: &World, judge: impl Fn(&str, Expect, Option<&str>)) {
    use Expect::{Clean, UnlistedPacks};
    let source = world.source();
    rich::fill(&source);
    world.run(["init"]).succeeds();
    judge("init", Clean, None);

    let first = world.create([]);
    judge("the first create", Clean, Some(&first));
    let mut snapshots = vec![first];
    for round in 1..=3 {
        rich::change(&source, round);
        snapshots.push(world.create(["--tag", "changed"]));
    }
    judge("creates of changes", Clean, snapshots.last().map(String::as_str));
    world.run(["create", "--command", "echo dumped", "--name", "dump.sql"]).succeeds();

    world.run(["tag", &snapshots[3], "--add", "kept"]).succeeds();
    let source_name = source.to_str().unwrap().to_owned();
    let newest = || {
        let found = world.json(["snapshots", "--source", &source_name]);
        found["snapshots"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned()
    };
    judge("tag", Clean, Some(&newest()));

    let key = world.path().join("second key");
    fs::write(&key, "another passphrase\n").unwrap();
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let key = key.to_str().unwrap();
    world.run(["key", "add", "--new-password-file", key]).succeeds();
    world.run(["--password-file", key, "snapshots"]).succeeds();
    world.run(["key", "passwd", "--new-password-command", &format!("echo {}", crate::driver::PASSPHRASE)]).succeeds();
    judge("key add and passwd", Clean, Some(&newest()));

    world.run(["forget", &snapshots[0], &snapshots[2]]).succeeds();
    judge("forget", Clean, Some(&newest()));
    let marked = world.json(["prune", "--max-unused", "0%"]);
    assert!(marked["done"]["marked"].as_u64().unwrap() > 0, "{marked}");
    judge("prune's first phase", UnlistedPacks, Some(&newest()));
    let again = world.create([]);
    judge("a create beside marked packs", UnlistedPacks, Some(&again));
    world.run(["prune", "--instant"]).succeeds();
    judge("prune --instant", Clean, Some(&again));

    world.run(["forget", "--keep-last", "1", "--keep-tag", "kept"]).succeeds();
    world.run(["prune", "--instant", "--max-unused", "0%"]).succeeds();
    judge("the last prune", Clean, Some(&again));
    world.run(["repair", "index", "--read-all-packs"]).succeeds();
    judge("repair index", Clean, Some(&again));
}

#[test]
#[ignore = "needs restic"]
fn restic_old_and_new_verify_and_restore_what_we_wrote_after_every_step() {
    let world = World::new();
    let (new, old) = (Judge::new(Kind::Restic, &world), Judge::new(Kind::ResticDebian, &world));
    live(&world, |step, expect, newest| {
        for restic in [&new, &old] {
            restic.checks(expect, step);
        }
        if let Some(id) = newest {
            new.restores(id, &world.source(), step);
        }
    });
    let newest = world.json(["snapshots"]);
    let newest = newest["snapshots"].as_array().unwrap().iter().rev().find(|snapshot| snapshot["tags"][0].is_null());
    old.restores(newest.unwrap()["id"].as_str().unwrap(), &world.source(), "everything");
}

#[test]
#[ignore = "needs rustic"]
fn rustic_verifies_and_restores_what_we_wrote_after_every_step() {
    let world = World::new();
    let rustic = Judge::new(Kind::Rustic, &world);
    live(&world, |step, expect, newest| {
        rustic.checks(expect, step);
        if let Some(id) = newest {
            rustic.restores(id, &world.source(), step);
        }
    });
}

/// A key of a drawn passphrase asks for less work than any that the judges make themselves.
fn opens_with_a_drawn_passphrase(kinds: &[Kind]) {
    let world = World::new();
    rich::fill(&world.source());
    let file = world.path().join("drawn");
    let drawn = ["--password-file", file.to_str().unwrap()];
    world.run(["key", "generate", drawn[1]]).succeeds();
    world.run(drawn.iter().chain(&["init"])).succeeds();
    world.run(drawn.iter().copied().chain(["create", world.source().to_str().unwrap()])).succeeds();
    let passphrase = fs::read_to_string(&file).unwrap();
    for kind in kinds {
        let mut command = Judge::new(*kind, &world).command();
        command.env("RESTIC_PASSWORD", passphrase.trim()).env("RUSTIC_PASSWORD", passphrase.trim());
        let ran = command.arg("check").output().unwrap();
        assert!(ran.status.success(), "{kind:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}

#[test]
#[ignore = "needs restic"]
fn restic_opens_with_a_drawn_passphrase() {
    opens_with_a_drawn_passphrase(&[Kind::Restic, Kind::ResticDebian]);
}

#[test]
#[ignore = "needs rustic"]
fn rustic_opens_with_a_drawn_passphrase() {
    opens_with_a_drawn_passphrase(&[Kind::Rustic]);
}

#[test]
#[ignore = "needs restic"]
fn restic_finds_the_damage_that_it_is_here_to_find() {
    let world = World::with_snapshot();
    let packs = Command::new("find").arg(world.repository().join("data")).args(["-type", "f"]).output().unwrap();
    let pack = String::from_utf8(packs.stdout).unwrap().lines().next().unwrap().to_owned();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[20] ^= 1;
    fs::set_permissions(&pack, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();
    for kind in [Kind::Restic, Kind::ResticDebian] {
        assert_ne!(Judge::new(kind, &world).run(["check", "--read-data"]).code, 0, "{kind:?}");
    }
}
