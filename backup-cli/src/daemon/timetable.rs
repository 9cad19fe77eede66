//! Which of all jobs, drills and readings is to run next, and when.
//!
//! It only thinks. What has run is known from the repositories, and of what was begun since, from this table; a daemon
//! that was killed forgets only the latter, and the lease of the slot remembers.

use backup_core::policy::JobFacts;
use backup_core::schedule::{Due, Schedule, Settle, due};
use jiff::{SignedDuration, Timestamp};

use crate::config::{Job, Repository, Starts};
use crate::facts::SCAN_EVERY;

/// What is to be run: a verb, and what it is done with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    /// What is done.
    pub(super) verb: Verb,
    /// The name of a job; of a repository, when that is read back.
    pub(super) name: String,
}

impl Task {
    /// Whether it is done with the job of this name.
    pub(super) fn is_of_job(&self, name: &str) -> bool {
        self.verb != Verb::ReadBack && self.name == name
    }
}

/// What is done with a job, or with a repository.
///
/// In the order in which they are begun when they are due for the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verb {
    /// It is backed up.
    Run,
    /// It is backed up, and everything is read.
    ReadAgain,
    /// A restore of it is tried.
    Drill,
    /// All that the repository holds is read and hashed.
    ReadBack,
}

impl Verb {
    /// The word of the command line.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Run | Self::ReadAgain => "run",
            Self::Drill => "drill",
            Self::ReadBack => "check",
        }
    }

    /// Whether it makes a backup.
    pub(super) fn backs_up(self) -> bool {
        matches!(self, Self::Run | Self::ReadAgain)
    }
}

/// A line of the table.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) task: Task,
    when: When,
    /// How long after its slots it begins.
    delay: SignedDuration,
    /// When it was first seen: nothing before is owed until a repository tells of a run.
    seen: Timestamp,
    /// When its last run began, as far as its repositories have told.
    heard: Option<Timestamp>,
    /// The slot of the last run that was begun here, or when that began.
    begun: Option<Timestamp>,
    /// Whether its repositories were asked, whatever they answered.
    is_known: bool,
    /// When its files were first and last seen to change since its last run.
    changed: Option<(Timestamp, Timestamp)>,
}

/// What makes it run.
#[derive(Clone, Debug)]
enum When {
    Schedule(Schedule),
    Change { settle: Settle, schedule: Option<Schedule> },
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This, for this slot; so many were missed before it.
    Run { at: usize, slot: Option<Timestamp>, missed: u64 },
    /// Nothing before this instant.
    Wait(Option<Timestamp>),
}

impl Entry {
    /// The lines of a job, first seen at `now`.
    pub(super) fn of(job: &Job, now: Timestamp) -> Vec<Self> {
        let when = match &job.starts {
            Starts::ByHand => None,
            Starts::Schedule(schedule) => Some(When::Schedule(schedule.clone())),
            Starts::OnChange { settle, schedule } => {
                Some(When::Change { settle: Settle::new(*settle), schedule: schedule.clone() })
            }
        };
        let entry = |verb, when, delay| Self {
            task: Task { verb, name: job.name.clone() },
            when,
            delay,
            seen: now,
            heard: None,
            begun: None,
            is_known: false,
            changed: None,
        };
        let drill = job.drill.as_ref().and_then(|drill| drill.schedule.clone());
        let run = when.map(|when| entry(Verb::Run, when, job.jitter.delay(&job.name)));
        let drill = drill.map(|schedule| {
            entry(Verb::Drill, When::Schedule(schedule), job.jitter.delay(&format!("drill {}", job.name)))
        });
        // The jitter of a job is one: both runs of a slot that they share are the same run.
        let again = job.read_again_runs().cloned();
        let again = again.map(|schedule| entry(Verb::ReadAgain, When::Schedule(schedule), job.jitter.delay(&job.name)));
        run.into_iter().chain(again).chain(drill).collect()
    }

