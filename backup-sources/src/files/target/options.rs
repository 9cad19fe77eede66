//! What a files target is asked to do.

use backup_core::model::Node;
use rustix::fs::Statx;

use crate::files::metadata::timestamp;

/// How a restore treats what it finds and what it cannot keep. The default writes what differs and removes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// What becomes of files that are there already.
    pub overwrite: Overwrite,
    /// What becomes of entries that the snapshot does not have.
    pub extra: Extra,
    /// How long runs of zeros are written.
    pub zeros: Zeros,
    /// Who owns what is restored.
    pub owner: Owner,
    /// Whether a restore that will not fit is begun.
    pub space: SpaceCheck,
    /// How long what is restored stays.
    pub stay: Stay,
}

/// What becomes of files that are there already. Whether a file with the snapshot's size and time is taken for equal
/// without reading it is the caller's choice ([`backup_core::contracts::TargetFile::looks_unchanged`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// They become as in the snapshot; what is equal is not written.
    #[default]
    Always,
    /// Only files whose modification time is before the snapshot's become as in the snapshot.
    IfNewer,
    /// They stay.
    Never,
}

impl Overwrite {
    /// Whether what is there stays as it is. What has no time in the snapshot is no newer than what is there.
    pub(super) fn keeps(self, there: &Statx, node: &Node) -> bool {
        match self {
            Self::Always => false,
            Self::IfNewer => node.metadata.mtime.is_none_or(|stored| timestamp(there.stx_mtime) >= stored),
            Self::Never => true,
        }
    }
}

/// What becomes of entries that the snapshot does not have, in folders that it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extra {
    /// They stay.
    #[default]
    Keep,
    /// They are removed.
    Delete,
}

/// How long runs of zeros are written into new files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Zeros {
    /// As holes, which take no space. A snapshot does not say where a file had holes.
    #[default]
    Holes,
    /// As zeros, so that the space is taken.
    Written,
}

/// Who owns what is restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// The numbers in the snapshot: right on the same machine and for containers.
    #[default]
    ByNumber,
    /// The names in the snapshot where this machine knows them, the numbers where it does not.
    ByName,
    /// Whoever runs the restore.
    Restorer,
}

/// Whether a restore that will not fit is begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpaceCheck {
    /// It is refused when the target is empty and the file system has less space left than the files have bytes.
    #[default]
    Refuse,
    /// It is begun: holes or compression may make it fit.
    Skip,
}

/// How long what is restored stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stay {
    /// For good: when the restore has ended, a crash of the machine takes nothing of it.
    #[default]
    Lasting,
    /// Until a program has read it, as what a database is loaded from: nothing is hurried to the disk, and what was
    /// written stays in memory as long as there is room.
    Passing,
}
