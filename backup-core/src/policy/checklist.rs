//! The nine things that a sound backup has, each answered from evidence.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::facts::{Answer, JobFacts, Outcome, Standards, Trigger};
use super::standing::{last_run, restored};
use super::{in_words, three_two_one};

/// One of the things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// Backups run by themselves, and lately did.
    Automated,
    /// A copy stands at another site.
    RemoteCopy,
    /// Rules say how long backups stay.
    Retention,
    /// What is stored is encrypted.
    Encryption,
    /// The passphrase is kept in a second place, away from the data.
    PassphraseElsewhere,
    /// A machine restored it lately.
    RestoreTests,
    /// Somebody is told when a backup does not come.
    Monitoring,
    /// The way to restore is written down where it can be found.
    Documentation,
    /// It was followed by a person.
    Rehearsal,
}

/// One line of the checklist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What it is about.
    pub item: Item,
    /// Whether it is so.
    pub answer: Answer,
    /// Why that is the answer: the evidence, or what is missing of it.
    pub reason: String,
    /// What to do; nothing where it is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// What is known beside the jobs. What is `None` nobody has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Practice {
    /// Where else the passphrase is kept, and since when somebody has said so.
    pub passphrase_elsewhere: Option<(String, Timestamp)>,
    /// Who is told.
    pub monitoring: Monitoring,
    /// When the way to restore, as it is now, was last seen in a repository.
    pub documented: Option<Timestamp>,
    /// Which person last followed it, and when, as somebody has said.
    pub rehearsed: Option<(String, Timestamp)>,
}

/// Who is told, and when something was last heard of that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Monitoring {
    /// Whether anything is set up: a channel to notify, metrics that somebody fetches or that are pushed.
    pub configured: bool,
    /// When metrics were last fetched, or delivered.
    pub fetched: Option<Timestamp>,
    /// When a message was last delivered.
    pub notified: Option<Timestamp>,
}

/// All nine, in a fixed order. A line about jobs is as good as its worst job, which it names; each job has standards of its
/// own, and `usual` are those of what belongs to none.
pub fn checklist(jobs: &[(JobFacts, Standards)], practice: &Practice, usual: &Standards, now: Timestamp) -> Vec<Line> {
    vec![
        each_job(Item::Automated, jobs, |job, _| automated(job, now)),
        each_job(Item::RemoteCopy, jobs, |job, standards| remote(job, standards, now)),
        each_job(Item::Retention, jobs, |job, _| retention(job)),
        each_job(Item::Encryption, jobs, |job, _| encryption(job)),
        declared(
            Item::PassphraseElsewhere,
            practice.passphrase_elsewhere.as_ref(),
            now,
            &|place, on| format!("{place}, as was said on {on}"),
            "nobody has said where the passphrase is kept besides",
            "keep it in a second place, away from the data, and write that into [checklist]",
        ),
        each_job(Item::RestoreTests, jobs, |job, standards| restore_tests(job, standards, now)),
        monitoring(&practice.monitoring, usual, now),
        documented(practice.documented, now),
        declared(
            Item::Rehearsal,
            practice.rehearsed.as_ref(),
            now,
            &|who, on| format!("{who} followed the restore procedure, as was said on {on}"),
            "nobody has said that a person followed the restore procedure",
            "let somebody else follow it once, on another machine, and write that into [checklist]",
        ),
    ]
}

/// An answer, its reason, and what to do.
type Answered = (Answer, String, Option<String>);

fn yes(reason: impl Into<String>) -> Answered {
    (Answer::Yes, reason.into(), None)
}

fn no(reason: impl Into<String>, mend: impl Into<String>) -> Answered {
    (Answer::No, reason.into(), Some(mend.into()))
}

fn unknown(reason: impl Into<String>, mend: impl Into<String>) -> Answered {
    (Answer::Unknown, reason.into(), Some(mend.into()))
}

fn each_job(item: Item, jobs: &[(JobFacts, Standards)], ask: impl Fn(&JobFacts, &Standards) -> Answered) -> Line {
    let answered = jobs.iter().map(|(job, standards)| (job.job.as_str(), ask(job, standards)));
    let Some((job, (answer, reason, mend))) = answered.min_by_key(|(_, (answer, ..))| *answer) else {
        return Line { item, answer: Answer::Unknown, reason: "there are no jobs".to_owned(), mend: None };
    };
    let reason = if jobs.len() == 1 || answer == Answer::Yes { reason } else { format!("{job}: {reason}") };
    Line { item, answer, reason, mend }
}

