//! A snapshot: when, of what, and the tree that holds it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::id::{BlobId, SnapshotId};
use super::time::format_timestamp;

/// A snapshot object as restic and rustic write it. Fields that this program does not know are kept in
/// [`Snapshot::other`], so that rewriting a snapshot (a new tag) loses nothing that another program put there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When the backup was begun.
    #[serde(serialize_with = "in_utc")]
    pub time: Timestamp,
    /// The snapshot that it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SnapshotId>,
    /// The tree of the root.
    pub tree: BlobId,
    /// The absolute paths that were backed up.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub paths: Vec<String>,
    /// The machine's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Who ran the backup.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The number of who ran the backup.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// The number of the group of who ran the backup.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// The patterns that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub excludes: Vec<String>,
    /// Words by which people and rules find it. A job's identity is the tag `job:NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub tags: Vec<String>,
    /// The first version of a snapshot that was rewritten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<SnapshotId>,
    /// The program that wrote it, with its version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program_version: String,
    /// What the backup did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Fields of other programs.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a backup did, in restic's words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// When it began.
    #[serde(serialize_with = "in_utc")]
    pub backup_start: Timestamp,
    /// When it ended, except for writing the snapshot itself.
    #[serde(serialize_with = "in_utc")]
    pub backup_end: Timestamp,
    /// Files that the parent did not have.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files that are as in the parent.
    pub files_unmodified: u64,
    /// Folders that the parent did not have.
    pub dirs_new: u64,
    /// Folders that differ from the parent's.
    pub dirs_changed: u64,
    /// Folders that are as in the parent.
    pub dirs_unmodified: u64,
    /// Data blobs that were new to the repository.
    pub data_blobs: u64,
    /// Tree blobs that were new to the repository.
    pub tree_blobs: u64,
    /// Bytes of the blobs that were new to the repository, before compression.
    pub data_added: u64,
    /// Bytes that they take in packs.
    pub data_added_packed: u64,
    /// Files in the snapshot.
    pub total_files_processed: u64,
    /// Bytes of the files in the snapshot: what a full restore writes.
    pub total_bytes_processed: u64,
    /// Fields of other programs.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn in_utc<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_timestamp(*time))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_snapshot_of_another_program_keeps_its_own_fields() {
        let text = concat!(
            r#"{"time":"2024-01-02T03:04:05+02:00","tree":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","#,
            r#""paths":["/a"],"label":"x","delete":"Never","#,
            r#""summary":{"files_new":3,"command":"rustic","backup_start":"2024-01-02T03:04:05Z","backup_end":"2024-01-02T03:04:05Z"}}"#
        );
        let snapshot: Snapshot = serde_json::from_str(text).unwrap();
        assert_eq!(snapshot.other["label"], "x");
        let again: Value = serde_json::from_str(&serde_json::to_string(&snapshot).unwrap()).unwrap();
        assert_eq!(again["delete"], "Never");
        assert_eq!(again["summary"]["command"], "rustic");
        assert_eq!(again["time"], "2024-01-02T01:04:05Z");
        assert!(again.get("parent").is_none());
    }

    #[test]
    fn numbers_of_other_programs_are_kept_to_the_last_digit() {
        let tree = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let text =
            format!(r#"{{"time":"2024-01-02T03:04:05Z","tree":"{tree}","x":1288888888888888888888888888888896}}"#);
        let snapshot: Snapshot = serde_json::from_str(&text).unwrap();
        let again: Snapshot = serde_json::from_str(&serde_json::to_string(&snapshot).unwrap()).unwrap();
        assert_eq!(again, snapshot);
        assert_eq!(again.other["x"].as_f64(), Some(1_288_888_888_888_888_888_888_888_888_888_896.0));
    }

    #[test]
    fn a_snapshot_without_a_tree_is_refused() {
        assert!(serde_json::from_str::<Snapshot>(r#"{"time":"2024-01-02T03:04:05Z","paths":[]}"#).is_err());
    }

    prop_compose! {
        fn snapshots()(
            seconds in 0..4_000_000_000_i64,
            nanoseconds in 0..1_000_000_000_i32,
            ids in any::<[[u8; 32]; 3]>(),
            has in any::<[bool; 3]>(),
            texts in any::<[String; 3]>(),
            lists in any::<[Vec<String>; 3]>(),
            numbers in any::<[u32; 2]>(),
            counts in any::<[u64; 4]>(),
        ) -> Snapshot {
            let time = Timestamp::new(seconds, nanoseconds).unwrap();
            let [tree, parent, original] = ids;
            let [hostname, username, program_version] = texts;
            let [paths, excludes, tags] = lists;
            Snapshot {
                time,
                parent: has[0].then(|| SnapshotId::from_bytes(parent)),
                tree: BlobId::from_bytes(tree),
                paths,
                hostname,
                username,
                uid: numbers[0],
                gid: numbers[1],
                excludes,
                tags,
                original: has[1].then(|| SnapshotId::from_bytes(original)),
                program_version,
                summary: has[2].then(|| Summary {
                    backup_start: time,
                    backup_end: time,
                    files_new: counts[0],
                    data_blobs: counts[1],
                    data_added: counts[2],
                    total_bytes_processed: counts[3],
                    ..Summary::default()
                }),
                other: Map::from_iter([("x-of-another".to_owned(), Value::from(counts[0]))]),
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_written_reads_as_it_was(snapshot in snapshots()) {
            let text = serde_json::to_vec(&snapshot).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Snapshot>(&text).unwrap(), snapshot);
        }
    }
}
