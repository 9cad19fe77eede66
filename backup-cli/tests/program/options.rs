//! Options that reach the library and change what it does: each by its effect.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::driver::{Ran, World};

fn create(world: &World, options: &[&str]) -> Value {
    let source = world.source();
    world.json(["create", source.to_str().unwrap()].into_iter().chain(options.iter().copied()))
}

#[test]
fn what_is_left_out_is_counted_by_its_reason() {
    let world = World::with_repository();
    let source = world.source();
    fs::write(source.join(".gitignore"), "*.log\n").unwrap();
    fs::write(source.join("noise.log"), "noise").unwrap();
    fs::create_dir(source.join("scratch")).unwrap();
    fs::write(source.join("scratch/.nobackup"), "").unwrap();
    fs::write(source.join("scratch/large"), "not wanted").unwrap();
    let options = ["--gitignore", "--exclude-if-present", ".nobackup", "--exclude-larger-than", "100K", "-e", "link"];
    let told = create(&world, &options);
    let left_out = &told["left_out"];
    for reason in ["by_pattern", "by_gitignore", "marked_folders", "large_files"] {
        assert_eq!(left_out[reason], 1, "{reason}: {told}");
    }
    let listed = world.run(["ls", told["snapshot"].as_str().unwrap()]).succeeds().out;
    for name in ["noise.log", "scratch/large", "data.bin", "link"] {
        assert!(!listed.contains(name), "{listed}");
    }
    assert!(listed.contains("hello.txt") && listed.contains(".gitignore"), "{listed}");
}

#[test]
fn other_file_systems_are_entered_unless_that_is_forbidden() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let is_mounted = mounts.lines().any(|line| line.split(' ').nth(1).is_some_and(|place| place.starts_with("/dev/")));
    let world = World::with_repository();
    let told = world.json(["create", "/dev", "-x", "--dry-run"]);
    assert_eq!(told["left_out"]["other_file_systems"].as_u64().unwrap() > 0, is_mounted, "{told}");
}

#[test]
fn times_of_access_are_stored_on_request() {
    let world = World::with_repository();
    let before = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let times = fs::FileTimes::new().set_accessed(before);
    File::options().write(true).open(world.source().join("hello.txt")).unwrap().set_times(times).unwrap();
    let restored = |name: &str, options: &[&str]| {
        create(&world, options);
        let (source, to) = (world.source(), world.path().join(name));
        let fixed = ["restore", "latest", "--path", source.to_str().unwrap(), "--to", to.to_str().unwrap()];
        world.run(fixed).succeeds();
        fs::metadata(to.join("hello.txt")).unwrap().accessed().unwrap()
    };
    assert_eq!(restored("with", &["--with-atime", "--force"]), before);
    assert_ne!(restored("without", &["--force"]), before);
}

#[test]
fn a_file_counts_as_unchanged_as_it_was_asked_for() {
    let world = World::with_snapshot();
    let hello = world.source().join("hello.txt");
    // A second name changes the time of the inode, and nothing that is backed up of the file.
    fs::hard_link(&hello, world.path().join("elsewhere")).unwrap();
    fs::remove_file(world.path().join("elsewhere")).unwrap();
    assert_eq!(create(&world, &["--ignore-ctime", "--dry-run"])["files_changed"], 0);
    assert_eq!(create(&world, &["--dry-run"])["files_changed"], 1);
    // Another inode with the same bytes and time, as after a move to another disk.
    let times = fs::metadata(&hello).unwrap();
    fs::copy(&hello, world.source().join("copy")).unwrap();
    fs::rename(world.source().join("copy"), &hello).unwrap();
    let times = fs::FileTimes::new().set_modified(times.modified().unwrap());
    File::options().write(true).open(&hello).unwrap().set_times(times).unwrap();
    assert_eq!(create(&world, &["--ignore-ctime", "--dry-run"])["files_changed"], 1);
    assert_eq!(create(&world, &["--ignore-ctime", "--ignore-inode", "--dry-run"])["files_changed"], 0);
}

#[test]
fn the_parent_is_the_one_that_was_named() {
    let world = World::with_repository();
    let first = world.create([]);
    let second = world.create([]);
    assert_eq!(create(&world, &["--dry-run"])["parent"], second);
    assert_eq!(create(&world, &["--dry-run", "--parent", &first])["parent"], first);
    assert_eq!(create(&world, &["--dry-run", "--force"])["files_unmodified"], 0);
}

