//! A restored database in a sandbox, wherever that is: what loads it, whether it answers, what it shows.

use std::collections::BTreeSet;

use backup_core::cancel::Cancel;
use backup_core::contracts::{
    Answer, Check, Expectation, Level, Newest, Question, Report, SandboxError, Target, Trace,
};
use jiff::Timestamp;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};

use super::ask;
use crate::databases::examined::{Reading, checks};
use crate::databases::manifest::Manifest;
use crate::databases::mongodb::catalog::{self, Collection, Selection, Sort};
use crate::databases::mongodb::connection::Connection;
use crate::databases::mongodb::settings::MongodbSettings;
use crate::databases::mongodb::target::{LoadOptions, MongodbTarget};
use crate::databases::mongodb::{failure, metadata, observe};

/// Collections that are asked for their newest identifier: it takes a question each.
const COLLECTIONS_ASKED_MAX: usize = 1_000;

/// What is known of a dump before it is restored.
#[derive(Clone, Debug)]
pub struct MongodbDump {
    /// Its manifest.
    pub manifest: Manifest,
    /// The names and contents of the files that [`super::super::is_needed_beforehand`] names.
    pub beforehand: Vec<(String, Vec<u8>)>,
}

/// A database that is restored, or will be.
#[derive(Debug)]
pub(super) struct Restored {
    dump: MongodbDump,
    settings: MongodbSettings,
    database: String,
    expiry: Expiry,
}

/// Whether the server deletes documents whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// It was told not to.
    Off,
    /// As any other server does.
    On,
}

impl Restored {
    /// In `database` of the server of `settings`.
    pub(super) fn new(dump: MongodbDump, settings: MongodbSettings, database: String, expiry: Expiry) -> Self {
        Self { dump, settings, database, expiry }
    }

    pub(super) fn database(&self) -> &str {
        &self.database
    }

    pub(super) fn target(&self) -> Result<Box<dyn Target>, SandboxError> {
        let MongodbDump { manifest, beforehand } = self.dump.clone();
        let target =
            MongodbTarget::connect(&self.settings, &self.database, &beforehand, manifest, LoadOptions::default());
        // Here a file of the dump is read for the first time.
        target.map(|target| Box::new(target) as Box<dyn Target>).map_err(|error| {
            let is_of_the_dump = matches!(error.kind(), backup_core::ErrorKind::Damaged(_));
            let failed = SandboxError::new("prepare the restore", error);
            if is_of_the_dump { failed } else { failed.ours() }
        })
    }

    pub(super) fn ready(&self) -> Result<(), SandboxError> {
        let listed = self.connect()?;
        let listed = catalog::list(&listed, &self.database);
        listed.map(drop).map_err(|error| SandboxError::new("ask the restored database", error))
    }

    pub(super) fn examine(&self, report: &Report, cancel: &Cancel) -> Result<Vec<Check>, SandboxError> {
        let expected = &report.expectations;
        if expected.is_empty() {
            return Ok(Vec::new());
        }
        let observed = observe(&self.settings, &self.database, &Selection::default())
            .map_err(|error| SandboxError::new("read the restored database", error))?;
        let mut found = checks(expected, &observed, &Words { expiring: self.expiring() });
        cancel.check().map_err(|error| SandboxError::new("read the restored database", error).ours())?;
        let connection = self.connect()?;
        // FerretDB says that a collection is valid without looking at it.
        if connection.server().ferretdb.is_none() {
            let with_documents = observed.iter().filter(|observed| observed.kind == "collection");
            for collection in with_documents.map(|observed| observed.object.as_str()) {
                found.push(validate(&connection, &self.database, collection)?);
            }
        }
        Ok(found)
    }

    /// The newest time that an identifier of a document has in it: most programs let the driver make them, from its clock.
    /// What cannot be asked is no witness.
    pub(super) fn newest(&self, until: Timestamp) -> Option<Newest> {
        let connection = self.connect().ok()?;
        let collections = catalog::list(&connection, &self.database).ok()?;
        let documents = collections.iter().filter(|it| it.sort == Sort::Collection).take(COLLECTIONS_ASKED_MAX);
        let newest = documents.filter_map(|it| newest_of(&connection, &self.database, &it.name, until)).max();
        newest.map(|time| Newest { time, from: Trace::ObjectId })
    }

    pub(super) fn ask(&self, question: &Question) -> Result<Answer, SandboxError> {
        let failed = |why: String| SandboxError::new("ask the restored database", why);
        let Question::Aggregation { collection, pipeline } = question else {
            return Err(failed("MongoDB is asked by an aggregation".to_owned()).ours());
        };
        ask::ask(&self.connect()?, &self.database, collection, pipeline).map_err(failed)
    }

    pub(super) fn not_tested(&self, is_ferretdb: bool) -> Vec<String> {
        let mut not_tested = vec![
            "users, passwords and roles".to_owned(),
            "the definitions of views, beyond that they are there as they were written".to_owned(),
            "what is no part of the database: configuration, other databases, replication, sharding".to_owned(),
        ];
        if is_ferretdb {
            not_tested.push("the collections' own structure: FerretDB has nothing that would look at it".to_owned());
            not_tested.push("whether MongoDB takes the dump: it was restored to FerretDB".to_owned());
        }
        not_tested
    }

    fn connect(&self) -> Result<Connection, SandboxError> {
        // The server is ours: that it cannot be reached says nothing of the backup.
        Connection::open(&self.settings).map_err(|error| SandboxError::new("reach the sandbox", error).ours())
    }

