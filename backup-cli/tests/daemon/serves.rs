//! The daemon as those meet it who ask it, change its configuration, and stop it.

use std::fs;
use std::process::Command;

use crate::driver::{PASSPHRASE, Ran, World};
use crate::running::Daemon;

/// The program with the configuration of a world, as the daemon runs it.
fn backup(world: &World, arguments: &[&str]) -> Command {
    let mut command: Command = world.command();
    command.env_remove("BACKUP_REPO").env_remove("BACKUP_PASSWORD").env("HOME", world.path().join("home"));
    command.args(["-c", "backup.toml"]).args(arguments);
    command
}

/// Starts a daemon in a world whose configuration has these jobs.
fn start(world: &World, jobs: &str) -> Daemon {
    configure(world, jobs);
    Daemon::start(backup(world, &["daemon"]))
}

fn configure(world: &World, jobs: &str) {
    let password = world.path().join("passphrase");
    fs::write(&password, PASSPHRASE).unwrap();
    let text = format!(
        "[daemon]\nlisten = \"127.0.0.1:0\"\nTOKEN[repositories.local]\nurl = \"{}\"\npassword_file = \"{}\"\n{jobs}",
        world.repository().display(),
        password.display()
    );
    let token = world.path().join("token");
    let token = if token.exists() { format!("token = {{ file = \"{}\" }}\n", token.display()) } else { String::new() };
    fs::write(world.path().join("backup.toml"), text.replace("TOKEN", &token)).unwrap();
}

fn job(world: &World, name: &str, rest: &str) -> String {
    let source = world.source().display().to_string();
    format!("[jobs.{name}]\nsource = {{ files = [\"{source}\"] }}\noffsite = \"none: a test\"\n{rest}\n")
}

