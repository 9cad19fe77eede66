//! Drills of configured jobs: which copy is told to be what, what keeps one from running, what its objectives are.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rusqlite::Connection;
use serde_json::Value;

use super::driver::{PASSPHRASE, Ran, World};

/// A world with two repositories, and `jobs` in its configuration, where PATH is its folder.
fn world(jobs: &str) -> World {
    let world = World::new();
    fs::write(world.path().join("pass"), PASSPHRASE).unwrap();
    let both = ["near", "far"].map(|name| {
        format!(
            "[repositories.{name}]\nurl = \"PATH/{name}\"\nfailure_domain = \"{name}\"\npassword_file = \"PATH/pass\"\n"
        )
    });
    configure(&world, &format!("{}{jobs}", both.concat()));
    run(&world, &["init"]).succeeds();
    world
}

fn configure(world: &World, text: &str) {
    let path = world.path().join("backup.toml");
    fs::write(&path, text.replace("PATH", world.path().to_str().unwrap())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn run(world: &World, arguments: &[&str]) -> Ran {
    let mut command = world.command();
    command.env_remove("BACKUP_REPO").env_remove("BACKUP_PASSWORD").env("HOME", world.path().join("home"));
    Ran::of(&command.args(["-c", "backup.toml"]).args(arguments).output().unwrap())
}

fn drill(world: &World, arguments: &[&str]) -> (i32, Value) {
    let ran = run(world, &[&["--json", "drill"], arguments].concat());
    let told = ran.lines().into_iter().rfind(|line| line["event"] == "summary");
    (ran.code, told.unwrap_or_else(|| panic!("no summary: {} {}", ran.out, ran.err)))
}

/// The packs of a repository, the largest first.
fn packs(world: &World, repository: &str) -> Vec<PathBuf> {
    let folders = fs::read_dir(world.path().join(repository).join("data")).unwrap().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten());
    let mut packs: Vec<_> = files.map(|file| file.path()).collect();
    packs.sort_by_key(|pack| std::cmp::Reverse(fs::metadata(pack).unwrap().len()));
    packs
}

const FILES: &str =
    "[jobs.files]\nsource = \"PATH/source\"\nrepositories = [\"near\", \"far\"]\noffsite = \"none: a test\"\n";

#[test]
fn a_copy_that_failed_its_drill_is_told_of_until_it_passes_whatever_the_other_copy_does() {
    let told = "[notify.ops]\ncommand = \"cat >> PATH/told; echo >> PATH/told\"\non = [\"drill\", \"recovery\"]\n";
    let world = world(&format!("{FILES}{told}[metrics]\ntextfile = \"PATH/m.prom\"\n"));
    run(&world, &["run"]).succeeds();
    let figures = || fs::read_to_string(world.path().join("m.prom")).unwrap();
    assert!(!figures().contains("backup_drill_result{"));
    let pack = packs(&world, "far").remove(0);
    let good = fs::read(&pack).unwrap();
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, &good[..good.len() - 100]).unwrap();
    drill(&world, &["files", "-r", "far"]);
    assert!(figures().contains("backup_drill_result{job=\"files\",repository=\"far\",result=\"failed\"} 1"));
    assert_eq!(drill(&world, &["files", "-r", "near"]).0, 0);

    let status = run(&world, &["status", "files"]).ends_with(4);
    assert!(status.out.contains("the last drill from far, "), "{}", status.out);
    assert!(status.out.contains(" ago, failed: blobs not in the store: data/"), "{}", status.out);
    let figures = figures();
    for line in [
        "backup_drill_result{job=\"files\",repository=\"far\",result=\"failed\"} 1",
        "backup_drill_result{job=\"files\",repository=\"near\",result=\"passed\"} 1",
        "backup_drill_last_success_timestamp{job=\"files\",repository=\"near\"}",
    ] {
        assert!(figures.contains(line), "{line}: {figures}");
    }
    let told = || fs::read_to_string(world.path().join("told")).unwrap();
    assert!(told().contains("the drill from far failed") && !told().contains("recovered"), "{}", told());

    fs::remove_file(&pack).unwrap();
    fs::write(&pack, &good).unwrap();
    assert_eq!(drill(&world, &["files", "-r", "far"]).0, 0);
    assert!(told().contains("recovered"), "{}", told());
    let status = run(&world, &["status", "files"]);
    assert!(!status.out.contains("failed"), "{}", status.out);
}

