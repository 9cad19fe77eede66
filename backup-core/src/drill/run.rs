//! A drill, from the open repository to the removed sandbox.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::answers::UserCheck;
use super::entries::with_entries;
use super::outcome::{DrillOutcome, PointSource, RUNBOOK_RESTORES, Verdict, is_disk_full, level_reached};
use super::stages::{StageName, Stopwatch};
use super::stop::stopping;
use crate::cancel::Cancel;
use crate::care::{SnapshotPresence, snapshot_presence};
use crate::contracts::{
    Check, CheckResult, Entrance, Expected, Level, Newest, NotReady, RecoveryPoint, Report, Sandbox, SandboxError,
};
use crate::limits::{DRILL_PROBLEMS_NAMED_MAX, DRILL_STOP_GRACE};
use crate::model::{Snapshot, SnapshotId, SnapshotPath};
use crate::observe::{Amount, Event, Observer, Phase, Severity};
use crate::pipeline::{RestoreOptions, RestoreOutcome, restore_by, restored_amount};
use crate::repository::{Index, LockMode, Repository};

/// What is drilled.
#[derive(Debug)]
pub struct DrillTask<'a> {
    /// The copy under test.
    pub repository: &'a Repository,
    /// The snapshot's id.
    pub id: SnapshotId,
    /// The snapshot.
    pub snapshot: &'a Snapshot,
    /// What of it: the folder of one database. `None` for all, under absolute paths.
    pub part: Option<SnapshotPath>,
    /// The source's last word, from the manifest; the default where there is none.
    pub report: &'a Report,
    /// What the user wants to know of the restored data.
    pub questions: &'a [UserCheck],
    /// The lock to take on the repository.
    pub lock: LockMode,
}

/// What came of a restore that others did.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What they say of it.
    pub outcome: RestoreOutcome,
    /// The command that did it, as a runbook has it.
    pub command: String,
    /// What they could not restore, [`DRILL_PROBLEMS_NAMED_MAX`] at most.
    pub problems: Vec<String>,
    /// What a reader of the result must know beside.
    pub warnings: Vec<String>,
}

/// Restores through a sandbox's entrance ([`Sandbox::entrance`]) by other means than the pipeline, until it is asked to
/// stop. `Failed` says that the restore does not work; what stood in its way is `NotRun`.
pub type Restorer<'a> = dyn FnMut(&Entrance, &Cancel) -> Result<Restored, Verdict> + 'a;

