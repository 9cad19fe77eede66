//! What a database consists of: its collections, views and time series, with their options and indexes.

use std::collections::BTreeSet;

use backup_core::contracts::Expectation;
use backup_core::{Error, ErrorKind, Result};
use futures::TryStreamExt as _;
use futures::stream::{self, StreamExt as _};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, Database};
use xxhash_rust::xxh3::xxh3_128;

use super::connection::{Connection, PATIENCE};
use super::documents::Sum;
use super::{extended_json, failure};

/// The namespace that holds the documents of a time series.
pub(super) const BUCKETS: &str = "system.buckets.";

/// Questions about indexes that are under way at once: a database may have ten thousand collections.
const QUESTIONS_AT_ONCE: usize = 8;

/// What sort of thing is listed among the collections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// One that holds documents.
    Collection,
    /// A stored pipeline over another.
    View,
    /// One whose documents lie in buckets, in a collection of the server's own.
    TimeSeries,
}

/// A collection, view or time series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Collection {
    pub(super) name: String,
    pub(super) sort: Sort,
    pub(super) options: Document,
    /// What identifies it, where the server says so: one that was dropped and made anew has another.
    pub(super) uuid: Option<String>,
    pub(super) indexes: Vec<Document>,
}

impl Collection {
    /// One of the server's answers to `listCollections`.
    fn listed(mut answer: Document) -> Option<Self> {
        let name = answer.get_str("name").ok()?.to_owned();
        let sort = match answer.get_str("type") {
            Ok("view") => Sort::View,
            Ok("timeseries") => Sort::TimeSeries,
            _ => Sort::Collection,
        };
        let uuid = match answer.get_document("info").ok().and_then(|info| info.get("uuid")) {
            Some(Bson::Binary(value)) if value.subtype == BinarySubtype::Uuid => {
                Some(value.bytes.iter().map(|byte| format!("{byte:02x}")).collect())
            }
            _ => None,
        };
        let options = match answer.remove("options") {
            Some(Bson::Document(options)) => options,
            _ => Document::new(),
        };
        Some(Self { name, sort, options, uuid, indexes: Vec::new() })
    }

    /// Where its documents lie; nowhere for a view.
    pub(super) fn namespace(&self) -> Option<String> {
        match self.sort {
            Sort::View => None,
            Sort::Collection => Some(self.name.clone()),
            Sort::TimeSeries => Some(format!("{BUCKETS}{}", self.name)),
        }
    }

    /// Whether it keeps only its newest documents, in their order.
    pub(super) fn is_capped(&self) -> bool {
        self.options.get_bool("capped").unwrap_or(false)
    }

    /// Whether `self`, listed later, is still the same.
    pub(super) fn is_still(&self, earlier: &Self) -> bool {
        (self.sort, &self.uuid, &self.options) == (earlier.sort, &earlier.uuid, &earlier.options)
    }

    /// What a restore of it must show. `sum` is what its documents add up to.
    pub(super) fn expectations(&self, sum: Option<Sum>) -> Vec<Expectation> {
        let of = |kind: &str, object: String, count, hash| Expectation { kind: kind.to_owned(), object, count, hash };
        let defined = |document: &Document| Some(definition(document));
        let mut expectations = match self.sort {
            Sort::View => return vec![of("view", self.name.clone(), None, defined(&self.options))],
            Sort::Collection => vec![("collection", sum)],
            Sort::TimeSeries => vec![("time series", sum)],
        }
        .into_iter()
        .map(|(kind, sum)| of(kind, self.name.clone(), sum.map(|sum| sum.count), sum.map(|sum| sum.hash())))
        .collect::<Vec<_>>();
        if !self.options.is_empty() {
            expectations.push(of("options", self.name.clone(), None, defined(&self.options)));
        }
        expectations.extend(self.indexes.iter().map(|index| {
            let name = index.get_str("name").unwrap_or_default();
            of("index", format!("{}.{name}", self.name), None, defined(index))
        }));
        expectations
    }
}

/// What of an index is the server's own affair: its version, how it was built, and where it lies.
pub(super) const OF_THE_SERVER: [&str; 3] = ["v", "background", "ns"];

/// A hash of what a document says, whatever the order of its own fields.
fn definition(document: &Document) -> String {
    let mut fields: Vec<_> = document.iter().filter(|(name, _)| !OF_THE_SERVER.contains(&name.as_str())).collect();
    fields.sort_by_key(|(name, _)| *name);
    let sorted: Document = fields.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    format!("definition-xxh3-128:{:032x}", xxh3_128(extended_json::write(&sorted).as_bytes()))
}

/// Which collections are meant: by their names, where `*` at the end stands for anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these; all when there are none.
    pub only: Vec<String>,
    /// Not these.
    pub except: Vec<String>,
}

