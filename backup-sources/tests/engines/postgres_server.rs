//! Servers of PostgreSQL to be backed up, each in a folder of its own, as nobody when root runs the tests.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use backup_sources::databases::manifest::Manifest;
use backup_sources::databases::postgres::{DumpOptions, Folders, PostgresSource, Server as Address, Settings};
use backup_sources::databases::url::DatabaseUrl;
use tempfile::{TempDir, tempdir};

use crate::repository::Repo;

/// PostgreSQL refuses to run as root.
pub(crate) const NOBODY: u32 = 65_534;

/// A server. It ends with the test.
pub(crate) struct Server {
    pub(crate) programs: PathBuf,
    pub(crate) folder: TempDir,
    child: Child,
}

impl Server {
    /// One of version 15, which Debian has.
    pub(crate) fn new() -> Self {
        let programs = programs(15);
        let folder = open_folder();
        if is_root() {
            chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = folder.path().join("data");
        let mut initdb = as_nobody(&programs.join("initdb"), folder.path());
        initdb.args(["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "-D"]);
        let made = initdb.arg(&data).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut command = as_nobody(&programs.join("postgres"), folder.path());
        command.arg("-D").arg(&data).arg("-k").arg(folder.path());
        command.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "cluster_name=production"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { programs, folder, child };
        let began = Instant::now();
        while server.try_sql("postgres", "SELECT 1").is_err() {
            assert!(began.elapsed() < Duration::from_secs(180), "the server does not start");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub(crate) fn try_sql(&self, database: &str, script: &str) -> Result<String, String> {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-f", "-"]);
        command.arg("-h").arg(self.folder.path()).env("LC_ALL", "C");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let script = script.to_owned();
        let writer = thread::spawn(move || drop(input.write_all(script.as_bytes())));
        let ended = child.wait_with_output().unwrap();
        writer.join().unwrap();
        match ended.status.success() {
            true => Ok(String::from_utf8(ended.stdout).unwrap().trim().to_owned()),
            false => Err(String::from_utf8_lossy(&ended.stderr).into_owned()),
        }
    }

    #[track_caller]
    pub(crate) fn sql(&self, database: &str, script: &str) -> String {
        self.try_sql(database, script).unwrap()
    }

    /// A new database.
    #[track_caller]
    pub(crate) fn database(&self, name: &str, script: &str) {
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\""));
        self.sql(name, script);
    }

    /// Its address for `user`.
    pub(crate) fn address(&self, user: &str) -> Address {
        let url = DatabaseUrl::parse(format!("postgres://{user}@/?host={}", self.folder.path().display())).unwrap();
        Address::new(&url, &Settings { folders: self.folders(), ..Settings::default() }).unwrap()
    }

    pub(crate) fn folders(&self) -> Folders {
        Folders { only: Some(self.programs.clone()), also: Vec::new() }
    }

    /// Backs a database up; its manifest.
    #[track_caller]
    pub(crate) fn back_up(&self, repo: &Repo, database: &str) -> Manifest {
        let mut source = PostgresSource::connect(&self.address("postgres"), database, &DumpOptions::default()).unwrap();
        repo.back_up(&mut source).unwrap();
        repo.manifest(&format!("/postgres/{database}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Immediate shutdown: a kill would leave its children.
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGQUIT);
        let _ = self.child.wait();
    }
}

/// The folder of a version's programs.
pub(crate) fn programs(major: u32) -> PathBuf {
    let variable = format!("BACKUP_TEST_POSTGRES_{major}");
    let program = std::env::var_os(&variable).unwrap_or_else(|| panic!("{variable} names no program"));
    Path::new(&program).parent().unwrap().to_owned()
}

/// A folder that everybody may look into.
pub(crate) fn open_folder() -> TempDir {
    let folder = tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

pub(crate) fn is_root() -> bool {
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
