//! OpenSSH's server on a free port of this machine, with keys of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use backup_core::contracts::Sink;
use backup_core::testing::free_port;
use backup_store::{Access, Place};

/// A running server. It ends with the test, also when that panics.
pub(crate) struct Server {
    child: Option<Child>,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut server = Self { child: None, address, folder };
        let path = |name: &str| server.path(name).display().to_string();
        for key in ["host_key", "user_key"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", &path(key)]);
            assert!(keygen.status().unwrap().success());
        }
        fs::copy(server.path("user_key.pub"), server.path("authorized_keys")).unwrap();
        let port = address.port();
        fs::write(
            server.path("sshd_config"),
            format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
                 PasswordAuthentication no\nPidFile none\nMaxStartups 100\nSubsystem sftp internal-sftp\n",
                path("host_key"),
                path("authorized_keys"),
            ),
        )
        .unwrap();
        fs::write(
            server.path("ssh_config"),
            format!(
                "Host store\nHostName 127.0.0.1\nPort {port}\nIdentityFile {}\nIdentitiesOnly yes\nIdentityAgent none\n\
                 UserKnownHostsFile {}\nGlobalKnownHostsFile /dev/null\n",
                path("user_key"),
                path("known_hosts"),
            ),
        )
        .unwrap();
        server.know_host("host_key.pub");
        server.run();
        server
    }

    /// Writes a key down as the host's.
    pub(crate) fn know_host(&self, key: &str) {
        let key = fs::read_to_string(self.path(key)).unwrap();
        fs::write(self.path("known_hosts"), format!("[127.0.0.1]:{} {key}", self.address.port())).unwrap();
    }

    /// Lets nobody change anything from now on.
    pub(crate) fn make_read_only(&mut self) {
        self.stop();
        let settings = fs::read_to_string(self.path("sshd_config")).unwrap();
        fs::write(self.path("sshd_config"), settings.replace("internal-sftp", "internal-sftp -R")).unwrap();
        self.run();
    }

    /// Starts the server, again if it was stopped.
    pub(crate) fn run(&mut self) {
        let program = std::env::var_os("BACKUP_TEST_SSHD").expect("BACKUP_TEST_SSHD names no program");
        // Where it separates privileges when it runs as root; Debian makes it when the system starts.
        let _ = fs::create_dir_all("/run/sshd");
        let mut command = Command::new(program);
        command.arg("-D").arg("-e").arg("-f").arg(self.path("sshd_config"));
        let log = fs::File::create(self.path("log")).unwrap();
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let started = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(180), "no server: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the server and every login.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // Each login is a process of its own, which outlives the one that listens.
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
        let _ = child.kill();
        let _ = child.wait();
        for login in children.split_whitespace() {
            let _ = Command::new("kill").args(["-9", login]).status();
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// How people write a folder there.
    pub(crate) fn place(&self, folder: &Path) -> String {
        format!("sftp://store{}?ssh_config={}", folder.display(), self.path("ssh_config").display())
    }

    /// The sink over a new folder there.
    pub(crate) fn sink(&self, name: &str) -> Arc<dyn Sink> {
        let folder = self.path(name);
        fs::create_dir_all(&folder).unwrap();
        Place::parse(self.place(&folder)).unwrap().open(&Access::default()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
