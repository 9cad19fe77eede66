//! Where every blob is: the indexes of a repository in memory, at 48 bytes a blob.
//!
//! Entries are sorted by blob and found by interpolation, because names are hashes and therefore evenly spread. A blob
//! that lies in several packs has several entries; those in packs that are marked for deletion come last and do not
//! count as known to a backup, but are still read from when nothing else is left.

use std::collections::HashMap;
use std::fmt;

use jiff::Timestamp;

use super::index_file::{IndexFile, IndexPack};
use crate::model::{BlobId, BlobKind, IndexId, PackId};
use crate::pack::PackedBlob;

/// Where a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobLocation {
    /// The pack.
    pub pack: PackId,
    /// The pack's number in the index, for bitmaps.
    pub pack_number: u32,
    /// The place in it.
    pub blob: PackedBlob,
}

/// A pack as the index knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackInfo {
    /// Its name.
    pub id: PackId,
    /// The size that the object must have.
    pub bytes: u64,
    /// When it was marked for deletion, if it is.
    pub marked: Option<Timestamp>,
    /// How many blobs it holds.
    pub blobs: u32,
}

/// The indexes of a repository in memory.
#[derive(Default)]
pub struct Index {
    data: Vec<Place>,
    trees: Vec<Place>,
    packs: Vec<PackInfo>,
    files: Vec<IndexId>,
}

/// 48 bytes, of which 32 cannot be saved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    id: BlobId,
    /// Unmarked packs have the smaller numbers, so that sorting puts their entries first.
    pack: u32,
    offset: u32,
    length: u32,
    /// 0 when the blob is not compressed.
    plain_bytes: u32,
}

const _: () = assert!(size_of::<Place>() == 48);

impl Index {
    /// The place of a blob; one in an unmarked pack when there is one.
    pub fn find(&self, kind: BlobKind, id: &BlobId) -> Option<BlobLocation> {
        self.find_all(kind, id).next()
    }

    /// All places of a blob, those in unmarked packs first.
    pub fn find_all(&self, kind: BlobKind, id: &BlobId) -> impl Iterator<Item = BlobLocation> {
        let places = self.places(kind);
        let first = first_at_or_after(places, id);
        let id = *id;
        places[first..].iter().take_while(move |place| place.id == id).map(move |place| self.location(kind, place))
    }

    /// Whether a backup may rely on a blob that is there: the number of an unmarked pack that holds it.
    pub fn known(&self, kind: BlobKind, id: &BlobId) -> Option<u32> {
        let places = self.places(kind);
        let place = places.get(first_at_or_after(places, id)).filter(|place| place.id == *id)?;
        self.packs[place.pack as usize].marked.is_none().then_some(place.pack)
    }

    /// The packs, those that are not marked first. A pack's number is its place here.
    pub fn packs(&self) -> &[PackInfo] {
        &self.packs
    }

    /// The index objects that this was made of.
    pub fn files(&self) -> &[IndexId] {
        &self.files
    }

    /// How many blobs of a kind there are, a blob in two packs counted twice.
    pub fn len(&self, kind: BlobKind) -> usize {
        self.places(kind).len()
    }

    /// Whether no blob is known.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty() && self.trees.is_empty()
    }

    /// All blobs of a kind in the order of their names.
    pub fn blobs(&self, kind: BlobKind) -> impl Iterator<Item = BlobLocation> {
        self.places(kind).iter().map(move |place| self.location(kind, place))
    }

    /// The position of a blob's first place in [`Index::blobs`], for bitmaps.
    pub fn position(&self, kind: BlobKind, id: &BlobId) -> Option<usize> {
        let places = self.places(kind);
        let first = first_at_or_after(places, id);
        places.get(first).is_some_and(|place| place.id == *id).then_some(first)
    }

    /// What stands at a position of [`Index::blobs`].
    pub fn at(&self, kind: BlobKind, position: usize) -> Option<BlobLocation> {
        self.places(kind).get(position).map(|place| self.location(kind, place))
    }

    fn places(&self, kind: BlobKind) -> &[Place] {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    fn location(&self, kind: BlobKind, place: &Place) -> BlobLocation {
        let plain_bytes = (place.plain_bytes != 0).then_some(place.plain_bytes);
        let Place { id, offset, length, pack, .. } = *place;
        BlobLocation {
            pack: self.packs[pack as usize].id,
            pack_number: pack,
            blob: PackedBlob { id, kind, offset, length, plain_bytes },
        }
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data, trees, packs, files } = self;
        write!(f, "Index({} data, {} trees, {} packs, {} files)", data.len(), trees.len(), packs.len(), files.len())
    }
}

