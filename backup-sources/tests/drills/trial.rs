//! A tree of files, a repository in memory, and a drill of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::contracts::{CheckResult, ObjectKey, Report, Sandbox};
use backup_core::drill::{DrillOutcome, DrillTask, Stopwatch, UserCheck, Verdict, drill};
use backup_core::model::{Snapshot, SnapshotId};
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOptions, backup};
use backup_core::repository::{CreateOptions, Identity, LockMode, Passphrase, Repository, ScryptCost};
use backup_core::testing::MemorySink;
use backup_sources::files::{FilesOptions, FilesSource};
use backup_sources::sandbox::{FilesSandbox, Meaning};
use tempfile::TempDir;

pub(crate) struct Trial {
    pub(crate) sink: Arc<MemorySink>,
    pub(crate) repository: Repository,
    /// What was backed up.
    pub(crate) source: TempDir,
    /// Where sandboxes are made.
    pub(crate) parent: TempDir,
}

impl Trial {
    /// A tree with some of everything, backed up.
    pub(crate) fn new() -> Self {
        let source = tempfile::tempdir().unwrap();
        fill(source.path());
        let sink = Arc::new(MemorySink::new());
        let options = CreateOptions { cost: Some(ScryptCost { n: 2, r: 1, p: 1 }), ..CreateOptions::default() };
        let identity = Identity { hostname: "host".into(), username: "user".into(), uid: 1, gid: 1, pid: 1 };
        let passphrase = Passphrase::new("x");
        let clock = Arc::new(SystemClock);
        let repository = Repository::create(Arc::clone(&sink) as _, &passphrase, &options, identity, clock).unwrap();
        let trial = Self { sink, repository, source, parent: tempfile::tempdir().unwrap() };
        trial.back_up();
        trial
    }

    pub(crate) fn back_up(&self) {
        let paths = vec![self.source.path().to_owned()];
        let mut source = FilesSource::new(paths, &FilesOptions::default()).unwrap();
        let options = BackupOptions { lock: LockMode::None, ..BackupOptions::default() };
        backup(&self.repository, &mut source, &options, &Cancel::new(), &Silent).unwrap();
    }

    pub(crate) fn latest(&self) -> (SnapshotId, Snapshot) {
        self.repository.snapshots().unwrap().pop().unwrap()
    }

    pub(crate) fn sandbox(&self) -> FilesSandbox {
        FilesSandbox::new(self.parent.path().to_owned(), Meaning::Data)
    }

    pub(crate) fn drill(&self) -> DrillOutcome {
        self.drill_in(Box::new(self.sandbox()), &[])
    }

    pub(crate) fn drill_in(&self, sandbox: Box<dyn Sandbox>, questions: &[UserCheck]) -> DrillOutcome {
        let (id, snapshot) = self.latest();
        let task = DrillTask {
            repository: &self.repository,
            id,
            snapshot: &snapshot,
            part: None,
            report: &Report::default(),
            questions,
            lock: LockMode::None,
        };
        let outcome = drill(&task, sandbox, Stopwatch::begin(), &Cancel::new(), &Silent);
        assert_eq!(fs::read_dir(self.parent.path()).unwrap().count(), 0, "a drill leaves nothing behind");
        outcome
    }

    /// The packs, the largest first: that of the files' content.
    pub(crate) fn packs(&self) -> Vec<ObjectKey> {
        let mut packs: Vec<_> =
            self.sink.objects().into_iter().filter(|(key, _)| key.as_str().starts_with("data/")).collect();
        packs.sort_by_key(|(_, bytes)| std::cmp::Reverse(bytes.len()));
        packs.into_iter().map(|(key, _)| key).collect()
    }
}

fn fill(folder: &Path) {
    let inner = folder.join("a folder");
    fs::create_dir(&inner).unwrap();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    fs::write(inner.join("large"), bytes).unwrap();
    fs::write(inner.join("small"), "small").unwrap();
    fs::write(inner.join("empty"), "").unwrap();
    fs::hard_link(inner.join("small"), folder.join("other name")).unwrap();
    symlink("a folder/small", folder.join("link")).unwrap();
    fs::set_permissions(inner.join("small"), fs::Permissions::from_mode(0o400)).unwrap();
    let shut = folder.join("shut");
    fs::create_dir(&shut).unwrap();
    fs::write(shut.join("inside"), "inside").unwrap();
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o500)).unwrap();
}

/// The ids of the checks that failed.
pub(crate) fn failed(outcome: &DrillOutcome) -> Vec<&str> {
    let failed = outcome.checks.iter().filter(|check| check.result == CheckResult::Failed);
    failed.map(|check| check.id.as_str()).collect()
}

pub(crate) fn reason(outcome: &DrillOutcome) -> &str {
    match &outcome.verdict {
        Verdict::Passed => "",
        Verdict::Failed { reason } | Verdict::NotRun { reason } => reason,
    }
}
