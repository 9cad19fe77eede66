//! The packaged unit under a systemd of its own: a Debian in a container, with systemd as its first process, in which the
//! package is installed as anybody would.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::driver::{PASSPHRASE, Ran, World};
use crate::podman::Podman;

/// The tree that all this is built from.
const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A system that runs. It ends with its podman.
struct System {
    podman: Podman,
}

impl System {
    fn boot() -> Self {
        let podman = Podman::from("BACKUP_TEST_DEBIAN_IMAGE", &["debian"]);
        // What the unit takes away from the daemon takes namespaces.
        let words = ["run", "--detach", "--name=system", "--pull=never", "--network=none", "--systemd=always"];
        podman.said(&[&words[..], &["--cap-add=SYS_ADMIN", "localhost/debian", "/sbin/init"]].concat());
        let system = Self { podman };
        system.wait_for("it has booted", || system.says("systemctl is-system-running || true") == "running");
        system
    }

    /// What a script prints that must succeed.
    #[track_caller]
    fn says(&self, script: &str) -> String {
        self.podman.said(&["exec", "system", "/bin/sh", "-c", script])
    }

    #[track_caller]
    fn copy(&self, from: &std::path::Path, to: &str) {
        self.podman.said(&["cp", &from.display().to_string(), &format!("system:{to}")]);
    }

    /// A property of the unit.
    #[track_caller]
    fn shows(&self, property: &str) -> String {
        self.says(&format!("systemctl show backup --value --property={property}"))
    }

    fn journal(&self) -> String {
        self.says("journalctl --unit=backup --no-pager --output=cat")
    }

    #[track_caller]
    fn wait_for(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < Duration::from_secs(180), "waited in vain until {what}:\n{}", self.journal());
            thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
#[ignore = "needs podman, debian-image, cargo-deb and root"]
fn systemd_starts_reloads_watches_and_stops_the_packaged_unit() {
    let world = World::new();
    let output = world.path().join("output");
    fs::create_dir(&output).unwrap();
    let mut make = Command::new(format!("{TOP}/scripts/package"));
    make.args(["--program", env!("CARGO_BIN_EXE_backup"), "--output"]).arg(&output);
    Ran::of(&make.output().unwrap()).succeeds();
    let package = fs::read_dir(&output).unwrap().next().unwrap().unwrap().path();
    let configuration = world.path().join("backup.toml");
    fs::write(
        &configuration,
        "[repositories.local]\nurl = \"/var/backups/repository\"\npassword_file = \"/etc/backup/passphrase\"\n\
         [jobs.app]\nsource = \"/srv\"\noffsite = \"none: a test\"\n",
    )
    .unwrap();

    let system = System::boot();
    system.copy(&package, "/root/backup.deb");
    system.says("dpkg --install /root/backup.deb");
    assert_eq!(system.says("systemctl is-enabled backup || true"), "disabled");

    // Without a configuration there is nothing to do, and that is no failure.
    system.says("systemctl start backup");
    assert_eq!((system.shows("ActiveState"), system.shows("ConditionResult")), ("inactive".into(), "no".into()));
    system.copy(&configuration, "/etc/backup/backup.toml");
    system.says(&format!("umask 077; echo '{PASSPHRASE}' >/etc/backup/passphrase"));
    system.says("backup --quiet --config /etc/backup/backup.toml init");

    // It is started when it says that it is ready, and not before.
    system.says("systemctl start backup");
    assert_eq!((system.shows("ActiveState"), system.shows("Type")), ("active".into(), "notify".into()));
    assert_eq!(system.shows("WatchdogUSec"), "5min");
    let first = system.shows("MainPID");
    // What the unit takes away is gone, and what it has to write to is there.
    let within =
        |script: &str| system.says(&format!("nsenter --target={first} --mount /bin/sh -c '{script}' 2>&1 || true"));
    assert!(within("touch /usr/x").contains("Read-only file system"), "{}", within("touch /usr/x"));
    assert_eq!(within("touch /var/lib/backup/x /var/cache/backup/x /var/backups/x"), "");
    assert_eq!(system.says(&format!("sed -n s/^NoNewPrivs:.//p /proc/{first}/status")), "1");

    system.says("sed -i 's/jobs.app/jobs.other/' /etc/backup/backup.toml && systemctl reload backup");
    system
        .wait_for("the configuration is read again", || system.journal().contains("the configuration was read again"));
    assert_eq!(system.shows("MainPID"), first, "the same process goes on");

    // While it lives it says so in time; when it hangs it is ended and started again.
    system.says(
        "mkdir /etc/systemd/system/backup.service.d && \
         printf '[Service]\\nWatchdogSec=10\\nWatchdogSignal=SIGKILL\\nRestartSec=0\\n' \
         >/etc/systemd/system/backup.service.d/watchdog.conf && systemctl daemon-reload && systemctl restart backup",
    );
    let watched = system.shows("MainPID");
    let spoken = || system.shows("WatchdogTimestampMonotonic");
    for _ in 0..2 {
        let before = spoken();
        system.wait_for("it speaks again", || spoken() != before);
    }
    assert_eq!(
        (system.shows("MainPID"), system.shows("NRestarts")),
        (watched.clone(), "0".into()),
        "it speaks in time"
    );
    system.says(&format!("kill -STOP {watched}"));
    system.wait_for("it is started again", || {
        system.shows("NRestarts") == "1" && system.shows("ActiveState") == "active"
    });
    assert!(system.journal().contains("Watchdog timeout"), "{}", system.journal());

    system.says("systemctl stop backup");
    let ended = ["ActiveState", "Result", "ExecMainStatus"].map(|property| system.shows(property));
    assert_eq!(ended, ["inactive", "success", "0"], "{}", system.journal());
    system.says("dpkg --purge backup && test -e /etc/backup/backup.toml");
}
