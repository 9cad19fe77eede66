//! stand-in
use crate::{
    Error, Result,
    cancel::Cancel,
    codec::{Compression, Proof},
    contracts::Source,
    model::{SnapshotId, Summary},
    observe::Observer,
    repository::{LockMode, Repository},
};
use jiff::Timestamp;

/// How a backup is made.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// The tags of the snapshot. A job's identity is `job:NAME`.
    pub tags: Vec<String>,
    /// The instant that the snapshot carries; the clock's when not given.
    pub time: Option<Timestamp>,
    /// Which snapshot unchanged files are taken from.
    pub parent: Parent,
    /// zstd's level for data and trees.
    pub level: i32,
    /// Whether every sealed blob is opened again and compared.
    pub proof: Proof,
    /// The lock to take: [`LockMode::Shared`], or none for credentials that cannot delete.
    pub lock: LockMode,
    /// Threads that read, hash, compress and seal; as many as there are cores when not given.
    pub workers: Option<std::num::NonZeroUsize>,
    /// A file counts as unchanged even if its ctime differs (for sources whose ctimes mean nothing).
    pub ignore_ctime: bool,
    /// A file counts as unchanged even if its inode differs (network file systems, snapshots mounted anew).
    pub ignore_inode: bool,
    /// Nothing is written; the outcome says what would have been.
    pub dry_run: bool,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            tags: Vec::new(),
            time: None,
            parent: Parent::Newest,
            level: Compression::DEFAULT_LEVEL,
            proof: Proof::Each,
            lock: LockMode::Shared,
            workers: None,
            ignore_ctime: false,
            ignore_inode: false,
            dry_run: false,
        }
    }
}

/// Which snapshot unchanged files are taken from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Parent {
    /// The newest of the same group: the same job, or the same host and paths.
    #[default]
    Newest,
    /// This one.
    Given(SnapshotId),
    /// None: everything is read again.
    None,
}

/// What a backup did.
#[derive(Clone, Debug)]
pub struct BackupOutcome {
    /// The snapshot; `None` for a dry run.
    pub snapshot: Option<SnapshotId>,
    /// The snapshot that it was compared with.
    pub parent: Option<SnapshotId>,
    /// What was read, new and stored; also written into the snapshot.
    pub summary: Summary,
    /// Entries that could not be read or kept as they are: exit code 3 when not 0.
    pub losses: u64,
    /// Which step of proof the snapshot reached.
    pub reached: crate::contracts::Proof,
    /// The source's last word.
    pub report: crate::contracts::Report,
}

/// Backs up `source` as one snapshot.
pub fn backup(
    repository: &Repository,
    source: &mut dyn Source,
    options: &BackupOptions,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<BackupOutcome> {
    let _ = (repository, source, options, cancel, observer);
    Err(Error::invalid("backup", "not yet"))
}
