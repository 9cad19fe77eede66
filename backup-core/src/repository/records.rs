//! What was done and proven, as small immutable objects of ours under `ext/records/`, sealed like everything else.
//!
//! `status` and retention read these and not somebody's memory. A store that takes no other folder than restic's (a
//! REST server) refuses them: the caller is told and goes on, because a record is evidence, not data.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Repository;
use crate::contracts::{Proof, SinkErrorKind};
use crate::model::{RecordId, SnapshotId};
use crate::{Error, ErrorKind, Result};

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When it was written.
    pub time: Timestamp,
    /// The machine that wrote it.
    pub hostname: String,
    /// What it says.
    #[serde(flatten)]
    pub body: RecordBody,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[non_exhaustive]
pub enum RecordBody {
    /// Snapshots reached a step of proof.
    Proof {
        /// The snapshots.
        snapshots: Vec<SnapshotId>,
        /// The step.
        proof: Proof,
    },
    /// Something that snapshots need was found missing or damaged.
    Broken {
        /// The snapshots.
        snapshots: Vec<SnapshotId>,
        /// The step of proof that was tried: only a later proof of at least this step outweighs what was found. A
        /// blob whose bytes have rotted is still listed with its right size.
        tried: Proof,
    },
    /// The store was asked of every object that snapshots need, and said that nobody can remove it.
    Locked {
        /// The snapshots.
        snapshots: Vec<SnapshotId>,
        /// Until when, the earliest of all objects.
        until: Timestamp,
        /// Whether nobody at all can, or but those who may pass over it.
        mode: ObjectLock,
    },
    /// A run ended.
    Run {
        /// The verb: "create", "check", "prune".
        verb: String,
        /// How it ended.
        outcome: String,
        /// The snapshot that it made, if it made one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        snapshot: Option<SnapshotId>,
        /// Figures, by their names.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        figures: Map<String, Value>,
    },
    /// Something that a newer version wrote.
    #[serde(other)]
    Unknown,
}

/// Whom an object lock keeps from removing objects before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectLock {
    /// Everybody.
    Compliance,
    /// Everybody but those whom the store allows to pass over it.
    Governance,
}

impl Repository {
    /// Writes a record.
    ///
    /// # Errors
    ///
    /// [`SinkErrorKind::Unsupported`] where the store keeps none: what a record would have said is then known only to who
    /// runs the verb.
    pub fn save_record(&self, body: RecordBody) -> Result<RecordId> {
        let record = Record { time: self.clock().now(), hostname: self.identity().hostname.clone(), body };
        self.save(&record).map_err(|error| match error.kind() {
            ErrorKind::Sink(SinkErrorKind::Unsupported) => {
                Error::new(error.kind().clone(), format!("records in {}", self.store().location()))
            }
            _ => error,
        })
    }

    /// All records that can be read, oldest first. One that is damaged proves nothing and is passed over.
    pub fn records(&self) -> Result<Vec<(RecordId, Record)>> {
        self.readable_records(|_, _| {})
    }

    /// The same; each that cannot be read is handed to `unreadable`.
    pub(crate) fn readable_records(
        &self,
        mut unreadable: impl FnMut(RecordId, Error),
    ) -> Result<Vec<(RecordId, Record)>> {
        let mut records = Vec::new();
        for (id, record) in self.open_each(&self.list::<RecordId>()?) {
            match record {
                Ok(record) => records.push((id, record)),
                Err(error) => unreadable(id, error),
            }
        }
        records.sort_by_key(|(id, record): &(RecordId, Record)| (record.time, *id));
        Ok(records)
    }
}
