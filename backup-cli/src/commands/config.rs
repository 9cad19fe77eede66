//! `backup config`: is the configuration right, and what comes of it.

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::policy::{self, Offsite, in_words, predicted};
use backup_core::schedule::Schedule;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::config::{Channel, Config, Container, Drill, Fault, Job, Picked, Repository, SandboxPlace, Starts};
use crate::exit::{Exit, Failure};
use crate::secrets::origin::Origin;
use crate::session::Session;
use crate::{facts, jobs, telling};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Say what is wrong with the configuration, and what would run when
    Check(Check),
    /// Print the configuration as it is kept in repositories: without secrets and comments
    Show,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every secret is read, every repository and source is opened, who is told is connected to, and nothing is written or \
    told. Exit code 2: the \
    file is wrong, or promises what it cannot keep. 5: something that it names cannot be reached."
)]
pub(crate) struct Check {
    /// Look at the file alone: read no secret and connect to nothing
    #[arg(long)]
    offline: bool,
}

/// How many runs to come are shown.
const RUNS_SHOWN: usize = 3;

pub(crate) fn run(command: &Command, session: &Session) -> Result<Exit, Failure> {
    match command {
        Command::Check(args) => check(args, session),
        Command::Show => show(session),
    }
}

fn show(session: &Session) -> Result<Exit, Failure> {
    let config = session.config()?;
    let path = config.path.display().to_string();
    session.console.either(&json!({"path": path, "text": config.kept}), || config.kept.clone())?;
    Ok(Exit::Done)
}

/// Something that is wrong, of which part of the file, and how grave that is.
struct Problem {
    exit: Exit,
    of: String,
    what: String,
    hint: Option<String>,
}

impl Problem {
    fn new(of: impl Into<String>, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, of: of.into(), what: what.into(), hint: Some(hint.into()) }
    }

    /// Of what cannot be reached: it may be tomorrow.
    fn unreached(of: impl Into<String>, failure: Failure) -> Self {
        let exit = if failure.exit == Exit::Usage { Exit::Usage } else { Exit::Behind };
        Self { exit, of: of.into(), what: failure.what, hint: failure.hint }
    }

    fn document(&self) -> Value {
        json!({"of": self.of, "line": null, "what": self.what, "hint": self.hint})
    }
}

fn check(args: &Check, session: &Session) -> Result<Exit, Failure> {
    let read = match session.read_config()? {
        Ok(config) => config,
        Err(wrong) => {
            let faults: Vec<_> = wrong.faults.iter().map(fault_document).collect();
            let path = wrong.path.display().to_string();
            let told = json!({"path": path, "jobs": [], "contacts": {}, "problems": faults});
            session.console.either(&told, || {
                wrong.faults.iter().map(|fault| two_lines(&format!("{path}:{fault}"), fault.hint.as_deref())).collect()
            })?;
            return Ok(Exit::Usage);
        }
    };
    let config = &read;
    let now = SystemClock.now();
    let mut problems: Vec<_> = config.jobs.iter().flat_map(|job| promises(job, config, now)).collect();
    problems.extend(config.repositories.iter().filter_map(|repository| read_too_rarely(repository, config, now)));
    if !args.offline {
        problems.extend(reach(config, session));
    }
    let told: Vec<_> = config.jobs.iter().map(|job| document(job, now)).collect();
    let problems_told: Vec<_> = problems.iter().map(Problem::document).collect();
    let path = config.path.display().to_string();
    let contacts: serde_json::Map<_, _> =
        config.contacts.iter().map(|(what, who)| (what.clone(), Value::from(who.as_str()))).collect();
    let readings: Vec<_> = config.repositories.iter().map(|repository| reading_document(repository, now)).collect();
    let whole = json!({
        "path": path, "jobs": told, "repositories": readings, "contacts": contacts, "problems": problems_told,
    });
    session.console.either(&whole, || {
        let jobs: String = config.jobs.iter().map(|job| text(job, now)).collect();
        let readings: String =
            config.repositories.iter().filter_map(|repository| reading_text(repository, now)).collect();
        let wrong = problems
            .iter()
            .map(|problem| two_lines(&format!("{}: {}", problem.of, problem.what), problem.hint.as_deref()));
        let wrong: String = wrong.collect();
        let end = if problems.is_empty() { format!("{path} is in order\n") } else { format!("\n{wrong}") };
        format!("{jobs}{readings}{end}")
    })?;
    let is_wrong = problems.iter().any(|problem| problem.exit == Exit::Usage);
    let exits = problems.iter().map(|problem| problem.exit);
    Ok(if is_wrong { Exit::Usage } else { exits.fold(Exit::Done, Exit::graver) })
}