#[test]
fn a_database_whose_content_is_gone_has_failed_its_drill_and_status_says_so() {
    let world =
        world("[jobs.db]\nsource = \"sqlite:PATH/app.db\"\nrepositories = [\"near\"]\noffsite = \"none: a test\"\n");
    let database = Connection::open(world.path().join("app.db")).unwrap();
    database.execute_batch("create table t(a); insert into t values (1), (2)").unwrap();
    drop(database);
    run(&world, &["run"]).succeeds();
    assert_eq!(drill(&world, &["db"]).0, 0);
    // The manifest lies in it as well.
    fs::remove_file(packs(&world, "near").remove(0)).unwrap();
    let (code, drilled) = drill(&world, &["db"]);
    assert_eq!((code, &drilled["verdict"], &drilled["recorded"]), (4, &"failed".into(), &true.into()), "{drilled}");
    assert!(drilled["snapshot"].is_string(), "it is known which one: {drilled}");
    assert_eq!(drilled["checks"][0]["result"], "failed", "{drilled}");
    let status = run(&world, &["status", "db"]).ends_with(4);
    assert!(status.out.contains("the last drill, ") && status.out.contains(" ago, failed: /"), "{}", status.out);
    let listed = run(&world, &["--json", "-r", "near", "snapshots"]).succeeds().lines().remove(0);
    assert_ne!(listed["snapshots"][0]["proof"], "restored", "{listed}");
}

#[test]
fn a_question_that_never_ends_is_stopped_when_the_time_is_over() {
    let never = "with recursive r(n) as (select 1 union all select n + 1 from r) select max(n) from r";
    let world = world(&format!(
        "[jobs.db]\nsource = \"sqlite:PATH/app.db\"\nrepositories = [\"near\"]\noffsite = \"none: a test\"\n\
         drill = {{ limit = \"3s\", checks = [{{ sql = \"{never}\" }}] }}\n"
    ));
    Connection::open(world.path().join("app.db")).unwrap().execute_batch("create table t(a)").unwrap();
    run(&world, &["run"]).succeeds();
    let (code, drilled) = drill(&world, &["db"]);
    assert_eq!((code, &drilled["verdict"]), (4, &"not_run".into()), "{drilled}");
    assert!(drilled["reason"].as_str().unwrap().starts_with("time: "), "{drilled}");
}

#[test]
fn the_runbooks_command_for_a_commands_output_brings_it_back_and_is_asked_the_same_questions() {
    let job = "[jobs.dump]\nsource = { command = \"echo dump; echo complete\", name = \"dump.sql\" }\n\
               repositories = [\"near\"]\noffsite = \"none: a test\"\n";
    let checks = "drill = { checks = [ { command = \"grep -q complete command/dump.sql\" } ] }\n";
    let world = world(&format!("{job}{checks}"));
    run(&world, &["run"]).succeeds();
    assert_eq!(drill(&world, &["dump"]).1["level"], 5);
    let (code, drilled) = drill(&world, &["dump", "--runbook"]);
    assert_eq!((code, &drilled["verdict"], &drilled["level"]), (0, &"passed".into(), &5.into()), "{drilled}");
    assert!(drilled["commands"][0].as_str().unwrap().contains("--path /command/dump.sql"), "{drilled}");

    // What a configuration has wrong is no word at night: it is a drill that could not run.
    let text = fs::read_to_string(world.path().join("backup.toml")).unwrap();
    configure(&world, &text.replace(checks, ""));
    let (code, drilled) = drill(&world, &["dump", "--trigger", "schedule"]);
    assert_eq!((code, &drilled["verdict"], &drilled["recorded"]), (4, &"not_run".into(), &true.into()), "{drilled}");
    assert!(drilled["evidence"]["sequence"].as_u64() > Some(1), "{drilled}");
}

#[test]
fn a_check_is_told_of_by_its_name() {
    let drill_of = |checks: &str| format!("{FILES}drill = {{ checks = [ {checks} ] }}\n");
    let named = "{ name = \"there are users\", command = \"false\" }";
    let world = world(&drill_of(named));
    run(&world, &["run"]).succeeds();
    let (code, drilled) = drill(&world, &["files"]);
    assert_eq!((code, &drilled["verdict"]), (4, &"failed".into()), "{drilled}");
    assert_eq!(drilled["checks"].as_array().unwrap().last().unwrap()["id"], "question there are users", "{drilled}");
    let status = run(&world, &["status", "files"]).ends_with(4);
    assert!(status.out.contains("failed: question there are users: "), "{}", status.out);

    configure(&world, &drill_of(&format!("{named}, {named}")));
    let wrong = run(&world, &["config", "check"]).ends_with(2);
    assert!(wrong.out.contains("two checks are called \"there are users\""), "{}", wrong.out);
}

