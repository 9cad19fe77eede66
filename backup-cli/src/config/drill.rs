//! `drill = { schedule, checks, sandbox }`: how the restores of a job are tried.

use backup_core::schedule::Schedule;
use backup_sources::databases::url::Engine;
use jiff::SignedDuration;
use jiff::tz::TimeZone;

use super::section::{Section, Value};
use super::source::Source;
use crate::console::amounts;
use crate::secrets::origin::Origin;

/// How restores of a job are tried.
#[derive(Clone, Debug)]
pub(crate) struct Drill {
    /// When; by hand where none is given.
    pub(crate) schedule: Option<Schedule>,
    /// Which snapshot. When nobody says, the newest by hand, and each kind in turn by a schedule.
    pub(crate) snapshot: Option<Picked>,
    /// From which repository; the job's first when not given.
    pub(crate) repository: Option<String>,
    /// By the runbook's own command.
    pub(crate) runbook: bool,
    /// As on a machine that knows nothing.
    pub(crate) cold: bool,
    /// What lies in an archive is asked for, and waited for.
    pub(crate) thaw: bool,
    /// How long it may take; as long as it does when not given.
    pub(crate) limit: Option<SignedDuration>,
    /// What is asked of what was restored.
    pub(crate) checks: Vec<DrillCheck>,
    /// Where it is restored to.
    pub(crate) sandbox: SandboxPlace,
}

/// Which snapshot a drill restores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Picked {
    /// The newest.
    Latest,
    /// Any.
    Random,
    /// The oldest.
    Oldest,
    /// The one of these that comes after the last drill's.
    Rotate,
}

impl Picked {
    /// What a drill picks after one that chose `last`, an [evidence](backup_core::evidence) record's word: over time the
    /// end that one would want back, anything between, and the other end of what is kept.
    pub(crate) fn after(last: Option<&str>) -> Self {
        match last {
            Some("latest") => Self::Random,
            Some("random") => Self::Oldest,
            _ => Self::Latest,
        }
    }
}

/// A question to what was restored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DrillCheck {
    /// What it is called where it is told how it went; its digest tells it else.
    pub(crate) name: Option<String>,
    /// What is asked.
    pub(crate) probe: Probe,
    /// What the answer has to be.
    pub(crate) expected: Expected,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// A query that gives one value.
    Sql(String),
    /// A pipeline of MongoDB, as JSON.
    Aggregate(String),
    /// A command for `/bin/sh`; without an expectation, that it ends with 0.
    Command(String),
}

/// What an answer has to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expected {
    /// True, or an end with 0.
    Truth,
    /// This text.
    Equals(String),
    /// A number of at least this.
    Minimum(f64),
    /// A time that is no further back from the recovery point than this.
    NotOlderThan(SignedDuration),
    /// The same; and that time is the recovery point.
    Heartbeat(SignedDuration),
}

/// Where a drill restores to.
#[derive(Clone, Debug, Default)]
pub(crate) struct SandboxPlace {
    /// A server that is there for drills alone; a throw-away one is started when it is not given.
    pub(crate) server: Option<Origin>,
    /// The folder of the engine's programs.
    pub(crate) bin: Option<String>,
    /// The user that a server is started as.
    pub(crate) user: Option<String>,
    /// The folder that sandboxes are made in.
    pub(crate) folder: Option<String>,
    /// Paths that commands and client programs see besides the system's, to read.
    pub(crate) shown: Vec<String>,
    /// A container whose programs are used, in place of those of this machine.
    pub(crate) container: Option<Container>,
}

/// The container that a server is started in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    /// By tag or digest.
    pub(crate) image: String,
    /// The program for containers; podman or docker, whichever is found first, when not given.
    pub(crate) program: Option<String>,
    /// The memory that it may take, in bytes.
    pub(crate) memory: Option<u64>,
    /// The processes that it may have at once.
    pub(crate) processes: Option<u64>,
}

impl Container {
    /// Of an image, with nothing else said.
    pub(crate) fn of(image: String) -> Self {
        Self { image, program: None, memory: None, processes: None }
    }
}