/// The number of the first place whose id is not before `id`.
fn first_at_or_after(places: &[Place], id: &BlobId) -> usize {
    let head = |id: &BlobId| u64::from_be_bytes(*id.as_bytes().first_chunk().unwrap_or(&[0; 8]));
    let count = places.len();
    #[expect(clippy::cast_possible_truncation, reason = "the product's upper half is below `count`")]
    let guess = ((u128::from(head(id)) * count as u128) >> 64) as usize;
    // Evenly spread names lie within a few square roots of where they are expected; anything else costs a wider look.
    let (mut low, mut high, mut step) = (guess, guess, 16);
    while low > 0 && places[low - 1].id >= *id {
        low = low.saturating_sub(step);
        step *= 4;
    }
    step = 16;
    while high < count && places[high].id < *id {
        high = (high + step).min(count);
        step *= 4;
    }
    low + places[low..high].partition_point(|place| place.id < *id)
}

/// Puts index objects together.
#[derive(Default)]
pub struct IndexBuilder {
    index: Index,
    numbers: HashMap<PackId, u32>,
}

impl IndexBuilder {
    /// Adds the content of one index object.
    pub fn add(&mut self, id: IndexId, file: &IndexFile) {
        self.index.files.push(id);
        for pack in &file.packs {
            self.add_pack(pack, None);
        }
        for pack in &file.packs_to_delete {
            // A mark without a time was just made: the longest wait is the safe one.
            self.add_pack(pack, Some(pack.time.unwrap_or(Timestamp::MAX)));
        }
    }

    /// Adds one pack.
    fn add_pack(&mut self, pack: &IndexPack, marked: Option<Timestamp>) {
        if let Some(number) = self.numbers.get(&pack.id).copied() {
            // The same pack in two index objects: while a prune or repair is between writing the new index and
            // deleting the old one. One that somebody still lists as in use is in use.
            let info = &mut self.index.packs[number as usize];
            info.marked = info.marked.zip(marked).map(|(one, other)| one.max(other));
            // A mark of a pack that no index knew has no blobs; its writer may have come to list them since.
            if info.blobs == 0 && !pack.blobs.is_empty() {
                info.bytes = pack.bytes();
                self.add_blobs(number, pack);
            }
            return;
        }
        let Ok(number) = u32::try_from(self.index.packs.len()) else { return };
        self.numbers.insert(pack.id, number);
        self.index.packs.push(PackInfo { id: pack.id, bytes: pack.bytes(), marked, blobs: 0 });
        self.add_blobs(number, pack);
    }

    fn add_blobs(&mut self, number: u32, pack: &IndexPack) {
        self.index.packs[number as usize].blobs = u32::try_from(pack.blobs.len()).unwrap_or(u32::MAX);
        for blob in pack.packed_blobs() {
            let PackedBlob { id, kind, offset, length, plain_bytes } = blob;
            let place = Place { id, pack: number, offset, length, plain_bytes: plain_bytes.unwrap_or(0) };
            match kind {
                BlobKind::Data => self.index.data.push(place),
                BlobKind::Tree => self.index.trees.push(place),
            }
        }
    }

