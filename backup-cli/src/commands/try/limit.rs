//! A source that takes no more than so many bytes.

use std::collections::HashSet;

use backup_core::contracts::{Report, Source, SourceError, SourceEvent, SourceInfo};
use backup_core::model::SnapshotPath;
use backup_sources::files::FilesSource;

/// Files until their sizes reach a limit; those that would go beyond it are passed over, smaller ones still taken.
#[derive(Debug)]
pub(super) struct Limited {
    inner: FilesSource,
    path: SnapshotPath,
    bytes_max: u64,
    bytes: u64,
    not_taken: NotTaken,
}

/// What was passed over.
#[derive(Debug, Default)]
pub(super) struct NotTaken {
    paths: HashSet<Vec<u8>>,
    pub(super) bytes: u64,
}

impl NotTaken {
    /// How many files it is.
    pub(super) fn files(&self) -> u64 {
        self.paths.len() as u64
    }

    /// Whether the file at this absolute path is among them.
    pub(super) fn contains(&self, path: &[u8]) -> bool {
        self.paths.contains(path)
    }
}

impl Limited {
    pub(super) fn new(inner: FilesSource, bytes_max: u64) -> Self {
        Self { inner, path: SnapshotPath::root(), bytes_max, bytes: 0, not_taken: NotTaken::default() }
    }

    /// The source itself.
    pub(super) fn inner(&self) -> &FilesSource {
        &self.inner
    }

    /// The sizes of what was taken so far.
    pub(super) fn taken_bytes(&self) -> u64 {
        self.bytes
    }

    /// What was passed over.
    pub(super) fn into_not_taken(self) -> NotTaken {
        self.not_taken
    }
}

impl Source for Limited {
    fn info(&self) -> SourceInfo {
        self.inner.info()
    }

    fn level(&self) -> Option<i32> {
        self.inner.level()
    }

    fn next(&mut self) -> Result<Option<SourceEvent>, SourceError> {
        loop {
            let event = self.inner.next()?;
            match &event {
                Some(SourceEvent::Enter(node)) => self.path.push(&node.name),
                Some(SourceEvent::Leave) => {
                    self.path.pop();
                }
                Some(SourceEvent::Entry(entry)) => {
                    let size = entry.node.size();
                    if size > self.bytes_max - self.bytes {
                        self.not_taken.paths.insert(self.path.join(&entry.node.name).as_bytes().to_vec());
                        self.not_taken.bytes += size;
                        continue;
                    }
                    self.bytes += size;
                }
                Some(SourceEvent::Problem(_)) | None => {}
            }
            return Ok(event);
        }
    }

    fn finish(&mut self) -> Result<Report, SourceError> {
        self.inner.finish()
    }
}
