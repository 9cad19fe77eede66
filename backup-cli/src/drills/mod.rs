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
use backup_core::contracts::{Entrance, Report};
use backup_core::drill::{
    Choice, DrillOutcome, DrillTask, Estimate, Extent, PastDrill, StageName, Stopwatch, Verdict, choose, drill,
    drill_by, estimate, newest_in_turn, samples, within, write_down,
};
use backup_core::evidence::{CopyUnderTest, Objectives, SnapshotFigures, Times};
use backup_core::model::{Snapshot, SnapshotId, SnapshotPath};
use backup_core::repository::{Repository, SnapshotQuery};
use backup_core::runbook::RestoreCommand;
use backup_core::{Error, ErrorKind};
use backup_sources::sandbox::remove_leftovers;
use jiff::Timestamp;

use crate::config::{self, DrillCheck};
use crate::exit::{Exit, Failure};
use crate::located::Located;
use crate::network::Caching;
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
    /// The runbook's command that restores it, and the copy's settings, in place of this process.
    pub(crate) runbook: Option<(RestoreCommand, &'a config::Repository)>,
    /// How long it may take once the snapshot is found.
    pub(crate) limit: Option<Duration>,
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
            Self::Configured(repository) => session.open_configured_through(repository, None, caching),
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
        let Located { place, name, .. } = self.locate(session)?;
        Ok(CopyUnderTest { place: place.to_string(), name, is_cold: caching == Caching::Forbidden })
    }
}

/// A drill that was.
#[derive(Debug)]
pub(crate) struct Drilled {
    pub(crate) copy: CopyUnderTest,
    pub(crate) times: Times,
    pub(crate) chosen: Option<(SnapshotId, Snapshot)>,
    pub(crate) how: &'static str,
    pub(crate) consistency: Option<backup_core::contracts::Consistency>,
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
            Verdict::Passed => Exit::Done,
            Verdict::Failed { .. } | Verdict::NotRun { .. } => Exit::Missed,
        }
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
            consistency: self.consistency,
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
        how: asked.choice.word(),
        consistency: None,
        outcome: DrillOutcome::ended_early(Verdict::Passed, Vec::new()),
        repository: None,
        estimate: None,
        unrecorded: None,
    };
    let found = watch.time(StageName::Open, || open(asked, &mut drilled, session));
    let found = match (found, asked.thaw) {
        (Ok(found), Some(thaw)) => {
            watch.time(StageName::Thaw, || bring_out(thaw, asked, &drilled, &found, session)).map(|()| found)
        }
        (found, _) => found,
    };
    drilled.outcome = match found {
        Ok(found) => restore(asked, &drilled, found, watch, session),
        Err(failure) if matches!(failure.exit, Exit::Usage | Exit::Interrupted) => return Err(failure),
        Err(failure) => {
            let reason = failure.what;
            let verdict = if failure.is_damage { Verdict::Failed { reason } } else { Verdict::NotRun { reason } };
            DrillOutcome::ended_early(verdict, watch.stages().to_vec())
        }
    };
    drilled.times.ended = Timestamp::now();
    drilled.unrecorded = record(asked, &drilled);
    drilled.estimate = estimated(asked, &drilled);
    Ok(drilled)
}

/// Waits until what the restore reads has come out of the archive.
fn bring_out(
    thaw: &ThawArgs,
    asked: &Asked<'_>,
    drilled: &Drilled,
    found: &Found,
    session: &Session,
) -> Result<(), Failure> {
    let archive = asked.copy.locate(session)?.archive(session)?;
    let (Some(repository), Some((_, snapshot))) = (&drilled.repository, &drilled.chosen) else { return Ok(()) };
    let reporter = session.console.reporter();
    let wanted = Wanted { repository, snapshot, path: found.part.as_ref() };
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

fn open(asked: &Asked<'_>, drilled: &mut Drilled, session: &Session) -> Result<Found, Failure> {
    let repository = drilled.repository.insert(asked.copy.open(asked.caching, session)?);
    let (id, snapshot) = find(repository, asked, drilled.copy.name.as_deref())?;
    let contents = sandboxes::Contents::of(repository, &snapshot, session)?;
    drilled.consistency = contents.manifest.as_ref().map(|manifest| manifest.report.consistency);
    let questions = questions::of(asked.checks, contents.engine())?;
    let sandbox = asked.sandboxes.make(&contents, &snapshot, &questions, session)?;
    drilled.chosen = Some((id, snapshot));
    let report = contents.manifest.map(|manifest| manifest.report).unwrap_or_default();
    Ok(Found { part: contents.part, report, sandbox, questions })
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
    let outcome = match asked.limit {
        Some(limit) => within(limit, &session.cancel, work),
        None => work(&session.cancel),
    };
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
    let bytes = snapshot.summary.as_ref()?.total_bytes_processed;
    let records = repository.records().ok()?;
    let past: Vec<_> = records
        .iter()
        .filter_map(|(_, record)| PastDrill::from_record(record, ""))
        .filter(|past| past.snapshot == Some(newest) || past.figures.job.as_deref() == asked.job)
        .collect();
    estimate(&samples(&past), bytes, StageName::is_technical)
}

/// Tells the repository, so that `status` and retention know; returns why it could not.
fn record(asked: &Asked<'_>, drilled: &Drilled) -> Option<String> {
    let (repository, (id, _)) = (drilled.repository.as_ref()?, drilled.chosen.as_ref()?);
    // A database's folder is all that its snapshot has.
    let written = write_down(repository, *id, asked.job, Extent::Whole, &drilled.outcome);
    written.err().map(|error| Failure::from(error).what)
}
