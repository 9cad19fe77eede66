//! Which blobs snapshots need: every tree below their roots read once, in waves.
//!
//! A wave is all trees of one depth that were not seen before. They are read in the order in which they lie in their
//! packs, neighbours in one request, because a request costs more than the bytes it brings. What was seen is one bit
//! for each position of the index.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::bitmap::Bitmap;
use super::read_each::{Wanted, read_each};
use crate::cancel::Cancel;
use crate::limits::{READ_GAP_BYTES_MAX, READ_SPAN_BYTES_MAX};
use crate::model::{BlobId, BlobKind, Node, decode_tree};
use crate::observe::{Amount, Event, Observer};
use crate::pack::PackedBlob;
use crate::repository::{BlobLocation, Index, Repository};
use crate::{Error, Result};

/// The blobs that were found needed, by their first positions in the index.
#[derive(Debug)]
pub(super) struct Used {
    data: Bitmap,
    trees: Bitmap,
}

/// What is needed and cannot be had.
#[derive(Debug, Default)]
pub(super) struct Absent {
    /// Blobs that no index lists.
    pub(super) unlisted: BTreeSet<(BlobKind, BlobId)>,
    /// Trees that an index lists and that cannot be read, with the reason.
    pub(super) unreadable: BTreeMap<BlobId, String>,
}

/// Looks at every node once: the tree that it stands in, the node, and for a file the bytes of its blobs when all are
/// listed. Called from several threads.
pub(super) type Inspect<'a> = &'a (dyn Fn(&BlobId, &Node, Option<u64>) + Sync);

impl Used {
    /// Nothing is needed yet.
    pub(super) fn new(index: &Index) -> Self {
        Self { data: Bitmap::new(index.len(BlobKind::Data)), trees: Bitmap::new(index.len(BlobKind::Tree)) }
    }

    /// The needed blobs of a kind.
    pub(super) fn of(&self, kind: BlobKind) -> &Bitmap {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    /// Adds everything that the trees `roots` need. Trees that are in it already are not read again, so roots can be
    /// added whenever they become known.
    pub(super) fn add(
        &self,
        repository: &Repository,
        index: &Index,
        roots: impl IntoIterator<Item = BlobId>,
        inspect: Inspect<'_>,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<Absent> {
        let mut absent = Absent::default();
        let mut wave = Vec::new();
        for root in roots {
            self.meet_tree(index, root, &mut wave, &mut absent);
        }
        while !wave.is_empty() {
            let spans = spans(index, std::mem::take(&mut wave));
            let wanted: Vec<_> = spans.iter().map(Span::wanted).collect();
            let work = |number: usize, read: Result<Bytes>| {
                let span: &Span = &spans[number];
                let mut found = Found::default();
                for tree in &span.trees {
                    let nodes = read_tree(repository, index, tree, span.start, read.as_ref());
                    let entered = nodes.and_then(|plain| {
                        decode_tree(&plain, |node| {
                            self.meet_node(index, &tree.blob.id, &node, inspect, &mut found);
                            Ok(())
                        })
                        .map_err(|error| Error::damaged(format!("tree {}", tree.blob.id), error.to_string()))
                    });
                    if let Err(error) = entered {
                        found.absent.unreadable.insert(tree.blob.id, error.to_string());
                    }
                }
                found
            };
            read_each(repository.store(), &wanted, cancel, work, |number, found| {
                let Found { trees, absent: more } = found;
                wave.extend(trees);
                absent.unlisted.extend(more.unlisted);
                absent.unreadable.extend(more.unreadable);
                let amount = Amount { items: spans[number].trees.len() as u64, bytes: wanted[number].bytes };
                observer.event(Event::Progress(amount));
                Ok(())
            })?;
        }
        Ok(absent)
    }

    fn meet_tree(&self, index: &Index, tree: BlobId, wave: &mut Vec<usize>, absent: &mut Absent) {
        match index.position(BlobKind::Tree, &tree) {
            Some(position) if self.trees.insert(position) => wave.push(position),
            Some(_) => {}
            None => {
                absent.unlisted.insert((BlobKind::Tree, tree));
            }
        }
    }

    fn meet_node(&self, index: &Index, tree: &BlobId, node: &Node, inspect: Inspect<'_>, found: &mut Found) {
        let mut bytes = Some(0);
        for blob in node.content() {
            let position = index.position(BlobKind::Data, blob);
            match position.and_then(|position| Some((position, index.at(BlobKind::Data, position)?))) {
                Some((position, location)) => {
                    self.data.insert(position);
                    bytes = bytes.map(|bytes| bytes + location.blob.opened_bytes());
                }
                None => {
                    bytes = None;
                    found.absent.unlisted.insert((BlobKind::Data, *blob));
                }
            }
        }
        if let Some(subtree) = node.subtree() {
            self.meet_tree(index, subtree, &mut found.trees, &mut found.absent);
        }
        inspect(tree, node, bytes);
    }
}

/// What a worker found in a span.
#[derive(Default)]
struct Found {
    trees: Vec<usize>,
    absent: Absent,
}

/// Trees of one pack that are read in one request.
struct Span {
    start: u32,
    end: u32,
    trees: Vec<BlobLocation>,
}

impl Span {
    fn wanted(&self) -> Wanted {
        let pack = self.trees[0].pack;
        Wanted {
            pack,
            range: Some(u64::from(self.start)..u64::from(self.end)),
            bytes: u64::from(self.end - self.start),
        }
    }
}

fn spans(index: &Index, wave: Vec<usize>) -> Vec<Span> {
    let mut trees: Vec<_> = wave.into_iter().filter_map(|position| index.at(BlobKind::Tree, position)).collect();
    trees.sort_unstable_by_key(|tree| (tree.pack_number, tree.blob.offset));
    let mut spans: Vec<Span> = Vec::new();
    for tree in trees {
        let PackedBlob { offset, length, .. } = tree.blob;
        let end = offset.saturating_add(length);
        match spans.last_mut() {
            Some(span)
                if span.trees[0].pack_number == tree.pack_number
                    && offset.saturating_sub(span.end) <= READ_GAP_BYTES_MAX
                    && end.saturating_sub(span.start) <= READ_SPAN_BYTES_MAX =>
            {
                span.end = span.end.max(end);
                span.trees.push(tree);
            }
            _ => spans.push(Span { start: offset, end, trees: vec![tree] }),
        }
    }
    spans
}

/// A tree's plain text: from the span if that was read and is sound, else from any pack that holds it.
fn read_tree(
    repository: &Repository,
    index: &Index,
    tree: &BlobLocation,
    span_start: u32,
    span: std::result::Result<&Bytes, &Error>,
) -> Result<Vec<u8>> {
    let start = (tree.blob.offset - span_start) as usize;
    if let Some(sealed) = span.ok().and_then(|span| span.get(start..start + tree.blob.length as usize)) {
        let mut plain = Vec::new();
        if repository.open_blob(tree, sealed, &mut plain).is_ok() {
            return Ok(plain);
        }
    }
    repository.read_blob(index, BlobKind::Tree, &tree.blob.id)
}