/// Reads one.
pub(super) fn read(section: &Section<'_>, zone: &TimeZone) -> Drill {
    // A job can take back what the defaults say.
    let schedule = super::job::schedule(section, "schedule", "never", zone);
    let picks = [
        ("latest", Picked::Latest),
        ("random", Picked::Random),
        ("oldest", Picked::Oldest),
        ("rotate", Picked::Rotate),
    ];
    let sandbox = section.section("sandbox").as_ref().map(sandbox).unwrap_or_default();
    let checks: Vec<_> = section.list("checks").unwrap_or_default().iter().filter_map(check).collect();
    let mut names: Vec<_> = checks.iter().filter_map(|check| check.name.as_deref()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let hint = "records tell checks apart by their names";
        section.fault(format!("two checks are called {:?}", twice[0]), Some(String::from(hint)));
    }
    let drill = Drill {
        schedule,
        snapshot: section.word("snapshot", &picks),
        runbook: section.flag("runbook") == Some(true),
        cold: section.flag("cold") == Some(true),
        thaw: section.flag("thaw") == Some(true),
        repository: section.text("repository"),
        limit: section.duration("limit").filter(|limit| {
            if limit.is_zero() {
                section.fault("limit is nothing", Some(String::from("write \"2h\", or leave it away")));
            }
            limit.is_positive()
        }),
        checks,
        sandbox,
    };
    if drill.runbook && drill.snapshot.is_some_and(|snapshot| snapshot != Picked::Latest) {
        let hint = "leave snapshot away, or runbook";
        section.fault("the runbook's command restores the latest snapshot", Some(String::from(hint)));
    }
    section.finish();
    drill
}

/// Says what of a drill cannot work for this source, before it is tried at night, and leaves out what the defaults say of
/// servers where there is none. `job` is the table that has the drill.
pub(super) fn fits(drill: &mut Drill, source: &Source, section: &Section<'_>, job: &Section<'_>) {
    let engine = match source {
        Source::Database { url, .. } => Some(url.engine()),
        Source::Files { .. } | Source::Command { .. } => None,
    };
    checks_fit(engine, section);
    let own = if job.has("drill") && section.has("sandbox") { section.section("sandbox") } else { None };
    let own = |key: &'static str| own.as_ref().filter(|own| own.has(key)).and_then(|own| own.value(key));
    let hint = || Some(String::from("leave it away for this job"));
    if drill.sandbox.container.is_some() && matches!(engine, None | Some(Engine::Sqlite)) {
        match own("container") {
            Some(value) => value.fault("a container is for servers, and this job has none", hint()),
            None => drill.sandbox.container = None,
        }
    }
    if drill.sandbox.server.is_some() && !matches!(engine, Some(Engine::Postgres | Engine::Mongodb)) {
        match own("server") {
            Some(value) => value.fault("a server for drills is for PostgreSQL and MongoDB", hint()),
            None => drill.sandbox.server = None,
        }
    }
    if matches!(source, Source::Command { .. }) && drill.schedule.is_some() && drill.checks.is_empty() {
        let hint = "ask something of it: checks = [{ command = \"grep -q complete command/NAME\" }]";
        section
            .fault("nobody knows what a command's output has to be: its drill proves nothing", Some(hint.to_owned()));
    }
}

/// Says which checks ask what the source has not got.
fn checks_fit(engine: Option<Engine>, section: &Section<'_>) {
    for value in section.list("checks").unwrap_or_default() {
        let Some(check) = value.section() else { continue };
        let fits_sql = matches!(engine, Some(Engine::Postgres | Engine::Mysql | Engine::Sqlite));
        let unfit = [
            ("sql", fits_sql, "for PostgreSQL, MySQL, MariaDB and SQLite"),
            ("aggregate", engine == Some(Engine::Mongodb), "for MongoDB"),
        ];
        if let Some((probe, _, engines)) = unfit.into_iter().find(|(probe, fits, _)| check.has(probe) && !fits) {
            let hint = "`command` runs a program of yours beside the restored data (for Redis, a command of Redis)";
            value.fault(format!("{probe} is {engines}, and this job backs up something else"), Some(hint.to_owned()));
        }
    }
}

