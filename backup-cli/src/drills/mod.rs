//! One drill, as the command, the daemon and `try` run it: a copy is opened, a snapshot chosen, a sandbox made, and what
//! came of it told to the repository and written as evidence.
//!
//! What is always true: once it is known what is to be drilled, whatever goes wrong is a verdict with a record, not an
//! error. Leftovers of killed drills are removed before anything is started.

mod commands;
mod engines;
pub(crate) mod evidence;
mod questions;
mod sandboxes;
pub(crate) mod told;

use std::path::Path;
use std::time::Duration;

use backup_core::cancel::Cancel;
use backup_core::contracts::{Entrance, Report, Tool};
use backup_core::drill::{
    Choice, Confidence, DrillOutcome, DrillTask, Estimate, Extent, PastDrill, StageName, Stopwatch, Verdict, choose,
    drill, drill_by, estimate, newest_in_turn, samples, within, write_down,
};
use backup_core::evidence::{CopyUnderTest, Objectives, RecoveryTime, SnapshotFigures, Times};
use backup_core::limits::DRILL_LIMIT_DEFAULT;
use backup_core::model::{Id, Snapshot, SnapshotId, SnapshotPath};
use backup_core::repository::{Repository, SnapshotQuery};
use backup_core::runbook::RestoreCommand;
use backup_core::{Error, ErrorKind};
use backup_sources::sandbox::remove_leftovers;
use backup_store::Place;
use jiff::Timestamp;

use crate::config::{self, DrillCheck};
use crate::console::amounts;
use crate::exit::{Exit, Failure};
use crate::located::Located;
use crate::network::Caching;
use crate::secrets::password;
use crate::session::Session;
use crate::thawing::{Asking, ThawArgs, Wanted, thawed};
pub(crate) use sandboxes::Sandboxes;

/// What is to be drilled.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    /// The copy under test.
    pub(crate) copy: CopyRef<'a>,
    /// The job that it is of.
    pub(crate) job: Option<&'a str>,
    /// Which snapshot, of those that `query` means.
    pub(crate) choice: Choice,
    /// See `choice`.
    pub(crate) query: SnapshotQuery,
    /// What is asked of the restored data.
    pub(crate) checks: &'a [DrillCheck],
    /// Where and how sandboxes are made.
    pub(crate) sandboxes: &'a Sandboxes,
    /// Nothing that this machine remembers is used.
    pub(crate) caching: Caching,
    /// How what lies in an archive is asked for; without, a drill that needs it has not run.
    pub(crate) thaw: Option<&'a ThawArgs>,
    /// Who or what asked for it.
    pub(crate) trigger: &'static str,
    /// What has to be kept to.
    pub(crate) objectives: Objectives,
    /// For the record: see [`backup_core::evidence::Context`].
    pub(crate) under: Under,
    /// The runbook's command that restores it, and the copy's settings, in place of this process.
    pub(crate) runbook: Option<(RestoreCommand, &'a config::Repository)>,
    /// How long it may take once the snapshot is found; [`DRILL_LIMIT_DEFAULT`] where nobody says.
    pub(crate) limit: Option<Duration>,
}

/// What a drill is held against, by the hashes of its texts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Under {
    /// The configuration.
    pub(crate) policy: Option<Id>,
    /// The runbook, where its commands are followed.
    pub(crate) runbook: Option<Id>,
}

/// A repository as a drill names it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CopyRef<'a> {
    /// The one that was named so many places before on the command line.
    Nth(usize),
    /// One of the configuration.
    Configured(&'a config::Repository),
}