/// What a job promises and cannot keep.
fn promises(job: &Job, config: &Config, now: Timestamp) -> Vec<Problem> {
    let mut problems = Vec::new();
    let of = format!("jobs.{}", job.name);
    let trigger = facts::trigger(job, now);
    let objectives = job.objectives;
    if let Some(rpo) = objectives.rpo {
        match predicted(trigger, &[], objectives) {
            Some(policy::Predicted { gap, missed_by: Some(by), .. }) => problems.push(Problem::new(
                &of,
                format!(
                    "its schedule lets {} pass, {} more than the {} that may be lost",
                    in_words(gap),
                    in_words(by),
                    in_words(rpo)
                ),
                "run it more often, or raise objectives.rpo",
            )),
            None if !matches!(job.starts, Starts::OnChange { .. }) => {
                problems.push(Problem::new(&of, "it has an objective and nothing that runs it", "give it a schedule"));
            }
            _ => {}
        }
    }
    let facts = facts::of_job(config, job, &Default::default(), now);
    let home = facts.home.site.as_deref();
    let sites: Vec<_> = facts.copies.iter().map(|copy| copy.place.site.as_deref()).collect();
    if job.offsite == Offsite::Required && !sites.iter().any(|site| site.is_some() && home.is_some() && *site != home) {
        let (what, hint) = match (home, sites.iter().any(Option::is_none)) {
            (None, _) => (
                "it is not said where the data stands, so no copy is known to be elsewhere",
                "write site = \"…\" below [defaults], and below each repository",
            ),
            (_, true) => ("no copy is known to stand at another site", "write site = \"…\" below each repository"),
            (_, false) => {
                ("no copy stands at another site", "add a repository elsewhere, or write offsite = \"none: REASON\"")
            }
        };
        problems.push(Problem::new(&of, what, hint));
    }
    problems
}

/// A repository that is read back, and not as often as its copies need to count.
fn read_too_rarely(repository: &Repository, config: &Config, now: Timestamp) -> Option<Problem> {
    let gap = repository.read_back.as_ref()?.longest_gap(now);
    let jobs = config.jobs.iter().filter(|job| job.repositories.contains(&repository.name));
    let (within, job) = jobs.map(|job| (job.standards.verified_within, &job.name)).min()?;
    (gap > within).then(|| {
        Problem::new(
            format!("repositories.{}", repository.name),
            format!(
                "it is read back after {} at the latest, and its copy of {job} counts for {} after that",
                in_words(gap),
                in_words(within)
            ),
            "read it back more often, or raise objectives.verified_within",
        )
    })
}

/// Opens everything that the file names.
fn reach(config: &Config, session: &Session) -> Vec<Problem> {
    let mut problems = Vec::new();
    for repository in &config.repositories {
        if let Err(failure) = session.open_configured(repository, None) {
            let hint = match failure.exit {
                Exit::NoRepository => Some("backup init makes those that are not there yet".to_owned()),
                _ => failure.hint.clone(),
            };
            problems.push(Problem::unreached(format!("repositories.{}", repository.name), Failure { hint, ..failure }));
        }
    }
    let places: Vec<_> = config.repositories.iter().flat_map(Repository::places).collect();
    for job in &config.jobs {
        for failure in jobs::reach_source(job, &places, session) {
            problems.push(Problem::unreached(format!("jobs.{}.source", job.name), failure));
        }
    }
    for (of, origin) in secrets(config) {
        if let Err(failure) = origin.read(&of, &session.console) {
            problems.push(Problem::unreached(of, failure));
        }
    }
    problems.extend(telling::reach(config, session).into_iter().map(|(of, failure)| Problem::unreached(of, failure)));
    problems
}

/// The secrets that nothing above has read.
fn secrets(config: &Config) -> Vec<(String, &Origin)> {
    let mut all = Vec::new();
    for notify in &config.notify {
        let of = |key: &str| format!("notify.{}.{key}", notify.name);
        match &notify.channel {
            Channel::Webhook { url, authorization, .. } => {
                all.push((of("webhook.url"), url));
                all.extend(authorization.iter().map(|secret| (of("webhook.authorization"), secret)));
            }
            Channel::Mail { login, .. } => all.extend(login.iter().map(|(_, secret)| (of("mail.password"), secret))),
            Channel::Command(_) => {}
        }
    }
    for job in &config.jobs {
        let server = job.drill.as_ref().and_then(|drill| drill.sandbox.server.as_ref());
        all.extend(server.map(|server| (format!("jobs.{}.drill.sandbox.server", job.name), server)));
    }
    all.extend(config.daemon.token.iter().map(|secret| ("daemon.token".to_owned(), secret)));
    let gateway = config.metrics.pushgateway.iter();
    all.extend(gateway.map(|gateway| ("metrics.pushgateway.url".to_owned(), &gateway.url)));
    all
}

