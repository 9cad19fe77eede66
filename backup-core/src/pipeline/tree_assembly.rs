//! Folders whose entries become known in any order, and that are finished when the last one is.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::{BlobId, Node, NodeKind, TreeWriter, encode_node};

/// A folder that is being put together.
#[derive(Debug)]
pub(super) struct Folder {
    /// Its own node; `None` for the root of the snapshot.
    node: Option<Node>,
    parent: Option<(Arc<Folder>, usize)>,
    /// The tree that it had in the parent snapshot.
    pub(super) tree_before: Option<BlobId>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    writer: TreeWriter,
    /// Entries that cannot be written yet because an earlier one is missing. `None`: not known yet.
    waiting: VecDeque<Option<Slot>>,
    /// How many entries are written or dropped.
    written: usize,
    /// How many entries there are so far.
    reserved: usize,
    is_closed: bool,
}

/// What became of an entry.
#[derive(Debug)]
enum Slot {
    Encoded(Box<[u8]>),
    Dropped,
}

/// A folder all of whose entries are known.
#[derive(Debug)]
pub(super) struct Finished {
    /// Its tree.
    pub(super) tree: Vec<u8>,
    /// The folder.
    pub(super) folder: Arc<Folder>,
}

impl Folder {
    /// The root of a snapshot.
    pub(super) fn root(tree_before: Option<BlobId>) -> Arc<Self> {
        Arc::new(Self { node: None, parent: None, tree_before, state: Mutex::default() })
    }

    /// A folder whose place in `parent` is reserved.
    pub(super) fn child(parent: &Arc<Self>, node: Node, tree_before: Option<BlobId>) -> Arc<Self> {
        let slot = parent.reserve();
        Arc::new(Self {
            node: Some(node),
            parent: Some((Arc::clone(parent), slot)),
            tree_before,
            state: Mutex::default(),
        })
    }

    /// Reserves the place of the next entry. Places are reserved in the order of names.
    pub(super) fn reserve(&self) -> usize {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.reserved += 1;
        state.waiting.push_back(None);
        state.reserved - 1
    }

    /// Fills a place; `None` leaves the entry out. The folder comes back when this was the last thing it waited for.
    pub(super) fn fill(self: &Arc<Self>, slot: usize, node: Option<&Node>) -> Option<Finished> {
        let slot_content = node.map_or(Slot::Dropped, |node| {
            let mut encoded = Vec::with_capacity(448);
            encode_node(node, &mut encoded);
            Slot::Encoded(encoded.into_boxed_slice())
        });
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let place = slot - state.written;
        state.waiting[place] = Some(slot_content);
        // Whatever is known from the beginning on is written, so that only stragglers keep anything waiting.
        while let Some(Some(_)) = state.waiting.front() {
            if let Some(Some(Slot::Encoded(encoded))) = state.waiting.pop_front() {
                state.writer.append(&encoded);
            }
            state.written += 1;
        }
        self.finished(&mut state)
    }

    /// No more entries come. The folder comes back when it waits for nothing.
    pub(super) fn close(self: &Arc<Self>) -> Option<Finished> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_closed = true;
        self.finished(&mut state)
    }

    fn finished(self: &Arc<Self>, state: &mut State) -> Option<Finished> {
        (state.is_closed && state.written == state.reserved)
            .then(|| Finished { tree: std::mem::take(&mut state.writer).finish(), folder: Arc::clone(self) })
    }

    /// Fills this folder's own place now that its tree is stored; the parent comes back when that was the last thing it
    /// waited for. `Err` with the tree when this is the root.
    pub(super) fn deliver(&self, tree: BlobId) -> Result<Option<Finished>, BlobId> {
        match (&self.parent, &self.node) {
            (Some((parent, slot)), Some(node)) => {
                let node = Node { kind: NodeKind::Dir { subtree: Some(tree) }, ..node.clone() };
                Ok(parent.fill(*slot, Some(&node)))
            }
            _ => Err(tree),
        }
    }

    /// Whether it is the root.
    pub(super) fn is_root(&self) -> bool {
        self.parent.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Metadata, decode_tree};

    fn node(name: &str) -> Node {
        Node { name: name.into(), kind: NodeKind::Fifo, metadata: Metadata::default() }
    }

    fn names(tree: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        decode_tree(tree, |node| {
            names.push(String::from_utf8(node.name).unwrap());
            Ok(())
        })
        .unwrap();
        names
    }

    #[test]
    fn entries_that_overtake_each_other_end_in_the_order_of_names() {
        let root = Folder::root(None);
        let folder = Folder::child(&root, Node { kind: NodeKind::Dir { subtree: None }, ..node("d") }, None);
        let slots: Vec<_> = (0..4).map(|_| folder.reserve()).collect();
        assert!(folder.fill(slots[2], Some(&node("c"))).is_none());
        assert!(folder.fill(slots[0], Some(&node("a"))).is_none());
        assert!(folder.fill(slots[3], Some(&node("d"))).is_none());
        assert!(root.close().is_none());
        assert!(folder.close().is_none());
        let finished = folder.fill(slots[1], None).unwrap();
        assert_eq!(names(&finished.tree), ["a", "c", "d"]);
        let finished = finished.folder.deliver(BlobId::of(&finished.tree)).unwrap().unwrap();
        assert_eq!(names(&finished.tree), ["d"]);
        assert!(finished.folder.is_root());
        assert!(finished.folder.deliver(BlobId::of(b"")).is_err());
    }
}
