//! Your own source: something that is not files becomes a snapshot, and comes back.
//!
//! Here it is a table of settings that a program holds in memory. Each becomes a file `/settings/NAME`, so that any
//! restic front end can show and restore it.
#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::Arc;

use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::contracts::{
    Consistency, Content, ContentReader, Entry, Report, Source, SourceError, SourceEvent, SourceInfo,
};
use backup_core::model::{Metadata, Node, NodeKind};
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOptions, RestoreOptions, backup, restore};
use backup_core::repository::{CreateOptions, Identity, Passphrase, Repository, SnapshotQuery};
use backup_core::testing::{MemorySink, MemoryTarget, source_suite};
use jiff::Timestamp;

/// The settings at one instant. They are copied when the source is made, so that they belong together.
#[derive(Debug)]
struct Settings {
    /// What is still to be told, the next one last.
    events: Vec<SourceEvent>,
    taken: Timestamp,
}

impl Settings {
    fn new(settings: &BTreeMap<String, String>, taken: Timestamp) -> Self {
        // Metadata that is always the same keeps unchanged snapshots small: equal folders are stored once.
        let metadata = |mode| Metadata { mode, mtime: Some(taken), ..Metadata::default() };
        let folder =
            Node { name: b"settings".to_vec(), kind: NodeKind::Dir { subtree: None }, metadata: metadata(0o700) };
        // A folder is entered, its entries follow in the order of their names' bytes, and it is left. A `BTreeMap` of
        // texts has that order already.
        let mut events = vec![SourceEvent::Enter(folder)];
        events.extend(settings.iter().map(|(name, value)| {
            let kind = NodeKind::File { size: value.len() as u64, content: Vec::new() };
            let node = Node { name: name.clone().into_bytes(), kind, metadata: metadata(0o600) };
            let content = Value { rest: io::Cursor::new(value.clone().into_bytes()) };
            SourceEvent::Entry(Entry { node, content: Some(Box::new(content)) })
        }));
        events.push(SourceEvent::Leave);
        events.reverse();
        Self { events, taken }
    }
}

impl Source for Settings {
    fn info(&self) -> SourceInfo {
        // Snapshots of the same paths are versions of the same thing: the next backup compares with the last of them.
        SourceInfo { paths: vec!["/settings".to_owned()], excludes: Vec::new() }
    }

    fn next(&mut self) -> Result<Option<SourceEvent>, SourceError> {
        // Return an error when the walk as a whole has failed: no snapshot is then made. A single entry that cannot be
        // read is a `SourceEvent::Problem`, and costs only itself.
        Ok(self.events.pop())
    }

    fn finish(&mut self) -> Result<Report, SourceError> {
        // The last word before the snapshot is written. A dump that broke off must say so here.
        let recovery_point = Some(self.taken.into());
        Ok(Report { recovery_point, consistency: Consistency::Transactional, ..Report::default() })
    }
}

/// One value. It is opened and read by another thread than the one that walks.
#[derive(Debug)]
struct Value {
    rest: io::Cursor<Vec<u8>>,
}

impl Content for Value {
    fn open(self: Box<Self>, _node: &mut Node) -> Result<Box<dyn ContentReader>, SourceError> {
        Ok(self)
    }

    fn is_proven_by_metadata(&self) -> bool {
        // A value may change without any time or inode changing with it, so it is read every time.
        false
    }
}

impl ContentReader for Value {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        io::Read::read(&mut self.rest, buffer)
    }

    fn finish(self: Box<Self>, _node: &mut Node) -> Result<Option<String>, SourceError> {
        Ok(None)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let settings: BTreeMap<String, String> =
        [("theme", "dark"), ("language", "en"), ("seats", "12")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let taken: Timestamp = "2026-01-31T02:00:00Z".parse()?;

    // First question: is the contract kept? This panics with the promise that is broken.
    source_suite(|| Box::new(Settings::new(&settings, taken)));
    println!("the source keeps its contract");

    // Then it is a source like any other.
    let identity = Identity { hostname: "example".into(), username: "me".into(), uid: 0, gid: 0, pid: 1 };
    let repository = Repository::create(
        Arc::new(MemorySink::new()),
        &Passphrase::new("example"),
        &CreateOptions::default(),
        identity,
        Arc::new(SystemClock),
    )?;
    let mut source = Settings::new(&settings, taken);
    let saved = backup(&repository, &mut source, &BackupOptions::default(), &Cancel::new(), &Silent)?;
    println!("saved {} settings, as of {:?}", saved.summary.files_new, saved.report.recovery_point);

    let (_, snapshot) = repository.find_snapshot("latest", &SnapshotQuery::default())?;
    let target = MemoryTarget::default();
    restore(&repository, &snapshot, &target, &RestoreOptions::default(), &Cancel::new(), &Silent)?;
    for (name, value) in &settings {
        let tree = target.tree();
        let entry = tree.get(&format!("/settings/{name}")).ok_or("a setting did not come back")?;
        assert_eq!(entry.bytes, value.as_bytes());
    }
    println!("all came back");
    Ok(())
}
