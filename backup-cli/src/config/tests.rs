//! A museum of configurations, right ones and wrong ones. Each wrong one names its line, its key, and the nearest right
//! thing.

use std::path::Path;

use super::museum::WRONG;
use super::*;

fn read(text: &str) -> Result<Config, Wrong> {
    let variables = |name: &str| match name {
        "BUCKET" => Some("acme".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    Config::read(Path::new("backup.toml"), text, &variables)
}

#[track_caller]
fn right(text: &str) -> Config {
    read(text).unwrap_or_else(|wrong| panic!("{:#?}", wrong.faults))
}

/// The example of the manual and of the README.
pub(super) const WHOLE: &str = include_str!("../../../examples/backup.toml");

const START: &str = "[repositories.local]\nurl = \"/mnt/repo\"\n[repositories.offsite]\nurl = \"s3://bucket/x\"\n";

#[test]
fn the_example_says_what_it_is_meant_to_say() {
    let config = right(WHOLE);
    assert_eq!(config.time_zone.iana_name(), Some("Europe/Paris"));
    let names = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let jobs: Vec<_> = config.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names(jobs), names(vec!["app-db", "events", "uploads", "secrets", "logs", "code"]));
    assert!(config.jobs.iter().all(|job| job.repositories == ["local", "offsite"]));
    let uploads = &config.jobs[2];
    assert_eq!(uploads.objectives.rpo, Some(length::parse("7h").unwrap()));
    assert_eq!(uploads.objectives.rto, Some(length::parse("2h").unwrap()), "what a job does not say, the defaults do");
    assert_eq!(uploads.home.site.as_deref(), Some("paris"));
    assert!(matches!(&uploads.source, Source::Files { selection, .. } if selection.exclude == ["*.tmp"]));
    let offsite = config.repository("offsite").unwrap();
    assert_eq!(
        offsite.stands.site.as_deref(),
        Some("eu-west-1"),
        "where production stands says nothing of a repository"
    );
    assert!(offsite.passphrase.is_some() && offsite.credentials.is_some());
    assert!(offsite.place.to_string().contains("storage_class=GLACIER_IR"));
    assert!(matches!(config.jobs[3].starts, Starts::OnChange { schedule: None, .. }));
    let drill = config.jobs[0].drill.as_ref().unwrap();
    assert_eq!(drill.schedule.as_ref().map(|schedule| schedule.text()), Some("0 5 * * *"));
    assert_eq!(drill.checks.len(), 1);
    assert_eq!(
        uploads.drill.as_ref().and_then(|drill| drill.schedule.as_ref()).map(|one| one.text()),
        Some("0 5 * * 0")
    );
}

#[test]
fn the_readme_shows_the_whole_example() {
    let readme = include_str!("../../../README.md");
    assert!(
        readme.contains(&format!("```toml\n{WHOLE}```\n")),
        "README.md shows another file than examples/backup.toml"
    );
}

#[test]
fn a_job_takes_back_the_drills_and_the_trigger_of_the_defaults() {
    let config = right(
        "[repositories.here]\nurl = \"/x\"\n[defaults]\ntrigger = \"on-change\"\nsettle = \"1min\"\n\
         drill = { schedule = \"0 5 * * 0\", limit = \"2h\" }\n[jobs.a]\nsource = \"/a\"\n[jobs.b]\nsource = \"/b\"\n\
         trigger = \"schedule\"\nschedule = \"by hand\"\ndrill = { schedule = \"never\" }\n",
    );
    let drills = config.jobs.iter().map(|job| job.drill.as_ref().is_some_and(|drill| drill.schedule.is_some()));
    assert_eq!(drills.collect::<Vec<_>>(), [true, false]);
    assert!(config.jobs[1].drill.as_ref().is_some_and(|drill| drill.limit.is_some()));
    assert!(matches!(config.jobs[0].starts, Starts::OnChange { .. }));
    assert!(matches!(config.jobs[1].starts, Starts::ByHand));
}

#[test]
fn the_smallest_configuration_has_one_repository_and_one_job() {
    let config = right("[repositories.here]\nurl = \"/mnt/repo\"\n[jobs.home]\nsource = \"/home\"\n");
    assert_eq!(config.jobs[0].repositories, ["here"]);
    assert!(matches!(config.jobs[0].starts, Starts::ByHand));
    assert!(config.jobs[0].retention.is_empty(), "without rules everything stays");
    assert_eq!(config.daemon.listen.to_string(), "127.0.0.1:9797");
}

#[test]
fn what_a_job_says_comes_before_the_defaults_key_by_key() {
    let text = format!(
        "{START}[defaults]\nrepositories = [\"local\", \"offsite\"]\nobjectives = {{ rpo = \"26h\", rto = \"2h\" }}\n\
         retention = {{ local = {{ last = 1 }}, offsite = {{ last = 2 }} }}\nschedule = \"0 1 * * *\"\n\
         [jobs.a]\nsource = \"/a\"\nobjectives = {{ rpo = \"1h\" }}\nretention = {{ offsite = {{ within = \"90d\" }} }}\n\
         [jobs.b]\nsource = \"/b\"\nrepositories = [\"local\"]\nschedule = \"by hand\"\n"
    );
    let config = right(&text);
    let [a, b] = config.jobs.as_slice() else { panic!() };
    let hours = |hours| Some(jiff::SignedDuration::from_hours(hours));
    assert_eq!((a.objectives.rpo, a.objectives.rto), (hours(1), hours(2)));
    assert_eq!(a.retention["local"].last, Some(backup_core::retention::Count::AtMost(1)));
    assert_eq!((a.retention["offsite"].last, a.retention["offsite"].within.is_some()), (None, true));
    assert!(a.starts.schedule().is_some() && b.starts.schedule().is_none());
    assert_eq!(
        b.retention.keys().collect::<Vec<_>>(),
        ["local"],
        "rules of a repository that it does not go to are not its"
    );
}

#[test]
fn the_options_of_mongodb_have_keys() {
    let source =
        "{ url = \"mongodb://h/d\", collection = [\"a\"], exclude_collection = [\"b\"], snapshot_read = false }";
    let config = right(&format!("[repositories.a]\nurl = \"/x\"\n[jobs.a]\nsource = {source}\n"));
    let Source::Database { dump, .. } = &config.jobs[0].source else { panic!() };
    assert_eq!((&*dump.mongodb.collection, &*dump.mongodb.exclude_collection), (&["a".into()][..], &["b".into()][..]));
    assert!(dump.mongodb.no_snapshot_read);
}

#[test]
fn what_nobody_can_measure_is_declared_with_a_date() {
    let config = right(
        "[checklist]\npassphrase_copy = { place = \"the safe in Oslo\", on = \"2026-05-02\" }\n\
         rehearsed = { by = \"Ada\", on = \"2026-06-01\" }\n",
    );
    let declared = |what: &Option<(String, jiff::Timestamp)>| what.as_ref().map(|(who, on)| format!("{who} {on}"));
    assert_eq!(declared(&config.checklist.passphrase_copy).as_deref(), Some("the safe in Oslo 2026-05-02T00:00:00Z"));
    assert_eq!(declared(&config.checklist.rehearsed).as_deref(), Some("Ada 2026-06-01T00:00:00Z"));
}

#[test]
fn variables_are_put_in_and_not_kept() {
    let text = "[repositories.a]\nurl = \"s3://${BUCKET}/x\"\n[jobs.a]\nsource = { command = \"echo $${HOME}\" }\n";
    let config = right(text);
    assert_eq!(config.repositories[0].place.to_string(), "s3://acme/x");
    assert!(matches!(&config.jobs[0].source, Source::Command { command, .. } if command == "echo ${HOME}"));
    assert!(config.kept.contains("s3://${BUCKET}/x") && !config.kept.contains("acme"));
}

#[test]
fn what_is_kept_holds_no_secret_and_no_comment_and_reads_as_before() {
    let text = format!(
        "# password = \"hunter2\"\n{START}password = \"hunter2\"\naccess_key_id = \"hunter2\"\nsecret_access_key = {{ file = \"/k\" }}\n\
         [jobs.db]\nrepositories = [\"local\"]\nsource = \"postgres://me:hunter2@db/app?password=hunter2\"\n\
         [jobs.db2]\nrepositories = [\"local\"]\nsource = {{ url = \"postgres://me@db/app\", password = 'hunter2' }}\n\
         [notify.ops]\nwebhook = {{ url = \"https://hooks/hunter2\", authorization = \"hunter2\" }}\n\
         [daemon]\ntoken = \"hunter2\"\n"
    );
    let config = right(&text);
    assert!(!config.kept.contains("hunter2"), "{}", config.kept);
    assert!(config.kept.contains("postgres://me@db/app") && config.kept.contains("/k"), "{}", config.kept);
    assert!(!format!("{config:?}").contains("hunter2"));
    let again = read(&config.kept).unwrap();
    assert_eq!(again.kept, config.kept);
}

#[test]
fn every_wrong_file_names_its_line_its_key_and_what_would_be_right() {
    for (text, line, key, part) in WRONG {
        let wrong = read(text).err().unwrap_or_else(|| panic!("taken as right:\n{text}"));
        let fault = wrong.faults.iter().find(|fault| fault.line == *line && fault.key == *key);
        let fault = fault.unwrap_or_else(|| panic!("{text}\nline {line}, {key}: {:#?}", wrong.faults));
        let said = format!("{} {}", fault.what, fault.hint.as_deref().unwrap_or_default());
        assert!(said.contains(part), "{text}\n{said}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once_and_once() {
    let text = "[repositories.r]\nurl = \"/x\"\n[defaults]\nobjectives = { rpo = \"x\" }\n[jobs.a]\nsource = \"/a\"\nfoo = 1\n[jobs.b]\nsource = \"b\"\n";
    let wrong = read(text).unwrap_err();
    let keys: Vec<_> = wrong.faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["defaults.objectives.rpo", "jobs.a.foo", "jobs.b.source"]);
    let failure = Failure::from(wrong);
    assert!(failure.what.starts_with("backup.toml:4: defaults.objectives.rpo: "), "{}", failure.what);
    assert!(failure.what.ends_with("(and 2 more: `config check` lists all)"), "{}", failure.what);
}

#[test]
fn no_fault_repeats_a_secret() {
    for text in [
        "[repositories.a]\nurl = \"s3://id:hunter2@b/x\"\n",
        "[repositories.a]\nurl = \"/x\"\n[jobs.a]\nsource = \"postgres://me:hunter2@h:port/db\"\n",
        "[repositories.a]\nurl = \"/x\"\npassword = [\"hunter2\"]\n",
    ] {
        let wrong = read(text).unwrap_err();
        assert!(!format!("{wrong:?}").contains("hunter2"), "{wrong:?}");
    }
}
