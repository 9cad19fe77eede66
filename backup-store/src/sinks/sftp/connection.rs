//! One login: the system's `ssh` with the SFTP subsystem behind it.
//!
//! `ssh` is used as it is configured: keys, agents, jump hosts and host names are its affair. Two things are not left to
//! it: it asks nobody anything, and it speaks only with a host whose key is known. What it complains about is kept for the
//! message when the connection ends.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backup_core::contracts::{SinkError, SinkErrorKind};
use openssh_sftp_client::{Sftp, SftpOptions};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use crate::server::SftpServer;

/// For how long a login may take, `ssh`'s own time-out for the connection included.
const LOGIN_TIME_MAX: Duration = Duration::from_secs(45);

/// For how long the last words of an `ssh` that has ended are waited for.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_secs(2);

/// As much of its complaints is kept.
const COMPLAINT_BYTES_MAX: usize = 2_048;

/// What `ssh` says, lines before its last, of a host that has another key than the one it knows.
const KEY_HAS_CHANGED: &str = "HOST IDENTIFICATION HAS CHANGED";

/// Settings that are ours to say: nothing is asked, an unknown host is refused, a dead connection is noticed.
const SETTINGS: [&str; 6] = [
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=3",
    "RequestTTY=no",
];

/// A login that stands. `ssh` ends with it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sftp: Sftp,
    complaint: Complaint,
    _ssh: Child,
}

/// The end of what `ssh` has said on its standard error.
#[derive(Clone, Debug, Default)]
struct Complaint(Arc<Mutex<Vec<u8>>>);

impl Connection {
    pub(super) async fn open(server: &SftpServer) -> Result<Self, SinkError> {
        let subject = server.shown();
        let mut ssh = command(server).spawn().map_err(|error| {
            let hint = "install OpenSSH's client: places that begin with sftp: are reached by the program ssh";
            SinkError::new(SinkErrorKind::Other, subject.as_str()).caused_by(format!("ssh: {error}")).with_hint(hint)
        })?;
        let broken = || SinkError::new(SinkErrorKind::Other, subject.as_str());
        let (Some(stdin), Some(stdout), Some(stderr)) = (ssh.stdin.take(), ssh.stdout.take(), ssh.stderr.take()) else {
            return Err(broken().caused_by("ssh has no pipes"));
        };
        let complaint = Complaint::default();
        let listener = tokio::spawn(complaint.clone().listen(stderr));
        match timeout(LOGIN_TIME_MAX, Sftp::new(stdin, stdout, SftpOptions::new())).await {
            Ok(Ok(sftp)) => Ok(Self { sftp, complaint, _ssh: ssh }),
            Ok(Err(error)) => {
                // It has hung up; what it has to say may still be on its way.
                let _ = timeout(LAST_WORDS_TIME_MAX, listener).await;
                let has_changed = complaint.says(KEY_HAS_CHANGED);
                let words = complaint.text().unwrap_or_else(|| error.to_string());
                Err(refused(subject.clone(), server, words, has_changed))
            }
            Err(_) => Err(SinkError::new(SinkErrorKind::Unavailable, subject)
                .caused_by(format!("no login within {} s", LOGIN_TIME_MAX.as_secs()))),
        }
    }

    /// What `ssh` said last, when the connection ended.
    pub(super) fn last_words(&self) -> Option<String> {
        self.complaint.text()
    }
}

