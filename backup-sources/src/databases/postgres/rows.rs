//! What the rows of a table add up to, and what large objects do: counts, and hashes that do not depend on an order.
//!
//! The hash of a table is the sum, modulo 2¹²⁸, of XXH3-128 of each row's line in COPY's text form, without its line end.
//! A sum and not an exclusive or: two equal rows would cancel each other out. It finds what was lost, doubled, cut off
//! or changed by accident; it is no seal against somebody who can choose the data, and needs to be none: the repository
//! has its own.

use backup_core::contracts::Expectation;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// The rows of one table, as they come.
pub(super) struct Rows {
    count: u64,
    sum: u128,
    /// The beginning of a row whose end has not come.
    partial: Partial,
    /// The order of fields, when it is not that of the columns.
    order: Option<Vec<usize>>,
    /// Whether the line that ends the data has come.
    is_at_end: bool,
    /// Bytes that came behind that line.
    bytes_behind: usize,
}

/// What is known of a row whose end has not come.
enum Partial {
    None,
    /// Kept whole: it is short, or its fields must be put in order.
    Kept(Vec<u8>),
    /// Hashed so far. A row may be as long as memory.
    Hashed(Box<Xxh3>),
}

/// A row this long is hashed as it comes.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// The line that ends the data of a table; no row can be it, for a backslash in a row is doubled.
const END: &[u8] = b"\\.";

/// What pg_dump writes behind that line: two ends of lines.
const BYTES_BEHIND: usize = 2;

impl Rows {
    /// Of a table; `order` as `contents.rs` says.
    pub(super) fn new(order: Option<Vec<usize>>) -> Self {
        Self { count: 0, sum: 0, partial: Partial::None, order, is_at_end: false, bytes_behind: 0 }
    }

    /// The next bytes of its data.
    pub(super) fn add(&mut self, mut bytes: &[u8]) {
        while !self.is_at_end
            && let Some(end) = memchr::memchr(b'\n', bytes)
        {
            let (line, rest) = bytes.split_at(end);
            bytes = &rest[1..];
            match std::mem::replace(&mut self.partial, Partial::None) {
                Partial::None => self.row(line),
                Partial::Kept(mut kept) => {
                    kept.extend_from_slice(line);
                    self.row(&kept);
                }
                Partial::Hashed(mut hash) => {
                    hash.update(line);
                    self.count += 1;
                    self.sum = self.sum.wrapping_add(hash.digest128());
                }
            }
        }
        match self.is_at_end {
            true => self.bytes_behind += bytes.len(),
            false if !bytes.is_empty() => self.begin(bytes),
            false => {}
        }
    }

    fn row(&mut self, row: &[u8]) {
        if row == END {
            self.is_at_end = true;
            return;
        }
        self.count += 1;
        let hash = match &self.order {
            None => xxh3_128(row),
            Some(order) => {
                let fields: Vec<&[u8]> = row.split(|&byte| byte == b'\t').collect();
                let sorted: Vec<&[u8]> = order.iter().filter_map(|&place| fields.get(place).copied()).collect();
                xxh3_128(&sorted.join(&b'\t'))
            }
        };
        self.sum = self.sum.wrapping_add(hash);
    }

    fn begin(&mut self, bytes: &[u8]) {
        match &mut self.partial {
            Partial::None => self.partial = Partial::Kept(bytes.to_vec()),
            Partial::Kept(kept) => kept.extend_from_slice(bytes),
            Partial::Hashed(hash) => hash.update(bytes),
        }
        if let Partial::Kept(kept) = &self.partial
            && kept.len() > KEPT_BYTES_MAX
            && self.order.is_none()
        {
            let mut hash = Box::new(Xxh3::new());
            hash.update(kept);
            self.partial = Partial::Hashed(hash);
        }
    }

    /// Whether all rows have come.
    pub(super) fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// Whether everything has come that pg_dump writes for a table: nothing more will.
    pub(super) fn is_over(&self) -> bool {
        self.is_at_end && self.bytes_behind >= BYTES_BEHIND
    }

