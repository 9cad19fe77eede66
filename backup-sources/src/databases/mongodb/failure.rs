//! What the driver's errors mean, in a line for people.

use std::time::Duration;

use backup_core::{Error, ErrorKind};
use mongodb::error::{ErrorKind as Kind, WriteFailure};

/// Codes of errors, as `error_codes.yml` of the server has them.
const UNAUTHORIZED: i32 = 13;
const AUTHENTICATION_FAILED: i32 = 18;
const NAMESPACE_NOT_FOUND: i32 = 26;
const CURSOR_NOT_FOUND: i32 = 43;
const COMMAND_NOT_FOUND: i32 = 59;
const COMMAND_NOT_SUPPORTED: i32 = 115;
const QUERY_PLAN_KILLED: i32 = 175;
const SNAPSHOT_TOO_OLD: i32 = 239;
const SNAPSHOT_UNAVAILABLE: i32 = 246;
/// What the managed service Atlas refuses in its smaller plans.
const REFUSED_BY_ATLAS: i32 = 8000;

/// What a server said, or what went wrong on the way to it, in one line.
pub(super) fn told(error: &mongodb::error::Error) -> String {
    match &*error.kind {
        Kind::Command(said) => said.message.clone(),
        Kind::Authentication { message, .. } => message.clone(),
        Kind::ServerSelection { message, .. } => selection(message),
        Kind::InvalidArgument { message, .. } => message.clone(),
        Kind::Write(WriteFailure::WriteError(said)) => said.message.clone(),
        Kind::Write(WriteFailure::WriteConcernError(said)) => said.message.clone(),
        Kind::InsertMany(said) => {
            let writes = said.write_errors.iter().flatten().map(|error| error.message.clone());
            let concern = said.write_concern_error.iter().map(|error| error.message.clone());
            writes.chain(concern).next().unwrap_or_else(|| "documents were refused".to_owned())
        }
        Kind::Io(error) => format!("the connection failed: {error}"),
        Kind::ConnectionPoolCleared { message, .. } => selection(message),
        other => other.to_string(),
    }
    .lines()
    .next()
    .unwrap_or_default()
    .to_owned()
}

/// The driver describes the whole deployment; the reason is in there.
fn selection(message: &str) -> String {
    let reason = message.split_once("Error: Kind: ").map(|(_, rest)| rest.split(", labels:").next().unwrap_or(rest));
    let reason = reason.map(|reason| reason.trim_start_matches("I/O error: "));
    reason.map_or_else(|| message.to_owned(), |reason| format!("no server answers: {reason}"))
}

/// Whether the server refused for want of rights, or because it lets nobody do that.
pub(super) fn is_for_want_of_rights(error: &mongodb::error::Error) -> bool {
    let refusals = [UNAUTHORIZED, COMMAND_NOT_FOUND, COMMAND_NOT_SUPPORTED, REFUSED_BY_ATLAS];
    code(error).is_some_and(|code| refusals.contains(&code))
}

/// Whether what was asked for is not there.
pub(super) fn is_not_found(error: &mongodb::error::Error) -> bool {
    code(error) == Some(NAMESPACE_NOT_FOUND)
}

/// What to try, where something is known to help.
pub(super) fn hint(error: &mongodb::error::Error) -> Option<&'static str> {
    let is_authentication = matches!(&*error.kind, Kind::Authentication { .. });
    Some(match code(error) {
        Some(AUTHENTICATION_FAILED) => WRONG_USER,
        _ if is_authentication => WRONG_USER,
        Some(UNAUTHORIZED) => "a backup takes the role `backup` in admin, or `read` on the database; see the manual",
        Some(SNAPSHOT_TOO_OLD | SNAPSHOT_UNAVAILABLE) => {
            "the server keeps too little history (minSnapshotHistoryWindowInSeconds); raise it, or --no-snapshot-read"
        }
        Some(CURSOR_NOT_FOUND | QUERY_PLAN_KILLED) => {
            "the collection was dropped or altered meanwhile, or the server was restarted; run it again"
        }
        _ if matches!(&*error.kind, Kind::ServerSelection { .. } | Kind::DnsResolve { .. }) => {
            "check that the server runs and can be reached from here, and the words of the URL (tls=true?)"
        }
        _ => return None,
    })
}

const WRONG_USER: &str =
    "check the user, the password, and ?authSource=: without it the user is looked for in the URL's database";

/// The same as the project's own error.
pub(super) fn of(location: &str, action: &str, error: &mongodb::error::Error) -> Error {
    let failed = Error::new(ErrorKind::Source(format!("{action}: {}", told(error))), location);
    match hint(error) {
        Some(hint) => failed.with_hint(hint),
        None => failed,
    }
}

/// A server that says nothing for so long is taken for gone.
pub(super) fn silent(patience: Duration) -> String {
    format!("the server has not answered for {} seconds", patience.as_secs())
}

fn code(error: &mongodb::error::Error) -> Option<i32> {
    let own = match &*error.kind {
        Kind::Command(said) => Some(said.code),
        Kind::Write(WriteFailure::WriteError(said)) => Some(said.code),
        Kind::InsertMany(said) => said.write_errors.iter().flatten().map(|error| error.code).next(),
        _ => None,
    };
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<mongodb::error::Error>());
    own.or_else(|| cause.and_then(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_whole_deployment_the_reason_is_told() {
        let message = "Kind: Server selection timeout: No available servers. Topology: { Type: Unknown, Servers: [ { \
            Address: 127.0.0.1:1, Type: Unknown, Error: Kind: I/O error: Connection refused (os error 111), labels: \
            {} } ] }";
        assert_eq!(selection(message), "no server answers: Connection refused (os error 111)");
        assert_eq!(selection("something else"), "something else");
    }
}
