//! `[jobs.NAME]` and `[defaults]`: what is backed up, when, to where, and what it has to keep to.

use std::collections::BTreeMap;

use backup_core::policy::{Objectives, Offsite, Place, Standards};
use backup_core::retention::Rules;
use backup_core::schedule::{Jitter, Schedule};
use jiff::SignedDuration;
use jiff::tz::TimeZone;

use super::drill::{self, Drill};
use super::retention;
use super::section::{Section, nearest};
use super::source::{self, Source};

/// A job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Its name: the tag `job:NAME` of its snapshots.
    pub(crate) name: String,
    /// What it backs up.
    pub(crate) source: Source,
    /// What makes it run.
    pub(crate) starts: Starts,
    /// At each slot of this, a run reads everything again, whatever the snapshot before says.
    pub(crate) read_again: Option<Schedule>,
    /// How far its runs are spread.
    pub(crate) jitter: Jitter,
    /// The repositories that it goes to, by name; at least one.
    pub(crate) repositories: Vec<String>,
    /// How long its snapshots stay in each; where no rule stands, they stay.
    pub(crate) retention: BTreeMap<String, Rules>,
    /// What it has to keep to.
    pub(crate) objectives: Objectives,
    /// What "lately" means for it.
    pub(crate) standards: Standards,
    /// Where the data itself stands.
    pub(crate) home: Place,
    /// Whether a copy has to stand at another site.
    pub(crate) offsite: Offsite,
    /// Commands around its runs.
    pub(crate) hooks: Hooks,
    /// What happens when a run fails.
    pub(crate) retries: Retries,
    /// How its restores are tried.
    pub(crate) drill: Option<Drill>,
    /// Further tags of its snapshots.
    pub(crate) tags: Vec<String>,
    /// The machine's name in its snapshots, where the machine's own means nothing.
    pub(crate) host: Option<String>,
    /// zstd's level.
    pub(crate) compression: Option<i32>,
}

/// What makes a job run.
#[derive(Clone, Debug)]
pub(crate) enum Starts {
    /// Somebody does, with `backup run`.
    ByHand,
    /// A schedule.
    Schedule(Schedule),
    /// A change of its files, seen by watching, and a schedule that looks for what watching has missed.
    OnChange {
        /// For how long nothing has to change before it runs.
        settle: SignedDuration,
        /// When it runs although nothing was seen.
        schedule: Option<Schedule>,
    },
}

impl Job {
    /// When it has runs of their own that read everything again. Of a database or a command every run does.
    pub(crate) fn read_again_runs(&self) -> Option<&Schedule> {
        self.read_again.as_ref().filter(|_| matches!(self.source, Source::Files { .. }))
    }
}

impl Starts {
    /// Its schedule, when it has one.
    pub(crate) fn schedule(&self) -> Option<&Schedule> {
        match self {
            Self::ByHand => None,
            Self::Schedule(schedule) => Some(schedule),
            Self::OnChange { schedule, .. } => schedule.as_ref(),
        }
    }
}

/// Commands around a run, for `/bin/sh`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hooks {
    /// Before it; its failure fails the job.
    pub(crate) before: Option<String>,
    /// After it came to a good end; its failure is told.
    pub(crate) after: Option<String>,
    /// After it failed.
    pub(crate) failure: Option<String>,
    /// How long each may take.
    pub(crate) timeout: SignedDuration,
}

/// What happens when a run fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retries {
    /// How often it is tried in all.
    pub(crate) attempts: u32,
    /// How long to wait before the second; twice as long before each further one.
    pub(crate) wait: SignedDuration,
    /// When the last may begin, counted from the first.
    pub(crate) window: SignedDuration,
}

/// How long on-change jobs wait for quiet: longer than an editor's or a deployment's burst of writes.
const SETTLE: SignedDuration = SignedDuration::from_secs(30);

