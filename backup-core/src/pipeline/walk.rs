//! A snapshot's trees, depth first, without recursion: a repository may nest them as deep as it likes.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::contracts::TargetFile;
use crate::limits::{
    TREE_DEPTH_MAX, TREE_PACK_NEAR_BYTES_MAX, TREE_WINDOW_BYTES, TREE_WINDOW_BYTES_MAX, TREE_WINDOWS_BYTES_MAX,
};
use crate::model::{BlobId, BlobKind, Node, PackId, SnapshotPath, decode_tree};
use crate::repository::layout::Named;
use crate::repository::{BlobLocation, Index, Repository};
use crate::{Error, ErrorKind, Result};

/// Reads trees by their names.
///
/// A snapshot's trees were written one after the other, so a pack is read in stretches and a few of them are kept: a
/// walk asks the store once for many folders. A walk that goes on where a stretch ended gets longer and longer ones. Of a
/// pack that is small, or that a second stretch is read of, the sink is told: where copies are kept it is fetched once.
#[derive(Debug)]
pub struct TreeReader<'a> {
    repository: &'a Repository,
    index: &'a Index,
    /// Stretches of packs, the one used last at the end.
    windows: Mutex<Vec<Window>>,
    /// How often each pack, by its number, was read of so far; two is often.
    stretches: Mutex<HashMap<u32, u8>>,
}

#[derive(Debug)]
struct Window {
    pack: PackId,
    start: u64,
    bytes: Bytes,
}

impl Window {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl<'a> TreeReader<'a> {
    /// A reader of this repository's trees.
    pub fn new(repository: &'a Repository, index: &'a Index) -> Self {
        Self { repository, index, windows: Mutex::default(), stretches: Mutex::default() }
    }

    /// The nodes of one tree in their order.
    pub fn read(&self, id: &BlobId) -> Result<Vec<Node>> {
        let plain = self.read_plain(id)?;
        let mut nodes = Vec::new();
        decode_tree(&plain, |node| {
            nodes.push(node);
            Ok(())
        })
        .map_err(|error| Error::damaged(format!("tree {id}"), error.to_string()))?;
        Ok(nodes)
    }

    /// The plain text of one tree.
    fn read_plain(&self, id: &BlobId) -> Result<Vec<u8>> {
        if let Some(location) = self.index.find(BlobKind::Tree, id)
            && let Ok(sealed) = self.sealed(&location)
        {
            let mut plain = Vec::new();
            if self.repository.open_blob(&location, &sealed, &mut plain).is_ok() {
                return Ok(plain);
            }
        }
        // Whatever went wrong, the long way tries every place of the blob and says why.
        self.repository.read_blob(self.index, BlobKind::Tree, id)
    }

    fn sealed(&self, location: &BlobLocation) -> Result<Bytes> {
        let start = u64::from(location.blob.offset);
        let end = start + u64::from(location.blob.length);
        let cut = |window: &Window| {
            let from = usize::try_from(start - window.start).ok()?;
            let to = usize::try_from(end - window.start).ok()?;
            (to <= window.bytes.len()).then(|| window.bytes.slice(from..to))
        };
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let found = windows
            .iter()
            .rposition(|window| window.pack == location.pack && window.start <= start && cut(window).is_some());
        if let Some(found) = found {
            let window = windows.remove(found);
            let sealed = cut(&window);
            windows.push(window);
            return sealed.ok_or_else(|| Error::new(ErrorKind::Broken("a window lost its bytes"), "tree"));
        }
        let from = start - start % TREE_WINDOW_BYTES;
        let before = windows.iter().find(|window| window.pack == location.pack && window.end() == from);
        let length =
            before.map_or(TREE_WINDOW_BYTES, |window| window.bytes.len() as u64 * 2).min(TREE_WINDOW_BYTES_MAX);
        drop(windows);
        let pack_bytes = self.index.packs()[location.pack_number as usize].bytes;
        let to = end.next_multiple_of(TREE_WINDOW_BYTES).max(from + length).min(pack_bytes).max(end);
        if self.is_worth_having_near(location.pack_number, pack_bytes) {
            self.repository.store().bring_near(&location.pack.key())?;
        }
        let bytes = self.repository.store().get(&location.pack.key(), Some(from..to))?;
        let window = Window { pack: location.pack, start: from, bytes };
        let sealed = cut(&window).ok_or_else(|| Error::damaged(location.pack.key(), "it is too short"))?;
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.push(window);
        while windows.len() > 1
            && windows.iter().map(|window| window.bytes.len()).sum::<usize>() > TREE_WINDOWS_BYTES_MAX
        {
            windows.remove(0);
        }
        Ok(sealed)
    }

