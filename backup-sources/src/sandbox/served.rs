//! A server that runs as long as its sandbox: started and ended by a thread of its own.
//!
//! The kernel ends a child with the thread that started it (`setpriv --pdeathsig`), so that thread must live exactly as
//! long as the server is wanted, whoever calls from wherever. When this process is killed, the thread is gone and the
//! server with it. It is ended at once and not asked to: nothing of what it holds is kept.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use backup_core::cancel::Cancel;
use backup_core::contracts::SandboxError;
use backup_core::limits::{SANDBOX_START_MAX, STDERR_TAIL_BYTES};
use rustix::process::{Pid, Signal, kill_process_group};

/// How often the thread looks whether the server still runs.
const LOOK: Duration = Duration::from_millis(50);

/// How often one asks whether the server answers.
const ASK: Duration = Duration::from_millis(10);

/// A server that runs. Dropping it ends it. Where its input is a pipe, that stays open until then.
#[derive(Debug)]
pub(crate) struct Served {
    name: &'static str,
    log: PathBuf,
    /// Dropping it is the request to end.
    request: Option<Sender<()>>,
    /// Gives what the server ended with when it ends by itself.
    ended: Receiver<String>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// Starts it, with what it says going to the file `log`.
    pub(crate) fn start(name: &'static str, mut command: Command, log: &Path) -> Result<Self, SandboxError> {
        let failed = |error: io::Error| SandboxError::new(format!("start {name}"), error).ours();
        let file = File::create(log).map_err(failed)?;
        command.stdout(file.try_clone().map_err(failed)?).stderr(file);
        let (request, requested) = channel();
        let (tell, ended) = channel();
        let (began, started) = channel();
        let keep = move || keep(command, &began, &requested, &tell);
        let thread = std::thread::Builder::new().name("backup-sandbox".to_owned()).spawn(keep).map_err(failed)?;
        match started.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(error)),
            Err(_) => return Err(failed(io::Error::other("a thread ended"))),
        }
        Ok(Self { name, log: log.to_owned(), request: Some(request), ended, thread: Some(thread) })
    }

    /// Asks until there is an answer; gives up when the server has ended, or after [`SANDBOX_START_MAX`].
    pub(crate) fn wait<T>(
        &self,
        cancel: &Cancel,
        mut ask: impl FnMut() -> Result<T, String>,
    ) -> Result<T, SandboxError> {
        let failed = |why: String| SandboxError::new(format!("start {}", self.name), why).ours();
        let began = Instant::now();
        loop {
            let why = match ask() {
                Ok(answer) => return Ok(answer),
                Err(why) => why,
            };
            cancel.check().map_err(|_| failed("a stop was asked for".to_owned()))?;
            self.check().map_err(SandboxError::ours)?;
            if began.elapsed() > SANDBOX_START_MAX {
                return Err(failed(format!("it does not answer: {why}")));
            }
            std::thread::sleep(ASK);
        }
    }

    /// An error when it has ended by itself, with its last words. It is not ours: with restored data in it, it should
    /// have run on.
    pub(crate) fn check(&self) -> Result<(), SandboxError> {
        match self.ended.try_recv() {
            Ok(status) => {
                let said = self.last_words();
                let why = if said.is_empty() { status } else { said };
                Err(SandboxError::new(format!("run {}", self.name), format!("it has ended: {why}")))
            }
            Err(_) => Ok(()),
        }
    }

    /// Whether it ends by itself within `limit`.
    pub(crate) fn has_ended_within(&self, limit: Duration) -> bool {
        self.ended.recv_timeout(limit) != Err(RecvTimeoutError::Timeout)
    }

    /// The last line of what it said.
    pub(crate) fn last_words(&self) -> String {
        let tail = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&self.log)?;
            let length = fs::metadata(&self.log)?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(STDERR_TAIL_BYTES as u64)))?;
            let mut bytes = Vec::new();
            file.take(STDERR_TAIL_BYTES as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = tail().unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
    }

    fn end(&mut self) {
        self.request = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.end();
    }
}

fn keep(mut command: Command, began: &Sender<io::Result<()>>, requested: &Receiver<()>, tell: &Sender<String>) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let _ = began.send(Err(error));
            return;
        }
    };
    let _ = began.send(Ok(()));
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    while requested.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        if let Ok(Some(status)) = child.try_wait() {
            let _ = tell.send(status.to_string());
            return;
        }
    }
    // The number is still the child's: nobody has waited for it.
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}