impl CopyRef<'_> {
    fn open(self, caching: Caching, session: &Session) -> Result<Repository, Failure> {
        match self {
            Self::Nth(number) => session.open_through(number, None, caching, &[]),
            // What keeps a configured copy from being opened keeps the drill from running, whatever the words for it are.
            Self::Configured(repository) => match caching {
                Caching::Forbidden => session.open_configured_as_a_stranger(repository).map_err(|failure| Failure {
                    what: format!("{}; a cold drill takes no passphrase from the configuration", failure.what),
                    ..failure
                }),
                Caching::Allowed => session.open_configured_through(repository, None, caching),
            }
            .map_err(|failure| match failure.exit {
                Exit::Usage => Failure { exit: Exit::Failed, ..failure },
                _ => failure,
            }),
        }
    }

    fn locate(self, session: &Session) -> Result<Located, Failure> {
        match self {
            Self::Nth(number) => session.locate(session.places()?[number]),
            Self::Configured(repository) => Ok(Located::configured(repository, &session.globals.network)),
        }
    }

    /// Where it lies, and its name, for a record.
    fn under_test(self, caching: Caching, session: &Session) -> Result<CopyUnderTest, Failure> {
        let Located { place, name, passphrase, .. } = self.locate(session)?;
        let is_cold = caching == Caching::Forbidden;
        let key_from = match self {
            Self::Nth(number) if passphrase.is_none() => password::source_of_nth(session, number),
            Self::Configured(_) if passphrase.is_none() || is_cold => password::source_of_nth(session, 0),
            _ => "configuration",
        };
        let of_bucket = match &place {
            Place::Bucket(bucket) => bucket.settings.region.clone(),
            _ => None,
        };
        let region = of_bucket.or_else(|| match self {
            Self::Configured(repository) => repository.stands.site.clone(),
            Self::Nth(_) => None,
        });
        let key_from = Some(key_from.to_owned());
        Ok(CopyUnderTest { place: place.to_string(), name, is_cold, key_from, region, ..CopyUnderTest::default() })
    }
}

/// A drill that was.
#[derive(Debug)]
pub(crate) struct Drilled {
    pub(crate) copy: CopyUnderTest,
    pub(crate) times: Times,
    pub(crate) chosen: Option<(SnapshotId, Snapshot)>,
    pub(crate) how: &'static str,
    /// What it had to keep to.
    pub(crate) objectives: Objectives,
    pub(crate) under: Under,
    pub(crate) consistency: Option<backup_core::contracts::Consistency>,
    /// What a database was dumped from and by.
    pub(crate) tools: Vec<Tool>,
    pub(crate) outcome: DrillOutcome,
    /// The repository, when it could be opened.
    pub(crate) repository: Option<Repository>,
    /// How long the newest snapshot would take, when another one was drilled: from the drills of this copy.
    pub(crate) estimate: Option<Estimate>,
    /// Why the repository does not know of it.
    pub(crate) unrecorded: Option<String>,
}

impl Drilled {
    /// What the program ends with.
    pub(crate) fn exit(&self, session: &Session) -> Exit {
        match &self.outcome.verdict {
            _ if session.cancel.requested() => Exit::Interrupted,
            Verdict::Passed if self.missed().is_empty() => Exit::Done,
            Verdict::Passed => Exit::Missed,
            Verdict::Failed { .. } | Verdict::NotRun { .. } => Exit::Missed,
        }
    }

    /// What it showed of the two objectives: how old the state is, and how long the restore took.
    pub(crate) fn judged(&self) -> (RecoveryTime, RecoveryTime) {
        let point = RecoveryTime::of_point(&self.outcome, &self.times, &self.objectives, self.how);
        (point, RecoveryTime::of_restore(&self.outcome, &self.objectives))
    }

    /// The objectives that were missed, for people.
    pub(crate) fn missed(&self) -> Vec<String> {
        let (point, time) = self.judged();
        let told = |seconds: u64| amounts::whole_span(Duration::from_secs(seconds).as_secs_f64());
        let allowed = |judged: &RecoveryTime| told(judged.objective_seconds.unwrap_or_default());
        let mut missed = Vec::new();
        if time.is_met == Some(false) {
            let took = amounts::span(self.outcome.verified().unwrap_or_default().as_secs_f64());
            missed.push(format!("it took {took}, where {} are allowed", allowed(&time)));
        }
        if point.is_met == Some(false) {
            let age = told(point.age_seconds.and_then(|age| u64::try_from(age).ok()).unwrap_or_default());
            missed.push(format!("the state that came back was {age} old, where {} are allowed", allowed(&point)));
        }
        missed
    }

