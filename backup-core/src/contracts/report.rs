//! A source's last word: to which instant its data belongs, how far it can be trusted, and what a restore of it must
//! show. Databases store it beside their data as `manifest.json`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A source's last word before the snapshot is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// To which state a restore returns, when the source knows it better than "when the backup began".
    pub recovery_point: Option<RecoveryPoint>,
    /// How the parts of the data fit together.
    pub consistency: Consistency,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// What took part, with versions: the server, the client programs.
    pub tools: Vec<Tool>,
    /// What a restore must show, as it was in the very state that was backed up. Empty when nothing was counted.
    pub expectations: Vec<Expectation>,
    /// How many rows, documents or keys those are that somebody put there, where that is not the sum of all counts: an
    /// engine may count pages too, or the same keys twice, or rows of tables that it fills by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            recovery_point: None,
            consistency: Consistency::Fuzzy,
            warnings: Vec::new(),
            tools: Vec::new(),
            expectations: Vec::new(),
            held: None,
        }
    }
}

impl Report {
    /// How many rows, documents or keys there are, all together; `None` for a source that counts none, as that of files.
    pub fn rows(&self) -> Option<u64> {
        if self.held.is_some() {
            return self.held;
        }
        let is_counted = !self.tools.is_empty() || !self.expectations.is_empty();
        let counts = self.expectations.iter().filter_map(|expected| expected.count);
        is_counted.then(|| counts.fold(0, u64::saturating_add))
    }
}

/// The state that a restore returns to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryPoint {
    /// The instant. Nothing that was committed after it is in the backup.
    pub time: Timestamp,
    /// The same in the engine's own words (an LSN, a GTID set, a binlog file and offset), when it has any.
    pub position: Option<String>,
}

impl From<Timestamp> for RecoveryPoint {
    fn from(time: Timestamp) -> Self {
        Self { time, position: None }
    }
}

/// How the parts of the backed-up data fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Consistency {
    /// One instant, and between transactions.
    Transactional,
    /// One instant, as after a power failure.
    Crash,
    /// Each part at its own instant between the beginning and the end of the backup.
    Fuzzy,
    /// Nothing is known.
    None,
}

/// A program that took part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name: `postgresql`, `pg_dump`.
    pub name: String,
    /// Its version, as it says it.
    pub version: String,
}

/// What a restore must show of one object. A drill computes the same from what it restored, and compares.
///
/// It holds no value of the data, only counts and hashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// What sort of object: `table`, `collection`, `sequence`, `index`, …; the words are the source's.
    pub kind: String,
    /// Its name as the engine writes it, with its schema or database: `public.users`.
    pub object: String,
    /// Rows, documents, keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// A hash of its content, or of its definition where it has no content, with the name of its method before a
    /// colon. Methods do not depend on the order of rows unless their name says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}