#[test]
fn an_idle_backup_and_what_it_starts_go_last() {
    let world = World::with_repository();
    let said = |options: &[&str]| {
        let all = ["create", "--name", "said", "--command", "nice"].into_iter();
        let snapshot = world.json(all.chain(options.iter().copied()))["snapshot"].as_str().unwrap().to_owned();
        let told = world.run(["cat", &snapshot, "/command/said"]).succeeds().out;
        told.lines().next().unwrap().parse::<i32>().unwrap()
    };
    let usual = said(&[]);
    assert!(said(&["--idle"]) > usual);
}

#[test]
fn a_backup_without_proof_is_one_that_a_check_must_prove() {
    let world = World::with_repository();
    create(&world, &["--skip-proof"]);
    world.run(["check", "--read-data"]).succeeds();
}

#[test]
fn everything_within_a_time_is_kept() {
    let world = World::with_repository();
    for _ in 0..3 {
        world.create([]);
    }
    let removed = |rule: &[&str]| {
        let told = world.json(["forget", "--dry-run"].into_iter().chain(rule.iter().copied()));
        let snapshots = told["groups"][0]["snapshots"].as_array().unwrap();
        snapshots.iter().filter(|planned| planned["verdict"] == "remove").count()
    };
    assert_eq!(removed(&["--keep-within", "1d"]), 0);
    assert_eq!(removed(&["--keep-last", "1"]), 2);
}

#[test]
fn a_prune_writes_no_more_anew_than_it_may() {
    let world = World::with_repository();
    let first = world.create([]);
    fs::remove_file(world.source().join("hello.txt")).unwrap();
    world.create([]);
    world.run(["forget", &first]).succeeds();
    let planned = |options: &[&str]| {
        let all = ["prune", "--dry-run", "--max-unused", "0%"].into_iter();
        world.json(all.chain(options.iter().copied()))["plan"].clone()
    };
    assert_ne!(planned(&[]), planned(&["--max-repack", "0"]));
}

#[test]
fn zeros_are_written_and_owners_are_set_as_asked() {
    let world = World::with_repository();
    let zeros = world.source().join("zeros");
    fs::write(&zeros, vec![0; 2_000_000]).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        chown(&zeros, Some(12_345), Some(12_345)).unwrap();
    }
    world.create([]);
    let restored = |name: &str, options: &[&str]| {
        let (source, to) = (world.source(), world.path().join(name));
        let fixed = ["restore", "latest", "--path", source.to_str().unwrap(), "--to", to.to_str().unwrap()];
        world.run(fixed.into_iter().chain(options.iter().copied())).succeeds();
        fs::metadata(to.join("zeros")).unwrap()
    };
    let (sparse, full) = (restored("sparse", &[]), restored("full", &["--no-sparse", "--owner", "me"]));
    assert!(sparse.blocks() * 512 < 2_000_000 && full.blocks() * 512 >= 2_000_000);
    assert_eq!(sparse.permissions().mode(), full.permissions().mode());
    assert_eq!(full.uid(), rustix::process::geteuid().as_raw());
    if is_root {
        assert_eq!(sparse.uid(), 12_345);
    }
}

#[test]
fn what_changes_while_it_is_read_is_a_note_and_a_loss_where_that_was_asked_for() {
    let world = World::with_repository();
    // Says that it is empty, and has something to read.
    let told = world.run(["create", "/proc/version"]).succeeds().err;
    assert!(told.contains("note: read /proc/version: it changed while it was read: 0 bytes before"), "{told}");
    let told = world.run(["create", "/proc/version", "--strict", "--force"]).ends_with(3).err;
    assert!(told.contains("loss: read /proc/version: it changed while it was read"), "{told}");
    world.run(["create", world.source().to_str().unwrap(), "--strict"]).succeeds();

    let job = "[repositories.here]\nurl = \"repository\"\n\
        [jobs.a]\nsource = { files = [\"/proc/version\"], strict = true }\n";
    fs::write(world.path().join("backup.toml"), job).unwrap();
    let mut command = world.command();
    command.env_remove("BACKUP_REPO").args(["-c", "backup.toml", "--json", "run"]);
    let lines = Ran::of(&command.output().unwrap()).ends_with(3).lines();
    let told = lines.iter().find(|line| line["event"] == "job").unwrap();
    assert_eq!((&told["outcome"], &told["parts"][0]["losses"]), (&"losses".into(), &1.into()), "{told}");
}

