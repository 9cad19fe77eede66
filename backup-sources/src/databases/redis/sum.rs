//! The checksum that an RDB file ends with: CRC-64 as Redis counts it, over all but its last eight bytes.

use crc_fast::{CrcAlgorithm, Digest};

/// The length of the checksum.
const SUM_BYTES: usize = 8;

/// Adds up a file as it comes.
pub(super) struct Sum {
    digest: Digest,
    /// The last bytes that came: they may be the checksum.
    held: Vec<u8>,
}

/// What a file's checksum says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    Wrong,
    /// It has none: zeros stand in its place.
    None,
}

impl Sum {
    pub(super) fn new() -> Self {
        Self { digest: Digest::new(CrcAlgorithm::Crc64Redis), held: Vec::new() }
    }

    /// The next bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let known = (self.held.len() + bytes.len()).saturating_sub(SUM_BYTES);
        let of_held = known.min(self.held.len());
        self.digest.update(&self.held[..of_held]);
        self.held.drain(..of_held);
        let (inner, last) = bytes.split_at(known - of_held);
        self.digest.update(inner);
        self.held.extend_from_slice(last);
    }

    /// What the last bytes say, if they are the checksum.
    pub(super) fn verdict(&self) -> Verdict {
        let stored = <[u8; SUM_BYTES]>::try_from(&self.held[..]).map(u64::from_le_bytes);
        match stored {
            Ok(0) => Verdict::None,
            Ok(stored) if stored == self.digest.finalize() => Verdict::Right,
            _ => Verdict::Wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_added_up_in_whatever_portions_it_comes() {
        // The known answer of CRC-64 as Redis has it.
        let file = [&b"123456789"[..], &0xE9C6_D914_C4B8_D9CA_u64.to_le_bytes()].concat();
        for length in 1..=file.len() {
            let mut sum = Sum::new();
            file.chunks(length).for_each(|portion| sum.add(portion));
            assert_eq!(sum.verdict(), Verdict::Right, "in portions of {length}");
            sum.add(b"x");
            assert_eq!(sum.verdict(), Verdict::Wrong);
        }
        let mut none = Sum::new();
        none.add(&[&b"123"[..], &[0; 8]].concat());
        assert_eq!(none.verdict(), Verdict::None);
    }
}
