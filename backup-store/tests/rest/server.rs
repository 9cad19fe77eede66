//! restic's REST server, started on a free port of this machine for one test.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use backup_core::contracts::Sink;
use backup_core::testing::free_port;
use backup_store::{Access, Credentials, Environment, Place, Secret};

/// A running server with a folder of its own. It ends with the test, also when that panics.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&["--no-auth"])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments)
    }

    pub(crate) fn start_in(folder: tempfile::TempDir, arguments: &[&str]) -> Self {
        let program = std::env::var_os("BACKUP_TEST_REST_SERVER").expect("BACKUP_TEST_REST_SERVER names no program");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut child = Command::new(program)
            .args(["--listen", &address.to_string(), "--path"])
            .arg(folder.path())
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        // It would stop when nobody took what it says.
        thread::spawn(move || while log.next().is_some() {});
        let server = Self { child, address, folder };
        let started = Instant::now();
        while TcpStream::connect(server.address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(180), "the server did not start");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Stops it and starts another one over the same folder.
    pub(crate) fn restart_with(mut self, arguments: &[&str]) -> Self {
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        drop(self);
        Self::start_in(folder, arguments)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The sink at a path of the server.
    pub(crate) fn sink(&self, path: &str) -> Arc<dyn Sink> {
        sink(self.address, path)
    }

    /// Every file that the server keeps below a path.
    pub(crate) fn files(&self, path: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.path().join(path)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_dir() { folders.push(entry) } else { found.push(entry) }
            }
        }
        found
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sink at whatever listens there.
pub(crate) fn sink(address: SocketAddr, path: &str) -> Arc<dyn Sink> {
    Place::parse(format!("rest:http://{address}/{path}")).unwrap().open(&Access::default()).unwrap()
}

/// The same as a user with a password.
pub(crate) fn sink_as(address: SocketAddr, user: &str, password: &str) -> Arc<dyn Sink> {
    let credentials = Credentials::Login { user: user.to_owned(), password: Secret::new(password) };
    let access = Access { credentials: Some(credentials), environment: Environment::default() };
    Place::parse(format!("rest:http://{address}/")).unwrap().open(&access).unwrap()
}
