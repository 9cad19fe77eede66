//! `manifest.json`: what lies beside every dump of a database and says what it is, to which instant it belongs, and what
//! a restore of it must show.
//!
//! It is written when everything else was read, from what passed. It holds counts, hashes and names of objects, never a
//! value of the data and never a password. Whoever reads one reads what somebody else may have written.

use std::io::Read;

use backup_core::contracts::Report;
use backup_core::limits::MANIFEST_BYTES_MAX;
use backup_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::url::Engine;

/// The name of the file.
pub const MANIFEST: &str = "manifest.json";

/// The only format there has been.
const FORMAT: u32 = 1;

/// What `manifest.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this format.
    pub format: u32,
    /// The engine's name: `postgres`.
    pub engine: String,
    /// The name of the database, as the engine has it.
    pub database: String,
    /// What the source reported.
    #[serde(flatten)]
    pub report: Report,
    /// What the engine needs to know of its own dump; see its page.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
}

impl Manifest {
    /// The manifest of a dump.
    pub fn new(engine: Engine, database: &str, report: Report) -> Self {
        let (engine, database) = (engine.name().to_owned(), database.to_owned());
        Self { format: FORMAT, engine, database, report, details: Map::new() }
    }

    /// As the file has it.
    ///
    /// # Errors
    ///
    /// When it is larger than what is read again.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let subject = || format!("{MANIFEST} of {}", self.database);
        let mut bytes =
            serde_json::to_vec_pretty(self).map_err(|error| Error::invalid(subject(), error.to_string()))?;
        bytes.push(b'\n');
        if bytes.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(Error::new(backup_core::ErrorKind::Limit("the size of a manifest"), subject()));
        }
        Ok(bytes)
    }

    /// Reads a manifest to its end.
    ///
    /// # Errors
    ///
    /// When it is none, too large, or of a version that this program does not know; the store's own when it did not come
    /// out of it ([`Error::of_read`]).
    pub fn read(reader: impl Read) -> Result<Self> {
        /// What is looked at before anything else: another version may have other fields.
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let mut bytes = Vec::new();
        let read = reader.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::of_read(MANIFEST, error))?;
        if bytes.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(Error::new(backup_core::ErrorKind::Limit("the size of a manifest"), MANIFEST));
        }
        let none = |error: serde_json::Error| Error::damaged(MANIFEST, "it is not a manifest").caused_by(error);
        let version: Version = serde_json::from_slice(&bytes).map_err(none)?;
        if version.format != FORMAT {
            return Err(Error::new(backup_core::ErrorKind::UnknownVersion(version.format.into()), MANIFEST));
        }
        serde_json::from_slice(&bytes).map_err(none)
    }
}

#[cfg(test)]
mod tests {
    use backup_core::ErrorKind;
    use backup_core::contracts::{Consistency, Expectation, RecoveryPoint};
    use jiff::Timestamp;

    use super::*;

    fn manifest() -> Manifest {
        let report = Report {
            recovery_point: Some(RecoveryPoint { time: Timestamp::UNIX_EPOCH, position: Some("0/16B3748".into()) }),
            consistency: Consistency::Transactional,
            expectations: vec![Expectation {
                kind: "table".into(),
                object: "public.users".into(),
                count: Some(3),
                hash: None,
            }],
            ..Report::default()
        };
        Manifest::new(Engine::Postgres, "app", report)
    }

    #[test]
    fn a_manifest_reads_back_as_it_was_written() {
        let bytes = manifest().to_bytes().unwrap();
        assert_eq!(Manifest::read(&bytes[..]).unwrap(), manifest());
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((&value["format"], &value["engine"]), (&Value::from(1), &Value::from("postgres")));
        assert_eq!(value["consistency"], "transactional");
        assert_eq!(value["expectations"][0]["count"], 3);
    }

    #[test]
    fn another_version_is_named_and_not_guessed_at() {
        let error = Manifest::read(&br#"{"format": 7, "whatever": []}"#[..]).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::UnknownVersion(7));
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        for bytes in [&b""[..], b"{}", b"[1]", br#"{"format":1}"#, &manifest().to_bytes().unwrap()[..100]] {
            assert!(matches!(Manifest::read(bytes).unwrap_err().kind(), ErrorKind::Damaged(_)));
        }
        let endless = std::io::repeat(b' ');
        assert!(matches!(Manifest::read(endless).unwrap_err().kind(), ErrorKind::Limit(_)));
    }
}
