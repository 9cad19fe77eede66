//! Blobs: the length that is promised and the bytes that are sealed may both say anything.
//!
//! The first four bytes are the length that is promised, the fifth says what is sealed: the rest as it is, or a frame
//! of zstd made of it.

#![no_main]

use std::sync::{Arc, LazyLock};

use backup_core::codec::{BlobCodec, Compression, MasterKey, Proof};
use backup_core::contracts::Codec;
use backup_fuzz::{MIB, bounded};
use libfuzzer_sys::fuzz_target;

static KEY: LazyLock<Arc<MasterKey>> = LazyLock::new(|| Arc::new(MasterKey::generate().expect("random numbers")));
static CODEC: LazyLock<BlobCodec> =
    LazyLock::new(|| BlobCodec::new(Arc::clone(&KEY), Compression::WhenItPays(3), Proof::Off));

fuzz_target!(|bytes: &[u8]| {
    let Some((promised, rest)) = bytes.split_first_chunk::<4>() else { return };
    let Some((&form, content)) = rest.split_first() else { return };
    let promised = u32::from_le_bytes(*promised);
    let text = if form & 1 == 0 { content.to_vec() } else { zstd::bulk::compress(content, 1).expect("memory") };
    let sealed = KEY.seal(&text).expect("random numbers");
    let mut out = Vec::new();
    // The promise alone may not cost memory: a frame cannot expand by more than zstd can.
    bounded(2 * MIB + 40_000 * text.len(), || {
        assert!(CODEC.open(content, Some(promised), &mut out).is_err(), "nobody guesses a seal");
        assert!(CODEC.open(content, None, &mut out).is_err());
        CODEC.open(&sealed, None, &mut out).expect("what was sealed opens");
        assert_eq!(out, text);
        if CODEC.open(&sealed, Some(promised), &mut out).is_ok() {
            assert_eq!(out.len(), promised as usize);
        }
        if form & 1 == 1 && !content.is_empty() {
            let length = u32::try_from(content.len()).expect("inputs are small");
            CODEC.open(&sealed, Some(length), &mut out).expect("the right promise is kept");
            assert_eq!(out, content);
        }
    });
});
