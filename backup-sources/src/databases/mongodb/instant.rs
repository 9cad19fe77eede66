//! When: the deployment's clock, and the instant at which it can be read as a whole.

use backup_core::contracts::RecoveryPoint;
use backup_core::{Error, ErrorKind, Result};
use jiff::Timestamp as Time;
use mongodb::bson::{Timestamp, doc};
use serde_json::{Value, json};

use super::catalog::{Collection, Sort};
use super::connection::{Connection, Topology};
use super::cursor::{self, View};
use super::failure;
use super::source::Reads;

/// The oldest version whose replica sets can be read as of one instant.
const SNAPSHOTS_SINCE: (i32, i32) = (5, 0);

/// A moment, by the clock of the deployment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instant {
    pub(super) time: Time,
    /// The newest operation, where there is a log of them.
    operation: Option<Timestamp>,
}

impl Instant {
    /// Asks what time it is there.
    pub(super) fn now(connection: &Connection) -> Result<Self> {
        let answer = match connection.ask("admin", doc! {"hello": 1})? {
            Ok(answer) => answer,
            Err(_) => connection.command("admin", "ask for the time", doc! {"isMaster": 1})?,
        };
        let millis = answer.get_datetime("localTime").ok().map(|time| time.timestamp_millis());
        let time = millis.and_then(|millis| Time::from_millisecond(millis).ok());
        let missing = || Error::new(ErrorKind::Source("it does not say what time it is".into()), connection.location());
        Ok(Self { time: time.ok_or_else(missing)?, operation: answer.get_timestamp("operationTime").ok() })
    }

    /// The newest operation then, as the recovery point has it.
    pub(super) fn position(&self) -> Option<String> {
        self.operation.map(position)
    }

    /// For the manifest.
    pub(super) fn told(&self) -> Value {
        json!({"time": self.time, "operation": self.position()})
    }
}

/// An instant of a deployment's log of operations: seconds since 1970 and a number within the second.
fn position(time: Timestamp) -> String {
    format!("{}:{}", time.time, time.increment)
}

/// The recovery point of what was read as of `time`.
pub(super) fn point_of(time: Timestamp) -> RecoveryPoint {
    let seconds = Time::from_second(i64::from(time.time)).unwrap_or(Time::UNIX_EPOCH);
    RecoveryPoint { time: seconds, position: Some(position(time)) }
}

/// The view that `collections` are read in.
///
/// # Errors
///
/// When the deployment can be read as of one instant, was to be, and refuses.
pub(super) fn view(connection: &Connection, database: &str, collections: &[Collection], reads: Reads) -> Result<View> {
    let server = connection.server();
    let can = server.topology() != Topology::Standalone && server.release >= SNAPSHOTS_SINCE;
    // A view has no documents, and what is capped cannot be read so.
    let asked = collections.iter().find(|it| it.sort != Sort::View && !it.is_capped());
    let Some(namespace) = asked.filter(|_| can && reads == Reads::Snapshot).and_then(Collection::namespace) else {
        return Ok(View::Latest);
    };
    let (client, database) = (connection.client()?, database.to_owned());
    let time = connection.run(async move { cursor::snapshot_time(&client, &database, &namespace).await })?;
    let failed =
        |error: mongodb::error::Error| failure::of(connection.location(), "take a view of one instant", &error);
    let missing = || Error::new(ErrorKind::Source("it names no instant for its view".into()), connection.location());
    Ok(View::At(time.map_err(failed)?.ok_or_else(missing)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_of_the_log_is_a_time_and_a_position() {
        let point = point_of(Timestamp { time: 1_700_000_000, increment: 3 });
        assert_eq!(point.time.to_string(), "2023-11-14T22:13:20Z");
        assert_eq!(point.position.as_deref(), Some("1700000000:3"));
    }
}