    /// The snapshot, for a record.
    pub(crate) fn figures(&self) -> Option<SnapshotFigures> {
        let (id, snapshot) = self.chosen.as_ref()?;
        Some(SnapshotFigures {
            id: *id,
            time: snapshot.time,
            chosen: self.how.to_owned(),
            host: snapshot.hostname.clone(),
            paths: snapshot.paths.clone(),
            recovery_point: None,
            recovery_point_from: None,
            newest: None,
            consistency: self.consistency,
            tools: self.tools.clone(),
            logical_bytes: None,
            stored_bytes: None,
        })
    }
}

/// Runs a drill and tells the repository of it.
///
/// # Errors
///
/// Only what the caller asked for wrongly, and a stop that was asked for before there was anything to stop.
pub(crate) fn run(asked: &Asked<'_>, session: &Session) -> Result<Drilled, Failure> {
    clear(&asked.sandboxes.parent, session);
    let copy = asked.copy.under_test(asked.caching, session)?;
    let began = Timestamp::now();
    let mut watch = Stopwatch::begin();
    let mut drilled = Drilled {
        copy,
        times: Times { began, ended: began },
        chosen: None,
        how: match (&asked.choice, asked.query.at) {
            // The latest of a time gone by is none of today.
            (Choice::Latest, Some(_)) => "at",
            (choice, _) => choice.word(),
        },
        objectives: asked.objectives,
        under: asked.under,
        consistency: None,
        tools: Vec::new(),
        outcome: DrillOutcome::ended_early(Verdict::Passed, Vec::new()),
        repository: None,
        estimate: None,
        unrecorded: None,
    };
    let opened = watch.time(StageName::Open, || open(asked, &mut drilled, session));
    let thawed = opened.and_then(|()| match asked.thaw {
        Some(thaw) => watch.time(StageName::Thaw, || bring_out(thaw, asked, &drilled, session)),
        None => Ok(()),
    });
    drilled.outcome = match thawed {
        Ok(()) => match watch.time(StageName::Open, || look(asked, &mut drilled, session))? {
            Ok(found) => restore(asked, &drilled, found, watch, session),
            Err(outcome) => DrillOutcome { stages: watch.stages().to_vec(), ..outcome },
        },
        Err(failure) if matches!(failure.exit, Exit::Usage | Exit::Interrupted) => return Err(failure),
        Err(failure) => {
            let reason = failure.what;
            let verdict = if failure.is_damage { Verdict::Failed { reason } } else { Verdict::NotRun { reason } };
            DrillOutcome::ended_early(verdict, watch.stages().to_vec())
        }
    };
    drilled.times.ended = Timestamp::now();
    if let (Some(repository), Some((id, _))) = (&drilled.repository, &drilled.chosen) {
        // Records that cannot be read say nothing, and that is what the evidence then says.
        let records = repository.records().unwrap_or_default();
        drilled.copy.hear(records.iter().map(|(_, record)| record), *id);
    }
    drilled.unrecorded = record(asked, &drilled);
    drilled.estimate = estimated(asked, &drilled);
    Ok(drilled)
}

/// Waits until what the restore reads has come out of the archive. A database's manifest may be part of that.
fn bring_out(thaw: &ThawArgs, asked: &Asked<'_>, drilled: &Drilled, session: &Session) -> Result<(), Failure> {
    let archive = asked.copy.locate(session)?.archive(session)?;
    let (Some(repository), Some((_, snapshot))) = (&drilled.repository, &drilled.chosen) else { return Ok(()) };
    let reporter = session.console.reporter();
    let folder = sandboxes::folder_of(snapshot);
    let wanted = Wanted { repository, snapshot, path: folder.as_ref() };
    let came = thawed(thaw, &archive, wanted, Asking::Now, session, &*reporter);
    reporter.finish();
    came.map(drop).map_err(|failure| Failure { what: format!("thaw: {}", failure.what), ..failure })
}

/// What killed drills left.
pub(crate) fn clear(parent: &Path, session: &Session) {
    // A folder that cannot be read is told when a sandbox is to be made there.
    for leftover in remove_leftovers(parent).unwrap_or_default() {
        let path = leftover.path.display();
        match leftover.removed {
            Ok(()) => session.console.note(&format!("removed {path}, left by a drill that was killed")),
            Err(error) => session.console.warn(&format!("{path}, left by a drill that was killed, stays: {error}")),
        }
    }
}