    /// The line of a repository that is read back, first seen at `now`.
    pub(super) fn of_repository(repository: &Repository, now: Timestamp) -> Option<Self> {
        let schedule = repository.read_back.clone()?;
        Some(Self {
            task: Task { verb: Verb::ReadBack, name: repository.name.clone() },
            when: When::Schedule(schedule),
            delay: SignedDuration::ZERO,
            seen: now,
            heard: None,
            begun: None,
            is_known: false,
            changed: None,
        })
    }

    /// When its repository was last read back was heard.
    pub(super) fn hear_read_back(&mut self, last: Option<Timestamp>) {
        self.hear_last(last);
    }

    /// Its repositories were asked, and this is what they told. One that could not be read has told nothing: it may do so
    /// later, and then tell of a run long past.
    pub(super) fn hear(&mut self, facts: &JobFacts) {
        let last = match self.task.verb {
            Verb::Run => last_begun(facts),
            Verb::ReadAgain => last_read_again(facts),
            Verb::Drill => last_restored(facts),
            // Of a repository, no job tells.
            Verb::ReadBack => return,
        };
        // What changed while nobody watched is found by a scan.
        if !self.is_known && matches!(self.when, When::Change { .. }) {
            self.changed = Some((Timestamp::MIN, Timestamp::MIN));
        }
        self.hear_last(last);
    }

    fn hear_last(&mut self, last: Option<Timestamp>) {
        self.heard = self.heard.max(last);
        self.is_known = true;
    }

    /// After when something is owed. What was begun here is newer than what was read of it.
    fn last(&self) -> Timestamp {
        let known = self.heard.max(self.begun);
        known.unwrap_or(self.seen)
    }

    /// Its files were seen to change.
    pub(super) fn change(&mut self, first: Timestamp, last: Timestamp) {
        let (before, _) = self.changed.unwrap_or((first, last));
        self.changed = Some((before.min(first), last));
    }

    /// It begins.
    pub(super) fn begin(&mut self, slot: Option<Timestamp>, now: Timestamp) {
        self.begun = Some(slot.unwrap_or(now));
        self.changed = None;
    }

    /// A run of its job begins: the first one after a slot of `read_again` reads everything.
    pub(super) fn is_run_too(&mut self, now: Timestamp) {
        if self.task.verb == Verb::ReadAgain {
            self.begun = self.begun.max(Some(now));
        }
    }

    /// What it owes.
    fn due(&self, now: Timestamp) -> Due {
        if !self.is_known {
            return Due::Never;
        }
        let by_schedule = |schedule: &Schedule| due(schedule, self.last(), self.delay, now);
        match &self.when {
            When::Schedule(schedule) => by_schedule(schedule),
            When::Change { settle, schedule } => {
                let scan = match schedule {
                    Some(schedule) => by_schedule(schedule),
                    None => not_before(self.last().min(now).checked_add(SCAN_EVERY).unwrap_or(Timestamp::MAX), now),
                };
                let quiet = self.changed.map(|(first, last)| not_before(settle.due(first, last, now), now));
                match (scan, quiet) {
                    (Due::Now { .. }, _) | (_, None) => scan,
                    (_, Some(Due::Now { .. })) => Due::Now { slot: now, missed: 0 },
                    (Due::Not { before: scan }, Some(Due::Not { before })) => Due::Not { before: scan.min(before) },
                    (_, Some(quiet)) => quiet,
                }
            }
        }
    }

    /// When it runs next, as far as is known now.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        match self.due(now) {
            Due::Now { .. } => Some(now),
            Due::Not { before } => Some(before),
            Due::Never => None,
        }
    }

    /// Whether it runs on change: its runs have no slot then.
    pub(super) fn is_on_change(&self) -> bool {
        matches!(self.when, When::Change { .. })
    }
}

fn not_before(instant: Timestamp, now: Timestamp) -> Due {
    if instant <= now { Due::Now { slot: now, missed: 0 } } else { Due::Not { before: instant } }
}