#[test]
fn what_the_defaults_say_of_servers_is_for_jobs_that_have_one() {
    let world = world(&format!("[defaults]\ndrill = {{ sandbox = {{ container = \"postgres:16\" }} }}\n{FILES}"));
    run(&world, &["config", "check", "--offline"]).succeeds();
    run(&world, &["run"]).succeeds();
    assert_eq!(drill(&world, &["files"]).0, 0);
}

#[test]
fn an_objective_that_a_drill_misses_is_said_with_its_figures() {
    let allowed = "objectives = { rpo = \"26h\", rto = \"1s\" }\n";
    let slow = "drill = { sandbox = { folder = \"PATH/drills\" } }\n";
    let world =
        world(&format!("{FILES}{allowed}{slow}[notify.ops]\ncommand = \"cat >> PATH/told\"\non = [\"drill\"]\n"));
    fs::create_dir(world.path().join("drills")).unwrap();
    run(&world, &["run"]).succeeds();
    let at = jiff::Timestamp::now();
    // The repository's key alone takes its time, and a second is rounded up.
    let (code, drilled) = drill(&world, &["files"]);
    let objectives = &drilled["objectives"];
    let is_missed = drilled["verified_seconds"].as_f64().unwrap() > 1.0;
    assert_eq!(
        (code, &objectives["recovery_time_met"]),
        (if is_missed { 4 } else { 0 }, &(!is_missed).into()),
        "{drilled}"
    );
    assert_eq!(objectives["recovery_point_met"], true, "{drilled}");

    let text = fs::read_to_string(world.path().join("backup.toml")).unwrap();
    configure(&world, &text.replace("rpo = \"26h\", rto = \"1s\"", "rpo = \"1s\", rto = \"1h\""));
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    let (code, drilled) = drill(&world, &["files"]);
    assert_eq!((code, &drilled["verdict"]), (4, &"passed".into()), "{drilled}");
    let missed = drilled["objectives"]["missed"][0].as_str().unwrap();
    assert!(
        missed.starts_with("the state that came back was ") && missed.ends_with("where 1 s are allowed"),
        "{missed}"
    );
    let told = fs::read_to_string(world.path().join("told")).unwrap();
    assert!(told.contains("passed, but the state that came back was"), "{told}");
    let text = run(&world, &["drill", "files"]).ends_with(4).out;
    assert!(text.contains("MISSED") && text.contains("where 1 s are allowed"), "{text}");
    // Who asks for a state of long ago has not asked how old the newest one is.
    let (code, drilled) = drill(&world, &["files", "--at", &at.to_string()]);
    assert_eq!((code, &drilled["chosen"]), (0, &"at".into()), "{drilled}");
}

#[test]
fn by_a_schedule_the_ends_of_what_is_kept_and_anything_between_get_their_turn() {
    let world = world(&FILES.replace(", \"far\"", ""));
    run(&world, &["run"]).succeeds();
    let chosen = |words: &[&str]| drill(&world, words).1["chosen"].as_str().unwrap().to_owned();
    let by_night: Vec<_> = (0..4).map(|_| chosen(&["files", "--trigger", "schedule"])).collect();
    assert_eq!(by_night, ["latest", "random", "oldest", "latest"]);
    assert_eq!(chosen(&["files"]), "latest", "a person asks for what would be restored now");
}

#[test]
fn a_cold_drill_takes_its_passphrase_as_a_stranger_would_and_says_from_where() {
    let world = world(&format!("{FILES}drill = {{ cold = true, repository = \"near\" }}\n"));
    run(&world, &["run"]).succeeds();
    let (code, drilled) = drill(&world, &["files"]);
    assert_eq!((code, &drilled["verdict"]), (4, &"not_run".into()), "{drilled}");
    assert!(drilled["reason"].as_str().unwrap().contains("no passphrase from the configuration"), "{drilled}");
    let mut command = world.command();
    command.env_remove("BACKUP_REPO").env("HOME", world.path().join("home")).args([
        "-c",
        "backup.toml",
        "drill",
        "files",
    ]);
    Ran::of(&command.output().unwrap()).succeeds();
    let shown = run(&world, &["--json", "evidence", "show", "2"]).succeeds().lines().remove(0);
    let copy = &shown["record"]["copy"];
    assert_eq!((&copy["is_cold"], &copy["key_from"]), (&true.into(), &"variable".into()), "{shown}");
}

