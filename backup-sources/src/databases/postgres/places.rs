//! Where the data of each entry begins in a dump, kept in its manifest: pg_dump writes the table of contents of a stream
//! before it knows, and who wants one table, or several at once, would have to read everything that lies before them.
//!
//! Whoever reads a place looks whether its block is there (`block.rs`): a manifest may say anything. The source notes them, a
//! restore and its sandbox ask for them.

use backup_core::contracts::Stored;
use backup_core::limits::PIPED_BYTES_MIN;
use backup_core::model::SnapshotPath;
use serde_json::{Map, Value};

use super::archive::Block;
use crate::databases::manifest::Manifest;

/// The detail of a manifest that has them: the number of an entry, and the byte of the dump that its data begins at.
const DATA_BEGINS: &str = "data_begins";

/// Where blocks of data begin, in their order.
#[derive(Debug)]
pub(super) struct Places(Vec<(i32, u64)>);

/// Where a block of data lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Of its entry.
    pub(super) number: i32,
    pub(super) begins: u64,
    /// What it takes in the dump.
    pub(super) bytes: u64,
}

/// Notes the places in the details of a manifest.
pub(super) fn note(blocks: &[Block], details: &mut Map<String, Value>) {
    let begins = blocks.iter().map(|block| (block.number.to_string(), block.begins.into()));
    details.insert(DATA_BEGINS.to_owned(), Value::Object(begins.collect()));
}

impl Places {
    /// What a manifest has; `None` of a dump that was not looked into, or by an earlier version of this program.
    pub(super) fn of(details: &Map<String, Value>) -> Option<Self> {
        let begins = details.get(DATA_BEGINS)?.as_object()?.iter();
        let each: Option<Vec<_>> =
            begins.map(|(number, begins)| Some((number.parse().ok()?, begins.as_u64()?))).collect();
        let mut each = each?;
        each.sort_unstable_by_key(|&(_, begins)| begins);
        Some(Self(each))
    }

    /// Each with its length, in their order. `None` when the dump is shorter.
    pub(super) fn each(&self, dump: &SnapshotPath, stored: &dyn Stored) -> Option<Vec<Place>> {
        let ends = self.0.iter().skip(1).map(|&(_, begins)| begins).chain(stored.size(dump));
        let each = self.0.iter().zip(ends);
        each.map(|(&(number, begins), ends)| Some(Place { number, begins, bytes: ends.checked_sub(begins)? })).collect()
    }
}

/// The most that is written to a folder of a dump of so many bytes before it is loaded; all of it where that is not known.
pub(super) fn laid_bytes(manifest: &Manifest, dump_bytes: u64) -> u64 {
    let has_objects = manifest.report.expectations.iter().any(|expected| expected.kind == "large objects");
    let Some(Places(places)) = Places::of(&manifest.details).filter(|_| !has_objects) else { return dump_bytes };
    let ends = places.iter().skip(1).map(|&(_, begins)| begins).chain([dump_bytes]);
    let sizes = places.iter().zip(ends).map(|(&(_, begins), ends)| ends.saturating_sub(begins));
    let contents = places.first().map_or(dump_bytes, |&(_, begins)| begins);
    sizes.filter(|&bytes| bytes < PIPED_BYTES_MIN).fold(contents, u64::saturating_add).min(dump_bytes)
}

#[cfg(test)]
mod tests {
    use backup_core::contracts::{Expectation, Report};

    use super::*;
    use crate::databases::url::Engine;

    #[test]
    fn only_small_tables_take_space() {
        let mut manifest = Manifest::new(Engine::Postgres, "app", Report::default());
        assert_eq!(laid_bytes(&manifest, 9_000_000), 9_000_000, "it is not known where they are");
        let block = |number, begins| Block { number, begins, entry_place: 0 };
        note(&[block(1, 1_000), block(2, 8_000_000), block(3, 8_500_000)], &mut manifest.details);
        assert_eq!(laid_bytes(&manifest, 9_000_000), 1_000 + 500_000 + 500_000);
        let objects = Expectation { kind: "large objects".into(), object: "all".into(), count: None, hash: None };
        manifest.report.expectations.push(objects);
        assert_eq!(laid_bytes(&manifest, 9_000_000), 9_000_000, "large objects are laid down too");
    }

    #[test]
    fn places_come_back_in_their_order() {
        let block = |number, begins| Block { number, begins, entry_place: 0 };
        let mut details = Map::new();
        assert!(Places::of(&details).is_none());
        note(&[block(20, 300), block(3, 4_000)], &mut details);
        assert_eq!(Places::of(&details).unwrap().0, [(20, 300), (3, 4_000)]);
        details.insert(DATA_BEGINS.to_owned(), serde_json::json!({"x": 1}));
        assert!(Places::of(&details).is_none());
    }
}