    /// The finished index.
    pub fn finish(self) -> Index {
        let mut index = self.index;
        drop(self.numbers);
        // Unmarked packs get the smaller numbers; `Place` sorts by pack number within a blob.
        let mut order: Vec<u32> = (0..).take(index.packs.len()).collect();
        order.sort_by_key(|number| index.packs[*number as usize].marked.is_some());
        let mut renumbered = vec![0; order.len()];
        for (new, old) in (0..).zip(&order) {
            renumbered[*old as usize] = new;
        }
        index.packs = order.iter().map(|number| index.packs[*number as usize].clone()).collect();
        for places in [&mut index.data, &mut index.trees] {
            for place in &mut *places {
                place.pack = renumbered[place.pack as usize];
            }
            places.sort_unstable();
            places.shrink_to_fit();
        }
        index
    }
}

impl fmt::Debug for IndexBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IndexBuilder({:?})", self.index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(name: &[u8], blobs: &[BlobId]) -> IndexPack {
        let blobs: Vec<_> = blobs
            .iter()
            .map(|id| PackedBlob { id: *id, kind: BlobKind::Data, offset: 0, length: 40, plain_bytes: None })
            .collect();
        IndexPack::new(PackId::of(name), &blobs)
    }

    fn index(packs: Vec<IndexPack>, packs_to_delete: Vec<IndexPack>) -> Index {
        let mut builder = IndexBuilder::default();
        builder.add(IndexId::of(b"i"), &IndexFile { packs, packs_to_delete, ..IndexFile::default() });
        builder.finish()
    }

    #[test]
    fn a_blob_in_a_marked_pack_is_readable_but_not_known() {
        let (a, b) = (BlobId::of(b"a"), BlobId::of(b"b"));
        let index = index(vec![pack(b"1", &[a])], vec![pack(b"0", &[a, b])]);
        assert_eq!(index.find(BlobKind::Data, &a).unwrap().pack, PackId::of(b"1"));
        assert_eq!(index.find_all(BlobKind::Data, &a).count(), 2);
        assert!(index.known(BlobKind::Data, &a).is_some());
        assert!(index.find(BlobKind::Data, &b).is_some());
        assert!(index.known(BlobKind::Data, &b).is_none());
        assert!(index.find(BlobKind::Tree, &a).is_none());
    }

    #[test]
    fn a_pack_that_one_index_uses_and_another_marks_is_in_use() {
        let a = BlobId::of(b"a");
        let index = index(vec![pack(b"1", &[a])], vec![pack(b"1", &[a])]);
        assert_eq!(index.packs().len(), 1);
        assert!(index.known(BlobKind::Data, &a).is_some());
    }

    #[test]
    fn a_mark_without_blobs_does_not_hide_what_another_index_lists() {
        let a = BlobId::of(b"a");
        let mark = IndexPack { size: Some(113), ..pack(b"1", &[]) };
        for marks_first in [true, false] {
            let mut files = [
                IndexFile { packs_to_delete: vec![mark.clone()], ..IndexFile::default() },
                IndexFile { packs: vec![pack(b"1", &[a])], ..IndexFile::default() },
            ];
            if !marks_first {
                files.reverse();
            }
            let mut builder = IndexBuilder::default();
            for file in &files {
                builder.add(IndexId::of(b"i"), file);
            }
            let index = builder.finish();
            assert!(index.known(BlobKind::Data, &a).is_some());
            assert_eq!((index.packs().len(), index.packs()[0].blobs), (1, 1));
        }
    }

    proptest! {
        #[test]
        fn every_blob_is_found_and_no_other(
            present in proptest::collection::btree_set(any::<[u8; 2]>(), 0..300), spread: bool, asked in any::<[u8; 2]>()
        ) {
            // Hashes, and names that all begin alike: interpolation must be right for both.
            let id = |short: &[u8; 2]| {
                if spread { BlobId::of(short) } else {
                    let mut bytes = [0xfe; 32];
                    bytes[30..].copy_from_slice(short);
                    BlobId::from_bytes(bytes)
                }
            };
            let ids: Vec<_> = present.iter().map(id).collect();
            let index = index(vec![pack(b"1", &ids)], Vec::new());
            for id in &ids {
                prop_assert_eq!(index.find(BlobKind::Data, id).unwrap().blob.id, *id);
            }
            prop_assert_eq!(index.known(BlobKind::Data, &id(&asked)).is_some(), present.contains(&asked));
        }
    }
}
