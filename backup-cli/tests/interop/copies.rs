//! Copies: what we copy, restic and rustic verify and restore; and nobody copies twice what another has copied.

use std::fs;
use std::path::{Path, PathBuf};

use crate::driver::{PASSPHRASE, Ran, World};
use crate::judge::{Expect, Judge, Kind};
use crate::rich;

/// A world with three snapshots of a source that changes; gives the newest.
fn with_snapshots() -> (World, String) {
    let world = World::with_repository();
    rich::fill(&world.source());
    world.create(["--tag", "first"]);
    for round in 1..=2 {
        rich::change(&world.source(), round);
        world.create([]);
    }
    let newest = world.json(["snapshots"])["snapshots"][2]["id"].as_str().unwrap().to_owned();
    (world, newest)
}

/// A repository beside the world's.
fn place(world: &World, name: &str) -> PathBuf {
    world.path().join(name)
}

/// Copies, and gives what became of each snapshot.
fn copy(world: &World, to: &Path) -> Vec<String> {
    let summary = world.json(["copy", "--to", to.to_str().unwrap()]);
    let snapshots = summary["snapshots"].as_array().unwrap().iter();
    snapshots.map(|snapshot| snapshot["fate"].as_str().unwrap().to_owned()).collect()
}

/// The id of the copy of a snapshot.
fn copy_of(world: &World, to: &Path, original: &str) -> String {
    let listed = world.json(["-r", to.to_str().unwrap(), "snapshots"]);
    let snapshots = listed["snapshots"].as_array().unwrap();
    let copy = snapshots.iter().find(|snapshot| snapshot["original"] == original).unwrap();
    copy["id"].as_str().unwrap().to_owned()
}

fn count(repository: &Path) -> usize {
    fs::read_dir(repository.join("snapshots")).unwrap().count()
}

/// Restic's own copy from the world's repository.
fn restic_copies(world: &World, to: &Judge<'_>) -> Ran {
    let mut command = to.command();
    command.env("RESTIC_FROM_PASSWORD", PASSPHRASE).args(["copy", "--from-repo"]).arg(world.repository());
    Ran::of(&command.output().unwrap()).succeeds()
}

/// Copies into repositories of every sort, and has each judged.
fn judged(kinds: &[Kind]) {
    let (world, newest) = with_snapshots();
    let from = world.repository();
    let from = from.to_str().unwrap();
    let (like, same) = (place(&world, "like"), place(&world, "same key"));
    world.run(["init", "-r", like.to_str().unwrap(), "--like", from]).succeeds();
    world.run(["init", "-r", same.to_str().unwrap(), "--like", from, "--same-key"]).succeeds();
    for to in [&like, &same] {
        assert_eq!(copy(&world, to), ["copied"; 3]);
        for kind in kinds {
            let judge = Judge::new(*kind, &world).at(to.clone());
            judge.checks(Expect::Clean, "copy");
            if *kind != Kind::ResticDebian {
                judge.restores(&copy_of(&world, to, &newest), &world.source(), "copy");
            }
        }
    }
    // Of a change only the change goes over.
    rich::change(&world.source(), 3);
    let newest = world.create([]);
    assert_eq!(copy(&world, &like), ["there", "there", "there", "copied"]);
    for kind in kinds {
        Judge::new(*kind, &world).at(like.clone()).checks(Expect::Clean, "the second copy");
    }
    let judge = Judge::new(kinds[0], &world).at(like.clone());
    judge.restores(&copy_of(&world, &like, &newest), &world.source(), "the second copy");
}

#[test]
#[ignore = "needs restic"]
fn restic_old_and_new_verify_and_restore_our_copies() {
    judged(&[Kind::Restic, Kind::ResticDebian]);
}

#[test]
#[ignore = "needs rustic"]
fn rustic_verifies_and_restores_our_copies() {
    judged(&[Kind::Rustic]);
}

