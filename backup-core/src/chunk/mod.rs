//! Bytes → cuts: where a stream is divided into chunks.
//!
//! A chunk is the unit of deduplication, so that equal data should be cut at equal places, wherever it stands. [`Rabin`]
//! does so by content and is the default, with restic's cuts; [`Fixed`] does so by position. A repository may hold
//! chunks of both, since readers never cut.
//!
//! Always true: cuts depend on the bytes of the stream alone, neither on how it arrives in memory nor on the machine.
//! Nothing here reads, allocates per byte, or can fail; the pipeline owns the buffers and asks one [`Cutter`] per stream.

mod fixed;
mod polynomial;
mod rabin;

use std::sync::Arc;

pub use fixed::Fixed;
pub use polynomial::{DEGREES, Polynomial, PolynomialError};
pub use rabin::{Rabin, RabinSizes, RabinSizesError};

/// How a stream is cut. Cheap to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Chunking {
    /// By content, as restic does.
    Rabin(Arc<Rabin>),
    /// By position.
    Fixed(Fixed),
}

impl Chunking {
    /// Begins a stream.
    #[must_use]
    pub fn cutter(&self) -> Cutter {
        Cutter { chunking: self.clone(), length_next: 0 }
    }

    /// The length of the longest chunk: a buffer of so many bytes always holds a cut.
    #[must_use]
    pub fn max_chunk_bytes(&self) -> usize {
        match self {
            Self::Rabin(rabin) => rabin.sizes().max_bytes,
            Self::Fixed(fixed) => fixed.bytes(),
        }
    }

    /// The length of the shortest chunk that is not the last of its stream.
    #[must_use]
    pub fn min_chunk_bytes(&self) -> usize {
        match self {
            Self::Rabin(rabin) => rabin.sizes().min_bytes,
            Self::Fixed(fixed) => fixed.bytes(),
        }
    }
}

/// Finds the cuts of one stream, chunk after chunk, while its bytes arrive.
#[derive(Clone, Debug)]
pub struct Cutter {
    chunking: Chunking,
    /// The shortest length of the current chunk that has not been ruled out yet.
    length_next: usize,
}

impl Cutter {
    /// The length at which the current chunk ends, or `None` if that takes more bytes than `chunk`.
    ///
    /// `chunk` is all of the stream that is in memory, from the start of the current chunk on; after `None` the next
    /// call must present the same bytes with more behind them. It pays to present many at a time (64 KiB or more).
    /// After `Some(length)` the next call's `chunk` begins behind these `length` bytes, and may be empty. At the end of
    /// the stream, what is left after `None` is the last chunk, unless it is empty.
    ///
    /// A byte is searched once, whatever the number of calls.
    pub fn next_cut(&mut self, chunk: &[u8]) -> Option<usize> {
        let cut = match &self.chunking {
            Chunking::Rabin(rabin) => rabin.first_cut(chunk, self.length_next),
            Chunking::Fixed(fixed) => (chunk.len() >= fixed.bytes()).then_some(fixed.bytes()),
        };
        self.length_next = if cut.is_some() { 0 } else { self.length_next.max(chunk.len() + 1) };
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CHUNK_BYTES_MAX;
    use proptest::prelude::*;
    use std::num::NonZeroUsize;

    const RESTIC: u64 = 0x3D_A335_8B4D_C173;

    /// Marsaglia's xorshift64 with the shifts 13, 7, 17: the random numbers of the known answers.
    pub(in crate::chunk) fn xorshift(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        }
    }

    fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
        let mut numbers = xorshift(seed);
        let mut bytes: Vec<u8> = (0..count.div_ceil(8)).flat_map(|_| numbers().to_le_bytes()).collect();
        bytes.truncate(count);
        bytes
    }

    fn rabin(bits: u64, min_bytes: usize, average_bits: u32, max_bytes: usize) -> Chunking {
        let sizes = RabinSizes { min_bytes, average_bits, max_bytes };
        let polynomial = Polynomial::from_bits(bits).unwrap();
        Chunking::Rabin(Arc::new(Rabin::with_sizes(polynomial, sizes).unwrap()))
    }

    /// Chunk lengths of `data` as the pipeline would find them, the buffer growing by `steps` in rotation.
    fn chunk_lengths(chunking: &Chunking, data: &[u8], steps: &[usize]) -> Vec<usize> {
        let mut cutter = chunking.cutter();
        let mut steps = steps.iter().cycle();
        let (mut start, mut end) = (0, 0);
        let mut lengths = Vec::new();
        loop {
            if let Some(length) = cutter.next_cut(&data[start..end]) {
                lengths.push(length);
                start += length;
            } else if end < data.len() {
                end = data.len().min(end + steps.next().unwrap());
            } else {
                lengths.extend((start < end).then_some(end - start));
                return lengths;
            }
        }
    }

    /// The same straight from the definition: the remainder of each window by long division, bit after bit.
    fn lengths_by_definition(rabin: &Rabin, data: &[u8]) -> Vec<usize> {
        let RabinSizes { min_bytes, average_bits, max_bytes } = rabin.sizes();
        let divisor = rabin.polynomial().bits();
        let top = 1 << rabin.polynomial().degree();
        let fingerprint = |window: &[u8]| {
            let mut rest = 0_u64;
            for &byte in window {
                let mut place = 0x80;
                while place > 0 {
                    rest = rest << 1 | u64::from(byte & place > 0);
                    if rest & top > 0 {
                        rest ^= divisor;
                    }
                    place >>= 1;
                }
            }
            rest
        };
        let mut lengths = Vec::new();
        let mut start = 0;
        while start < data.len() {
            let chunk = &data[start..];
            let length = (min_bytes..chunk.len())
                .find(|&length| {
                    let hash = fingerprint(&chunk[length - 64..length]);
                    length >= max_bytes || hash & ((1 << average_bits) - 1) == 0
                })
                .unwrap_or(chunk.len());
            lengths.push(length);
            start += length;
        }
        lengths
    }

    fn assert_as_defined(chunking: &Chunking, data: &[u8], steps: &[usize]) {
        let Chunking::Rabin(rabin) = chunking else { unreachable!("only Rabin has a definition to compare with") };
        let found = chunk_lengths(chunking, data, steps);
        assert_eq!(found, lengths_by_definition(rabin, data), "{rabin:?}, {} bytes", data.len());
    }

    #[test]
    fn restic_cuts_this_data_at_the_same_places() {
        // restic 0.14.0 and 0.18.1 backed these bytes up into a new repository; the polynomial stood in its
        // configuration, and the lengths in its index under the ids of the file's content.
        let lengths = [
            2_402_504, 3_772_917, 657_836, 701_110, 1_054_256, 707_501, 3_662_341, 592_935, 1_830_929, 2_814_071,
            1_966_199, 619_925, 904_831, 704_465, 1_334_845, 754_306, 1_948_279, 797_011, 1_528_631, 618_690,
            1_827_986, 688_239, 1_664_625,
        ];
        let data = random_bytes(0x9E37_79B9_7F4A_7C15, lengths.iter().sum());
        let polynomial = "3f9ca352ea8b83".parse().unwrap();
        let chunking = Chunking::Rabin(Arc::new(Rabin::new(polynomial)));
        assert_eq!(chunk_lengths(&chunking, &data, &[1 << 20]), lengths);
    }

    #[test]
    fn restics_chunker_with_other_sizes_and_degrees_cuts_at_the_same_places() {
        // Count and hash of the lengths from github.com/restic/chunker 0.4.0, NewWithBoundaries and SetAverageBits.
        let data = random_bytes(0x9E37_79B9_7F4A_7C15, 1 << 20);
        for (bits, count, hash) in [
            (RESTIC, 827, 14_701_487_070_751_931_806),
            (0x10_0009, 827, 8_048_800_377_867_038_870),
            (0x11B, 830, 15_957_961_737_954_235_704),
        ] {
            let lengths = chunk_lengths(&rabin(bits, 1024, 8, 30_000), &data, &[65_536]);
            let hashed =
                lengths.iter().fold(0_u64, |hash, &length| hash.wrapping_mul(1_000_003).wrapping_add(length as u64));
            assert_eq!((lengths.len(), hashed), (count, hash), "polynomial {bits:x}");
        }
    }

    #[test]
    fn zeros_are_cut_at_the_minimum() {
        let chunking = Chunking::Rabin(Arc::new(Rabin::new(Polynomial::from_bits(RESTIC).unwrap())));
        let lengths = chunk_lengths(&chunking, &vec![0; 1_200_000], &[300_000]);
        assert_eq!(lengths, [524_288, 524_288, 151_424]);
    }

    #[test]
    fn data_without_a_hit_is_cut_at_the_maximum() {
        // Of a constant stream every window has the same hash, here not that of a cut.
        let chunking = rabin(RESTIC, 1000, 20, 70_000);
        assert_eq!(chunk_lengths(&chunking, &[1; 150_000], &[7_000]), [70_000, 70_000, 10_000]);
        assert_as_defined(&chunking, &[1; 150_000], &[150_000]);
    }

    #[test]
    fn an_empty_stream_has_no_chunk_and_a_short_one_has_one() {
        let chunking = rabin(RESTIC, 1000, 4, 2000);
        assert_eq!(chunk_lengths(&chunking, &[], &[1]), [0; 0]);
        assert_eq!(chunk_lengths(&chunking, &[0; 999], &[1]), [999]);
        assert_eq!(chunk_lengths(&chunking, &[0; 1000], &[1]), [1000]);
    }

    #[test]
    fn chunks_much_longer_than_a_batch_are_cut_as_defined() {
        let data = random_bytes(7, 120_000);
        for average_bits in [14, 16] {
            assert_as_defined(&rabin(RESTIC, 64, average_bits, 90_000), &data, &[120_000]);
        }
    }

    #[test]
    fn minimum_equal_to_maximum_cuts_at_exactly_that_length() {
        let data = random_bytes(3, 10_000);
        assert_eq!(chunk_lengths(&rabin(RESTIC, 4096, 20, 4096), &data, &[999]), [4096, 4096, 1808]);
    }

    #[test]
    fn sizes_that_contradict_themselves_are_refused() {
        let with = |min_bytes, average_bits, max_bytes| {
            let polynomial = Polynomial::from_bits(RESTIC).unwrap();
            Rabin::with_sizes(polynomial, RabinSizes { min_bytes, average_bits, max_bytes }).map(|_| ())
        };
        assert_eq!(with(64, 53, 64), Ok(()));
        assert_eq!(with(63, 20, 100), Err(RabinSizesError::MinBelowWindow { min_bytes: 63 }));
        assert_eq!(with(100, 20, 99), Err(RabinSizesError::MaxBelowMin { min_bytes: 100, max_bytes: 99 }));
        let over = CHUNK_BYTES_MAX + 1;
        assert_eq!(with(64, 20, over), Err(RabinSizesError::MaxAboveLimit { max_bytes: over }));
        assert_eq!(with(64, 54, 100), Err(RabinSizesError::AverageAboveDegree { average_bits: 54, degree: 53 }));
    }

    #[test]
    fn the_bounds_of_a_chunk_are_those_of_its_chunking() {
        let content = Chunking::Rabin(Arc::new(Rabin::new(Polynomial::from_bits(RESTIC).unwrap())));
        assert_eq!((content.min_chunk_bytes(), content.max_chunk_bytes()), (524_288, 8_388_608));
        let fixed = Chunking::Fixed(Fixed::new(NonZeroUsize::new(8192).unwrap()));
        assert_eq!((fixed.min_chunk_bytes(), fixed.max_chunk_bytes()), (8192, 8192));
    }

    /// Streams from noise to monotony: random bytes, few values, and short patterns repeated with rare slips.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let noise = (any::<u64>(), 0_usize..40_000).prop_map(|(seed, count)| random_bytes(seed | 1, count));
        let few_values = noise.clone().prop_map(|bytes| bytes.iter().map(|byte| byte & 1).collect());
        let runs = prop::collection::vec((any::<u8>(), 1_usize..300), 0..100)
            .prop_map(|runs| runs.into_iter().flat_map(|(byte, count)| std::iter::repeat_n(byte % 3, count)).collect());
        let pattern = (prop::collection::vec(any::<u8>(), 1..90), 1_usize..500)
            .prop_map(|(pattern, count)| pattern.repeat(count));
        prop_oneof![3 => noise, 1 => few_values, 2 => runs, 2 => pattern]
    }

    /// Sizes from many cuts to few, with polynomials of the largest, a middle and the smallest degree.
    fn chunking() -> impl Strategy<Value = Chunking> {
        let bits = prop_oneof![3 => Just(RESTIC), 1 => Just(0x10_0009), 1 => Just(0x11B)];
        (bits, 64_usize..2000, 0_u32..17, 0_usize..80_000).prop_map(|(bits, min_bytes, average_bits, span)| {
            rabin(bits, min_bytes, average_bits.min(bits.ilog2()), min_bytes + span)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn cuts_are_those_of_the_definition_however_the_buffer_grows(
            chunking in chunking(),
            data in stream(),
            steps in prop::collection::vec(prop_oneof![1_usize..70, 1_usize..5000, 1_usize..50_000], 1..8),
        ) {
            assert_as_defined(&chunking, &data, &steps);
        }

        #[test]
        fn fixed_cuts_have_one_length_but_the_last(
            bytes in 1_usize..3000,
            count in 0_usize..20_000,
            steps in prop::collection::vec(1_usize..5000, 1..8),
        ) {
            let chunking = Chunking::Fixed(Fixed::new(NonZeroUsize::new(bytes).unwrap()));
            let lengths = chunk_lengths(&chunking, &vec![0; count], &steps);
            let whole = count / bytes;
            prop_assert_eq!(lengths.len(), count.div_ceil(bytes));
            prop_assert!(lengths[..whole].iter().all(|&length| length == bytes));
            prop_assert_eq!(lengths.iter().sum::<usize>(), count);
        }
    }
}