    /// Those of `other` too, which came whole.
    pub(super) fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// What a restore must show of the table `object`.
    pub(super) fn expectation(&self, object: String) -> Expectation {
        let hash = Some(format!("rows-xxh3-128-sum:{:032x}", self.sum));
        Expectation { kind: "table data".to_owned(), object, count: Some(self.count), hash }
    }
}

/// All large objects of a database, as they come.
#[derive(Default)]
pub(super) struct LargeObjects {
    count: u64,
    sum: u128,
    now: Option<Box<Xxh3>>,
}

impl LargeObjects {
    /// The one with this number begins.
    pub(super) fn begin(&mut self, number: i32) {
        let mut hash = Box::new(Xxh3::new());
        hash.update(&number.to_le_bytes());
        self.now = Some(hash);
    }

    /// The next bytes of it.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        if let Some(hash) = &mut self.now {
            hash.update(bytes);
        }
    }

    /// It ends.
    pub(super) fn end(&mut self) {
        if let Some(hash) = self.now.take() {
            self.count += 1;
            self.sum = self.sum.wrapping_add(hash.digest128());
        }
    }

    /// Those of `other` too.
    pub(super) fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// What a restore must show.
    pub(super) fn expectation(&self) -> Expectation {
        let hash = Some(format!("objects-xxh3-128-sum:{:032x}", self.sum));
        Expectation { kind: "large objects".to_owned(), object: "all".to_owned(), count: Some(self.count), hash }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The count and the hash of data that comes in pieces of `piece` bytes.
    fn sum(data: &[u8], piece: usize, order: Option<Vec<usize>>) -> Expectation {
        let mut rows = Rows::new(order);
        data.chunks(piece).for_each(|piece| rows.add(piece));
        assert!(rows.is_at_end());
        rows.expectation("t".to_owned())
    }

    #[test]
    fn the_sum_depends_on_the_rows_and_on_nothing_else() {
        let long = "x".repeat(300_000);
        let forwards = format!("1\ta\n2\tb\n3\t{long}\n\n\\.\n\n\n");
        let backwards = format!("\n3\t{long}\n2\tb\n1\ta\n\\.\n\n\n");
        let whole = sum(forwards.as_bytes(), usize::MAX, None);
        assert_eq!(whole.count, Some(4));
        for piece in [1, 2, 3, 1_000, 70_000] {
            assert_eq!(sum(forwards.as_bytes(), piece, None), whole, "{piece}");
            assert_eq!(sum(backwards.as_bytes(), piece, None), whole, "{piece}");
        }
    }

    #[test]
    fn any_other_rows_have_another_sum() {
        let all =
            [&b"1\n1\n\\.\n"[..], b"1\n\\.\n", b"2\n2\n\\.\n", b"11\n\\.\n", b"\n\n\\.\n", b"\\.\n", b"\\\\.\n\\.\n"];
        let sums: std::collections::HashSet<_> = all.iter().map(|data| sum(data, 1, None).hash).collect();
        assert_eq!(sums.len(), all.len());
    }

    #[test]
    fn fields_may_be_taken_in_another_order() {
        let (one, other) = (b"a\tb\tc\n\\.\n", b"c\ta\tb\n\\.\n");
        assert_eq!(sum(one, 2, Some(vec![0, 1, 2])), sum(other, 3, Some(vec![1, 2, 0])));
        assert_ne!(sum(one, 2, None), sum(other, 3, None));
    }

    #[test]
    fn data_without_its_last_line_is_not_at_its_end() {
        let mut rows = Rows::new(None);
        rows.add(b"1\n2\n\\");
        assert!(!rows.is_at_end());
        rows.add(b".\n");
        assert!(rows.is_at_end() && !rows.is_over());
        rows.add(b"\n");
        assert!(!rows.is_over());
        rows.add(b"\n");
        assert!(rows.is_over());
    }
}
