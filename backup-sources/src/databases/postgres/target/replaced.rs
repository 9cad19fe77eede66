//! The database that is loaded into: made, and put in the place of another once it is whole.
//!
//! What is always true: what it replaces is not touched before it was loaded and compared, and whenever something fails after
//! that, the error says under which name it is. Called by the target.

use backup_core::contracts::TargetError;
use backup_core::model::SnapshotPath;
use backup_core::{Error, Result};
use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::PostgresTarget;
use crate::databases::postgres::connection::Connection;
use crate::databases::postgres::creation::create;

/// How often a database is given its name: the server waits for five seconds each time until nobody else is connected to it.
const RENAMES_MAX: u32 = 3;

impl PostgresTarget {
    /// Makes the database that is loaded.
    pub(super) fn make(&self, connection: &Connection) -> Result<(), TargetError> {
        let failed = |action, why: &dyn ToString| TargetError::new(action, SnapshotPath::root(), why.to_string());
        if self.loaded != self.database {
            // What an earlier restore that was killed has left.
            let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", escape_identifier(&self.loaded));
            connection.ask(&drop).map_err(|error| failed("drop what an earlier restore left", &error))?;
        }
        let warning = create(connection, &self.loaded, &self.manifest.details, None).map_err(|error| {
            failed("create the database", &error).with_hint("the user needs CREATEDB; or create it, empty, beforehand")
        })?;
        warning.into_iter().for_each(|warning| self.warn(warning));
        Ok(())
    }

    /// Puts what was loaded in the place of the database that it replaces.
    pub(super) fn replace(&self, connection: &Connection) -> Result<(), TargetError> {
        let (old, new) = (escape_identifier(&self.database), escape_identifier(&self.loaded));
        let failed = |error: Error, hint: String| {
            TargetError::new("replace the database", SnapshotPath::root(), error.to_string()).with_hint(hint)
        };
        connection
            .ask(&format!("DROP DATABASE {old} WITH (FORCE)"))
            .map_err(|error| failed(error, format!("it is as it was; what was restored is in the database {new}")))?;
        let rename = format!("ALTER DATABASE {new} RENAME TO {old}");
        // What watches a server connects to each database that it sees; the server waits for those that are told to go.
        let others = escape_literal(&self.loaded);
        let send_away = format!(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = {others}"
        );
        let mut attempts = 1;
        loop {
            // Whoever may not be sent away may have gone by itself.
            let _ = connection.ask(&send_away);
            match connection.ask(&rename) {
                Ok(_) => return Ok(()),
                Err(_) if attempts < RENAMES_MAX => attempts += 1,
                Err(error) => {
                    let hint =
                        format!("what was restored, whole, is in the database {new}: give it its name by {rename}");
                    return Err(failed(error, hint));
                }
            }
        }
    }
}

/// The name under which a database is loaded that will replace another. PostgreSQL cuts names off at 63 bytes, and one
/// that was cut off could be the name of the database that is to be replaced.
pub(super) fn beside(database: &str) -> String {
    const NAME_BYTES_MAX: usize = 63;
    const SUFFIX: &str = ".backup-restore";
    let longest = database.len().min(NAME_BYTES_MAX - SUFFIX.len());
    let end = (0..=longest).rev().find(|&end| database.is_char_boundary(end)).unwrap_or(0);
    format!("{}{SUFFIX}", &database[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_never_loaded_under_the_name_that_it_will_replace() {
        for name in ["app", &"x".repeat(63), &"ä".repeat(31), &format!("{}.backup-restore", "x".repeat(40))] {
            let loaded = beside(name);
            assert!(loaded.len() <= 63 && loaded != *name, "{loaded}");
        }
        assert_eq!(beside("app"), "app.backup-restore");
    }
}
