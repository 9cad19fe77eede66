//! `drill = { schedule, checks, sandbox }`: how the restores of a job are tried.

use backup_core::schedule::Schedule;
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
    /// Which snapshot.
    pub(crate) snapshot: Picked,
    /// From which repository; the job's first when not given.
    pub(crate) repository: Option<String>,
    /// How long it may take; as long as it does when not given.
    pub(crate) limit: Option<SignedDuration>,
    /// What is asked of what was restored.
    pub(crate) checks: Vec<DrillCheck>,
    /// Where it is restored to.
    pub(crate) sandbox: SandboxPlace,
}

/// Which snapshot a drill restores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Picked {
    /// The newest.
    #[default]
    Latest,
    /// Any.
    Random,
    /// The oldest.
    Oldest,
}

/// A question to what was restored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DrillCheck {
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
    let schedule = section.parsed("schedule", |text| Schedule::parse(text, zone.clone()));
    let picks = [("latest", Picked::Latest), ("random", Picked::Random), ("oldest", Picked::Oldest)];
    let sandbox = section.section("sandbox").as_ref().map(sandbox).unwrap_or_default();
    let checks = section.list("checks").unwrap_or_default().iter().filter_map(check).collect();
    let drill = Drill {
        schedule,
        snapshot: section.word("snapshot", &picks).unwrap_or_default(),
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
    section.finish();
    drill
}

/// Says what of a drill cannot work for this source, before it is tried at night.
pub(super) fn fits(drill: &Drill, source: &Source, section: &Section<'_>) {
    if matches!(source, Source::Command { .. }) && drill.schedule.is_some() && drill.checks.is_empty() {
        let hint = "ask something of it: checks = [{ command = \"grep -q complete command/NAME\" }]";
        section
            .fault("nobody knows what a command's output has to be: its drill proves nothing", Some(hint.to_owned()));
    }
}

fn sandbox(section: &Section<'_>) -> SandboxPlace {
    let place = SandboxPlace {
        server: section.secret("server"),
        bin: section.text("bin"),
        user: section.text("user"),
        folder: section.text("folder"),
        container: section.value("container").and_then(|value| container(&value)),
    };
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
    if probes.len() != 1 {
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
    Some(DrillCheck { probe: probes.pop()?, expected: expected.pop().unwrap_or(Expected::Truth) })
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
