//! Telling people and other programs what became of runs: webhooks, mail, commands; figures in a file or a gateway.
//!
//! What is always true: each matter (a job, and what of it) is told once for each change, and again after a while as long
//! as it is bad; what was told is kept on this machine, and lost with it costs a message twice. Of several processes one at
//! a time tells, so that none says what another has just said. What cannot be delivered
//! is a warning and is tried again after the next run; no run fails for it. No message holds a secret: its words are those
//! of failures, which hold none.

mod channels;
mod figures;
mod reach;
mod state;

use std::cell::LazyCell;

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::drill::{DrillOutcome, Verdict as Drilled};
use backup_core::evidence::journal_heads;
use backup_core::policy::{self, Answer, FindingKind, JobStanding, LastTold, Monitoring};
use serde_json::json;

pub(crate) use figures::deliver;
pub(crate) use reach::reach;
pub(crate) use state::note_figures;

use crate::config::{Channel, Config, Event, Notify, Preset};
use crate::exit::{Exit, Failure};
use crate::jobs::{CopyOutcome, Outcome, Verdict};
use crate::network::state_folder;
use crate::session::{Session, identity};
use state::State;

/// How a matter stands.
#[derive(Clone, Debug)]
pub(crate) struct Matter {
    /// The job; of a reading, the word `repository` and its name, which is no job's.
    pub(crate) job: String,
    /// The copy that it is about, where it is about one: what another does says nothing of it.
    pub(crate) copy: Option<String>,
    /// What of it.
    pub(crate) event: Event,
    /// Why it is bad; nothing when it is not.
    pub(crate) trouble: Option<String>,
}

impl Matter {
    /// What is remembered under the same name.
    fn subject(&self) -> String {
        // Names hold no slash.
        self.copy.as_ref().map_or_else(|| self.job.clone(), |copy| format!("{}/{copy}", self.job))
    }
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
    let trouble = trouble.or_else(|| outcome.copies.iter().find_map(unthinned));
    let trouble = if is_bad { trouble.or_else(|| Some("it did not come to a good end".to_owned())) } else { None };
    Some(Matter { job: outcome.job.clone(), copy: None, event: Event::Failure, trouble })
}

/// What was not removed from a repository, and why.
fn unthinned(copy: &CopyOutcome) -> Option<String> {
    let failure = copy.thinned.as_ref()?.failure.as_ref()?;
    Some(format!("{} was backed up to, and not thinned out: {}", copy.repository, failure.what))
}

/// Whether everything that a repository holds could be read and was what it was.
pub(crate) fn of_reading(repository: &str, ended: &Result<Exit, Failure>) -> Option<Matter> {
    let trouble = match ended {
        Err(failure) if failure.exit == Exit::Interrupted => return None,
        Err(failure) => Some(failure.what.clone()),
        Ok(_) => None,
    };
    Some(Matter { job: format!("repository {repository}"), copy: None, event: Event::Check, trouble })
}

/// Whether a job keeps to its objectives; nothing where that is not known, which is neither bad nor good again.
pub(crate) fn of_standing(standing: &JobStanding) -> Option<Matter> {
    let finds = |kinds: &[FindingKind]| standing.findings.iter().find(|finding| kinds.contains(&finding.kind));
    let trouble = standing.misses_an_objective().then(|| {
        let missed = [FindingKind::NeverBackedUp, FindingKind::RpoMissed, FindingKind::RtoMissed];
        finds(&missed).map_or_else(|| "an objective is missed".to_owned(), |finding| finding.what.clone())
    });
    // Without any drill it is not known how long a restore takes, and never was.
    let is_unknown = standing.rpo_met == Some(Answer::Unknown)
        || standing.rto_met == Some(Answer::Unknown) && finds(&[FindingKind::Unreachable]).is_some();
    let matter = Matter { job: standing.job.clone(), copy: None, event: Event::Objective, trouble };
    (matter.trouble.is_some() || !is_unknown).then_some(matter)
}

