//! RDB files as a repository may hold them, as a restore and a comparison read them: no promise of a length costs memory, and
//! what the keys give a server is made of the file's bytes.
//!
//! The first byte says whether the rest gets the beginning, the end and the checksum that a file has.

#![no_main]

use backup_fuzz::{MIB, bounded};
use backup_sources::databases::redis::{inspect, payloads};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&form, entries)) = bytes.split_first() else { return };
    let file = match form & 1 {
        0 => entries.to_vec(),
        // A checksum of zero means that the server wrote none.
        _ => [b"REDIS0011", entries, b"\xff", &[0; 8]].concat(),
    };
    // A packed text expands by no more than some 264 times; a portion is read at a time.
    bounded(8 * MIB + 600 * file.len(), || {
        let whole = inspect(&file[..]).ok();
        // In whatever portions it comes.
        let by_bytes = inspect(Portions(&file, 7)).ok();
        assert_eq!(whole, by_bytes);
        let (mut keys, mut sent) = (0, 0);
        let loaded = payloads(&file[..], |name, payload| {
            keys += 1;
            sent += payload.len();
            assert!(name.len() <= 300 * file.len());
        });
        assert!(sent <= file.len() + 11 * keys, "more is sent than there is");
        // What can be loaded was understood.
        assert!(loaded.is_err() || whole.is_some());
    });
});

/// Gives so many bytes at a time.
struct Portions<'a>(&'a [u8], usize);

impl std::io::Read for Portions<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.0.len().min(self.1).min(buffer.len());
        let (portion, rest) = self.0.split_at(length);
        buffer[..length].copy_from_slice(portion);
        self.0 = rest;
        Ok(length)
    }
}