    /// The collections whose documents the server deletes by and by.
    fn expiring(&self) -> BTreeSet<String> {
        if self.expiry == Expiry::Off {
            return BTreeSet::new();
        }
        let read = |(name, text): &(String, Vec<u8>)| metadata::read_file(name, text).ok();
        let collections = self.dump.beforehand.iter().filter_map(read).map(|(collection, _)| collection);
        collections.filter(expires).map(|collection| collection.name).collect()
    }
}

/// Whether documents of it have an end.
fn expires(collection: &Collection) -> bool {
    let has_end = |document: &Document| document.contains_key("expireAfterSeconds");
    has_end(&collection.options) || (collection.sort == Sort::Collection && collection.indexes.iter().any(has_end))
}

/// How expectations of MongoDB are read.
struct Words {
    expiring: BTreeSet<String>,
}

impl Reading for Words {
    fn passes_over(&self, expected: &Expectation) -> Option<String> {
        let has_documents = matches!(expected.kind.as_str(), "collection" | "time series");
        (has_documents && self.expiring.contains(&expected.object))
            .then(|| "its documents expire on this server while they are counted".to_owned())
    }

    fn is_excused(&self, _observed: &Expectation) -> bool {
        false
    }

    fn may_differ(&self, _expected: &Expectation) -> Option<String> {
        None
    }
}

/// The time of the newest identifier that is no later than `until`: the last of an index that each collection has. Only those
/// of this kind are compared with one.
fn newest_of(connection: &Connection, database: &str, collection: &str, until: Timestamp) -> Option<Timestamp> {
    let mut last = [0xff; 12];
    last[..4].copy_from_slice(&u32::try_from(until.as_second()).unwrap_or(u32::MAX).to_be_bytes());
    let question = doc! {
        "find": collection, "filter": {"_id": {"$lte": ObjectId::from_bytes(last)}}, "sort": {"_id": -1}, "limit": 1,
        "projection": {"_id": 1}, "singleBatch": true,
    };
    let said = connection.ask(database, question).ok()?.ok()?;
    let batch = said.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch")).ok()?;
    let id = batch.first()?.as_document()?.get_object_id("_id").ok()?;
    let seconds = u32::from_be_bytes(id.bytes()[..4].try_into().ok()?);
    Timestamp::from_second(seconds.into()).ok().filter(|time| *time <= until)
}

/// The server's own look at a collection: its documents, and that its indexes fit to them.
fn validate(connection: &Connection, database: &str, collection: &str) -> Result<Check, SandboxError> {
    let said = connection.ask(database, doc! {"validate": collection, "full": true});
    let said = said.map_err(|error| SandboxError::new(format!("validate {collection}"), error).ours())?;
    let id = format!("validate {collection}");
    Ok(match said {
        Ok(said) => validated(id, &said),
        Err(error) => Check::not_tested(id, Level::Examined, failure::told(&error)),
    })
}

fn validated(id: String, said: &Document) -> Check {
    match said.get_bool("valid") {
        Ok(true) => Check::passed(id, Level::Examined),
        Ok(false) => {
            let errors = said.get_array("errors").map(Vec::as_slice).unwrap_or_default();
            let first = errors.first().and_then(Bson::as_str).and_then(|text| text.lines().next());
            Check::failed(id, Level::Examined, first.unwrap_or("it is not valid"))
        }
        Err(_) => Check::not_tested(id, Level::Examined, "the server does not say whether it is valid"),
    }
}

#[cfg(test)]
mod tests {
    use backup_core::contracts::CheckResult;

    use super::*;

    #[test]
    fn only_a_collection_that_is_said_to_be_valid_is() {
        let of = |said: Document| validated("validate a".into(), &said);
        assert_eq!(of(doc! {"valid": true}).result, CheckResult::Passed);
        let broken = of(doc! {"valid": false, "errors": ["index x is inconsistent\nand more"]});
        assert_eq!((broken.result, broken.detail.as_deref()), (CheckResult::Failed, Some("index x is inconsistent")));
        assert_eq!(of(doc! {"valid": false}).result, CheckResult::Failed);
        assert_eq!(of(doc! {"ok": 1}).result, CheckResult::NotTested);
    }

    #[test]
    fn documents_that_expire_are_not_counted_where_the_server_deletes_them() {
        let text =
            |more: &str| format!(r#"{{"indexes":[{{"key":{{"at":1}},"name":"at"{more}}}],"collectionName":"c"}}"#);
        let ends = r#","expireAfterSeconds":{"$numberInt":"60"}"#;
        let beforehand = vec![
            ("a.metadata.json".to_owned(), text(ends).into_bytes()),
            ("b.metadata.json".to_owned(), text("").into_bytes()),
        ];
        let manifest = Manifest::new(crate::databases::url::Engine::Mongodb, "app", Report::default());
        let url = crate::databases::url::DatabaseUrl::parse("mongodb://h/").unwrap();
        let restored = |expiry| {
            let dump = MongodbDump { manifest: manifest.clone(), beforehand: beforehand.clone() };
            Restored::new(dump, MongodbSettings::new(&url), "app".into(), expiry)
        };
        let expiring = restored(Expiry::On).expiring();
        assert_eq!(expiring.iter().collect::<Vec<_>>(), ["a"]);
        assert!(restored(Expiry::Off).expiring().is_empty());
        let words = Words { expiring };
        let of = |kind: &str, object: &str| Expectation {
            kind: kind.into(),
            object: object.into(),
            count: None,
            hash: None,
        };
        assert!(words.passes_over(&of("collection", "a")).is_some());
        assert!(words.passes_over(&of("collection", "b")).is_none() && words.passes_over(&of("index", "a")).is_none());
    }
}
