//! Content-defined cuts by a Rabin fingerprint: restic's, to the byte.
//!
//! Let F(p) be the 64 bytes that end at p, read as one big-endian polynomial over GF(2), modulo the repository's
//! [`Polynomial`]. The chunk that starts at s ends at the smallest p with p − s ≥ `min_bytes` and either the lowest
//! `average_bits` bits of F(p) zero or p − s ≥ `max_bytes` (M. O. Rabin, "Fingerprinting by Random Polynomials", 1981;
//! the parameters are those of restic's chunker).
//!
//! F depends on 64 bytes and on nothing before them. The classic loop over a stream waits for one table look-up per
//! byte, because each hash needs the one before; here [`LANES`] distant parts of the same data are hashed in turns, so
//! that their look-ups overlap, and the first hit in order of position wins. The cuts are the same by construction.

use std::fmt;

use super::polynomial::Polynomial;
use crate::limits::CHUNK_BYTES_MAX;

/// How many bytes F looks at.
const WINDOW_BYTES: usize = 64;

/// As many hashes as the sixteen general registers of x86-64 carry beside the addresses.
const LANES: usize = 8;

/// Candidates per lane in a batch. Long enough that hashing the first window of each lane does not count (2 %), short
/// enough for a batch to fit into small reads; not a multiple of 4096, or all lanes would compete for the same sets of
/// the first-level cache.
const LANE_WIDE: usize = 4096 + 64;

/// The same for what is left of a buffer after the wide batches: still well ahead of a single lane.
const LANE_NARROW: usize = 256 + 64;

/// The chunk lengths that a [`Rabin`] aims at. The default is restic's: 512 KiB to 8 MiB, on average about 1.5 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RabinSizes {
    /// No chunk is shorter, save the last of a stream. At least the 64 bytes of the hash's window.
    pub min_bytes: usize,
    /// Beyond `min_bytes` one position in 2^`average_bits` is a cut. At most the degree of the polynomial.
    pub average_bits: u32,
    /// No chunk is longer. At most [`CHUNK_BYTES_MAX`].
    pub max_bytes: usize,
}

/// Why no cuts can be made with the given sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RabinSizesError {
    /// The first candidate of a chunk needs a whole window before it.
    #[error("chunks of {min_bytes} bytes are shorter than the {WINDOW_BYTES} bytes that decide on a cut")]
    MinBelowWindow {
        /// The minimum that was refused.
        min_bytes: usize,
    },
    /// The maximum is below the minimum.
    #[error("largest chunk of {max_bytes} bytes is below the smallest of {min_bytes}")]
    MaxBelowMin {
        /// The minimum that was asked for.
        min_bytes: usize,
        /// The maximum that was asked for.
        max_bytes: usize,
    },
    /// The maximum is more than [`CHUNK_BYTES_MAX`].
    #[error("largest chunk of {max_bytes} bytes is above the {CHUNK_BYTES_MAX} that fit into memory")]
    MaxAboveLimit {
        /// The maximum that was asked for.
        max_bytes: usize,
    },
    /// The hash has fewer bits than a cut is asked to have zero.
    #[error("a cut by {average_bits} bits needs more than the {degree} bits of the hash")]
    AverageAboveDegree {
        /// The bits that were asked for.
        average_bits: u32,
        /// The degree of the polynomial.
        degree: u32,
    },
}

/// A polynomial with its tables (6 KiB) and sizes. Immutable, so that one serves all threads behind an `Arc`.
///
/// A hash is held turned right by degree − 8 bits. That brings the byte which the next step pushes out of the hash to
/// the bottom of the word, where it is an index without any shift, and makes the step itself a rotation.
#[derive(Clone)]
pub struct Rabin {
    polynomial: Polynomial,
    sizes: RabinSizes,
    /// The bits of a turned hash that are zero at a cut.
    mask: u64,
    /// By the byte pushed out of the top: what clears it and adds its remainder.
    reduce: [u64; 256],
    /// By the byte that enters the window.
    enter: [u64; 256],
    /// By the byte that leaves the window: its share in the hash, x^512 times the byte.
    leave: [u64; 256],
}

impl Rabin {
    /// Cuts with restic's sizes: what a repository shared with restic must use to deduplicate against its chunks.
    #[must_use]
    pub fn new(polynomial: Polynomial) -> Self {
        Self::build(polynomial, RabinSizes::default())
    }

