//! A tree of entries in memory: a source to back up and a target to restore to, for tests that need no file system.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::contracts::{
    Content, ContentReader, Entry, Left, Report, Source, SourceError, SourceEvent, SourceInfo, Target, TargetError,
    TargetFile, WriteOrder,
};
use crate::model::{Metadata, Node, NodeKind, SnapshotPath};
use crate::observe::Amount;

/// Entries by their paths. What lies between an entry and the root is a folder, whether it was put there or not.
///
/// Folders made of nothing have mode `0o755`; sizes and contents of nodes are ignored in favour of the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryTree(BTreeMap<Vec<Vec<u8>>, MemoryEntry>);

/// An entry of a [`MemoryTree`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryEntry {
    /// What it is; a file's content and size are empty here.
    pub kind: NodeKind,
    /// Its metadata.
    pub metadata: Metadata,
    /// A file's bytes.
    pub bytes: Vec<u8>,
}

impl MemoryTree {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a file.
    #[must_use]
    pub fn with_file(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let metadata = Metadata { mode: 0o644, links: 1, ..Metadata::default() };
        let kind = NodeKind::File { size: 0, content: Vec::new() };
        self.put(&SnapshotPath::parse(path.as_bytes()), MemoryEntry { kind, metadata, bytes: bytes.into() });
        self
    }

    /// Adds or replaces an entry.
    pub fn put(&mut self, path: &SnapshotPath, entry: MemoryEntry) {
        let components: Vec<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
        for depth in 1..components.len() {
            self.0.entry(components[..depth].to_vec()).or_insert_with(MemoryEntry::folder);
        }
        self.0.insert(components, entry);
    }

    /// Removes an entry and what is below it.
    pub fn remove(&mut self, path: &SnapshotPath) {
        let prefix: Vec<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
        self.0.retain(|components, _| !components.starts_with(&prefix));
    }

    /// The entry at `path`.
    pub fn get(&self, path: &str) -> Option<&MemoryEntry> {
        let path = SnapshotPath::parse(path.as_bytes());
        self.0.get(&path.components().map(<[u8]>::to_vec).collect::<Vec<_>>())
    }

    /// All entries with their paths, in the order of the walk.
    pub fn entries(&self) -> impl Iterator<Item = (SnapshotPath, &MemoryEntry)> {
        self.0.iter().map(|(components, entry)| {
            let mut path = SnapshotPath::root();
            components.iter().for_each(|component| path.push(component));
            (path, entry)
        })
    }

    /// A source that delivers this tree. Reads return at most `read_bytes` at a time.
    pub fn source(&self, read_bytes: usize) -> MemorySource {
        let mut events = Vec::new();
        let mut open: Vec<&[Vec<u8>]> = Vec::new();
        for (components, entry) in &self.0 {
            while open.last().is_some_and(|folder| !components.starts_with(folder)) {
                open.pop();
                events.push(SourceEvent::Leave);
            }
            let name = components.last().cloned().unwrap_or_default();
            let node = Node { name, kind: entry.kind.clone(), metadata: entry.metadata.clone() };
            events.push(match &entry.kind {
                NodeKind::Dir { .. } => {
                    open.push(components);
                    SourceEvent::Enter(node)
                }
                NodeKind::File { .. } => {
                    let size = entry.bytes.len() as u64;
                    let node = Node { kind: NodeKind::File { size, content: Vec::new() }, ..node };
                    let content = MemoryContent { bytes: entry.bytes.clone(), at: 0, read_bytes };
                    SourceEvent::Entry(Entry { node, content: Some(Box::new(content)) })
                }
                _ => SourceEvent::Entry(Entry::without_content(node)),
            });
        }
        events.extend(open.iter().map(|_| SourceEvent::Leave));
        events.reverse();
        MemorySource { events, paths: vec!["/".to_owned()] }
    }
}

impl MemoryEntry {
    /// A folder with plain metadata.
    pub fn folder() -> Self {
        let metadata = Metadata { mode: 0o755, ..Metadata::default() };
        Self { kind: NodeKind::Dir { subtree: None }, metadata, bytes: Vec::new() }
    }
}

/// Delivers a [`MemoryTree`].
#[derive(Debug)]
pub struct MemorySource {
    /// The events still to come, the next one last.
    events: Vec<SourceEvent>,
    paths: Vec<String>,
}

impl MemorySource {
    /// The same, but the snapshot says that it covers `paths`.
    #[must_use]
    pub fn with_paths(self, paths: &[&str]) -> Self {
        Self { paths: paths.iter().map(|path| (*path).to_owned()).collect(), ..self }
    }
}

impl Source for MemorySource {
    fn info(&self) -> SourceInfo {
        SourceInfo { paths: self.paths.clone(), excludes: Vec::new() }
    }

    fn next(&mut self) -> Result<Option<SourceEvent>, SourceError> {
        Ok(self.events.pop())
    }

    fn finish(&mut self) -> Result<Report, SourceError> {
        Ok(Report::default())
    }
}

#[derive(Debug)]
struct MemoryContent {
    bytes: Vec<u8>,
    at: usize,
    read_bytes: usize,
}

