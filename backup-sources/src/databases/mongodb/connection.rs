//! The driver, for callers that block.
//!
//! Its runtime belongs to a thread of its own: a connection may be used and dropped on any thread, inside of any runtime
//! or without one. Dropping it ends what is still under way, and so does the stop that its settings name: whoever waits then
//! has an answer, also where the server says nothing.

use std::future::Future;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use backup_core::cancel::Cancel;
use backup_core::contracts::Tool;
use backup_core::limits::{DATABASE_CONNECT_SECONDS, DATABASE_SILENCE_SECONDS_MAX, RUNTIME_BLOCKING_THREADS_MAX};
use backup_core::{Error, ErrorKind, Result};
use mongodb::Client;
use mongodb::bson::{Document, doc};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use super::failure;
use super::settings::MongodbSettings;

/// Threads of the driver: they pass bytes on; what costs time happens where those are read.
const DRIVER_THREADS: usize = 2;

/// How often it is looked whether a stop was asked for.
const LOOK: Duration = Duration::from_millis(50);

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// An open connection to a deployment.
#[derive(Debug)]
pub(super) struct Connection {
    handle: Handle,
    client: Option<Client>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    location: String,
    server: Server,
    cancel: Option<Cancel>,
    /// How long the server may take for one answer.
    silence_max: Duration,
}

/// What answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    /// Its version, as it says it.
    pub(super) version: String,
    /// The first two parts of it.
    pub(super) release: (i32, i32),
    /// The version of FerretDB, where it is that; `version` is then the one of MongoDB that it speaks like.
    pub(super) ferretdb: Option<String>,
    /// Its answer to `hello`.
    hello: Document,
}

/// What kind of deployment a server belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    /// A server alone.
    Standalone,
    /// A member of a replica set.
    ReplicaSet,
    /// A router of a sharded cluster.
    Sharded,
}

impl Topology {
    /// Its name, for the manifest.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::ReplicaSet => "replica set",
            Self::Sharded => "sharded cluster",
        }
    }
}

impl Server {
    /// What it is, with its version.
    pub(super) fn tools(&self) -> Vec<Tool> {
        let named = |name: &str, version: &str| Tool { name: name.to_owned(), version: version.to_owned() };
        let ferretdb = self.ferretdb.iter().map(|version| named("ferretdb", version));
        std::iter::once(named("mongodb", &self.version)).chain(ferretdb).collect()
    }

    pub(super) fn topology(&self) -> Topology {
        match (self.hello.get_str("msg"), self.hello.get_str("setName")) {
            (Ok("isdbgrid"), _) => Topology::Sharded,
            (_, Ok(_)) => Topology::ReplicaSet,
            _ => Topology::Standalone,
        }
    }
}

impl Connection {
    /// Connects, and asks what answers.
    ///
    /// # Errors
    ///
    /// When the URL is not understood, nobody answers, or who asks is refused.
    pub(super) fn open(settings: &MongodbSettings) -> Result<Self> {
        let location = settings.location();
        let broken = |what| Error::new(ErrorKind::Broken(what), location.as_str());
        let runtime = Builder::new_multi_thread()
            .worker_threads(DRIVER_THREADS)
            .max_blocking_threads(RUNTIME_BLOCKING_THREADS_MAX)
            .thread_name("backup-mongodb")
            .enable_all()
            .build()
            .map_err(|error| broken("no runtime could be started").caused_by(error))?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("backup-mongodb".to_owned());
        let cancel = settings.cancel.clone();
        let thread = thread
            .spawn(move || keep(runtime, stopped, cancel))
            .map_err(|error| broken("no thread could be started").caused_by(error))?;
        let mut connection = Self {
            handle,
            client: None,
            stop: Some(stop),
            thread: Some(thread),
            location,
            server: Server::default(),
            cancel: settings.cancel.clone(),
            silence_max: settings.silence_max,
        };
        let settings = settings.clone();
        let (client, selection) = connection.run(async move {
            let options = settings.options().await?;
            let selection = options.server_selection_timeout.unwrap_or_default();
            let client = Client::with_options(options);
            let client = client.map_err(|error| failure::of(&settings.location(), "connect", &error))?;
            Ok::<_, Error>((client, selection))
        })??;
        connection.client = Some(client);
        // The driver looks for the server first, and gives up by itself when it finds none.
        let patience = selection.saturating_add(Duration::from_secs(DATABASE_CONNECT_SECONDS));
        connection.look(patience.min(connection.silence_max))?;
        Ok(connection)
    }

