//! Telling people and other programs what became of runs: webhooks, mail, commands; figures in a file or a gateway.
//!
//! What is always true: each matter (a job, and what of it) is told once for each change, and again after a while as long
//! as it is bad; what was told is kept on this machine, and lost with it costs a message twice. What cannot be delivered
//! is a warning and is tried again after the next run; no run fails for it. No message holds a secret: its words are those
//! of failures, which hold none.

mod channels;
mod figures;
mod state;

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::drill::{DrillOutcome, Verdict as Drilled};
use backup_core::evidence::journal_heads;
use backup_core::policy::{self, JobStanding, LastTold, Monitoring};
use serde_json::json;

pub(crate) use figures::deliver;
pub(crate) use state::note_figures;

use crate::config::{Channel, Config, Event, Notify, Preset};
use crate::exit::{Exit, Failure};
use crate::jobs::{Outcome, Verdict};
use crate::network::state_folder;
use crate::session::{Session, identity};
use state::State;

/// How a matter stands.
#[derive(Clone, Debug)]
pub(crate) struct Matter {
    /// The job; of a reading, the word `repository` and its name, which is no job's.
    pub(crate) job: String,
    /// What of it.
    pub(crate) event: Event,
    /// Why it is bad; nothing when it is not.
    pub(crate) trouble: Option<String>,
}

/// A message, as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    pub(crate) job: String,
    pub(crate) host: String,
    /// `failure`, `objective`, `drill`, `check`, `success`.
    pub(crate) event: &'static str,
    /// `bad`, `still`, `recovered`, `good`.
    pub(crate) state: &'static str,
    pub(crate) text: String,
    pub(crate) time: String,
    /// The ends of the chains of evidence on this machine, as `evidence verify --expect-head` reads them: who has the
    /// message can see later that a chain was cut.
    pub(crate) evidence: Vec<String>,
}

/// The matters of a run.
pub(crate) fn of_run(outcome: &Outcome) -> Option<Matter> {
    let trouble = match &outcome.verdict {
        Verdict::Held { .. } => return None,
        // Who stopped it knows.
        Verdict::Failed { failure } if failure.exit == Exit::Interrupted => return None,
        verdict => verdict.why().or_else(|| {
            let behind = outcome.copies.iter().find_map(|copy| Some((copy, copy.failure.as_ref()?)));
            behind.map(|(copy, failure)| format!("{} is behind: {}", copy.repository, failure.what))
        }),
    };
    let is_bad = !matches!(outcome.exit(), Exit::Done | Exit::Losses);
    let trouble = if is_bad { trouble.or_else(|| Some("it did not come to a good end".to_owned())) } else { None };
    Some(Matter { job: outcome.job.clone(), event: Event::Failure, trouble })
}

/// Whether everything that a repository holds could be read and was what it was.
pub(crate) fn of_reading(repository: &str, ended: &Result<Exit, Failure>) -> Option<Matter> {
    let trouble = match ended {
        Err(failure) if failure.exit == Exit::Interrupted => return None,
        Err(failure) => Some(failure.what.clone()),
        Ok(_) => None,
    };
    Some(Matter { job: format!("repository {repository}"), event: Event::Check, trouble })
}

/// Whether a job keeps to its objectives.
pub(crate) fn of_standing(standing: &JobStanding) -> Matter {
    let trouble = standing.misses_an_objective().then(|| {
        let first = standing.findings.first().map(|finding| finding.what.clone());
        first.unwrap_or_else(|| "an objective is missed".to_owned())
    });
    Matter { job: standing.job.clone(), event: Event::Objective, trouble }
}

/// Whether a restore of a job was tried and came to a good end.
pub(crate) fn of_drill(job: &str, outcome: &DrillOutcome, ended: Exit) -> Matter {
    let trouble = match &outcome.verdict {
        Drilled::Failed { reason } => Some(format!("it failed: {reason}")),
        Drilled::NotRun { reason } => Some(format!("it could not run: {reason}")),
        Drilled::Passed => (ended != Exit::Done)
            .then(|| format!("the last drill did not bring the data back in time: `backup drill {job}` says why")),
    };
    Matter { job: job.to_owned(), event: Event::Drill, trouble }
}