#[test]
fn it_shows_what_the_repository_holds_and_stops_when_it_is_asked_to() {
    let world = World::with_repository();
    world.create(["--job", "app"]);
    let daemon = start(&world, &(job(&world, "app", "") + &job(&world, "never", "objectives = { rpo = \"1h\" }")));
    assert_eq!(daemon.get("/healthz"), (200, "alive\n".to_owned()));
    assert_eq!(daemon.get("/nothing").0, 404);
    let (status, page) = daemon.get("/");
    assert_eq!(status, 200);
    assert!(
        page.contains("<strong>never</strong>: there is no backup of never. Try <code>backup run never</code>"),
        "{page}"
    );
    let (status, figures) = daemon.get("/metrics");
    assert_eq!(status, 200);
    assert!(figures.contains("backup_last_success_timestamp{job=\"app\",repository=\"local\"} "), "{figures}");
    assert!(figures.contains("backup_rpo_exposure_seconds{job=\"never\",proof=\"present\"} +Inf"), "{figures}");
    let (code, said) = daemon.stop();
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_configuration_that_went_wrong_is_told_and_the_old_one_stays() {
    let world = World::with_repository();
    let daemon = start(&world, &job(&world, "app", ""));
    configure(&world, &job(&world, "app", "shedule = \"0 2 * * *\""));
    daemon.signal("HUP");
    daemon.wait_for("the page tells", || daemon.get("/").1.contains("the configuration could not be read again"));
    assert!(daemon.get("/metrics").1.contains("backup_copies{job=\"app\"}"));
    configure(&world, &job(&world, "other", "schedule = \"0 2 * * *\""));
    daemon.signal("HUP");
    daemon.wait_for("the new job is there", || {
        let figures = daemon.get("/metrics").1;
        figures.contains("backup_schedule_interval_seconds{job=\"other\"} 86400") && !figures.contains("job=\"app\"")
    });
    assert!(!daemon.get("/").1.contains("could not be read again"));
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn what_changes_is_backed_up_without_anybody_asking() {
    let world = World::with_repository();
    let daemon = start(&world, &job(&world, "app", "trigger = \"on-change\"\nsettle = \"1s\""));
    // What changed while nobody watched: the first run.
    daemon.wait_for("the first run is seen", || {
        daemon.get("/metrics").1.contains("backup_last_success_timestamp{job=\"app\"")
    });
    let count = || world.json(["snapshots"])["snapshots"].as_array().map_or(0, Vec::len);
    let before = count();
    fs::write(world.source().join("new.txt"), "new").unwrap();
    daemon.wait_for("the change is backed up", || count() > before);
    let (code, said) = daemon.stop();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("run app begins") && said.contains("run app done"), "{said}");
}

#[test]
fn a_repository_is_read_back_at_its_slot_and_what_it_holds_is_verified_then() {
    let world = World::with_repository();
    let daemon = start(&world, &job(&world, "app", ""));
    Ran::of(&backup(&world, &["run"]).output().unwrap()).succeeds();
    let path = world.path().join("backup.toml");
    let text = fs::read_to_string(&path).unwrap();
    let url = format!("url = \"{}\"\n", world.repository().display());
    assert!(text.contains(&url), "{text}");
    fs::write(&path, text.replace(&url, &format!("{url}read_back = \"* * * * *\"\n"))).unwrap();
    daemon.signal("HUP");
    daemon.wait_for("its minute has come", || daemon.said().contains("check local done"));
    let verified = "backup_verified_timestamp{job=\"app\",repository=\"local\"} ";
    daemon.wait_for("it is heard of", || daemon.get("/metrics").1.contains(verified));
    let (code, said) = daemon.stop();
    assert_eq!(code, 0, "{said}");
    // That figures are fetched is evidence that somebody watches.
    let status = Ran::of(&backup(&world, &["--json", "status"]).output().unwrap());
    let line = status.lines().pop().unwrap()["checklist"].as_array().unwrap()[6].clone();
    assert_eq!((&line["item"], &line["answer"]), (&"monitoring".into(), &"yes".into()), "{line}");
}

#[test]
fn what_is_left_out_starts_no_run() {
    let world = World::with_repository();
    let source = world.source().display().to_string();
    let text = format!(
        "[jobs.app]\nsource = {{ files = [\"{source}\"], exclude = [\"*.tmp\"] }}\noffsite = \"none: a test\"\n\
        trigger = \"on-change\"\nsettle = \"1s\"\n"
    );
    let daemon = start(&world, &text);
    let runs = || daemon.said().matches("run app begins").count();
    daemon.wait_for("the first run is done", || daemon.said().contains("run app done"));
    fs::write(world.source().join("half.tmp"), "half").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    assert_eq!(runs(), 1, "{}", daemon.said());
    fs::write(world.source().join("whole"), "whole").unwrap();
    daemon.wait_for("another run", || runs() == 2);
    assert_eq!(daemon.stop().0, 0);
}

const CHANGES: &str = "trigger = \"on-change\"\nsettle = \"1s\"";

#[test]
fn a_run_has_the_configuration_that_the_daemon_took_and_not_what_somebody_writes() {
    let world = World::with_repository();
    let daemon = start(&world, &job(&world, "app", CHANGES));
    let done = |count| move |daemon: &Daemon| daemon.said().matches("run app done").count() == count;
    daemon.wait_for("the first run is done", || done(1)(&daemon));
    configure(&world, &job(&world, "app", "shedule = \"0 2 * * *\""));
    fs::write(world.source().join("new"), "new").unwrap();
    daemon.wait_for("a run with a wrong file", || done(2)(&daemon));
    daemon.signal("HUP");
    daemon.wait_for("the page tells", || daemon.get("/").1.contains("the configuration could not be read again"));
    fs::write(world.source().join("newer"), "newer").unwrap();
    daemon.wait_for("a run after the signal", || done(3)(&daemon));
    let (code, said) = daemon.stop();
    assert!(code == 0 && !said.contains("ended with"), "{said}");
}

#[test]
fn a_configuration_is_read_again_after_the_run_that_is_under_way() {
    let world = World::with_repository();
    let began = world.path().join("began");
    let hook = format!("{CHANGES}\nhooks = {{ before = \"touch {}; sleep 2\" }}", began.display());
    let daemon = start(&world, &job(&world, "app", &hook));
    daemon.wait_for("the run is under way", || began.exists());
    configure(&world, &job(&world, "other", ""));
    daemon.signal("HUP");
    daemon.wait_for("it is read again", || daemon.said().contains("was read again"));
    let said = daemon.said();
    assert!(said.find("run app done") < said.find("was read again"), "{said}");
    assert!(said.contains("run app done"), "{said}");
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn an_objective_that_is_missed_while_nothing_runs_is_told_once() {
    let world = World::with_repository();
    world.create(["--job", "app"]);
    let told = world.path().join("told");
    let rest = format!(
        "schedule = \"0 0 1 1 *\"\nobjectives = {{ rpo = \"1s\" }}\n[notify.ops]\ncommand = \"cat >> {0}; echo >> {0}\"",
        told.display()
    );
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let daemon = start(&world, &job(&world, "app", &rest));
    daemon.wait_for("somebody is told", || fs::read_to_string(&told).is_ok_and(|told| told.ends_with('\n')));
    daemon.signal("HUP");
    daemon.wait_for("it is read again", || daemon.said().contains("was read again"));
    daemon.wait_for("it is ready", || daemon.get("/readyz").0 == 200);
    let (code, said) = daemon.stop();
    assert_eq!(code, 0, "{said}");
    let told = fs::read_to_string(&told).unwrap();
    assert_eq!(told.lines().count(), 1, "{told}");
    let message: serde_json::Value = serde_json::from_str(told.trim()).unwrap();
    assert_eq!((&message["event"], &message["state"]), (&"objective".into(), &"bad".into()), "{message}");
    assert!(message["text"].as_str().unwrap().contains("are allowed"), "{message}");
}

#[test]
fn a_run_that_was_killed_is_told_and_shown() {
    let world = World::with_repository();
    let told = world.path().join("told");
    let rest = format!(
        "{CHANGES}\nhooks = {{ before = \"kill -9 $PPID\" }}\n[notify.ops]\ncommand = \"cat >> {}\"",
        told.display()
    );
    let daemon = start(&world, &job(&world, "app", &rest));
    daemon.wait_for("somebody is told", || {
        fs::read_to_string(&told).is_ok_and(|told| told.contains("was killed by signal 9"))
    });
    daemon.wait_for("it is shown", || daemon.get("/").1.contains("run app was killed by signal 9 at "));
    let message: serde_json::Value = serde_json::from_str(&fs::read_to_string(&told).unwrap()).unwrap();
    assert_eq!((&message["event"], &message["job"]), (&"failure".into(), &"app".into()), "{message}");
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn a_new_token_takes_the_place_of_the_old_one_when_the_configuration_is_read_again() {
    let world = World::with_repository();
    fs::write(world.path().join("token"), "old").unwrap();
    let daemon = start(&world, &job(&world, "app", ""));
    let with = |token: &str| daemon.get_with("/metrics", &format!("Authorization: Bearer {token}")).0;
    assert_eq!((with("old"), with("new")), (200, 401));
    fs::write(world.path().join("token"), "new").unwrap();
    daemon.signal("HUP");
    daemon.wait_for("it is read again", || daemon.said().contains("was read again"));
    assert_eq!((with("old"), with("new")), (401, 200));
    fs::write(world.path().join("token"), "").unwrap();
    daemon.signal("HUP");
    daemon.wait_for("it is refused", || daemon.said().contains("the daemon's token is empty"));
    assert_eq!((with("old"), with("new")), (401, 200));
}

#[test]
fn a_second_daemon_in_the_same_place_says_that_there_is_one() {
    let world = World::with_repository();
    let daemon = start(&world, &job(&world, "app", ""));
    let text = fs::read_to_string(world.path().join("backup.toml")).unwrap();
    fs::write(world.path().join("backup.toml"), text.replace("127.0.0.1:0", &daemon.address.to_string())).unwrap();
    let ran = world.run(["-c", "backup.toml", "daemon"]).ends_with(1);
    assert!(
        ran.err.contains(&format!("listening on {}", daemon.address)) && ran.err.contains("another daemon?"),
        "{}",
        ran.err
    );
}

#[test]
#[ignore = "needs promtool"]
fn prometheus_takes_the_figures() {
    let world = World::with_repository();
    world.create(["--job", "app"]);
    let rest = "schedule = \"0 2 * * *\"\nobjectives = { rpo = \"26h\", rto = \"2h\" }";
    let daemon = start(&world, &job(&world, "app", rest));
    let figures = world.path().join("figures");
    fs::write(&figures, daemon.get("/metrics").1).unwrap();
    // It reads standard input alone.
    let script = format!("exec \"$BACKUP_TEST_PROMTOOL\" check metrics < '{}'", figures.display());
    assert!(std::env::var_os("BACKUP_TEST_PROMTOOL").is_some(), "BACKUP_TEST_PROMTOOL names no program");
    let output = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}
