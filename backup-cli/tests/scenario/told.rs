//! Messages as those get them who are told: a webhook and a mail server.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use backup_core::testing::free_port;

use crate::catcher::Catcher;
use crate::driver::{Ran, World};
use crate::{Running, tool};

/// A mail server that keeps what it takes in a folder.
struct MailServer {
    _process: Running,
    port: u16,
    folder: PathBuf,
}

impl MailServer {
    fn start(folder: &Path) -> Self {
        let port = free_port();
        let folder = folder.join("mail");
        let child = Command::new(tool("BACKUP_TEST_AIOSMTPD"))
            .args(["--nosetuid", "--listen", &format!("127.0.0.1:{port}"), "--class", "aiosmtpd.handlers.Mailbox"])
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { _process: Running(child), port, folder };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(180), "the mail server does not start");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// The mails that it has got.
    fn mails(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.join("new")).into_iter().flatten();
        entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    }
}

#[test]
#[ignore = "needs aiosmtpd"]
fn a_failure_a_drill_that_fails_and_their_end_are_told_once_by_webhook_and_by_mail() {
    let world = World::with_repository();
    // Where a check of a drill sees it too.
    let broken = world.path().join("state/broken");
    fs::create_dir(broken.parent().unwrap()).unwrap();
    let (hook, mail) = (Catcher::start(), MailServer::start(world.path()));
    let text = format!(
        "[repositories.local]\nurl = \"{}\"\n\
        [jobs.app]\nsource = \"{}\"\noffsite = \"none: a test\"\nretries = {{ attempts = 1 }}\n\
        hooks = {{ before = \"test ! -e {broken}\" }}\ndrill = {{ checks = [ {{ command = \"test ! -e {broken}\" }} ], \
        sandbox = {{ shown = [\"{shown}\"] }} }}\n\
        [notify.hook]\nwebhook = {{ url = \"{}\" }}\n\
        [notify.mail]\nmail = {{ server = \"127.0.0.1\", port = {}, encryption = \"none\", from = \"backup@example.org\", \
        to = [\"ops@example.org\"] }}\n",
        world.repository().display(),
        world.source().display(),
        hook.url(),
        mail.port,
        broken = broken.display(),
        shown = broken.parent().unwrap().display(),
    );
    fs::write(world.path().join("backup.toml"), text).unwrap();
    let run = |verb: &str| {
        let mut command = world.command();
        command.env_remove("BACKUP_REPO").env("HOME", world.path());
        Ran::of(&command.args(["-c", "backup.toml", "--quiet", verb, "app"]).output().unwrap())
    };
    run("run").succeeds();
    run("drill").succeeds();
    fs::write(&broken, "").unwrap();
    for _ in 0..2 {
        run("run").ends_with(1);
        run("drill").ends_with(4);
    }
    fs::remove_file(&broken).unwrap();
    run("run").succeeds();
    run("drill").succeeds();

    let caught = hook.caught();
    let told: Vec<_> = caught.iter().map(|one| format!("{} {}", one["event"], one["state"]).replace('"', "")).collect();
    assert_eq!(told, ["failure bad", "drill bad", "failure recovered", "drill recovered"], "{caught:?}");
    assert!(caught[0]["text"].as_str().unwrap().contains("the hook before of app failed"), "{}", caught[0]);
    let mails = mail.mails();
    assert_eq!(mails.len(), 4, "{mails:?}");
    for mail in &mails {
        assert!(mail.contains("From: backup@example.org") && mail.contains("To: ops@example.org"), "{mail}");
        assert!(
            mail.contains("Subject: backup of app on ") && mail.contains("`backup status app` tells more"),
            "{mail}"
        );
    }
    assert_eq!(mails.iter().filter(|mail| mail.contains("drill is over")).count(), 1, "{mails:?}");
}