/// Restores the snapshot into the sandbox, compares, and removes the sandbox again.
///
/// `watch` was begun by the caller before the repository was opened, and has that as its first stage. There is no error:
/// whatever goes wrong is a verdict.
pub fn drill(
    task: &DrillTask<'_>,
    sandbox: Box<dyn Sandbox>,
    watch: Stopwatch,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> DrillOutcome {
    drill_by(task, sandbox, None, watch, cancel, observer)
}

/// The same, with a restorer in place of the pipeline: a runbook's own command. Everything else, the comparison above
/// all, is as in any drill.
pub fn drill_by(
    task: &DrillTask<'_>,
    mut sandbox: Box<dyn Sandbox>,
    restorer: Option<&mut Restorer<'_>>,
    watch: Stopwatch,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> DrillOutcome {
    let mut run = Run {
        task,
        watch,
        cancel,
        observer,
        checks: Vec::new(),
        told: Vec::new(),
        warnings: Vec::new(),
        stored_bytes: None,
        restored: None,
        point: None,
        newest: None,
        commands: Vec::new(),
        restorer,
        is_made: false,
    };
    let ended = run.through(&mut *sandbox);
    let facts = run.is_made.then(|| sandbox.facts());
    let caveats = sandbox.caveats();
    let mut warnings = std::mem::take(&mut run.warnings);
    warnings.extend(caveats.warnings);
    if let Err(error) = run.watch.time(StageName::Remove, || sandbox.remove()) {
        warnings.push(format!("the sandbox could not be removed: {error}"));
    }
    let Run { watch, checks, told, stored_bytes, restored, point, newest, commands, .. } = run;
    let mut not_tested = caveats.not_tested;
    if !commands.is_empty() {
        not_tested.push("the command's own target: the sandbox was put in its place".to_owned());
    }
    not_tested.push("level 6, a restore to an instant between two backups: there are snapshots only".to_owned());
    let level = level_reached(&checks);
    DrillOutcome {
        verdict: verdict(ended, &checks, level),
        level,
        checks,
        stages: watch.into_stages(),
        sandbox: facts,
        stored_bytes,
        restored,
        recovery_point: point,
        newest,
        commands,
        warnings,
        not_tested,
        told,
    }
}

fn verdict(ended: Result<(), Verdict>, checks: &[Check], level: Option<Level>) -> Verdict {
    // What was found wrong outweighs what stood in the way afterwards.
    let mut failed = checks.iter().filter(|check| check.result == CheckResult::Failed);
    if let Some(first) = failed.next() {
        let more = match failed.count() {
            0 => String::new(),
            count => format!(", and {count} more"),
        };
        let why = first.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
        return Verdict::Failed { reason: format!("{}{why}{more}", first.id) };
    }
    match ended {
        Err(verdict) => verdict,
        Ok(()) if level < Some(Level::PROVEN) => {
            Verdict::NotRun { reason: "there was nothing to compare the restored data with".to_owned() }
        }
        Ok(()) => Verdict::Passed,
    }
}

/// A drill that is under way.
struct Run<'a, 'r> {
    task: &'a DrillTask<'a>,
    watch: Stopwatch,
    cancel: &'a Cancel,
    observer: &'a dyn Observer,
    checks: Vec<Check>,
    told: Vec<String>,
    warnings: Vec<String>,
    stored_bytes: Option<u64>,
    restored: Option<RestoreOutcome>,
    point: Option<(RecoveryPoint, PointSource)>,
    newest: Option<Newest>,
    commands: Vec<String>,
    restorer: Option<&'a mut Restorer<'r>>,
    is_made: bool,
}

impl Run<'_, '_> {
    fn through(&mut self, sandbox: &mut dyn Sandbox) -> Result<(), Verdict> {
        let (task, cancel, observer) = (self.task, self.cancel, self.observer);
        self.point = Some(match &task.report.recovery_point {
            Some(point) => (point.clone(), PointSource::Manifest),
            None => (task.snapshot.time.into(), PointSource::SnapshotTime),
        });
        let lock = task.repository.lock(task.lock, observer).map_err(|error| Verdict::of_error(&error))?;
        let load = || {
            let index = task.repository.load_index(observer)?;
            lock.confirm(observer)?;
            Ok(index)
        };
        let index = self.watch.time(StageName::Index, load).map_err(|error| Verdict::of_error(&error))?;
        self.present(&index)?;
        let expected = self.measure(&index)?;
        self.provision(sandbox, expected)?;
        // A command of a runbook ends by itself when it is asked to, and gives its lock back.
        let grace = if self.restorer.is_some() { DRILL_STOP_GRACE } else { Duration::ZERO };
        let (ended, lacking) = stopping(cancel, sandbox.stopper(), grace, || self.within(sandbox, &index));
        match (ended, lacking) {
            // Whatever its programs complained of then.
            (Err(_), Some(lacking)) => return Err(Verdict::NotRun { reason: format!("disk: {lacking}") }),
            (ended, _) => ended?,
        }
        cancel.check().map_err(|error| Verdict::of_error(&error))?;
        lock.check().map_err(|error| Verdict::of_error(&error))
    }

    /// Everything that is done in a sandbox that was started.
    fn within(&mut self, sandbox: &mut dyn Sandbox, index: &Index) -> Result<(), Verdict> {
        self.restore(sandbox, index)?;
        let ready = self.watch.time(StageName::Ready, || sandbox.ready());
        self.stands(ready, sandbox, "restored data answers", Level::Restored)?;
        self.checks.push(Check::passed("restored data answers", Level::Restored));
        self.examine(sandbox, index)?;
        // Of what is not as it was nothing is a witness.
        if self.stop_if_failed().is_ok() {
            self.newest = sandbox.newest();
        }
        self.ask(sandbox)
    }

    /// Level 0.
    fn present(&mut self, index: &Index) -> Result<(), Verdict> {
        let (task, cancel, observer) = (self.task, self.cancel, self.observer);
        observer.event(Event::Phase { phase: Phase::Check, total: None });
        let look = || snapshot_presence(task.repository, index, task.snapshot.tree, cancel, observer);
        let found = self.watch.time(StageName::Present, look).map_err(|error| Verdict::of_error(&error))?;
        let SnapshotPresence { packs, stored_bytes, absent, absent_names, unreadable } = found;
        self.watch.amount(Some(stored_bytes), Some(packs));
        self.stored_bytes = Some(stored_bytes);
        let there = Check::compare("blobs not in the store", Level::Present, 0, absent);
        self.checks.push(match absent {
            0 => there.with_detail(format!("{packs} packs are listed with their sizes")),
            _ => there.with_detail(absent_names.join(", ")),
        });
        if !unreadable.is_empty() {
            self.checks.push(Check::failed("folders can be read", Level::Read, unreadable.join(", ")));
        }
        self.stop_if_failed()
    }

    /// How much will be restored.
    fn measure(&self, index: &Index) -> Result<Amount, Verdict> {
        let Self { task, cancel, .. } = self;
        restored_amount(index, task.repository, task.snapshot, task.part.as_ref(), cancel)
            .map_err(|error| Verdict::of_error(&error))
    }

    fn provision(&mut self, sandbox: &mut dyn Sandbox, expected: Amount) -> Result<(), Verdict> {
        let cancel = self.cancel;
        let started = self.watch.time(StageName::Provision, || sandbox.start(expected, cancel));
        match started {
            Ok(()) => {
                self.is_made = true;
                Ok(())
            }
            // An empty engine that does not start says nothing of the backup.
            Err(NotReady::Failed(error)) => Err(full(&error.to_string()).unwrap_or_else(|| not_run(error))),
            Err(NotReady::CannotRun { reason, .. }) => Err(Verdict::NotRun { reason }),
        }
    }

    /// Level 1: every byte that reaches the target was opened and hashed.
    fn restore(&mut self, sandbox: &mut dyn Sandbox, index: &Index) -> Result<(), Verdict> {
        if let Some(restorer) = self.restorer.take() {
            return self.restore_by_command(sandbox, restorer);
        }
        let task = self.task;
        let target = sandbox.target();
        let target = self.stands(target, sandbox, "dump can be understood", Level::Parsed)?;
        let listener = Listener { inner: self.observer, lost: Mutex::default() };
        let options = self.options();
        let cancel = self.cancel;
        let (restored, shortage) = self.watch.time(StageName::Restore, || {
            let restored = restore_by(index, task.repository, task.snapshot, &*target, &options, cancel, &listener);
            // Before the target takes its copy of the dump away.
            let shortage = if restored.is_err() { sandbox.shortage() } else { None };
            // An engine may have its last word only now.
            drop(target);
            (restored, shortage)
        });
        let Lost { problems, is_of_store } = listener.lost.into_inner().unwrap_or_else(PoisonError::into_inner);
        let outcome = match restored {
            Ok(outcome) => outcome,
            Err(error) => {
                return Err(match Verdict::of_error(&error) {
                    // An engine whose work is stopped complains of it.
                    Verdict::Failed { reason } if cancel.requested() => Verdict::NotRun { reason },
                    Verdict::Failed { reason } => {
                        let is_engines = matches!(error.kind(), crate::ErrorKind::Target(_));
                        // An engine without space ends in words of its own.
                        if let Some(shortage) = shortage.filter(|_| is_engines && !is_of_store) {
                            return Err(Verdict::NotRun { reason: format!("disk: {shortage}: {reason}") });
                        }
                        // What did not come out of the store whole is why an engine then has too little.
                        if !problems.is_empty() {
                            let lost = problems.join("; ");
                            self.checks.push(Check::failed("entries not restored", Level::Read, lost));
                        }
                        let level = if is_engines { Level::Restored } else { Level::Read };
                        self.checks.push(Check::failed("snapshot is restored", level, reason.clone()));
                        Verdict::Failed { reason }
                    }
                    verdict => verdict,
                });
            }
        };
        self.watch.amount(Some(outcome.bytes), Some(self.items(&outcome)));
        if !is_of_store {
            self.go_on()?;
        }
        self.losses(outcome, &problems)
    }

    /// How many things a restore brings back: rows, documents or keys of a database, as its source counted them, else
    /// entries.
    fn items(&self, outcome: &RestoreOutcome) -> u64 {
        self.task.report.rows().unwrap_or(outcome.files + outcome.dirs + outcome.others)
    }

    /// What was not restored is a failure, unless there was no room for it.
    fn losses(&mut self, outcome: RestoreOutcome, problems: &[String]) -> Result<(), Verdict> {
        if let Some(full) = problems.iter().find_map(|problem| full(problem)) {
            return Err(full);
        }
        let read = Check::compare("entries not restored", Level::Read, 0, outcome.losses);
        self.checks.push(if problems.is_empty() { read } else { read.with_detail(problems.join("; ")) });
        self.restored = Some(outcome);
        self.stop_if_failed()
    }

    /// The same by a command, whose own words of what it lost are taken.
    fn restore_by_command(&mut self, sandbox: &dyn Sandbox, restorer: &mut Restorer<'_>) -> Result<(), Verdict> {
        let entrance = sandbox.entrance();
        let entrance = entrance.map_err(|why| Verdict::NotRun { reason: format!("runbook: {why}") })?;
        let cancel = self.cancel;
        let (restored, shortage) = self.watch.time(StageName::Restore, || {
            let restored = restorer(&entrance, cancel);
            let shortage = if restored.is_err() { sandbox.shortage() } else { None };
            (restored, shortage)
        });
        let restored = restored.map_err(|verdict| match verdict {
            Verdict::Failed { reason } => self.command_failed(reason, shortage),
            verdict => verdict,
        })?;
        let Restored { outcome, command, problems, warnings } = restored;
        self.watch.amount(Some(outcome.bytes), Some(self.items(&outcome)));
        self.commands.push(command);
        self.warnings.extend(warnings);
        self.losses(outcome, &problems)
    }

    /// A command that cannot be followed is a runbook that does not work, unless there was no room for what it restores.
    fn command_failed(&mut self, reason: String, shortage: Option<String>) -> Verdict {
        if let Some(full) = full(&reason) {
            return full;
        }
        if let Some(shortage) = shortage {
            return Verdict::NotRun { reason: format!("disk: {shortage}: {reason}") };
        }
        self.checks.push(Check::failed(RUNBOOK_RESTORES, Level::Restored, reason.clone()));
        Verdict::Failed { reason }
    }

    /// Level 4.
    fn examine(&mut self, sandbox: &mut dyn Sandbox, index: &Index) -> Result<(), Verdict> {
        let (task, cancel, observer) = (self.task, self.cancel, self.observer);
        observer.event(Event::Phase { phase: Phase::Verify, total: None });
        let until = self.point.as_ref().map_or(task.snapshot.time, |(point, _)| point.time);
        let compare = || {
            with_entries(task.repository, index, task.snapshot, task.part.as_ref(), cancel, |entries| {
                sandbox.examine(Expected { report: task.report, entries, until }, cancel)
            })
        };
        let examined = self.watch.time(StageName::Examine, compare);
        let amount = self.restored.as_ref().map(|restored| (restored.bytes, self.items(restored)));
        self.watch.amount(amount.map(|(bytes, _)| bytes), amount.map(|(_, items)| items));
        let checks = self.stands(examined, sandbox, "restored data can be examined", Level::Examined)?;
        self.go_on()?;
        self.checks.extend(checks);
        Ok(())
    }

    /// Level 5. Asked even where something differs: the answers tell how much.
    fn ask(&mut self, sandbox: &mut dyn Sandbox) -> Result<(), Verdict> {
        let (task, cancel) = (self.task, self.cancel);
        if task.questions.is_empty() {
            return Ok(());
        }
        let mut answers = Vec::with_capacity(task.questions.len());
        self.watch.time(StageName::Ask, || {
            answers.extend(task.questions.iter().map(|check| (check, sandbox.ask(&check.question, cancel))));
        });
        let now = task.repository.clock().now();
        let point = self.point.as_ref().map_or(now, |(point, _)| point.time);
        for (check, answer) in answers {
            match answer {
                Ok(answer) => {
                    let newest = check.newest(&answer, point).map(|newest| newest.or_newer(self.newest));
                    self.newest = newest.or(self.newest);
                    if let Some(shown) = check.recovery_point(&answer, point) {
                        self.point = Some((shown.into(), PointSource::RestoredData));
                    }
                    let (judged, told) = check.judge(&answer, point, now);
                    self.checks.push(judged);
                    self.told.extend(told);
                }
                Err(error) if error.is_ours || cancel.requested() => return Err(not_run(error)),
                Err(error) if is_disk_full(&error.reason) || sandbox.shortage().is_some() => {
                    return Err(Verdict::NotRun { reason: format!("disk: {} could not be asked", check.id()) });
                }
                // What the engine says of it may quote the data.
                Err(error) => {
                    self.told.push(format!("{}: {error}", check.id()));
                    self.checks.push(Check::failed(check.id(), Level::Asked, "it could not be asked"));
                }
            }
        }
        Ok(())
    }

    /// A step of the sandbox: its failure is the drill's unless the reason lies on this side.
    fn stands<T>(
        &mut self,
        step: Result<T, SandboxError>,
        sandbox: &dyn Sandbox,
        id: &str,
        level: Level,
    ) -> Result<T, Verdict> {
        step.map_err(|error| {
            let reason = error.to_string();
            if let Some(full) = full(&reason) {
                return full;
            }
            if error.is_ours || self.cancel.requested() {
                return not_run(error);
            }
            if let Some(shortage) = sandbox.shortage() {
                return Verdict::NotRun { reason: format!("disk: {shortage}: {reason}") };
            }
            self.checks.push(Check::failed(id, level, reason.clone()));
            Verdict::Failed { reason }
        })
    }

    /// An end when a stop was asked for: what is seen from then on is of a sandbox whose programs were ended.
    fn go_on(&self) -> Result<(), Verdict> {
        self.cancel.check().map_err(|error| Verdict::of_error(&error))
    }

    fn stop_if_failed(&self) -> Result<(), Verdict> {
        match self.checks.iter().find(|check| check.result == CheckResult::Failed) {
            Some(check) => Err(Verdict::Failed { reason: check.id.clone() }),
            None => Ok(()),
        }
    }

    fn options(&self) -> RestoreOptions {
        RestoreOptions { path: self.task.part.clone(), lock: LockMode::None, ..RestoreOptions::default() }
    }
}

/// That there was no room, when these words say so.
fn full(words: &str) -> Option<Verdict> {
    is_disk_full(words).then(|| Verdict::NotRun { reason: format!("disk: {words}") })
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn not_run(error: SandboxError) -> Verdict {
    Verdict::NotRun { reason: error.to_string() }
}

/// Passes everything on and keeps what was lost.
#[derive(Debug)]
struct Listener<'a> {
    inner: &'a dyn Observer,
    lost: Mutex<Lost>,
}

/// What was not restored.
#[derive(Debug, Default)]
struct Lost {
    problems: Vec<String>,
    /// Whether something of it did not come out of the store.
    is_of_store: bool,
}

/// What is being done to an entry when the store fails it, and not the target.
const OF_STORE: [&str; 2] = ["restore", "read the entries of"];

impl Observer for Listener<'_> {
    fn event(&self, event: Event<'_>) {
        if let Event::Problem(problem) = &event
            && problem.severity == Severity::Loss
        {
            let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
            lost.is_of_store |= OF_STORE.contains(&problem.action);
            if lost.problems.len() < DRILL_PROBLEMS_NAMED_MAX {
                lost.problems.push(format!("{} {}: {}", problem.action, problem.path, problem.reason));
            }
        }
        self.inner.event(event);
    }
}