    /// Cuts with other sizes. They are as readable to restic, but only chunks of equal sizes deduplicate.
    ///
    /// # Errors
    /// [`RabinSizesError`] when the sizes contradict one another or the window of 64 bytes.
    pub fn with_sizes(polynomial: Polynomial, sizes: RabinSizes) -> Result<Self, RabinSizesError> {
        let RabinSizes { min_bytes, average_bits, max_bytes } = sizes;
        let degree = polynomial.degree();
        if min_bytes < WINDOW_BYTES {
            return Err(RabinSizesError::MinBelowWindow { min_bytes });
        }
        if max_bytes < min_bytes {
            return Err(RabinSizesError::MaxBelowMin { min_bytes, max_bytes });
        }
        if max_bytes > CHUNK_BYTES_MAX {
            return Err(RabinSizesError::MaxAboveLimit { max_bytes });
        }
        if average_bits > degree {
            return Err(RabinSizesError::AverageAboveDegree { average_bits, degree });
        }
        Ok(Self::build(polynomial, sizes))
    }

    /// The polynomial by which this cuts.
    #[must_use]
    pub const fn polynomial(&self) -> Polynomial {
        self.polynomial
    }

    /// The chunk lengths at which this aims.
    #[must_use]
    pub const fn sizes(&self) -> RabinSizes {
        self.sizes
    }

    /// The first cut among the lengths `from..=chunk.len()` of a chunk, `chunk` being as much of it as is known.
    ///
    /// Lengths below `min_bytes` or above `max_bytes` are never cuts, nor is anything read that lies more than a
    /// window before the minimum: about a third of all bytes are not looked at.
    pub(super) fn first_cut(&self, chunk: &[u8], from: usize) -> Option<usize> {
        let RabinSizes { min_bytes, max_bytes, .. } = self.sizes;
        let first = from.max(min_bytes);
        let last = chunk.len().min(max_bytes);
        if first > last {
            return None;
        }
        self.first_hit(&chunk[first - WINDOW_BYTES..last])
            .map(|index| first + index)
            .or_else(|| (last == max_bytes).then_some(max_bytes))
    }

    /// The index of the first window of `text` whose hash is a cut. Window n is `text[n..n + 64]`.
    fn first_hit(&self, text: &[u8]) -> Option<usize> {
        let mut start = 0;
        while let Some(batch) = text.get(start..start + batch_bytes(LANE_WIDE)) {
            if let Some(index) = self.first_hit_in_lanes::<LANE_WIDE>(batch) {
                return Some(start + index);
            }
            start += LANES * LANE_WIDE;
        }
        while let Some(batch) = text.get(start..start + batch_bytes(LANE_NARROW)) {
            if let Some(index) = self.first_hit_in_lanes::<LANE_NARROW>(batch) {
                return Some(start + index);
            }
            start += LANES * LANE_NARROW;
        }
        self.first_hit_in_series(&text[start..]).map(|index| start + index)
    }

    /// As [`Self::first_hit`], for a `text` of [`batch_bytes`]`(LANE)`, of which the first `LANES * LANE` windows are
    /// searched. Lane k has the windows from `k * LANE` on.
    fn first_hit_in_lanes<const LANE: usize>(&self, text: &[u8]) -> Option<usize> {
        // Tells the compiler the length, which frees the loops below of every check of an index.
        let text = &text[..batch_bytes(LANE)];
        let mut hashes = [0; LANES];
        for index in 0..WINDOW_BYTES {
            for (lane, hash) in hashes.iter_mut().enumerate() {
                *hash = self.push(*hash, text[lane * LANE + index]);
            }
        }
        for index in 0..LANE {
            for (lane, hash) in hashes.iter_mut().enumerate() {
                if *hash & self.mask == 0 {
                    return Some(self.first_hit_before::<LANE>(text, lane, index));
                }
                let at = lane * LANE + index;
                *hash = self.roll(*hash, text[at], text[at + WINDOW_BYTES]);
            }
        }
        None
    }

    /// Settles a hit at `index` of `lane`: the lanes before it, searched up to and including `index`, may hold an
    /// earlier one in what is left of them. Out of line, since it happens once per chunk: merged into the loop of the
    /// lanes it would cost each byte a conditional move.
    #[cold]
    #[inline(never)]
    fn first_hit_before<const LANE: usize>(&self, text: &[u8], lane: usize, index: usize) -> usize {
        (0..lane)
            .find_map(|earlier| {
                let start = earlier * LANE + index + 1;
                let end = (earlier + 1) * LANE + WINDOW_BYTES - 1;
                self.first_hit(&text[start..end]).map(|hit| start + hit)
            })
            .unwrap_or(lane * LANE + index)
    }

