//! What is made around documents: collections before them, indexes and views after them.

use backup_core::Result;
use futures::stream::{self, StreamExt as _};
use mongodb::bson::{Document, doc};

use super::catalog::{Collection, OF_THE_SERVER, Sort};
use super::connection::Connection;
use super::failure;

/// Collections that are made at once.
const MADE_AT_ONCE: usize = 8;

/// Options that servers list and do not take back: which index `_id` has is said by the others.
const NOT_TAKEN: [&str; 2] = ["autoIndexId", "uuid"];

/// Makes the collections and time series, with their options.
pub(super) fn collections(connection: &Connection, database: &str, all: &[Collection]) -> Result<()> {
    let made = all.iter().filter(|it| it.sort != Sort::View);
    each(connection, database, MADE_AT_ONCE, made.map(|it| (format!("make {}", it.name), creation(it))).collect())
}

/// Builds the indexes: those of one collection in one go, so that its documents are read once for them.
pub(super) fn indexes(connection: &Connection, database: &str, all: &[Collection], jobs: usize) -> Result<()> {
    let wanted = all.iter().filter_map(|collection| {
        let indexes: Vec<Document> = collection.indexes.iter().filter_map(built).collect();
        let command = || doc! {"createIndexes": collection.name.clone(), "indexes": indexes.clone()};
        (!indexes.is_empty()).then(|| (format!("build the indexes of {}", collection.name), command()))
    });
    each(connection, database, jobs, wanted.collect())
}

/// Makes the views. One may be made before what it looks at.
pub(super) fn views(connection: &Connection, database: &str, all: &[Collection]) -> Result<()> {
    let views = all.iter().filter(|it| it.sort == Sort::View);
    each(connection, database, 1, views.map(|it| (format!("make the view {}", it.name), creation(it))).collect())
}

fn creation(collection: &Collection) -> Document {
    let mut command = doc! {"create": collection.name.clone()};
    // What begins with a dollar is no option but a word to the server, such as which database is meant.
    let is_option = |name: &str| !NOT_TAKEN.contains(&name) && !name.starts_with('$');
    let options = collection.options.iter().filter(|(name, _)| is_option(name));
    command.extend(options.map(|(name, value)| (name.clone(), value.clone())));
    command
}

/// An index as a server builds it; `None` for the one that every collection has by itself.
fn built(index: &Document) -> Option<Document> {
    let is_of_id = index.get_document("key").is_ok_and(|key| {
        let mut fields = key.iter();
        matches!(fields.next(), Some((name, order)) if name == "_id" && is_one(order)) && fields.next().is_none()
    });
    let is_the_order_itself = index.get_bool("clustered").unwrap_or(false);
    if is_of_id || is_the_order_itself {
        return None;
    }
    let kept = index.iter().filter(|(name, _)| !OF_THE_SERVER.contains(&name.as_str()));
    Some(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// A server that was given 1.0 lists 1.0.
fn is_one(order: &mongodb::bson::Bson) -> bool {
    order.as_i32() == Some(1) || order.as_i64() == Some(1) || order.as_f64() == Some(1.0)
}

/// Runs each command, so many at once, and gives the first failure. An index takes as long as it takes.
fn each(connection: &Connection, database: &str, at_once: usize, commands: Vec<(String, Document)>) -> Result<()> {
    let database = connection.client()?.database(database);
    let failures = connection.run(async move {
        let asked = commands.into_iter().map(|(action, command)| {
            let database = database.clone();
            async move { database.run_command(command).await.err().map(|error| (action, error)) }
        });
        stream::iter(asked).buffer_unordered(at_once).filter_map(|failed| async { failed }).collect::<Vec<_>>().await
    })?;
    match failures.into_iter().next() {
        None => Ok(()),
        Some((action, error)) => Err(failure::of(connection.location(), &action, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_every_collection_is_not_built_again_and_a_hashed_one_is() {
        assert_eq!(built(&doc! {"v": 2, "key": {"_id": 1}, "name": "_id_"}), None);
        assert_eq!(built(&doc! {"v": 2, "key": {"_id": 1.0}, "name": "_id_"}), None);
        assert_eq!(built(&doc! {"v": 2, "key": {"_id": 1}, "name": "x", "clustered": true}), None);
        let hashed = doc! {"key": {"_id": "hashed"}, "name": "_id_hashed"};
        assert_eq!(built(&hashed), Some(hashed.clone()));
        let pair = doc! {"key": {"_id": 1, "a": 1}, "name": "both", "sparse": true};
        let listed = doc! {"v": 2, "key": {"_id": 1, "a": 1}, "name": "both", "ns": "db.c", "sparse": true};
        assert_eq!(built(&listed), Some(pair));
    }

    #[test]
    fn a_collection_is_made_with_what_it_had() {
        let collection = Collection {
            name: "c".into(),
            sort: Sort::Collection,
            options: doc! {"capped": true, "autoIndexId": true, "size": 10},
            uuid: None,
            indexes: Vec::new(),
        };
        assert_eq!(creation(&collection), doc! {"create": "c", "capped": true, "size": 10});
    }
}
