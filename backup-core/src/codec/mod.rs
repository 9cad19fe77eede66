//! Blob ⇄ sealed blob: compression when it pays, then encryption, always.
//!
//! Bytes leave these rooms only sealed. What was sealed is opened again and compared before it is believed
//! ([`BlobCodec::seal_and_prove`]): bad memory must not become a bad backup.

mod compress;
mod prove;
mod seal;

use std::sync::Arc;

pub use compress::Compression;
pub use seal::MasterKey;

use compress::Compressor;
use prove::Prover;

use crate::contracts::{Codec, CodecError, Sealed};
use crate::limits::BLOB_BYTES_MAX;

/// Whether every sealed blob is opened again and compared with what it was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// Yes. Costs about a tenth of a first backup and nothing of an unchanged one.
    #[default]
    Each,
    /// No: memory and processor are trusted.
    Off,
}

/// The codec of restic's format: zstd, AES-256-CTR, Poly1305-AES.
#[derive(Debug)]
pub struct BlobCodec {
    key: Arc<MasterKey>,
    compressor: Compressor,
    prover: Prover,
    proof: Proof,
}

impl BlobCodec {
    /// A codec that seals with `key`.
    pub fn new(key: Arc<MasterKey>, compression: Compression, proof: Proof) -> Self {
        Self { key, compressor: Compressor::new(compression), prover: Prover::default(), proof }
    }

    /// Seals, and unless that is switched off opens what was sealed and compares.
    pub fn seal_and_prove(&self, plain: &[u8], out: &mut Vec<u8>) -> Result<Sealed, CodecError> {
        let start = out.len();
        let sealed = self.seal(plain, out)?;
        if self.proof == Proof::Each {
            self.prover.prove(&self.key, &out[start..], sealed.is_compressed, plain)?;
        }
        Ok(sealed)
    }
}

impl Codec for BlobCodec {
    fn seal(&self, plain: &[u8], out: &mut Vec<u8>) -> Result<Sealed, CodecError> {
        length(plain)?;
        let start = self.key.begin(out)?;
        let is_compressed = self.compressor.compress(plain, out)?;
        if !is_compressed {
            out.extend_from_slice(plain);
        }
        self.key.finish(out, start)?;
        Ok(Sealed { bytes: out.len() - start, is_compressed })
    }

    fn open(&self, sealed: &[u8], plain_bytes: Option<u32>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match plain_bytes {
            None => self.key.open(sealed, out),
            Some(plain_bytes) => self.compressor.with_scratch(|decompressor, scratch| {
                self.key.open(sealed, scratch)?;
                decompressor.decompress(scratch, plain_bytes as usize, out)
            }),
        }
    }
}

fn length(plain: &[u8]) -> Result<u32, CodecError> {
    match u32::try_from(plain.len()) {
        Ok(length) if plain.len() <= BLOB_BYTES_MAX => Ok(length),
        _ => Err(CodecError::TooLarge),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn codec(compression: Compression) -> BlobCodec {
        BlobCodec::new(Arc::new(MasterKey::generate().unwrap()), compression, Proof::Each)
    }

    fn noise(bytes: usize) -> Vec<u8> {
        let mut noise = vec![0; bytes];
        getrandom::fill(&mut noise).unwrap();
        noise
    }

    #[test]
    fn what_does_not_shrink_is_stored_plain_unless_it_must_be_compressed() {
        for (compression, expected) in
            [(Compression::WhenItPays(3), false), (Compression::Always(3), true), (Compression::Never, false)]
        {
            for bytes in [1, 100, 4_096, 600_000] {
                let plain = noise(bytes);
                let codec = codec(compression);
                let mut out = Vec::new();
                let sealed = codec.seal_and_prove(&plain, &mut out).unwrap();
                assert_eq!(sealed.is_compressed, expected, "{compression:?} {bytes}");
                assert_eq!(sealed.bytes, out.len());
            }
        }
    }

    #[test]
    fn what_shrinks_is_compressed() {
        let codec = codec(Compression::WhenItPays(3));
        let mut out = Vec::new();
        let sealed = codec.seal(&vec![b'a'; 1_000_000], &mut out).unwrap();
        assert!(sealed.is_compressed && out.len() < 1_000);
    }

    #[test]
    fn compressible_data_behind_a_random_beginning_is_still_compressed() {
        let mut plain = noise(100_000);
        plain.resize(1_000_000, b'a');
        let mut out = Vec::new();
        assert!(codec(Compression::WhenItPays(3)).seal(&plain, &mut out).unwrap().is_compressed);
        assert!(out.len() < 120_000);
    }

    #[test]
    fn a_promised_length_that_is_not_kept_is_an_error() {
        let codec = codec(Compression::WhenItPays(3));
        let mut out = Vec::new();
        codec.seal(&[b'a'; 1_000], &mut out).unwrap();
        for promised in [0, 1, 999, 1_001, u32::MAX] {
            assert!(codec.open(&out, Some(promised), &mut Vec::new()).is_err(), "{promised}");
        }
        codec.open(&out, Some(1_000), &mut Vec::new()).unwrap();
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_what_was_touched_does_not(
            plain in proptest::collection::vec(any::<u8>(), 1..5_000), flip: prop::sample::Index, bit in 0..8_u32
        ) {
            let codec = codec(Compression::WhenItPays(3));
            let (mut sealed, mut out) = (Vec::new(), Vec::new());
            let promise = codec.seal(&plain, &mut sealed).unwrap();
            let plain_bytes = promise.is_compressed.then_some(plain.len() as u32);
            codec.open(&sealed, plain_bytes, &mut out).unwrap();
            prop_assert_eq!(&out, &plain);
            let at = flip.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert_eq!(codec.open(&sealed, plain_bytes, &mut out), Err(CodecError::SealBroken));
        }
    }
}
