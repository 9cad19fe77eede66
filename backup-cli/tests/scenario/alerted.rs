//! Prometheus fetches the daemon's figures and Alertmanager passes on what its rules say: the rules that this program
//! writes, with their waiting times taken out.

use std::fs;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use backup_core::testing::free_port;

use crate::catcher::Catcher;
use crate::driver::{Ran, World};
use crate::running::{Daemon, PATIENCE};
use crate::{Running, tool};

fn command(world: &World, arguments: &[&str]) -> Command {
    let mut command = world.command();
    command.env_remove("BACKUP_REPO").env("HOME", world.path()).args(["-c", "backup.toml"]).args(arguments);
    command
}

fn start(mut command: Command, port: u16) -> Running {
    let running = Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < PATIENCE, "{command:?} does not start");
        thread::sleep(Duration::from_millis(50));
    }
    running
}

#[test]
#[ignore = "needs promtool (with prometheus beside it) and alertmanager"]
fn a_job_that_stopped_fires_an_alert_which_ends_with_its_next_success() {
    let world = World::with_repository();
    let text = format!(
        "[daemon]\nlisten = \"127.0.0.1:0\"\nfacts_every = \"1s\"\n[repositories.local]\nurl = \"{}\"\n\
        [jobs.app]\nsource = \"{}\"\noffsite = \"none: a test\"\nobjectives = {{ rpo = \"20s\" }}\n",
        world.repository().display(),
        world.source().display(),
    );
    fs::write(world.path().join("backup.toml"), text).unwrap();
    let backup = |arguments: &[&str]| Ran::of(&command(&world, arguments).output().unwrap()).succeeds();
    let rules = backup(&["alerts", "prometheus"]).out;
    assert!(rules.contains("        for: 5m\n"), "{rules}");
    fs::write(world.path().join("backup.rules.yml"), rules.replace("        for: 5m\n", "        for: 0s\n")).unwrap();

    let hook = Catcher::start();
    let (alertmanager_port, prometheus_port) = (free_port(), free_port());
    let manager_file = world.path().join("alertmanager.yml");
    let receiver = format!("{{name: hook, webhook_configs: [{{url: '{}', send_resolved: true}}]}}", hook.url());
    let route = "{receiver: hook, group_by: [alertname], group_wait: 0s, group_interval: 1s}";
    fs::write(&manager_file, format!("route: {route}\nreceivers: [{receiver}]\n")).unwrap();
    let mut manager = Command::new(tool("BACKUP_TEST_ALERTMANAGER"));
    manager.arg(format!("--config.file={}", manager_file.display())).arg("--cluster.listen-address=");
    manager.arg(format!("--web.listen-address=127.0.0.1:{alertmanager_port}"));
    manager.arg(format!("--storage.path={}", world.path().join("alertmanager").display()));
    let _manager = start(manager, alertmanager_port);

    backup(&["--quiet", "run", "app"]);
    let daemon = Daemon::start(command(&world, &["daemon"]));
    let prometheus_file = world.path().join("prometheus.yml");
    let settings = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [backup.rules.yml]\n\
        alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{alertmanager_port}']}}]}}]}}\n\
        scrape_configs: [{{job_name: backup, honor_labels: true, static_configs: [{{targets: ['{}']}}]}}]\n",
        daemon.address
    );
    fs::write(&prometheus_file, settings).unwrap();
    let mut prometheus = Command::new(tool("BACKUP_TEST_PROMTOOL").with_file_name("prometheus"));
    prometheus.arg(format!("--config.file={}", prometheus_file.display()));
    prometheus.arg(format!("--storage.tsdb.path={}", world.path().join("tsdb").display()));
    prometheus.arg(format!("--web.listen-address=127.0.0.1:{prometheus_port}"));
    let _prometheus = start(prometheus, prometheus_port);

    // Nobody runs the job any more.
    let told = |status: &str| {
        let is_so = |alert: &serde_json::Value| {
            alert["labels"]["alertname"] == "BackupObjectiveMissed"
                && alert["labels"]["job"] == "app"
                && alert["status"] == status
        };
        hook.caught().iter().any(|group| group["alerts"].as_array().is_some_and(|alerts| alerts.iter().any(is_so)))
    };
    daemon.wait_for("the alert fires", || told("firing"));
    assert!(!told("resolved"));
    backup(&["--quiet", "run", "app"]);
    daemon.wait_for("the alert ends", || told("resolved"));
    assert_eq!(daemon.stop().0, 0);
}
