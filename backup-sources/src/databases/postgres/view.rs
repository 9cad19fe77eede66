//! What a server is, and the view of a database that everything is read in.
//!
//! A view lasts as long as the transaction of its connection, in which nothing can be written; all timeouts that end long
//! transactions are off in it.

use backup_core::contracts::RecoveryPoint;
use backup_core::{Error, Result};
use jiff::Timestamp;
use serde_json::{Map, json};
use xxhash_rust::xxh3::xxh3_128;

use super::connection::Connection;
use super::server::Server;

/// A server's version.
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) text: String,
}

impl Version {
    pub(super) fn of(connection: &Connection) -> Result<Self> {
        let number = connection.value("SHOW server_version_num")?.and_then(|number| number.parse::<u32>().ok());
        let text = connection.value("SHOW server_version")?.unwrap_or_default();
        // 16.13 (Debian 16.13-1)
        let text = text.split_whitespace().next().unwrap_or_default().to_owned();
        Ok(Self { major: number.unwrap_or_default() / 10_000, text })
    }
}

/// The same server, whose sessions write binary values in the one way in which they are compared, when those of
/// `connection`, which is one, do not: the database or the role says so, and one that it is restored to may not.
pub(super) fn writing_alike(mut server: Server, connection: &Connection) -> Server {
    const USUAL: &str = "hex";
    let is_usual = connection.value("SHOW bytea_output").is_ok_and(|value| value.as_deref() == Some(USUAL));
    if !is_usual {
        let options = server.parameters.entry("options".to_owned()).or_default();
        options.push_str(if options.is_empty() { "" } else { " " });
        options.push_str("-c bytea_output=");
        options.push_str(USUAL);
    }
    server
}

/// A view of the database that others can take too.
pub(super) struct View {
    pub(super) snapshot: String,
    pub(super) point: RecoveryPoint,
}

impl View {
    /// Opens the transaction that the view lasts as long as.
    pub(super) fn take(connection: &Connection, major: u32) -> Result<Self> {
        // Before the transaction, which an error would end: some managed servers do not tell.
        let position = connection
            .value("SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END");
        // For the transaction alone: a pooler hands the session on to other programs.
        let mut begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0; \
            SET LOCAL lock_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
            .to_owned();
        if major >= 17 {
            begin.push_str("; SET LOCAL transaction_timeout = 0");
        }
        connection.ask(&begin)?;
        let row = connection.ask(
            "SELECT pg_export_snapshot(), \
             to_char(statement_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
        )?;
        match row.into_iter().next().as_deref() {
            Some([Some(snapshot), Some(time)]) => {
                let time: Timestamp =
                    time.parse().map_err(|error| Error::invalid("the server's time", time.clone()).caused_by(error))?;
                let position = position.ok().flatten();
                Ok(Self { snapshot: snapshot.clone(), point: RecoveryPoint { time, position } })
            }
            _ => Err(Error::invalid("the server", "it exports no snapshot")),
        }
    }
}

/// What a new database must be made with to take the same data, and how large it is.
pub(super) fn details(connection: &Connection, major: u32) -> Result<Map<String, serde_json::Value>> {
    let (provider, locale) = match major {
        17.. => ("datlocprovider", "datlocale"),
        15 | 16 => ("datlocprovider", "daticulocale"),
        _ => ("'c'", "NULL"),
    };
    let rules = if major >= 16 { "daticurules" } else { "NULL" };
    let sql = format!(
        "SELECT pg_encoding_to_char(encoding), datcollate, datctype, {provider}, {locale}, {rules}, \
         pg_database_size(oid) FROM pg_database WHERE datname = current_database()"
    );
    let row = connection.ask(&sql)?.into_iter().next().unwrap_or_default();
    let names = ["encoding", "collate", "ctype", "locale_provider", "locale", "icu_rules"];
    let mut details: Map<_, _> =
        names.into_iter().zip(&row).map(|(name, value)| (name.to_owned(), json!(value))).collect();
    let bytes: Option<u64> = row.last().cloned().flatten().and_then(|bytes| bytes.parse().ok());
    details.insert("bytes".to_owned(), bytes.into());
    Ok(details)
}

/// What a drill compares with: by which rules texts are sorted, and which cluster it is. Not everybody is told, so this is
/// asked outside of the transaction, which an error would end.
pub(super) fn origin(connection: &Connection, major: u32) -> Map<String, serde_json::Value> {
    let mut origin = Map::new();
    if major >= 15
        && let Ok(Some(version)) = connection.value(
            "SELECT pg_database_collation_actual_version(oid) FROM pg_database WHERE datname = current_database()",
        )
    {
        origin.insert("collation_version".to_owned(), version.into());
    }
    if let Some(system) = system_of(connection) {
        origin.insert("system".to_owned(), system.into());
    }
    origin
}

/// Which cluster a server is, as a hash of the number that it got when it was made; its copies have the same. `None`
/// when it is not told.
pub(super) fn system_of(connection: &Connection) -> Option<String> {
    let number = connection.value("SELECT system_identifier FROM pg_catalog.pg_control_system()").ok().flatten()?;
    Some(format!("xxh3-128:{:032x}", xxh3_128(number.as_bytes())))
}
