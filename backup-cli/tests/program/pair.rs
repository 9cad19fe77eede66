//! A repository of two places: what lies where, that one half is never taken for the whole, and that the two put together
//! are what any repository is.

use std::fs;
use std::path::Path;

use crate::driver::{Ran, World};

const PAIR: [&str; 4] = ["-r", "hot", "--repo-cold", "cold"];

/// The words of a command on the pair.
fn on_pair<'a>(words: &[&'a str]) -> Vec<&'a str> {
    words.iter().chain(&PAIR).copied().collect()
}

/// A world with a snapshot of the source in a pair.
fn world() -> World {
    let world = World::new();
    world.run(on_pair(&["init"])).succeeds();
    let source = world.source();
    world.run(on_pair(&["create", "--quiet", source.to_str().unwrap()])).succeeds();
    world
}

/// The names of what lies below a folder, without their folders.
fn files_below(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => all.extend(files_below(&entry.path())),
            false => all.push(entry.file_name().into_string().unwrap()),
        }
    }
    all
}

#[test]
fn content_lies_in_the_cold_place_and_comes_back() {
    let world = world();
    let at = |path: &str| files_below(&world.path().join(path));
    assert_eq!((at("cold/data").len(), at("hot/data").len()), (1, 1), "content there, folders here");
    assert_eq!((at("hot/index").len(), at("hot/snapshots").len(), at("hot/keys").len()), (1, 1, 1));
    assert_eq!((at("cold/index").len(), at("cold/snapshots").len(), at("cold/keys").len()), (0, 0, 0));

    let source = world.source();
    world.run(on_pair(&["check", "--read-data"])).succeeds();
    world.run(on_pair(&["restore", "latest", "--path", source.to_str().unwrap(), "--to", "back"])).succeeds();
    let back = |name: &str| fs::read(world.path().join("back").join(name)).unwrap();
    assert_eq!(back("sub/data.bin"), fs::read(source.join("sub/data.bin")).unwrap());

    // A second snapshot without the file, the first one gone: the pack is marked, not read.
    fs::remove_file(source.join("sub/data.bin")).unwrap();
    world.run(on_pair(&["create", "--quiet", source.to_str().unwrap()])).succeeds();
    world.run(on_pair(&["forget", "--keep-last", "1"])).succeeds();
    world.run(on_pair(&["prune", "--instant"])).succeeds();
    world.run(on_pair(&["check", "--read-data"])).succeeds();
}

#[test]
fn neither_half_is_taken_for_the_whole() {
    let world = world();
    let before = [files_below(&world.path().join("hot")), files_below(&world.path().join("cold"))];
    let code = |words: &[&str]| world.run(words).code;
    for command in [["snapshots"].as_slice(), &["check"], &["prune"], &["repair", "index"]] {
        let on = |place: &'static str| command.iter().copied().chain(["-r", place]).collect::<Vec<_>>();
        assert_eq!(code(&on("hot")), 10, "{command:?}: there is no config");
        assert_ne!(code(&on("cold")), 0, "{command:?}: there is no key");
    }
    for half in ["hot", "cold"] {
        let told = world.run(["snapshots", "-r", half]).err;
        assert!(told.contains("name both halves"), "{told}");
    }
    assert_ne!(code(&["init", "-r", "hot"]), 0, "nor can a second repository be made over it");
    assert_ne!(code(&["init", "-r", "cold"]), 0);
    assert_eq!([files_below(&world.path().join("hot")), files_below(&world.path().join("cold"))], before);
    assert_eq!(code(&["snapshots", "-r", "hot", "--repo-cold", "hot"]), 2);
    assert_eq!(code(&["create", "-r", "hot", "-r", "other", "--repo-cold", "cold", "."]), 2);
}

#[test]
fn both_in_one_place_are_a_repository_as_any_other() {
    let world = world();
    let whole = world.path().join("whole");
    let copied = std::process::Command::new("cp").args(["-a", "hot", "whole"]).current_dir(world.path()).status();
    assert!(copied.unwrap().success());
    let copied = std::process::Command::new("cp").args(["-a", "cold/.", "whole"]).current_dir(world.path()).status();
    assert!(copied.unwrap().success());
    assert!(whole.join("config").exists());
    world.run(["check", "--read-data", "-r", "whole"]).succeeds();
}

#[test]
fn a_job_writes_to_a_pair_by_its_name() {
    let world = World::new();
    let source = world.source();
    let config = format!(
        "[repositories.archive]\nurl = \"{0}/hot\"\ncold = \"{0}/cold\"\n\
         [jobs.data]\nsource = {{ files = [\"{1}\"] }}\noffsite = \"none: a test\"\n",
        world.path().display(),
        source.display()
    );
    let file = world.path().join("jobs.toml");
    fs::write(&file, config).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let file = file.to_str().unwrap();
    let run = |words: &[&str]| {
        let mut command = world.command();
        Ran::of(&command.env_remove("BACKUP_REPO").args(["-c", file]).args(words).output().unwrap()).succeeds()
    };
    run(&["init"]);
    run(&["run"]);
    assert_eq!(files_below(&world.path().join("cold/data")).len(), 1);
    let listed = run(&["snapshots", "-r", "archive"]);
    assert!(listed.out.contains("data"), "{}", listed.out);
}
