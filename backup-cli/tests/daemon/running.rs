//! A daemon that a test has started: asked over HTTP, sent signals, and stopped when the test ends, however it ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// A running daemon.
pub(crate) struct Daemon {
    process: Child,
    pub(crate) address: SocketAddr,
    said: Arc<Mutex<String>>,
    listener: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts what `command` says, which ends in `daemon`, and waits until it has read its repositories.
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap());
        let said = Arc::new(Mutex::new(String::new()));
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it has ended: {}", said.lock().unwrap());
            said.lock().unwrap().push_str(&line);
            if let Some(rest) = line.split_once("http://").map(|(_, rest)| rest) {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        let heard = Arc::clone(&said);
        let listener = thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                heard.lock().unwrap().push_str(&std::mem::take(&mut line));
            }
        });
        let daemon = Self { process, address, said, listener: Some(listener) };
        daemon.wait_for("it is ready", || daemon.get("/readyz").0 == 200);
        daemon
    }

    /// Asks for a path; the status and the body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.get_with(path, "Accept: */*")
    }

    /// The same with a further line of the request's head.
    pub(crate) fn get_with(&self, path: &str, header: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let host = self.address;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n{header}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// All that it has said on standard error until now.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until something is so.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < until, "waited in vain until {what}:\n{}", self.said());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Asks it to stop; its exit code, and all that it said.
    pub(crate) fn stop(mut self) -> (i32, String) {
        self.signal("TERM");
        let code = self.process.wait().unwrap().code().unwrap_or(-1);
        if let Some(listener) = self.listener.take() {
            listener.join().unwrap();
        }
        (code, self.said())
    }

    /// Kills it, and leaves its run alone.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
