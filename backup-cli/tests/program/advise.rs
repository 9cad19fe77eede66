//! What is proposed works as it stands: the configuration is in order and runs, and so do the scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::driver::{PASSPHRASE, Ran, World};
use crate::json::assert_documented;
use crate::wrong_use::assert_two_lines;

/// A world with a service: a folder with a file of SQLite and keys in it, and a passphrase.
fn world() -> World {
    let world = World::new();
    fs::write(world.path().join("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
    fs::set_permissions(world.path().join("passphrase"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(world.source().join(".env"), "TOKEN=1\n").unwrap();
    let database = rusqlite::Connection::open(world.source().join("app.db")).unwrap();
    database.execute_batch("create table users (name); insert into users values ('Ada'), ('Grace');").unwrap();
    world
}

fn advise(world: &World, options: &[&str]) -> Ran {
    let mut command = world.command();
    command.env_remove("BACKUP_REPO").env_remove("BACKUP_PASSWORD").arg("advise");
    let (source, path) = (world.source(), |name: &str| world.path().join(name));
    command.arg("--source").arg(source).arg("--local").arg(path("near")).arg("--offsite").arg(path("far"));
    command.args(["--site", "paris", "--offsite-site", "oslo", "--timezone", "UTC", "--yes"]);
    command.arg("--password-file").arg(path("passphrase")).args(options);
    Ran::of(&command.output().unwrap())
}

/// The program with the configuration that was written.
fn backup(world: &World, arguments: &[&str]) -> Ran {
    let mut command = world.command();
    command.env_remove("BACKUP_REPO").env_remove("BACKUP_PASSWORD").env("HOME", world.path());
    command.arg("--config").arg(folder(world).join("backup.toml"));
    Ran::of(&command.args(arguments).output().unwrap())
}

fn script(world: &World, name: &str, arguments: &[&str]) -> Ran {
    let mut command = Command::new(folder(world).join(name));
    command.env_clear().env("TMPDIR", world.path()).env("HOME", world.path()).current_dir("/");
    Ran::of(&command.args(arguments).output().unwrap())
}

fn folder(world: &World) -> PathBuf {
    world.path().join("strategy")
}

#[test]
fn what_is_proposed_is_in_order_runs_and_comes_back_by_its_own_scripts() {
    let world = world();
    let told = advise(&world, &["--output", "strategy"]).succeeds();
    assert!(told.out.contains("config check"), "{}", told.out);
    for part in ["app ", "secrets", "source", "incremental:", "region lost", "upper bounds"] {
        assert!(told.err.contains(part), "{part}: {}", told.err);
    }
    let mut names: Vec<_> =
        fs::read_dir(folder(&world)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let expected = [
        "MATRIX.md",
        "RUNBOOK.md",
        "alerts.yml",
        "backup-db",
        "backup-files",
        "backup.toml",
        "restore-db",
        "test-restore",
        "units",
    ];
    assert_eq!(names, expected);
    let mode = |name: &str| fs::metadata(folder(&world).join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("backup.toml"), mode("restore-db"), mode("units")), (0o600, 0o700, 0o700));
    let unit = fs::read_to_string(folder(&world).join("units/backup-read-back-offsite.service")).unwrap();
    assert!(unit.contains("backup.toml -r offsite check --read-data --slot\n"), "{unit}");
    let matrix = fs::read_to_string(folder(&world).join("MATRIX.md")).unwrap();
    assert!(
        matrix.contains("## Region lost") && matrix.contains("backup -r local restore latest --job app"),
        "{matrix}"
    );

    let runbook = fs::read_to_string(folder(&world).join("RUNBOOK.md")).unwrap();
    for said in ["never measured", "restore latest", "restic"] {
        assert!(runbook.to_lowercase().contains(said), "{said}: {runbook}");
    }

    backup(&world, &["init"]).succeeds();
    backup(&world, &["config", "check"]).succeeds();
    backup(&world, &["run"]).succeeds();
    let status = Ran::of(
        &world
            .command()
            .env_remove("BACKUP_REPO")
            .args(["--json", "--config"])
            .arg(folder(&world).join("backup.toml"))
            .arg("status")
            .output()
            .unwrap(),
    );
    let status = status.succeeds().lines().pop().unwrap();
    let jobs: Vec<_> = status["jobs"].as_array().unwrap().iter().map(|job| job["job"].as_str().unwrap()).collect();
    assert_eq!(jobs, ["app", "secrets", "source"]);
    assert!(status["jobs"].as_array().unwrap().iter().all(|job| job["standing"]["rpo_met"] == "yes"), "{status}");
    let documented =
        status["checklist"].as_array().unwrap().iter().find(|line| line["item"] == "documentation").unwrap();
    assert_eq!(documented["answer"], "yes", "a run keeps the configuration: {documented}");

    for name in ["backup-db", "backup-files", "restore-db", "test-restore"] {
        let checked = Command::new("sh").arg("-n").arg(folder(&world).join(name)).status().unwrap();
        assert!(checked.success(), "{name}");
    }
    script(&world, "backup-db", &[]).succeeds();
    script(&world, "backup-files", &[]).succeeds();
    assert!(script(&world, "restore-db", &[]).ends_with(2).err.contains("which database: app"));
    let back = world.path().join("back.db");
    script(&world, "restore-db", &["app", &format!("sqlite:{}", back.display())]).succeeds();
    let database = rusqlite::Connection::open(&back).unwrap();
    let users: i64 = database.query_row("select count(*) from users", [], |row| row.get(0)).unwrap();
    assert_eq!(users, 2);
    let drilled = script(&world, "test-restore", &[]);
    assert_eq!(drilled.code, 0, "{}\n{}", drilled.out, drilled.err);
    // The database is not copied while it is written: it has a job of its own.
    let listed = backup(&world, &["-r", "local", "ls", "latest", "--job", "source"]).succeeds().out;
    assert!(listed.contains("hello.txt") && listed.contains(".env") && !listed.contains("app.db"), "{listed}");
}

#[test]
fn without_a_folder_the_configuration_is_printed_and_nothing_is_written() {
    let world = world();
    let before = fs::read_dir(world.path()).unwrap().count();
    let told = advise(&world, &[]).succeeds();
    assert!(told.out.starts_with("# Proposed by `backup advise`") && told.out.contains("[jobs.app]"), "{}", told.out);
    assert!(told.err.contains("lost at worst"), "{}", told.err);
    let document = advise(&world, &["--json"]).succeeds().lines().pop().unwrap();
    assert_documented(&document, "advise.md", "`advise`");
    assert_documented(&document["strategy"], "advise.md", "`strategy`");
    assert_documented(&document["strategy"]["jobs"][0], "advise.md", "`jobs`");
    assert_documented(&document["strategy"]["stores"][0], "advise.md", "`stores`");
    assert_documented(&document["strategy"]["recoveries"][0], "advise.md", "`recoveries`");
    assert_eq!(document["strategy"]["cost"], Value::Null, "without prices there is no cost");
    assert_eq!(document["configuration"], told.out);
    assert_eq!(fs::read_dir(world.path()).unwrap().count(), before);
}

#[test]
fn with_prices_there_is_a_cost_of_each_store_and_of_all() {
    let world = world();
    let prices = world.path().join("prices.toml");
    fs::write(&prices, "currency = \"EUR\"\n[[price]]\nstorage = 1000.0\nput = 1.0\n").unwrap();
    let document = advise(&world, &["--json", "--prices", prices.to_str().unwrap()]).succeeds().lines().pop().unwrap();
    let cost = &document["strategy"]["cost"];
    let of = |at: usize| document["strategy"]["stores"][at]["cost"]["storage"].as_f64().unwrap();
    assert!((of(0) + of(1) - cost["storage"].as_f64().unwrap()).abs() < 1e-9 && of(1) > of(0), "{document}");
    fs::write(&prices, "currency = \"EUR\"\n[[price]]\nstorige = 1.0\n").unwrap();
    let refused = advise(&world, &["--prices", prices.to_str().unwrap()]).ends_with(2);
    assert_two_lines(&refused);
    assert!(refused.err.contains("prices.toml: line 3"), "{}", refused.err);
}

#[test]
fn what_was_said_of_something_is_heard() {
    let world = world();
    let options =
        ["--json", "--rpo", "source=2h", "--rpo", "app=15min", "--criticality", "source=ordinary", "--size", "app=1GB"];
    let document = advise(&world, &options).succeeds().lines().pop().unwrap();
    let job = |name: &str| {
        let jobs = document["strategy"]["jobs"].as_array().unwrap();
        jobs.iter().find(|job| job["name"] == name).unwrap().clone()
    };
    assert_eq!(
        (&job("source")["criticality"], &job("source")["bearable"]["rpo_seconds"]),
        (&"ordinary".into(), &7_200.into())
    );
    assert_eq!(job("source")["frequency"]["schedule"].as_str().unwrap().split(' ').nth(1), Some("*"));
    assert_eq!(job("app")["bytes"], 1_073_741_824);
    assert!(job("app")["frequency"]["lost_seconds"].as_i64().unwrap() <= 900);
    assert_eq!(job("secrets")["on_change"], true);
}

#[test]
fn files_that_are_there_are_replaced_only_when_asked() {
    let world = world();
    advise(&world, &["--output", "strategy", "--quiet"]).succeeds();
    let path = folder(&world).join("backup.toml");
    fs::write(&path, "# mine\n").unwrap();
    let refused = advise(&world, &["--output", "strategy", "--quiet"]).ends_with(2);
    assert_two_lines(&refused);
    assert!(refused.err.contains("--force"), "{}", refused.err);
    assert_eq!(fs::read_to_string(&path).unwrap(), "# mine\n");
    advise(&world, &["--output", "strategy", "--quiet", "--force"]).succeeds();
    assert!(fs::read_to_string(&path).unwrap().contains("[jobs.app]"));
}

#[test]
fn what_cannot_be_proposed_is_said_in_two_lines() {
    let world = world();
    for (options, part) in [
        (&["--rpo", "1min"][..], "no schedule loses at most 60 s of app"),
        (&["--rpo", "app=1h", "--size", "app=2TB"], "a run is thought to take"),
        (&["--rpo", "uplaods=1h"], "nothing is called uplaods"),
        (&["--rpo", "0s"], "no time at all"),
        (&["--rpo", "5m"], "min"),
        (&["--criticality", "app=vital"], "none of critical, important and ordinary"),
        (&["--size", "app"], "names nothing"),
        (&["--change", "app=500%"], "no percentage"),
        (&["--source", "/not/there"], "/not/there"),
        (&["--source", "mysql://me@h/"], "names no database"),
        (&["--source", "postgres://me:hunter2@h/db"], "comes with a password"),
        (&["--offsite", "ftp://h/x"], "not"),
        (&["--notify", "https://hooks.example.org/hunter2"], "is a secret"),
        (&["--notify", "somebody"], "neither an address of mail"),
        (&["--force"], "--output"),
    ] {
        let refused = advise(&world, options).ends_with(2);
        assert_two_lines(&refused);
        assert!(refused.err.contains(part) && !refused.err.contains("hunter2"), "{options:?}: {}", refused.err);
    }
    let mut command = world.command();
    command.args(["advise", "--source", "source", "--local", "near", "--timezone", "Mars/Olympus"]);
    let nowhere = Ran::of(&command.output().unwrap()).ends_with(2);
    assert!(nowhere.err.contains("no time zone is called \"Mars/Olympus\""), "{}", nowhere.err);
    let mut command = world.command();
    let nothing = Ran::of(&command.args(["advise", "--local", "near"]).output().unwrap()).ends_with(2);
    assert!(nothing.err.contains("no terminal to ask on"), "{}", nothing.err);
    let mut command = world.command();
    let nowhere = Ran::of(&command.args(["advise", "--source", "source"]).output().unwrap()).ends_with(2);
    assert!(nowhere.err.contains("no place was named for copies"), "{}", nowhere.err);
}

#[test]
fn who_is_told_is_written_where_somebody_was_named_and_asked_for_where_nobody_was() {
    let world = world();
    let nobody = advise(&world, &[]).succeeds();
    assert!(nobody.err.contains("nobody is told when something goes wrong"), "{}", nobody.err);
    assert!(nobody.out.contains("# [notify.ops]\n"), "{}", nobody.out);
    let told = advise(&world, &["--notify", "ops@example.org", "--notify", "/not/there/hook"]).succeeds();
    assert!(!told.err.contains("nobody is told"), "{}", told.err);
    assert!(told.err.contains("write the address of the webhook into /not/there/hook"), "{}", told.err);
    for line in ["[notify.ops]\n", "to = [\"ops@example.org\"]", "[notify.ops-2]\n", "file = \"/not/there/hook\""] {
        assert!(told.out.contains(line), "{line}: {}", told.out);
    }
}

#[test]
fn a_strategy_without_a_place_elsewhere_says_what_that_means() {
    let world = world();
    let mut command = world.command();
    command.args(["advise", "--local", "near", "--look-in", "source", "--yes", "--timezone", "Europe/Paris"]);
    let told = Ran::of(&command.output().unwrap()).succeeds();
    assert!(told.out.contains("offsite = \"none: no place elsewhere was named to backup advise\""), "{}", told.out);
    assert!(told.out.contains("timezone = \"Europe/Paris\""));
    let lost = told.err.lines().find(|line| line.starts_with("region lost") && line.contains("app")).unwrap();
    assert!(lost.contains("nowhere") && lost.contains("everything"), "{lost}");
    assert!(!Path::new(&world.path().join("near")).exists(), "nothing is made");
}
