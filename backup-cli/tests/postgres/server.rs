//! A server of its own for a test, and the program beside it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::driver::{Ran, World};

/// Nobody: PostgreSQL refuses to run as root.
pub(crate) const NOBODY: u32 = 65_534;

/// A running server, stopped when it is dropped. It listens on a socket in its folder, and trusts everybody there.
pub(crate) struct Server {
    programs: PathBuf,
    folder: PathBuf,
    port: String,
    child: Child,
    /// A world with a repository, whose folder the server's lies in.
    pub(crate) world: World,
}

impl Server {
    /// A server of the major version, with settings as `name=value`.
    pub(crate) fn start(major: u32, settings: &[&str]) -> Self {
        let variable = format!("BACKUP_TEST_POSTGRES_{major}");
        let program = std::env::var_os(&variable).unwrap_or_else(|| panic!("{variable} names no program"));
        let (world, folder) = place();
        let programs = reachable(Path::new(&program).parent().unwrap(), world.path());
        let data = folder.join("data");
        let mut initdb = as_nobody(&programs.join("initdb"), &folder);
        initdb.args(["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "-D"]);
        let made = initdb.arg(&data).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let child = run(&programs, &folder, settings);
        let server = Self { programs, folder, port: port(settings), child, world };
        server.wait();
        server
    }

    /// A standby of this one, with what it has now.
    pub(crate) fn standby(&self) -> Self {
        let (world, folder) = place();
        let mut copy = as_nobody(&self.programs.join("pg_basebackup"), &folder);
        copy.env("PGHOST", &self.folder).env("PGPORT", &self.port).env("PGUSER", "postgres");
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--pgdata"]).arg(folder.join("data"));
        let made = copy.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let child = run(&self.programs, &folder, &[]);
        let server = Self { programs: self.programs.clone(), folder, port: port(&[]), child, world };
        server.wait();
        server
    }

    /// Stops it at once, as a crash would.
    pub(crate) fn crash(&mut self) {
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        // Immediate shutdown: a kill would leave its children.
        let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGQUIT);
        let _ = self.child.wait();
    }

    /// Starts it again.
    pub(crate) fn restart(&mut self, settings: &[&str]) {
        self.crash();
        self.child = run(&self.programs, &self.folder, settings);
        self.port = port(settings);
        self.wait();
    }

    fn wait(&self) {
        let began = Instant::now();
        while !self.command("psql").args(["-c", "SELECT 1", "postgres"]).output().unwrap().status.success() {
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(180), "the server does not start: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The folder with the server's data and socket.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of the server's programs.
    pub(crate) fn programs(&self) -> &Path {
        &self.programs
    }

    /// One of PostgreSQL's programs, about to be run against this server.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.env("PGHOST", &self.folder).env("PGPORT", &self.port).env("PGUSER", "postgres");
        command.env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    /// Runs a script in a database, and gives what it prints.
    #[track_caller]
    pub(crate) fn sql(&self, database: &str, script: &str) -> String {
        let mut command = self.command("psql");
        command.args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let script = script.to_owned();
        let writer = std::thread::spawn(move || input.write_all(script.as_bytes()));
        let ended = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).unwrap().trim().to_owned()
    }

    /// A new database.
    #[track_caller]
    pub(crate) fn database(&self, name: &str, script: &str) {
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\""));
        self.sql(name, script);
    }

    /// The definitions of a database, as pg_dump prints them.
    #[track_caller]
    pub(crate) fn schema(&self, database: &str) -> String {
        let dumped = self.command("pg_dump").args(["--schema-only", database]).output().unwrap();
        assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
        let text = String::from_utf8(dumped.stdout).unwrap();
        // A random word against injected commands.
        text.lines().filter(|line| !line.starts_with('\\')).collect::<Vec<_>>().join("\n")
    }

