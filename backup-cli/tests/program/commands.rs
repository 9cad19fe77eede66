//! Each command does what it says: the wiring, once through everything.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use backup_core::testing::copy_program;
use rustix::process::{Pid, Signal, kill_process};

use crate::driver::{PASSPHRASE, Ran, World};

#[test]
fn what_was_backed_up_can_be_looked_at_and_restored() {
    let world = World::with_repository();
    let id = world.create(["--tag", "first"]);
    let source = world.source();
    let source = source.to_str().unwrap();

    let listed = world.run(["ls", "latest"]).succeeds();
    assert!(listed.out.contains(&format!("{source}/sub/data.bin\n")), "{}", listed.out);
    let long = world.run(["ls", &id[..8], source, "-l"]).succeeds();
    assert!(long.out.contains("link -> hello.txt") && !long.out.contains("data.bin"), "{}", long.out);
    let found = world.run(["find", "HELLO*", "-i"]).succeeds();
    assert!(found.out.contains("hello.txt"), "{}", found.out);
    let hello = format!("{source}/hello.txt");
    assert_eq!(world.run(["cat", "latest", &hello]).succeeds().out, "hello\n");
    assert!(world.run(["stats"]).succeeds().out.contains("restored"));
    assert!(world.run(["snapshots"]).succeeds().out.contains("first"));

    let whole = world.run(["restore", "latest", "--to", "all", "--verify"]).succeeds();
    assert!(whole.out.contains("verified"), "{}", whole.out);
    let below = world.path().join("all").join(source.trim_start_matches('/'));
    assert_eq!(fs::read(below.join("hello.txt")).unwrap(), b"hello\n");
    world.run(["restore", "latest", "--path", source, "--to", "part"]).succeeds();
    assert_eq!(
        fs::read(world.path().join("part/sub/data.bin")).unwrap(),
        fs::read(world.source().join("sub/data.bin")).unwrap()
    );
    fs::write(world.path().join("part/extra"), "x").unwrap();
    world.run(["restore", "latest", "--path", source, "--to", "part", "--delete"]).succeeds();
    assert!(!world.path().join("part/extra").exists());
}

#[test]
fn a_restore_can_be_tried_without_writing() {
    let world = World::with_snapshot();
    let dry = world.run(["restore", "latest", "--to", "dry", "--dry-run"]).succeeds();
    assert!(dry.out.contains("would restore") && !world.path().join("dry").exists(), "{}", dry.out);
}

#[test]
fn a_dry_run_says_what_a_restore_then_does() {
    let world = World::with_snapshot();
    let source = world.source().to_str().unwrap().to_owned();
    let restore = |more: &[&str]| {
        let words = ["restore", "latest", "--path", &source, "--to", "there", "--delete", "--overwrite", "if-changed"];
        let mut last = world.json(words.into_iter().chain(more.iter().copied()));
        let object = last.as_object_mut().unwrap();
        object.retain(|key, _| !matches!(key.as_str(), "seconds" | "dry_run"));
        last
    };
    assert_eq!(restore(&["--dry-run"]), restore(&[]));
    let there = world.path().join("there");
    fs::write(there.join("hello.txt"), "other").unwrap();
    fs::write(there.join("extra"), "x").unwrap();
    fs::remove_file(there.join("link")).unwrap();
    fs::create_dir(there.join("link")).unwrap();
    fs::remove_dir_all(there.join("sub")).unwrap();
    std::os::unix::fs::symlink("/", there.join("sub")).unwrap();
    let planned = restore(&["--dry-run"]);
    assert_eq!(fs::read(there.join("hello.txt")).unwrap(), b"other");
    assert!(there.join("extra").exists() && there.join("link").is_dir() && there.join("sub").is_symlink());
    assert_eq!((&planned["deleted"], &planned["losses"]), (&1.into(), &0.into()), "{planned}");
    assert!(planned["bytes_written"].as_u64().unwrap() > 0, "{planned}");
    assert_eq!(planned, restore(&[]));
}

