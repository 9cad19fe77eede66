//! Whether a database has what an entry of a dump would make.

use backup_core::Result;

use super::connection::Connection;
use super::contents::Entry;
use super::encoding::literal;

/// `None` for kinds that are not asked for. Names of the entry are in `encoding`.
///
/// # Errors
///
/// When the database does not answer.
pub(super) fn is_there(connection: &Connection, entry: &Entry, encoding: Option<&str>) -> Result<Option<bool>> {
    let name = literal(&entry.name, encoding);
    let schema = literal(entry.schema.as_deref().unwrap_or_default(), encoding);
    let in_schema = |catalog: &str, prefix: &str| {
        format!(
            "SELECT FROM pg_catalog.{catalog} x JOIN pg_catalog.pg_namespace n ON n.oid = x.{prefix}namespace \
             WHERE n.nspname = {schema} AND x.{prefix}name = {name}"
        )
    };
    let found = match entry.kind.as_str() {
        "SCHEMA" => format!("SELECT FROM pg_catalog.pg_namespace WHERE nspname = {name}"),
        "EXTENSION" => format!("SELECT FROM pg_catalog.pg_extension WHERE extname = {name}"),
        "PUBLICATION" => format!("SELECT FROM pg_catalog.pg_publication WHERE pubname = {name}"),
        "TABLE" | "FOREIGN TABLE" | "VIEW" | "MATERIALIZED VIEW" | "SEQUENCE" | "INDEX" => in_schema("pg_class", "rel"),
        "TYPE" | "DOMAIN" => in_schema("pg_type", "typ"),
        "COLLATION" => in_schema("pg_collation", "coll"),
        // By the name of the table, a space, and its own.
        "CONSTRAINT" => format!(
            "SELECT FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class t ON t.oid = c.conrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace \
             WHERE n.nspname = {schema} AND t.relname || ' ' || c.conname = {name}"
        ),
        // Its name with the types of its arguments, spelled as here; a type that is not there is an error.
        "FUNCTION" | "PROCEDURE" | "AGGREGATE" => {
            let signature = format!("pg_catalog.quote_ident({schema}) || '.' || replace({name}, '(*)', '()')");
            let sql = format!("SELECT pg_catalog.to_regprocedure({signature}) IS NOT NULL");
            return Ok(Some(matches!(connection.value(&sql), Ok(Some(answer)) if answer == "t")));
        }
        _ => return Ok(None),
    };
    Ok(connection.value(&format!("SELECT EXISTS ({found})"))?.map(|answer| answer == "t"))
}