/// Reads one. `repositories` are the names that there are.
pub(super) fn read(name: String, section: &Section<'_>, repositories: &[&str], zone: &TimeZone) -> Option<Job> {
    let source = section.value("source").map(|value| source::read(&value, &name));
    if source.is_none() {
        let hint = "write source = \"postgres://user@host/db\" or { files = [\"/srv/uploads\"] }";
        section.fault("source is missing", Some(hint.to_owned()));
    }
    let starts = starts(section, zone);
    if section.has("settle") && !matches!(starts, Starts::OnChange { .. }) {
        let hint = "write trigger = \"on-change\" too, or leave it away";
        fault_at(section, "settle", "nothing settles where nothing is watched".to_owned(), Some(hint.to_owned()));
    }
    if matches!(starts, Starts::ByHand) && section.value("trigger").is_some() && section.value("schedule").is_none() {
        let hint = "write schedule = \"0 2 * * *\"";
        fault_at(section, "trigger", "it is to run by a schedule, and has none".to_owned(), Some(hint.to_owned()));
    }
    if let (Starts::OnChange { .. }, Some(Some(source))) = (&starts, &source)
        && !matches!(source, Source::Files { .. })
    {
        section.fault(
            "trigger = \"on-change\" watches files, and this is a source of another kind",
            Some(String::from("give it a schedule")),
        );
    }
    let named = section.texts("repositories");
    let mut chosen: Vec<String> = Vec::new();
    for one in &named {
        if chosen.contains(one) {
            fault_at(section, "repositories", format!("{one} is named twice"), None);
        } else if repositories.contains(&one.as_str()) {
            chosen.push(one.clone());
        } else {
            let hint = match repositories.is_empty() {
                true => format!("write a table [repositories.{one}] with its url"),
                false => nearest(one, repositories),
            };
            fault_at(section, "repositories", format!("no repository is called {one}"), Some(hint));
        }
    }
    if section.value("repositories").is_none() {
        // With one repository there is nothing to choose.
        match repositories {
            [only] => chosen.push((*only).to_owned()),
            _ => section
                .fault("repositories is missing", Some(String::from("write repositories = [\"local\", \"offsite\"]"))),
        }
    } else if named.is_empty() {
        fault_at(section, "repositories", "none is named".to_owned(), None);
    }
    refuse_rules_of_others(section, repositories, &chosen);
    let mut retention =
        section.section("retention").map(|rules| read_retention(&rules, repositories)).unwrap_or_default();
    retention.retain(|name, _| chosen.contains(name));
    let (objectives, standards) = objectives(section);
    let mut drill = section.section("drill").map(|section| (drill::read(&section, zone), section));
    if let Some((Drill { repository: Some(name), .. }, section)) = &drill
        && !chosen.contains(name)
    {
        let known: Vec<_> = chosen.iter().map(String::as_str).collect();
        fault_at(section, "repository", format!("the job does not go to {name}"), Some(nearest(name, &known)));
    }
    if let (Some((drill, of_drill)), Some(Some(source))) = (&mut drill, &source) {
        drill::fits(drill, source, of_drill, section);
    }
    let tags = section.texts("tags");
    if let Some(tag) = tags.iter().find(|tag| tag.contains(',') || tag.trim().is_empty() || tag.starts_with("job:")) {
        let hint = "tags are words without commas; job:NAME is given to each job's snapshots by itself";
        fault_at(section, "tags", format!("{tag:?} cannot be a tag"), Some(hint.to_owned()));
    }
    let job = Job {
        source: source.flatten().unwrap_or(Source::Command { command: String::new(), name: String::new() }),
        starts,
        read_again: read_again(section, zone),
        jitter: Jitter::new(section.duration("jitter").unwrap_or_default()),
        repositories: chosen,
        retention,
        objectives,
        standards,
        home: Place {
            media: section.text("media"),
            site: section.text("site"),
            failure_domain: section.text("failure_domain"),
        },
        offsite: offsite(section),
        hooks: hooks(section),
        retries: retries(section),
        drill: drill.map(|(drill, _)| drill),
        tags,
        host: section.text("host"),
        compression: section.number("compression", -7..=22).and_then(|level| i32::try_from(level).ok()),
        name,
    };
    section.finish();
    Some(job)
}

/// Reads the defaults as if they were a job without a source, so that what is wrong in them is told even if no job
/// takes it.
pub(super) fn read_defaults(defaults: &Section<'_>, repositories: &[&str], zone: &TimeZone) {
    let _ = starts(defaults, zone);
    for one in defaults.texts("repositories") {
        if !repositories.contains(&one.as_str()) {
            fault_at(
                defaults,
                "repositories",
                format!("no repository is called {one}"),
                Some(nearest(&one, repositories)),
            );
        }
    }
    if let Some(rules) = defaults.section("retention") {
        let _ = read_retention(&rules, repositories);
    }
    let _ = (objectives(defaults), offsite(defaults), hooks(defaults), retries(defaults), defaults.texts("tags"));
    let _ = read_again(defaults, zone);
    let _ = (defaults.duration("jitter"), defaults.text("host"), defaults.number("compression", -7..=22));
    let _ = (defaults.text("media"), defaults.text("site"), defaults.text("failure_domain"));
    let _ = defaults.section("drill").map(|section| drill::read(&section, zone));
}