/// One pass for two repositories that have nothing in common.
fn backed_up_to_both(kinds: &[Kind]) {
    let world = World::with_repository();
    rich::fill(&world.source());
    let second = place(&world, "second");
    world.run(["init", "-r", second.to_str().unwrap()]).succeeds();
    let (first, second_name) = (world.repository(), second.to_str().unwrap().to_owned());
    let both = |world: &World| {
        let source = world.source();
        let names = ["-r", first.to_str().unwrap(), "-r", &second_name];
        let summary = world.json(["create"].iter().chain(&names).chain(&[source.to_str().unwrap()]));
        let repositories = summary["repositories"].as_array().unwrap().iter();
        repositories.map(|one| one["snapshot"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    both(&world);
    rich::change(&world.source(), 1);
    let newest = both(&world);
    for (repository, snapshot) in [&first, &second].into_iter().zip(&newest) {
        for kind in kinds {
            let judge = Judge::new(*kind, &world).at(repository.clone());
            judge.checks(Expect::Clean, "a create into two");
            if *kind != Kind::ResticDebian {
                judge.restores(snapshot, &world.source(), "a create into two");
            }
        }
    }
    if kinds[0] == Kind::Restic {
        restic_copies(&world, &Judge::new(Kind::Restic, &world).at(second.clone()));
        assert_eq!(count(&second), 2, "restic copied what one pass had put into both");
    }
}

#[test]
#[ignore = "needs restic"]
fn restic_verifies_both_repositories_of_one_pass_and_copies_nothing_between_them() {
    backed_up_to_both(&[Kind::Restic, Kind::ResticDebian]);
}

#[test]
#[ignore = "needs rustic"]
fn rustic_verifies_both_repositories_of_one_pass() {
    backed_up_to_both(&[Kind::Rustic]);
}

#[test]
#[ignore = "needs restic"]
fn restic_and_we_know_each_others_copies() {
    let (world, _) = with_snapshots();
    let (ours, theirs) = (place(&world, "ours"), place(&world, "theirs"));
    world.run(["init", "-r", ours.to_str().unwrap(), "--like", world.repository().to_str().unwrap()]).succeeds();
    assert_eq!(copy(&world, &ours), ["copied"; 3]);
    let restic = Judge::new(Kind::Restic, &world).at(ours.clone());
    restic_copies(&world, &restic);
    assert_eq!(count(&ours), 3, "restic copied again what we had copied");

    let restic = Judge::new(Kind::Restic, &world).at(theirs.clone());
    let mut init = restic.command();
    init.env("RESTIC_FROM_PASSWORD", PASSPHRASE).args(["init", "--copy-chunker-params", "--from-repo"]);
    Ran::of(&init.arg(world.repository()).output().unwrap()).succeeds();
    restic_copies(&world, &restic);
    assert_eq!(copy(&world, &theirs), ["there"; 3]);
    rich::change(&world.source(), 3);
    let newest = world.create([]);
    assert_eq!(copy(&world, &theirs)[3], "copied");
    restic.checks(Expect::Clean, "both have copied");
    restic.restores(&copy_of(&world, &theirs, &newest), &world.source(), "both have copied");
}

#[test]
#[ignore = "needs restic"]
fn copies_go_between_versions_of_the_format() {
    let (world, newest) = with_snapshots();
    let (old, new) = (place(&world, "version 1"), place(&world, "version 2"));
    let restic = Judge::new(Kind::Restic, &world).at(old.clone());
    restic.run(["init", "--repository-version", "1"]).succeeds();
    assert_eq!(copy(&world, &old), ["copied"; 3]);
    restic.checks(Expect::Clean, "a copy into version 1");
    restic.restores(&copy_of(&world, &old, &newest), &world.source(), "a copy into version 1");

    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    for same_key in [&["--same-key"][..], &[]] {
        world.run(["init", "-r", new, "--like", old].iter().chain(same_key)).succeeds();
        world.run(["-r", old, "copy", "--to", new]).succeeds();
        let restic = Judge::new(Kind::Restic, &world).at(PathBuf::from(new));
        restic.checks(Expect::Clean, "a copy out of version 1");
        restic.restores(&copy_of(&world, Path::new(new), &newest), &world.source(), "a copy out of version 1");
        let plain = restic.run(["prune", "--dry-run"]).succeeds();
        assert!(plain.out.contains("to repack:             0 blobs"), "trees that are not compressed: {}", plain.out);
        fs::remove_dir_all(new).unwrap();
    }
}
