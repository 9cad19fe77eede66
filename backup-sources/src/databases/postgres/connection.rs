//! A connection for few and small questions, for callers that block.
//!
//! It lives on a thread of its own with a runtime of its own: it may be used and dropped on any thread, inside of any
//! runtime or without one, and it answers the server's signs of life while nobody asks it anything. Dropping it ends the
//! connection, and with it its transaction.
//!
//! What is always true: a server that accepts and says nothing is waited for only so long, and nobody waits for one once
//! the stop was asked for that the server was given ([`super::server::Bounds`]). A question may take as long as it takes,
//! unless these say otherwise.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use backup_core::limits::DATABASE_CONNECT_SECONDS;
use backup_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use tokio_postgres::{Client, Config, SimpleQueryMessage};

use super::server::{Bounds, Server};
use super::tls::Protection;

/// How often it is looked whether a stop was asked for.
const LOOK: Duration = Duration::from_millis(50);

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Rows of texts; `None` is null.
pub(super) type Answer = Vec<Vec<Option<String>>>;

/// What is asked is asked of the server itself. Otherwise whoever owns a database could have his own functions and operators
/// called in their place, by who backs it up: `ALTER DATABASE … SET search_path`.
///
/// It is said with each question, for its transaction alone. A pooler hands sessions on to other programs, which would
/// find none of their tables in one where it was said for good.
const OWN_NAMES: &str = "SET LOCAL search_path = pg_catalog; ";

/// What refuses to stand in a transaction with anything else, and calls no function by a name.
const ALONE: [&str; 2] = ["CREATE DATABASE", "DROP DATABASE"];

/// Which names mean what in a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// Those of the server alone.
    Own,
    /// Those that programs find in this database.
    OfUsers,
}

/// A question, and where its answer goes.
struct Question {
    sql: String,
    answer: mpsc::Sender<Result<Answer, tokio_postgres::Error>>,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    questions: Option<UnboundedSender<Question>>,
    thread: Option<JoinHandle<()>>,
    location: String,
    bounds: Bounds,
    names: Names,
}

impl Connection {
    /// Connects to `database` of the first candidate that answers; also gives the server as only that candidate.
    pub(super) fn open(server: &Server, database: &str) -> Result<(Self, Server)> {
        Self::open_with(Names::Own, server, database)
    }

    /// The same for the questions of users, whose words mean what they mean in production.
    pub(super) fn open_for_users(server: &Server, database: &str) -> Result<(Self, Server)> {
        Self::open_with(Names::OfUsers, server, database)
    }

