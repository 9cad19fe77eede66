//! What happens, as events: the one stream from which bars, JSON lines, metrics and assertions are made.

use std::fmt::Debug;

use crate::model::{PackId, SnapshotId, SnapshotPath};

/// Hears what happens. Called from several threads at once and from inside the pipeline: be quick.
pub trait Observer: Send + Sync + Debug {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _event: Event<'_>) {}
}

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A phase of a verb began. `total` is in the unit of its [`Event::Progress`], when known.
    Phase {
        /// Which one.
        phase: Phase,
        /// How much there will be, when that is known.
        total: Option<Amount>,
    },
    /// So much more was done in the present phase.
    Progress(Amount),
    /// An entry is in the snapshot, or restored, or compared.
    Entry {
        /// Its path.
        path: &'a SnapshotPath,
        /// What became of it.
        outcome: EntryOutcome,
        /// Its size in bytes.
        bytes: u64,
    },
    /// Something could not be read, written or kept as it was; the verb went on without it.
    Problem(&'a Problem),
    /// A pack was stored.
    PackStored {
        /// Its id.
        pack: PackId,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A snapshot is in another repository now, with all that it needs.
    Copied {
        /// Its id where it was read from.
        snapshot: SnapshotId,
        /// Its id in the other repository.
        copy: SnapshotId,
    },
    /// Something the user should know that is not a failure (a stale lock was removed, a key file was skipped).
    Notice(&'a str),
}

/// A part of a verb that takes a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Reading the repository's indexes.
    LoadIndex,
    /// Walking, reading and storing the source.
    Backup,
    /// Listing the stored objects after commit.
    Confirm,
    /// Waiting for packs to come out of an archive.
    Thaw,
    /// Planning what to restore.
    Plan,
    /// Writing restored data.
    Restore,
    /// Reading restored data again.
    Verify,
    /// Checking the structure: snapshots, trees, indexes, packs.
    Check,
    /// Reading and checking packs.
    ReadPacks,
    /// Finding what is still used.
    FindUsed,
    /// Writing packs anew without what is not used.
    Repack,
    /// Deleting objects.
    Delete,
    /// Copying to another repository.
    Copy,
}

/// An amount of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Entries, packs, or objects: whatever the phase counts.
    pub items: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryOutcome {
    /// It was not in the parent snapshot.
    New,
    /// It differs from the parent snapshot's.
    Changed,
    /// It is as in the parent snapshot.
    Unmodified,
    /// It was restored.
    Restored,
    /// It was already as it should be.
    Kept,
    /// It was removed because the snapshot does not have it.
    Deleted,
}

/// Something that could not be done, on one entry.
#[derive(Clone, Debug)]
pub struct Problem {
    /// What it happened to.
    pub path: SnapshotPath,
    /// What was being done: "open", "read", "set owner".
    pub action: &'static str,
    /// Why it failed, or what is not as it was.
    pub reason: String,
    /// How much it matters.
    pub severity: Severity,
}

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; the data is complete.
    Note,
    /// Data or metadata is missing from the result: exit code 3 for a backup.
    Loss,
}
