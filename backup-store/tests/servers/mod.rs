//! Servers that the tests start themselves: on a free port of this machine, in a folder of their own, and stopped when
//! the test ends, however it does.
//!
//! The programs are named by `BACKUP_TEST_RCLONE`, `BACKUP_TEST_MINIO`, `BACKUP_TEST_AZURITE` and
//! `BACKUP_TEST_GCS_SERVER`; `scripts/tools` installs them. A missing one fails its tests.

pub(crate) mod signed;

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use backup_core::testing::free_port;
use tempfile::TempDir;

use signed::{Keys, azure, azure_signature, s3};

/// The bucket that every server has.
pub(crate) const BUCKET: &str = "backups";

/// What the emulator of Azure is delivered with, and known to everybody.
const AZURITE_ACCOUNT: &str = "devstoreaccount1";
const AZURITE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(180);

/// A running server with a bucket of the name [`BUCKET`].
pub(crate) struct Server {
    child: Child,
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rclone,
    Minio,
    Azurite,
    Gcs,
}

impl Server {
    /// An S3 server without conditions and versions.
    pub(crate) fn rclone() -> Self {
        Self::start(Kind::Rclone)
    }

    /// An S3 server with conditions, policies, versions and object lock.
    pub(crate) fn minio() -> Self {
        Self::start(Kind::Minio)
    }

    /// An emulator of Azure's store.
    pub(crate) fn azurite() -> Self {
        Self::start(Kind::Azurite)
    }

    /// An emulator of Google's store.
    pub(crate) fn gcs() -> Self {
        Self::start(Kind::Gcs)
    }

    fn start(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir_all(data.join(BUCKET)).unwrap();
        for _ in 0..2 {
            let port = free_port();
            let mut child = kind.command(&data, folder.path(), port).spawn().unwrap();
            if answers(&mut child, port) {
                let server = Self { child, folder, port, kind };
                server.make_bucket();
                return server;
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("{kind:?} does not start");
    }

    fn make_bucket(&self) {
        match self.kind {
            Kind::Minio => {
                // It answers "not ready" for a moment after it listens.
                let end = Instant::now() + PATIENCE;
                while s3(&self.keys(), "PUT", &self.url(BUCKET), &[], "").status == 503 && Instant::now() < end {
                    std::thread::sleep(Duration::from_millis(50));
                }
                assert_eq!(s3(&self.keys(), "HEAD", &self.url(BUCKET), &[], "").status, 200);
            }
            Kind::Azurite => {
                let url = format!("{}/{BUCKET}?restype=container", self.endpoint());
                assert_eq!(azure(AZURITE_ACCOUNT, AZURITE_KEY, "PUT", &url), 201);
            }
            // A folder is a bucket; the other one makes it by itself.
            Kind::Rclone | Kind::Gcs => {}
        }
    }

    /// Where it is.
    pub(crate) fn endpoint(&self) -> String {
        match self.kind {
            Kind::Azurite => format!("http://127.0.0.1:{}/{AZURITE_ACCOUNT}", self.port),
            _ => format!("http://127.0.0.1:{}", self.port),
        }
    }

    /// Something of it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.endpoint())
    }

    /// What the owner of an S3 server signs with.
    pub(crate) fn keys(&self) -> Keys {
        Keys { id: String::from("owner"), secret: String::from("owners-secret"), token: None }
    }

    /// A place in its bucket.
    pub(crate) fn place(&self, prefix: &str) -> String {
        let scheme = match self.kind {
            Kind::Rclone | Kind::Minio => "s3",
            Kind::Azurite => "az",
            Kind::Gcs => "gs",
        };
        format!("{scheme}://{BUCKET}/{prefix}?endpoint={}", self.endpoint())
    }

    /// A place where nothing is yet.
    pub(crate) fn fresh_place(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        self.place(&format!("place-{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
    }

    /// The variables of a signature for Azure's bucket that allows what `permissions` say (`r`, `c`, `w`, `d`, `l`) until
    /// the end of `year`.
    pub(crate) fn signed_variables(&self, permissions: &str, year: u32) -> Vec<(String, String)> {
        let signature = azure_signature(AZURITE_ACCOUNT, AZURITE_KEY, BUCKET, permissions, year);
        named([("AZURE_STORAGE_ACCOUNT", AZURITE_ACCOUNT), ("AZURE_STORAGE_SAS_TOKEN", &signature)])
    }

    /// The variables that open it.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        match self.kind {
            Kind::Rclone | Kind::Minio => self.keys().variables(),
            Kind::Azurite => named([("AZURE_STORAGE_ACCOUNT", AZURITE_ACCOUNT), ("AZURE_STORAGE_KEY", AZURITE_KEY)]),
            Kind::Gcs => {
                let path = self.folder.path().join("account.json");
                let account = r#"{"disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}"#;
                fs::write(&path, account).unwrap();
                named([("GOOGLE_APPLICATION_CREDENTIALS", path.to_str().unwrap())])
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Kind {
    fn command(self, data: &Path, folder: &Path, port: u16) -> Command {
        let address = format!("127.0.0.1:{port}");
        let port = port.to_string();
        let data = data.to_str().unwrap();
        let name = match self {
            Self::Rclone => "BACKUP_TEST_RCLONE",
            Self::Minio => "BACKUP_TEST_MINIO",
            Self::Azurite => "BACKUP_TEST_AZURITE",
            Self::Gcs => "BACKUP_TEST_GCS_SERVER",
        };
        let program = std::env::var_os(name).unwrap_or_else(|| panic!("{name} names no program"));
        let mut command = Command::new(program);
        match self {
            Self::Rclone => command
                .args(["serve", "s3", "--addr", &address, "--auth-key", "owner,owners-secret"])
                .args(["--config", "/dev/null", data]),
            Self::Minio => command
                .args([
                    "server",
                    "--quiet",
                    "--address",
                    &address,
                    "--certs-dir",
                    folder.join("certs").to_str().unwrap(),
                ])
                .arg(folder.join("drive"))
                .env("MINIO_ROOT_USER", "owner")
                .env("MINIO_ROOT_PASSWORD", "owners-secret")
                .env("MINIO_REGION", "us-east-1")
                // With a key it can encrypt, in buckets that ask for it.
                .env("MINIO_KMS_SECRET_KEY", "tests:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
                .env("MINIO_BROWSER", "off")
                .env("MINIO_UPDATE", "off"),
            Self::Azurite => command.args(["--blobHost", "127.0.0.1", "--blobPort", &port, "--location", data]).args([
                "--silent",
                "--skipApiVersionCheck",
                "--disableTelemetry",
            ]),
            Self::Gcs => command.args([address.as_str(), BUCKET]),
        };
        command.env("HOME", folder).current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// Waits until the server listens; `false` when it has ended instead.
fn answers(child: &mut Child, port: u16) -> bool {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn named<const COUNT: usize>(pairs: [(&str, &str); COUNT]) -> Vec<(String, String)> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