    fn open_with(names: Names, server: &Server, database: &str) -> Result<(Self, Server)> {
        let mut last = Error::invalid(server.location(), "no server was named");
        for host in 0..server.hosts.len() {
            match Self::open_one(names, server, host, database) {
                Ok(connection) => return Ok((connection, server.narrowed(host))),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn open_one(names: Names, server: &Server, host: usize, database: &str) -> Result<Self> {
        let protection = Protection::of(server)?;
        let config = config(server, host, database, &protection)?;
        let (questions, asked) = unbounded_channel();
        let (ready, opened) = mpsc::channel();
        let thread = std::thread::Builder::new().name("backup-postgres".to_owned());
        let run = move || serve(&config, protection, asked, &ready);
        let broken = |what| Error::new(ErrorKind::Broken(what), server.location());
        let thread = thread.spawn(run).map_err(|error| broken("no thread could be started").caused_by(error))?;
        let (location, bounds) = (server.location(), server.bounds.clone());
        let mut connection = Self { questions: Some(questions), thread: Some(thread), location, bounds, names };
        match connection.wait(&opened, None) {
            Ok(Ok(())) => Ok(connection),
            Ok(Err(Refusal::Runtime(error))) => Err(broken("no runtime could be started").caused_by(error)),
            Ok(Err(Refusal::Server(error))) => Err(refused(server, &error)),
            Ok(Err(Refusal::Silence(limit))) => Err(connection.silent(limit).with_hint(SILENT)),
            Err(error) => {
                // It ends when its time is over.
                connection.thread = None;
                Err(error)
            }
        }
    }

    /// From now on a stop that was asked for does not end it.
    pub(super) fn outlast(&mut self) {
        self.bounds.cancel = None;
    }

    /// Asks, in the simple protocol: several statements may stand in one text.
    pub(super) fn ask(&self, sql: &str) -> Result<Answer> {
        self.ask_within(self.bounds.silence, sql)
    }

    /// The same for what may take so long; as long as it takes without a limit.
    pub(super) fn ask_within(&self, limit: Option<Duration>, sql: &str) -> Result<Answer> {
        let (answer, answered) = mpsc::channel();
        let names = match self.names {
            Names::Own if !ALONE.iter().any(|alone| sql.starts_with(alone)) => OWN_NAMES,
            _ => "",
        };
        let questions = self.questions.as_ref().ok_or_else(|| self.gone())?;
        questions.send(Question { sql: format!("{names}{sql}"), answer }).map_err(|_| self.gone())?;
        let answer = self.wait(&answered, limit)?;
        answer.map_err(|error| Error::new(ErrorKind::Source(told(&error)), self.location.as_str()))
    }

    /// Waits for what the connection's thread has to say: until a stop is asked for, and no longer than `limit`.
    fn wait<T>(&self, said: &mpsc::Receiver<T>, limit: Option<Duration>) -> Result<T> {
        let began = Instant::now();
        loop {
            match said.recv_timeout(LOOK) {
                Ok(said) => return Ok(said),
                Err(RecvTimeoutError::Disconnected) => return Err(self.gone()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.bounds.check()?;
            if let Some(limit) = limit.filter(|limit| began.elapsed() > *limit) {
                return Err(self.silent(limit));
            }
        }
    }

    fn gone(&self) -> Error {
        Error::new(ErrorKind::Source("the connection is gone".to_owned()), self.location.as_str())
    }

    fn silent(&self, limit: Duration) -> Error {
        let what = format!("the server has not answered for {} seconds", limit.as_secs());
        Error::new(ErrorKind::Source(what), self.location.as_str())
    }

    /// The one value that is asked for; `None` when it is null, or when there is no row.
    pub(super) fn value(&self, sql: &str) -> Result<Option<String>> {
        Ok(self.ask(sql)?.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take() {
            // It ends as soon as nobody can ask any more, whatever the server still owes.
            let _ = thread.join();
        }
    }
}

enum Refusal {
    Runtime(std::io::Error),
    Server(tokio_postgres::Error),
    /// For so long.
    Silence(Duration),
}

/// What to try with a server that accepts and says nothing.
const SILENT: &str = "it takes connections and does not answer: look whether it hangs, and whether it is PostgreSQL";

fn config(server: &Server, host: usize, database: &str, protection: &Protection) -> Result<Config> {
    let wrong = |what: &str| Error::invalid(server.location(), what);
    let (name, port) = &server.hosts[host];
    let mut config = Config::new();
    config.host(name).port(*port).user(&server.user).dbname(database).ssl_mode(protection.mode);
    if let Some(password) = server.password_for(host, database) {
        config.password(password.reveal());
    }
    let seconds = match server.parameter("connect_timeout") {
        Some(text) => text.parse().map_err(|_| wrong("connect_timeout is not a number of seconds"))?,
        None => DATABASE_CONNECT_SECONDS,
    };
    // As in libpq, 0 waits for as long as it takes.
    if seconds > 0 {
        config.connect_timeout(Duration::from_secs(seconds));
    }
    config.application_name(server.parameter("application_name").unwrap_or("backup"));
    if let Some(options) = server.parameter("options") {
        config.options(options);
    }
    config.channel_binding(match server.parameter("channel_binding") {
        None | Some("prefer") => tokio_postgres::config::ChannelBinding::Prefer,
        Some("disable") => tokio_postgres::config::ChannelBinding::Disable,
        Some("require") => tokio_postgres::config::ChannelBinding::Require,
        Some(_) => return Err(wrong("channel_binding is none of disable, prefer and require")),
    });
    Ok(config)
}

fn serve(
    config: &Config,
    protection: Protection,
    mut asked: UnboundedReceiver<Question>,
    ready: &mpsc::Sender<Result<(), Refusal>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(Refusal::Runtime(error)));
            return;
        }
    };
    runtime.block_on(async {
        // The driver's own limit is for the way to the server; what the server then has to say may take as long again.
        let limit = config.get_connect_timeout().map(|limit| *limit * 2);
        let connecting = config.connect(protection.connector);
        let connected = match limit {
            Some(limit) => timeout(limit, connecting).await.map_err(|_| Refusal::Silence(limit)),
            None => Ok(connecting.await),
        };
        let (client, connection) = match connected.and_then(|connected| connected.map_err(Refusal::Server)) {
            Ok(connected) => connected,
            Err(refusal) => {
                let _ = ready.send(Err(refusal));
                return;
            }
        };
        // Its error reaches whoever asks next.
        let driver = tokio::spawn(connection);
        let _ = ready.send(Ok(()));
        let mut waiting = VecDeque::new();
        while let Some(Question { sql, answer }) = next(&mut waiting, &mut asked).await {
            let mut answering = pin!(ask(&client, &sql));
            loop {
                tokio::select! {
                    said = &mut answering => {
                        // Whoever asked may have gone.
                        let _ = answer.send(said);
                        break;
                    }
                    other = asked.recv() => match other {
                        Some(other) => waiting.push_back(other),
                        // Nobody is there any more who could wait for it.
                        None => return driver.abort(),
                    },
                }
            }
        }
        drop(client);
        let _ = timeout(GOODBYE, driver).await;
    });
}

/// The next question; `None` when nobody can ask any more.
async fn next(waiting: &mut VecDeque<Question>, asked: &mut UnboundedReceiver<Question>) -> Option<Question> {
    match waiting.pop_front() {
        Some(question) => Some(question),
        None => asked.recv().await,
    }
}

async fn ask(client: &Client, sql: &str) -> Result<Answer, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|place| row.get(place).map(str::to_owned)).collect()),
        _ => None,
    });
    Ok(rows.collect())
}

/// What a server said, in one line, or what went wrong on the way to it.
fn told(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        let detail = said.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        return format!("{}{detail}", said.message());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

fn refused(server: &Server, error: &tokio_postgres::Error) -> Error {
    let hint = match error.as_db_error().map(|said| said.code().code()) {
        Some("28P01" | "28000") => "check the user's name, the password and the server's pg_hba.conf",
        Some("3D000") => "check the name of the database",
        Some("53300") => "the server takes no more connections now; try again later",
        None if told(error).contains("password missing") => {
            "put it into PGPASSWORD, ~/.pgpass, or the URL; it is shown to nobody"
        }
        _ => "check that the server runs and can be reached from here, and the words of the URL",
    };
    Error::new(ErrorKind::Source(told(error)), server.location()).with_hint(hint)
}
