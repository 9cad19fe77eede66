//! Units of other schedulers, judged by these.

use std::fs;

use crate::driver::{PASSPHRASE, Ran, World};
use crate::judge::agrees;

/// A configuration in which each kind of schedule is there.
fn world() -> World {
    let world = World::new();
    let source = world.source().display().to_string();
    let text = format!(
        "timezone = \"Europe/Paris\"\n[repositories.local]\nurl = \"{}\"\nread_back = \"0 6 1 * *\"\n",
        world.repository().display()
    );
    let job =
        |name: &str, rest: &str| format!("[jobs.{name}]\nsource = \"{source}\"\noffsite = \"none: a test\"\n{rest}\n");
    let jobs = [
        job("nightly", "schedule = \"0 2 * * *\"\njitter = \"20min\""),
        job("office", "schedule = \"*/15 8-18/5 * * mon-fri\""),
        job("either", "schedule = \"0 3 13 * FRI\""),
        job("hourly", "schedule = \"@hourly\"\ndrill = { schedule = \"0 5 * * 0\" }"),
        job("changes", "trigger = \"on-change\""),
    ];
    fs::write(world.path().join("backup.toml"), text + &jobs.concat()).unwrap();
    world
}

fn schedule(world: &World, arguments: &[&str]) -> Ran {
    world.run(["-c", "backup.toml", "schedule"].iter().chain(arguments))
}

#[test]
fn cron_gets_a_line_for_each_schedule_and_a_word_for_what_it_cannot_say() {
    let ran = schedule(&world(), &["cron", "--program", "/usr/bin/backup"]).succeeds();
    let lines: Vec<_> = ran.out.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines.len(), 6, "{}", ran.out);
    // Who shares a repository runs a slot once.
    assert!(
        lines[0].starts_with("0 2 * * * sleep ") && lines[0].ends_with(" run nightly --slot --quiet"),
        "{}",
        lines[0]
    );
    assert!(
        lines[5].starts_with("0 6 1 * * ") && lines[5].contains(" -r local check --read-data --slot "),
        "{}",
        lines[5]
    );
    assert!(lines[4].starts_with("0 5 * * 0 ") && lines[4].contains(" drill hourly "), "{}", lines[4]);
    assert!(ran.out.contains("# changes runs on change: only `backup daemon` watches files."), "{}", ran.out);
}

#[test]
fn only_the_jobs_that_are_named_are_printed_and_one_that_is_not_there_is_an_error() {
    let world = world();
    let ran = schedule(&world, &["cron", "office"]).succeeds();
    assert!(ran.out.contains(" run office ") && !ran.out.contains("nightly"), "{}", ran.out);
    assert!(!ran.out.contains("--read-data"), "{}", ran.out);
    let ran = schedule(&world, &["cron", "offise"]).ends_with(2);
    assert!(ran.err.contains("office"), "{}", ran.err);
}

#[test]
fn a_service_of_systemd_remembers_what_it_has_told() {
    let world = World::with_repository();
    let (folder, told) = (world.path(), world.path().join("told"));
    let text = format!(
        "[repositories.local]\nurl = \"{0}/repository\"\npassword = \"{PASSPHRASE}\"\n[jobs.app]\n\
        source = {{ command = \"test -e {0}/good && echo x\" }}\noffsite = \"none: a test\"\nschedule = \"0 2 * * *\"\n\
        retries = {{ attempts = 1 }}\n[notify.ops]\ncommand = \"echo $BACKUP_STATE >> {0}/told\"\n",
        folder.display()
    );
    fs::write(folder.join("backup.toml"), text).unwrap();
    let unit = schedule(&world, &["systemd", "app"]).succeeds().out;
    let values = |key: &str| unit.lines().filter_map(|line| line.strip_prefix(key)).collect::<Vec<_>>();
    let (state, cache) = (folder.join("state"), folder.join("cache"));
    for (key, below) in [("StateDirectory=", &state), ("CacheDirectory=", &cache)] {
        assert_eq!(values(key), ["backup"]);
        fs::create_dir_all(below.join("backup")).unwrap();
    }
    let environment = values("Environment=").join(" ");
    let environment = environment.replace("%S", state.to_str().unwrap()).replace("%C", cache.to_str().unwrap());
    let environment = environment.split(' ').map(|pair| pair.split_once('=').unwrap());
    // A slot is run once, and this is about what follows from several runs.
    let command = values("ExecStart=").concat();
    let words: Vec<_> = command.split(' ').filter(|word| *word != "--slot").collect();
    let run = || {
        let mut command = std::process::Command::new(words[0]);
        command.args(&words[1..]).env_clear().envs(environment.clone()).current_dir("/");
        Ran::of(&command.output().unwrap())
    };
    for _ in 0..2 {
        run().ends_with(1);
    }
    fs::write(folder.join("good"), "").unwrap();
    run().succeeds();
    assert_eq!(fs::read_to_string(told).unwrap(), "bad\nrecovered\n");
    assert!(state.join("backup/told.json").exists());
    // Without any folder to remember it in, that is said.
    fs::remove_file(folder.join("good")).unwrap();
    let mut command = std::process::Command::new(words[0]);
    let ran = Ran::of(&command.args(&words[1..]).env_clear().output().unwrap()).ends_with(1);
    assert!(ran.err.contains("set HOME or XDG_STATE_HOME"), "{}", ran.err);
}

#[test]
#[ignore = "needs systemd-analyze"]
fn systemd_takes_the_units() {
    let world = world();
    let folder = world.path().join("units");
    fs::create_dir(&folder).unwrap();
    schedule(&world, &["systemd", "--output", folder.to_str().unwrap()]).succeeds();
    let mut units: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path().display().to_string()).collect();
    units.sort();
    assert_eq!(units.len(), 12, "{units:?}");
    let arguments: Vec<_> = ["verify", "--man=no"].into_iter().chain(units.iter().map(String::as_str)).collect();
    let said = agrees("BACKUP_TEST_SYSTEMD_ANALYZE", &arguments);
    assert!(!said.contains("backup-"), "{said}");
    for timer in units.iter().filter(|unit| unit.ends_with(".timer")) {
        let text = fs::read_to_string(timer).unwrap();
        let calendars: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("OnCalendar=")).collect();
        assert!(!calendars.is_empty(), "{text}");
        for calendar in calendars {
            let said = agrees("BACKUP_TEST_SYSTEMD_ANALYZE", &["calendar", calendar]);
            assert!(said.contains("Next elapse") && said.contains("Europe/Paris"), "{said}");
        }
    }
}

#[test]
#[ignore = "needs kubernetes-validate"]
fn kubernetes_takes_the_cron_jobs() {
    let world = world();
    let ran = schedule(&world, &["kubernetes", "--image", "backup:1"]).succeeds();
    assert_eq!(ran.out.matches("kind: CronJob").count(), 6, "{}", ran.out);
    let path = world.path().join("jobs.yaml");
    fs::write(&path, &ran.out).unwrap();
    let said = agrees("BACKUP_TEST_KUBERNETES_VALIDATE", &["--strict", path.to_str().unwrap()]);
    assert_eq!(said.matches("passed").count(), 6, "{said}");
}
