//! What comes in which order where somebody relies on it: a content that waits for all others, a target that takes one
//! file after the other, the bytes of one file.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{self, Read as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::contracts::{
    Content, ContentReader, Entry, Report, Source, SourceError, SourceEvent, SourceInfo, Target, TargetError,
    TargetFile, WriteOrder,
};
use backup_core::model::{Node, Snapshot, SnapshotPath};
use backup_core::observe::{Amount, Silent};
use backup_core::pipeline::{BackupOptions, FileReader, RestoreOptions, backup, restore};
use backup_core::repository::{CreateOptions, Identity, Passphrase, Repository, ScryptCost, SnapshotQuery};
use backup_core::testing::{MemorySink, MemorySource, MemoryTarget, MemoryTree};

fn repository() -> Repository {
    let options = CreateOptions { cost: Some(ScryptCost { n: 2, r: 1, p: 1 }), ..CreateOptions::default() };
    let identity = Identity { hostname: "host".into(), username: "user".into(), uid: 1, gid: 1, pid: 1 };
    Repository::create(Arc::new(MemorySink::new()), &Passphrase::new("x"), &options, identity, Arc::new(SystemClock))
        .unwrap()
}

fn backed_up(repository: &Repository, source: &mut dyn Source) -> Snapshot {
    backup(repository, source, &BackupOptions::default(), &Cancel::new(), &Silent).unwrap();
    repository.find_snapshot("latest", &SnapshotQuery::default()).unwrap().1
}

/// Bytes that compress badly and cut into pieces.
fn noise(bytes: usize, mut seed: u64) -> Vec<u8> {
    let step = |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    };
    (0..bytes).map(step).collect()
}

fn files() -> MemoryTree {
    let names = (0..20_u32).map(|number| (format!("/z/{number:02}"), 400_000 * (number as usize % 5)));
    names.fold(MemoryTree::new(), |tree, (name, bytes)| tree.with_file(&name, noise(bytes, bytes as u64 + 1)))
}

/// A tree in which the files called `count` hold the number of bytes that were read of all others.
#[derive(Debug)]
struct Counting {
    tree: MemorySource,
    read: Arc<AtomicU64>,
}

impl Source for Counting {
    fn info(&self) -> SourceInfo {
        self.tree.info()
    }

    fn next(&mut self) -> Result<Option<SourceEvent>, SourceError> {
        Ok(self.tree.next()?.map(|event| match event {
            SourceEvent::Entry(Entry { node, content: Some(content) }) => {
                let read = Arc::clone(&self.read);
                let content: Box<dyn Content> = match node.name.as_slice() {
                    b"count" => Box::new(Count(read)),
                    _ => Box::new(Counted { content, read }),
                };
                SourceEvent::Entry(Entry { node, content: Some(content) })
            }
            event => event,
        }))
    }

    fn finish(&mut self) -> Result<Report, SourceError> {
        self.tree.finish()
    }
}

#[derive(Debug)]
struct Counted {
    content: Box<dyn Content>,
    read: Arc<AtomicU64>,
}

impl Content for Counted {
    fn open(self: Box<Self>, node: &mut Node) -> Result<Box<dyn ContentReader>, SourceError> {
        Ok(Box::new(CountedReader { reader: self.content.open(node)?, read: self.read }))
    }
}

#[derive(Debug)]
struct CountedReader {
    reader: Box<dyn ContentReader>,
    read: Arc<AtomicU64>,
}

impl ContentReader for CountedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.reader.read(buffer)?;
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    fn finish(self: Box<Self>, node: &mut Node) -> Result<Option<String>, SourceError> {
        self.reader.finish(node)
    }
}

#[derive(Debug)]
struct Count(Arc<AtomicU64>);

impl Content for Count {
    fn open(self: Box<Self>, _node: &mut Node) -> Result<Box<dyn ContentReader>, SourceError> {
        let text = self.0.load(Ordering::Relaxed).to_string();
        Ok(Box::new(CountReader(io::Cursor::new(text.into_bytes()))))
    }

    fn is_proven_by_metadata(&self) -> bool {
        false
    }

