//! How a blob becomes what is stored, and back.

use std::fmt::Debug;

/// Seals and opens blobs. What it seals, every reader of the format must be able to open: an implementation chooses how
/// hard to compress and whether to, never another cipher.
pub trait Codec: Send + Sync + Debug {
    /// Appends the sealed form of `plain` to `out`.
    fn seal(&self, plain: &[u8], out: &mut Vec<u8>) -> Result<Sealed, CodecError>;

    /// Opens what `seal` or another program sealed; `out` is replaced by the plain text. `plain_bytes` is the length
    /// before compression, `None` when it was not compressed. Fails unless the seal holds and the length is the one
    /// promised; `out` is then of no meaning.
    fn open(&self, sealed: &[u8], plain_bytes: Option<u32>, out: &mut Vec<u8>) -> Result<(), CodecError>;
}

/// What became of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The bytes appended.
    pub bytes: usize,
    /// Whether they are compressed; the plain length must then be kept beside them.
    pub is_compressed: bool,
}

/// Why a blob could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Too short to be sealed at all.
    #[error("too short to be a sealed blob")]
    TooShort,
    /// The authentication tag does not fit: the bytes are not what was written, or the key is another.
    #[error("the seal is broken")]
    SealBroken,
    /// Decompression failed.
    #[error("the compressed data is damaged")]
    Decompress,
    /// It decompressed to another length than promised.
    #[error("the length is not the one promised")]
    Length,
    /// Compression failed, which only happens for want of memory.
    #[error("compression failed")]
    Compress,
    /// What was sealed does not open to what it was made of: memory or processor are faulty.
    #[error("what was sealed does not open again: check this machine's memory")]
    NotReproduced,
    /// Larger than [`crate::limits::BLOB_BYTES_MAX`].
    #[error("larger than any blob may be")]
    TooLarge,
    /// The system gave no random numbers.
    #[error("no random numbers from the system")]
    Random,
}
