//! `backup drill`: restores a snapshot into a sandbox, compares it, times it, and writes down what was proven.

use backup_core::drill::Choice;
use backup_core::evidence::Objectives;
use backup_core::model::Id;
use backup_core::repository::SnapshotQuery;
use backup_core::runbook::{Part, RestoreCommand, markdown, restore_command, runbook};

use crate::args::Which;
use crate::config::{self, Container, DrillCheck, Expected, Picked, Probe, SandboxPlace};
use crate::drills::evidence::{self, KeyArgs, LastDrills};
use crate::drills::{self, Asked, CopyRef, Sandboxes, Under, told};
use crate::exit::{Exit, Failure};
use crate::network::Caching;
use crate::runbooks;
use crate::session::Session;
use crate::telling;
use crate::thawing::ThawArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Jobs of the configuration, all when none is named; with -r and without a name, any snapshot there
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// Which snapshot: latest, oldest, random, the beginning of an id, or rotate: of the first three the one after the
    /// last drill's
    #[arg(long, value_name = "WHICH", value_parser = choice)]
    snapshot: Option<Pick>,
    /// As on a machine that knows nothing: no cache of this one is used
    #[arg(long)]
    cold: bool,
    /// Restore by the runbook's own command for a lost host, as a process with an empty home that knows only what the
    /// runbook says; the sandbox takes the place of its target
    #[arg(long, conflicts_with = "snapshot")]
    runbook: bool,
    /// Make the sandbox in this folder, in place of the one for temporary files
    #[arg(long, value_name = "DIR")]
    sandbox: Option<String>,
    /// The folder of the engine's programs, in place of the usual ones
    #[arg(long, value_name = "DIR")]
    bin: Option<String>,
    /// Restore in a container of this image, in place of programs of this machine; it has to be here
    #[arg(long, value_name = "IMAGE", value_parser = image)]
    container: Option<String>,
    /// Ask this of a restored database; the answer must be there, and not false or 0. May be given several times
    #[arg(long, value_name = "QUERY")]
    sql: Vec<String>,
    /// Ask this of a restored database of MongoDB: {"aggregate": "users", "pipeline": [{"$count": "n"}]}
    #[arg(long, value_name = "JSON")]
    aggregate: Vec<String>,
    /// Run this by /bin/sh in the restored folder; it must end with 0 (for Redis: a command of Redis)
    #[arg(long, value_name = "COMMAND")]
    program: Vec<String>,
    /// What asks for it, as its evidence will say: the daemon and printed units say `schedule`
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    trigger: Trigger,
    #[command(flatten)]
    thaw: ThawArgs,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    which: Which,
}

/// What asks for a drill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Trigger {
    /// A person
    #[default]
    Manual,
    /// A scheduler
    Schedule,
    /// A hook after a backup
    AfterBackup,
}

impl Trigger {
    /// The word for it in a record.
    fn word(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Schedule => "schedule",
            Self::AfterBackup => "after_backup",
        }
    }
}

/// A choice before its random number was drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pick {
    Word(Picked),
    Id(String),
}

fn choice(text: &str) -> Result<Pick, String> {
    Ok(match text {
        "latest" => Pick::Word(Picked::Latest),
        "oldest" => Pick::Word(Picked::Oldest),
        "random" => Pick::Word(Picked::Random),
        "rotate" => Pick::Word(Picked::Rotate),
        id if !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) => {
            Pick::Id(id.to_owned())
        }
        _ => return Err("write latest, oldest, random, rotate, or the beginning of a snapshot's id".to_owned()),
    })
}

fn image(text: &str) -> Result<String, String> {
    let is_one = !text.is_empty() && !text.starts_with('-') && !text.contains(char::is_whitespace);
    if is_one { Ok(text.to_owned()) } else { Err("write an image by tag or digest, as postgres:16".to_owned()) }
}

