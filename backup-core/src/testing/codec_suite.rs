//! The contract suite of [`Codec`]: one function per promise.

#![expect(clippy::unwrap_used, reason = "a suite reports a broken promise by panicking, as a test does")]

use crate::contracts::Codec;
use crate::limits::SEAL_OVERHEAD_BYTES;

/// Checks every promise of [`Codec`]. The codecs that `make` gives all have the same key.
///
/// # Panics
///
/// When a promise is broken, with the promise in the message.
pub fn codec_suite(make: impl Fn() -> Box<dyn Codec>) {
    let texts = texts();
    for text in &texts {
        what_is_sealed_opens_again(&*make(), &*make(), text);
        what_was_touched_does_not_open(&*make(), text);
        a_broken_promise_of_length_is_noticed(&*make(), text);
        equal_texts_do_not_look_equal(&*make(), text);
    }
    what_is_too_short_is_refused(&*make());
    several_threads_may_use_it(&*make(), &texts);
}

/// Texts that compress well, badly, and not at all, of many sizes.
fn texts() -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    for bytes in [1, 2, 31, 32, 33, 1_000, 70_000, 1_100_000] {
        texts.push(vec![0; bytes]);
        texts.push(b"{\"nodes\":[]}\n".iter().copied().cycle().take(bytes).collect());
        let mut state = bytes as u64 | 1;
        let mut step = || {
            // Marsaglia's xorshift64.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        texts.push((0..bytes).map(|_| step()).collect());
    }
    texts
}

fn promise(text: &[u8], is_compressed: bool) -> Option<u32> {
    is_compressed.then(|| u32::try_from(text.len()).unwrap())
}

fn what_is_sealed_opens_again(codec: &dyn Codec, other: &dyn Codec, text: &[u8]) {
    let mut out = b"what was there before".to_vec();
    let before = out.clone();
    let sealed = codec.seal(text, &mut out).unwrap();
    assert!(out.starts_with(&before), "sealing appends, and leaves alone what is there");
    assert_eq!(out.len(), before.len() + sealed.bytes, "as many bytes are appended as it says");
    if !sealed.is_compressed {
        assert_eq!(sealed.bytes, text.len() + SEAL_OVERHEAD_BYTES, "a plain blob is as long as the format says");
    }
    let stored = &out[before.len()..];
    for codec in [codec, other] {
        let mut opened = vec![9; 40];
        codec.open(stored, promise(text, sealed.is_compressed), &mut opened).unwrap();
        assert!(opened == text, "what was sealed opens to what it was made of, and nothing else is left in the buffer");
    }
    if text.len() >= 16 {
        let is_shown = stored.windows(16).any(|window| window == &text[..16]);
        assert!(!is_shown, "what is sealed does not show its text");
    }
}

fn what_was_touched_does_not_open(codec: &dyn Codec, text: &[u8]) {
    let mut stored = Vec::new();
    let sealed = codec.seal(text, &mut stored).unwrap();
    let plain_bytes = promise(text, sealed.is_compressed);
    let mut opened = Vec::new();
    let last = stored.len() - 1;
    for at in [0, 15, 16, last / 2, last - 16, last - 15, last] {
        for bit in [0, 7] {
            stored[at] ^= 1 << bit;
            let outcome = codec.open(&stored, plain_bytes, &mut opened);
            assert!(outcome.is_err(), "a flipped bit in byte {at} of {last} was not noticed");
            stored[at] ^= 1 << bit;
        }
    }
    assert!(codec.open(&stored[1..], plain_bytes, &mut opened).is_err(), "a missing first byte was not noticed");
    assert!(codec.open(&stored[..last], plain_bytes, &mut opened).is_err(), "a missing last byte was not noticed");
    stored.push(0);
    assert!(codec.open(&stored, plain_bytes, &mut opened).is_err(), "a byte too many was not noticed");
    stored.pop();
    codec.open(&stored, plain_bytes, &mut opened).unwrap();
}

fn a_broken_promise_of_length_is_noticed(codec: &dyn Codec, text: &[u8]) {
    let mut stored = Vec::new();
    let is_compressed = codec.seal(text, &mut stored).unwrap().is_compressed;
    let length = u32::try_from(text.len()).unwrap();
    for promised in [0, length - 1, length + 1, u32::MAX] {
        let outcome = codec.open(&stored, Some(promised), &mut Vec::new());
        assert!(outcome.is_err(), "{length} bytes were promised to be {promised}, and that was not noticed");
    }
    if !is_compressed {
        let outcome = codec.open(&stored, Some(length), &mut Vec::new());
        assert!(outcome.is_err(), "what is not compressed was taken for compressed");
    }
}

