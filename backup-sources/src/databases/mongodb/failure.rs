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
const INVALID_NAMESPACE: i32 = 73;
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
    let after = |words: &str| message.split_once(words).map(|(_, rest)| rest);
    if let Some(reason) = after("Error: Kind: ").map(|rest| rest.split(", labels:").next().unwrap_or(rest)) {
        return match reason.contains("invalid reply") {
            true => "what answers there does not speak MongoDB's protocol".to_owned(),
            false => format!("no server answers: {}", reason.trim_start_matches("I/O error: ")),
        };
    }
    // Whoever answers and is no member of the set is dropped from the description.
    let set = after("Set Name: ").map(|rest| rest.split([',', ' ']).next().unwrap_or(rest));
    match set {
        Some(set) if message.contains("NoPrimary") => format!("{IN_SET} {set} that can be asked is found"),
        _ if message.contains("No available servers") => SILENT.to_owned(),
        _ => message.to_owned(),
    }
}

/// Somebody takes the connection and says nothing: as a server in clear text does that is spoken to by TLS.
const SILENT: &str = "no server answers in time";

const IN_SET: &str = "no member of the replica set";

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
        _ if is_authentication && told(error).contains("no password") => {
            "give the password in the URL, or in BACKUP_MONGODB_PASSWORD; leave the user away where none is asked for"
        }
        _ if is_authentication && told(error).contains("mechanism") => {
            "the server knows another way to log in: name it with authMechanism= in the URL, or leave the user away where \
             none is asked for"
        }
        _ if is_authentication => WRONG_USER,
        Some(INVALID_NAMESPACE) => "the server knows no such name: choose one without spaces, dots, / \\ \" and $",
        Some(UNAUTHORIZED) => "a backup takes the role `backup` in admin, or `read` on the database; see the manual",
        Some(SNAPSHOT_TOO_OLD | SNAPSHOT_UNAVAILABLE) => {
            "the server keeps too little history (minSnapshotHistoryWindowInSeconds); raise it, or --no-snapshot-read"
        }
        Some(CURSOR_NOT_FOUND | QUERY_PLAN_KILLED) => {
            "the collection was dropped or altered meanwhile, or the server was restarted; run it again"
        }
        _ if matches!(&*error.kind, Kind::ServerSelection { .. } | Kind::DnsResolve { .. }) => {
            if told(error).starts_with(IN_SET) {
                return Some(
                    "check replicaSet in the URL, and that the members can be reached from here by the names that the set \
                     gives them; directConnection=true without it asks this one server",
                );
            }
            "check that the server runs and can be reached from here, and tls=true in the URL: it has to be there where the \
             server speaks TLS, and only there"
        }
        _ if matches!(&*error.kind, Kind::Io(_)) => "see whether the server still runs, and run it again",
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
        let silent = "Server selection timeout: No available servers. Topology: { Type: Unknown, Servers: [ { Address: \
            127.0.0.1:27999, Type: Unknown } ] }";
        assert_eq!(selection(silent), "no server answers in time");
        let of_no_set = "Server selection timeout: No available servers. Topology: { Type: ReplicaSetNoPrimary, Set \
            Name: rs0 }";
        let told = selection(of_no_set);
        assert_eq!(told, "no member of the replica set rs0 that can be asked is found");
        let other = silent.replace(
            " } ] }",
            ", Error: Kind: The server returned an invalid reply to a database \
            operation: Invalid wire protocol opcode: 171854925, labels: {} } ] }",
        );
        assert_eq!(selection(&other), "what answers there does not speak MongoDB's protocol");
    }

    #[test]
    fn a_connection_that_ends_says_what_to_do_next() {
        let cut = mongodb::error::Error::from(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        assert_eq!(told(&cut), "the connection failed: unexpected end of file");
        assert!(hint(&cut).unwrap().contains("run it again"));
    }
}