/// What was found in the repository.
struct Found {
    part: Option<SnapshotPath>,
    report: Report,
    sandbox: Box<dyn backup_core::contracts::Sandbox>,
    questions: Vec<backup_core::drill::UserCheck>,
}

/// From here on it is known what is drilled: whatever goes wrong is recorded of it.
fn open(asked: &Asked<'_>, drilled: &mut Drilled, session: &Session) -> Result<(), Failure> {
    let repository = drilled.repository.insert(asked.copy.open(asked.caching, session)?);
    drilled.chosen = Some(find(repository, asked, drilled.copy.name.as_deref())?);
    Ok(())
}

/// What the snapshot holds, and the sandbox for it; or what came of the drill, when that could not be found out.
fn look(asked: &Asked<'_>, drilled: &mut Drilled, session: &Session) -> Result<Result<Found, DrillOutcome>, Failure> {
    let ended = |verdict| Ok(Err(DrillOutcome::ended_early(verdict, Vec::new())));
    let (Some(repository), Some((_, snapshot))) = (&drilled.repository, &drilled.chosen) else {
        return ended(Verdict::NotRun { reason: "no snapshot was found".to_owned() });
    };
    let contents = match sandboxes::Contents::of(repository, snapshot, session) {
        Ok(contents) => contents,
        Err(error) if *error.kind() == ErrorKind::Cancelled => return Err(error.into()),
        Err(error) => return Ok(Err(DrillOutcome::of_unreadable(&error, Vec::new()))),
    };
    drilled.consistency = contents.manifest.as_ref().map(|manifest| manifest.report.consistency);
    drilled.tools = contents.manifest.iter().flat_map(|manifest| manifest.report.tools.clone()).collect();
    let made = questions::of(asked.checks, contents.engine())
        .and_then(|questions| Ok((asked.sandboxes.make(&contents, snapshot, &questions, session)?, questions)));
    let (sandbox, questions) = match made {
        Ok(made) => made,
        Err(failure) if failure.exit == Exit::Interrupted => return Err(failure),
        // Who names a repository has said it on this very command line. What a configuration has wrong is found at
        // night, by nobody, unless it is told like any other drill that could not run.
        Err(failure) if failure.exit == Exit::Usage && matches!(asked.copy, CopyRef::Nth(_)) => return Err(failure),
        Err(failure) => return ended(Verdict::NotRun { reason: failure.what }),
    };
    let part = match &asked.runbook {
        Some(_) => contents.part.or_else(|| sandboxes::restored_by_runbook(snapshot)),
        None => contents.part,
    };
    let report = contents.manifest.map(|manifest| manifest.report).unwrap_or_default();
    Ok(Ok(Found { part, report, sandbox, questions }))
}

fn find(repository: &Repository, asked: &Asked<'_>, copy: Option<&str>) -> Result<(SnapshotId, Snapshot), Failure> {
    if asked.choice == Choice::Latest {
        let (Some(job), Some(copy), None) = (asked.job, copy, &asked.query.path) else {
            return Ok(repository.find_snapshot("latest", &asked.query)?);
        };
        let mut snapshots = repository.snapshots()?;
        snapshots.retain(|(_, snapshot)| asked.query.matches(snapshot));
        let last = evidence::last_drills(job).of_parts(copy, sandboxes::part_of);
        let found = newest_in_turn(&snapshots, |snapshot| sandboxes::part_of(&snapshot.paths), &last);
        // Without any, the words of whoever looks for the latest.
        return found.cloned().map_or_else(|| Ok(repository.find_snapshot("latest", &asked.query)?), Ok);
    }
    let mut snapshots = repository.snapshots()?;
    snapshots.retain(|(_, snapshot)| asked.query.matches(snapshot));
    let found = choose(&snapshots, &asked.choice);
    found.cloned().map_err(|error: Error| match (&asked.choice, error.kind()) {
        (Choice::Id(_), ErrorKind::NotFound(_)) => Failure { exit: Exit::Usage, ..error.into() },
        _ => error.into(),
    })
}