/// What is to be done at `now`: of several that are due, the one whose slot is the oldest, so that none waits for ever;
/// backups before drills of the same slot.
pub(super) fn next(entries: &[Entry], now: Timestamp) -> Next {
    let mut first: Option<(Timestamp, Verb, usize, u64)> = None;
    let mut wait: Option<Timestamp> = None;
    for (at, entry) in entries.iter().enumerate() {
        match entry.due(now) {
            Due::Now { slot, missed } => {
                let candidate = (slot, entry.task.verb, at, missed);
                if first.is_none_or(|first| candidate < first) {
                    first = Some(candidate);
                }
            }
            Due::Not { before } => wait = Some(wait.map_or(before, |wait| wait.min(before))),
            Due::Never => {}
        }
    }
    match first {
        Some((slot, _, at, missed)) => Next::Run { at, slot: (!entries[at].is_on_change()).then_some(slot), missed },
        None => Next::Wait(wait),
    }
}

/// When the last run of a job began, as far as its repositories know: a run that took long must not hide the slot that
/// came meanwhile.
fn last_begun(facts: &JobFacts) -> Option<Timestamp> {
    let histories = || facts.copies.iter().map(|copy| &copy.history);
    let runs = histories()
        .flat_map(|history| &history.runs)
        .map(|run| run.ended.checked_sub(run.took.unwrap_or_default()).unwrap_or(run.ended));
    let backups = histories().flat_map(|history| &history.backups).map(|backup| backup.recovery_point);
    runs.chain(backups).max()
}

/// When the last run began that made a backup: had a slot of `read_again` come before it, it has read everything.
fn last_read_again(facts: &JobFacts) -> Option<Timestamp> {
    let runs = facts.copies.iter().flat_map(|copy| &copy.history.runs);
    let made = runs.filter(|run| run.outcome.made_a_backup());
    made.map(|run| run.ended.checked_sub(run.took.unwrap_or_default()).unwrap_or(run.ended)).max()
}

fn last_restored(facts: &JobFacts) -> Option<Timestamp> {
    let drills = facts.drills.iter().map(|drill| drill.ended);
    let backups = facts.copies.iter().flat_map(|copy| &copy.history.backups);
    drills.chain(backups.filter_map(|backup| backup.restored)).max()
}

#[cfg(test)]
mod tests {
    use backup_core::policy::{DrillVerdict, Outcome, Run};
    use jiff::tz::TimeZone;

    use super::super::view::sample;
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn entry(job: &str, verb: Verb, when: When, last: &str) -> Entry {
        let task = Task { verb, name: job.to_owned() };
        let delay = SignedDuration::ZERO;
        Entry { task, when, delay, seen: at(last), heard: None, begun: None, is_known: true, changed: None }
    }

    fn scheduled(job: &str, text: &str, last: &str) -> Entry {
        entry(job, Verb::Run, When::Schedule(Schedule::parse(text, TimeZone::UTC).unwrap()), last)
    }

    fn on_change(last: &str) -> Entry {
        entry("etc", Verb::Run, When::Change { settle: Settle::default(), schedule: None }, last)
    }

    #[test]
    fn the_oldest_slot_comes_first_and_backups_before_drills() {
        let last = "2026-11-21T12:00:00Z";
        let mut drill = scheduled("a", "0 2 * * *", last);
        drill.task.verb = Verb::Drill;
        let mut entries = vec![drill, scheduled("b", "0 3 * * *", last), scheduled("c", "0 2 * * *", last)];
        let now = at("2026-11-22T04:00:00Z");
        let mut order = Vec::new();
        while let Next::Run { at, slot, missed } = next(&entries, now) {
            order.push(format!("{} {}", entries[at].task.verb.word(), entries[at].task.name));
            assert_eq!(missed, 0);
            entries[at].begin(slot, now);
        }
        assert_eq!(order, ["run c", "drill a", "run b"]);
        assert_eq!(next(&entries, now), Next::Wait(Some(at("2026-11-23T02:00:00Z"))));
    }

