//! What a database shows now, in the form of a report's expectations.

use backup_core::contracts::Expectation;
use backup_core::{Error, ErrorKind, Result};

use super::catalog::{self, Collection, Selection};
use super::connection::Connection;
use super::cursor::{Documents, Query, Stop, View};
use super::failure;
use super::settings::MongodbSettings;

/// Collections that are read at once.
const COLLECTIONS_AT_ONCE: usize = 2;

/// Reads the whole database, keeps nothing of it, and tells what it holds.
///
/// # Errors
///
/// As [`super::MongodbSource::connect`], and when a collection cannot be read to its end.
pub fn observe(settings: &MongodbSettings, database: &str, selection: &Selection) -> Result<Vec<Expectation>> {
    let connection = Connection::open(settings)?;
    let mut collections = catalog::list(&connection, database)?;
    collections.retain(|collection| selection.has(&collection.name));
    let collections = catalog::complete(&connection, database, collections)?;
    let mut observed = Vec::new();
    for several in collections.chunks(COLLECTIONS_AT_ONCE) {
        // All are asked before the first is waited for.
        let asked: Vec<_> =
            several.iter().map(|it| Ok((it, ask(&connection, database, it)?))).collect::<Result<_>>()?;
        for (collection, documents) in asked {
            let sum = match documents {
                None => None,
                Some(mut documents) => {
                    documents.exhaust().map_err(|stop| stopped(&connection, collection, stop))?;
                    documents.sum()
                }
            };
            observed.extend(collection.expectations(sum));
        }
    }
    Ok(observed)
}

fn ask(connection: &Connection, database: &str, collection: &Collection) -> Result<Option<Documents>> {
    let Some(namespace) = collection.namespace() else { return Ok(None) };
    let query = Query { database: database.to_owned(), namespace, filter: Default::default(), view: View::Latest };
    Documents::ask(connection, query).map(Some)
}

fn stopped(connection: &Connection, collection: &Collection, stop: Stop) -> Error {
    match stop {
        Stop::Gone => Error::new(ErrorKind::Source("the connection is gone".to_owned()), connection.location()),
        Stop::Server(error) => failure::of(connection.location(), &format!("read {}", collection.name), &error),
    }
}
