//! Databases on the command line: which engine a URL means, and what `create` and `restore` need of it.
//!
//! One file an engine, which reads the environment and the engine's own files of passwords; one arm an engine in each
//! of the functions below. The commands know no engine.

use std::ffi::OsString;

use backup_core::contracts::Source;
use backup_sources::databases::url::DatabaseUrl;

use crate::exit::Failure;

/// The databases that a URL means: one, or each of a whole server when it names none. Every one becomes a snapshot.
pub(crate) fn each(url: DatabaseUrl) -> Result<Vec<DatabaseUrl>, Failure> {
    Err(unsupported(&url))
}

/// A database as a source.
pub(crate) fn source(url: &DatabaseUrl) -> Result<Box<dyn Source>, Failure> {
    Err(unsupported(url))
}

/// The databases among `sources`. Databases and files make different snapshots, so they do not mix.
pub(crate) fn among(sources: &[OsString]) -> Result<Vec<DatabaseUrl>, Failure> {
    let urls = sources.iter().filter(|source| DatabaseUrl::is_one(source));
    let urls = urls.map(DatabaseUrl::parse).collect::<Result<Vec<_>, _>>()?;
    if !urls.is_empty() && urls.len() < sources.len() {
        return Err(Failure::usage(
            "databases cannot be mixed with files",
            "take a snapshot of each; a path that looks like a database is written with ./ before it",
        ));
    }
    Ok(urls)
}

fn unsupported(url: &DatabaseUrl) -> Failure {
    Failure::usage(
        format!("databases of the kind {}: are not supported by this program", url.scheme()),
        "back up the output of its dump program: create --name app.sql --command 'mysqldump app'",
    )
}