/// Rules that a job itself has for a repository that it does not go to would do nothing. Those of the defaults are for
/// whoever goes there.
fn refuse_rules_of_others(section: &Section<'_>, repositories: &[&str], chosen: &[String]) {
    let own = section.value("retention").filter(|_| section.has("retention")).and_then(|rules| rules.section());
    for (name, value) in own.into_iter().flat_map(|rules| rules.entries()) {
        if repositories.contains(&name.as_str()) && !chosen.contains(&name) {
            let known: Vec<_> = chosen.iter().map(String::as_str).collect();
            value.fault(format!("the job does not go to {name}"), Some(nearest(&name, &known)));
        }
    }
}

/// The rules of a job, and for the repositories of which it says nothing, those of the defaults.
fn read_retention(section: &Section<'_>, repositories: &[&str]) -> BTreeMap<String, Rules> {
    let mut all = section.fallback().map(|behind| read_retention(behind, repositories)).unwrap_or_default();
    all.extend(retention::read(section, repositories));
    all
}

fn starts(section: &Section<'_>, zone: &TimeZone) -> Starts {
    // A job can take back what the defaults say.
    let schedule = schedule(section, "schedule", "by hand", zone);
    #[derive(Clone, Copy)]
    enum Trigger {
        Change,
        Schedule,
    }
    let trigger = section.word("trigger", &[("on-change", Trigger::Change), ("schedule", Trigger::Schedule)]);
    let settle = section.duration("settle");
    match (trigger, schedule) {
        (Some(Trigger::Change), schedule) => Starts::OnChange { settle: settle.unwrap_or(SETTLE), schedule },
        (_, Some(schedule)) => Starts::Schedule(schedule),
        (_, None) => Starts::ByHand,
    }
}

fn read_again(section: &Section<'_>, zone: &TimeZone) -> Option<Schedule> {
    schedule(section, "read_again", "never", zone)
}

/// A schedule, unless the text is `none`.
pub(super) fn schedule(section: &Section<'_>, key: &'static str, none: &str, zone: &TimeZone) -> Option<Schedule> {
    let value = section.value(key)?;
    let text = value.text().filter(|text| text != none)?;
    let hint = "minute hour day month weekday, as \"0 2 * * *\" for every night at 2";
    let parsed = Schedule::parse(&text, zone.clone());
    parsed.map_err(|error| value.fault(error.to_string(), Some(hint.to_owned()))).ok()
}

fn objectives(section: &Section<'_>) -> (Objectives, Standards) {
    let usual = Standards::default();
    let Some(section) = section.section("objectives") else { return (Objectives::default(), usual) };
    let objectives = Objectives { rpo: section.duration("rpo"), rto: section.duration("rto") };
    let standards = Standards {
        verified_within: section.duration("verified_within").unwrap_or(usual.verified_within),
        drilled_within: section.duration("drilled_within").unwrap_or(usual.drilled_within),
        ..usual
    };
    section.finish();
    (objectives, standards)
}

fn offsite(section: &Section<'_>) -> Offsite {
    let waived = section.parsed("offsite", |text| match text {
        "required" => Ok(Offsite::Required),
        _ => match text.strip_prefix("none:").map(str::trim) {
            Some(reason) if !reason.is_empty() => Ok(Offsite::Waived(reason.to_owned())),
            _ => Err("it says neither \"required\" nor \"none: REASON\""),
        },
    });
    waived.unwrap_or_default()
}

fn hooks(section: &Section<'_>) -> Hooks {
    let usual = Hooks { timeout: SignedDuration::from_mins(10), ..Hooks::default() };
    let Some(section) = section.section("hooks") else { return usual };
    let hooks = Hooks {
        before: section.text("before"),
        after: section.text("after"),
        failure: section.text("failure"),
        timeout: section.some_time("timeout").unwrap_or(usual.timeout),
    };
    section.finish();
    hooks
}

fn retries(section: &Section<'_>) -> Retries {
    let usual = Retries { attempts: 3, wait: SignedDuration::from_mins(1), window: SignedDuration::from_hours(1) };
    let Some(section) = section.section("retries") else { return usual };
    let attempts = section.number("attempts", 1..=100).and_then(|count| u32::try_from(count).ok());
    let retries = Retries {
        attempts: attempts.unwrap_or(usual.attempts),
        wait: section.duration("wait").unwrap_or(usual.wait),
        window: section.duration("window").unwrap_or(usual.window),
    };
    section.finish();
    retries
}

fn fault_at(section: &Section<'_>, key: &'static str, what: String, hint: Option<String>) {
    match section.value(key) {
        Some(value) => value.fault(what, hint),
        None => section.fault(what, hint),
    }
}