fn drawn(pick: &Pick) -> Result<Choice, Failure> {
    Ok(match pick {
        // Of a place nobody knows what was drilled last.
        Pick::Word(Picked::Latest | Picked::Rotate) => Choice::Latest,
        Pick::Word(Picked::Oldest) => Choice::Oldest,
        Pick::Word(Picked::Random) => {
            let failed = |error: getrandom::Error| Failure::new(format!("no random numbers from the system: {error}"));
            Choice::Random(getrandom::u64().map_err(failed)?)
        }
        Pick::Id(id) => Choice::Id(id.clone()),
    })
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let is_by_place = args.jobs.is_empty() && session.globals.repo.iter().any(|place| !place.is_empty());
    if is_by_place { by_place(args, session) } else { by_job(args, session) }
}

impl Args {
    fn caching(&self) -> Caching {
        if self.cold { Caching::Forbidden } else { Caching::Allowed }
    }

    fn thaw(&self) -> Option<&ThawArgs> {
        Some(&self.thaw).filter(|thaw| thaw.thaw)
    }

    /// What the command line says comes before the configuration.
    fn place(&self, place: SandboxPlace) -> SandboxPlace {
        let (folder, bin) = (self.sandbox.clone().or(place.folder), self.bin.clone().or(place.bin));
        let container = match (&self.container, place.container) {
            (Some(image), Some(configured)) => Some(Container { image: image.clone(), ..configured }),
            (Some(image), None) => Some(Container::of(image.clone())),
            (None, configured) => configured,
        };
        // The command line's container stands for the configuration's server.
        let server = place.server.filter(|_| self.container.is_none());
        SandboxPlace { folder, bin, container, server, ..place }
    }

    /// The questions of the command line.
    fn checks(&self) -> Vec<DrillCheck> {
        let sql = self.sql.iter().cloned().map(Probe::Sql);
        let aggregations = self.aggregate.iter().cloned().map(Probe::Aggregate);
        let programs = self.program.iter().cloned().map(Probe::Command);
        sql.chain(aggregations)
            .chain(programs)
            .map(|probe| DrillCheck { name: None, probe, expected: Expected::Truth })
            .collect()
    }
}

/// Each repository that was named, one after the other.
fn by_place(args: &Args, session: &Session) -> Result<Exit, Failure> {
    if args.runbook {
        return Err(Failure::usage("--runbook is for jobs of the configuration", "name the job"));
    }
    let key = args.key.read(session)?;
    let sandboxes = Sandboxes::new(args.place(SandboxPlace::default()));
    let checks = args.checks();
    let pick = args.snapshot.clone().unwrap_or(Pick::Word(Picked::Latest));
    if matches!(pick, Pick::Id(_)) && !args.which.is_all() {
        return Err(Failure::usage(
            "an id and --job, --source, --host, --tag or --at exclude each other",
            "give the id alone",
        ));
    }
    let mut exit = Exit::Done;
    for number in 0..session.places()?.len() {
        let asked = Asked {
            copy: CopyRef::Nth(number),
            job: args.which.job.as_deref(),
            choice: drawn(&pick)?,
            query: args.which.query(),
            checks: &checks,
            sandboxes: &sandboxes,
            caching: args.caching(),
            thaw: args.thaw(),
            trigger: args.trigger.word(),
            objectives: Objectives::default(),
            under: Under::default(),
            runbook: None,
            limit: None,
        };
        exit = exit.graver(one(&asked, key.as_ref(), &[], None, session)?);
        session.cancel.check()?;
    }
    Ok(exit)
}

/// Jobs of the configuration: each from the copy that it names, or that was named with -r.
fn by_job(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let config = session.config()?;
    let key = args.key.read(session)?;
    let jobs = config.jobs_named(&args.jobs)?;
    let mut exit = Exit::Done;
    for job in &jobs {
        exit = exit.graver(job_drill(&config, job, args, key.as_ref(), session)?);
        session.cancel.check()?;
    }
    // Figures and objectives are what drills show them to be.
    super::run::afterwards(&config, &jobs, session);
    Ok(exit)
}

