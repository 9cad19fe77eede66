//! A question of the user in SQL: one value, read in a transaction that cannot write, by a role that can only read.

use backup_core::contracts::{Answer, SandboxError};
use jiff::Timestamp;

use crate::databases::postgres::connection::Connection;
use crate::databases::postgres::failure::words;
use crate::databases::postgres::server::Server;

/// The longest answer, in bytes: a value of a dump may be a gigabyte. The server sends no more characters than this.
const ANSWER_MAX: usize = 64 * 1024;

/// Asks it.
///
/// # Errors
///
/// When the server refuses it, when it has more than one row, or when the answer is too long.
pub(super) fn ask(reader: &Server, database: &str, sql: &str) -> Result<Answer, SandboxError> {
    let failed = |why: String| SandboxError::new(format!("ask {sql:?}"), why);
    let of_server = |error: &backup_core::Error| failed(words(error));
    let (connection, _) = Connection::open_for_users(reader, database).map_err(|error| of_server(&error).ours())?;
    connection
        .ask("SET TIME ZONE 'UTC'; SET DateStyle = ISO; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .map_err(|error| of_server(&error).ours())?;
    // The type tells how the text is read. What follows a comment in the question must not be part of it.
    let sql = sql.trim().trim_end_matches(';');
    let rows = connection
        .ask(&format!("SELECT pg_catalog.pg_typeof(v)::text, pg_catalog.left(v::text, {ANSWER_MAX}) FROM (\n{sql}\n) AS q(v) LIMIT 2"))
        .map_err(|error| of_server(&error))?;
    match &rows[..] {
        [] => Ok(Answer(None)),
        [row] => match &row[..] {
            [_, Some(value)] if value.len() >= ANSWER_MAX => Err(failed("its answer is too long".to_owned())),
            [Some(kind), Some(value)] => Ok(Answer(Some(plain(kind, value)))),
            _ => Ok(Answer(None)),
        },
        _ => Err(failed("it gives more than one row".to_owned())),
    }
}

/// A value as answers are written.
fn plain(kind: &str, value: &str) -> String {
    let instant = |value: String| value.parse::<Timestamp>().map(|time| time.to_string());
    match (kind, value) {
        ("boolean", "t") => "true".to_owned(),
        ("boolean", "f") => "false".to_owned(),
        // 2026-01-02 03:04:05.678+00
        ("timestamp with time zone", _) => instant(value.replacen(' ', "T", 1)).unwrap_or_else(|_| value.to_owned()),
        // One without a zone is taken for what it is in most programs.
        ("timestamp without time zone", _) => {
            instant(format!("{}Z", value.replacen(' ', "T", 1))).unwrap_or_else(|_| value.to_owned())
        }
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_and_instants_have_one_spelling() {
        assert_eq!(plain("boolean", "t"), "true");
        assert_eq!(plain("bigint", "42"), "42");
        assert_eq!(plain("text", "t"), "t");
        assert_eq!(plain("timestamp with time zone", "2026-01-02 03:04:05.678+00"), "2026-01-02T03:04:05.678Z");
        assert_eq!(plain("timestamp without time zone", "2026-01-02 03:04:05"), "2026-01-02T03:04:05Z");
        assert_eq!(plain("timestamp with time zone", "infinity"), "infinity");
    }
}