#[test]
fn a_repository_is_made_with_the_passphrase_that_it_is_opened_with_an_option_before_the_configuration() {
    let world = World::new();
    for name in ["one", "other"] {
        fs::write(world.path().join(name), name).unwrap();
    }
    let place = world.path().join("configured");
    let config = format!("[repositories.local]\nurl = {place:?}\npassword_file = \"one\"\n");
    fs::write(world.path().join("backup.toml"), config).unwrap();
    let named = ["-c", "backup.toml", "-r", "local"];
    let other = ["--password-file", "other"];
    world.run(named.iter().chain(&other).chain(&["init"])).succeeds();
    world.run(named.iter().chain(&other).chain(&["snapshots"])).succeeds();
    world.run(named.iter().chain(&["snapshots"])).ends_with(12);
}

#[test]
fn a_drawn_passphrase_opens_as_it_is_typed_costs_no_work_and_tells_when_it_was_mistyped() {
    let world = World::new();
    let file = world.path().join("new folder/passphrase");
    let drawn = ["--password-file", file.to_str().unwrap()];
    let made = world.run(["key", "generate", drawn[1]]).succeeds();
    assert!(made.err.contains("keep a second copy"), "{}", made.err);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    let quiet = world.run(["key", "generate", "--quiet", world.path().join("second").to_str().unwrap()]).succeeds();
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    let again = world.run(["key", "generate", drawn[1]]).ends_with(1);
    assert!(again.err.contains("nothing was written"), "{}", again.err);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);

    world.run(drawn.iter().chain(&["init"])).succeeds();
    let keys = world.run(drawn.iter().chain(&["--json", "key", "list"])).succeeds();
    let keys: Value = serde_json::from_str(&keys.out).unwrap();
    assert_eq!(keys["keys"][0]["scrypt"], serde_json::json!({"n": 1024, "r": 8, "p": 1}));

    let typed = |text: &str| {
        fs::write(&file, text).unwrap();
        world.run(drawn.iter().chain(&["snapshots"]))
    };
    typed(&text.to_uppercase().replace('-', " ")).succeeds();
    let mistyped = typed(&text.replacen('-', "-x", 1)).ends_with(12);
    assert!(mistyped.err.contains("mistyped"), "{}", mistyped.err);
    let other = world.run(["key", "generate"]).succeeds();
    let wrong = typed(&other.out).ends_with(12);
    assert!(!wrong.err.contains("mistyped"), "it is whole, and another one: {}", wrong.err);

    // Mistyped where nothing opens yet that would tell, it becomes no key.
    let wrong = text.trim().replacen(|letter: char| letter.is_ascii_alphanumeric(), "", 1);
    let refused = |ran: Ran, told: &str| {
        let ran = ran.ends_with(2);
        assert!(ran.err.contains("its group 1 has 4 characters") && ran.err.contains(told), "{}", ran.err);
        assert!(!ran.err.contains(&wrong[5..]) && ran.err.lines().count() == 2, "{}", ran.err);
    };
    typed(&text).succeeds();
    let print = format!("echo {wrong}");
    let new = ["--new-password-command", print.as_str()];
    refused(world.run(drawn.iter().chain(&["key", "add"]).chain(&new)), "the password command");
    refused(world.run(drawn.iter().chain(&["key", "passwd"]).chain(&new)), "the password command");
    assert_eq!(fs::read_dir(world.repository().join("keys")).unwrap().count(), 1);
    let elsewhere = world.path().join("elsewhere");
    fs::write(world.path().join("wrong"), &wrong).unwrap();
    fs::set_permissions(world.path().join("wrong"), fs::Permissions::from_mode(0o600)).unwrap();
    refused(
        world.run(["-r", elsewhere.to_str().unwrap(), "--password-file", "wrong", "init"]),
        "the password file wrong",
    );
    assert!(!elsewhere.exists());

    // One that a person chose beside it is made as hard as ever.
    typed(&text).succeeds();
    let add = ["key", "add", "--new-password-command", "echo chosen"];
    world.run(drawn.iter().chain(&add)).succeeds();
    let keys = world.run(drawn.iter().chain(&["--json", "key", "list"])).succeeds();
    let keys: Value = serde_json::from_str(&keys.out).unwrap();
    let work: Vec<_> =
        keys["keys"].as_array().unwrap().iter().map(|key| key["scrypt"]["n"].as_u64().unwrap()).collect();
    assert!(work.contains(&1024) && work.contains(&32_768), "{work:?}");
}