#[test]
fn an_unchanged_source_is_not_read_again_and_a_changed_one_shows_in_diff() {
    let world = World::with_repository();
    let first = world.create([]);
    let again = world.json(["create", world.source().to_str().unwrap()]);
    assert_eq!((&again["files_unmodified"], &again["bytes_read"]), (&2.into(), &0.into()));
    let forced = world.json(["create", world.source().to_str().unwrap(), "--force"]);
    // The folders above the source may have changed; the files have not.
    assert!(forced["bytes_new"].as_u64().unwrap() < 10_000, "{forced}");
    assert!(forced["bytes_read"].as_u64().unwrap() > 200_000, "{forced}");
    fs::write(world.source().join("hello.txt"), "other\n").unwrap();
    fs::write(world.source().join("added"), "x").unwrap();
    fs::remove_file(world.source().join("link")).unwrap();
    let second = world.create([]);
    let diff = world.run(["diff", &first, &second]).succeeds();
    let source = world.source();
    let line = |sign: &str, name: &str| format!("{sign}  {}/{name}\n", source.display());
    for expected in [line("M", "hello.txt"), line("+", "added"), line("-", "link")] {
        assert!(diff.out.contains(&expected), "{expected}: {}", diff.out);
    }
    assert!(!diff.out.contains("data.bin"));
}

#[test]
fn a_dry_run_writes_nothing() {
    let world = World::with_repository();
    let ran = world.run(["create", "source", "-n"]).succeeds();
    assert!(ran.out.contains("dry run"), "{}", ran.out);
    assert!(world.run(["snapshots"]).succeeds().out.contains("no snapshots"));
    assert_eq!(fs::read_dir(world.repository().join("data")).map_or(0, Iterator::count), 0);
}

#[test]
fn streams_become_files() {
    let world = World::with_repository();
    fs::write(world.path().join("dump"), "create table").unwrap();
    let dump = fs::File::open(world.path().join("dump")).unwrap();
    let mut reader = world.command();
    reader.args(["create", "-", "--stdin-name", "dumps/app.sql"]).stdin(dump);
    Ran::of(&reader.output().unwrap()).succeeds();
    world.run(["create", "--command", "printf 'a b'", "--name", "ab"]).succeeds();
    world.run(["create", "--job", "p", "--", "printf", "%s", "c d"]).succeeds();
    for (which, path, content) in [
        (["--source", "/dumps/app.sql"], "/dumps/app.sql", "create table"),
        (["--source", "/command/ab"], "/command/ab", "a b"),
        (["--job", "p"], "/command/printf", "c d"),
    ] {
        let ran = world.run(["cat", "latest", path].into_iter().chain(which)).succeeds();
        assert_eq!(ran.out, content);
    }
}

