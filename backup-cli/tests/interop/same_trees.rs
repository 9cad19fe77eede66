//! The same files become the same trees, whoever backs them up: that is what makes a shared repository deduplicate.

use std::path::Path;

use serde_json::Value;

use crate::driver::World;
use crate::judge::{Judge, Kind};
use crate::rich;

/// The id of the tree of `folder` in a snapshot. Not the snapshot's own tree: that one holds the folders above, which
/// all programs of the machine write into.
fn tree_of(restic: &Judge<'_>, snapshot: &str, folder: &Path) -> String {
    let parent = folder.parent().unwrap().to_str().unwrap();
    let document = restic.cat("tree", &format!("{snapshot}:{parent}"));
    let nodes = document["nodes"].as_array().unwrap();
    let name = folder.file_name().unwrap().to_str().unwrap();
    let node = nodes.iter().find(|node| node["name"] == name).unwrap();
    node["subtree"].as_str().unwrap().to_owned()
}

fn summary(restic: &Judge<'_>, source: &Path, more: &[&str]) -> Value {
    let ran = restic.run(["backup", "--json", source.to_str().unwrap()].iter().chain(more)).succeeds();
    ran.lines().into_iter().find(|line| line["message_type"] == "summary").unwrap()
}

#[test]
#[ignore = "needs restic"]
fn restic_after_us_finds_nothing_changed_and_makes_the_same_trees() {
    let world = World::new();
    let source = world.source();
    rich::fill(&source);
    world.run(["init"]).succeeds();
    let ours = world.create([]);
    let restic = Judge::new(Kind::Restic, &world);
    let blobs = restic.data_blobs();

    let theirs = summary(&restic, &source, &[]);
    assert_eq!(
        (&theirs["files_new"], &theirs["files_changed"], &theirs["data_blobs"]),
        (&0.into(), &0.into(), &0.into()),
        "{theirs}"
    );
    let id = theirs["snapshot_id"].as_str().unwrap();
    assert_eq!(tree_of(&restic, id, &source), tree_of(&restic, &ours, &source));

    // Without a parent it reads every byte again and builds every node itself.
    let theirs = summary(&restic, &source, &["--force"]);
    assert_eq!(theirs["data_blobs"], 0, "{theirs}");
    let id = theirs["snapshot_id"].as_str().unwrap();
    assert_eq!(tree_of(&restic, id, &source), tree_of(&restic, &ours, &source));
    assert_eq!(restic.data_blobs(), blobs);

    let apart = Judge::new(Kind::Restic, &world).at(world.path().join("apart"));
    let from = world.repository();
    let mut init = apart.command();
    init.args(["init", "--copy-chunker-params", "--from-repo"]).arg(from);
    init.env("RESTIC_FROM_PASSWORD", crate::driver::PASSPHRASE);
    crate::driver::Ran::of(&init.output().unwrap()).succeeds();
    let theirs = summary(&apart, &source, &[]);
    let id = theirs["snapshot_id"].as_str().unwrap();
    assert_eq!(tree_of(&apart, id, &source), tree_of(&restic, &ours, &source));
}

#[test]
#[ignore = "needs restic"]
fn debians_restic_stores_nothing_of_a_file_after_us() {
    let world = World::new();
    rich::fill(&world.source());
    world.run(["init"]).succeeds();
    world.create([]);
    let restic = Judge::new(Kind::ResticDebian, &world);
    let before = restic.data_blobs();
    let theirs = summary(&restic, &world.source(), &[]);
    assert_eq!((&theirs["files_new"], &theirs["files_changed"]), (&0.into(), &0.into()), "{theirs}");
    summary(&restic, &world.source(), &["--force"]);
    assert_eq!(restic.data_blobs(), before);
}
