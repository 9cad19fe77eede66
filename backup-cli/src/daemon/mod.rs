//! `backup daemon`: runs what is due, watches, and shows how things are.
//!
//! What is always true:
//!
//! * One thread decides; it never waits for anything but to be woken. Repositories are read by threads of their own, a
//!   run is a process of its own, requests are answered by a thread that only shows what it was given.
//! * One run at a time: runs of one machine would wait for the same disk and the same network.
//! * Nothing that matters is kept here. What has run is known from the repositories; a daemon that is killed in the middle
//!   of a run leaves the run alone, and the next one knows from its records, or its lease, that it was.
//!
//! It stops at SIGTERM and SIGINT, after the run has stopped at its next safe point; it reads the configuration again at
//! SIGHUP, after the run, and keeps the old one where the new one is wrong. Runs get the configuration as it was read, so
//! that a file that somebody is at work on harms nothing.

mod child;
mod health;
mod messages;
mod page;
mod plot;
mod readers;
mod server;
mod signals;
mod timetable;
mod view;
mod watch;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::policy::{JobStanding, Trigger};
use jiff::{SignedDuration, Timestamp};
use sd_notify::NotifyState;

use crate::allocator;
use crate::config::{Config, Job, Source, Starts};
use crate::console::say;
use crate::exit::{Exit, Failure};
use crate::facts::{self, Reading};
use crate::session::{Session, identity};
use crate::telling::{self, Matter};
use crate::units::Program;
use child::Child;
use health::{BEAT_SECONDS, Health};
use messages::Messages;
use readers::Reader;
use server::{Answers, Door, Token};
use timetable::{Entry, Next, Task, Verb};
use view::{JobView, Shown, View};
use watch::Watch;

/// How long what was found out of a schedule is taken for true.
const TRIGGERS_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Why the thread that decides is woken.
#[derive(Debug)]
enum Wake {
    /// Somebody wants it to end.
    Stop,
    /// Somebody has changed the configuration.
    Reload,
    /// A repository was read.
    Read { repository: String, reading: Reading },
    /// Files of a job were seen to change.
    Changed { job: String, at: Timestamp },
    /// What of a job's files cannot be watched has changed.
    Watched { job: String, trouble: Option<String> },
    /// The run has ended.
    Ended { status: Option<ExitStatus> },
}

/// Runs until it is asked to stop.
pub(crate) fn run(session: &Session) -> Result<Exit, Failure> {
    let config = session.config()?;
    let now = SystemClock.now();
    let listen = config.daemon.listen;
    let listener = TcpListener::bind(listen).map_err(|error| {
        Failure::because(format!("listening on {listen}"), &error)
            .with_hint("another daemon? `listen` in [daemon] names another port")
    })?;
    // Port 0 is any that is free.
    let listen = listener.local_addr().unwrap_or(listen);
    let door = Door::new(token(&config, session)?);
    let (wakes, woken) = mpsc::channel();
    let path = std::env::current_exe().map_err(|error| Failure::because("the path of this program", &error))?;
    let program = Program { path, config: std::path::absolute(&config.path).unwrap_or_else(|_| config.path.clone()) };
    let mut daemon = Daemon {
        shown: Shown::new(View::nothing(identity(None).hostname, config.time_zone.clone())),
        health: Arc::new(Health::new(now)),
        door: door.clone(),
        listen,
        messages: Messages::start(&session.globals, &session.cancel)?,
        readings: BTreeMap::new(),
        jobs: BTreeMap::new(),
        triggers: BTreeMap::new(),
        entries: Vec::new(),
        readers: Vec::new(),
        watches: Vec::new(),
        running: None,
        is_reload_wanted: false,
        is_stopping: false,
        fetch_noted: None,
        trouble: None,
        watch_troubles: BTreeMap::new(),
        ends: Vec::new(),
        program,
        config,
        wakes,
        session,
    };
    let answers = Answers { shown: daemon.shown.clone(), health: Arc::clone(&daemon.health), door };
    signals::start(listener, answers, daemon.wakes.clone())?;
    daemon.take_up()?;
    session.console.note(&format!("http://{listen} shows how things are"));
    tell_systemd(&[NotifyState::Ready]);
    daemon.go_on(&woken);
    tell_systemd(&[NotifyState::Stopping]);
    daemon.messages.finish();
    Ok(Exit::Done)
}