    #[test]
    fn nothing_runs_before_it_is_known_when_it_last_ran() {
        let mut unheard = scheduled("a", "0 2 * * *", "2026-11-21T12:00:00Z");
        unheard.is_known = false;
        let now = at("2026-11-22T04:00:00Z");
        assert_eq!(next(&[unheard.clone()], now), Next::Wait(None));
        // Its newest backup is of the evening before last: this night is owed, and makes up for the last.
        unheard.hear(&sample::job("a", 40, DrillVerdict::Passed).facts);
        assert_eq!(next(&[unheard], now), Next::Run { at: 0, slot: Some(at("2026-11-22T02:00:00Z")), missed: 1 });
    }

    #[test]
    fn a_job_without_a_history_waits_for_its_first_slot() {
        let mut new = scheduled("a", "0 2 * * *", "2026-11-22T04:00:00Z");
        new.is_known = false;
        let mut facts = (*sample::job("a", 40, DrillVerdict::Passed).facts).clone();
        facts.copies.clear();
        new.hear(&facts);
        assert_eq!(next(&[new], at("2026-11-22T04:00:00Z")), Next::Wait(Some(at("2026-11-23T02:00:00Z"))));
    }

    #[test]
    fn a_change_is_backed_up_when_it_is_quiet_and_what_nobody_saw_once_a_day() {
        let mut etc = on_change("2026-11-22T04:00:00Z");
        let now = at("2026-11-22T05:00:00Z");
        assert_eq!(next(&[etc.clone()], now), Next::Wait(Some(at("2026-11-23T04:00:00Z"))));
        etc.change(now, now);
        assert_eq!(next(&[etc.clone()], now), Next::Wait(Some(at("2026-11-22T05:00:30Z"))));
        etc.change(at("2026-11-22T05:00:20Z"), at("2026-11-22T05:00:20Z"));
        assert_eq!(next(&[etc.clone()], at("2026-11-22T05:00:30Z")), Next::Wait(Some(at("2026-11-22T05:00:50Z"))));
        let due = at("2026-11-22T05:00:50Z");
        assert_eq!(next(&[etc.clone()], due), Next::Run { at: 0, slot: None, missed: 0 });
        etc.begin(None, due);
        assert_eq!(next(&[etc], due), Next::Wait(Some(at("2026-11-23T05:00:50Z"))));
    }

    #[test]
    fn what_changed_while_nobody_watched_is_found_by_a_scan_at_once() {
        let mut etc = on_change("2026-11-22T04:00:00Z");
        etc.is_known = false;
        etc.hear(&sample::job("etc", 1, DrillVerdict::Passed).facts);
        assert_eq!(next(&[etc], sample::now()), Next::Run { at: 0, slot: None, missed: 0 });
    }

    #[test]
    fn everything_is_read_again_at_a_slot_of_its_own_unless_a_run_has_done_so_since() {
        let mut again = scheduled("a", "0 3 * * 0", "2026-11-21T12:00:00Z");
        again.task.verb = Verb::ReadAgain;
        let slot = at("2026-11-22T03:00:00Z");
        assert_eq!(next(&[again.clone()], slot), Next::Run { at: 0, slot: Some(slot), missed: 0 });
        let run = scheduled("a", "0 2 * * *", "2026-11-21T12:00:00Z");
        let mut entries = [run, again];
        let now = at("2026-11-22T05:00:00Z");
        assert!(matches!(next(&entries, now), Next::Run { at: 0, .. }));
        entries[0].begin(Some(at("2026-11-22T02:00:00Z")), now);
        entries.iter_mut().for_each(|entry| entry.is_run_too(now));
        assert_eq!(next(&entries, now), Next::Wait(Some(at("2026-11-23T02:00:00Z"))), "one run has done both");
    }

