//! What is left out, why, and how much of it there was.

use std::sync::atomic::{AtomicU64, Ordering};

use super::options::{FileSystems, FilesOptions, Gitignore, Marker};
use super::patterns::CompiledExcludes;

/// How many entries a walk has left out, by reason. A folder counts once, whatever it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    /// Entries that a pattern matched.
    pub by_pattern: u64,
    /// Entries that a `.gitignore` matched.
    pub by_gitignore: u64,
    /// Folders whose content is left out because a marker such as `CACHEDIR.TAG` lies in them.
    pub marked_folders: u64,
    /// Files over the size limit.
    pub large_files: u64,
    /// Bytes of those files.
    pub large_files_bytes: u64,
    /// Folders whose content, and files which, are on another file system.
    pub other_file_systems: u64,
    /// Sockets, which their owners make anew.
    pub sockets: u64,
}

impl LeftOut {
    /// Whether everything is in.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Counts what is left out, from several threads.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) by_pattern: Count,
    pub(super) by_gitignore: Count,
    pub(super) marked_folders: Count,
    pub(super) large_files: Count,
    pub(super) large_files_bytes: Count,
    pub(super) other_file_systems: Count,
    pub(super) sockets: Count,
}

#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }
}

impl Counts {
    pub(super) fn so_far(&self) -> LeftOut {
        let of = |count: &Count| count.0.load(Ordering::Relaxed);
        LeftOut {
            by_pattern: of(&self.by_pattern),
            by_gitignore: of(&self.by_gitignore),
            marked_folders: of(&self.marked_folders),
            large_files: of(&self.large_files),
            large_files_bytes: of(&self.large_files_bytes),
            other_file_systems: of(&self.other_file_systems),
            sockets: of(&self.sockets),
        }
    }
}

/// What decides that something is left out.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) excludes: CompiledExcludes,
    pub(super) markers: Vec<Marker>,
    pub(super) gitignore: Gitignore,
    pub(super) file_bytes_max: u64,
    pub(super) file_systems: FileSystems,
    pub(super) counts: Counts,
}

impl Filter {
    pub(super) fn new(options: &FilesOptions) -> backup_core::Result<Self> {
        Ok(Self {
            excludes: options.excludes.compile()?,
            markers: options.markers.clone(),
            gitignore: options.gitignore,
            file_bytes_max: options.file_bytes_max.unwrap_or(u64::MAX),
            file_systems: options.file_systems,
            counts: Counts::default(),
        })
    }
}