    /// The URL of a database.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@/{database}?host={}", self.folder.display())
    }

    /// The program, about to run beside the server.
    pub(crate) fn backup(&self) -> Command {
        let mut command = self.world.command();
        command.env("BACKUP_PG_BIN", &self.programs);
        command
    }

    /// Backs up a database, and gives the summary.
    #[track_caller]
    pub(crate) fn create(&self, database: &str, options: &[&str]) -> Value {
        let output = self.backup().args(["--json", "create", &self.url(database)]).args(options).output().unwrap();
        Ran::of(&output).succeeds().lines().pop().unwrap()
    }

    /// Tries to back up a database.
    pub(crate) fn try_create(&self, database: &str, options: &[&str]) -> Ran {
        Ran::of(&self.backup().args(["create", "--quiet", &self.url(database)]).args(options).output().unwrap())
    }

    /// Restores the latest snapshot into a database, verifies it, and gives the summary.
    #[track_caller]
    pub(crate) fn restore(&self, database: &str, options: &[&str]) -> Value {
        let mut command = self.backup();
        command.args(["--json", "restore", "latest", "--verify", "--to", &self.url(database)]).args(options);
        Ran::of(&command.output().unwrap()).succeeds().lines().pop().unwrap()
    }

    /// Restores the latest snapshot, or a part of it, and does not verify it.
    #[track_caller]
    pub(crate) fn load(&self, database: &str, options: &[&str]) {
        let mut command = self.backup();
        command.args(["restore", "latest", "--to", &self.url(database)]).args(options);
        Ran::of(&command.output().unwrap()).succeeds();
    }

    /// Has the latest snapshot drilled, which must pass.
    #[track_caller]
    pub(crate) fn assert_drilled(&self) {
        let mut drill = self.backup();
        drill.env("HOME", self.world.path()).args(["--json", "drill", "--bin"]).arg(&self.programs);
        let ran = Ran::of(&drill.output().unwrap());
        let drilled = ran.lines().pop().unwrap_or_else(|| panic!("no line: {}", ran.err));
        assert_eq!((ran.code, &drilled["verdict"], &drilled["level"]), (0, &json!("passed"), &json!(4)), "{drilled}");
    }

    /// How many snapshots there are.
    pub(crate) fn snapshots(&self) -> usize {
        self.world.json(["snapshots"])["snapshots"].as_array().unwrap().len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.crash();
    }
}

/// A world with a repository, and the folder in it of a server to come.
fn place() -> (World, PathBuf) {
    let world = World::with_repository();
    let folder = world.path().join("pg");
    fs::create_dir(&folder).unwrap();
    if is_root() {
        fs::set_permissions(world.path(), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    (world, folder)
}

fn run(programs: &Path, folder: &Path, settings: &[&str]) -> Child {
    let mut command = as_nobody(&programs.join("postgres"), folder);
    command.arg("-D").arg(folder.join("data")).arg("-k").arg(folder);
    for setting in ["listen_addresses=", "fsync=off", "max_connections=30"].iter().chain(settings) {
        command.args(["-c", setting]);
    }
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    // When a test is killed nothing must be left running.
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// The port among settings; the socket is named by it too.
fn port(settings: &[&str]) -> String {
    settings.iter().find_map(|setting| setting.strip_prefix("port=")).unwrap_or("5432").to_owned()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A program that runs without root's powers.
pub(crate) fn as_nobody(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env("LC_ALL", "C");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// The programs where nobody can reach them: a cache in root's home is closed to others.
fn reachable(programs: &Path, scratch: &Path) -> PathBuf {
    let tried = as_nobody(&programs.join("postgres"), scratch).arg("--version").output();
    if tried.is_ok_and(|ended| ended.status.success()) {
        return programs.to_owned();
    }
    // Libraries that came with them lie beside their package.
    let install = programs.parent().unwrap();
    let package = install.parent().unwrap();
    let beside = package.with_extension("libs");
    let copy = scratch.join("install").join(package.file_name().unwrap());
    fs::create_dir_all(&copy).unwrap();
    for (from, to) in [(install, copy.as_path()), (&beside, &scratch.join("install"))] {
        if from.is_dir() {
            assert!(Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
        }
    }
    copy.join(install.file_name().unwrap()).join("bin")
}