impl Content for MemoryContent {
    fn open(self: Box<Self>, _node: &mut Node) -> Result<Box<dyn ContentReader>, SourceError> {
        Ok(self)
    }
}

impl ContentReader for MemoryContent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.bytes[self.at..];
        let count = rest.len().min(buffer.len()).min(self.read_bytes.max(1));
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }

    fn finish(self: Box<Self>, _node: &mut Node) -> Result<Option<String>, SourceError> {
        Ok(None)
    }
}

/// Takes a restore into a [`MemoryTree`].
#[derive(Clone, Debug, Default)]
pub struct MemoryTarget(Arc<Mutex<MemoryTree>>);

impl MemoryTarget {
    /// A target that holds `tree` already.
    pub fn holding(tree: MemoryTree) -> Self {
        Self(Arc::new(Mutex::new(tree)))
    }

    /// What it holds now.
    pub fn tree(&self) -> MemoryTree {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, MemoryTree> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target for MemoryTarget {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn order(&self) -> WriteOrder {
        WriteOrder::Any
    }

    fn begin(&self, _expected: Amount) -> Result<(), TargetError> {
        Ok(())
    }

    fn enter(&self, path: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
        if !path.is_root() {
            check(path, node)?;
            let mut tree = self.lock();
            if !tree.get_path(path).is_some_and(|entry| matches!(entry.kind, NodeKind::Dir { .. })) {
                tree.put(path, MemoryEntry::folder());
            }
        }
        Ok(())
    }

    fn file(&self, path: &SnapshotPath, node: &Node) -> Result<Box<dyn TargetFile>, TargetError> {
        check(path, node)?;
        let before = self.lock().get_path(path).filter(|entry| matches!(entry.kind, NodeKind::File { .. })).cloned();
        let bytes = Mutex::new(before.as_ref().map(|entry| entry.bytes.clone()).unwrap_or_default());
        Ok(Box::new(MemoryFile { target: self.clone(), path: path.clone(), before, bytes }))
    }

    fn hard_link(&self, path: &SnapshotPath, first: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
        check(path, node)?;
        let mut tree = self.lock();
        let missing = || TargetError::new("link", path.clone(), "its first name is not there");
        let entry = tree.get_path(first).cloned().ok_or_else(missing)?;
        tree.put(path, entry);
        Ok(())
    }

    fn special(&self, path: &SnapshotPath, node: &Node) -> Result<Vec<TargetError>, TargetError> {
        check(path, node)?;
        let (kind, metadata) = (node.kind.clone(), node.metadata.clone());
        self.lock().put(path, MemoryEntry { kind, metadata, bytes: Vec::new() });
        Ok(Vec::new())
    }

    fn leave(&self, path: &SnapshotPath, node: &Node, _names: Option<&[Vec<u8>]>) -> Result<Left, TargetError> {
        if !path.is_root() {
            let metadata = node.metadata.clone();
            self.lock().put(path, MemoryEntry { metadata, ..MemoryEntry::folder() });
        }
        Ok(Left::default())
    }

    fn finish(&self) -> Result<(), TargetError> {
        Ok(())
    }
}

/// Memory has no outside, but whoever tests against it wants to know that a name would lead there.
fn check(path: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
    let is_up = |name: &[u8]| matches!(name, b"." | b".." | b"");
    if node.has_safe_name() && !path.components().any(is_up) {
        return Ok(());
    }
    Err(TargetError::new("make", path.clone(), "its name would lead elsewhere"))
}

impl MemoryTree {
    fn get_path(&self, path: &SnapshotPath) -> Option<&MemoryEntry> {
        self.0.get(&path.components().map(<[u8]>::to_vec).collect::<Vec<_>>())
    }
}

#[derive(Debug)]
struct MemoryFile {
    target: MemoryTarget,
    path: SnapshotPath,
    before: Option<MemoryEntry>,
    bytes: Mutex<Vec<u8>>,
}

impl MemoryFile {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TargetFile for MemoryFile {
    fn existing_bytes(&self) -> u64 {
        self.before.as_ref().map_or(0, |entry| entry.bytes.len() as u64)
    }

    fn looks_unchanged(&self) -> bool {
        // Memory has no times to believe in.
        false
    }

    fn is_kept(&self) -> bool {
        false
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes();
        let part = usize::try_from(offset).ok().and_then(|start| bytes.get(start..start + buffer.len()));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, written: &[u8]) -> io::Result<()> {
        let mut bytes = self.bytes();
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if bytes.len() < start + written.len() {
            bytes.resize(start + written.len(), 0);
        }
        bytes[start..start + written.len()].copy_from_slice(written);
        Ok(())
    }

    fn finish(mut self: Box<Self>, node: &Node, size: u64) -> Result<Vec<TargetError>, TargetError> {
        self.before = None;
        let mut bytes = std::mem::take(&mut *self.bytes());
        bytes.resize(usize::try_from(size).unwrap_or(usize::MAX), 0);
        let kind = NodeKind::File { size: 0, content: Vec::new() };
        self.target.lock().put(&self.path, MemoryEntry { kind, metadata: node.metadata.clone(), bytes });
        Ok(Vec::new())
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            let bytes = std::mem::take(&mut *self.bytes());
            self.target.lock().put(&self.path, MemoryEntry { bytes, ..before });
        }
    }
}