impl Selection {
    /// Whether it leaves anything out.
    pub fn is_whole(&self) -> bool {
        self.only.is_empty() && self.except.is_empty()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, name));
        (self.only.is_empty() || any(&self.only)) && !any(&self.except)
    }

    /// Those of the names asked for that `names` do not have.
    pub(super) fn missing<'a>(&'a self, names: &BTreeSet<&str>) -> Option<&'a str> {
        let is_there = |pattern: &str| names.iter().any(|name| matches(pattern, name));
        self.only.iter().map(String::as_str).find(|pattern| !is_there(pattern))
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

/// Whether a collection is the server's own, and made by it: as mongodump passes them over.
fn is_internal(name: &str) -> bool {
    name.starts_with("system.") && name != "system.js"
}

/// The collections of a database without their indexes, by their names.
pub(super) fn list(connection: &Connection, database: &str) -> Result<Vec<Collection>> {
    let client = connection.client()?;
    let name = database.to_owned();
    let listed = connection.run(async move { listed(&client.database(&name)).await })?;
    listed.map_err(|error| failure::of(connection.location(), &format!("list the collections of {database}"), &error))
}

async fn listed(database: &Database) -> Result<Vec<Collection>, mongodb::error::Error> {
    let answers: Vec<Document> = within(async {
        let cursor = database.run_cursor_command(doc! {"listCollections": 1, "cursor": {}}).await?;
        cursor.try_collect().await
    })
    .await?;
    let mut collections: Vec<_> = answers.into_iter().filter_map(Collection::listed).collect();
    collections.retain(|collection| !is_internal(&collection.name));
    collections.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(collections)
}

/// Asks for the indexes of all `collections`.
pub(super) fn complete(
    connection: &Connection,
    database: &str,
    collections: Vec<Collection>,
) -> Result<Vec<Collection>> {
    let client = connection.client()?;
    let (name, location) = (database.to_owned(), connection.location().to_owned());
    let completed = connection.run(async move {
        let each = collections.into_iter().map(|collection| with_indexes(&client, &name, collection));
        stream::iter(each).buffered(QUESTIONS_AT_ONCE).collect::<Vec<_>>().await
    })?;
    let of = |(collection, error): (String, mongodb::error::Error)| match failure::is_not_found(&error) {
        true => Error::new(ErrorKind::Source(format!("{collection} was dropped just now")), location.as_str())
            .with_hint("run it again"),
        false => failure::of(&location, &format!("list the indexes of {collection}"), &error),
    };
    completed.into_iter().map(|completed| completed.map_err(of)).collect()
}

async fn with_indexes(
    client: &Client,
    database: &str,
    mut collection: Collection,
) -> Result<Collection, (String, mongodb::error::Error)> {
    if collection.sort == Sort::View {
        return Ok(collection);
    }
    let asked = within(async {
        let question = doc! {"listIndexes": collection.name.clone(), "cursor": {}};
        client.database(database).run_cursor_command(question).await?.try_collect().await
    });
    match asked.await {
        Ok(indexes) => collection.indexes = indexes,
        Err(error) => return Err((collection.name, error)),
    }
    Ok(collection)
}

/// Waits for as long as a server may take.
pub(super) async fn within<T>(
    work: impl Future<Output = Result<T, mongodb::error::Error>>,
) -> Result<T, mongodb::error::Error> {
    let silent = || std::io::Error::new(std::io::ErrorKind::TimedOut, failure::silent(PATIENCE));
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(silent().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_meant_by_name_or_by_its_beginning() {
        let of = |only: &[&str], except: &[&str]| Selection {
            only: only.iter().map(|&name| name.to_owned()).collect(),
            except: except.iter().map(|&name| name.to_owned()).collect(),
        };
        let all = of(&[], &["tmp_*"]);
        assert!(all.has("users") && all.has("tmp") && !all.has("tmp_1"));
        let some = of(&["fs.*", "users"], &["fs.chunks"]);
        assert!(some.has("users") && some.has("fs.files") && !some.has("fs.chunks") && !some.has("user"));
        assert_eq!(some.missing(&BTreeSet::from(["users"])), Some("fs.*"));
        assert_eq!(some.missing(&BTreeSet::from(["users", "fs.files"])), None);
    }

    #[test]
    fn a_definition_is_the_same_in_another_order_of_its_fields_and_not_of_its_keys() {
        let index = doc! {"v": 2, "key": {"a": 1, "b": -1}, "name": "x", "unique": true};
        let moved = doc! {"unique": true, "name": "x", "key": {"a": 1, "b": -1}, "v": 1, "ns": "old.one"};
        let other = doc! {"v": 2, "key": {"b": -1, "a": 1}, "name": "x", "unique": true};
        assert_eq!(definition(&index), definition(&moved));
        assert_ne!(definition(&index), definition(&other));
    }

    #[test]
    fn what_the_server_made_for_itself_is_passed_over() {
        for (name, internal) in [
            ("system.views", true),
            ("system.profile", true),
            ("system.buckets.t", true),
            ("system.js", false),
            ("systems", false),
        ] {
            assert_eq!(is_internal(name), internal, "{name}");
        }
    }
}
