//! A museum of configurations, right ones and wrong ones. Each wrong one names its line, its key, and the nearest right
//! thing.

use std::path::Path;

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

/// The example of the manual, which is also that of the README.
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

/// A wrong file, the line of its fault, its key, and a part of what is said.
pub(super) const WRONG: &[(&str, usize, &str, &str)] = &[
    ("a = ", 1, "", "not TOML"),
    ("[jobs.x\n", 1, "", "not TOML"),
    ("[repository.a]\nurl = \"/x\"\n", 1, "repository", "repositories is the nearest"),
    ("timezone = \"Mars/Olympus\"\n", 1, "timezone", "no time zone"),
    ("[repositories.a]\nmedia = \"disk\"\n", 1, "repositories.a", "url is missing"),
    ("[repositories.a]\nurl = 5\n", 2, "repositories.a.url", "a number, and a text in quotes is needed"),
    ("[repositories.a]\nurl = \"b2:x/y\"\n", 2, "repositories.a.url", "not supported"),
    ("[repositories.a]\nurl = \"/x\"\nregion = \"eu\"\n", 3, "repositories.a.region", "for buckets"),
    ("[repositories.a]\nurl = \"/x\"\nmedium = \"disk\"\n", 3, "repositories.a.medium", "media is the nearest"),
    ("[repositories.a]\nurl = \"${NOBODY}/x\"\n", 2, "repositories.a.url", "NOBODY is not set"),
    ("[repositories.\"a b\"]\nurl = \"/x\"\n", 1, "repositories.a b", "no name"),
    ("[repositories.a]\nurl = \"/x\"\nprune = \"5m\"\n", 3, "repositories.a.prune", "minutes are written min"),
    ("[repositories.a]\nurl = \"/x\"\nlock_free = true\nprune = \"7d\"\n", 1, "repositories.a", "exclude each other"),
    ("[repositories.a]\nurl = \"/x\"\nlimit_upload = \"fast\"\n", 3, "repositories.a.limit_upload", "number of bytes"),
    ("[repositories.a]\nurl = \"s3://b/x\"\naccess_key_id = \"x\"\n", 1, "repositories.a", "belong together"),
    (
        "[repositories.a]\nurl = \"gs://b/x\"\naccess_key_id = \"x\"\nsecret_access_key = \"y\"\n",
        1,
        "repositories.a",
        "places of the kind s3:",
    ),
    (
        "[repositories.a]\nurl = \"/x\"\npassword = { flie = \"/k\" }\n",
        3,
        "repositories.a.password",
        "read from one place",
    ),
    (
        "[repositories.a]\nurl = \"/x\"\npassword = { file = \"/k\", env = \"K\" }\n",
        3,
        "repositories.a.password",
        "read from one place",
    ),
    ("[repositories.a]\nurl = \"/x\"\npassword = \"${EMPTY}\"\n", 3, "repositories.a.password", "it is empty"),
    (
        "[repositories.a]\nurl = \"/x\"\npassword = \"x\"\npassword_file = \"/k\"\n",
        1,
        "repositories.a",
        "more than once",
    ),
    ("[jobs.a]\nsource = \"/a\"\n", 1, "jobs.a", "repositories is missing"),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = { url = \"mysql://h/d\", collection = [\"c\"] }\n",
        4,
        "jobs.a.source.url",
        "an option for MongoDB",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = { url = \"mongodb://h/d\", exclude_colection = [\"c\"] }\n",
        4,
        "jobs.a.source.exclude_colection",
        "exclude_collection is the nearest",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = { url = \"mongodb://h/d\", snapshot_read = \"no\" }\n",
        4,
        "jobs.a.source.snapshot_read",
        "true or false is needed",
    ),
    ("[checklist]\npassphrase_copy = \"safe\"\n", 2, "checklist.passphrase_copy", "a table"),
    ("[checklist]\npassphrase_copy = { place = \"safe\" }\n", 2, "checklist.passphrase_copy", "on is missing"),
    ("[checklist]\nrehearsed = { by = \"Ada\", on = \"2.5.2026\" }\n", 2, "checklist.rehearsed.on", "no date"),
    (
        "[checklist]\nrehersed = { by = \"Ada\", on = \"2026-05-02\" }\n",
        2,
        "checklist.rehersed",
        "rehearsed is the nearest",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nshedule = \"0 2 * * *\"\nsource = \"/a\"\n",
        4,
        "jobs.a.shedule",
        "schedule is the nearest",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\nrepositories = [\"t\"]\n",
        5,
        "jobs.a.repositories",
        "no repository is called t",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\nrepositories = [\"r\", \"r\"]\n",
        5,
        "jobs.a.repositories",
        "named twice",
    ),
    ("[repositories.r]\nurl = \"/x\"\n[jobs.a]\nschedule = \"0 2 * * *\"\n", 3, "jobs.a", "source is missing"),
    ("[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"a/b\"\n", 4, "jobs.a.source", "not a path from the root"),
    ("[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = [\"/a\"]\n", 4, "jobs.a.source", "a list, and a URL"),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = { files = [\"/a\"], command = \"x\" }\n",
        4,
        "jobs.a.source",
        "one of files, command and url",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = { files = [\"/a\"], exclud = [\"x\"] }\n",
        4,
        "jobs.a.source.exclud",
        "exclude is the nearest",
    ),
    ("[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"postgres:/h/db\"\n", 4, "jobs.a.source", "slashes"),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\nschedule = \"0 25 * * *\"\n",
        5,
        "jobs.a.schedule",
        "",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\nschedule = \"0 2 30 2 *\"\n",
        5,
        "jobs.a.schedule",
        "",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = { command = \"x\" }\ntrigger = \"on-change\"\n",
        3,
        "jobs.a",
        "watches files",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\ntrigger = \"on-chang\"\n",
        5,
        "jobs.a.trigger",
        "on-change is the nearest",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\nretention = { within = \"30d\" }\n",
        5,
        "jobs.a.retention.within",
        "rules stand below a repository",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\nretention = { r = { dayly = 7 } }\n",
        5,
        "jobs.a.retention.r.dayly",
        "daily is the nearest",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\nretention = { r = { daily = 0 } }\n",
        5,
        "jobs.a.retention.r",
        "no rule keeps anything",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\nretention = { r = { within = \"30x\" } }\n",
        5,
        "jobs.a.retention.r.within",
        "unit",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\nlock_free = true\n[jobs.a]\nsource = \"/a\"\nretention = { r = { last = 5 } }\n",
        4,
        "jobs.a",
        "cannot delete",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\nobjectives = { rpo = \"daily\" }\n",
        5,
        "jobs.a.objectives.rpo",
        "no length of time",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\noffsite = \"none\"\n",
        5,
        "jobs.a.offsite",
        "none: REASON",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\ntags = [\"a,b\"]\n",
        5,
        "jobs.a.tags",
        "cannot be a tag",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\nretries = { attempts = 0 }\n",
        5,
        "jobs.a.retries.attempts",
        "from 1 to 100",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\ndrill = { checks = [ { sql = \"x\", command = \"y\" } ] }\n",
        5,
        "jobs.a.drill.checks[0]",
        "asks one thing",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = { command = \"x\" }\ndrill = { schedule = \"@daily\" }\n",
        5,
        "jobs.a.drill",
        "nobody knows",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\ndrill = { repository = \"q\" }\n",
        5,
        "jobs.a.drill.repository",
        "does not go to q",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\ndrill = { limit = \"0s\" }\n",
        5,
        "jobs.a.drill",
        "limit is nothing",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\ndrill = { sandbox = { container = \"--privileged\" } }\n",
        5,
        "jobs.a.drill.sandbox.container",
        "is no image",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\ndrill.sandbox = { container = { program = \"docker\" } }\n",
        5,
        "jobs.a.drill.sandbox.container",
        "image is missing",
    ),
    (
        "[repositories.r]\nurl = \"/x\"\n[jobs.a]\nsource = \"/a\"\ndrill.sandbox = { server = \"postgres://x/\", container = \"i\" }\n",
        5,
        "jobs.a.drill.sandbox",
        "exclude each other",
    ),
    ("[defaults]\nrepositories = [\"nowhere\"]\n", 2, "defaults.repositories", "no repository is called nowhere"),
    ("[defaults]\nsource = \"/a\"\n", 2, "defaults.source", "no such key"),
    ("[notify.ops]\non = [\"failure\"]\n", 1, "notify.ops", "one of webhook, mail and command"),
    ("[notify.ops]\ncommand = \"x\"\non = [\"failures\"]\n", 3, "notify.ops.on[0]", "failure is the nearest"),
    ("[notify.ops]\nmail = { server = \"h\", from = \"a@b\" }\n", 2, "notify.ops.mail", "to is missing"),
    ("[daemon]\nlisten = \"0.0.0.0:80\"\n", 1, "daemon", "needs a token"),
    ("[daemon]\nlisten = \"localhost\"\n", 2, "daemon.listen", "address and port"),
    ("[metrics]\ntextfile = \"/x/backup.txt\"\n", 2, "metrics.textfile", ".prom"),
];

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
