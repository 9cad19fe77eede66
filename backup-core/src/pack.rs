//! Many sealed blobs as one object, with a sealed header at the end that lists them.
//!
//! `blob₁ … blobₙ ‖ sealed header ‖ u32le(length of the sealed header)`: restic's design document, *Pack Format*. The
//! object's name is its SHA-256, computed when the pack is finished: whoever appends holds the pack for no longer than a
//! copy takes. Blobs lie without gaps in the order of the header, and data and trees never share a pack.

use bytes::{Bytes, BytesMut};

use crate::codec::MasterKey;
use crate::contracts::CodecError;
use crate::limits::{PACK_BLOBS_MAX, PACK_HEADER_BYTES_MAX, SEAL_OVERHEAD_BYTES};
use crate::model::{BlobId, BlobKind, FormatError, PackId};

const LENGTH_FIELD_BYTES: usize = 4;
const PLAIN_ENTRY_BYTES: usize = 37;
const COMPRESSED_ENTRY_BYTES: usize = 41;

/// A blob's place in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedBlob {
    /// Its name.
    pub id: BlobId,
    /// What it holds.
    pub kind: BlobKind,
    /// Where its sealed form begins.
    pub offset: u32,
    /// How long its sealed form is.
    pub length: u32,
    /// Its length before compression; `None` when it is not compressed.
    pub plain_bytes: Option<u32>,
}

impl PackedBlob {
    /// How long the blob is when opened.
    pub fn opened_bytes(&self) -> u64 {
        self.plain_bytes.map_or_else(|| u64::from(self.length).saturating_sub(SEAL_OVERHEAD_BYTES as u64), u64::from)
    }

    fn header_bytes(&self) -> usize {
        if self.plain_bytes.is_some() { COMPRESSED_ENTRY_BYTES } else { PLAIN_ENTRY_BYTES }
    }
}

/// The size of a pack that holds exactly these blobs.
pub fn pack_bytes<'a>(blobs: impl IntoIterator<Item = &'a PackedBlob>) -> u64 {
    let overhead = SEAL_OVERHEAD_BYTES + LENGTH_FIELD_BYTES;
    blobs.into_iter().fold(overhead as u64, |sum, blob| sum + u64::from(blob.length) + blob.header_bytes() as u64)
}

/// A pack that is being filled, in memory.
#[derive(Debug)]
pub struct PackWriter {
    kind: BlobKind,
    bytes: BytesMut,
    blobs: Vec<PackedBlob>,
}

/// A finished pack.
#[derive(Debug)]
pub struct Pack {
    /// Its name.
    pub id: PackId,
    /// The whole object.
    pub bytes: Bytes,
    /// What it holds.
    pub blobs: Vec<PackedBlob>,
}

impl PackWriter {
    /// An empty pack for blobs of one kind.
    pub fn new(kind: BlobKind) -> Self {
        Self::with_buffer(kind, BytesMut::new())
    }

    /// The same, filling a buffer that was used before.
    pub fn with_buffer(kind: BlobKind, mut bytes: BytesMut) -> Self {
        bytes.clear();
        Self { kind, bytes, blobs: Vec::new() }
    }

    /// Appends a sealed blob. `plain_bytes` is its length before compression, `None` when it is not compressed.
    pub fn append(&mut self, id: BlobId, sealed: &[u8], plain_bytes: Option<u32>) -> Result<(), FormatError> {
        let too_large = |_| FormatError("pack over 4 GiB".to_owned());
        let offset = u32::try_from(self.bytes.len()).map_err(too_large)?;
        let length = u32::try_from(sealed.len()).map_err(too_large)?;
        offset.checked_add(length).ok_or_else(|| FormatError("pack over 4 GiB".to_owned()))?;
        self.bytes.extend_from_slice(sealed);
        self.blobs.push(PackedBlob { id, kind: self.kind, offset, length, plain_bytes });
        Ok(())
    }

    /// What its blobs are.
    pub fn kind(&self) -> BlobKind {
        self.kind
    }

    /// The bytes in it so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// Whether it should be finished.
    pub fn is_full(&self, target_bytes: usize) -> bool {
        self.bytes.len() >= target_bytes || self.blobs.len() >= PACK_BLOBS_MAX
    }

    /// Seals the header and names the pack.
    pub fn finish(mut self, key: &MasterKey) -> Result<Pack, CodecError> {
        let header_bytes = self.blobs.iter().map(PackedBlob::header_bytes).sum();
        let mut header = Vec::with_capacity(header_bytes);
        for blob in &self.blobs {
            header.push(type_byte(blob));
            header.extend_from_slice(&blob.length.to_le_bytes());
            if let Some(plain_bytes) = blob.plain_bytes {
                header.extend_from_slice(&plain_bytes.to_le_bytes());
            }
            header.extend_from_slice(blob.id.as_bytes());
        }
        let sealed = key.seal(&header)?;
        let length = u32::try_from(sealed.len()).map_err(|_| CodecError::TooLarge)?;
        self.bytes.extend_from_slice(&sealed);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        Ok(Pack { id: PackId::of(&self.bytes), bytes: self.bytes.freeze(), blobs: self.blobs })
    }
}