#[test]
fn what_is_to_be_left_out_is() {
    let world = World::with_repository();
    let cache = world.source().join("cache");
    fs::create_dir(&cache).unwrap();
    fs::write(cache.join("CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n").unwrap();
    fs::write(cache.join("cached"), "x").unwrap();
    fs::write(world.source().join("a.TMP"), "x").unwrap();
    fs::write(world.path().join("patterns"), "# a comment\nhello.*\n").unwrap();
    let ran = world.run([
        "create",
        "source",
        "--exclude-caches",
        "--iexclude",
        "*.tmp",
        "--exclude-file",
        "patterns",
        "--exclude-larger-than",
        "100k",
    ]);
    let ran = ran.succeeds();
    assert!(ran.out.contains("left out"), "{}", ran.out);
    let listed = world.run(["ls", "latest"]).succeeds().out;
    for name in ["cached", "a.TMP", "hello.txt", "data.bin"] {
        assert!(!listed.contains(name), "{name}: {listed}");
    }
    assert!(listed.contains("link") && listed.contains("CACHEDIR.TAG"), "{listed}");
    let with_repository = world.run(["create", "."]).succeeds();
    assert!(with_repository.err.contains("the repository itself is left out"), "{}", with_repository.err);
}

#[test]
fn a_file_that_cannot_be_read_is_a_loss_and_the_rest_is_saved() {
    let world = World::with_repository();
    fs::set_permissions(world.source().join("hello.txt"), fs::Permissions::from_mode(0o000)).unwrap();
    let ran = Ran::of(&plain_command(&world).args(["create", "source"]).output().unwrap()).ends_with(3);
    assert!(ran.err.contains("loss: ") && ran.err.contains("hello.txt"), "{}", ran.err);
    assert!(world.run(["ls", "latest"]).succeeds().out.contains("data.bin"));
}

#[test]
fn tags_and_holds_change_and_the_proof_stays() {
    let world = World::with_snapshot();
    let snapshots = || world.json(["snapshots"])["snapshots"].as_array().unwrap().clone();
    assert_eq!(snapshots()[0]["proof"], "present");
    world.run(["tag", "latest", "--add", "a", "--add", "b"]).succeeds();
    world.run(["tag", "latest", "--remove", "a"]).succeeds();
    assert_eq!(snapshots()[0]["tags"], serde_json::json!(["b"]));
    world.run(["hold", "latest", "--until", "2999-01-01"]).succeeds();
    world.run(["tag", "latest", "--set", "c"]).succeeds();
    let held = &snapshots()[0];
    assert_eq!(held["tags"], serde_json::json!(["c", "hold", "hold-until:2999-01-01T00:00:00Z"]));
    assert_eq!(held["proof"], "present");
    world.run(["forget", held["id"].as_str().unwrap()]).ends_with(1);
    world.run(["hold", "latest", "--release"]).succeeds();
    assert_eq!(snapshots()[0]["tags"], serde_json::json!(["c"]));
    let unchanged = world.run(["hold", "latest", "--release"]).succeeds();
    assert!(unchanged.out.contains("nothing to change"));
}

#[test]
fn forgetting_by_rules_shows_its_reasons_and_spares_the_last_good_one() {
    let world = World::with_repository();
    for day in 1..=4 {
        world.create(["--time", &format!("2024-03-0{day}T12:00:00Z")]);
    }
    let dry = world.run(["forget", "--keep-daily", "2", "-n"]).succeeds();
    assert!(dry.out.contains("daily snapshot") && dry.out.contains("would remove 2 snapshots"), "{}", dry.out);
    assert_eq!(world.json(["snapshots"])["snapshots"].as_array().unwrap().len(), 4);
    let done = world.run(["forget", "--keep-daily", "2", "--prune"]).succeeds();
    assert!(done.out.contains("removed 2 snapshots, kept 2"), "{}", done.out);
    let other = world.run(["forget", "--keep-tag", "nothing-has-it"]).succeeds();
    assert!(other.out.contains("last present snapshot"), "{}", other.out);
    let left = world.json(["snapshots"])["snapshots"].as_array().unwrap().clone();
    assert_eq!(left.len(), 1);
    world.run(["forget", left[0]["id"].as_str().unwrap()]).succeeds();
    assert!(world.run(["snapshots"]).succeeds().out.contains("no snapshots"));
    world.run(["prune", "--instant"]).succeeds();
    assert_eq!(world.json(["stats"])["packs"], 0);
}

#[test]
fn without_proof_nothing_goes_and_the_way_out_is_told() {
    let world = World::with_repository();
    for day in 1..=2 {
        world.create(["--time", &format!("2024-03-0{day}T12:00:00Z")]);
    }
    // What another program wrote has no records of ours.
    fs::remove_dir_all(world.repository().join("ext")).unwrap();
    let ran = world.run(["forget", "--keep-last", "1"]).succeeds();
    assert!(ran.out.contains("removed 0 snapshots") && ran.err.contains("`check`"), "{}{}", ran.out, ran.err);
    world.run(["check"]).succeeds();
    let ran = world.run(["forget", "--keep-last", "1"]).succeeds();
    assert!(ran.out.contains("removed 1 snapshot"), "{}", ran.out);
}

#[test]
fn damage_is_found_named_and_mended() {
    let world = World::with_snapshot();
    assert!(world.run(["check", "--read-data"]).succeeds().out.contains("no damage found"));
    let packs = || {
        let folders = fs::read_dir(world.repository().join("data")).unwrap().flatten();
        folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten()).map(|entry| entry.path())
    };
    let pack = packs().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();

    let name = pack.file_name().unwrap().to_str().unwrap().to_owned();
    let found = world.run(["check", "--read-data"]).ends_with(1);
    assert!(found.out.contains(&name) && found.out.contains("data.bin"), "{}", found.out);
    let restored = world.run(["restore", "latest", "--to", "out"]).ends_with(3);
    assert!(restored.err.contains("loss: ") && restored.err.contains("data.bin"), "{}", restored.err);
    let planned = world.run(["repair", "index", "--read-all-packs", "-n"]).succeeds();
    assert!(planned.out.contains("damaged"), "{}", planned.out);
    world.run(["repair", "index", "--read-all-packs"]).succeeds();
    world.run(["repair", "snapshots", "--forget"]).succeeds();
    world.run(["check", "--read-data"]).succeeds();
    world.create([]);
    world
        .run(["restore", "latest", "--verify", "--to", "mended", "--source", world.source().to_str().unwrap()])
        .succeeds();
}