fn command(server: &SftpServer) -> Command {
    let mut command = Command::new("ssh");
    if let Some(file) = &server.ssh_config {
        command.arg("-F").arg(file);
    }
    for setting in SETTINGS {
        command.args(["-o", setting]);
    }
    if let Some(port) = server.port {
        command.args(["-p", &port.to_string()]);
    }
    if let Some(user) = &server.user {
        command.args(["-l", user]);
    }
    command.args(["-s", "--", &server.host, "sftp"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // Whoever interrupts this program at a terminal lets it end in order, and for that it needs its connection.
    command.process_group(0);
    command
}

/// What a person types to log in as `command` does.
fn by_hand(server: &SftpServer) -> String {
    let mut text = String::from("ssh");
    if let Some(file) = &server.ssh_config {
        text += &format!(" -F {}", file.display());
    }
    if let Some(port) = server.port {
        text += &format!(" -p {port}");
    }
    match &server.user {
        Some(user) => text + &format!(" {user}@{}", server.host),
        None => text + &format!(" {}", server.host),
    }
}

/// What it means that `ssh` ended with these words, `has_changed` when it has said before that the host's key did.
fn refused(subject: String, server: &SftpServer, words: String, has_changed: bool) -> SinkError {
    let says = |what: &str| words.to_ascii_lowercase().contains(what);
    let by_hand = by_hand(server);
    if has_changed {
        return SinkError::new(SinkErrorKind::PermissionDenied, subject)
            .caused_by("the host has another key than the one that is known of it")
            .with_hint(format!(
                "it is a new machine, or somebody stands in between: ask its owner; if it is right, take the old key out of \
                 known_hosts, log in once by hand, and compare: {by_hand}"
            ));
    }
    let (kind, hint) = if says("host key verification failed") {
        let hint = format!("compare its key with one that you trust, then let ssh know it: {by_hand}");
        (SinkErrorKind::PermissionDenied, hint)
    } else if says("permission denied") || says("too many authentication failures") {
        let hint = format!("log in by key: it must get as far without a question by hand: {by_hand}");
        (SinkErrorKind::PermissionDenied, hint)
    } else if says("subsystem request failed") {
        (SinkErrorKind::Other, "the server offers no SFTP: switch it on there (Subsystem sftp)".to_owned())
    } else if says("bad configuration option") || says("can't open user config file") {
        (SinkErrorKind::Other, "check the configuration of ssh".to_owned())
    } else if says("failed to join tokio task") {
        // The runtime is being shut down: nobody waits for this login any more, and none must be tried again.
        (SinkErrorKind::Other, "begin again".to_owned())
    } else {
        (SinkErrorKind::Unavailable, "check the host and the network".to_owned())
    };
    SinkError::new(kind, subject).caused_by(words).with_hint(hint)
}

impl Complaint {
    async fn listen(self, mut stderr: ChildStderr) {
        let mut piece = [0; 512];
        while let Ok(count @ 1..) = stderr.read(&mut piece).await {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(&piece[..count]);
            let too_many = kept.len().saturating_sub(COMPLAINT_BYTES_MAX);
            kept.drain(..too_many);
        }
    }

    fn says(&self, what: &str) -> bool {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).contains(what)
    }

    /// The last line that says something.
    fn text(&self) -> Option<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let line =
            text.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.ends_with("Connection closed"))?;
        Some(line.chars().filter(|character| !character.is_control()).take(240).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_says_is_understood() {
        for (words, kind, word) in [
            ("Host key verification failed.", SinkErrorKind::PermissionDenied, "compare its key"),
            ("me@host: Permission denied (publickey).", SinkErrorKind::PermissionDenied, "log in by key"),
            ("ssh: connect to host h port 22: Connection refused", SinkErrorKind::Unavailable, "network"),
            ("subsystem request failed on channel 0", SinkErrorKind::Other, "SFTP"),
            ("OriginalError: Failed to join tokio task., and more", SinkErrorKind::Other, "again"),
        ] {
            let server = SftpServer::parse("//host/x").unwrap();
            let error = refused("sftp://host/x".to_owned(), &server, words.to_owned(), false);
            assert_eq!(error.kind, kind, "{words}");
            assert!(error.hint.as_ref().is_some_and(|hint| hint.contains(word)), "{error:?}");
        }
    }

    #[test]
    fn what_to_type_is_what_was_tried() {
        let server = SftpServer::parse("//me@nas:2222/x?ssh_config=/etc/backup/ssh_config").unwrap();
        for (words, has_changed) in [("Host key verification failed.", false), ("", true), ("Permission denied", false)]
        {
            let hint = refused(String::from("x"), &server, words.to_owned(), has_changed).hint.unwrap();
            assert!(hint.ends_with(": ssh -F /etc/backup/ssh_config -p 2222 me@nas"), "{hint}");
        }
    }

    #[test]
    fn the_host_is_never_taken_for_an_option() {
        let server = SftpServer::parse("//host/x").unwrap();
        let server = SftpServer { host: "-oProxyCommand=x".to_owned(), ..server };
        let command = command(&server);
        let arguments: Vec<_> = command.as_std().get_args().collect();
        assert_eq!(arguments[arguments.len() - 3..], ["--", "-oProxyCommand=x", "sftp"]);
    }
}