fn document(job: &Job, now: Timestamp) -> Value {
    let told = |schedule: Option<&Schedule>, delay| -> Vec<_> {
        slots(schedule, delay, now).map(|slot| slot.to_string()).collect()
    };
    let delay = job.jitter.delay(&job.name);
    json!({
        "job": job.name,
        "schedule": job.starts.schedule().map(|schedule| schedule.text()),
        "next_runs": told(job.starts.schedule(), delay),
        "read_again": job.read_again.as_ref().map(|schedule| schedule.text()),
        "next_read_again": told(job.read_again_runs(), delay),
        "next_drills": told(drills(job), drill_delay(job)),
        "on_change": matches!(job.starts, Starts::OnChange { .. }),
        "repositories": job.repositories,
        "retention": job.retention,
        "drill": job.drill.as_ref().map(drill_document),
    })
}

fn drill_document(drill: &Drill) -> Value {
    let Drill { schedule, snapshot, repository, limit, checks, sandbox, runbook, cold, thaw } = drill;
    let snapshot = match snapshot {
        Some(Picked::Latest) => "latest",
        None if *runbook || schedule.is_none() => "latest",
        Some(Picked::Random) => "random",
        Some(Picked::Oldest) => "oldest",
        Some(Picked::Rotate) | None => "rotate",
    };
    let SandboxPlace { server, bin, user, folder, shown, container } = sandbox;
    let container = container.as_ref().map(|container| {
        let Container { image, program, memory, processes } = container;
        json!({"image": image, "program": program, "memory_bytes": memory, "processes": processes})
    });
    json!({
        "schedule": schedule.as_ref().map(|schedule| schedule.text()),
        "snapshot": snapshot,
        "repository": repository,
        "runbook": runbook,
        "cold": cold,
        "thaw": thaw,
        "limit_seconds": limit.map(|limit| limit.as_secs()),
        "checks": checks.len(),
        // Where a server is may be told by a secret.
        "sandbox": {"server": server.is_some(), "bin": bin, "user": user, "folder": folder, "shown": shown, "container": container},
    })
}

fn text(job: &Job, now: Timestamp) -> String {
    let told = |schedule: Option<&Schedule>, delay| -> String {
        let zone = schedule.map(|schedule| schedule.zone().clone()).unwrap_or(TimeZone::UTC);
        slots(schedule, delay, now).map(|slot| shown(slot, &zone)).collect::<Vec<_>>().join(", ")
    };
    let delay = job.jitter.delay(&job.name);
    let runs = told(job.starts.schedule(), delay);
    let when = match &job.starts {
        Starts::ByHand => "by hand".to_owned(),
        Starts::Schedule(_) => runs,
        Starts::OnChange { settle, schedule: None } => format!("{} after a change", in_words(*settle)),
        Starts::OnChange { settle, schedule: Some(_) } => {
            format!("{} after a change, and {runs}", in_words(*settle))
        }
    };
    let mut text = format!("{}\n  runs  {when}\n", job.name);
    for (label, schedule, delay) in
        [("all of it is read", job.read_again_runs(), delay), ("drill", drills(job), drill_delay(job))]
    {
        if schedule.is_some() {
            text += &format!("  {label}  {}\n", told(schedule, delay));
        }
    }
    text + &format!("  to    {}\n", job.repositories.join(", "))
}

fn reading_document(repository: &Repository, now: Timestamp) -> Value {
    let schedule = repository.read_back.as_ref();
    let slots = slots(schedule, SignedDuration::ZERO, now);
    json!({
        "repository": repository.name,
        "read_back": schedule.map(|schedule| schedule.text()),
        "next_readings": slots.map(|slot| slot.to_string()).collect::<Vec<_>>(),
    })
}

fn reading_text(repository: &Repository, now: Timestamp) -> Option<String> {
    let schedule = repository.read_back.as_ref()?;
    let slots = slots(Some(schedule), SignedDuration::ZERO, now);
    let slots: Vec<_> = slots.map(|slot| shown(slot, schedule.zone())).collect();
    Some(format!("{}\n  read back  {}\n", repository.name, slots.join(", ")))
}

fn shown(slot: Timestamp, zone: &TimeZone) -> String {
    slot.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M %Z").to_string()
}

/// The next slots, each with its delay.
fn slots(schedule: Option<&Schedule>, delay: SignedDuration, now: Timestamp) -> impl Iterator<Item = Timestamp> {
    let slots = schedule.into_iter().flat_map(move |schedule| schedule.slots(now, Timestamp::MAX));
    slots.take(RUNS_SHOWN).filter_map(move |slot| slot.checked_add(delay).ok())
}

fn drills(job: &Job) -> Option<&Schedule> {
    job.drill.as_ref().and_then(|drill| drill.schedule.as_ref())
}

fn drill_delay(job: &Job) -> SignedDuration {
    job.jitter.delay(&format!("drill {}", job.name))
}

fn fault_document(fault: &Fault) -> Value {
    json!({"of": fault.key, "line": fault.line, "what": fault.what, "hint": fault.hint})
}

fn two_lines(what: &str, hint: Option<&str>) -> String {
    let hint = hint.map(|hint| format!("\n  try: {hint}")).unwrap_or_default();
    format!("{what}{hint}\n")
}
