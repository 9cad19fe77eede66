//! Requests to stop that come from outside.
//!
//! SIGINT and SIGTERM ask the running verb to stop at its next safe point; a second one ends the process at once, which
//! costs nothing but time, because a repository survives being killed. SIGHUP is heard and passed over: a terminal that
//! goes away does not end a backup, and `restic unlock` sends it to ask whether a process lives. SIGPIPE is ignored by
//! Rust's runtime; a reader that went away shows as a write error.

use std::io::{self, IsTerminal as _};
use std::process;
use std::sync::{Mutex, PoisonError, mpsc};

use backup_core::cancel::Cancel;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::say;
use crate::exit::Exit;

/// The terminal as it was before a passphrase is typed on it without echo.
static TYPING: Mutex<Option<Termios>> = Mutex::new(None);

/// Listens from now on; the token is asked to stop by the first signal.
pub(crate) fn listen() -> Cancel {
    let cancel = Cancel::new();
    let token = cancel.clone();
    let (ready, heard) = mpsc::channel();
    let spawned = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        // Without a listener signals do what they always do, which is safe as well.
        let _ = hear(&token, ready);
    });
    drop(spawned);
    // Until it listens, or cannot.
    let _ = heard.recv();
    cancel
}

/// Runs `typing`, during which the first signal ends the process and leaves the terminal as it was.
pub(crate) fn while_typing<T>(typing: impl FnOnce() -> T) -> T {
    let set = |state| *TYPING.lock().unwrap_or_else(PoisonError::into_inner) = state;
    set(tcgetattr(io::stdin()).or_else(|_| tcgetattr(io::stderr())).ok());
    let typed = typing();
    set(None);
    typed
}

fn hear(cancel: &Cancel, ready: mpsc::Sender<()>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        drop(ready);
        loop {
            tokio::select! {
                _ = interrupt.recv() => asked(cancel),
                _ = terminate.recv() => asked(cancel),
                _ = hangup.recv() => {}
            }
        }
    })
}

fn asked(cancel: &Cancel) {
    if let Some(before) = TYPING.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
        let _ = tcsetattr(io::stderr(), OptionalActions::Now, &before);
        say("");
        process::exit(Exit::Interrupted as i32);
    }
    if cancel.requested() {
        process::exit(Exit::Interrupted as i32);
    }
    cancel.request();
    // A bar that is being drawn is in the way.
    let clear = if io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
    say(&format!("{clear}stopping at the next safe point; once more to stop at once"));
}