/// Whether a restore of a job from a copy was tried, came to a good end, and kept to what it was to keep to.
pub(crate) fn of_drill(job: &str, copy: Option<&str>, outcome: &DrillOutcome, missed: &[String]) -> Matter {
    let from = copy.map(|copy| format!(" from {copy}")).unwrap_or_default();
    let trouble = match &outcome.verdict {
        Drilled::Failed { reason } => Some(format!("the drill{from} failed: {reason}")),
        Drilled::NotRun { reason } => Some(format!("the drill{from} could not run: {reason}")),
        Drilled::Passed => {
            (!missed.is_empty()).then(|| format!("the drill{from} passed, but {}", missed.join(", and ")))
        }
    };
    Matter { job: job.to_owned(), copy: copy.map(str::to_owned), event: Event::Drill, trouble }
}

/// Tells everybody what they want to know of these matters. Returns what could not be delivered.
pub(crate) fn tell(config: &Config, matters: &[Matter], session: &Session) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.notify.is_empty() {
        return warnings;
    }
    if !state::is_kept() {
        let lack = "nothing of it is remembered, so that it is told again and again: set HOME or XDG_STATE_HOME";
        warnings.push(lack.to_owned());
    }
    let _turn = state::turn();
    let mut state = State::load();
    let now = SystemClock.now();
    let heads = LazyCell::new(heads);
    for notify in config.notify.iter().flat_map(each) {
        for matter in matters {
            let words = match wanted(&notify, matter, &state, now) {
                Wanted::Words(words) => Words { evidence: heads.clone(), ..words },
                Wanted::Nothing { is_over: true } => {
                    state.end(&notify.name, &matter.job, word(matter.event));
                    continue;
                }
                Wanted::Nothing { is_over: false } => continue,
            };
            match channels::send(&notify.channel, &words, session) {
                Ok(()) => {
                    let told = LastTold { time: now, was_bad: matter.trouble.is_some() };
                    state.note(&notify.name, &matter.subject(), words.event, told);
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

/// Each of the recipients of a mail by itself: one whose address is refused costs the others neither their message nor
/// a second one.
fn each(notify: &Notify) -> Vec<Notify> {
    match &notify.channel {
        Channel::Mail { to, .. } if to.len() > 1 => {
            let alone = |one: &String| {
                let mut notify =
                    Notify { name: format!("{}:{}", notify.name, one.replace('/', "_")), ..notify.clone() };
                if let Channel::Mail { to, .. } = &mut notify.channel {
                    to.retain(|to| to == one);
                    to.truncate(1);
                }
                notify
            };
            to.iter().map(alone).collect()
        }
        _ => vec![notify.clone()],
    }
}

/// What somebody is to be told of a matter now.
#[derive(Clone, Debug)]
enum Wanted {
    /// This.
    Words(Words),
    /// Nothing; and whether something bad that was told is over, which this one does not want to hear.
    Nothing { is_over: bool },
}

fn wanted(notify: &Notify, matter: &Matter, state: &State, now: jiff::Timestamp) -> Wanted {
    if !notify.jobs.is_empty() && !notify.jobs.contains(&matter.job) {
        return Wanted::Nothing { is_over: false };
    }
    let event = word(matter.event);
    // Who wants to hear of failures means those of repositories too.
    let asked_for = if matter.event == Event::Check { Event::Failure } else { matter.event };
    let is_bad = matter.trouble.is_some();
    let words = |state: &'static str, event: &'static str, text: String| {
        Wanted::Words(Words {
            job: matter.job.clone(),
            host: identity(None).hostname,
            event,
            state,
            text,
            time: now.to_string(),
            evidence: Vec::new(),
        })
    };
    let trouble = matter.trouble.clone().unwrap_or_default();
    // A watchdog wants to hear of every run.
    let is_watchdog = matches!(notify.channel, Channel::Webhook { preset: Preset::Healthchecks, .. });
    if matter.event == Event::Failure && is_watchdog {
        return if is_bad { words("bad", event, trouble) } else { words("good", "success", "done".to_owned()) };
    }
    let notice = policy::notice(is_bad, state.last(&notify.name, &matter.subject(), event), notify.repeat, now);
    match notice {
        Some(policy::Notice::Recovered) if notify.on.contains(&Event::Recovery) => {
            words("recovered", event, "it is good again".to_owned())
        }
        Some(policy::Notice::Bad) if notify.on.contains(&asked_for) => words("bad", event, trouble),
        Some(policy::Notice::Still) if notify.on.contains(&asked_for) => words("still", event, trouble),
        _ if !is_bad && matter.event == Event::Failure && notify.on.contains(&Event::Success) => {
            words("good", "success", "done".to_owned())
        }
        other => Wanted::Nothing { is_over: other == Some(policy::Notice::Recovered) },
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

    fn words(wanted: Wanted) -> Option<Words> {
        match wanted {
            Wanted::Words(words) => Some(words),
            Wanted::Nothing { .. } => None,
        }
    }

    fn matter(event: Event, trouble: Option<&str>) -> Matter {
        Matter { job: "app".to_owned(), copy: None, event, trouble: trouble.map(str::to_owned) }
    }

    #[test]
    fn who_is_told_of_what_follows_the_configuration() {
        let mut state = State::default();
        let now = Timestamp::UNIX_EPOCH;
        let failed = matter(Event::Failure, Some("disk full"));
        let good = matter(Event::Failure, None);
        let usual = notify(&[Event::Failure, Event::Recovery], &[]);
        let told = |notify: &Notify, matter: &Matter, state: &State| {
            words(wanted(notify, matter, state, now)).map(|words| (words.event, words.state))
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
    fn a_second_failure_is_told_also_to_who_wants_to_hear_of_no_recovery() {
        let (mut state, now) = (State::default(), Timestamp::UNIX_EPOCH);
        let (failed, good) = (matter(Event::Failure, Some("disk full")), matter(Event::Failure, None));
        let failures = notify(&[Event::Failure], &[]);
        state.note("ops", "app", "failure", LastTold { time: now, was_bad: true });
        assert!(words(wanted(&failures, &failed, &state, now)).is_none());
        assert!(matches!(wanted(&failures, &good, &state, now), Wanted::Nothing { is_over: true }));
        state.end("ops", "app", "failure");
        assert_eq!(state.newest(&["ops"]), Some(now), "that a message was delivered is still known");
        assert_eq!(words(wanted(&failures, &failed, &state, now)).map(|words| words.state), Some("bad"));
    }

    #[test]
    fn an_objective_that_is_missed_is_told_by_its_own_finding_and_what_is_not_known_is_no_recovery() {
        use backup_core::policy::{Finding, JobFacts, Objectives, Standards};

        let now = Timestamp::UNIX_EPOCH;
        let hour = SignedDuration::from_hours(1);
        let facts = JobFacts {
            job: "app".to_owned(),
            home: Default::default(),
            copies: Vec::new(),
            trigger: policy::Trigger::ByHand,
            objectives: Objectives { rpo: Some(hour), rto: Some(hour) },
            offsite: policy::Offsite::Required,
            drilled_from: None,
            drills: Vec::new(),
        };
        let finding = |kind, what: &str| Finding { kind, repository: None, what: what.to_owned(), mend: String::new() };
        let of = |rpo, rto, findings: Vec<Finding>| {
            let standing = JobStanding::of(&facts, &Standards::default(), now);
            of_standing(&JobStanding { rpo_met: Some(rpo), rto_met: Some(rto), findings, ..standing })
        };
        let both =
            || vec![finding(FindingKind::RunFailed, "a run"), finding(FindingKind::RtoMissed, "a restore takes")];
        let missed = of(Answer::Yes, Answer::No, both()).unwrap();
        assert_eq!(missed.trouble.as_deref(), Some("a restore takes"));
        assert!(of(Answer::Unknown, Answer::Yes, Vec::new()).is_none());
        assert!(of(Answer::Yes, Answer::Unknown, vec![finding(FindingKind::Unreachable, "away")]).is_none());
        let good = of(Answer::Yes, Answer::Unknown, Vec::new()).unwrap();
        assert_eq!(good.trouble, None, "it was never drilled");
        assert!(of(Answer::No, Answer::Unknown, Vec::new()).is_some_and(|matter| matter.trouble.is_some()));
    }

    #[test]
    fn each_recipient_of_a_mail_is_told_for_itself() {
        let channel = Channel::Mail {
            server: "mail".to_owned(),
            port: None,
            encryption: crate::config::Encryption::Plain,
            login: None,
            from: "a@b".to_owned(),
            to: vec!["me@b".to_owned(), "you@b".to_owned()],
        };
        let told = each(&Notify { channel, ..notify(&[], &[]) });
        let to = |notify: &Notify| match &notify.channel {
            Channel::Mail { to, .. } => to.clone(),
            _ => Vec::new(),
        };
        assert_eq!(told.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["ops:me@b", "ops:you@b"]);
        assert_eq!(told.iter().flat_map(to).collect::<Vec<_>>(), ["me@b", "you@b"]);
        let mut state = State::default();
        let time = Timestamp::from_second(7).unwrap();
        state.note("ops:me@b", "app", "failure", LastTold { time, was_bad: true });
        assert_eq!((state.newest(&["ops"]), state.newest(&["op"])), (Some(time), None));
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
        let outcome = |verdict, missed: &[String]| {
            of_drill("app", Some("far"), &DrillOutcome::ended_early(verdict, Vec::new()), missed)
        };
        assert_eq!(outcome(Drilled::Passed, &[]).trouble, None);
        let late = outcome(Drilled::Passed, &["it took 2 h, where 1 h are allowed".to_owned()]);
        assert_eq!(
            late.trouble.as_deref(),
            Some("the drill from far passed, but it took 2 h, where 1 h are allowed"),
            "the words say why, and nobody has to drill again for them"
        );
        let not_run = outcome(Drilled::NotRun { reason: "no space".to_owned() }, &[]);
        let usual = notify(&[Event::Drill], &[]);
        let told = words(wanted(&usual, &not_run, &State::default(), Timestamp::UNIX_EPOCH)).unwrap();
        assert_eq!(told.line().split_once(": ").unwrap().1, "drill: the drill from far could not run: no space");
        let told = Words { evidence: vec!["ab:3:cd".to_owned()], ..told };
        assert_eq!(told.document()["evidence"][0], "ab:3:cd");
    }

    #[test]
    fn a_drill_of_one_copy_that_passes_does_not_end_the_trouble_of_another() {
        let mut state = State::default();
        let now = Timestamp::UNIX_EPOCH;
        let drilled =
            |copy, trouble: Option<&str>| Matter { copy: Some(String::from(copy)), ..matter(Event::Drill, trouble) };
        let usual = notify(&[Event::Drill, Event::Recovery], &[]);
        state.note("ops", &drilled("far", None).subject(), "drill", LastTold { time: now, was_bad: true });
        let told = |matter: &Matter| words(wanted(&usual, matter, &state, now)).map(|words| words.state);
        assert_eq!(told(&drilled("near", None)), None);
        assert_eq!(told(&drilled("near", Some("a pack"))), Some("bad"));
        assert_eq!(told(&drilled("far", None)), Some("recovered"));
    }

    #[test]
    fn a_repository_that_is_damaged_is_told_to_who_wants_failures_and_is_no_ping_of_a_watchdog() {
        let damaged = Err(Failure::new("the repository is damaged: 1 finding"));
        let matter = of_reading("local", &damaged).unwrap();
        let told = |notify: &Notify| words(wanted(notify, &matter, &State::default(), Timestamp::UNIX_EPOCH));
        let line = told(&notify(&[Event::Failure], &[])).unwrap().line();
        assert!(line.ends_with(": check: the repository is damaged: 1 finding"), "{line}");
        assert!(told(&notify(&[Event::Drill], &[])).is_none());
        assert!(told(&notify(&[Event::Failure], &["app"])).is_none(), "who asked for jobs alone");
        let good = of_reading("local", &Ok(Exit::Done)).unwrap();
        let url = crate::secrets::origin::Origin::Variable("X".to_owned());
        let channel = Channel::Webhook { url, preset: Preset::Healthchecks, authorization: None };
        let watchdog = Notify { channel, ..notify(&[], &[]) };
        assert!(words(wanted(&watchdog, &good, &State::default(), Timestamp::UNIX_EPOCH)).is_none());
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
            let told = wanted(&watchdog, &matter(Event::Failure, trouble), &state, Timestamp::UNIX_EPOCH);
            assert_eq!(words(told).unwrap().state, expected);
        }
    }
}
