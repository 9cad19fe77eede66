//! The daemon as those meet it who ask it, change its configuration, and stop it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use crate::driver::{PASSPHRASE, World};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon, stopped when the test ends, however it ends.
struct Daemon {
    process: Child,
    address: SocketAddr,
    said: BufReader<ChildStderr>,
}

impl Daemon {
    /// Starts one in a world whose configuration has these jobs, and waits until it has read its repository.
    fn start(world: &World, jobs: &str) -> Self {
        configure(world, jobs);
        let mut command: Command = world.command();
        command.env_remove("BACKUP_REPO").env_remove("BACKUP_PASSWORD");
        command.args(["-c", "backup.toml", "daemon"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "it has ended");
            if let Some(rest) = line.split_once("http://").map(|(_, rest)| rest) {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        let daemon = Self { process, address, said };
        daemon.wait_for("it is ready", || daemon.get("/readyz").0 == 200);
        daemon
    }

    /// Asks for a path; the status and the body.
    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn wait_for(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < until, "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Asks it to stop; its exit code, and all that it said besides.
    fn stop(mut self) -> (i32, String) {
        self.signal("TERM");
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        (self.process.wait().unwrap().code().unwrap_or(-1), said)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn configure(world: &World, jobs: &str) {
    let password = world.path().join("passphrase");
    fs::write(&password, PASSPHRASE).unwrap();
    let text = format!(
        "[daemon]\nlisten = \"127.0.0.1:0\"\n[repositories.local]\nurl = \"{}\"\npassword_file = \"{}\"\n{jobs}",
        world.repository().display(),
        password.display()
    );
    fs::write(world.path().join("backup.toml"), text).unwrap();
}

fn job(world: &World, name: &str, rest: &str) -> String {
    let source = world.source().display().to_string();
    format!("[jobs.{name}]\nsource = {{ files = [\"{source}\"] }}\noffsite = \"none: a test\"\n{rest}\n")
}

#[test]
fn it_shows_what_the_repository_holds_and_stops_when_it_is_asked_to() {
    let world = World::with_repository();
    world.create(["--job", "app"]);
    let daemon =
        Daemon::start(&world, &(job(&world, "app", "") + &job(&world, "never", "objectives = { rpo = \"1h\" }")));
    assert_eq!(daemon.get("/healthz"), (200, "alive\n".to_owned()));
    assert_eq!(daemon.get("/nothing").0, 404);
    let (status, page) = daemon.get("/");
    assert_eq!(status, 200);
    assert!(
        page.contains("<strong>never</strong>: there is no backup of never. Try <code>backup run never</code>"),
        "{page}"
    );
    let (status, figures) = daemon.get("/metrics");
    assert_eq!(status, 200);
    assert!(figures.contains("backup_last_success_timestamp{job=\"app\",repository=\"local\"} "), "{figures}");
    assert!(figures.contains("backup_rpo_exposure_seconds{job=\"never\",proof=\"present\"} +Inf"), "{figures}");
    let (code, said) = daemon.stop();
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_configuration_that_went_wrong_is_told_and_the_old_one_stays() {
    let world = World::with_repository();
    let daemon = Daemon::start(&world, &job(&world, "app", ""));
    configure(&world, &job(&world, "app", "shedule = \"0 2 * * *\""));
    daemon.signal("HUP");
    daemon.wait_for("the page tells", || daemon.get("/").1.contains("the configuration could not be read again"));
    assert!(daemon.get("/metrics").1.contains("backup_copies{job=\"app\"}"));
    configure(&world, &job(&world, "other", "schedule = \"0 2 * * *\""));
    daemon.signal("HUP");
    daemon.wait_for("the new job is there", || {
        let figures = daemon.get("/metrics").1;
        figures.contains("backup_schedule_interval_seconds{job=\"other\"} 86400") && !figures.contains("job=\"app\"")
    });
    assert!(!daemon.get("/").1.contains("could not be read again"));
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn what_changes_is_backed_up_without_anybody_asking() {
    let world = World::with_repository();
    let daemon = Daemon::start(&world, &job(&world, "app", "trigger = \"on-change\"\nsettle = \"1s\""));
    // What changed while nobody watched: the first run.
    daemon.wait_for("the first run is seen", || {
        daemon.get("/metrics").1.contains("backup_last_success_timestamp{job=\"app\"")
    });
    let count = || world.json(["snapshots"])["snapshots"].as_array().map_or(0, Vec::len);
    let before = count();
    fs::write(world.source().join("new.txt"), "new").unwrap();
    daemon.wait_for("the change is backed up", || count() > before);
    let (code, said) = daemon.stop();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("run app begins") && said.contains("run app done"), "{said}");
}

#[test]
fn a_second_daemon_in_the_same_place_says_that_there_is_one() {
    let world = World::with_repository();
    let daemon = Daemon::start(&world, &job(&world, "app", ""));
    let text = fs::read_to_string(world.path().join("backup.toml")).unwrap();
    fs::write(world.path().join("backup.toml"), text.replace("127.0.0.1:0", &daemon.address.to_string())).unwrap();
    let ran = world.run(["-c", "backup.toml", "daemon"]).ends_with(1);
    assert!(
        ran.err.contains(&format!("listening on {}", daemon.address)) && ran.err.contains("another daemon?"),
        "{}",
        ran.err
    );
}

#[test]
#[ignore = "needs promtool"]
fn prometheus_takes_the_figures() {
    let world = World::with_repository();
    world.create(["--job", "app"]);
    let rest = "schedule = \"0 2 * * *\"\nobjectives = { rpo = \"26h\", rto = \"2h\" }";
    let daemon = Daemon::start(&world, &job(&world, "app", rest));
    let figures = world.path().join("figures");
    fs::write(&figures, daemon.get("/metrics").1).unwrap();
    // It reads standard input alone.
    let script = format!("exec \"$BACKUP_TEST_PROMTOOL\" check metrics < '{}'", figures.display());
    assert!(std::env::var_os("BACKUP_TEST_PROMTOOL").is_some(), "BACKUP_TEST_PROMTOOL names no program");
    let output = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}