fn equal_texts_do_not_look_equal(codec: &dyn Codec, text: &[u8]) {
    let (mut one, mut two) = (Vec::new(), Vec::new());
    codec.seal(text, &mut one).unwrap();
    codec.seal(text, &mut two).unwrap();
    assert_ne!(one[..16], two[..16], "each seal has an initialisation vector of its own");
}

fn what_is_too_short_is_refused(codec: &dyn Codec) {
    for bytes in 0..SEAL_OVERHEAD_BYTES {
        for promised in [None, Some(0), Some(1)] {
            assert!(codec.open(&vec![0; bytes], promised, &mut Vec::new()).is_err(), "{bytes} bytes are no seal");
        }
    }
}

fn several_threads_may_use_it(codec: &dyn Codec, texts: &[Vec<u8>]) {
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let (mut stored, mut opened) = (Vec::new(), Vec::new());
                for text in texts {
                    stored.clear();
                    let sealed = codec.seal(text, &mut stored).unwrap();
                    codec.open(&stored, promise(text, sealed.is_compressed), &mut opened).unwrap();
                    assert!(opened == *text, "several threads are in each other's way");
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    use super::*;
    use crate::codec::{BlobCodec, Compression, MasterKey, Proof};
    use crate::contracts::{CodecError, Sealed};

    fn sound(compression: Compression) -> impl Fn() -> BlobCodec {
        let key = Arc::new(MasterKey::generate().unwrap());
        move || BlobCodec::new(Arc::clone(&key), compression, Proof::Each)
    }

    #[test]
    fn the_codec_of_the_format_keeps_the_contract_however_it_compresses() {
        for compression in [Compression::Never, Compression::WhenItPays(3), Compression::Always(3)] {
            let make = sound(compression);
            codec_suite(|| Box::new(make()));
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Flaw {
        ClearsTheOutput,
        LiesAboutTheBytes,
        LiesAboutCompression,
        AppendsWhenOpening,
        BelievesAnyLength,
        DoesNotSeal,
        IgnoresATail,
    }

    #[derive(Debug)]
    struct Broken(BlobCodec, Flaw);

    impl Codec for Broken {
        fn seal(&self, plain: &[u8], out: &mut Vec<u8>) -> Result<Sealed, CodecError> {
            match self.1 {
                Flaw::ClearsTheOutput => out.clear(),
                Flaw::DoesNotSeal => {
                    out.extend_from_slice(&[0; SEAL_OVERHEAD_BYTES]);
                    out.extend_from_slice(plain);
                    return Ok(Sealed { bytes: plain.len() + SEAL_OVERHEAD_BYTES, is_compressed: false });
                }
                _ => {}
            }
            let mut sealed = self.0.seal(plain, out)?;
            match self.1 {
                Flaw::LiesAboutTheBytes => sealed.bytes += 1,
                Flaw::LiesAboutCompression => sealed.is_compressed = !sealed.is_compressed,
                _ => {}
            }
            Ok(sealed)
        }

        fn open(&self, sealed: &[u8], plain_bytes: Option<u32>, out: &mut Vec<u8>) -> Result<(), CodecError> {
            match self.1 {
                Flaw::DoesNotSeal => {
                    *out = sealed.get(SEAL_OVERHEAD_BYTES..).ok_or(CodecError::TooShort)?.to_vec();
                    Ok(())
                }
                Flaw::AppendsWhenOpening => {
                    let mut opened = Vec::new();
                    self.0.open(sealed, plain_bytes, &mut opened)?;
                    out.extend_from_slice(&opened);
                    Ok(())
                }
                Flaw::BelievesAnyLength => match self.0.open(sealed, plain_bytes, out) {
                    Err(CodecError::Length) => Ok(()),
                    outcome => outcome,
                },
                Flaw::IgnoresATail => match self.0.open(sealed, plain_bytes, out) {
                    Err(CodecError::SealBroken) => self.0.open(&sealed[..sealed.len() - 1], plain_bytes, out),
                    outcome => outcome,
                },
                _ => self.0.open(sealed, plain_bytes, out),
            }
        }
    }

    #[test]
    fn the_suite_finds_codecs_that_break_a_promise() {
        for flaw in [
            Flaw::ClearsTheOutput,
            Flaw::LiesAboutTheBytes,
            Flaw::LiesAboutCompression,
            Flaw::AppendsWhenOpening,
            Flaw::BelievesAnyLength,
            Flaw::DoesNotSeal,
            Flaw::IgnoresATail,
        ] {
            let make = sound(Compression::WhenItPays(3));
            let outcome = catch_unwind(AssertUnwindSafe(|| codec_suite(|| Box::new(Broken(make(), flaw)))));
            assert!(outcome.is_err(), "the suite did not notice the flaw {flaw:?}");
        }
    }
}