    fn comes_last(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct CountReader(io::Cursor<Vec<u8>>);

impl ContentReader for CountReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn finish(self: Box<Self>, _node: &mut Node) -> Result<Option<String>, SourceError> {
        Ok(None)
    }
}

#[test]
fn what_comes_last_is_read_after_all_else_wherever_its_name_stands() {
    let repository = repository();
    let tree = files().with_file("/count", "").with_file("/z/count", "");
    let total: usize = files().entries().map(|(_, entry)| entry.bytes.len()).sum();
    let mut source = Counting { tree: tree.source(64 << 10), read: Arc::default() };
    let snapshot = backed_up(&repository, &mut source);
    let target = MemoryTarget::default();
    restore(&repository, &snapshot, &target, &RestoreOptions::default(), &Cancel::new(), &Silent).unwrap();
    let expected = tree.with_file("/count", total.to_string()).with_file("/z/count", total.to_string());
    assert_eq!(target.tree(), expected);
}

#[test]
fn a_file_of_a_snapshot_comes_out_byte_by_byte() {
    let repository = repository();
    let snapshot = backed_up(&repository, &mut files().source(1 << 20));
    let index = repository.load_index(&Silent).unwrap();
    let path = SnapshotPath::parse(b"/z/14");
    let mut file = FileReader::open(&repository, &index, &snapshot, &path).unwrap();
    assert_eq!(file.size(), 1_600_000);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, files().get("/z/14").unwrap().bytes);
    let error = FileReader::open(&repository, &index, &snapshot, &SnapshotPath::parse(b"/z")).unwrap_err();
    assert!(error.to_string().contains("not a file"), "{error}");
}

/// Takes one file after the other, and writes down what it was given.
#[derive(Clone, Debug, Default)]
struct InOrder {
    target: MemoryTarget,
    log: Arc<Mutex<Vec<(String, Step)>>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Open,
    Write { offset: u64, bytes: u64 },
    Finish,
}

impl InOrder {
    fn note(&self, path: &SnapshotPath, step: Step) {
        self.log.lock().unwrap().push((path.to_string(), step));
    }
}

impl Target for InOrder {
    fn location(&self) -> String {
        self.target.location()
    }

    fn order(&self) -> WriteOrder {
        WriteOrder::Sequential
    }

    fn begin(&self, expected: Amount) -> Result<(), TargetError> {
        self.target.begin(expected)
    }

    fn enter(&self, path: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
        self.target.enter(path, node)
    }

    fn file(&self, path: &SnapshotPath, node: &Node) -> Result<Box<dyn TargetFile>, TargetError> {
        self.note(path, Step::Open);
        let file = self.target.file(path, node)?;
        Ok(Box::new(FileInOrder { file, path: path.clone(), target: self.clone() }))
    }

    fn hard_link(&self, path: &SnapshotPath, first: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
        self.target.hard_link(path, first, node)
    }

    fn special(&self, path: &SnapshotPath, node: &Node) -> Result<Vec<TargetError>, TargetError> {
        self.target.special(path, node)
    }

    fn leave(
        &self,
        path: &SnapshotPath,
        node: &Node,
        names: Option<&[Vec<u8>]>,
    ) -> Result<backup_core::contracts::Left, TargetError> {
        self.target.leave(path, node, names)
    }

    fn finish(&self) -> Result<(), TargetError> {
        self.target.finish()
    }
}

#[derive(Debug)]
struct FileInOrder {
    file: Box<dyn TargetFile>,
    path: SnapshotPath,
    target: InOrder,
}

impl TargetFile for FileInOrder {
    fn existing_bytes(&self) -> u64 {
        self.file.existing_bytes()
    }

    fn looks_unchanged(&self) -> bool {
        self.file.looks_unchanged()
    }

    fn is_kept(&self) -> bool {
        self.file.is_kept()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.target.note(&self.path, Step::Write { offset, bytes: bytes.len() as u64 });
        self.file.write_at(offset, bytes)
    }

    fn finish(self: Box<Self>, node: &Node, size: u64) -> Result<Vec<TargetError>, TargetError> {
        self.target.note(&self.path, Step::Finish);
        self.file.finish(node, size)
    }
}

#[test]
fn a_sequential_target_gets_one_file_after_the_other_from_beginning_to_end() {
    let repository = repository();
    // The first pieces of the files are the same: their places in the packs are not in the files' order.
    let tree = files().with_file("/empty", "").with_file("/zz/same", noise(1_600_000, 1_600_001));
    let snapshot = backed_up(&repository, &mut tree.source(1 << 20));
    let target = InOrder::default();
    restore(&repository, &snapshot, &target, &RestoreOptions::default(), &Cancel::new(), &Silent).unwrap();
    assert_eq!(target.target.tree(), tree);

    let is_file = |entry: &&backup_core::testing::MemoryEntry| entry.kind.word() == "file";
    let expected = tree.entries().filter(|(_, entry)| is_file(entry));
    let log = target.log.lock().unwrap().clone();
    let mut log = log.iter().peekable();
    for (path, entry) in expected {
        let path = path.to_string();
        assert_eq!(log.next(), Some(&(path.clone(), Step::Open)));
        let mut written = 0;
        while let Some((_, Step::Write { offset, bytes })) =
            log.next_if(|(name, step)| *name == path && matches!(step, Step::Write { .. }))
        {
            assert_eq!(*offset, written, "{path}");
            written += bytes;
        }
        assert_eq!(written, entry.bytes.len() as u64, "{path}");
        assert_eq!(log.next(), Some(&(path, Step::Finish)));
    }
    assert_eq!(log.next(), None);
}