#[test]
fn keys_are_added_changed_and_removed_but_never_the_last() {
    let world = World::with_repository();
    let with = |passphrase: &str, arguments: &[&str]| {
        Ran::of(&world.command().env("BACKUP_PASSWORD", passphrase).args(arguments).output().unwrap())
    };
    world.run(["key", "add", "--new-password-command", "echo second"]).succeeds();
    with("second", &["snapshots"]).succeeds();
    let keys = world.json(["key", "list"])["keys"].as_array().unwrap().clone();
    assert_eq!(keys.len(), 2);
    let id = |in_use: bool| keys.iter().find(|key| key["in_use"] == in_use).unwrap()["id"].as_str().unwrap();
    world.run(["key", "remove", id(true)]).ends_with(2);
    world.run(["key", "remove", &id(false)[..12]]).succeeds();
    with("second", &["snapshots"]).ends_with(12);
    world.run(["key", "passwd", "--new-password-command", "echo third"]).succeeds();
    with(PASSPHRASE, &["snapshots"]).ends_with(12);
    with("third", &["snapshots"]).succeeds();
    with("third", &["key", "passwd"]).ends_with(2);
    assert_eq!(fs::read_dir(world.repository().join("keys")).unwrap().count(), 1);
}

#[test]
fn a_repository_like_another_cuts_files_the_same_way() {
    let world = World::with_repository();
    let other = world.path().join("other");
    let other = other.to_str().unwrap();
    let ours = world.repository();
    let ours = ours.to_str().unwrap();
    world.run(["init", "-r", other, "--like", ours]).succeeds();
    for third in ["another key", "its own passphrase"] {
        let options: &[&str] = match third {
            "another key" => &["--same-key"],
            _ => &["--password-command", "echo third", "--like-password-command", "echo correct horse"],
        };
        world.run(["init", "-r", third, "--like", ours].iter().chain(options)).succeeds();
    }
    let refused = world.run(["init", "-r", "x", "--like", ours, "--password-command", "echo third"]).ends_with(12);
    assert!(refused.err.contains("--like-password-file"), "{}", refused.err);
    world.run(["init", "-r", "x", "--same-key"]).ends_with(2);
    assert!(!world.path().join("x").exists(), "nothing half-made");
    let unlike = world.run(["init", "-r", other, "--like", "nowhere"]).ends_with(10);
    assert!(unlike.err.contains("nowhere"), "{}", unlike.err);
}

