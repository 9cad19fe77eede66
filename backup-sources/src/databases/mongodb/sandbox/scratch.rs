//! A database of its own on a server that is there for drills: for machines without a server's programs.
//!
//! What is always true: nothing is on that server but what drills made, so it cannot be the one that was backed up, nor
//! anybody's production. MongoDB gives a deployment no number that whoever reads one database may see, so this takes its
//! place. The database's name is random, and stands in a list on the server ([`LIST`]) with a random word beside it,
//! which is looked for before the database is dropped.
//!
//! While a drill lives it renews its line in the list. Databases whose line has grown old are leftovers of killed drills,
//! and a later drill drops them.
//!
//! The server may hang as any other. What is asked of it as a server has [`SANDBOX_SERVER_SILENCE_MAX`] for an answer; what is
//! asked of the restored data ends with the drill's stop, the connection that drops the database does not.

use std::time::Duration;

use backup_core::cancel::Cancel;
use backup_core::contracts::{
    Answer, Caveats, Check, Entrance, Expected, Newest, NotReady, Question, Sandbox, SandboxError, SandboxFacts, Target,
};
use backup_core::limits::{DATABASE_SILENCE_SECONDS_MAX, SANDBOX_SERVER_BYTES, SANDBOX_SERVER_SILENCE_MAX};
use backup_core::observe::Amount;
use backup_core::{Error, ErrorKind, Result};
use jiff::Timestamp;
use mongodb::bson::{Bson, DateTime, Document, doc};

use super::product::Product;
use super::restored::{Expiry, MongodbDump, Restored};
use crate::databases::mongodb::connection::Connection;
use crate::databases::mongodb::instant::Instant;
use crate::databases::mongodb::settings::MongodbSettings;

/// How the names of databases begin that drills make.
const PREFIX: &str = "backup_drill_";

/// The database of the list, and the list: a document for each drill with its name, its word, and when it last lived.
const LISTS: &str = "backup_drill";
/// See [`LISTS`].
const LIST: &str = "drills";

/// Databases that every deployment has by itself.
const OF_THE_SERVER: [&str; 3] = ["admin", "config", "local"];

/// How often a drill says that it lives.
const BEAT: Duration = Duration::from_secs(60);

/// How long a server may take to drop a database with its files.
const DROPPING_MAX: Duration = Duration::from_secs(DATABASE_SILENCE_SECONDS_MAX);

/// A drill that has said nothing for so long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(30 * 60);

/// A database of its own on a server that is there for drills.
#[derive(Debug)]
pub struct MongodbScratch {
    dump: MongodbDump,
    settings: MongodbSettings,
    silence_max: Duration,
    facts: SandboxFacts,
    warnings: Vec<String>,
    product: Option<Product>,
    /// See [`Expected::until`].
    until: Option<Timestamp>,
    made: Option<Made>,
}

/// A database that was made. It is dropped with this.
#[derive(Debug)]
struct Made {
    restored: Restored,
    database: Database,
}

/// The database itself, and its line in the list.
#[derive(Debug)]
struct Database {
    connection: Connection,
    name: String,
    word: String,
    is_there: bool,
}

impl MongodbScratch {
    /// For this dump, on the server of `settings`.
    pub fn new(dump: MongodbDump, settings: MongodbSettings) -> Self {
        let facts = SandboxFacts { provider: "server".to_owned(), ..SandboxFacts::default() };
        let silence_max = SANDBOX_SERVER_SILENCE_MAX;
        Self { dump, settings, silence_max, facts, warnings: Vec::new(), product: None, until: None, made: None }
    }

    /// Waits no longer than this for what the server has to say of itself.
    #[must_use]
    pub fn with_silence_max(self, silence_max: Duration) -> Self {
        Self { silence_max, ..self }
    }

    fn made(&self) -> Result<&Made, SandboxError> {
        let made = self.made.as_ref();
        let made = made.ok_or_else(|| SandboxError::new("use the sandbox", "it was not started").ours())?;
        made.database.check().map_err(|error| SandboxError::new("use the sandbox", error).ours())?;
        Ok(made)
    }

