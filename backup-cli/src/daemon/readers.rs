//! Who reads the repositories: a thread for each, so that one that does not answer keeps nobody else waiting.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use backup_core::cancel::Cancel;

use super::Wake;
use crate::args::Globals;
use crate::config;
use crate::exit::Failure;
use crate::facts::Reading;
use crate::session::Session;

/// A thread that reads one repository again and again, until this is dropped.
#[derive(Debug)]
pub(super) struct Reader {
    /// The repository.
    pub(super) repository: String,
    again: Sender<()>,
}

impl Reader {
    /// Reads `repository` now, and then every `every`, and whenever it is asked to.
    pub(super) fn start(
        repository: &config::Repository,
        every: Duration,
        globals: &Globals,
        wakes: &Sender<Wake>,
        cancel: &Cancel,
    ) -> Result<Self, Failure> {
        let (again, asked) = mpsc::channel();
        let (globals, wakes, cancel) = (globals.clone(), wakes.clone(), cancel.clone());
        let name = repository.name.clone();
        let repository = repository.clone();
        thread::Builder::new()
            .name(format!("read {name}"))
            .spawn(move || read(&repository, every, Session::new(globals, cancel), &wakes, &asked))
            .map_err(|error| Failure::because("a thread that reads a repository", &error))?;
        Ok(Self { repository: name, again })
    }

    /// Reads it again soon.
    pub(super) fn ask(&self) {
        // A thread that has ended was told so by who started it.
        let _ = self.again.send(());
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the thread's own session")]
fn read(
    repository: &config::Repository,
    every: Duration,
    session: Session,
    wakes: &Sender<Wake>,
    asked: &Receiver<()>,
) {
    let mut open = None;
    let mut reading = Reading::default();
    loop {
        reading = reading.again(repository, &mut open, &session);
        if wakes.send(Wake::Read { repository: repository.name.clone(), reading: reading.clone() }).is_err() {
            return;
        }
        match asked.recv_timeout(every) {
            Ok(()) => while asked.try_recv().is_ok() {},
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
