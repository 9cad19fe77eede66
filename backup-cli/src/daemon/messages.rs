//! What the daemon tells people itself: objectives that are missed while nothing runs, and runs that ended without a word.
//!
//! What a run can tell, it tells; what it has told is remembered on this machine, so that nobody hears a thing twice. A
//! thread of its own waits for mail servers and webhooks: the one that decides waits for nobody. What could not be
//! delivered is a matter of the next reading.

use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use backup_core::cancel::Cancel;

use super::child::{ended, has_told};
use super::timetable::{Task, Verb};
use crate::args::Globals;
use crate::config::{Config, Event};
use crate::console::say;
use crate::exit::Failure;
use crate::session::Session;
use crate::telling::{self, Matter};

/// How long a daemon that ends waits for what it is about to tell.
const LAST_WORDS: Duration = Duration::from_secs(20);

/// Who tells, until this is finished or dropped.
#[derive(Debug)]
pub(super) struct Messages {
    matters: Sender<(Arc<Config>, Vec<Matter>)>,
    thread: JoinHandle<()>,
}

impl Messages {
    /// Begins to wait for something to tell.
    pub(super) fn start(globals: &Globals, cancel: &Cancel) -> Result<Self, Failure> {
        let (matters, told) = mpsc::channel::<(Arc<Config>, Vec<Matter>)>();
        let (globals, cancel) = (globals.clone(), cancel.clone());
        let thread = thread::Builder::new().name("messages".to_owned()).spawn(move || {
            let session = Session::new(globals, cancel);
            for (config, matters) in told {
                for warning in telling::tell(&config, &matters, &session) {
                    say(&format!("warning: {warning}"));
                }
            }
        });
        let thread = thread.map_err(|error| Failure::because("a thread that tells people", &error))?;
        Ok(Self { matters, thread })
    }

    /// Tells everybody what they want to know of these matters, some time.
    pub(super) fn tell(&self, config: &Arc<Config>, matters: Vec<Matter>) {
        if !matters.is_empty() && !config.notify.is_empty() {
            // A thread that has ended tells nobody, and has said why.
            let _ = self.matters.send((Arc::clone(config), matters));
        }
    }

    /// Waits until what was to be told is told, for a while.
    pub(super) fn finish(self) {
        let Self { matters, thread } = self;
        drop(matters);
        let until = Instant::now() + LAST_WORDS;
        while !thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What is wrong with a run that ended so, where it cannot have told that itself.
pub(super) fn untold(task: &Task, status: Option<ExitStatus>) -> Option<Matter> {
    (!has_told(task.verb, status)).then(|| failed(task, &ended(status)))
}

/// What is wrong with a task that came to no end of its own.
pub(super) fn failed(task: &Task, what: &str) -> Matter {
    let Task { verb, name } = task;
    let (job, event) = match verb {
        Verb::Run | Verb::ReadAgain => (name.clone(), Event::Failure),
        Verb::Drill => (name.clone(), Event::Drill),
        Verb::ReadBack => (format!("repository {name}"), Event::Check),
    };
    Matter {
        job,
        copy: None,
        event,
        trouble: Some(format!("`backup {}` {what}: the daemon's log may say why", verb.word())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn whoever_wants_to_hear_of_an_end_hears_of_one_that_nobody_told() {
        let task = |verb| Task { verb, name: "app".to_owned() };
        let killed = Some(ExitStatus::from_raw(9));
        let told = |verb| untold(&task(verb), killed).map(|matter| (matter.job, matter.event));
        assert_eq!(told(Verb::Run), Some(("app".to_owned(), Event::Failure)));
        assert_eq!(told(Verb::Drill), Some(("app".to_owned(), Event::Drill)));
        assert_eq!(told(Verb::ReadBack), Some(("repository app".to_owned(), Event::Check)));
        let trouble = untold(&task(Verb::Run), killed).and_then(|matter| matter.trouble);
        assert_eq!(trouble.as_deref(), Some("`backup run` was killed by signal 9: the daemon's log may say why"));
        assert!(untold(&task(Verb::Run), Some(ExitStatus::from_raw(1 << 8))).is_none());
    }
}