fn automated(job: &JobFacts, now: Timestamp) -> Answered {
    if job.trigger == Trigger::ByHand {
        return no("nothing runs it", "give it a `schedule`, or `trigger = \"on-change\"`");
    }
    let made = job.copies.iter().flat_map(|copy| &copy.history.runs).filter(|run| run.outcome != Outcome::Failed);
    let snapshots = job.copies.iter().flat_map(|copy| &copy.history.backups).map(|backup| backup.durable);
    let Some(last) = made.map(|run| run.ended).chain(snapshots).max() else {
        let is_read = job.copies.iter().any(|copy| copy.read.is_some());
        let reason = "it is scheduled, and no run was seen";
        return if is_read {
            no(reason, "start `backup daemon`, or install its units")
        } else {
            unknown(reason, "backup status")
        };
    };
    let age = now.duration_since(last);
    match job.trigger.longest_gap() {
        None => yes(format!("it runs on change, the last time {} ago", in_words(age))),
        Some(gap) if age <= gap.saturating_mul(2) => yes(format!("the last run was {} ago", in_words(age))),
        Some(gap) => {
            let failed = last_run(job).is_some_and(|run| run.outcome == Outcome::Failed);
            let mend = if failed { "see why the last run failed" } else { "see whether the daemon runs" };
            no(format!("the last run was {} ago, where {} lie between two", in_words(age), in_words(gap)), mend)
        }
    }
}

fn remote(job: &JobFacts, standards: &Standards, now: Timestamp) -> Answered {
    use super::facts::Offsite;
    let rule = three_two_one(job, standards, now);
    if let Offsite::Waived(reason) = &job.offsite {
        return no(format!("none, because: {reason}"), "add a repository at another site");
    }
    let site_of_home = job.home.site.as_deref().unwrap_or("the data's");
    let mend =
        || rule.findings.first().map_or("add a repository at another site".to_owned(), |finding| finding.mend.clone());
    match rule.one_offsite {
        Answer::Yes => {
            let newest = job.copies.iter().flat_map(|copy| &copy.history.backups);
            let immutable = newest.filter_map(|backup| backup.immutable_until).filter(|until| *until > now).max();
            let immutable = immutable.map(|until| {
                format!(", and nobody can delete one of its backups for {}", in_words(until.duration_since(now)))
            });
            yes(format!(
                "a copy that counts stands at another site than {site_of_home}{}",
                immutable.unwrap_or_default()
            ))
        }
        Answer::No => no("no copy at another site counts", mend()),
        Answer::Unknown => unknown("it is not known whether a copy at another site counts", mend()),
    }
}

fn retention(job: &JobFacts) -> Answered {
    match job.copies.iter().find(|copy| !copy.has_retention) {
        _ if job.copies.is_empty() => no("it has no repository", "add one"),
        Some(copy) => no(format!("{} keeps everything for ever", copy.repository), "give it rules in `retention`"),
        None => yes("every repository has rules"),
    }
}

fn encryption(job: &JobFacts) -> Answered {
    match job.copies.iter().find(|copy| copy.read.is_none()) {
        _ if job.copies.is_empty() => unknown("it has no repository", "add one"),
        Some(copy) => unknown(format!("{} was never opened", copy.repository), "backup status"),
        None => yes("every repository was opened with its key, and holds nothing that is not sealed with it"),
    }
}

/// How long what somebody said is believed: a year, after which safes have been emptied and people have left.
const DECLARED_WITHIN: SignedDuration = SignedDuration::from_hours(24 * 366);

/// A line whose evidence lies outside: what somebody said, for as long as that is young.
fn declared(
    item: Item,
    said: Option<&(String, Timestamp)>,
    now: Timestamp,
    reason: &dyn Fn(&str, &str) -> String,
    unsaid: &str,
    mend: &str,
) -> Line {
    let (answer, reason, mend) = match said {
        None => unknown(unsaid, mend),
        Some((what, on)) => {
            let age = now.duration_since(*on);
            let reason = reason(what, &on.strftime("%F").to_string());
            // A day ahead is another zone's today.
            if age < SignedDuration::from_hours(-24) {
                unknown(format!("{reason}, which is a day to come"), "mend its date in [checklist]")
            } else if age > DECLARED_WITHIN {
                unknown(format!("{reason}: more than a year ago"), "see whether it is still so, and write today's date")
            } else {
                yes(reason)
            }
        }
    };
    Line { item, answer, reason, mend }
}

