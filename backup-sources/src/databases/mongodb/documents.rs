//! The bytes of documents one behind the other, as files of a dump have them: where each ends, and what they add up to.
//!
//! The hash of a collection is the sum, modulo 2¹²⁸, of XXH3-128 of each document's bytes: it does not depend on their
//! order. A sum and not an exclusive or: two equal documents would cancel each other out.

use xxhash_rust::xxh3::xxh3_128;

/// What a document may be at most: 16 MiB, and what servers add to their own (`MaxBSONSize` of mongo-tools).
const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024 + 16 * 1024;

/// The shortest document: its length and its end.
const DOCUMENT_BYTES_MIN: usize = 5;

/// What the documents of a collection add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) count: u64,
    hashes: u128,
}

impl Sum {
    /// Adds a document.
    pub(super) fn add(&mut self, document: &[u8]) {
        self.count += 1;
        self.hashes = self.hashes.wrapping_add(xxh3_128(document));
    }

    /// Adds what others add up to.
    pub(super) fn join(&mut self, other: Self) {
        self.count += other.count;
        self.hashes = self.hashes.wrapping_add(other.hashes);
    }

    /// As an expectation has it.
    pub(super) fn hash(&self) -> String {
        format!("documents-xxh3-128-sum:{:032x}", self.hashes)
    }
}

/// Finds the documents in bytes that come in any pieces.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// The beginning of a document whose end has not come.
    partial: Vec<u8>,
}

impl Splitter {
    /// The next bytes; `each` is given every document that is whole now.
    ///
    /// # Errors
    ///
    /// When they are no documents, or when `each` fails.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.partial.is_empty()
                && let Some(length) = length_of(bytes)?
                && length <= bytes.len()
            {
                let (document, rest) = bytes.split_at(length);
                each(checked(document)?)?;
                bytes = rest;
                continue;
            }
            let wanted = length_of(&self.partial)?.unwrap_or(size_of::<i32>());
            let (taken, rest) = bytes.split_at(bytes.len().min(wanted - self.partial.len()));
            self.partial.extend_from_slice(taken);
            bytes = rest;
            if length_of(&self.partial)? == Some(self.partial.len()) {
                each(checked(&self.partial)?)?;
                self.partial.clear();
            }
        }
        Ok(())
    }

    /// Whether everything that came was whole documents.
    pub(super) fn is_between(&self) -> bool {
        self.partial.is_empty()
    }
}

/// The length of the document that `bytes` begin with; `None` when there is too little of it.
fn length_of(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(first) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(i32::from_le_bytes(*first)).unwrap_or_default();
    match length {
        DOCUMENT_BYTES_MIN..=DOCUMENT_BYTES_MAX => Ok(Some(length)),
        _ => Err("there is no document where one should begin".to_owned()),
    }
}

fn checked(document: &[u8]) -> Result<&[u8], String> {
    match document.last() {
        Some(0) => Ok(document),
        _ => Err("a document does not end where it should".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{doc, serialize_to_vec};
    use proptest::prelude::*;

    use super::*;

    fn documents() -> Vec<Vec<u8>> {
        let texts = ["", "short", &"long".repeat(500)];
        let made = texts.iter().enumerate().map(|(index, text)| {
            serialize_to_vec(&doc! {"_id": i32::try_from(index).unwrap(), "text": *text}).unwrap()
        });
        made.chain([vec![5, 0, 0, 0, 0]]).collect()
    }

    #[test]
    fn a_sum_does_not_depend_on_the_order_and_counts_twins() {
        let (mut forth, mut back, mut twice) = (Sum::default(), Sum::default(), Sum::default());
        documents().iter().for_each(|document| forth.add(document));
        documents().iter().rev().for_each(|document| back.add(document));
        documents().iter().chain(&documents()).for_each(|document| twice.add(document));
        assert_eq!(forth, back);
        assert_ne!(twice.hash(), forth.hash());
        assert_ne!(twice.hash(), Sum::default().hash());
    }

    proptest! {
        #[test]
        fn documents_are_found_in_whatever_pieces_they_come(steps in prop::collection::vec(1_usize..700, 1..9)) {
            let all = documents().concat();
            let (mut splitter, mut found, mut rest) = (Splitter::default(), Vec::new(), &all[..]);
            for step in steps.iter().cycle() {
                let (piece, behind) = rest.split_at(rest.len().min(*step));
                splitter.feed(piece, |document| { found.push(document.to_vec()); Ok(()) }).unwrap();
                rest = behind;
                if rest.is_empty() { break; }
            }
            prop_assert!(splitter.is_between());
            prop_assert_eq!(found, documents());
        }
    }

    #[test]
    fn what_is_cut_short_or_no_document_is_noticed() {
        let all = documents().concat();
        for cut in 1..30 {
            let mut splitter = Splitter::default();
            let outcome = splitter.feed(&all[..all.len() - cut], |_| Ok(()));
            assert!(outcome.is_ok() && (!splitter.is_between() || cut == 5), "{cut}");
        }
        for wrong in [&[4, 0, 0, 0][..], &[0xff; 4], &[0, 0, 0, 0x7f], &[5, 0, 0, 0, 1]] {
            assert!(Splitter::default().feed(wrong, |_| Ok(())).is_err());
        }
        let mut splitter = Splitter::default();
        assert_eq!(splitter.feed(&all, |_| Err("enough".into())).unwrap_err(), "enough");
    }
}