    /// Whether it is a server that may be restored to.
    fn look(&mut self, connection: &Connection, expected: Amount) -> Result<(), NotReady> {
        let product = Product::of_manifest(&self.dump.manifest)?;
        let there = Product::of_server(connection.server());
        if there != Some(product) {
            let there = there.map_or_else(|| "something else".to_owned(), |there| there.to_string());
            return Err(NotReady::cannot_run(format!(
                "the dump is of {product}, and the server for drills is {there}"
            )));
        }
        let cannot = |error: Error| NotReady::cannot_run(format!("the server for drills: {error}"));
        // All of them, or an error: those that one may not see are there too.
        let question = doc! {"listDatabases": 1, "nameOnly": true, "authorizedDatabases": false};
        let answer = connection.command("admin", "list all databases", question).map_err(cannot)?;
        if let Some(name) = of_others(&answer) {
            return Err(NotReady::CannotRun {
                reason: format!(
                    "the server for drills holds the database {name}: it may be the one that was backed up"
                ),
                hint: Some("name a server on which nothing is but what drills make".to_owned()),
            });
        }
        let stats = connection.ask("admin", doc! {"dbStats": 1}).map_err(cannot)?;
        if let Some(free) = stats.ok().and_then(|stats| free_bytes(&stats)) {
            let needed = expected.bytes.saturating_mul(2).saturating_add(SANDBOX_SERVER_BYTES);
            if free < needed {
                return Err(NotReady::cannot_run(format!(
                    "disk: it takes about {needed} bytes on the server for drills, and {free} are free"
                )));
            }
        }
        self.facts.engine = connection.server().tools().pop();
        self.facts.isolation = vec!["a database of its own on a server for drills".to_owned()];
        self.product = Some(product);
        Ok(())
    }
}

impl Sandbox for MongodbScratch {
    fn facts(&self) -> SandboxFacts {
        self.facts.clone()
    }

    fn start(&mut self, expected: Amount, cancel: &Cancel) -> Result<(), NotReady> {
        let mut lasting = self.settings.clone();
        lasting.silence_max = self.silence_max;
        self.settings.cancel = Some(cancel.clone());
        let mut looking = lasting.clone();
        looking.cancel.clone_from(&self.settings.cancel);
        let open = |settings: &MongodbSettings| {
            Connection::open(settings).map_err(|error| NotReady::cannot_run(format!("the server for drills: {error}")))
        };
        let connection = open(&looking)?;
        self.look(&connection, expected)?;
        // This one drops the database when the drill was asked to stop as well.
        let connection = open(&lasting)?;
        let failed = |error: Error| SandboxError::new("make the database", error).ours();
        self.warnings = drop_leftovers(&connection).map_err(failed)?;
        let database = Database::make(connection).map_err(failed)?;
        let name = database.name.clone();
        let restored = Restored::new(self.dump.clone(), self.settings.clone(), name, Expiry::On);
        self.made = Some(Made { restored, database });
        Ok(())
    }

    fn target(&mut self) -> Result<Box<dyn Target>, SandboxError> {
        self.made()?.restored.target()
    }

    fn entrance(&self) -> Result<Entrance, String> {
        Err("a server for drills is opened by a login that the runbook does not have".to_owned())
    }

    fn ready(&mut self) -> Result<(), SandboxError> {
        self.made()?.restored.ready()
    }

    fn examine(&mut self, expected: Expected<'_>, cancel: &Cancel) -> Result<Vec<Check>, SandboxError> {
        self.until = Some(expected.until);
        let found = self.made()?.restored.examine(expected.report, cancel);
        // Had somebody taken it away meanwhile, what is missing would say nothing of the backup.
        self.made()?;
        found
    }

    fn ask(&mut self, question: &Question, _cancel: &Cancel) -> Result<Answer, SandboxError> {
        self.made()?.restored.ask(question)
    }

    fn newest(&mut self) -> Option<Newest> {
        self.made.as_ref()?.restored.newest(self.until?)
    }

    fn caveats(&self) -> Caveats {
        let is_ferretdb = matches!(self.product, Some(Product::Ferretdb(_)));
        let not_tested = self.made.as_ref().map(|made| made.restored.not_tested(is_ferretdb));
        Caveats { warnings: self.warnings.clone(), not_tested: not_tested.unwrap_or_default() }
    }

    fn remove(mut self: Box<Self>) -> Result<(), SandboxError> {
        let Some(Made { mut database, .. }) = self.made.take() else { return Ok(()) };
        let dropped = database.remove();
        dropped.map_err(|error| SandboxError::new(format!("drop the database {}", database.name), error).ours())
    }
}

impl Database {
    /// Writes it into the list. It is there as soon as something is restored into it.
    fn make(connection: Connection) -> Result<Self> {
        let (name, word) = (format!("{PREFIX}{}", random()?), random()?);
        let now = DateTime::from_millis(Instant::now(&connection)?.time.as_millisecond());
        let line = doc! {"_id": name.clone(), "word": word.clone(), "alive": now};
        let said =
            connection.command(LISTS, "write into the list of drills", doc! {"insert": LIST, "documents": [line]})?;
        if said.get_i32("n").ok() != Some(1) {
            let why = "the server takes no line into its list of drills".to_owned();
            return Err(Error::new(ErrorKind::Target(why), connection.location()));
        }
        let made = Self { connection, name, word, is_there: true };
        made.live()?;
        Ok(made)
    }

    /// Renews its line as long as the connection lives.
    fn live(&self) -> Result<()> {
        let list = self.connection.client()?.database(LISTS);
        let renewal = doc! {"q": {"_id": self.name.clone()}, "u": {"$currentDate": {"alive": true}}};
        let command = doc! {"update": LIST, "updates": [renewal]};
        self.connection.spawn(async move {
            loop {
                tokio::time::sleep(BEAT).await;
                // One that fails is made up for by the next.
                let _ = list.run_command(command.clone()).await;
            }
        });
        Ok(())
    }

