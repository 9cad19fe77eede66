//! A repository in memory, and what the tests of all engines do with it.

use std::io::Read as _;
use std::sync::Arc;

use backup_core::cancel::Cancel;
use backup_core::chunk::Chunking;
use backup_core::clock::SystemClock;
use backup_core::contracts::{
    Content, ContentReader, Entry, ObjectKey, Report, Sandbox, Source, SourceError, SourceEvent, SourceInfo, Target,
};
use backup_core::drill::{DrillOutcome, DrillTask, Stopwatch, drill};
use backup_core::model::{Node, Snapshot, SnapshotPath};
use backup_core::observe::Silent;
use backup_core::pipeline::{
    self, BackupOptions, BackupOutcome, FileReader, RestoreOptions, RestoreOutcome, TreeReader, find_node,
};
use backup_core::repository::{CreateOptions, Identity, LockMode, Passphrase, Repository, ScryptCost};
use backup_core::testing::MemorySink;
use backup_core::{Error, Result};
use backup_sources::databases::manifest::Manifest;

/// A repository of its own for each test. Locks wait for others to be seen, which is tested elsewhere.
pub(crate) struct Repo(Repository, Arc<MemorySink>);

impl Repo {
    pub(crate) fn new() -> Self {
        let options = CreateOptions { cost: Some(ScryptCost { n: 2, r: 1, p: 1 }), ..CreateOptions::default() };
        let identity = Identity { hostname: "host".into(), username: "user".into(), uid: 1, gid: 1, pid: 1 };
        let (sink, passphrase) = (Arc::new(MemorySink::new()), Passphrase::new("x"));
        let clock = Arc::new(SystemClock);
        let repository = Repository::create(Arc::clone(&sink) as _, &passphrase, &options, identity, clock).unwrap();
        Self(repository, sink)
    }

    pub(crate) fn back_up(&self, source: &mut dyn Source) -> Result<BackupOutcome> {
        let options = BackupOptions { lock: LockMode::None, ..BackupOptions::default() };
        pipeline::backup(&self.0, source, &options, &Cancel::new(), &Silent)
    }

    /// A backup that must fail, and make no snapshot.
    pub(crate) fn fail_to_back_up(&self, source: &mut dyn Source) -> String {
        let before = self.snapshots();
        let error = self.back_up(source).unwrap_err();
        assert_eq!(self.snapshots(), before, "a failed backup makes no snapshot and costs none");
        words(&error)
    }

    pub(crate) fn snapshots(&self) -> usize {
        self.0.snapshots().unwrap().len()
    }

    pub(crate) fn latest(&self) -> Snapshot {
        self.0.find_snapshot("latest", &Default::default()).unwrap().1
    }

    pub(crate) fn restore(&self, folder: &str, target: &dyn Target) -> Result<RestoreOutcome> {
        let path = Some(SnapshotPath::parse(folder.as_bytes()));
        let options = RestoreOptions { path, lock: LockMode::None, ..RestoreOptions::default() };
        pipeline::restore(&self.0, &self.latest(), target, &options, &Cancel::new(), &Silent)
    }

    /// A drill of the newest snapshot's `folder`, as the program runs it.
    pub(crate) fn drill(&self, folder: &str, sandbox: Box<dyn Sandbox>, report: &Report) -> DrillOutcome {
        let (id, snapshot) = self.0.find_snapshot("latest", &Default::default()).unwrap();
        let task = DrillTask {
            repository: &self.0,
            id,
            snapshot: &snapshot,
            part: Some(SnapshotPath::parse(folder.as_bytes())),
            report,
            questions: &[],
            lock: LockMode::None,
        };
        drill(&task, sandbox, Stopwatch::begin(), &Cancel::new(), &Silent)
    }

    /// Where everything lies.
    pub(crate) fn sink(&self) -> &MemorySink {
        &self.1
    }

    /// The largest pack: that of the data.
    pub(crate) fn pack(&self) -> ObjectKey {
        let packs = self.1.objects().into_iter().filter(|(key, _)| key.as_str().starts_with("data/"));
        packs.max_by_key(|(_, bytes)| bytes.len()).unwrap().0
    }

    /// A file of the newest snapshot.
    pub(crate) fn file(&self, path: &str) -> Vec<u8> {
        let index = self.0.load_index(&Silent).unwrap();
        let path = SnapshotPath::parse(path.as_bytes());
        let mut bytes = Vec::new();
        FileReader::open(&self.0, &index, &self.latest(), &path).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// The names of what is in a folder of the newest snapshot.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let index = self.0.load_index(&Silent).unwrap();
        let reader = TreeReader::new(&self.0, &index);
        let path = SnapshotPath::parse(folder.as_bytes());
        let folder = find_node(&reader, &self.latest().tree, &path).unwrap().unwrap();
        let nodes = reader.read(&folder.subtree().unwrap()).unwrap();
        nodes.iter().map(|node| String::from_utf8_lossy(&node.name).into_owned()).collect()
    }

    pub(crate) fn manifest(&self, folder: &str) -> Manifest {
        Manifest::read(&self.file(&format!("{folder}/manifest.json"))[..]).unwrap()
    }
}

/// An error with its causes and its hint.
pub(crate) fn words(error: &Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push_str(&format!(": {error}"));
        cause = error.source();
    }
    format!("{words}\n{}", error.hint().unwrap_or_default())
}

type Action = Box<dyn FnOnce() + Send>;

/// A source, and something that happens when its first bytes were read.
pub(crate) struct Meddled<S>(S, Option<Action>);

impl<S: Source> Meddled<S> {
    pub(crate) fn new(source: S, action: impl FnOnce() + Send + 'static) -> Self {
        Self(source, Some(Box::new(action)))
    }
}

impl<S: Source> std::fmt::Debug for Meddled<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.0, f)
    }
}

impl<S: Source> Source for Meddled<S> {
    fn info(&self) -> SourceInfo {
        self.0.info()
    }

    fn level(&self) -> Option<i32> {
        self.0.level()
    }

    fn next(&mut self) -> Result<Option<SourceEvent>, SourceError> {
        let Some(event) = self.0.next()? else { return Ok(None) };
        Ok(Some(match event {
            SourceEvent::Entry(Entry { node, content: Some(content) }) if !content.comes_last() => {
                let content: Box<dyn Content> = Box::new(MeddledContent(content, self.1.take()));
                SourceEvent::Entry(Entry { node, content: Some(content) })
            }
            event => event,
        }))
    }

    fn finish(&mut self) -> Result<Report, SourceError> {
        self.0.finish()
    }
}

struct MeddledContent(Box<dyn Content>, Option<Action>);

impl std::fmt::Debug for MeddledContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.0, f)
    }
}

impl Content for MeddledContent {
    fn open(self: Box<Self>, node: &mut Node) -> Result<Box<dyn ContentReader>, SourceError> {
        Ok(Box::new(MeddledReader(self.0.open(node)?, self.1)))
    }

    fn chunking(&self) -> Option<Chunking> {
        self.0.chunking()
    }

    fn is_proven_by_metadata(&self) -> bool {
        self.0.is_proven_by_metadata()
    }
}

struct MeddledReader(Box<dyn ContentReader>, Option<Action>);

impl std::fmt::Debug for MeddledReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.0, f)
    }
}

impl ContentReader for MeddledReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.0.read(buffer)?;
        if length > 0
            && let Some(action) = self.1.take()
        {
            action();
        }
        Ok(length)
    }

    fn finish(self: Box<Self>, node: &mut Node) -> Result<Option<String>, SourceError> {
        self.0.finish(node)
    }
}
