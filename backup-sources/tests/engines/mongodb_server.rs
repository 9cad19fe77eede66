//! Servers that speak MongoDB's protocol, each on a port and in a folder of its own: FerretDB, and MongoDB itself, alone
//! and as a replica set, where `BACKUP_TEST_MONGOD` names it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use backup_core::testing::free_port;
use backup_sources::databases::mongodb::MongodbSettings;
use backup_sources::databases::url::DatabaseUrl;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use tempfile::{TempDir, tempdir};
use tokio::runtime::Runtime;

/// What a test runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ferret,
    Alone,
    ReplicaSet,
}

impl Kind {
    /// All that are at hand.
    pub(crate) fn all() -> Vec<Self> {
        match std::env::var_os("BACKUP_TEST_MONGOD") {
            None => vec![Self::Ferret],
            Some(_) => vec![Self::Ferret, Self::Alone, Self::ReplicaSet],
        }
    }

    /// Whether it is MongoDB itself.
    pub(crate) fn is_real(self) -> bool {
        self != Self::Ferret
    }
}

pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    _folder: TempDir,
    child: Child,
    runtime: Runtime,
    client: Client,
}

impl Server {
    pub(crate) fn new(kind: Kind) -> Self {
        Self::with(kind, &[])
    }

    /// One with more options.
    pub(crate) fn with(kind: Kind, options: &[&str]) -> Self {
        let folder = tempdir().unwrap();
        let port = free_port();
        let child = command(kind, folder.path(), port).args(options).stdout(Stdio::null()).spawn().unwrap();
        let runtime = Runtime::new().unwrap();
        let url = format!("mongodb://127.0.0.1:{port}/?directConnection=true&serverSelectionTimeoutMS=60000");
        let client = runtime.block_on(Client::with_uri_str(url)).unwrap();
        let server = Self { kind, port, _folder: folder, child, runtime, client };
        if kind == Kind::ReplicaSet {
            let members = doc! {"_id": "rs0", "members": [{"_id": 0, "host": format!("127.0.0.1:{port}")}]};
            server.run("admin", doc! {"replSetInitiate": members});
        }
        let began = Instant::now();
        let question = doc! {"hello": 1};
        while !server.run("admin", question.clone()).get_bool("isWritablePrimary").unwrap_or(false) {
            assert!(began.elapsed() < Duration::from_secs(180), "the server does not start");
            thread::sleep(Duration::from_millis(50));
        }
        server
    }

    pub(crate) fn url(&self, database: &str) -> String {
        url(self.port, database)
    }

    pub(crate) fn settings(&self, database: &str) -> MongodbSettings {
        settings(&self.url(database))
    }

    /// A command that has to succeed.
    pub(crate) fn run(&self, database: &str, command: Document) -> Document {
        self.runtime.block_on(self.client.database(database).run_command(command).into_future()).unwrap()
    }

    pub(crate) fn insert(&self, database: &str, collection: &str, documents: &[Document]) {
        let collection = self.client.database(database).collection::<Document>(collection);
        self.runtime.block_on(collection.insert_many(documents).into_future()).unwrap();
    }

    /// The same document into two collections: in one transaction, where the deployment knows such.
    pub(crate) fn insert_into_both(&self, database: &str, collections: [&str; 2], document: &Document) {
        let both = collections.map(|name| self.client.database(database).collection::<Document>(name));
        self.runtime.block_on(async {
            if self.kind != Kind::ReplicaSet {
                for collection in &both {
                    collection.insert_one(document).await.unwrap();
                }
                return;
            }
            let mut session = self.client.start_session().await.unwrap();
            session.start_transaction().await.unwrap();
            for collection in &both {
                collection.insert_one(document).session(&mut session).await.unwrap();
            }
            session.commit_transaction().await.unwrap();
        });
    }

    pub(crate) fn names(&self, database: &str) -> Vec<String> {
        let mut names =
            self.runtime.block_on(self.client.database(database).list_collection_names().into_future()).unwrap();
        names.sort();
        names
    }

    pub(crate) fn count(&self, database: &str, collection: &str) -> u64 {
        let answer = self.run(database, doc! {"count": collection});
        u64::try_from(answer.get_i32("n").unwrap()).unwrap()
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The number of its process, for those who kill it from elsewhere.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Runs one of MongoDB's own programs against it.
    pub(crate) fn tool(&self, name: &str, arguments: &[&str]) -> Output {
        let tools = std::env::var_os("BACKUP_TEST_MONGO_TOOLS").expect("scripts/tools mongo-tools says where it is");
        let mut command = Command::new(PathBuf::from(tools).with_file_name(name));
        command.arg(format!("--uri=mongodb://127.0.0.1:{}/?directConnection=true", self.port)).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn url(port: u16, database: &str) -> String {
    format!("mongodb://127.0.0.1:{port}/{database}?directConnection=true&serverSelectionTimeoutMS=3000")
}

pub(crate) fn settings(url: &str) -> MongodbSettings {
    MongodbSettings::new(&DatabaseUrl::parse(url).unwrap())
}

fn command(kind: Kind, folder: &Path, port: u16) -> Command {
    let program = |name: &str| std::env::var_os(name).unwrap_or_else(|| panic!("scripts/tools says what {name} is"));
    let folder = folder.display();
    if kind == Kind::Ferret {
        let mut command = Command::new(program("BACKUP_TEST_FERRETDB"));
        command.args(["--handler=sqlite", "--debug-addr=-", "--telemetry=disable", "--log-level=error"]);
        command.arg(format!("--sqlite-url=file:{folder}/")).arg(format!("--state-dir={folder}"));
        command.arg(format!("--listen-addr=127.0.0.1:{port}")).stderr(Stdio::null());
        return command;
    }
    let mut command = Command::new(program("BACKUP_TEST_MONGOD"));
    command.args(["--bind_ip=127.0.0.1", "--quiet"]).arg(format!("--dbpath={folder}")).arg(format!("--port={port}"));
    if kind == Kind::ReplicaSet {
        command.arg("--replSet=rs0");
    }
    command
}

/// A network that is cut: it passes on so many bytes of the server's, all connections together, then none. Gives its port.
pub(crate) fn cut_after(server: u16, bytes: i64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let left = Arc::new(AtomicI64::new(bytes));
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", server))) else { return };
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            let left = Arc::clone(&left);
            thread::spawn(move || pass(&server, &client, &left));
        }
    });
    port
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, left: &AtomicI64) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let taken = i64::try_from(length).unwrap();
        if left.fetch_sub(taken, Ordering::SeqCst) < taken || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
