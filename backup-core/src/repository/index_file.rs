//! Index objects: which pack holds which blobs (restic's design document, *Index*; rustic's `packs_to_delete`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::{BlobId, BlobKind, PackId};
use crate::pack::PackedBlob;

/// One index object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IndexFile {
    /// The packs in use. All blobs of a pack stand in one entry.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub packs: Vec<IndexPack>,
    /// Packs that nothing needed when they were marked: readable still, not to be relied on by new snapshots.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub packs_to_delete: Vec<IndexPack>,
    /// Fields of other programs.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One pack in an index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexPack {
    /// The pack.
    pub id: PackId,
    /// What it holds.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub blobs: Vec<IndexBlob>,
    /// When it was marked, or with rustic when it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// The size of the object where the blobs do not tell it: in marks of packs that no index knew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Fields of other programs.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One blob in an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexBlob {
    /// Its name.
    pub id: BlobId,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: BlobKind,
    /// Where its sealed form begins in the pack.
    pub offset: u32,
    /// How long its sealed form is.
    pub length: u32,
    /// Its length before compression; absent when it is not compressed, never 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncompressed_length: Option<u32>,
}

impl IndexPack {
    /// The entry of a pack that holds `blobs`.
    pub fn new(id: PackId, blobs: &[PackedBlob]) -> Self {
        let blobs = blobs.iter().map(|blob| IndexBlob {
            id: blob.id,
            kind: blob.kind,
            offset: blob.offset,
            length: blob.length,
            uncompressed_length: blob.plain_bytes,
        });
        Self { id, blobs: blobs.collect(), time: None, size: None, other: Map::new() }
    }

    /// The blobs as a pack's header lists them.
    pub fn packed_blobs(&self) -> impl Iterator<Item = PackedBlob> {
        self.blobs.iter().map(|blob| PackedBlob {
            id: blob.id,
            kind: blob.kind,
            offset: blob.offset,
            length: blob.length,
            plain_bytes: blob.uncompressed_length.filter(|length| *length != 0),
        })
    }

    /// The size that the object must have.
    pub fn bytes(&self) -> u64 {
        match self.size {
            Some(bytes) if self.blobs.is_empty() => bytes,
            _ => crate::pack::pack_bytes(&self.packed_blobs().collect::<Vec<_>>()),
        }
    }
}

fn null_is_empty<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_index_is_spelled_as_restic_spells_it() {
        let blob = PackedBlob { id: BlobId::of(b"x"), kind: BlobKind::Tree, offset: 0, length: 38, plain_bytes: None };
        let text = serde_json::to_string(&IndexFile {
            packs: vec![IndexPack::new(PackId::of(b"p"), &[blob, PackedBlob { plain_bytes: Some(511), ..blob }])],
            ..IndexFile::default()
        })
        .unwrap();
        let expected = format!(
            concat!(
                r#"{{"packs":[{{"id":"{p}","blobs":[{{"id":"{x}","type":"tree","offset":0,"length":38}},"#,
                r#"{{"id":"{x}","type":"tree","offset":0,"length":38,"uncompressed_length":511}}]}}]}}"#
            ),
            p = PackId::of(b"p"),
            x = BlobId::of(b"x"),
        );
        assert_eq!(text, expected);
    }

    fn packs() -> impl Strategy<Value = Vec<IndexPack>> {
        let blob = (any::<[u8; 32]>(), any::<bool>(), any::<u32>(), any::<u32>(), proptest::option::of(1..u32::MAX));
        let blobs = vec(blob, 0..6).prop_map(|blobs| {
            let blobs = blobs.into_iter().map(|(id, is_tree, offset, length, plain_bytes)| PackedBlob {
                id: BlobId::from_bytes(id),
                kind: if is_tree { BlobKind::Tree } else { BlobKind::Data },
                offset,
                length,
                plain_bytes,
            });
            blobs.collect::<Vec<_>>()
        });
        let mark = (proptest::option::of(0..4_000_000_000_i64), proptest::option::of(any::<u64>()));
        let pack = (any::<[u8; 32]>(), blobs, mark).prop_map(|(id, blobs, (time, size))| IndexPack {
            time: time.map(|second| Timestamp::from_second(second).unwrap()),
            size,
            ..IndexPack::new(PackId::from_bytes(id), &blobs)
        });
        vec(pack, 0..5)
    }

    proptest! {
        #[test]
        fn what_was_written_reads_as_it_was(packs in packs(), packs_to_delete in packs(), foreign in "[a-z]{1,8}") {
            let other = Map::from_iter([(format!("x-{foreign}"), Value::from(foreign))]);
            let index = IndexFile { packs, packs_to_delete, other };
            let text = serde_json::to_vec(&index).unwrap();
            prop_assert_eq!(serde_json::from_slice::<IndexFile>(&text).unwrap(), index);
        }
    }
}