#[test]
fn a_runbook_says_when_a_drill_has_executed_its_command_and_a_schedule_can_do_that() {
    let world = world(&format!("{FILES}drill = {{ runbook = true, repository = \"near\" }}\n"));
    run(&world, &["run"]).succeeds();
    let executed = || {
        let runbook = run(&world, &["runbook"]).succeeds().out;
        runbook.split_whitespace().collect::<Vec<_>>().join(" ").contains("A drill has last executed this very command")
    };
    assert!(!executed());
    let (code, drilled) = drill(&world, &["files", "--trigger", "schedule"]);
    assert_eq!((code, drilled["commands"].as_array().map(Vec::len)), (0, Some(1)), "{drilled}");
    assert!(executed());
    let record = run(&world, &["--json", "evidence", "show", "1"]).succeeds().lines().remove(0)["record"].clone();
    assert_eq!(record["runbook"].as_str().map(str::len), Some(64), "{record}");
}

#[test]
fn evidence_names_the_policy_and_where_the_copy_stands() {
    let world = world(FILES);
    run(&world, &["run"]).succeeds();
    let record = |number: &str| {
        drill(&world, &["files", "-r", "near"]);
        run(&world, &["--json", "evidence", "show", number]).succeeds().lines().remove(0)["record"].clone()
    };
    let text = fs::read_to_string(world.path().join("backup.toml")).unwrap();
    let first = record("1");
    assert_eq!(first["policy"].as_str().map(str::len), Some(64), "{first}");
    assert!(first["runbook"].is_null() && first["copy"]["region"].is_null(), "{first}");
    configure(&world, &format!("# a comment is no policy\n{text}"));
    assert_eq!(record("2")["policy"], first["policy"]);
    configure(&world, &text.replace("failure_domain = \"near\"", "site = \"Bern\""));
    let third = record("3");
    assert_ne!(third["policy"], first["policy"]);
    assert_eq!(third["copy"]["region"], "Bern", "{third}");
    run(&world, &["evidence", "export", "out"]).succeeds();
    let page = fs::read_to_string(world.path().join("out/README.md")).unwrap();
    assert!(page.contains(&third["policy"].as_str().unwrap()[..12]) && page.contains("| Bern |"), "{page}");
}

#[test]
fn drills_that_have_a_schedule_and_have_not_gone_on_end_status_with_4() {
    let objectives = "objectives = { drilled_within = \"1s\" }\n";
    let scheduled = format!("{FILES}{objectives}drill = {{ schedule = \"0 5 1 1 *\", repository = \"near\" }}\n");
    let world = world(&scheduled);
    run(&world, &["run"]).succeeds();
    let status = run(&world, &["status", "files"]).succeeds();
    assert!(status.out.contains("no drill of it has ever passed"), "{}", status.out);
    assert_eq!(drill(&world, &["files"]).0, 0);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let status = run(&world, &["status", "files"]).ends_with(4);
    assert!(status.out.contains("no drill of the copy in near has passed for"), "{}", status.out);
    let text = fs::read_to_string(world.path().join("backup.toml")).unwrap();
    configure(&world, &text.replace("0 5 1 1 *", "never"));
    run(&world, &["status", "files"]).succeeds();
}

#[test]
fn folders_alone_prove_nothing() {
    let world = world("[jobs.empty]\nsource = \"PATH/empty\"\nrepositories = [\"near\"]\noffsite = \"none: a test\"\n");
    fs::create_dir(world.path().join("empty")).unwrap();
    run(&world, &["run"]);
    let (code, drilled) = drill(&world, &["empty"]);
    assert_eq!((code, &drilled["verdict"], &drilled["proven"]), (4, &"not_run".into(), &false.into()), "{drilled}");
}

#[test]
fn the_key_of_evidence_lies_in_no_repository_by_whatever_way() {
    let world = world(FILES);
    let link = world.path().join("link");
    std::os::unix::fs::symlink(world.path().join("near"), &link).unwrap();
    for inside in [world.path().join("far/key"), link.join("deeper/key")] {
        let refused = run(&world, &["evidence", "key", "create", inside.to_str().unwrap()]).ends_with(2);
        assert!(refused.err.contains("lies in the repository"), "{}", refused.err);
    }
    run(&world, &["evidence", "key", "create", world.path().join("key").to_str().unwrap()]).succeeds();
}

#[test]
fn a_key_whose_records_are_all_gone_is_no_sound_evidence() {
    let world = world(FILES);
    run(&world, &["run"]).succeeds();
    let key = run(&world, &["--json", "evidence", "key", "create"]).succeeds().lines().remove(0);
    let verify = |code| {
        let words = ["-r", "near", "evidence", "verify", "--public-key", key["public_key"].as_str().unwrap()];
        run(&world, &words).ends_with(code)
    };
    run(&world, &["drill", "files", "-r", "near"]).succeeds();
    verify(0);
    fs::remove_dir_all(world.path().join("near/ext/evidence")).unwrap();
    fs::remove_dir_all(world.path().join("home/.local")).unwrap();
    let found = verify(1);
    assert!(found.out.contains("no record that this key has signed"), "{}", found.out);
}