/// Tells everybody what they want to know of these matters. Returns what could not be delivered.
pub(crate) fn tell(config: &Config, matters: &[Matter], session: &Session) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.notify.is_empty() {
        return warnings;
    }
    let mut state = State::load();
    let now = SystemClock.now();
    let heads = heads();
    for notify in &config.notify {
        for matter in matters {
            let Some(words) = wanted(notify, matter, &state, now) else { continue };
            let words = Words { evidence: heads.clone(), ..words };
            match channels::send(&notify.channel, &words, session) {
                Ok(()) => {
                    let told = LastTold { time: now, was_bad: matter.trouble.is_some() };
                    state.note(&notify.name, &matter.job, words.event, told);
                }
                Err(failure) => {
                    warnings.push(format!("{} was not told of {}: {}", notify.name, matter.job, failure.what));
                }
            }
        }
    }
    if let Err(error) = state.save() {
        warnings.push(format!("what was told is not remembered, and will be told again: {error}"));
    }
    warnings
}

/// Who is told, and when something was last heard of that: what this machine remembers of messages that were delivered and
/// figures that were taken. Nothing else can know it.
pub(crate) fn monitoring(config: &Config) -> Monitoring {
    let pushes = config.metrics.textfile.is_some() || config.metrics.pushgateway.is_some();
    let who: Vec<_> = config.notify.iter().map(|notify| notify.name.as_str()).collect();
    Monitoring {
        configured: pushes || !who.is_empty(),
        fetched: state::figures(),
        notified: State::load().newest(&who),
    }
}

/// The ends of the chains on this machine; none where they cannot be read, which is no reason to tell nothing.
fn heads() -> Vec<String> {
    let heads = state_folder().and_then(|state| journal_heads(&state).ok()).unwrap_or_default();
    heads.iter().map(|(chain, head)| head.noted(chain)).collect()
}

/// What somebody is to be told of a matter now.
fn wanted(notify: &Notify, matter: &Matter, state: &State, now: jiff::Timestamp) -> Option<Words> {
    if !notify.jobs.is_empty() && !notify.jobs.contains(&matter.job) {
        return None;
    }
    let event = word(matter.event);
    // Who wants to hear of failures means those of repositories too.
    let asked_for = if matter.event == Event::Check { Event::Failure } else { matter.event };
    let is_bad = matter.trouble.is_some();
    let words = |state: &'static str, event: &'static str, text: String| Words {
        job: matter.job.clone(),
        host: identity(None).hostname,
        event,
        state,
        text,
        time: now.to_string(),
        evidence: Vec::new(),
    };
    let trouble = matter.trouble.clone().unwrap_or_default();
    // A watchdog wants to hear of every run.
    let is_watchdog = matches!(notify.channel, Channel::Webhook { preset: Preset::Healthchecks, .. });
    if matter.event == Event::Failure && is_watchdog {
        return Some(if is_bad { words("bad", event, trouble) } else { words("good", "success", "done".to_owned()) });
    }
    let notice = policy::notice(is_bad, state.last(&notify.name, &matter.job, event), notify.repeat, now);
    match notice {
        Some(policy::Notice::Recovered) if notify.on.contains(&Event::Recovery) => {
            Some(words("recovered", event, "it is good again".to_owned()))
        }
        Some(policy::Notice::Bad) if notify.on.contains(&asked_for) => Some(words("bad", event, trouble)),
        Some(policy::Notice::Still) if notify.on.contains(&asked_for) => Some(words("still", event, trouble)),
        _ if !is_bad && matter.event == Event::Failure && notify.on.contains(&Event::Success) => {
            Some(words("good", "success", "done".to_owned()))
        }
        _ => None,
    }
}

fn word(event: Event) -> &'static str {
    match event {
        Event::Failure => "failure",
        Event::Recovery => "recovery",
        Event::Objective => "objective",
        Event::Drill => "drill",
        Event::Check => "check",
        Event::Success => "success",
    }
}

impl Words {
    /// For people, on one line.
    pub(crate) fn line(&self) -> String {
        let Self { job, host, state, event, text, .. } = self;
        match *state {
            "recovered" => format!("backup of {job} on {host}: {event} is over"),
            "still" => format!("backup of {job} on {host}: {event}, still: {text}"),
            "good" => format!("backup of {job} on {host}: {text}"),
            _ => format!("backup of {job} on {host}: {event}: {text}"),
        }
    }

