//! Servers of MariaDB, and of MySQL where a program for one is named, each in a folder of its own.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use backup_core::clock::{Clock, SystemClock};
use backup_sources::databases::mysql::{
    Encryption, Environment, Existing, MysqlSettings, MysqlSource, MysqlTarget, Server as Address,
};
use tempfile::{TempDir, tempdir};

use crate::repository::{Repo, words};

/// A kind of server, and where its programs are.
#[derive(Clone, Debug)]
pub(crate) struct Flavour {
    pub(crate) server: PathBuf,
    pub(crate) is_mariadb: bool,
}

impl Flavour {
    /// MariaDB always; MySQL when there is one.
    pub(crate) fn all() -> Vec<Self> {
        let mariadb = std::env::var_os("BACKUP_TEST_MARIADBD").expect("scripts/tools mariadbd says where it is");
        let mysql = std::env::var_os("BACKUP_TEST_MYSQLD").filter(|path| !path.is_empty());
        let mariadb = Self { server: mariadb.into(), is_mariadb: true };
        [mariadb].into_iter().chain(mysql.map(|path| Self { server: path.into(), is_mariadb: false })).collect()
    }

    /// The folder above those of the programs.
    fn top(&self) -> PathBuf {
        self.server.ancestors().nth(2).unwrap().to_owned()
    }

    pub(crate) fn programs(&self) -> PathBuf {
        self.top().join("bin")
    }

    fn initialize(&self, data: &Path) {
        let mut command = if self.is_mariadb {
            let mut command = Command::new(self.programs().join("mariadb-install-db"));
            command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
            command.arg(format!("--basedir={}", self.top().display()));
            command.args(["--innodb-log-file-size=8M"]);
            command
        } else {
            let mut command = Command::new(&self.server);
            command.args(["--no-defaults", "--initialize-insecure"]);
            command
        };
        command.args(as_root());
        // Servers that share a folder for temporary tables trip over each other's.
        command.arg(format!("--tmpdir={}", data.parent().unwrap().display()));
        let output = command.arg(format!("--datadir={}", data.display())).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A server. It ends with the test.
pub(crate) struct Server {
    pub(crate) flavour: Flavour,
    pub(crate) folder: TempDir,
    child: Child,
}

impl Server {
    pub(crate) fn new(flavour: &Flavour) -> Self {
        Self::with(flavour, &[])
    }

    /// With options of its own.
    pub(crate) fn with(flavour: &Flavour, options: &[&str]) -> Self {
        let folder = tempdir().unwrap();
        let data = folder.path().join("data");
        flavour.initialize(&data);
        let mut command = Command::new(&flavour.server);
        command
            .args(["--no-defaults", "--skip-networking", "--event-scheduler=OFF"])
            .args(as_root())
            .args(["--log-bin=binlog", "--server-id=1", "--innodb-buffer-pool-size=64M"])
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--tmpdir={}", folder.path().display()))
            .arg(format!("--socket={}", folder.path().join("socket").display()))
            .arg(format!("--pid-file={}", folder.path().join("pid").display()))
            .args(options)
            .current_dir(&folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if flavour.is_mariadb {
            let share = flavour.top().join("share/mysql");
            command.arg(format!("--lc-messages-dir={}", share.display()));
            command.arg(format!("--character-sets-dir={}", share.join("charsets").display()));
            command.arg("--innodb-log-file-size=8M");
        } else {
            // Some are built to look for a folder of the system's.
            command.args(["--mysqlx=OFF", "--secure-file-priv="]);
        }
        let server = Self { flavour: flavour.clone(), folder, child: command.spawn().unwrap() };
        let began = Instant::now();
        while server.try_sql("mysql", "SELECT 1").is_err() {
            assert!(began.elapsed() < Duration::from_secs(180), "the server does not start");
            thread::sleep(Duration::from_millis(50));
        }
        server
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// The server's own client, in `database`.
    pub(crate) fn client(&self, database: &str) -> Command {
        let name = if self.flavour.is_mariadb { "mariadb" } else { "mysql" };
        let mut command = Command::new(self.flavour.programs().join(name));
        command.args(["--no-defaults", "--user=root", "--batch", "--skip-column-names", "--comments"]);
        command.arg("--default-character-set=utf8mb4").arg(format!("--socket={}", self.socket().display()));
        command.arg(database).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut child = self.client(database).spawn().unwrap();
        // One that does not get in does not read either.
        let _ = child.stdin.take().unwrap().write_all(sql.as_bytes());
        let output = child.wait_with_output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The server's process, for those who end it from elsewhere.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn settings(&self, database: &str) -> MysqlSettings {
        MysqlSettings {
            server: Address::Socket(self.socket()),
            user: Some("root".into()),
            password: None,
            options: None,
            database: database.into(),
            encryption: Encryption::Default,
            programs: vec![self.flavour.programs()],
            environment: Environment::default(),
        }
    }

    pub(crate) fn source(&self, database: &str) -> MysqlSource {
        source(&self.settings(database)).unwrap()
    }

    /// Restores the newest snapshot of `app` as another database.
    pub(crate) fn restore(&self, repo: &Repo, database: &str) {
        let manifest = repo.manifest("/mysql/app");
        let target = MysqlTarget::connect(&self.settings(database), Existing::Refuse, Some(&manifest)).unwrap();
        let outcome = repo.restore("/mysql/app", &target);
        assert_eq!(outcome.map_err(|error| words(&error)).unwrap().losses, 0);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that root starts wants to be told that this is meant.
fn as_root() -> Option<&'static str> {
    (fs::metadata("/proc/self").unwrap().uid() == 0).then_some("--user=root")
}

/// A source, or what it says instead.
pub(crate) fn source(settings: &MysqlSettings) -> Result<MysqlSource, String> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    MysqlSource::connect(settings, &clock).map_err(|error| words(&error))
}