    #[test]
    fn a_repository_is_read_back_at_each_slot_after_what_backs_up_and_not_again_when_somebody_has() {
        let mut reading = scheduled("a", "0 3 * * 0", "2026-11-21T12:00:00Z");
        reading.task.verb = Verb::ReadBack;
        reading.is_known = false;
        let slot = at("2026-11-22T03:00:00Z");
        assert_eq!(next(&[reading.clone()], slot), Next::Wait(None), "its repository was not heard");
        reading.hear(&sample::job("a", 1, DrillVerdict::Passed).facts);
        assert_eq!(next(&[reading.clone()], slot), Next::Wait(None), "a job of that name says nothing of it");
        let mut done = reading.clone();
        reading.hear_read_back(Some(at("2026-11-15T04:00:00Z")));
        let entries = [reading, scheduled("b", "0 3 * * *", "2026-11-21T12:00:00Z")];
        assert!(matches!(next(&entries, slot), Next::Run { at: 1, .. }));
        assert_eq!(next(&entries[..1], slot), Next::Run { at: 0, slot: Some(slot), missed: 0 });
        done.hear_read_back(Some(at("2026-11-22T03:30:00Z")));
        assert_eq!(next(&[done], at("2026-11-22T05:00:00Z")), Next::Wait(Some(at("2026-11-29T03:00:00Z"))));
    }

    #[test]
    fn a_run_that_failed_has_not_read_everything_again() {
        let mut again = scheduled("a", "0 3 * * 0", "2026-11-21T12:00:00Z");
        again.task.verb = Verb::ReadAgain;
        again.is_known = false;
        let mut facts = (*sample::job("a", 1, DrillVerdict::Passed).facts).clone();
        for copy in &mut facts.copies {
            copy.history_mut().runs.retain(|run| run.ended < at("2026-11-22T03:00:00Z"));
            let failed = copy.history.runs[0].clone();
            let ended = at("2026-11-22T10:00:00Z");
            copy.history_mut().runs.push(Run { ended, outcome: Outcome::Failed, ..failed });
        }
        again.hear(&facts);
        let slot = Some(at("2026-11-22T03:00:00Z"));
        assert_eq!(next(&[again], sample::now()), Next::Run { at: 0, slot, missed: 0 });
    }

    #[test]
    fn a_slot_that_was_missed_is_owed_also_when_its_repository_answers_late() {
        let mut late = scheduled("a", "0 2 * * *", "2026-11-22T03:00:00Z");
        late.is_known = false;
        let known = sample::job("a", 40, DrillVerdict::Passed).facts;
        let mut away = (*known).clone();
        for copy in &mut away.copies {
            (copy.read, copy.unreachable, copy.history) = (None, Some("timed out".to_owned()), Default::default());
        }
        late.hear(&away);
        let now = at("2026-11-22T04:00:00Z");
        let tomorrow = Next::Wait(Some(at("2026-11-23T02:00:00Z")));
        assert_eq!(next(&[late.clone()], now), tomorrow, "nobody knows of a run before it was first seen");
        late.hear(&known);
        let slot = at("2026-11-22T02:00:00Z");
        assert_eq!(next(&[late.clone()], now), Next::Run { at: 0, slot: Some(slot), missed: 1 });
        late.begin(Some(slot), now);
        late.hear(&known);
        assert_eq!(next(&[late], now), tomorrow, "it was begun since");
    }

    #[test]
    fn what_was_begun_here_is_newer_than_what_was_read_of_it() {
        let mut entry = scheduled("a", "0 2 * * *", "2026-11-21T12:00:00Z");
        entry.begin(Some(at("2026-11-22T02:00:00Z")), at("2026-11-22T02:00:00Z"));
        entry.hear(&sample::job("a", 40, DrillVerdict::Passed).facts);
        assert_eq!(next(&[entry], at("2026-11-22T04:00:00Z")), Next::Wait(Some(at("2026-11-23T02:00:00Z"))));
    }
}