    /// Where it leads, for people.
    pub(super) fn location(&self) -> &str {
        &self.location
    }

    /// What answered.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// The driver's own handle, for work that [`Self::run`] or [`Self::spawn`] is given.
    pub(super) fn client(&self) -> Result<Client> {
        self.client.clone().ok_or_else(|| self.gone())
    }

    /// Does `work` in the driver's runtime, and waits for it.
    pub(super) fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T> {
        let (answer, answered) = mpsc::channel();
        self.spawn(async move {
            // Whoever asked waits for it.
            let _ = answer.send(work.await);
        });
        answered.recv().map_err(|_| self.gone())
    }

    /// Begins `work` in the driver's runtime.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.handle.spawn(work));
    }

    /// The same for those who outlive what they were given.
    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs a command on `database` and gives its answer, or the driver's error.
    pub(super) fn ask(
        &self,
        database: &str,
        command: Document,
    ) -> Result<std::result::Result<Document, mongodb::error::Error>> {
        self.ask_within(self.silence_max, database, command)
    }

    fn ask_within(
        &self,
        limit: Duration,
        database: &str,
        command: Document,
    ) -> Result<std::result::Result<Document, mongodb::error::Error>> {
        let database = self.client()?.database(database);
        let answer = self.run(async move { tokio::time::timeout(limit, database.run_command(command)).await })?;
        answer.map_err(|_| Error::new(ErrorKind::Source(failure::silent(limit)), self.location.as_str()))
    }

    /// Runs a command on `database` that has to succeed; `action` says what for.
    pub(super) fn command(&self, database: &str, action: &str, command: Document) -> Result<Document> {
        self.ask(database, command)?.map_err(|error| failure::of(&self.location, action, &error))
    }

    /// The same as [`Self::command`] for what may take so long.
    pub(super) fn command_within(
        &self,
        limit: Duration,
        database: &str,
        action: &str,
        command: Document,
    ) -> Result<Document> {
        self.ask_within(limit, database, command)?.map_err(|error| failure::of(&self.location, action, &error))
    }

    fn look(&mut self, limit: Duration) -> Result<()> {
        let hello = match self.ask_within(limit, "admin", doc! {"hello": 1})? {
            Ok(hello) => hello,
            // Servers before 4.4.2 have another word for it.
            Err(error) if matches!(&*error.kind, mongodb::error::ErrorKind::Command(_)) => {
                self.command_within(limit, "admin", "connect", doc! {"isMaster": 1})?
            }
            Err(error) => return Err(failure::of(&self.location, "connect", &error)),
        };
        let info = self.command_within(limit, "admin", "ask for the version", doc! {"buildInfo": 1})?;
        let version = info.get_str("version").unwrap_or_default().to_owned();
        let mut numbers = version.split('.').map(|number| number.parse().unwrap_or_default());
        let release = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let ferretdb = info.get_str("ferretdbVersion").ok().map(|version| version.trim_start_matches('v').to_owned());
        self.server = Server { version, release, ferretdb, hello };
        Ok(())
    }

    fn gone(&self) -> Error {
        if let Some(stopped) = self.cancel.as_ref().and_then(|cancel| cancel.check().err()) {
            return stopped;
        }
        Error::new(ErrorKind::Source("the connection is gone".to_owned()), self.location.as_str())
    }
}

/// How long a server may take for one answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(DATABASE_SILENCE_SECONDS_MAX);

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            let _ = self.run(async move {
                let _ = tokio::time::timeout(GOODBYE, client.shutdown().immediate(true)).await;
            });
        }
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It ends as soon as its channel does.
            let _ = thread.join();
        }
    }
}

/// Keeps the runtime until nobody needs it, or until a stop is asked for: it may not be dropped inside of another one. What
/// was under way goes with it.
fn keep(runtime: Runtime, stopped: oneshot::Receiver<()>, cancel: Option<Cancel>) {
    runtime.block_on(async {
        let asked = async {
            let Some(cancel) = cancel else { return std::future::pending().await };
            while !cancel.requested() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            _ = stopped => {}
            () = asked => {}
        }
    });
    runtime.shutdown_timeout(GOODBYE);
}
