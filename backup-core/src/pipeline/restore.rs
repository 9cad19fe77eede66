//! stand-in
use crate::{
    Error, Result,
    cancel::Cancel,
    contracts::Target,
    model::{Snapshot, SnapshotPath},
    observe::Observer,
    repository::{LockMode, Repository},
};

/// What happens to files that are there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// They are read and compared; only what differs is written.
    #[default]
    Always,
    /// Those with the right size and modification time are taken as right; others as with [`Overwrite::Always`].
    IfChanged,
    /// They are left as they are.
    Never,
}

/// How a restore is made.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// What of the snapshot: its contents go to the target's root. `None` for all, under absolute paths.
    pub path: Option<SnapshotPath>,
    /// What happens to files that are there already.
    pub overwrite: Overwrite,
    /// Everything is read again from the target afterwards and compared.
    pub verify: bool,
    /// Nothing is written; the outcome says what would have been.
    pub dry_run: bool,
    /// The lock to take.
    pub lock: LockMode,
    /// Threads that read, open and write; as many as there are cores when not given.
    pub workers: Option<std::num::NonZeroUsize>,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            path: None,
            overwrite: Overwrite::Always,
            verify: false,
            dry_run: false,
            lock: LockMode::Shared,
            workers: None,
        }
    }
}

/// What a restore did.
#[derive(Clone, Debug, Default)]
pub struct RestoreOutcome {
    /// Files in what was asked for.
    pub files: u64,
    /// Folders in it.
    pub dirs: u64,
    /// Links, devices, pipes in it.
    pub others: u64,
    /// Bytes of the files in it.
    pub bytes: u64,
    /// Bytes that were written, because they were not there already.
    pub bytes_written: u64,
    /// Files that were as they should be already.
    pub files_kept: u64,
    /// Entries that were removed because the snapshot does not have them.
    pub deleted: u64,
    /// Files that could not be restored right; none of them is left with wrong bytes under its name.
    pub losses: u64,
    /// Files that were read again and are right, when that was asked for.
    pub verified: Option<u64>,
}

/// Restores a snapshot, or a part of it.
pub fn restore(
    repository: &Repository,
    snapshot: &Snapshot,
    target: &dyn Target,
    options: &RestoreOptions,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<RestoreOutcome> {
    let _ = (repository, snapshot, target, options, cancel, observer);
    Err(Error::invalid("restore", "not yet"))
}
