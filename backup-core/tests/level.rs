//! How hard a backup compresses: as it is told, else as its source asks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::contracts::{Report, Source, SourceError, SourceEvent, SourceInfo};
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::repository::{CreateOptions, Identity, LockMode, Passphrase, Repository, ScryptCost};
use backup_core::testing::{MemorySink, MemorySource, MemoryTree};

/// A tree that asks for a level.
#[derive(Debug)]
struct Asking(MemorySource, i32);

impl Source for Asking {
    fn info(&self) -> SourceInfo {
        self.0.info()
    }

    fn level(&self) -> Option<i32> {
        Some(self.1)
    }

    fn next(&mut self) -> Result<Option<SourceEvent>, SourceError> {
        self.0.next()
    }

    fn finish(&mut self) -> Result<Report, SourceError> {
        self.0.finish()
    }
}

/// What a backup of a source that asks for one level takes, when it is told another, or none.
fn stored(asked: i32, told: Option<i32>) -> u64 {
    let text: String = (0..40_000).map(|number| format!("{} sheep, {} goats\n", number % 977, number % 31)).collect();
    let identity = Identity { hostname: "host".into(), username: "user".into(), uid: 1, gid: 1, pid: 1 };
    let options = CreateOptions { cost: Some(ScryptCost { n: 2, r: 1, p: 1 }), ..CreateOptions::default() };
    let (sink, clock) = (Arc::new(MemorySink::new()), Arc::new(SystemClock));
    let repository = Repository::create(sink, &Passphrase::new("x"), &options, identity, clock).unwrap();
    let mut source = Asking(MemoryTree::new().with_file("/text", text).source(50_000), asked);
    let options = BackupOptions { level: told, lock: LockMode::None, ..BackupOptions::default() };
    let outcome = backup(&repository, &mut source, &options, &Cancel::new(), &Silent).unwrap();
    outcome.summary.data_added_packed
}

#[test]
fn a_source_says_how_hard_it_is_compressed_unless_somebody_else_does() {
    let (weak, strong) = (stored(-7, None), stored(19, None));
    assert!(strong < weak / 2, "{strong} of {weak}");
    assert!(stored(-7, Some(19)) < weak / 2);
    assert!(stored(19, Some(-7)) > weak / 2);
}
