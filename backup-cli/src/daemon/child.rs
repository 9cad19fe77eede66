//! A run, as a process of its own: what a person would type.
//!
//! Its memory ends with it, so that a daemon that has backed up a million files is as small as one that has not; what
//! kills it does not kill the daemon; and a run that goes on while the daemon is restarted keeps its lease.
//!
//! What it is given beside that is the configuration as the daemon has read it: somebody may be about to edit the file.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

use backup_core::clock::{Clock as _, SystemClock};
use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{MemfdFlags, memfd_create};

use super::Wake;
use super::timetable::{Task, Verb};
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::units::Program;

/// A run that is under way.
#[derive(Debug)]
pub(super) struct Child {
    /// What it does.
    pub(super) task: Task,
    /// Since when.
    pub(super) since: Timestamp,
    pid: Pid,
}

/// Starts it; a [`Wake::Ended`] tells its end.
pub(super) fn start(
    program: &Program,
    task: &Task,
    slot: Option<Timestamp>,
    config: &Config,
    wakes: &Sender<Wake>,
) -> Result<Child, Failure> {
    let text = text(config).map_err(|error| Failure::because("the configuration for a run", &error))?;
    let mut command = Command::new(&program.path);
    command.arg("--config").arg(&program.config).args(["--config-text", "--quiet"]).args(words(task, slot));
    // A group of its own: what is typed at the daemon's terminal is the daemon's, who passes it on once.
    let spawned = command.stdin(text).stdout(Stdio::null()).process_group(0).spawn();
    let mut child = spawned.map_err(|error| Failure::because(format!("{}", program.path.display()), &error))?;
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
    let wakes = wakes.clone();
    let waiting = thread::Builder::new().name("run".to_owned()).spawn(move || {
        let _ = wakes.send(Wake::Ended { status: child.wait().ok() });
    });
    waiting.map_err(|error| Failure::because("a thread that waits for a run", &error))?;
    Ok(Child { task: task.clone(), since: SystemClock.now(), pid })
}

/// The configuration in memory, to be read from its beginning: it may hold secrets, which belong on no disk.
fn text(config: &Config) -> io::Result<File> {
    let mut file = File::from(memfd_create("backup.toml", MemfdFlags::CLOEXEC)?);
    file.write_all(config.text.reveal().as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// The verb and what it is given. Whoever shares a repository runs a slot once; what runs on change, or is tried, runs
/// whatever others do.
fn words(task: &Task, slot: Option<Timestamp>) -> Vec<&str> {
    let verb = task.verb.word();
    let mut words = match task.verb {
        Verb::Run => vec![verb, &task.name],
        // Its evidence tells it from one that a person asked for.
        Verb::Drill => vec![verb, &task.name, "--trigger=schedule"],
        Verb::ReadAgain => vec![verb, &task.name, "--read-again"],
        Verb::ReadBack => vec!["-r", &task.name, verb, "--read-data"],
    };
    words.extend((slot.is_some() && task.verb != Verb::Drill).then_some("--slot"));
    words
}

impl Child {
    /// Asks it to stop at its next safe point.
    pub(super) fn stop(&self) {
        // It may have ended in this moment.
        let _ = kill(self.pid, Signal::SIGTERM);
    }
}

/// How a run ended, for people.
pub(super) fn ended(status: Option<ExitStatus>) -> String {
    match status.map(|status| (status.code(), status.signal())) {
        Some((Some(0), _)) => "done".to_owned(),
        Some((Some(code), _)) => format!("ended with {code}"),
        Some((None, Some(signal))) => format!("was killed by signal {signal}"),
        _ => "ended, nobody knows how".to_owned(),
    }
}

/// Whether a run that ended so has told of its end itself, where there was something to tell. One that was killed has not,
/// nor one that never came so far.
pub(super) fn has_told(verb: Verb, status: Option<ExitStatus>) -> bool {
    let Some(code) = status.and_then(|status| status.code()) else { return false };
    let told: &[Exit] = match verb {
        Verb::Run | Verb::ReadAgain => &[
            Exit::Done,
            Exit::Failed,
            Exit::Losses,
            Exit::Missed,
            Exit::Behind,
            Exit::NoRepository,
            Exit::Locked,
            Exit::WrongPassphrase,
            Exit::Interrupted,
        ],
        Verb::Drill => &[Exit::Done, Exit::Losses, Exit::Missed, Exit::Interrupted],
        Verb::ReadBack => {
            &[Exit::Done, Exit::Failed, Exit::NoRepository, Exit::Locked, Exit::WrongPassphrase, Exit::Interrupted]
        }
    };
    told.iter().any(|exit| *exit as i32 == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_run_is_what_a_person_would_type() {
        let typed = |verb, slot| words(&Task { verb, name: "app".to_owned() }, slot).join(" ");
        let slot = Some(Timestamp::UNIX_EPOCH);
        assert_eq!(typed(Verb::Run, slot), "run app --slot");
        assert_eq!(typed(Verb::Run, None), "run app");
        assert_eq!(typed(Verb::ReadAgain, slot), "run app --read-again --slot");
        assert_eq!(typed(Verb::Drill, slot), "drill app --trigger=schedule");
        assert_eq!(typed(Verb::ReadBack, slot), "-r app check --read-data --slot");
    }

    #[test]
    fn what_was_killed_or_never_began_has_told_nobody() {
        let (killed, code) = (ExitStatus::from_raw(9), |code: i32| Some(ExitStatus::from_raw(code << 8)));
        for verb in [Verb::Run, Verb::ReadAgain, Verb::Drill, Verb::ReadBack] {
            assert!(!has_told(verb, Some(killed)) && !has_told(verb, None) && !has_told(verb, code(101)), "{verb:?}");
            assert!(!has_told(verb, code(2)) && has_told(verb, code(0)) && has_told(verb, code(130)), "{verb:?}");
        }
        assert!(has_told(Verb::Run, code(1)) && !has_told(Verb::Drill, code(1)) && has_told(Verb::ReadBack, code(1)));
        assert_eq!(ended(Some(killed)), "was killed by signal 9");
    }
}
