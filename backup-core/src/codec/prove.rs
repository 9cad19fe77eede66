//! What was sealed is opened again and compared with what it was made of, window by window: the windows stay in the
//! processor's cache, and no second copy of a blob is made.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use zstd::stream::raw::{Decoder, InBuffer, Operation as _, OutBuffer};

use super::seal::MasterKey;
use crate::contracts::CodecError;

/// What is decrypted in one go.
const TEXT_BYTES: usize = 64 * 1024;
/// What is decompressed in one go: zstd's largest block.
const PLAIN_BYTES: usize = 128 * 1024;

/// Proves; what it needs for that waits here for its next use.
#[derive(Default)]
pub(super) struct Prover(Mutex<Vec<Windows>>);

struct Windows {
    text: Box<[u8]>,
    plain: Box<[u8]>,
    decoder: Decoder<'static>,
}

impl Prover {
    /// Fails unless `sealed` opens to `plain`, whatever the reason.
    pub(super) fn prove(
        &self,
        key: &MasterKey,
        sealed: &[u8],
        is_compressed: bool,
        plain: &[u8],
    ) -> Result<(), CodecError> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut windows = match waiting {
            Some(windows) => windows,
            None => Windows::new()?,
        };
        let proof = match is_compressed {
            true => windows.compare_compressed(key, sealed, plain),
            false => windows.compare(key, sealed, plain),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(windows);
        proof.map_err(|_| CodecError::NotReproduced)
    }
}

impl Windows {
    fn new() -> Result<Self, CodecError> {
        let decoder = Decoder::new().map_err(|_| CodecError::Decompress)?;
        Ok(Self { text: vec![0; TEXT_BYTES].into(), plain: vec![0; PLAIN_BYTES].into(), decoder })
    }

    fn compare(&mut self, key: &MasterKey, sealed: &[u8], plain: &[u8]) -> Result<(), CodecError> {
        let mut rest = plain;
        key.open_by_windows(sealed, &mut self.text, |text| same_beginning(&mut rest, text))?;
        if rest.is_empty() { Ok(()) } else { Err(CodecError::Length) }
    }

    fn compare_compressed(&mut self, key: &MasterKey, sealed: &[u8], plain: &[u8]) -> Result<(), CodecError> {
        let Self { text, plain: window, decoder } = self;
        decoder.reinit().map_err(|_| CodecError::Decompress)?;
        let (mut rest, mut is_over) = (plain, false);
        key.open_by_windows(sealed, text, |text| {
            let mut input = InBuffer::around(text);
            while input.pos() < text.len() {
                if is_over {
                    // Something follows the end of the frame.
                    return Err(CodecError::Length);
                }
                let mut output = OutBuffer::around(&mut **window);
                is_over = decoder.run(&mut input, &mut output).map_err(|_| CodecError::Decompress)? == 0;
                same_beginning(&mut rest, output.as_slice())?;
            }
            Ok(())
        })?;
        // The last bytes of the text may give more than one window.
        while !is_over {
            let mut output = OutBuffer::around(&mut **window);
            let hint = decoder.run(&mut InBuffer::around(&[]), &mut output).map_err(|_| CodecError::Decompress)?;
            let bytes = output.as_slice();
            if bytes.is_empty() && hint != 0 {
                return Err(CodecError::Length);
            }
            same_beginning(&mut rest, bytes)?;
            is_over = hint == 0;
        }
        if rest.is_empty() { Ok(()) } else { Err(CodecError::Length) }
    }
}

/// Takes `opened` off the beginning of `rest`, which must begin so.
fn same_beginning(rest: &mut &[u8], opened: &[u8]) -> Result<(), CodecError> {
    *rest = rest.strip_prefix(opened).ok_or(CodecError::NotReproduced)?;
    Ok(())
}

impl fmt::Debug for Prover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prover")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::codec::{BlobCodec, Compression, Proof};
    use crate::contracts::Codec as _;

    fn sealed(key: &MasterKey, compression: Compression, plain: &[u8]) -> (Vec<u8>, bool) {
        let codec = BlobCodec::new(Arc::new(key.clone()), compression, Proof::Off);
        let mut sealed = Vec::new();
        let is_compressed = codec.seal(plain, &mut sealed).unwrap().is_compressed;
        (sealed, is_compressed)
    }

    /// Bytes that compress to about a half, and long enough for several windows.
    fn text(bytes: usize, seed: u64) -> Vec<u8> {
        let words = (0..).map(|number: u64| (number ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40);
        words.flat_map(|word| word.to_string().into_bytes()).take(bytes).collect()
    }

    #[test]
    fn what_opens_to_the_plain_text_is_proven_and_nothing_else_is() {
        let (key, prover) = (MasterKey::generate().unwrap(), Prover::default());
        for compression in [Compression::Never, Compression::Always(3)] {
            for bytes in [1, 100, TEXT_BYTES, TEXT_BYTES + 1, PLAIN_BYTES, 3 * PLAIN_BYTES, 1_000_000] {
                let plain = text(bytes, 7);
                let (right, is_compressed) = sealed(&key, compression, &plain);
                assert_eq!(prover.prove(&key, &right, is_compressed, &plain), Ok(()), "{compression:?} {bytes}");
                let mut wrong = plain.clone();
                wrong[bytes - 1] ^= 1;
                let longer = [plain.as_slice(), b"x"].concat();
                for plain in [&wrong, &plain[..bytes - 1], &longer] {
                    let proof = prover.prove(&key, &right, is_compressed, plain);
                    assert_eq!(proof, Err(CodecError::NotReproduced), "{compression:?} {bytes}");
                }
            }
        }
    }

    #[test]
    fn a_text_with_something_behind_it_is_not_proven() {
        let (key, prover) = (MasterKey::generate().unwrap(), Prover::default());
        let plain = vec![b'a'; 300_000];
        let mut compressed = zstd::bulk::compress(&plain, 3).unwrap();
        let proof = |text: &[u8]| prover.prove(&key, &key.seal(text).unwrap(), true, &plain);
        assert_eq!(proof(&compressed), Ok(()));
        compressed.push(0);
        assert_eq!(proof(&compressed), Err(CodecError::NotReproduced));
        compressed.truncate(compressed.len() - 2);
        assert_eq!(proof(&compressed), Err(CodecError::NotReproduced));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_seen(bytes in 1..300_000_usize, seed: u64, flip: prop::sample::Index, bit in 0..8_u32) {
            let (key, prover) = (MasterKey::generate().unwrap(), Prover::default());
            let plain = text(bytes, seed);
            for compression in [Compression::Never, Compression::Always(1)] {
                let (mut sealed, is_compressed) = sealed(&key, compression, &plain);
                let at = flip.index(sealed.len());
                sealed[at] ^= 1 << bit;
                prop_assert!(prover.prove(&key, &sealed, is_compressed, &plain).is_err());
            }
        }
    }
}
