//! One bit for each position of an index, set by many threads at once.

use std::sync::atomic::{AtomicU64, Ordering};

/// A set of positions below a fixed number.
#[derive(Debug, Default)]
pub(super) struct Bitmap(Vec<AtomicU64>);

impl Bitmap {
    /// An empty set of positions below `len`.
    pub(super) fn new(len: usize) -> Self {
        Self((0..len.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Adds a position; says whether it is new. One that is out of range is never new.
    pub(super) fn insert(&self, position: usize) -> bool {
        let bit = 1 << (position % 64);
        // Each bit stands for itself: no other memory is published by it.
        self.0.get(position / 64).is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    /// How many positions are in it.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }

    /// The positions in it, rising.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(number, word)| {
            let mut rest = word.load(Ordering::Relaxed);
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(number * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bitmap_is_a_set_of_numbers(numbers in proptest::collection::vec(0..300_usize, 0..100)) {
            let bitmap = Bitmap::new(300);
            let mut set = BTreeSet::new();
            for number in numbers {
                prop_assert_eq!(bitmap.insert(number), set.insert(number));
            }
            prop_assert_eq!(bitmap.count(), set.len() as u64);
            prop_assert!(!bitmap.insert(400));
            prop_assert!(bitmap.iter().eq(set));
        }
    }
}
