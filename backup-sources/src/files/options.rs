//! What a files source is asked to do.

use super::patterns::Excludes;

/// How a walk is done. The default reads everything and crosses into mounted file systems.
#[derive(Clone, Debug, Default)]
pub struct FilesOptions {
    /// Patterns of names and paths that are left out.
    pub excludes: Excludes,
    /// A folder that holds one of these is stored with the marker as its only entry.
    pub markers: Vec<Marker>,
    /// Whether `.gitignore` files are honoured.
    pub gitignore: Gitignore,
    /// Files with more bytes than this are left out.
    pub file_bytes_max: Option<u64>,
    /// Whether mounted file systems are entered.
    pub file_systems: FileSystems,
    /// What is stored as the time of the last reading.
    pub atime: Atime,
}

/// A file that says "leave out the folder that I lie in".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The name of the file.
    pub name: Vec<u8>,
    /// What the file must begin with; empty for a file whose presence is enough.
    pub signature: Vec<u8>,
}

impl Marker {
    /// The marker of the Cache Directory Tagging Specification (<https://bford.info/cachedir/>).
    pub fn cachedir_tag() -> Self {
        Self { name: b"CACHEDIR.TAG".to_vec(), signature: b"Signature: 8a477f597d28d172789f06886806bc55".to_vec() }
    }

    /// A file whose presence is enough.
    pub fn named(name: &str) -> Self {
        Self { name: name.as_bytes().to_vec(), signature: Vec::new() }
    }
}

/// Whether `.gitignore` files are honoured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gitignore {
    /// They are files like any other: what a repository does not track may still be worth keeping.
    #[default]
    Plain,
    /// What they match is left out, in the folders at and below each source.
    Honoured,
}

/// Whether mounted file systems are entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileSystems {
    /// Yes.
    #[default]
    All,
    /// A mount point is stored as an empty folder, unless it is itself one of the sources.
    One,
}

/// What is stored as the time of the last reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Atime {
    /// The time of the last change, so that reading a file does not change the snapshot's trees.
    #[default]
    AsMtime,
    /// The real one.
    Recorded,
}