fn type_byte(blob: &PackedBlob) -> u8 {
    match (blob.kind, blob.plain_bytes) {
        (BlobKind::Data, None) => 0,
        (BlobKind::Tree, None) => 1,
        (BlobKind::Data, Some(_)) => 2,
        (BlobKind::Tree, Some(_)) => 3,
    }
}

/// How many bytes at the end of a pack its last four bytes say the header takes, those four included.
///
/// `pack_bytes` is the size of the whole object; a header that cannot be in it is an error.
pub fn header_span(last_four: [u8; 4], pack_bytes: u64) -> Result<u64, FormatError> {
    let sealed = u32::from_le_bytes(last_four) as usize;
    let span = (sealed + LENGTH_FIELD_BYTES) as u64;
    if !(SEAL_OVERHEAD_BYTES..=PACK_HEADER_BYTES_MAX).contains(&sealed) || span > pack_bytes {
        return Err(FormatError("the header's length cannot be right".to_owned()));
    }
    Ok(span)
}

/// Reads a pack's header from the end of the object: `tail` is at least what [`header_span`] says, `pack_bytes` the
/// size of the whole object. Checks that the blobs fill the pack exactly.
pub fn read_header(key: &MasterKey, tail: &[u8], pack_bytes: u64) -> Result<Vec<PackedBlob>, FormatError> {
    let wrong = |what: &str| FormatError(what.to_owned());
    let last_four = tail.last_chunk::<4>().ok_or_else(|| wrong("too short to be a pack"))?;
    let span = header_span(*last_four, pack_bytes)?;
    let sealed = usize::try_from(span)
        .ok()
        .and_then(|span| tail.len().checked_sub(span))
        .map(|start| &tail[start..tail.len() - LENGTH_FIELD_BYTES])
        .ok_or_else(|| wrong("the header is cut off"))?;
    let mut header = Vec::new();
    key.open(sealed, &mut header).map_err(|error| FormatError(format!("header: {error}")))?;

    let mut blobs = Vec::with_capacity(header.len() / PLAIN_ENTRY_BYTES);
    let mut offset = 0_u32;
    let mut rest = header.as_slice();
    while let Some((&kind, entry)) = rest.split_first() {
        let (kind, is_compressed) = match kind {
            0 => (BlobKind::Data, false),
            1 => (BlobKind::Tree, false),
            2 => (BlobKind::Data, true),
            3 => (BlobKind::Tree, true),
            _ => return Err(wrong("the header names an unknown kind of blob")),
        };
        let cut = || wrong("the header ends within an entry");
        let (length, entry) = entry.split_first_chunk::<4>().ok_or_else(cut)?;
        let (plain_bytes, entry) = if is_compressed {
            let (plain_bytes, entry) = entry.split_first_chunk::<4>().ok_or_else(cut)?;
            (Some(u32::from_le_bytes(*plain_bytes)), entry)
        } else {
            (None, entry)
        };
        let (id, entry) = entry.split_first_chunk::<32>().ok_or_else(cut)?;
        let length = u32::from_le_bytes(*length);
        if (length as usize) < SEAL_OVERHEAD_BYTES {
            return Err(wrong("the header names a blob shorter than its seal"));
        }
        blobs.push(PackedBlob { id: BlobId::from_bytes(*id), kind, offset, length, plain_bytes });
        offset = offset.checked_add(length).ok_or_else(|| wrong("the header's blobs do not fit into a pack"))?;
        rest = entry;
    }
    if u64::from(offset) + span != pack_bytes {
        return Err(wrong("the header's blobs do not fill the pack"));
    }
    Ok(blobs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_pack_reads_back(
            blobs in proptest::collection::vec((any::<[u8; 32]>(), 32..200_usize, proptest::option::of(any::<u32>())), 0..20)
        ) {
            let key = MasterKey::generate().unwrap();
            let mut writer = PackWriter::new(BlobKind::Tree);
            for (id, length, plain_bytes) in &blobs {
                writer.append(BlobId::from_bytes(*id), &vec![7; *length], *plain_bytes).unwrap();
            }
            let pack = writer.finish(&key).unwrap();
            prop_assert_eq!(pack.id, PackId::of(&pack.bytes));
            prop_assert_eq!(pack_bytes(&pack.blobs), pack.bytes.len() as u64);
            prop_assert_eq!(read_header(&key, &pack.bytes, pack.bytes.len() as u64).unwrap(), pack.blobs);
        }

        #[test]
        fn a_pack_that_was_cut_does_not_read(cut in 1..500_usize) {
            let key = MasterKey::generate().unwrap();
            let mut writer = PackWriter::new(BlobKind::Data);
            writer.append(BlobId::of(b"x"), &[7; 400], None).unwrap();
            let pack = writer.finish(&key).unwrap();
            let kept = &pack.bytes[..pack.bytes.len().saturating_sub(cut)];
            prop_assert!(read_header(&key, kept, kept.len() as u64).is_err());
        }
    }
}