#[test]
fn a_copy_takes_what_was_chosen_and_tells_what_it_could_not_take() {
    let world = World::with_repository();
    let first = world.create(["--job", "one"]);
    fs::write(world.source().join("new"), "new").unwrap();
    let second = world.create(["--job", "two"]);
    world.run(["init", "-r", "far", "--password-command", "echo far"]).succeeds();
    let to = ["copy", "--to", "far", "--to-password-command", "echo far"];
    let copy = |more: &[&str]| world.json(to.iter().chain(more));
    let fates = |summary: &serde_json::Value| -> Vec<String> {
        summary["snapshots"].as_array().unwrap().iter().map(|one| one["fate"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(fates(&copy(&["--dry-run"])), ["to_copy", "to_copy"]);
    assert_eq!(fates(&copy(&["--job", "two"])), ["copied"]);
    assert_eq!(fates(&copy(&[&first[..8]])), ["copied"]);
    assert_eq!(fates(&copy(&["latest", "--job", "two"])), ["there"]);
    assert_eq!(fates(&copy(&[])), ["there", "there"]);
    // What is held or labelled over there is the same snapshot still.
    world
        .run(["-r", "far", "--password-command", "echo far", "tag", "latest", "--job", "one", "--add", "x"])
        .succeeds();
    world.run(["hold", &second]).succeeds();
    assert_eq!(fates(&copy(&[])), ["there", "there"]);

    world.run(to.iter().chain(&["--to-password-file", "f"])).ends_with(2);
    world.run(["copy"]).ends_with(2);
    world.run(["copy", "--to", "nowhere"]).ends_with(10);
    let wrong = world.run(["copy", "--to", "far"]).ends_with(12);
    assert!(wrong.err.contains("--to-password-file"), "{}", wrong.err);
    world.run(["copy", "--to", world.repository().to_str().unwrap()]).ends_with(2);

    fs::write(world.source().join("lost"), (0..9_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();
    let packs = || -> std::collections::BTreeSet<_> {
        let found = Command::new("find").arg(world.repository().join("data")).args(["-type", "f"]).output().unwrap();
        String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect()
    };
    let before = packs();
    world.create(["--job", "lost"]);
    for pack in packs().difference(&before) {
        fs::remove_file(pack).unwrap();
    }
    let ran = world.run(to).ends_with(5);
    assert!(ran.err.contains("is not copied: "), "{}", ran.err);
    world.run(["-r", "far", "--password-command", "echo far", "check", "--read-data"]).succeeds();
}

#[test]
fn one_create_backs_up_to_several_repositories_and_one_that_fails_is_behind() {
    let world = World::with_repository();
    world.run(["init", "-r", "far", "--password-command", "echo far"]).succeeds();
    let near = world.repository();
    let names = ["create", "-r", near.to_str().unwrap(), "-r", "far", "source"];
    let passwords = ["--password-command", "echo correct horse", "--password-command", "echo far"];
    let create = |more: &[&str]| Ran::of(&world.command().arg("--json").args(names).args(more).output().unwrap());
    let snapshots = |ran: &Ran| -> Vec<bool> {
        let summary = ran.lines().pop().unwrap();
        let repositories = summary["repositories"].as_array().unwrap().iter();
        repositories.map(|one| one["snapshot"].is_string() && one["failure"].is_null()).collect()
    };
    assert_eq!(snapshots(&create(&passwords).succeeds()), [true, true]);
    // Another passphrase is a repository that cannot be opened, and so is one that is not there.
    let ran = create(&[]).ends_with(5);
    assert_eq!(snapshots(&ran), [true, false]);
    assert!(ran.err.contains("behind: far got no snapshot: "), "{}", ran.err);
    let other = world.path().join("elsewhere");
    fs::rename(&near, &other).unwrap();
    assert_eq!(snapshots(&create(&passwords).ends_with(5)), [false, true]);
    fs::rename(&other, &near).unwrap();
    // One that fails while the others go on: nothing can be written below a file.
    fs::write(world.source().join("new"), "new").unwrap();
    let data = world.path().join("far/data");
    fs::rename(&data, world.path().join("aside")).unwrap();
    fs::write(&data, "").unwrap();
    let ran = create(&passwords).ends_with(5);
    assert_eq!(snapshots(&ran), [true, false]);
    fs::remove_file(&data).unwrap();
    fs::rename(world.path().join("aside"), &data).unwrap();
    assert_eq!(snapshots(&create(&passwords).succeeds()), [true, true]);
    for (repository, passphrase) in [(near.to_str().unwrap(), "echo correct horse"), ("far", "echo far")] {
        world.run(["-r", repository, "--password-command", passphrase, "check", "--read-data"]).succeeds();
    }

    create(&[&passwords[..], &["--password-command", "echo third"]].concat()).ends_with(2);
    world.run(["create", "-r", "far", "-r", "far", "source", "--password-command", "echo far"]).ends_with(2);
    world.run(["create", "-r", "no", "-r", "nothing", "source"]).ends_with(10);
    world.run(["snapshots", "-r", "far", "-r", near.to_str().unwrap()]).ends_with(2);
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    let world = World::with_snapshot();
    for number in 0..3_000 {
        fs::write(world.source().join(format!("{number:040}")), "").unwrap();
    }
    world.create([]);
    for arguments in [&["ls", "latest"][..], &["find", "0*"], &["--json", "ls", "latest"]] {
        let mut child = world.command().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ran = Ran::of(&child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{arguments:?}");
    }
}

#[test]
fn an_interrupted_backup_ends_with_130_and_blocks_nobody() {
    let world = World::with_repository();
    let begun = |program: &str| {
        let began = world.path().join("began");
        let _ = fs::remove_file(&began);
        let mut command = world.command();
        command.args(["create", "--command", &format!("echo >began; {program}")]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let started = Instant::now();
        while !began.exists() {
            assert!(started.elapsed() < Duration::from_secs(120), "the program is not started");
            std::thread::sleep(Duration::from_millis(10));
        }
        child
    };
    let send = |child: &Child, signal| {
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    };
    for signal in [Signal::INT, Signal::TERM] {
        let child = begun("exec yes");
        // A terminal that goes away stops nothing.
        send(&child, Signal::HUP);
        send(&child, signal);
        let ran = Ran::of(&child.wait_with_output().unwrap()).ends_with(130);
        assert!(ran.err.contains("stopped on request"), "{}", ran.err);
    }
    // A program that prints nothing for a while cannot be waited for: whoever asks again is heard at once. Two requests that
    // come before the first was heard are one, so it is asked until it has ended.
    let mut child = begun("exec sleep 600 >/dev/null 2>&1");
    let asked = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(asked.elapsed() < Duration::from_secs(300), "it waits for its program");
        send(&child, Signal::INT);
        std::thread::sleep(Duration::from_millis(200));
    }
    Ran::of(&child.wait_with_output().unwrap()).ends_with(130);
    assert_eq!(world.json(["snapshots"])["snapshots"].as_array().unwrap().len(), 0);
    world.run(["prune", "--instant"]).succeeds();
}

#[test]
fn a_trial_proves_itself_and_leaves_nothing_behind() {
    let world = World::new();
    fs::set_permissions(world.source().join("sub"), fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = plain_command(&world);
    command.env_remove("BACKUP_PASSWORD").env_remove("BACKUP_REPO").args(["try", "source"]);
    let ran = Ran::of(&command.output().unwrap()).succeeds();
    assert!(ran.out.contains("all equal") && ran.out.contains("backup init -r"), "{}", ran.out);
    let trials = || {
        let entries = fs::read_dir(world.path()).unwrap().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("backup-try-")).count()
    };
    assert_eq!(trials(), 0);
    let kept = world.json(["try", "source", "--keep"]);
    assert_eq!((kept["differences"].as_array().unwrap().len(), trials()), (0, 1));
    assert_eq!(kept["files_compared"], 2);
    world.run(["try", "nowhere"]).ends_with(1);
    fs::set_permissions(world.source().join("sub"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_rest_of_the_words_work() {
    let world = World::with_repository();
    assert!(world.run(["unlock"]).succeeds().out.contains("removed 0 locks"));
    assert!(world.run(["unlock", "--all"]).succeeds().out.contains("removed 0 locks"));
    assert!(world.run(["migrate"]).succeeds().out.contains("already at version 2"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.run(["completions", shell]).succeeds().out.contains("backup"));
    }
    assert!(world.run(["man"]).succeeds().out.contains(".TH"));
    world.run(["man", "pages"]).succeeds();
    assert!(world.path().join("pages/backup-create.1").exists());
    let help = world.run(["--help"]).succeeds();
    let words: Vec<_> = help.out.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for absent in ["wal", "mount"] {
        assert!(!words.contains(&absent), "{absent} is not there yet");
    }
    assert!(world.run(["--version"]).succeeds().out.starts_with("backup "));
}

/// The program by a user without privileges, who then owns everything here; root runs it as nobody.
fn plain_command(world: &World) -> Command {
    const NOBODY: u32 = 65_534;
    let mut command = world.command();
    if rustix::process::geteuid().is_root() {
        let mut folders = vec![world.path().to_owned()];
        while let Some(path) = folders.pop() {
            lchown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            if path.symlink_metadata().unwrap().is_dir() {
                folders.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        // Where the program was built may be closed to others.
        let program = world.path().join("program");
        copy_program(env!("CARGO_BIN_EXE_backup").as_ref(), &program);
        let environment: Vec<_> =
            command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
        command = Command::new(program);
        command.env_clear().envs(environment).current_dir(world.path()).stdin(Stdio::null());
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}
