//! A server that speaks MongoDB's protocol, with a few documents.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use backup_core::testing::free_port;

use crate::{Running, tool};

/// A running server with a database `events` of three documents.
pub(crate) struct Server {
    _process: Running,
    port: u16,
}

impl Server {
    /// One with its files below `folder`.
    pub(crate) fn start(folder: &Path) -> Self {
        let port = free_port();
        let own = folder.join("ferretdb");
        fs::create_dir(&own).unwrap();
        let child = Command::new(tool("BACKUP_TEST_FERRETDB"))
            .args(["--handler=sqlite", "--debug-addr=-", "--telemetry=disable", "--log-level=error"])
            .arg(format!("--sqlite-url=file:{}/", own.display()))
            .arg(format!("--state-dir={}", own.display()))
            .arg(format!("--listen-addr=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { _process: Running(child), port };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(180), "the server does not start");
            thread::sleep(Duration::from_millis(20));
        }
        server.fill(folder);
        server
    }

    fn fill(&self, folder: &Path) {
        let documents = folder.join("documents");
        fs::create_dir(&documents).unwrap();
        let document = |id: u8| [&[14, 0, 0, 0, 0x10][..], b"_id\0", &[id, 0, 0, 0, 0]].concat();
        fs::write(documents.join("clicks.bson"), [document(1), document(2), document(3)].concat()).unwrap();
        let filled = Command::new(tool("BACKUP_TEST_MONGO_TOOLS").with_file_name("mongorestore"))
            .arg(format!("--uri=mongodb://127.0.0.1:{}/?directConnection=true", self.port))
            .args(["--db=events", "--dir"])
            .arg(documents)
            .output()
            .unwrap();
        assert!(filled.status.success(), "{}", String::from_utf8_lossy(&filled.stderr));
    }

    /// The URL of the database.
    pub(crate) fn url(&self) -> String {
        format!("mongodb://127.0.0.1:{}/events?directConnection=true&serverSelectionTimeoutMS=10000", self.port)
    }
}