/// What who asks has to know.
fn token(config: &Config, session: &Session) -> Result<Option<Token>, Failure> {
    let token = config.daemon.token.as_ref().map(|token| token.read("daemon.token", &session.console)).transpose()?;
    if token.as_ref().is_some_and(|token| token.trim().is_empty()) {
        return Err(Failure::usage("the daemon's token is empty", "write a long random text there"));
    }
    Ok(token.map(|token| Token::new(&token)))
}

/// What the deciding thread has.
struct Daemon<'a> {
    session: &'a Session,
    config: Arc<Config>,
    program: Program,
    wakes: Sender<Wake>,
    shown: Shown,
    health: Arc<Health>,
    /// Who may ask.
    door: Door,
    /// Where it listens.
    listen: SocketAddr,
    messages: Messages,
    readings: BTreeMap<String, Reading>,
    /// What is known of each job, since its repositories were read last.
    jobs: BTreeMap<String, JobView>,
    /// What makes each job run, as policy sees it, and when that was found out.
    triggers: BTreeMap<String, (Timestamp, Trigger)>,
    entries: Vec<Entry>,
    readers: Vec<Reader>,
    watches: Vec<Watch>,
    running: Option<Child>,
    is_reload_wanted: bool,
    is_stopping: bool,
    /// The fetching of figures that was noted last.
    fetch_noted: Option<Timestamp>,
    /// Why the configuration could not be read again.
    trouble: Option<String>,
    /// What cannot be watched, by job.
    watch_troubles: BTreeMap<String, String>,
    /// Tasks that came to no end of their own when they ran last, with what became of them.
    ends: Vec<(Task, String)>,
}

