//! The thread that answers requests and hears signals.

use std::net::TcpListener as StdListener;
use std::sync::mpsc::Sender;
use std::thread;

use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Wake;
use super::server::{Answers, serve};
use crate::exit::Failure;

/// Starts it. It ends with the process.
///
/// # Errors
///
/// When the system gives no thread, no runtime, or no signals.
pub(super) fn start(listener: StdListener, answers: Answers, wakes: Sender<Wake>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::because("the thread that answers requests", &error);
    listener.set_nonblocking(true).map_err(failed)?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (listener, stop) = {
        let _inside = runtime.enter();
        let heard = |kind| signal(kind).map_err(failed);
        let stop = [heard(SignalKind::terminate())?, heard(SignalKind::interrupt())?, heard(SignalKind::hangup())?];
        (TcpListener::from_std(listener).map_err(failed)?, stop)
    };
    let spawned = thread::Builder::new().name("answers".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = serve(listener, answers) => {}
                () = hear(stop, wakes) => {}
            }
        });
    });
    spawned.map(drop).map_err(failed)
}

/// Passes signals on.
async fn hear([mut terminate, mut interrupt, mut hangup]: [Signal; 3], wakes: Sender<Wake>) {
    loop {
        let wake = tokio::select! {
            _ = terminate.recv() => Wake::Stop,
            _ = interrupt.recv() => Wake::Stop,
            _ = hangup.recv() => Wake::Reload,
        };
        if wakes.send(wake).is_err() {
            return;
        }
    }
}