fn sandbox(section: &Section<'_>) -> SandboxPlace {
    let place = SandboxPlace {
        server: section.secret("server"),
        bin: section.text("bin"),
        user: section.text("user"),
        folder: section.text("folder"),
        shown: section.texts("shown"),
        container: section.value("container").and_then(|value| container(&value)),
    };
    if let Some(relative) = place.shown.iter().find(|path| !path.starts_with('/')) {
        section
            .fault(format!("shown has {relative:?}"), Some(String::from("write it from the root, as \"/opt/checks\"")));
    }
    if place.server.is_some() && place.container.is_some() {
        section.fault(
            "server and container exclude each other",
            Some(String::from("name a server that runs already, or an image to run one from")),
        );
    }
    section.finish();
    place
}

/// An image alone, or a table with more.
fn container(value: &Value<'_>) -> Option<Container> {
    if value.is_text() {
        return value.text().filter(|image| is_image(image, value)).map(Container::of);
    }
    let section = value.section()?;
    let image = section.required("image", "docker.io/library/postgres:16");
    let container = Container {
        image: image.filter(|image| is_image(image, value)).unwrap_or_default(),
        program: section.text("program"),
        memory: section.parsed("memory", amounts::parse_size),
        processes: section.number("processes", 1..=i64::MAX).and_then(|count| u64::try_from(count).ok()),
    };
    section.finish();
    Some(container)
}

/// Whether it can be an image's name and no option of a program.
fn is_image(image: &str, value: &Value<'_>) -> bool {
    let is_one = !image.is_empty() && !image.starts_with('-') && !image.contains(char::is_whitespace);
    if !is_one {
        value.fault(
            format!("{image:?} is no image"),
            Some(String::from("write it by tag or digest, as docker.io/library/postgres:16")),
        );
    }
    is_one
}

fn check(value: &Value<'_>) -> Option<DrillCheck> {
    let section = value.section()?;
    let name = section.text("name");
    let probes = [
        section.text("sql").map(Probe::Sql),
        section.text("aggregate").map(Probe::Aggregate),
        section.text("command").map(Probe::Command),
    ];
    let equals = section.value("equals").and_then(|value| plain(&value)).map(Expected::Equals);
    let minimum = section.value("minimum").and_then(|value| match value.decimal() {
        Some(number) => Some(Expected::Minimum(number)),
        None => value.wrong("a number"),
    });
    let not_older = section.duration("not_older_than").map(Expected::NotOlderThan);
    let heartbeat = section.duration("heartbeat").map(Expected::Heartbeat);
    let mut probes: Vec<_> = probes.into_iter().flatten().collect();
    let mut expected: Vec<_> = [equals, minimum, not_older, heartbeat].into_iter().flatten().collect();
    if ["sql", "aggregate", "command"].iter().filter(|key| section.has(key)).count() != 1 {
        section.fault(
            "a check asks one thing",
            Some(String::from("write { sql = \"…\" }, { aggregate = \"…\" } or { command = \"…\" }")),
        );
    }
    if expected.len() > 1 {
        let hint = "keep one of equals, minimum, not_older_than and heartbeat";
        section.fault("a check expects one thing", Some(String::from(hint)));
    }
    section.finish();
    Some(DrillCheck { name, probe: probes.pop()?, expected: expected.pop().unwrap_or(Expected::Truth) })
}

/// A text, a number or a truth, as a text.
fn plain(value: &Value<'_>) -> Option<String> {
    if value.is_text() {
        return value.text();
    }
    let number = value.integer().map(|number| number.to_string());
    let plain = number.or_else(|| value.flag().map(|flag| flag.to_string()));
    plain.or_else(|| value.decimal().map(|number| number.to_string())).or_else(|| value.wrong("a text or a number"))
}
