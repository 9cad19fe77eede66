//! A new database, made as the one was that was dumped.

use std::time::Duration;

use backup_core::Result;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use serde_json::{Map, Value};

use super::connection::Connection;

/// Creates the database with the encoding and the locale that a manifest's details tell. When the server does not have
/// the locale it is made with the server's own, and what a person should know of that is returned. `limit` is how long the
/// server may take.
pub(super) fn create(
    connection: &Connection,
    name: &str,
    details: &Map<String, Value>,
    limit: Option<Duration>,
) -> Result<Option<String>> {
    let detail = |name: &str| details.get(name).and_then(|value| value.as_str());
    let mut sql = format!("CREATE DATABASE {} TEMPLATE template0", escape_identifier(name));
    if let Some(encoding) = detail("encoding") {
        sql.push_str(&format!(" ENCODING {}", escape_literal(encoding)));
    }
    let mut localized = sql.clone();
    for (word, name) in [("LC_COLLATE", "collate"), ("LC_CTYPE", "ctype")] {
        if let Some(value) = detail(name) {
            localized.push_str(&format!(" {word} {}", escape_literal(value)));
        }
    }
    match (detail("locale_provider"), detail("locale")) {
        (Some("i"), Some(locale)) => {
            localized.push_str(&format!(" LOCALE_PROVIDER icu ICU_LOCALE {}", escape_literal(locale)));
        }
        (Some("b"), Some(locale)) => {
            localized.push_str(&format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", escape_literal(locale)));
        }
        _ => {}
    }
    let Err(refused) = connection.ask_within(limit, &localized) else { return Ok(None) };
    connection.ask_within(limit, &sql).map_err(|_| refused)?;
    let locale = detail("collate").unwrap_or("?");
    Ok(Some(format!("the server does not have the locale {locale}: texts may be sorted in another way")))
}
