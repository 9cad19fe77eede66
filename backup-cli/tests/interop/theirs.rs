//! Repositories that others made, in our hands.

use std::fs;

use crate::driver::World;
use crate::judge::{Expect, Judge, Kind};
use crate::{rich, tree};

/// Takes a repository that `writer` made through everything that we do, with its maker and restic as judges.
fn take_over(writer: Kind, version: u8, judges: &[Kind]) {
    let world = World::new();
    let source = world.source();
    rich::fill(&source);
    if writer == Kind::ResticDebian {
        fs::remove_file(source.join(rich::RAW_LINK)).unwrap();
    }
    let writer = Judge::new(writer, &world);
    if version == 1 {
        // Only restic still makes them.
        let restic = Judge::new(Kind::ResticDebian, &world);
        restic.run(["init", "--repository-version", "1"]).succeeds();
    } else {
        writer.init();
    }
    writer.backup();
    let judged = |expect, snapshot: &str, step: &str| {
        for kind in judges {
            let judge = Judge::new(*kind, &world);
            judge.checks(expect, step);
            judge.restores(snapshot, &source, step);
        }
    };

    let listed = world.json(["snapshots"]);
    let theirs = listed["snapshots"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1);
    let names = world.json(["ls", "latest"]);
    assert!(names["entries"].as_array().unwrap().len() > 80, "{names}");
    world.run(["check", "--read-data"]).succeeds();
    restored(&world, &theirs, Some(writer.kind));

    // The second backup of the same files stores none of them, whether it trusts their snapshot or reads everything.
    let blobs = || world.json(["stats"])["blobs"].as_u64().unwrap();
    let again = world.json(["create", source.to_str().unwrap()]);
    assert_eq!((&again["files_new"], &again["files_changed"], &again["bytes_read"]), (&0.into(), &0.into(), &0.into()));
    assert_eq!(again["parent"], theirs.as_str());
    let before = blobs();
    let forced = world.json(["create", source.to_str().unwrap(), "--force"]);
    assert!(forced["bytes_read"].as_u64().unwrap() > 20 << 20, "{forced}");
    // Only the folders above the source, which others write into, may have become new trees.
    assert!(blobs() - before < 10 && forced["bytes_new"].as_u64().unwrap() < 20_000, "{forced}");
    let ours = forced["snapshot"].as_str().unwrap().to_owned();
    judged(Expect::Clean, &ours, "create");

    rich::change(&source, 1);
    let changed = world.create([]);
    judged(Expect::Clean, &changed, "create of changes");
    rich::change(&source, 2);
    let last = world.create([]);
    world.run(["forget", &theirs, &changed]).succeeds();
    world.run(["prune", "--max-unused", "0%"]).succeeds();
    judged(Expect::UnlistedPacks, &last, "prune's first phase");
    world.run(["prune", "--instant"]).succeeds();
    judged(Expect::Clean, &last, "prune --instant");
    writer.backup();
    world.run(["check", "--read-data"]).succeeds();

    if version == 1 {
        world.run(["migrate"]).succeeds();
        judged(Expect::Clean, &last, "migrate");
        fs::write(source.join("compressible"), "after the migration ".repeat(100_000)).unwrap();
        let compressed = world.json(["create", source.to_str().unwrap()]);
        assert!(compressed["bytes_stored"].as_u64().unwrap() < 200_000, "{compressed}");
        judged(Expect::Clean, compressed["snapshot"].as_str().unwrap(), "create after migrate");
    }
}

/// Restores what `writer` (or we) backed up, and compares.
fn restored(world: &World, snapshot: &str, writer: Option<Kind>) {
    let to = world.path().join("restored by us");
    let source = world.source();
    let to = to.to_str().unwrap();
    world.run(["restore", snapshot, "--path", source.to_str().unwrap(), "--to", to, "--verify"]).succeeds();
    let mut found = tree::differences(&source, to.as_ref());
    if writer == Some(Kind::Rustic) {
        // Of the folder that was named to it, and of those above, it stores nothing but the names.
        found.retain(|difference| !difference.starts_with(&format!("{}:\n", source.display())));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    fs::remove_dir_all(to).unwrap();
}

#[test]
#[ignore = "needs restic"]
fn a_repository_of_restic_lives_on_with_us() {
    take_over(Kind::Restic, 2, &[Kind::Restic]);
}

#[test]
#[ignore = "needs restic"]
fn a_repository_of_debians_restic_lives_on_with_us() {
    take_over(Kind::ResticDebian, 2, &[Kind::ResticDebian]);
}

#[test]
#[ignore = "needs restic"]
fn a_repository_of_version_1_lives_on_with_us_and_can_be_migrated() {
    take_over(Kind::ResticDebian, 1, &[Kind::Restic, Kind::ResticDebian]);
}

#[test]
#[ignore = "needs rustic"]
fn a_repository_of_rustic_lives_on_with_us() {
    take_over(Kind::Rustic, 2, &[Kind::Rustic]);
}

#[test]
#[ignore = "needs restic and rustic"]
fn a_repository_of_version_1_that_rustic_wrote_into_lives_on_with_us() {
    take_over(Kind::Rustic, 1, &[Kind::Rustic]);
}

#[test]
#[ignore = "needs restic"]
fn restics_prune_after_our_marks_loses_nothing() {
    let (world, last) = marked();
    let restic = Judge::new(Kind::Restic, &world);
    restic.run(["prune", "--max-unused", "0"]).succeeds();
    restic.checks(Expect::Clean, "restic's prune");
    world.run(["check", "--read-data"]).succeeds();
    restored(&world, &last, None);
    world.run(["prune"]).succeeds();
    world.run(["check", "--read-data"]).succeeds();
}

#[test]
#[ignore = "needs rustic"]
fn rustics_prune_after_our_marks_and_ours_after_its_lose_nothing() {
    let (world, last) = marked();
    let rustic = Judge::new(Kind::Rustic, &world);
    rustic.run(["prune", "--max-unused", "0"]).succeeds();
    rustic.checks(Expect::UnlistedPacks, "rustic's prune");
    world.run(["check", "--read-data"]).succeeds();
    restored(&world, &last, None);
    world.run(["prune"]).succeeds();
    rustic.run(["prune", "--instant-delete"]).succeeds();
    rustic.checks(Expect::Clean, "rustic's deletion");
    world.run(["check", "--read-data"]).succeeds();
    restored(&world, &last, None);
}

/// A world whose repository holds marked packs, and its last snapshot.
fn marked() -> (World, String) {
    let world = World::new();
    rich::fill(&world.source());
    world.run(["init"]).succeeds();
    let first = world.create([]);
    rich::change(&world.source(), 1);
    let second = world.create([]);
    rich::change(&world.source(), 2);
    let last = world.create([]);
    world.run(["forget", &first, &second]).succeeds();
    let marked = world.json(["prune", "--max-unused", "0%"]);
    assert!(marked["done"]["marked"].as_u64().unwrap() > 0, "{marked}");
    (world, last)
}