fn job_drill(
    config: &config::Config,
    job: &config::Job,
    args: &Args,
    key: Option<&backup_core::evidence::SigningKey>,
    session: &Session,
) -> Result<Exit, Failure> {
    let drill = job.drill.as_ref();
    let sandboxes = Sandboxes::new(args.place(drill.map(|drill| drill.sandbox.clone()).unwrap_or_default()));
    let mut checks = drill.map(|drill| drill.checks.clone()).unwrap_or_default();
    checks.extend(args.checks());
    let is_by_runbook = args.snapshot.is_none() && (args.runbook || drill.is_some_and(|drill| drill.runbook));
    let usual = match drill.and_then(|drill| drill.snapshot) {
        _ if is_by_runbook => Picked::Latest,
        Some(picked) => picked,
        // A person wants to know of what would be restored now; the nights have time for all that is kept.
        None if args.trigger == Trigger::Schedule => Picked::Rotate,
        None => Picked::Latest,
    };
    let usual = args.snapshot.clone().unwrap_or(Pick::Word(usual));
    let is_cold = args.cold || drill.is_some_and(|drill| drill.cold);
    let thaw = drill.filter(|drill| drill.thaw).map(|_| ThawArgs::usual());
    let last = evidence::last_drills(&job.name);
    let named = session.globals.repo.iter().filter(|place| !place.is_empty()).cloned().collect::<Vec<_>>();
    let copies = match (named.is_empty(), drill.and_then(|drill| drill.repository.clone())) {
        (false, _) => named,
        (true, Some(repository)) => vec![repository],
        (true, None) => longest_undrilled(job, &last),
    };
    let query = SnapshotQuery { tags: vec![format!("job:{}", job.name)], ..args.which.query() };
    let mut exit = Exit::Done;
    for name in &copies {
        let Some(copy) = config.repository(name).filter(|_| job.repositories.contains(name)) else {
            return Err(Failure::usage(
                format!("the job {} has no copy in {name}", job.name),
                format!("it has copies in {}", job.repositories.join(", ")),
            ));
        };
        let others: Vec<_> = job
            .repositories
            .iter()
            .filter(|other| *other != name)
            .filter_map(|other| config.repository(other))
            .collect();
        let pick = match &usual {
            Pick::Word(Picked::Rotate) => Pick::Word(Picked::after(last.choice_of(name))),
            pick => pick.clone(),
        };
        for (query, by_runbook) in restores(config, job, copy, &query, is_by_runbook, session)? {
            let asked = Asked {
                copy: CopyRef::Configured(copy),
                job: Some(&job.name),
                choice: drawn(&pick)?,
                query,
                checks: &checks,
                sandboxes: &sandboxes,
                caching: if is_cold { Caching::Forbidden } else { Caching::Allowed },
                thaw: args.thaw().or(thaw.as_ref()),
                trigger: args.trigger.word(),
                objectives: objectives(job),
                under: Under {
                    policy: Some(Id::of(config.kept.as_bytes())),
                    runbook: by_runbook.as_ref().map(|(_, text)| *text),
                },
                runbook: by_runbook.map(|(command, _)| (command, copy)),
                limit: drill.and_then(|drill| drill.limit).and_then(|limit| limit.try_into().ok()),
            };
            exit = exit.graver(one(&asked, key, &others, Some(config), session)?);
            session.cancel.check()?;
        }
    }
    Ok(exit)
}

/// A command of a runbook, and the hash of the runbook's text.
type ByRunbook = (RestoreCommand, Id);

