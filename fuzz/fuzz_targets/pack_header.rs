//! Pack headers: raw bytes, and bytes that a holder of the key has sealed.

#![no_main]

use backup_core::limits::SEAL_OVERHEAD_BYTES;
use backup_core::pack::{header_span, pack_bytes, read_header};
use backup_fuzz::{MIB, SEALED, bounded};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let key = SEALED.key();
    let size = bytes.len() as u64;
    let sealed = key.seal(bytes).expect("the system gives random numbers");
    bounded(MIB + 8 * bytes.len(), || {
        assert!(read_header(key, bytes, size).is_err(), "nobody guesses a seal");
        if let Some(last_four) = bytes.last_chunk::<4>()
            && let Ok(span) = header_span(*last_four, size)
        {
            assert!(span <= size);
        }

        let mut tail = sealed;
        tail.extend_from_slice(&u32::try_from(tail.len()).unwrap_or(u32::MAX).to_le_bytes());
        // As much room as the entries say, and a few sizes that are wrong.
        let mut room = 0_u64;
        let mut rest = bytes;
        while let Some((kind, entry)) = rest.split_first() {
            let Some(length) = entry.first_chunk::<4>() else { break };
            room += u64::from(u32::from_le_bytes(*length));
            rest = entry.get(if kind & 2 == 0 { 36 } else { 40 }..).unwrap_or_default();
        }
        let whole = room + tail.len() as u64;
        for size in [whole, whole.wrapping_sub(1), whole + 1, 0, u64::MAX] {
            let Ok(blobs) = read_header(key, &tail, size) else { continue };
            assert_eq!(size, pack_bytes(&blobs), "a header that was accepted fills its pack");
            let mut end = 0;
            for blob in &blobs {
                assert_eq!(blob.offset, end);
                assert!(blob.length as usize >= SEAL_OVERHEAD_BYTES);
                end = blob.offset.checked_add(blob.length).expect("offsets are within the pack");
            }
        }
    });
});