impl Daemon<'_> {
    /// Begins to read, watch and wait for what the configuration says.
    fn take_up(&mut self) -> Result<(), Failure> {
        let now = SystemClock.now();
        let config = Arc::clone(&self.config);
        // What was heard of jobs that are still there is heard again with the first reading.
        let jobs = config.jobs.iter().flat_map(|job| Entry::of(job, now));
        let readings = config.repositories.iter().filter_map(|repository| Entry::of_repository(repository, now));
        self.entries = jobs.chain(readings).collect();
        self.readings.clear();
        self.jobs.clear();
        self.triggers.clear();
        let every = Duration::try_from(config.daemon.facts_every).unwrap_or(Duration::from_secs(900));
        self.readers.clear();
        for repository in &config.repositories {
            self.readers.push(Reader::start(
                repository,
                every,
                &self.session.globals,
                &self.wakes,
                &self.session.cancel,
            )?);
        }
        self.watches.clear();
        self.watch_troubles.clear();
        for job in &config.jobs {
            if let (Starts::OnChange { .. }, Source::Files { paths, selection, .. }) = (&job.starts, &job.source) {
                let places: Vec<_> = config.repositories.iter().flat_map(crate::config::Repository::places).collect();
                let options = selection.options_beside(paths, &places, self.session.console)?;
                match watch::watch(&job.name, paths, &options.excludes, &self.wakes) {
                    Ok((watch, trouble)) => {
                        self.watches.push(watch);
                        self.note_watched(&job.name, trouble);
                    }
                    Err(why) => self.note_watched(&job.name, Some(why)),
                }
            }
        }
        self.show();
        Ok(())
    }

    /// Notes what of a job's files cannot be watched, and what can be again.
    fn note_watched(&mut self, job: &str, trouble: Option<String>) {
        match trouble {
            Some(why) => {
                let trouble = format!("files of {job} cannot be watched, and are scanned once a day: {why}");
                say(&format!("warning: {trouble}"));
                self.watch_troubles.insert(job.to_owned(), trouble);
            }
            None if self.watch_troubles.remove(job).is_some() => say(&format!("the files of {job} are watched again")),
            None => {}
        }
    }

    fn go_on(&mut self, woken: &Receiver<Wake>) {
        let mut watchdog = Duration::from_secs(BEAT_SECONDS.into());
        if let Some(limit) = sd_notify::watchdog_enabled() {
            watchdog = watchdog.min(limit / 3);
        }
        loop {
            let now = SystemClock.now();
            self.health.beat(now);
            tell_systemd(&[NotifyState::Watchdog]);
            self.note_fetched();
            if self.is_stopping && self.running.is_none() {
                return;
            }
            if self.is_reload_wanted && self.running.is_none() {
                self.reload();
            }
            let wait = self.begin_what_is_due(now).map_or(watchdog, |until| {
                // A clock may be set: it is looked at again in any case.
                Duration::try_from(until.duration_since(now))
                    .unwrap_or_default()
                    .clamp(Duration::from_millis(20), watchdog)
            });
            match woken.recv_timeout(wait) {
                Ok(wake) => self.wake(wake),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Notes once an hour that figures are fetched: evidence that somebody watches, which `status --checklist` asks for.
    fn note_fetched(&mut self) {
        let is_news = |fetched: &Timestamp| {
            self.fetch_noted.is_none_or(|noted| fetched.duration_since(noted) >= SignedDuration::from_hours(1))
        };
        if let Some(fetched) = self.health.fetched().filter(is_news) {
            self.fetch_noted = Some(fetched);
            // Without it the checklist says that it is not known.
            drop(telling::note_figures(fetched));
        }
    }

    /// Begins a run if one is due and none is under way; otherwise, when one will be.
    fn begin_what_is_due(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.running.is_some() || self.is_stopping {
            return None;
        }
        let (at, slot, missed) = match timetable::next(&self.entries, now) {
            Next::Run { at, slot, missed } => (at, slot, missed),
            Next::Wait(until) => return until,
        };
        self.entries[at].begin(slot, now);
        let task = self.entries[at].task.clone();
        if task.verb.backs_up() {
            let of_job = self.entries.iter_mut().filter(|entry| entry.task.is_of_job(&task.name));
            of_job.for_each(|entry| entry.is_run_too(now));
        }
        let made_up = if missed > 0 { format!(", and makes up for {missed} before it") } else { String::new() };
        let of = slot.map(|slot| format!(" of {slot}")).unwrap_or_default();
        let whole = match task.verb {
            Verb::ReadAgain | Verb::ReadBack => ", and reads everything",
            Verb::Run | Verb::Drill => "",
        };
        say(&format!("{} {}{of} begins{whole}{made_up}", task.verb.word(), task.name));
        self.ends.retain(|(ended, _)| *ended != task);
        match child::start(&self.program, &task, slot, &self.config, &self.wakes) {
            Ok(child) => self.running = Some(child),
            Err(failure) => {
                let what = format!("could not begin: {}", failure.what);
                say(&format!("{} {} {what}", task.verb.word(), task.name));
                let matter = messages::failed(&task, &what);
                self.note_end(task, &what, now, Some(matter));
            }
        }
        self.show();
        None
    }

    fn wake(&mut self, wake: Wake) {
        match wake {
            Wake::Stop => {
                self.is_stopping = true;
                if let Some(child) = &self.running {
                    say(&format!(
                        "waits for {} {} to stop at its next safe point",
                        child.task.verb.word(),
                        child.task.name
                    ));
                    child.stop();
                }
            }
            Wake::Reload => self.is_reload_wanted = true,
            Wake::Read { repository, reading } => {
                let is_known = self.readers.iter().any(|reader| reader.repository == repository);
                if is_known {
                    self.readings.insert(repository.clone(), reading);
                    self.hear(&repository);
                    self.show();
                    // Of all snapshots and records little is kept.
                    allocator::give_back();
                }
            }
            Wake::Changed { job, at } => {
                let of_job = |entry: &&mut Entry| entry.task.is_of_job(&job) && entry.is_on_change();
                if let Some(entry) = self.entries.iter_mut().find(of_job) {
                    entry.change(at, at);
                }
            }
            Wake::Watched { job, trouble } => {
                self.note_watched(&job, trouble);
                self.show();
            }
            Wake::Ended { status } => {
                let Some(child) = self.running.take() else { return };
                let Task { verb, name } = &child.task;
                let what = child::ended(status);
                say(&format!("{} {name} {what}", verb.word()));
                // Who stops the daemon knows of the run's end.
                let matter = messages::untold(&child.task, status).filter(|_| !self.is_stopping);
                self.note_end(child.task.clone(), &what, SystemClock.now(), matter);
                let job = self.config.jobs.iter().find(|job| child.task.is_of_job(&job.name));
                let repositories = match verb {
                    Verb::ReadBack => std::slice::from_ref(name),
                    _ => job.map(|job| job.repositories.as_slice()).unwrap_or_default(),
                };
                self.readers.iter().filter(|reader| repositories.contains(&reader.repository)).for_each(Reader::ask);
                self.show();
            }
        }
    }

    /// Notes, tells and shows how a task ended that could not tell it itself.
    fn note_end(&mut self, task: Task, what: &str, now: Timestamp, matter: Option<Matter>) {
        let Some(matter) = matter else { return };
        self.messages.tell(&self.config, vec![matter]);
        let at = now.to_zoned(self.config.time_zone.clone()).strftime("%Y-%m-%d %H:%M %Z");
        let what = format!("{} {} {what} at {at}", task.verb.word(), task.name);
        self.ends.push((task, what));
    }

    /// Computes anew what follows for the jobs of a repository that was read.
    fn hear(&mut self, repository: &str) {
        let now = SystemClock.now();
        let config = Arc::clone(&self.config);
        if let Some(histories) = self.readings.get(repository).and_then(|reading| reading.histories.clone()) {
            let is_of = |entry: &&mut Entry| entry.task.verb == Verb::ReadBack && entry.task.name == repository;
            self.entries.iter_mut().filter(is_of).for_each(|entry| entry.hear_read_back(histories.read_back));
        }
        let mut matters = Vec::new();
        for job in config.jobs.iter().filter(|job| job.repositories.iter().any(|name| name == repository)) {
            let trigger = self.trigger(job, now);
            let facts = facts::of_triggered(&config, job, trigger, &self.readings);
            let standing = JobStanding::of(&facts, &job.standards, now);
            let is_all_read = job.repositories.iter().all(|name| self.readings.contains_key(name));
            if is_all_read {
                let of_job = self.entries.iter_mut().filter(|entry| entry.task.is_of_job(&job.name));
                of_job.for_each(|entry| entry.hear(&facts));
                matters.extend(telling::of_standing(&standing));
            }
            let view = JobView {
                facts: Arc::new(facts),
                standards: job.standards,
                standing: Arc::new(standing),
                computed: now,
                running: None,
                next: None,
            };
            self.jobs.insert(job.name.clone(), view);
        }
        self.messages.tell(&config, matters);
    }

    /// What makes a job run, found out once a day: how far its slots lie apart in the next thirteen months hardly changes
    /// from one reading to the next, and with a thousand jobs it is most of what a reading costs.
    fn trigger(&mut self, job: &Job, now: Timestamp) -> Trigger {
        let is_fresh = |(found, _): &&(Timestamp, Trigger)| now.duration_since(*found).abs() < TRIGGERS_KEPT;
        if let Some((_, trigger)) = self.triggers.get(&job.name).filter(is_fresh) {
            return *trigger;
        }
        let trigger = facts::trigger(job, now);
        self.triggers.insert(job.name.clone(), (now, trigger));
        trigger
    }

    fn show(&self) {
        let now = SystemClock.now();
        let is_of = |entry: &&Entry, name: &str| entry.task.is_of_job(name) && entry.task.verb.backs_up();
        let jobs = self.config.jobs.iter().filter_map(|job| {
            let known = self.jobs.get(&job.name)?;
            let running =
                self.running.as_ref().filter(|child| child.task.is_of_job(&job.name)).map(|child| child.since);
            let runs = self.entries.iter().filter(|entry| is_of(entry, &job.name));
            let next = runs.filter_map(|entry| entry.next(now)).min();
            Some(JobView { running, next, ..known.clone() })
        });
        self.shown.show(View {
            host: self.shown.view().host.clone(),
            zone: self.config.time_zone.clone(),
            jobs: jobs.collect(),
            is_ready: self.readings.len() == self.readers.len(),
            troubles: self
                .trouble
                .iter()
                .chain(self.watch_troubles.values())
                .chain(self.ends.iter().map(|(_, what)| what))
                .cloned()
                .collect(),
        });
    }

    fn reload(&mut self) {
        self.is_reload_wanted = false;
        let variables = |name: &str| std::env::var(name).ok();
        let read = Config::load(&self.config.path, &variables).and_then(|read| Ok(read?));
        match read.and_then(|config| Ok((token(&config, self.session)?, config))) {
            Ok((token, config)) => {
                if config.daemon.listen != self.config.daemon.listen {
                    say("warning: it listens where it did; a new address is taken when it is started again");
                }
                match token.is_none() && !self.listen.ip().is_loopback() {
                    true => say("warning: the token stays until it is started again: other machines can ask it"),
                    false => self.door.change(token),
                }
                self.config = Arc::new(config);
                // Of jobs that are no more, nobody is to be reminded.
                let config = Arc::clone(&self.config);
                self.ends.retain(|(task, _)| match task.verb {
                    Verb::ReadBack => config.repository(&task.name).is_some(),
                    _ => config.jobs.iter().any(|job| job.name == task.name),
                });
                self.trouble = None;
                match self.take_up() {
                    Ok(()) => say("the configuration was read again"),
                    Err(failure) => self.trouble = Some(failure.what),
                }
            }
            Err(failure) => {
                say(&format!("warning: the configuration stays as it was: {}", failure.what));
                self.trouble = Some(format!("the configuration could not be read again: {}", failure.what));
                self.show();
            }
        }
    }
}

/// Nobody to tell is no failure.
fn tell_systemd(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
