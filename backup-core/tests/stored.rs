//! Files of a snapshot that a target reads by itself: from any byte on, in few requests, and nothing that is not right.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::contracts::{Left, Stored, Target, TargetError, TargetFile, WriteOrder};
use backup_core::model::{Node, Snapshot, SnapshotPath};
use backup_core::observe::{Amount, Silent};
use backup_core::pipeline::{BackupOptions, RestoreOptions, RestoreOutcome, backup, restore};
use backup_core::repository::{CreateOptions, Identity, LockMode, Passphrase, Repository, ScryptCost, SnapshotQuery};
use backup_core::testing::{MemorySink, MemoryTarget, MemoryTree, RecordingSink, Verb};

/// What does not repeat, and cannot be compressed.
fn large(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        (state >> 32).to_le_bytes()
    };
    (0..bytes.div_ceil(4)).flat_map(|_| next().into_iter().take(4)).take(bytes).collect()
}

struct Kept {
    store: Arc<MemorySink>,
    calls: Arc<RecordingSink>,
    repository: Repository,
    snapshot: Snapshot,
    large: Vec<u8>,
}

impl Kept {
    fn new(bytes: usize) -> Self {
        let large = large(bytes);
        let store = Arc::new(MemorySink::new());
        let calls = Arc::new(RecordingSink::new(store.clone()));
        let options = CreateOptions { cost: Some(ScryptCost { n: 2, r: 1, p: 1 }), ..CreateOptions::default() };
        let identity = Identity { hostname: "host".into(), username: "user".into(), uid: 1, gid: 1, pid: 1 };
        let repository =
            Repository::create(calls.clone(), &Passphrase::new("x"), &options, identity, Arc::new(SystemClock))
                .unwrap();
        let tree = MemoryTree::new().with_file("/d/large", large.clone()).with_file("/d/small", "small");
        // One thread: pieces lie in their order.
        let options = BackupOptions { lock: LockMode::None, workers: NonZeroUsize::new(1), ..BackupOptions::default() };
        backup(&repository, &mut tree.source(100_000), &options, &Cancel::new(), &Silent).unwrap();
        let snapshot = repository.find_snapshot("latest", &SnapshotQuery::default()).unwrap().1;
        Self { store, calls, repository, snapshot, large }
    }

    fn restore(&self, target: &Reads, cancel: &Cancel) -> backup_core::Result<RestoreOutcome> {
        let options = RestoreOptions { lock: LockMode::None, verify: true, ..RestoreOptions::default() };
        restore(&self.repository, &self.snapshot, target, &options, cancel, &Silent)
    }
}

/// A target that reads what is called `large`, from a byte on.
#[derive(Debug)]
struct Reads {
    inner: MemoryTarget,
    from: u64,
    expected: Mutex<Option<Amount>>,
    read: Mutex<Vec<u8>>,
    pieces: AtomicUsize,
    /// Asked to stop after the first piece.
    stop: Option<Cancel>,
}

impl Reads {
    fn from(from: u64) -> Self {
        let (inner, expected, read, pieces) = Default::default();
        Self { inner, from, expected, read, pieces, stop: None }
    }
}

impl Target for Reads {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn order(&self) -> WriteOrder {
        self.inner.order()
    }

    fn reads(&self, path: &SnapshotPath, _: &Node) -> bool {
        path.name() == b"large"
    }

    fn begin(&self, expected: Amount) -> Result<(), TargetError> {
        *self.expected.lock().unwrap() = Some(expected);
        self.inner.begin(expected)
    }

    fn enter(&self, path: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
        self.inner.enter(path, node)
    }

    fn file(&self, path: &SnapshotPath, node: &Node) -> Result<Box<dyn TargetFile>, TargetError> {
        assert!(!self.reads(path, node), "what it reads is not written");
        self.inner.file(path, node)
    }

    fn hard_link(&self, path: &SnapshotPath, first: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
        self.inner.hard_link(path, first, node)
    }

    fn special(&self, path: &SnapshotPath, node: &Node) -> Result<Vec<TargetError>, TargetError> {
        self.inner.special(path, node)
    }

    fn leave(&self, path: &SnapshotPath, node: &Node, names: Option<&[Vec<u8>]>) -> Result<Left, TargetError> {
        self.inner.leave(path, node, names)
    }

    fn load(&self, stored: &dyn Stored) -> Result<(), TargetError> {
        let path = SnapshotPath::parse(b"/d/large");
        assert!(stored.size(&path).is_some());
        assert_eq!(stored.size(&SnapshotPath::parse(b"/d/small")), None);
        let failed = |error: std::io::Error| TargetError::new("load", path.clone(), error);
        let mut pieces = stored.open(&path, self.from).map_err(failed)?;
        let mut piece = Vec::new();
        while pieces.next(&mut piece).map_err(failed)? {
            self.read.lock().unwrap().extend_from_slice(&piece);
            self.pieces.fetch_add(1, Ordering::Relaxed);
            if let Some(cancel) = &self.stop {
                cancel.request();
            }
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), TargetError> {
        self.inner.finish()
    }
}

#[test]
fn a_file_is_read_from_any_byte_on_and_nothing_else_is_written_for_it() {
    let kept = Kept::new(3_000_000);
    let length = kept.large.len();
    for from in [0, 1, 600_000, length / 2, length - 1, length, length + 9] {
        let target = Reads::from(from as u64);
        let outcome = kept.restore(&target, &Cancel::new()).unwrap();
        assert!(*target.read.lock().unwrap() == kept.large[from.min(length)..], "from {from}");
        assert_eq!((outcome.losses, outcome.files, outcome.verified), (0, 2, Some(1)));
        assert_eq!(target.expected.lock().unwrap().unwrap().bytes, 5, "only the small one is written");
    }
}

#[test]
fn pieces_that_lie_together_come_in_one_request_and_those_before_are_not_asked_for() {
    // About fifty pieces.
    let kept = Kept::new(64_000_000);
    let asked = |from: usize| {
        kept.calls.clear();
        let target = Reads::from(from as u64);
        kept.restore(&target, &Cancel::new()).unwrap();
        (target.pieces.into_inner(), kept.calls.count(Verb::Get, "data"))
    };
    let (pieces, requests) = asked(0);
    assert!(2 * requests < pieces, "{pieces} pieces in {requests} requests");
    let (pieces, requests_for_one) = asked(kept.large.len() - 1);
    assert!(pieces == 1 && requests_for_one < requests, "the last piece costs less than all");
}

#[test]
fn one_that_is_damaged_is_lost_and_ends_the_restore() {
    let kept = Kept::new(3_000_000);
    let (key, bytes) = kept.store.objects().into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    kept.store.replace(key, bytes);
    let target = Reads::from(0);
    let error = kept.restore(&target, &Cancel::new()).unwrap_err();
    assert!(error.to_string().contains("failed to load") && error.to_string().contains("damaged"), "{error}");
    let read = target.read.lock().unwrap();
    assert!(read.len() < kept.large.len() && kept.large.starts_with(&read), "nothing wrong came out");
}

#[test]
fn one_who_is_asked_to_stop_gets_nothing_more() {
    let (kept, cancel) = (Kept::new(3_000_000), Cancel::new());
    let target = Reads { stop: Some(cancel.clone()), ..Reads::from(0) };
    let error = kept.restore(&target, &cancel).unwrap_err();
    assert_eq!(*error.kind(), backup_core::ErrorKind::Cancelled);
    assert_eq!(target.pieces.into_inner(), 1);
}