    /// An error unless its line is in the list, with its word.
    fn check(&self) -> Result<()> {
        let question = doc! {"find": LIST, "filter": {"_id": self.name.clone()}, "singleBatch": true};
        let there = documents(&self.connection.command(LISTS, "read the list of drills", question)?);
        let is_same = there.first().is_some_and(|line| line.get_str("word").is_ok_and(|word| word == self.word));
        if is_same {
            return Ok(());
        }
        let why = "it is not in the server's list of drills any more, so it was left alone".to_owned();
        Err(Error::new(ErrorKind::Target(why), self.name.as_str()))
    }

    /// Drops it, once it is sure that it is the one that was made.
    fn remove(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_there) {
            return Ok(());
        }
        self.check()?;
        forget(&self.connection, &self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // What could not be dropped now is a leftover, which a later drill drops.
        let _ = self.remove();
    }
}

/// Drops a database of a drill, and then its line.
fn forget(connection: &Connection, name: &str) -> Result<()> {
    connection.command_within(DROPPING_MAX, name, &format!("drop {name}"), doc! {"dropDatabase": 1})?;
    let line = doc! {"delete": LIST, "deletes": [{"q": {"_id": name}, "limit": 1}]};
    connection.command(LISTS, "write into the list of drills", line).map(drop)
}

/// Drops the databases of killed drills.
fn drop_leftovers(connection: &Connection) -> Result<Vec<String>> {
    let silence = i64::try_from(SILENCE_MAX.as_millis()).unwrap_or(i64::MAX);
    let since = DateTime::from_millis(Instant::now(connection)?.time.as_millisecond().saturating_sub(silence));
    let question = doc! {"find": LIST, "filter": {"alive": {"$lt": since}}, "singleBatch": true};
    let old = documents(&connection.command(LISTS, "read the list of drills", question)?);
    let names = old.iter().filter_map(|line| line.get_str("_id").ok()).filter(|name| name.starts_with(PREFIX));
    Ok(names
        .map(|name| match forget(connection, name) {
            Ok(()) => format!("the database {name} of a killed drill was dropped"),
            Err(error) => format!("the database {name} of a killed drill is still there: {error}"),
        })
        .collect())
}

/// The documents of a server's first reply.
fn documents(said: &Document) -> Vec<Document> {
    let batch = said.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    batch.map(Vec::as_slice).unwrap_or_default().iter().filter_map(Bson::as_document).cloned().collect()
}

/// The first database that neither the server nor a drill has made.
fn of_others(said: &Document) -> Option<&str> {
    let databases = said.get_array("databases").map(Vec::as_slice).unwrap_or_default();
    let mut names = databases.iter().filter_map(|database| database.as_document()?.get_str("name").ok());
    names.find(|name| !OF_THE_SERVER.contains(name) && *name != LISTS && !name.starts_with(PREFIX))
}

/// The space in bytes that is left where the server keeps its data, where it says that.
fn free_bytes(stats: &Document) -> Option<u64> {
    let number = |name: &str| match stats.get(name)? {
        Bson::Int32(value) => u64::try_from(*value).ok(),
        Bson::Int64(value) => u64::try_from(*value).ok(),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was looked at before")]
        Bson::Double(value) if *value >= 0.0 && *value < 9e15 => Some(*value as u64),
        _ => None,
    };
    number("fsTotalSize")?.checked_sub(number("fsUsedSize")?)
}

fn random() -> Result<String> {
    let mut bytes = [0; 8];
    let failed = |error: getrandom::Error| Error::new(ErrorKind::Target(format!("no random number: {error}")), LISTS);
    getrandom::fill(&mut bytes).map_err(failed)?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_no_drill_made_is_found() {
        let of = |names: &[&str]| {
            let databases: Vec<Bson> = names.iter().map(|name| doc! {"name": *name}.into()).collect();
            of_others(&doc! {"databases": databases}).map(str::to_owned)
        };
        assert_eq!(of(&["admin", "config", "local", "backup_drill", "backup_drill_00ff"]), None);
        assert_eq!(of(&["admin", "app"]).as_deref(), Some("app"));
        assert_eq!(of(&["backup_drills"]).as_deref(), Some("backup_drills"));
    }

    #[test]
    fn the_space_of_a_server_is_known_where_it_says_it() {
        assert_eq!(free_bytes(&doc! {"fsTotalSize": 1_000.0, "fsUsedSize": 400.0}), Some(600));
        assert_eq!(free_bytes(&doc! {"fsTotalSize": 1_000_i64, "fsUsedSize": 400}), Some(600));
        assert_eq!(free_bytes(&doc! {"fsUsedSize": 400.0}), None);
        assert_eq!(free_bytes(&doc! {"fsTotalSize": f64::NAN, "fsUsedSize": 400.0}), None);
    }
}