    fn first_hit_in_series(&self, text: &[u8]) -> Option<usize> {
        let (window, entering) = text.split_first_chunk::<WINDOW_BYTES>()?;
        let mut hash = window.iter().fold(0, |hash, &byte| self.push(hash, byte));
        if hash & self.mask == 0 {
            return Some(0);
        }
        text.iter()
            .zip(entering)
            .position(|(&leaving, &entering)| {
                hash = self.roll(hash, leaving, entering);
                hash & self.mask == 0
            })
            .map(|index| index + 1)
    }

    #[inline(always)]
    fn push(&self, hash: u64, entering: u8) -> u64 {
        let pushed_out = hash as u8;
        hash.rotate_left(8) ^ self.enter[usize::from(entering)] ^ self.reduce[usize::from(pushed_out)]
    }

    #[inline(always)]
    fn roll(&self, hash: u64, leaving: u8, entering: u8) -> u64 {
        self.push(hash, entering) ^ self.leave[usize::from(leaving)]
    }

    fn build(polynomial: Polynomial, sizes: RabinSizes) -> Self {
        let degree = polynomial.degree();
        let turn = degree - 8;
        let table = |entry: &dyn Fn(u64) -> u64| std::array::from_fn(|byte| entry(byte as u64).rotate_right(turn));
        Self {
            polynomial,
            sizes,
            mask: ((1 << sizes.average_bits) - 1_u64).rotate_right(turn),
            reduce: table(&|byte| byte << degree | polynomial.remainder_of(byte << degree)),
            enter: table(&|byte| byte),
            leave: table(&|byte| (0..WINDOW_BYTES).fold(byte, |hash, _| polynomial.remainder_of(hash << 8))),
        }
    }
}

impl Default for RabinSizes {
    fn default() -> Self {
        Self { min_bytes: 512 << 10, average_bits: 20, max_bytes: 8 << 20 }
    }
}

/// The tables say nothing that the polynomial does not.
impl fmt::Debug for Rabin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rabin")
            .field("polynomial", &self.polynomial)
            .field("sizes", &self.sizes)
            .finish_non_exhaustive()
    }
}

/// What a batch of lanes of `lane` windows each reads: the last byte enters a hash that is not looked at any more.
const fn batch_bytes(lane: usize) -> usize {
    LANES * lane + WINDOW_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN_BYTES: usize = 100;

    /// Cuts by 30 bits in data of ones: nowhere but behind 64 zero bytes, which puts hits wherever they are wanted.
    fn first_cut(hits: &[usize]) -> Option<usize> {
        let polynomial = Polynomial::from_bits(0x3D_A335_8B4D_C173).unwrap();
        let sizes = RabinSizes { min_bytes: MIN_BYTES, average_bits: 30, max_bytes: 1 << 20 };
        let mut chunk = vec![1; MIN_BYTES + LANES * LANE_WIDE + 2 * LANES * LANE_NARROW + 500];
        for &hit in hits {
            chunk[hit - WINDOW_BYTES..hit].fill(0);
        }
        Rabin::with_sizes(polynomial, sizes).unwrap().first_cut(&chunk, 0)
    }

    #[test]
    fn no_cut_is_missed_where_lanes_and_batches_meet() {
        let wide = (0..LANES).map(|lane| lane * LANE_WIDE);
        let narrow = (0..=2 * LANES).map(|lane| LANES * LANE_WIDE + lane * LANE_NARROW);
        for edge in wide.chain(narrow) {
            for hit in [edge.saturating_sub(1), edge, edge + 1].map(|index| MIN_BYTES + index) {
                assert_eq!(first_cut(&[hit]), Some(hit), "edge {edge}");
            }
        }
        assert_eq!(first_cut(&[]), None);
    }

    #[test]
    fn a_hit_in_a_later_lane_never_hides_an_earlier_one() {
        // The later lane comes upon its hit first in each case, the last ones by a single step.
        for (earlier, later) in
            [((0, LANE_WIDE - 1), (7, 0)), ((2, 3000), (3, 100)), ((5, 2001), (6, 2000)), ((0, 1), (1, 0))]
        {
            let at = |(lane, index)| MIN_BYTES + lane * LANE_WIDE + index;
            assert_eq!(first_cut(&[at(later), at(earlier)]), Some(at(earlier)), "{earlier:?} {later:?}");
        }
        let descending = [4 * LANE_WIDE + 9, 3 * LANE_WIDE + 500, 2 * LANE_WIDE + 900];
        assert_eq!(first_cut(&descending.map(|index| MIN_BYTES + index)), Some(MIN_BYTES + 2 * LANE_WIDE + 900));
    }
}