fn restore(asked: &Asked<'_>, drilled: &Drilled, found: Found, watch: Stopwatch, session: &Session) -> DrillOutcome {
    let (Some(repository), Some((id, snapshot))) = (&drilled.repository, &drilled.chosen) else {
        let reason = "no snapshot was found".to_owned();
        return DrillOutcome::ended_early(Verdict::NotRun { reason }, watch.stages().to_vec());
    };
    let task = DrillTask {
        repository,
        id: *id,
        snapshot,
        part: found.part,
        report: &found.report,
        questions: &found.questions,
        lock: session.globals.shared_lock(),
    };
    if let Some(reason) = asked.limit.and_then(|limit| too_long(repository, asked.job, (*id, snapshot), limit)) {
        return DrillOutcome::ended_early(Verdict::NotRun { reason }, watch.stages().to_vec());
    }
    let reporter = session.console.reporter();
    let shell = match &asked.runbook {
        Some((_, copy)) => match commands::Shell::of(copy, asked.sandboxes.place.bin.as_deref(), session) {
            Ok(shell) => Some(shell),
            Err(failure) => {
                let verdict = Verdict::NotRun { reason: format!("runbook: {}", failure.what) };
                return DrillOutcome::ended_early(verdict, watch.stages().to_vec());
            }
        },
        None => None,
    };
    let work = |cancel: &Cancel| match (&asked.runbook, &shell) {
        (Some((command, _)), Some(shell)) => {
            let mut restorer =
                |entrance: &Entrance, cancel: &Cancel| commands::execute(command, entrance, shell, *id, cancel);
            drill_by(&task, found.sandbox, Some(&mut restorer), watch, cancel, &*reporter)
        }
        _ => drill(&task, found.sandbox, watch, cancel, &*reporter),
    };
    let outcome = within(asked.limit.unwrap_or(DRILL_LIMIT_DEFAULT), &session.cancel, work);
    reporter.finish();
    outcome
}

/// The estimate for the newest snapshot, where it is not the one that was measured.
fn estimated(asked: &Asked<'_>, drilled: &Drilled) -> Option<Estimate> {
    let (repository, (id, _)) = (drilled.repository.as_ref()?, drilled.chosen.as_ref()?);
    if asked.choice == Choice::Latest {
        return None;
    }
    let (newest, snapshot) =
        repository.find_snapshot("latest", &asked.query).ok().filter(|(newest, _)| newest != id)?;
    let past = past_drills(repository, newest, asked.job)?;
    estimate(&samples(&past), snapshot.summary.as_ref()?.total_bytes_processed, StageName::is_technical)
}

/// The drills of this copy: those of the snapshot and of the job.
fn past_drills(repository: &Repository, snapshot: SnapshotId, job: Option<&str>) -> Option<Vec<PastDrill>> {
    let records = repository.records().ok()?;
    let past = records.iter().filter_map(|(_, record)| PastDrill::from_record(record, ""));
    Some(past.filter(|past| past.snapshot == Some(snapshot) || past.figures.job.as_deref() == job).collect())
}

/// Why a drill is not begun: that past ones, from which it can be told well, say that it will not be done in time. A
/// guess keeps none from being tried.
fn too_long(
    repository: &Repository,
    job: Option<&str>,
    (id, snapshot): (SnapshotId, &Snapshot),
    limit: Duration,
) -> Option<String> {
    let past = past_drills(repository, id, job)?;
    let bytes = snapshot.summary.as_ref()?.total_bytes_processed;
    let estimate = estimate(&samples(&past), bytes, |stage| stage != StageName::Open)?;
    let is_over = estimate.confidence == Confidence::High && estimate.median > limit;
    is_over.then(|| {
        let [takes, limit] = [estimate.median, limit].map(|time| amounts::whole_span(time.as_secs_f64()));
        format!("time: by the drills there were it takes {takes}, and its limit is {limit}")
    })
}

/// Tells the repository, so that `status` and retention know; returns why it could not.
fn record(asked: &Asked<'_>, drilled: &Drilled) -> Option<String> {
    let (repository, (id, _)) = (drilled.repository.as_ref()?, drilled.chosen.as_ref()?);
    // A database's folder is all that its snapshot has.
    let written = write_down(repository, *id, asked.job, Extent::Whole, &drilled.outcome);
    written.err().map(|error| Failure::from(error).what)
}