fn documented(seen: Option<Timestamp>, now: Timestamp) -> Line {
    let (answer, reason, mend) = match seen.map(|seen| now.duration_since(seen)) {
        Some(age) if age <= DECLARED_WITHIN => yes(format!(
            "the configuration, of which `backup runbook` makes the procedure, was seen in a repository {} ago",
            in_words(age)
        )),
        Some(age) => no(format!("what a repository holds of the procedure is {} old", in_words(age)), "backup run"),
        None => unknown("no repository is known to hold the restore procedure", "backup run"),
    };
    Line { item: Item::Documentation, answer, reason, mend }
}

fn restore_tests(job: &JobFacts, standards: &Standards, now: Timestamp) -> Answered {
    let mend = format!("backup drill {}", job.job);
    match restored(job).map(|when| now.duration_since(when)) {
        Some(age) if age <= standards.drilled_within => yes(format!("a drill restored it {} ago", in_words(age))),
        Some(age) => no(format!("the last drill that restored it was {} ago", in_words(age)), mend),
        None if job.copies.iter().any(|copy| copy.read.is_some()) => no("no drill of it has ever passed", mend),
        None => unknown("no repository was read", mend),
    }
}

fn monitoring(monitoring: &Monitoring, standards: &Standards, now: Timestamp) -> Line {
    let day = SignedDuration::from_hours(24);
    let age = |when: Option<Timestamp>| when.map(|when| now.duration_since(when));
    let (answer, reason, mend) = match (age(monitoring.fetched), age(monitoring.notified)) {
        (Some(age), _) if age <= day => yes(format!("metrics were fetched {} ago", in_words(age))),
        (_, Some(age)) if age <= standards.drilled_within => {
            yes(format!("a message was delivered {} ago", in_words(age)))
        }
        _ if monitoring.configured => unknown(
            "it is set up, and nothing was fetched or delivered lately",
            "see whether a message arrives, or whether the metrics are fetched",
        ),
        _ => no("nobody is told when a backup does not come", "add [notify], or let Prometheus fetch the metrics"),
    };
    Line { item: Item::Monitoring, answer, reason, mend }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Offsite, Run};
    use super::super::sample::{at, backup, copy, job, run};
    use super::*;
    use crate::contracts::Proof;

    const NOW: &str = "2026-11-22T12:00:00Z";

    fn sound() -> JobFacts {
        let backups = || [backup("2026-11-21T02:00:00Z").proven(Proof::Restored), backup("2026-11-22T02:00:00Z")];
        job(vec![copy("local", backups()).at("paris", "nas").on("disk"), copy("offsite", backups())])
    }

    fn practice() -> Practice {
        let lately = Some(at("2026-11-20T12:00:00Z"));
        Practice {
            passphrase_elsewhere: Some(("the safe in Oslo".to_owned(), at("2026-01-02T00:00:00Z"))),
            monitoring: Monitoring { configured: true, fetched: Some(at("2026-11-22T11:59:00Z")), notified: None },
            documented: lately,
            rehearsed: lately.map(|when| ("Ada".to_owned(), when)),
        }
    }

    fn usual(jobs: &[JobFacts]) -> Vec<(JobFacts, Standards)> {
        jobs.iter().map(|job| (job.clone(), Standards::default())).collect()
    }

    fn answers(jobs: &[JobFacts], practice: &Practice) -> Vec<Answer> {
        checklist(&usual(jobs), practice, &Standards::default(), at(NOW)).into_iter().map(|line| line.answer).collect()
    }

    fn line(jobs: &[JobFacts], practice: &Practice, item: Item) -> (Answer, String) {
        let lines = checklist(&usual(jobs), practice, &Standards::default(), at(NOW));
        let line = lines.into_iter().find(|line| line.item == item).unwrap();
        assert_eq!(line.mend.is_none(), line.answer == Answer::Yes);
        (line.answer, line.reason)
    }

    #[test]
    fn with_all_evidence_all_is_well() {
        assert_eq!(answers(&[sound()], &practice()), [Answer::Yes; 9]);
    }

    #[test]
    fn without_evidence_nothing_is_well() {
        let mut unread = sound();
        for copy in &mut unread.copies {
            *copy = super::super::CopyFacts {
                read: None,
                history: Default::default(),
                has_retention: false,
                ..copy.clone()
            };
        }
        let answers = answers(&[unread], &Practice::default());
        assert!(!answers.contains(&Answer::Yes), "{answers:?}");
        assert!(
            !checklist(&[], &Practice::default(), &Standards::default(), at(NOW))
                .iter()
                .any(|line| line.answer == Answer::Yes)
        );
    }

    #[test]
    fn each_job_is_measured_by_its_own_standards() {
        let strict = Standards { drilled_within: SignedDuration::from_hours(1), ..Standards::default() };
        let mut other = sound();
        other.job = "uploads".to_owned();
        let jobs = [(sound(), Standards::default()), (other, strict)];
        let lines = checklist(&jobs, &practice(), &Standards::default(), at(NOW));
        let tests = lines.into_iter().find(|line| line.item == Item::RestoreTests).unwrap();
        assert_eq!(tests.answer, Answer::No);
        assert!(tests.reason.starts_with("uploads: "), "{}", tests.reason);
    }

    #[test]
    fn a_line_is_as_good_as_its_worst_job_and_names_it() {
        let mut other = sound();
        other.job = "uploads".to_owned();
        other.trigger = Trigger::ByHand;
        let jobs = [sound(), other];
        assert_eq!(line(&jobs, &practice(), Item::Automated), (Answer::No, "uploads: nothing runs it".to_owned()));
        assert_eq!(line(&jobs, &practice(), Item::Retention).0, Answer::Yes);
    }

    #[test]
    fn a_schedule_that_has_not_run_is_no_automation() {
        let mut late = sound();
        late.copies.iter_mut().for_each(|copy| {
            copy.history_mut().backups.retain(|backup| backup.recovery_point < at("2026-11-20T00:00:00Z"));
        });
        assert_eq!(line(&[late.clone()], &practice(), Item::Automated).0, Answer::No);
        let done = run("2026-11-20T03:00:00Z", Outcome::Done);
        late.copies[0].history_mut().runs.push(done.clone());
        assert_eq!(
            line(&[late.clone()], &practice(), Item::Automated),
            (Answer::No, "the last run was 2 d 9 h ago, where 24 h lie between two".to_owned())
        );
        late.copies[0].history_mut().runs.push(Run { ended: at("2026-11-21T03:00:00Z"), ..done });
        assert_eq!(line(&[late], &practice(), Item::Automated).0, Answer::Yes);
    }

    #[test]
    fn a_copy_that_was_waived_is_not_there_for_that() {
        let mut waived = sound();
        waived.offsite = Offsite::Waived("a laptop at home".to_owned());
        assert_eq!(
            line(&[waived], &practice(), Item::RemoteCopy),
            (Answer::No, "none, because: a laptop at home".to_owned())
        );
    }

    #[test]
    fn what_somebody_said_ages_and_is_not_believed_before_its_day() {
        let mut practice = practice();
        let mut said = |when: &str| {
            practice.rehearsed = Some(("Ada".to_owned(), at(when)));
            line(&[sound()], &practice, Item::Rehearsal)
        };
        assert_eq!(said("2026-06-01T00:00:00Z").0, Answer::Yes);
        let (answer, reason) = said("2025-11-01T00:00:00Z");
        assert_eq!((answer, reason.ends_with("more than a year ago")), (Answer::Unknown, true), "{reason}");
        assert_eq!(said("2026-12-24T00:00:00Z").0, Answer::Unknown);
        practice.documented = Some(at("2025-11-01T00:00:00Z"));
        assert_eq!(line(&[sound()], &practice, Item::Documentation).0, Answer::No);
    }

    #[test]
    fn a_channel_that_was_never_heard_proves_nothing() {
        let mut practice = practice();
        practice.monitoring.fetched = Some(at("2026-11-20T12:00:00Z"));
        assert_eq!(line(&[sound()], &practice, Item::Monitoring).0, Answer::Unknown);
        practice.monitoring.notified = Some(at("2026-11-01T12:00:00Z"));
        assert_eq!(line(&[sound()], &practice, Item::Monitoring).0, Answer::Yes);
        practice.monitoring = Monitoring::default();
        assert_eq!(line(&[sound()], &practice, Item::Monitoring).0, Answer::No);
    }
}