/// What is restored from a copy, one drill each: what `query` means, or with the runbook each part of the job by the
/// command that brings it back, with the hash of the runbook's text.
fn restores(
    config: &config::Config,
    job: &config::Job,
    copy: &config::Repository,
    query: &SnapshotQuery,
    is_by_runbook: bool,
    session: &Session,
) -> Result<Vec<(SnapshotQuery, Option<ByRunbook>)>, Failure> {
    if !is_by_runbook {
        return Ok(vec![(query.clone(), None)]);
    }
    let facts = runbooks::of_config(config, &[job], session);
    let text = Id::of(markdown(&[runbook(&facts)]).as_bytes());
    let store = facts.repositories.iter().find(|store| store.name == copy.name);
    let (Some(store), Some(job)) = (store, facts.jobs.first()) else {
        return Err(Failure::new(format!("the runbook does not know {}", copy.name)));
    };
    // A job of several databases has a snapshot of each.
    let is_meant = |part: &&Part| query.path.is_none() || part.source.is_none() || part.source == query.path;
    let restore = |part: &Part| {
        let path = part.source.clone().or_else(|| query.path.clone());
        (SnapshotQuery { path, ..query.clone() }, Some((restore_command(job, part, store), text)))
    };
    let restores: Vec<_> = job.parts.iter().filter(is_meant).map(restore).collect();
    if restores.is_empty() {
        let parts: Vec<_> = job.parts.iter().filter_map(|part| part.source.as_deref()).collect();
        let path = query.path.as_deref().unwrap_or_default();
        return Err(Failure::usage(
            format!("{} has no part {path}", job.name()),
            format!("it consists of {}", parts.join(", ")),
        ));
    }
    Ok(restores)
}

/// The copy whose last drill lies furthest back, so that each gets its turn; one that never had any comes first.
fn longest_undrilled(job: &config::Job, last: &LastDrills) -> Vec<String> {
    job.repositories.iter().min_by_key(|name| last.of_copy(name)).cloned().into_iter().collect()
}

fn objectives(job: &config::Job) -> Objectives {
    let seconds = |objective: Option<jiff::SignedDuration>| {
        objective.and_then(|objective| u64::try_from(objective.as_secs()).ok())
    };
    Objectives {
        recovery_point_seconds: seconds(job.objectives.rpo),
        recovery_time_seconds: seconds(job.objectives.rto),
    }
}

/// One drill with its evidence, told to who asked, and by the configuration to who wants to know.
fn one(
    asked: &Asked<'_>,
    key: Option<&backup_core::evidence::SigningKey>,
    others: &[&config::Repository],
    config: Option<&config::Config>,
    session: &Session,
) -> Result<Exit, Failure> {
    let drilled = drills::run(asked, session)?;
    // One that does not answer gets the record from a later drill.
    let others: Vec<_> = others.iter().filter_map(|other| session.open_configured(other, None).ok()).collect();
    let others: Vec<_> = others.iter().collect();
    let written = match evidence::write(&drilled, asked.job, asked.trigger, asked.objectives, key, &others) {
        Ok(written) => Some(written),
        Err(failure) => {
            session.console.warn(&failure.what);
            None
        }
    };
    let document = told::document(&drilled, asked.job, written.as_ref());
    session.console.either(&document, || told::text(&drilled, asked.job, written.as_ref()))?;
    let exit = drilled.exit(session);
    // Who stopped it knows.
    if let (Some(config), Some(job)) = (config, asked.job)
        && exit != Exit::Interrupted
    {
        for warning in telling::tell(
            config,
            &[telling::of_drill(job, drilled.copy.name.as_deref(), &drilled.outcome, &drilled.missed())],
            session,
        ) {
            session.console.warn(&warning);
        }
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_chosen_by_a_word_or_an_id() {
        assert_eq!(choice("latest"), Ok(Pick::Word(Picked::Latest)));
        assert_eq!(choice("random"), Ok(Pick::Word(Picked::Random)));
        assert_eq!(choice("rotate"), Ok(Pick::Word(Picked::Rotate)));
        assert_eq!(choice("00ab"), Ok(Pick::Id("00ab".to_owned())));
        for wrong in ["", "newest", "XYZ", "../x"] {
            assert!(choice(wrong).is_err(), "{wrong}");
        }
    }
}
