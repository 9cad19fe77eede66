//! What comes from a network may be anything: the reader of RDB files neither panics nor holds what it was only promised,
//! and finds the same in whatever portions a file comes.

use crc_fast::{CrcAlgorithm, checksum};
use proptest::prelude::*;

use super::keys::Keys;
use super::listener::{Ending, Key, Listener};
use super::rdb::RdbReader;

/// Keeps everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct All(Vec<Found>);

/// A database, a name, a time to live, a type, a value.
type Found = (u64, Vec<u8>, Option<u64>, u8, Vec<u8>);

impl Listener for All {
    const WANTS_VALUES: bool = true;
    const WANTS_ELEMENTS: bool = false;

    fn fact(&mut self, _name: &[u8], _value: &[u8]) {}

    fn key(&mut self, key: Key<'_>) -> Result<(), String> {
        self.0.push((key.database, key.name.to_vec(), key.expires, key.kind, key.raw.to_vec()));
        Ok(())
    }

    fn function(&mut self, _library: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn module_data(&mut self) {}
}

fn read<L: Listener>(listener: L, file: &[u8], portion: usize) -> Result<(Ending, L), String> {
    let mut reader = RdbReader::new(listener);
    for bytes in file.chunks(portion) {
        reader.feed(bytes)?;
    }
    let ending = reader.finish()?;
    Ok((ending, reader.into_listener()))
}

fn file_of(entries: &[u8]) -> Vec<u8> {
    let mut file = [b"REDIS0011".as_slice(), entries, &[0xFF]].concat();
    let sum = checksum(CrcAlgorithm::Crc64Redis, &file);
    file.extend_from_slice(&sum.to_le_bytes());
    file
}

#[test]
fn values_are_found_with_their_bytes_wherever_the_file_is_cut() {
    let entries: &[&[u8]] = &[
        b"\xfa\x09redis-ver\x057.2.0\xfe\x02\xfb\x05\x01",
        // A number as a string, with a time to live; a packed text; a list of two; a sorted set; a module's value.
        b"\xfc\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01n\xc0\x2a",
        b"\x00\xc3\x06\x0c\x01ab\xe0\x01\x01\x01v",
        b"\x01\x01l\x02\x01x\xc1\x00\x01",
        b"\x03\x01z\x01\x01m\x031.5",
        b"\x07\x01m\x81\x00\x00\x00\x00\x00\x00\x00\x09\x02\x05\x05\x02ab\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    ];
    let file = file_of(&entries.concat());
    let whole = read(All::default(), &file, file.len()).unwrap();
    let found: Vec<_> =
        whole.1.0.iter().map(|(_, name, expires, kind, raw)| (&name[..], *expires, *kind, &raw[..])).collect();
    assert_eq!(
        found,
        [
            (&b"n"[..], Some(1), 0, &b"\xc0\x2a"[..]),
            (&b"abababababab"[..], None, 0, &b"\x01v"[..]),
            (&b"l"[..], None, 1, &b"\x02\x01x\xc1\x00\x01"[..]),
            (&b"z"[..], None, 3, &b"\x01\x01m\x031.5"[..]),
            (&b"m"[..], None, 7, &entries[5][3..]),
        ]
    );
    assert!(whole.0 == Ending::Checked && whole.1.0.iter().all(|key| key.0 == 2));
    for portion in 1..file.len() {
        assert_eq!(read(All::default(), &file, portion), Ok(whole.clone()), "{portion}");
    }
}

#[test]
fn a_promise_of_much_is_not_memory() {
    // A string, a list and a packed text of nearly 2⁶⁴ bytes each.
    for entry in
        [&b"\x00\x01k\x81\xff\xff\xff\xff\xff\xff\xff\xf0"[..], b"\x01\x01k\x81\xff\xff\xff\xff\xff\xff\xff\xf0\x01x"]
    {
        let file = [b"REDIS0011".as_slice(), entry, &[0; 100]].concat();
        assert!(read(All::default(), &file, 10).is_err());
    }
    let key = [b"REDIS0011".as_slice(), b"\x00\x81\xff\xff\xff\xff\xff\xff\xff\xf0", &[0; 100]].concat();
    assert!(read(All::default(), &key, 10).is_err());
}

proptest! {
    #[test]
    fn anything_is_read_or_refused(
        entries in proptest::collection::vec(prop_oneof![any::<u8>(), 0u8..30, 243u8..=255, Just(1)], 0..300),
        portion in 1usize..50,
    ) {
        for file in [file_of(&entries), [&b"REDIS0009"[..], &entries[..]].concat(), entries.clone()] {
            // Where in a portion it was noticed is no part of the verdict.
            let all = |portion| read(All::default(), &file, portion).map_err(drop);
            prop_assert_eq!(all(portion), all(file.len().max(1)));
            let counted = |portion| {
                let outcome = read(Keys::default(), &file, portion).map_err(drop);
                outcome.map(|(ending, keys)| (ending, keys.expectations()))
            };
            prop_assert_eq!(counted(portion), counted(file.len().max(1)));
        }
    }
}
