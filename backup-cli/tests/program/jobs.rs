//! Jobs of a configuration, as their users meet them: made, run, looked at, and what goes wrong.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::Value;

use crate::driver::{PASSPHRASE, Ran, World};
use crate::json::assert_documented;

/// A world with a configuration of two repositories and what `more` says. The repositories count as two sites, as they
/// would with a disk that is carried home.
pub(crate) fn world(more: &str) -> World {
    let world = World::new();
    fs::write(world.path().join("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
    fs::set_permissions(world.path().join("passphrase"), fs::Permissions::from_mode(0o600)).unwrap();
    configure(&world, more);
    world
}

fn configure(world: &World, more: &str) {
    let path = world.path().to_str().unwrap();
    let text = format!(
        r#"
[repositories.near]
url = "{path}/near"
site = "paris"
failure_domain = "nas"
media = "disk"

[repositories.far]
url = "{path}/far"
site = "oslo"
failure_domain = "bunker"
media = "tape"

[defaults]
site = "paris"
failure_domain = "server"
password_file = "{path}/passphrase"
repositories = ["near", "far"]
retries = {{ attempts = 1 }}
{}
"#,
        more.replace("PATH", path)
    );
    fs::write(world.path().join("backup.toml"), text).unwrap();
    fs::set_permissions(world.path().join("backup.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(world.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

const FILES: &str =
    "[jobs.files]\nsource = \"PATH/source\"\nschedule = \"0 2 * * *\"\nobjectives = { rpo = \"26h\" }\n";

pub(crate) fn run(world: &World, arguments: &[&str]) -> Ran {
    let mut command = world.command();
    command.env_remove("BACKUP_REPO").env_remove("BACKUP_PASSWORD");
    Ran::of(&command.args(arguments).output().unwrap())
}

pub(crate) fn json(world: &World, arguments: &[&str], code: i32) -> Vec<Value> {
    let arguments: Vec<_> = ["--json"].iter().chain(arguments).copied().collect();
    run(world, &arguments).ends_with(code).lines()
}

/// A slot of each day that is not while a test runs: half a day from now.
fn far_from_now() -> String {
    format!("0 {} * * *", (jiff::Timestamp::now().as_second() / 3_600 + 12) % 24)
}

fn job(lines: &[Value], name: &str) -> Value {
    lines.iter().find(|line| line["event"] == "job" && line["job"] == name).unwrap().clone()
}

#[test]
fn one_file_makes_the_repositories_backs_up_to_both_and_tells_how_it_stands() {
    let database = "[jobs.db]\nsource = \"sqlite:PATH/app.db\"\n";
    let world = world(&format!("{FILES}{database}"));
    let sqlite = rusqlite::Connection::open(world.path().join("app.db")).unwrap();
    sqlite.execute_batch("create table t (x); insert into t values (1), (2);").unwrap();
    let unmade = json(&world, &["config", "check"], 5).pop().unwrap();
    assert!(unmade["problems"].to_string().contains("backup init"), "{unmade}");

    let made = json(&world, &["init"], 0).pop().unwrap();
    assert_eq!(made["repositories"].as_array().unwrap().len(), 2);
    assert!(made["repositories"].as_array().unwrap().iter().all(|one| one["created"] == true), "{made}");
    let again = json(&world, &["init"], 0).pop().unwrap();
    assert!(again["repositories"].as_array().unwrap().iter().all(|one| one["created"] == false), "{again}");
    let checked = json(&world, &["config", "check"], 0).pop().unwrap();
    assert_documented(&checked, "status.md", "`config check`");
    assert_documented(&json(&world, &["config", "show"], 0).pop().unwrap(), "status.md", "`config show`");
    assert_eq!(json(&world, &["status"], 5).pop().unwrap()["jobs"][0]["copies"][0]["snapshots"], 0);

    let lines = json(&world, &["run"], 0);
    for name in ["files", "db"] {
        let told = job(&lines, name);
        assert_eq!(told["outcome"], "done", "{told}");
        assert!(told["copies"].as_array().unwrap().iter().all(|copy| copy["proof"] == "present"), "{told}");
    }
    assert_documented(&job(&lines, "files"), "run.md", "`job`");
    assert_documented(lines.last().unwrap(), "run.md", "`summary`");
    // One polynomial: the second repository has the same pieces.
    let blobs = |name: &str| json(&world, &["-r", name, "stats"], 0).pop().unwrap()["blobs"].clone();
    assert_eq!(blobs("near"), blobs("far"));
    let listed = json(&world, &["-r", "far", "snapshots", "--job", "db"], 0).pop().unwrap();
    assert_eq!(listed["snapshots"][0]["paths"][0], "/sqlite/app.db", "{listed}");
    assert_eq!(listed["snapshots"][0]["tags"][0], "job:db");

    // Nothing was read back yet, so no copy counts; nothing is missing and no objective is missed.
    let status = json(&world, &["status"], 0).pop().unwrap();
    let files = &status["jobs"][0];
    assert_documented(&status, "status.md", "`status`");
    assert_documented(files, "status.md", "`jobs`");
    assert_eq!(files["standing"]["rpo_met"], "yes", "{files}");
    assert_eq!(files["copies"][1]["newest"]["proof"], "present");
    assert_eq!(files["standing"]["three_two_one"]["answer"], "no");
    for name in ["near", "far"] {
        run(&world, &["-r", name, "check", "--read-data"]).succeeds();
    }
    let status = json(&world, &["status", "files"], 0).pop().unwrap();
    assert_eq!(status["jobs"][0]["standing"]["three_two_one"]["answer"], "yes", "{status}");
    assert_eq!(status["jobs"].as_array().unwrap().len(), 1);
    let shown = run(&world, &["status", "files"]).succeeds().out;
    for line in
        ["would be lost now: ", "of what was read back: ", "would have been lost at worst in 30 days: ", "3-2-1: yes"]
    {
        assert!(shown.contains(line), "{line} is missing: {shown}");
    }
}

#[test]
fn retention_is_applied_in_each_repository_by_its_own_rules_after_each_run() {
    let rules = "retention = { near = { last = 1 }, far = { last = 2 } }\n";
    let world = world(&format!("{FILES}{rules}"));
    run(&world, &["init"]).succeeds();
    for number in 0..4 {
        fs::write(world.source().join("hello.txt"), format!("hello {number}\n")).unwrap();
        run(&world, &["run", "files"]).succeeds();
    }
    let count =
        |name: &str| json(&world, &["-r", name, "snapshots"], 0).pop().unwrap()["snapshots"].as_array().unwrap().len();
    assert_eq!((count("near"), count("far")), (1, 2));
    let dry = job(&json(&world, &["run", "--dry-run"], 0), "files");
    assert_eq!(dry["copies"][0]["snapshots"], serde_json::json!([]));
    assert_eq!((count("near"), count("far")), (1, 2));
}

#[test]
fn a_job_that_fails_does_not_stop_the_next_and_the_gravest_exit_code_wins() {
    let jobs = "[jobs.bad]\nsource = { command = \"exit 3\" }\nhooks = { before = \"touch PATH/before\", failure = \"echo $BACKUP_JOB $BACKUP_OUTCOME > PATH/failure\" }\n\
        [jobs.good]\nsource = { command = \"echo x\" }\nhooks = { after = \"echo $BACKUP_OUTCOME; echo $BACKUP_OUTCOME > PATH/after\" }\n\
        [jobs.hooked]\nsource = { command = \"echo x\" }\nhooks = { before = \"exit 1\" }\n\
        [jobs.slow]\nsource = { command = \"echo x\" }\nhooks = { before = \"sleep 600\", timeout = \"1s\" }\n";
    let world = world(jobs);
    run(&world, &["init"]).succeeds();
    let lines = json(&world, &["run"], 1);
    let outcomes: Vec<_> = ["bad", "good", "hooked", "slow"].map(|name| job(&lines, name)["outcome"].clone()).into();
    assert_eq!(outcomes, ["failed", "done", "failed", "failed"]);
    assert!(job(&lines, "hooked")["why"].as_str().unwrap().contains("the hook before of hooked failed"));
    assert!(job(&lines, "slow")["why"].as_str().unwrap().contains("longer than 1 s"));
    let written = |name: &str| fs::read_to_string(world.path().join(name)).unwrap();
    assert_eq!((written("failure"), written("after")), ("bad failed\n".to_owned(), "done\n".to_owned()));
    assert!(world.path().join("before").exists());
    // It is known to the repositories, and so to everybody.
    let status = json(&world, &["status", "bad"], 5).pop().unwrap();
    assert!(status.to_string().contains("the last run failed"), "{status}");
}

#[test]
fn a_failed_run_is_tried_again_within_its_window() {
    let jobs = "[jobs.flaky]\nsource = { command = \"echo x\" }\nretries = { attempts = 3, wait = \"1s\", window = \"1min\" }\n\
        hooks = { before = \"test -e PATH/second || { touch PATH/second; exit 1; }\" }\n";
    let world = world(jobs);
    run(&world, &["init"]).succeeds();
    let told = job(&json(&world, &["run"], 0), "flaky");
    assert_eq!((&told["outcome"], &told["attempts"]), (&"done".into(), &2.into()));
}

#[test]
fn what_is_backed_up_is_read_once_for_all_repositories() {
    let world = world("[jobs.dump]\nsource = { command = \"echo read >> PATH/reads; echo data\" }\n");
    run(&world, &["init"]).succeeds();
    let told = job(&json(&world, &["run"], 0), "dump");
    assert_eq!(fs::read_to_string(world.path().join("reads")).unwrap(), "read\n");
    assert!(told["copies"].as_array().unwrap().iter().all(|copy| copy["proof"] == "present"), "{told}");
}

#[test]
fn a_repository_that_is_away_is_behind_and_made_up_for() {
    let world = world(FILES);
    run(&world, &["init"]).succeeds();
    fs::rename(world.path().join("far"), world.path().join("away")).unwrap();
    let told = job(&json(&world, &["run"], 5), "files");
    assert_eq!(told["copies"][0]["failure"], Value::Null);
    assert!(told["copies"][1]["failure"].is_string(), "{told}");
    let status = json(&world, &["status"], 5).pop().unwrap();
    assert!(status["jobs"][0]["copies"][1]["unreachable"].is_string(), "{status}");
    fs::rename(world.path().join("away"), world.path().join("far")).unwrap();
    json(&world, &["status"], 5);
    json(&world, &["run"], 0);
    json(&world, &["status"], 0);
}

#[test]
fn a_slot_is_run_once_among_all_who_share_a_repository() {
    let world = world(&FILES.replace("0 2 * * *", &far_from_now()));
    run(&world, &["init"]).succeeds();
    assert_eq!(job(&json(&world, &["run", "--slot"], 0), "files")["outcome"], "done");
    let second = job(&json(&world, &["run", "--slot"], 0), "files");
    assert_eq!(second["outcome"], "held", "{second}");
    assert_eq!(job(&json(&world, &["run"], 0), "files")["outcome"], "done", "by hand it runs");
}

#[test]
fn a_slot_has_its_lease_also_when_the_repository_answers_late() {
    let world = world(&format!(
        "[jobs.files]\nsource = \"PATH/source\"\nschedule = \"{}\"\nrepositories = [\"near\"]\nretries = {{ attempts = 60, wait = \"1s\" }}\n",
        far_from_now()
    ));
    run(&world, &["init"]).succeeds();
    let (near, aside) = (world.path().join("near"), world.path().join("aside"));
    fs::rename(&near, &aside).unwrap();
    // What cannot be read, and may be tomorrow.
    std::os::unix::fs::symlink(&near, &near).unwrap();
    let mut command = world.command();
    command.env_remove("BACKUP_REPO").env_remove("BACKUP_PASSWORD").args(["--json", "run", "--slot"]);
    let mut late = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(late.stderr.take().unwrap());
    while !said.contains("trying again in 1 s") {
        assert_ne!(lines.read_line(&mut said).unwrap(), 0, "{said}");
    }
    fs::remove_file(&near).unwrap();
    fs::rename(&aside, &near).unwrap();
    let late = Ran::of(&late.wait_with_output().unwrap()).succeeds();
    let late = job(&late.lines(), "files");
    assert!(late["outcome"] == "done" && late["attempts"].as_u64() > Some(1), "{late}");
    let second = job(&json(&world, &["run", "--slot"], 0), "files");
    assert_eq!(second["outcome"], "held", "{second}");
}

#[test]
fn a_repository_is_read_back_once_for_a_slot_and_its_copies_count_then() {
    let world = world(&format!("read_back = \"0 0 1 1 *\"\n{FILES}"));
    run(&world, &["init"]).succeeds();
    json(&world, &["run"], 0);
    let copies = || json(&world, &["status"], 0).pop().unwrap()["jobs"][0]["copies"].clone();
    assert_eq!((&copies()[0]["counts"], &copies()[1]["counts"]), (&"no".into(), &"no".into()), "never read back");
    let check = |name: &str| json(&world, &["-r", name, "check", "--read-data", "--slot"], 0).pop().unwrap();
    let read = check("near");
    assert_eq!((&read["sound"], &read["proof"]), (&true.into(), &"verified".into()), "{read}");
    let again = check("near");
    assert_eq!(again["held_by"], "a reading since", "{again}");
    assert_eq!((&copies()[0]["counts"], &copies()[1]["counts"]), (&"yes".into(), &"no".into()));
    // Each has slots of its own.
    assert_eq!(check("far")["sound"], true);
    assert_eq!(
        json(&world, &["-r", "near", "check", "--read-data"], 0).pop().unwrap()["sound"],
        true,
        "by hand it reads"
    );

    let checked = json(&world, &["config", "check", "--offline"], 2).pop().unwrap();
    assert_documented(&checked, "status.md", "`config check`");
    let problems = checked["problems"].as_array().unwrap();
    assert!(problems.iter().any(|problem| problem["of"] == "repositories.near"), "once a year is too rare: {checked}");
    let rare = fs::read_to_string(world.path().join("backup.toml")).unwrap();
    fs::write(world.path().join("backup.toml"), rare.replace("read_back = \"0 0 1 1 *\"\n", "")).unwrap();
    let refused = run(&world, &["-r", "near", "check", "--read-data", "--slot"]).ends_with(2);
    assert!(refused.err.contains("has no slots"), "{}", refused.err);
    run(&world, &["-r", "near", "check", "--slot"]).ends_with(2);
}

#[test]
fn damage_that_a_reading_finds_is_told_to_who_wants_failures() {
    let world = world(&format!("{FILES}[notify.ops]\ncommand = \"cat >> PATH/told\"\n"));
    // What was told is remembered there.
    let run = |arguments: &[&str]| {
        let mut command = world.command();
        command.env_remove("BACKUP_REPO").env_remove("BACKUP_PASSWORD").env("HOME", world.path().join("home"));
        Ran::of(&command.args(arguments).output().unwrap())
    };
    run(&["init"]).succeeds();
    run(&["run"]).succeeds();
    let told = || fs::read_to_string(world.path().join("told")).unwrap_or_default();
    let monitored = || {
        let status = run(&["--json", "status"]).succeeds().lines().pop().unwrap();
        let lines = status["checklist"].as_array().unwrap().iter();
        lines.clone().find(|line| line["item"] == "monitoring").unwrap()["answer"].clone()
    };
    run(&["-r", "near", "check", "--read-data"]).succeeds();
    assert_eq!(told(), "", "what is good is no news");
    assert_eq!(monitored(), "unknown", "nobody knows whether a message would arrive");
    let packs = fs::read_dir(world.path().join("near/data")).unwrap();
    let packs = packs.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap()).map(|pack| pack.unwrap().path());
    let mut rotten = Vec::new();
    for pack in packs {
        let mut bytes = fs::read(&pack).unwrap();
        rotten.push((pack.clone(), bytes.clone()));
        bytes[0] ^= 1;
        let _ = fs::remove_file(&pack);
        fs::write(&pack, bytes).unwrap();
    }
    run(&["-r", "near", "check", "--read-data"]).ends_with(1);
    let message: Value = serde_json::from_str(&told()).unwrap();
    assert_eq!((&message["event"], &message["state"]), (&"check".into(), &"bad".into()), "{message}");
    assert_eq!(message["job"], "repository near", "{message}");
    for (pack, bytes) in rotten {
        fs::remove_file(&pack).unwrap();
        fs::write(pack, bytes).unwrap();
    }
    fs::write(world.path().join("told"), "").unwrap();
    run(&["-r", "near", "check", "--read-data"]).succeeds();
    assert!(told().contains("\"recovered\""), "{}", told());
    assert_eq!(monitored(), "yes", "one was delivered");
}

#[test]
fn a_run_that_shrinks_freezes_retention_until_somebody_has_looked() {
    let world = world(&format!("{FILES}retention = {{ near = {{ last = 1 }}, far = {{ last = 1 }} }}\n"));
    run(&world, &["init"]).succeeds();
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(world.source().join("large"), &large).unwrap();
    for _ in 0..3 {
        json(&world, &["run"], 0);
    }
    fs::write(world.source().join("large"), "").unwrap();
    let told = job(&json(&world, &["run"], 4), "files");
    assert_eq!((&told["outcome"], &told["copies"][0]["frozen"]), (&"suspicious".into(), &true.into()), "{told}");
    let count = || json(&world, &["-r", "near", "snapshots"], 0).pop().unwrap()["snapshots"].as_array().unwrap().len();
    assert_eq!(count(), 2, "the last good one is still there");
    let forgotten = run(&world, &["-r", "near", "forget", "--keep-last", "1"]).succeeds();
    assert!(forgotten.err.contains("`backup run --accept files`"), "{}", forgotten.err);
    assert_eq!(count(), 2, "nor does anybody remove it by hand without a word");
    json(&world, &["run"], 4);
    assert_eq!(count(), 3);
    let accepted = job(&json(&world, &["run", "--accept"], 0), "files");
    assert_eq!(accepted["outcome"], "done");
    assert_eq!(count(), 1);
    assert_eq!(job(&json(&world, &["run"], 0), "files")["outcome"], "done", "so much is usual from now on");
}

#[test]
fn what_cannot_be_reached_is_said_beforehand_and_what_can_is_told_nothing() {
    let hook = TcpListener::bind("127.0.0.1:0").unwrap();
    // Nobody listens there, and the system gives it to nobody.
    let free = 1;
    let more = format!(
        "{FILES}read_again = \"0 3 * * 0\"\ndrill = {{ schedule = \"0 5 * * *\" }}\n\
        [notify.hook]\nwebhook = {{ url = \"http://{}/secret-path?token=x\" }}\n[notify.gone]\nwebhook = {{ url = \"http://127.0.0.1:{free}/\" }}\n\
        [notify.mail]\nmail = {{ server = \"127.0.0.1\", port = {free}, encryption = \"none\", from = \"a@b.c\", to = [\"d@e.f\"] }}\n\
        [metrics]\ntextfile = \"PATH/none/x.prom\"\npushgateway = {{ url = \"http://127.0.0.1:{free}\" }}\n",
        hook.local_addr().unwrap()
    );
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = hook.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        line
    });
    let world = world(&more);
    run(&world, &["init"]).succeeds();
    let told = json(&world, &["config", "check"], 5).pop().unwrap();
    assert_eq!(asked.join().unwrap().trim_end(), "HEAD / HTTP/1.1", "nothing is told, and no secret is sent");
    let of: Vec<_> =
        told["problems"].as_array().unwrap().iter().map(|problem| problem["of"].as_str().unwrap()).collect();
    let expected =
        ["notify.gone.webhook.url", "notify.mail.mail.server", "metrics.pushgateway.url", "metrics.textfile"];
    assert_eq!(of, expected, "{told}");
    let next = |key: &str| told["jobs"][0][key].as_array().unwrap().len();
    assert_eq!((next("next_runs"), next("next_read_again"), next("next_drills")), (3, 3, 3));
    let shown = run(&world, &["config", "check", "--offline"]).succeeds().out;
    assert!(shown.contains("\n  drill  ") && shown.contains("\n  all of it is read  Sun "), "{shown}");
}

#[test]
fn what_a_configuration_cannot_keep_is_said_beforehand() {
    let rare = "[jobs.rare]\nsource = \"PATH/source\"\nschedule = \"0 2 * * 0\"\nobjectives = { rpo = \"26h\" }\n";
    let world = world(rare);
    let told = json(&world, &["config", "check", "--offline"], 2).pop().unwrap();
    assert!(told["problems"].to_string().contains("more than the"), "{told}");
    assert_eq!(told["jobs"][0]["next_runs"].as_array().unwrap().len(), 3);
    configure(&world, "[jobs.here]\nsource = \"PATH/source\"\nrepositories = [\"near\"]\n");
    let told = json(&world, &["config", "check", "--offline"], 2).pop().unwrap();
    assert!(told["problems"].to_string().contains("no copy stands at another site"), "{told}");
    configure(&world, "[jobs.here]\nsource = \"PATH/source\"\nrepositories = [\"near\"]\noffsite = \"none: a test\"\n");
    json(&world, &["config", "check", "--offline"], 0);
    configure(&world, "[jobs.here]\nsorce = \"PATH/source\"\n[jobs.there]\nsource = \"/x\"\nfoo = 1\n");
    let told = json(&world, &["config", "check", "--offline"], 2).pop().unwrap();
    assert_eq!(told["problems"].as_array().unwrap().len(), 3, "{told}");
    let failed = run(&world, &["run"]).ends_with(2);
    crate::wrong_use::assert_two_lines(&failed);
    assert!(failed.err.contains("backup.toml:20"), "{}", failed.err);
}

#[test]
fn a_configuration_that_others_could_have_written_is_not_taken_unless_it_is_named() {
    let world = world(FILES);
    let path = world.path().join("backup.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let refused = run(&world, &["run"]).ends_with(2);
    crate::wrong_use::assert_two_lines(&refused);
    assert!(refused.err.contains("others can write it"), "{}", refused.err);
    run(&world, &["-c", "backup.toml", "config", "check", "--offline"]).succeeds();
}

#[test]
fn the_configuration_lies_in_each_repository_without_its_secrets() {
    let world = world(&format!("{FILES}[notify.ops]\nwebhook = {{ url = \"https://hooks.example.org/hunter2\" }}\n"));
    run(&world, &["init"]).succeeds();
    let shown = run(&world, &["config", "show"]).succeeds().out;
    assert!(!shown.contains("hunter2") && shown.contains("jobs.files"), "{shown}");
    run(&world, &["run", "--quiet"]);
    for name in ["near", "far"] {
        let kept = world.path().join(name).join("ext/configurations");
        assert_eq!(fs::read_dir(kept).unwrap().count(), 1, "{name}");
    }
}

#[test]
fn names_that_are_not_there_are_usage_errors_with_the_nearest() {
    let world = world(FILES);
    let failed = run(&world, &["run", "fils"]).ends_with(2);
    crate::wrong_use::assert_two_lines(&failed);
    assert!(failed.err.contains("files is the nearest"), "{}", failed.err);
    let failed = run(&world, &["-c", "absent.toml", "run"]).ends_with(2);
    crate::wrong_use::assert_two_lines(&failed);
    let empty = World::new();
    let failed = run(&empty, &["run"]).ends_with(2);
    crate::wrong_use::assert_two_lines(&failed);
    assert!(failed.err.contains("there is no configuration"), "{}", failed.err);
}

#[test]
fn everything_is_read_again_once_after_each_slot_of_its_calendar() {
    let world = world(&format!("{FILES}read_again = \"{}\"\n", far_from_now()));
    run(&world, &["init"]).succeeds();
    let again = |lines: Vec<Value>| job(&lines, "files")["parts"][0]["read_again"].clone();
    assert_eq!(again(json(&world, &["run"], 0)), true);
    assert_eq!(again(json(&world, &["run"], 0)), false, "once is enough until the next slot");
}

#[test]
fn a_command_is_told_of_a_failure_once_and_of_its_end() {
    let told = "command = \"cat >> PATH/told; echo >> PATH/told\"\non = [\"failure\", \"recovery\"]\n";
    let job_text = "[jobs.flaky]\nsource = { command = \"test -e PATH/good && echo x\" }\n[notify.ops]\n";
    let world = world(&format!("{job_text}{told}"));
    run(&world, &["init"]).succeeds();
    let run_it = || {
        let mut command = world.command();
        command
            .env_remove("BACKUP_REPO")
            .env_remove("BACKUP_PASSWORD")
            .env("XDG_STATE_HOME", world.path().join("state"));
        Ran::of(&command.args(["run", "--quiet"]).output().unwrap())
    };
    run_it().ends_with(1);
    run_it().ends_with(1);
    fs::write(world.path().join("good"), "").unwrap();
    run_it().ends_with(0);
    run_it().ends_with(0);
    let told = fs::read_to_string(world.path().join("told")).unwrap();
    let states: Vec<_> =
        told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["state"].clone()).collect();
    assert_eq!(states, ["bad", "recovered"], "{told}");
}

#[test]
fn figures_are_written_for_the_textfile_collector() {
    let world = world(&format!("{FILES}[metrics]\ntextfile = \"PATH/backup.prom\"\n"));
    run(&world, &["init"]).succeeds();
    run(&world, &["run", "--quiet"]).succeeds();
    let text = fs::read_to_string(world.path().join("backup.prom")).unwrap();
    assert!(text.contains("backup_last_success_timestamp{"), "{text}");
    assert!(text.contains("repository=\"far\""), "{text}");
}