    /// For programs.
    pub(crate) fn document(&self) -> serde_json::Value {
        let Self { job, host, event, state, text, time, evidence } = self;
        json!({
            "event": event, "state": state, "job": job, "host": host, "text": text, "time": time, "evidence": evidence,
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;

    fn notify(on: &[Event], jobs: &[&str]) -> Notify {
        Notify {
            name: "ops".to_owned(),
            channel: Channel::Command("true".to_owned()),
            on: on.to_vec(),
            jobs: jobs.iter().map(|job| (*job).to_owned()).collect(),
            repeat: SignedDuration::from_hours(24),
        }
    }

    fn matter(event: Event, trouble: Option<&str>) -> Matter {
        Matter { job: "app".to_owned(), event, trouble: trouble.map(str::to_owned) }
    }

    #[test]
    fn who_is_told_of_what_follows_the_configuration() {
        let mut state = State::default();
        let now = Timestamp::UNIX_EPOCH;
        let failed = matter(Event::Failure, Some("disk full"));
        let good = matter(Event::Failure, None);
        let usual = notify(&[Event::Failure, Event::Recovery], &[]);
        let told = |notify: &Notify, matter: &Matter, state: &State| {
            wanted(notify, matter, state, now).map(|words| (words.event, words.state))
        };
        assert_eq!(told(&usual, &failed, &state), Some(("failure", "bad")));
        assert_eq!(told(&usual, &good, &state), None);
        assert_eq!(told(&notify(&[Event::Drill], &[]), &failed, &state), None);
        assert_eq!(told(&notify(&[Event::Failure], &["web"]), &failed, &state), None);
        assert_eq!(told(&notify(&[Event::Success], &[]), &good, &state), Some(("success", "good")));
        state.note("ops", "app", "failure", LastTold { time: now, was_bad: true });
        assert_eq!(told(&usual, &failed, &state), None, "once for each change");
        assert_eq!(told(&usual, &good, &state), Some(("failure", "recovered")));
        assert_eq!(told(&usual, &matter(Event::Objective, Some("late")), &state), None);
    }

    #[test]
    fn that_somebody_listens_is_known_from_what_was_told_to_those_who_are_configured() {
        let mut state = State::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        for (who, second) in [("ops", 10), ("ops", 30), ("gone", 50)] {
            state.note(who, &format!("job-{second}"), "failure", LastTold { time: at(second), was_bad: true });
        }
        assert_eq!(state.newest(&["ops", "other"]), Some(at(30)));
        assert_eq!(state.newest(&["op"]), None);
    }

    #[test]
    fn a_message_carries_the_ends_of_the_chains() {
        let outcome = |verdict, exit| of_drill("app", &DrillOutcome::ended_early(verdict, Vec::new()), exit);
        assert_eq!(outcome(Drilled::Passed, Exit::Done).trouble, None);
        assert!(outcome(Drilled::Passed, Exit::Missed).trouble.is_some_and(|why| why.contains("in time")));
        let not_run = outcome(Drilled::NotRun { reason: "no space".to_owned() }, Exit::Missed);
        let usual = notify(&[Event::Drill], &[]);
        let words = wanted(&usual, &not_run, &State::default(), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(words.line().split_once(": ").unwrap().1, "drill: it could not run: no space");
        let words = Words { evidence: vec!["ab:3:cd".to_owned()], ..words };
        assert_eq!(words.document()["evidence"][0], "ab:3:cd");
    }

    #[test]
    fn a_repository_that_is_damaged_is_told_to_who_wants_failures_and_is_no_ping_of_a_watchdog() {
        let damaged = Err(Failure::new("the repository is damaged: 1 finding"));
        let matter = of_reading("local", &damaged).unwrap();
        let told = |notify: &Notify| wanted(notify, &matter, &State::default(), Timestamp::UNIX_EPOCH);
        let words = told(&notify(&[Event::Failure], &[])).unwrap();
        assert!(words.line().ends_with(": check: the repository is damaged: 1 finding"), "{}", words.line());
        assert!(told(&notify(&[Event::Drill], &[])).is_none());
        assert!(told(&notify(&[Event::Failure], &["app"])).is_none(), "who asked for jobs alone");
        let good = of_reading("local", &Ok(Exit::Done)).unwrap();
        let url = crate::secrets::origin::Origin::Variable("X".to_owned());
        let channel = Channel::Webhook { url, preset: Preset::Healthchecks, authorization: None };
        let watchdog = Notify { channel, ..notify(&[], &[]) };
        assert!(wanted(&watchdog, &good, &State::default(), Timestamp::UNIX_EPOCH).is_none());
    }

    #[test]
    fn a_watchdog_hears_of_every_run() {
        let preset = Preset::Healthchecks;
        let url = crate::secrets::origin::Origin::Variable("X".to_owned());
        let channel = Channel::Webhook { url, preset, authorization: None };
        let watchdog = Notify { channel, ..notify(&[], &[]) };
        let mut state = State::default();
        state.note("ops", "app", "failure", LastTold { time: Timestamp::UNIX_EPOCH, was_bad: true });
        for (trouble, expected) in [(Some("x"), "bad"), (None, "good")] {
            let words = wanted(&watchdog, &matter(Event::Failure, trouble), &state, Timestamp::UNIX_EPOCH).unwrap();
            assert_eq!(words.state, expected);
        }
    }
}
