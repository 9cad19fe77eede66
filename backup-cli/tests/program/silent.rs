//! A server that takes connections and never says a word, and what an interrupted run makes of it.
//!
//! What is always true: it holds every connection until the other side has closed it, so a run that waits for its answer
//! ends by its own time-outs, with another exit code. Used by the tests of each kind of store.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::driver::Ran;

/// Only ends a test that would hang.
const LONGEST: Duration = Duration::from_secs(180);

pub(crate) struct Silent {
    pub(crate) address: SocketAddr,
    /// Told `true` when a connection comes, and `false` when one was closed by the other side.
    changes: Receiver<bool>,
}

impl Silent {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (told, changes) = channel();
        // It ends with the test's process.
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let told = told.clone();
                thread::spawn(move || {
                    let _ = told.send(true);
                    let mut heard = [0; 1_024];
                    while let Ok(1..) = stream.read(&mut heard) {}
                    let _ = told.send(false);
                });
            }
        });
        Self { address, changes }
    }

    /// Runs a command until it has connected, interrupts it, and insists that it stops as asked: nothing is waited for,
    /// and no connection, nor a program that holds one, is left. Each command has a server of its own: a connection that
    /// was still in the queue when its program ended would be taken for the next program's, which then is interrupted
    /// before it listens.
    #[track_caller]
    pub(crate) fn interrupts(self, command: &mut Command) {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        assert!(self.changes.recv_timeout(LONGEST).expect("nothing connects"), "a connection ends before it begins");
        assert!(Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap().success());
        let ran = Ran::of(&child.wait_with_output().unwrap()).ends_with(130);
        assert!(ran.err.contains("stopping at the next safe point"), "{}", ran.err);
        assert!(ran.err.contains("stopped on request"), "{}", ran.err);
        assert_eq!((ran.out.as_str(), ran.err.trim_end().lines().count()), ("", 2), "{}", ran.err);
        let mut open = 1;
        while open > 0 {
            let is_new = self.changes.recv_timeout(LONGEST).expect("a connection is left");
            open = if is_new { open + 1 } else { open - 1 };
        }
    }
}
