//! zstd, with contexts that are used again, and a quick look whether compressing can pay at all.

use std::fmt;
use std::io::Cursor;
use std::sync::{Mutex, PoisonError};

use zstd::bulk;

use crate::contracts::CodecError;
use crate::limits::BLOB_BYTES_MAX;

/// How blobs are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: what a repository of version 1 needs.
    Never,
    /// At this zstd level, and stored plain when that is not longer: for data.
    WhenItPays(i32),
    /// At this zstd level whatever comes out: for trees, which restic's prune rewrites when they are plain.
    Always(i32),
}

impl Compression {
    /// zstd's level 3: what restic's default setting amounts to (`docs/decisions/compression.md`).
    pub const DEFAULT_LEVEL: i32 = 3;
    /// What dumps of databases are compressed with: in half the time, to about the same size.
    pub const DUMP_LEVEL: i32 = 1;
}

/// Blobs shorter than this are compressed without looking first: the look would cost as much.
const PROBE_FROM_BYTES: usize = 128 * 1024;
/// How much is looked at in each place.
const PROBE_BYTES: usize = 4 * 1024;
/// zstd expands a 4-byte block to at most 128 KiB; a text that claims more lies.
const EXPANSION_MAX: usize = 40_000;

/// Compresses and decompresses; contexts wait here for their next use.
pub(super) struct Compressor {
    compression: Compression,
    compressors: Mutex<Vec<bulk::Compressor<'static>>>,
    decompressors: Mutex<Vec<(Decompressor, Vec<u8>)>>,
}

impl Compressor {
    pub(super) fn new(compression: Compression) -> Self {
        Self { compression, compressors: Mutex::default(), decompressors: Mutex::default() }
    }

    /// Appends the compressed form of `plain` to `out` and says `true`, or leaves `out` as it is and says `false`.
    pub(super) fn compress(&self, plain: &[u8], out: &mut Vec<u8>) -> Result<bool, CodecError> {
        let (level, must) = match self.compression {
            Compression::Never => return Ok(false),
            // A plain length of 0 means "not compressed" in a pack's header.
            _ if plain.is_empty() => return Ok(false),
            Compression::WhenItPays(level) => (level, false),
            Compression::Always(level) => (level, true),
        };
        let waiting = self.compressors.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut context = match waiting {
            Some(context) => context,
            None => bulk::Compressor::new(level).map_err(|_| CodecError::Compress)?,
        };
        let pays = must || looks_compressible(&mut context, plain)?;
        let result = if pays { append(&mut context, plain, out, must) } else { Ok(false) };
        self.compressors.lock().unwrap_or_else(PoisonError::into_inner).push(context);
        result
    }

    /// Lends a decompressor and a buffer to `work`.
    pub(super) fn with_scratch<T>(&self, work: impl FnOnce(&mut Decompressor, &mut Vec<u8>) -> T) -> T {
        let waiting = self.decompressors.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (mut decompressor, mut scratch) = waiting.unwrap_or_default();
        let result = work(&mut decompressor, &mut scratch);
        self.decompressors.lock().unwrap_or_else(PoisonError::into_inner).push((decompressor, scratch));
        result
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compressor({:?})", self.compression)
    }
}

fn append(
    context: &mut bulk::Compressor<'static>,
    plain: &[u8],
    out: &mut Vec<u8>,
    must: bool,
) -> Result<bool, CodecError> {
    let start = out.len();
    out.reserve(zstd::zstd_safe::compress_bound(plain.len()));
    let mut rest = Cursor::new(&mut *out);
    rest.set_position(start as u64);
    let compressed = context.compress_to_buffer(plain, &mut rest);
    match compressed {
        Ok(bytes) if must || bytes < plain.len() => {
            out.truncate(start + bytes);
            Ok(true)
        }
        Ok(_) => {
            out.truncate(start);
            Ok(false)
        }
        Err(_) => {
            out.truncate(start);
            Err(CodecError::Compress)
        }
    }
}

/// Whether a few pieces of `plain` shrink: photographs, films and archives do not, anywhere.
fn looks_compressible(context: &mut bulk::Compressor<'static>, plain: &[u8]) -> Result<bool, CodecError> {
    if plain.len() < PROBE_FROM_BYTES {
        return Ok(true);
    }
    let mut out = [0; PROBE_BYTES + 256];
    let last = plain.len() - PROBE_BYTES;
    for at in [0, last / 3, last / 3 * 2, last] {
        let bytes =
            context.compress_to_buffer(&plain[at..at + PROBE_BYTES], &mut out[..]).map_err(|_| CodecError::Compress)?;
        if bytes < PROBE_BYTES - PROBE_BYTES / 32 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A zstd context for decompression, made when it is first needed.
#[derive(Default)]
pub(super) struct Decompressor(Option<bulk::Decompressor<'static>>);

impl Decompressor {
    /// Replaces `out` by what `compressed` was made of, which must be `plain_bytes` long.
    pub(super) fn decompress(
        &mut self,
        compressed: &[u8],
        plain_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        if plain_bytes > BLOB_BYTES_MAX {
            return Err(CodecError::TooLarge);
        }
        if plain_bytes > compressed.len().saturating_mul(EXPANSION_MAX) {
            return Err(CodecError::Length);
        }
        let context = match &mut self.0 {
            Some(context) => context,
            None => self.0.insert(bulk::Decompressor::new().map_err(|_| CodecError::Decompress)?),
        };
        out.clear();
        // One byte more than promised, so that a longer text shows itself.
        out.reserve(plain_bytes + 1);
        let bytes = context.decompress_to_buffer(compressed, out).map_err(|_| CodecError::Decompress)?;
        if bytes == plain_bytes { Ok(()) } else { Err(CodecError::Length) }
    }
}