    /// Once for each pack: when it is no larger than a long stretch, or when a second stretch of it is wanted. Its first
    /// may be all that a look at one folder needs.
    fn is_worth_having_near(&self, pack_number: u32, pack_bytes: u64) -> bool {
        let mut stretches = self.stretches.lock().unwrap_or_else(PoisonError::into_inner);
        let before = stretches.entry(pack_number).or_default();
        let is_worth = match before {
            0 => pack_bytes <= TREE_WINDOW_BYTES_MAX,
            1 => (TREE_WINDOW_BYTES_MAX + 1..=TREE_PACK_NEAR_BYTES_MAX).contains(&pack_bytes),
            _ => false,
        };
        *before = before.saturating_add(1).min(2);
        is_worth
    }

    /// Reads a file that was restored and compares it with the pieces that it must be made of.
    pub(super) fn compare(
        &self,
        content: &[BlobId],
        file: &dyn TargetFile,
        buffer: &mut Vec<u8>,
    ) -> Result<(), String> {
        let mut offset = 0;
        for id in content {
            let location = self.index.find(BlobKind::Data, id).ok_or_else(|| format!("data blob {id} is missing"))?;
            let bytes = location.blob.opened_bytes();
            // Asked first: the index may promise any length, and the buffer is made for it.
            if file.existing_bytes() < offset + bytes {
                return Err("it is shorter than what was backed up".to_owned());
            }
            buffer.resize(usize::try_from(bytes).unwrap_or(usize::MAX), 0);
            file.read_at(offset, buffer).map_err(|error| error.to_string())?;
            if BlobId::of(buffer) != *id {
                return Err(format!("what is there at byte {offset} is not what was backed up"));
            }
            offset += bytes;
        }
        if file.existing_bytes() == offset { Ok(()) } else { Err("its size is not what was backed up".to_owned()) }
    }
}

/// A step of a walk through a snapshot.
#[derive(Debug)]
pub enum WalkStep<'a> {
    /// An entry; for a folder, before its entries. `ControlFlow::Break` on a folder leaves out what is in it.
    Node(&'a Node),
    /// The end of a folder that was entered.
    Leave(&'a Node),
    /// A folder whose tree cannot be read; nothing in it is walked.
    Unreadable(&'a Node, Error),
}

/// Walks what lies below `tree`, depth first, in the order of names. `path` is where `tree` itself lies; `each` gets
/// every step with its path.
///
/// Trees deeper than [`TREE_DEPTH_MAX`] are reported as unreadable and not entered, which also ends a walk in a
/// repository whose trees were made to contain each other (hashes forbid it, a faulty store might not).
pub fn walk(
    reader: &TreeReader<'_>,
    tree: &BlobId,
    path: &SnapshotPath,
    mut each: impl FnMut(&SnapshotPath, WalkStep<'_>) -> Result<ControlFlow<()>>,
) -> Result<()> {
    struct Level {
        folder: Option<Node>,
        rest: VecDeque<Node>,
    }
    let mut path = path.clone();
    let mut levels = vec![Level { folder: None, rest: reader.read(tree)?.into() }];
    while let Some(level) = levels.last_mut() {
        let Some(node) = level.rest.pop_front() else {
            if let Some(folder) = levels.pop().and_then(|level| level.folder) {
                let _ = each(&path, WalkStep::Leave(&folder))?;
                path.pop_name(&folder.name);
            }
            continue;
        };
        path.push(&node.name);
        let flow = each(&path, WalkStep::Node(&node))?;
        if flow.is_continue() && node.is_dir() {
            let entered = match node.subtree() {
                _ if levels.len() > TREE_DEPTH_MAX => {
                    Err(Error::new(ErrorKind::Limit("the depth of folders"), path.to_string()))
                }
                None => Err(Error::damaged(format!("folder {path}"), "it has no tree")),
                Some(tree) => reader.read(&tree),
            };
            match entered {
                Ok(nodes) => {
                    levels.push(Level { folder: Some(node), rest: nodes.into() });
                    continue;
                }
                Err(error) => {
                    let _ = each(&path, WalkStep::Unreadable(&node, error))?;
                }
            }
        }
        path.pop_name(&node.name);
    }
    Ok(())
}

/// The node at `path` below `tree`; `None` for the root itself, which has no node.
pub fn find_node(reader: &TreeReader<'_>, tree: &BlobId, path: &SnapshotPath) -> Result<Option<Node>> {
    let not_found = || {
        Error::new(ErrorKind::NotFound("not in this snapshot".to_owned()), path.to_string())
            .with_hint("`ls` shows what is in it")
    };
    let mut found: Option<Node> = None;
    for name in path.components() {
        let tree = match &found {
            None => *tree,
            Some(node) => node.subtree().ok_or_else(not_found)?,
        };
        let node = reader.read(&tree)?.into_iter().find(|node| node.name == name);
        found = Some(node.ok_or_else(not_found)?);
    }
    Ok(found)
}
