//! One entry of a folder, with everything that is restored of it.

use jiff::Timestamp;

use super::id::BlobId;

/// An entry of a folder: its name, what it is, and its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The raw name: one path component, not necessarily UTF-8.
    pub name: Vec<u8>,
    /// What it is, with what only that kind has.
    pub kind: NodeKind,
    /// What every kind has.
    pub metadata: Metadata,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file.
    File {
        /// Its size in bytes: the sum of its blobs' sizes.
        size: u64,
        /// The blobs that it is made of, in order; one blob may occur more than once.
        content: Vec<BlobId>,
    },
    /// A folder.
    Dir {
        /// The blob that lists its entries; `None` while it is being made.
        subtree: Option<BlobId>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as raw bytes.
        target: Vec<u8>,
    },
    /// A block device.
    BlockDevice {
        /// Its device number as the system encodes it (`st_rdev`).
        device: u64,
    },
    /// A character device.
    CharDevice {
        /// Its device number as the system encodes it (`st_rdev`).
        device: u64,
    },
    /// A named pipe.
    Fifo,
    /// A socket. Read from other programs' repositories; restored by nobody, because its owner makes it anew.
    Socket,
    /// Something that this program does not know, by the name that the repository gives it.
    Other(String),
}

/// What every kind of entry has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Unix permissions with the set-user-id, set-group-id and sticky bits: `0o7777` at most.
    pub mode: u32,
    /// When the content was last changed; `None` where another program did not store it, as rustic for the folder that it
    /// was given.
    pub mtime: Option<Timestamp>,
    /// When it was last read; by default the same as `mtime`, because a real one would change every folder at every
    /// backup.
    pub atime: Option<Timestamp>,
    /// When the metadata was last changed. Not restorable; kept to notice changes.
    pub ctime: Timestamp,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The owner's name, when the machine knew it.
    pub user: String,
    /// The group's name, when the machine knew it.
    pub group: String,
    /// The inode's number.
    pub inode: u64,
    /// The number of the device that the inode is on.
    pub device_id: u64,
    /// How many names the inode has; 0 for folders and pipes, as restic writes them.
    pub links: u64,
    /// Extended attributes in the order in which the system lists them. ACLs and capabilities are among them.
    pub xattrs: Vec<Xattr>,
    /// Attributes of other systems (restic's `generic_attributes`), kept as they were found.
    pub generic_attributes: Option<String>,
    /// What went wrong when the entry was read, as restic notes it.
    pub error: String,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xattr {
    /// The full name with its namespace, such as `user.comment`.
    pub name: Vec<u8>,
    /// The raw value.
    pub value: Vec<u8>,
}

impl Node {
    /// The size in bytes of a file's content; 0 for every other kind.
    pub fn size(&self) -> u64 {
        match self.kind {
            NodeKind::File { size, .. } => size,
            _ => 0,
        }
    }

    /// The blobs of a file; empty for every other kind.
    pub fn content(&self) -> &[BlobId] {
        match &self.kind {
            NodeKind::File { content, .. } => content,
            _ => &[],
        }
    }

    /// The tree of a folder.
    pub fn subtree(&self) -> Option<BlobId> {
        match self.kind {
            NodeKind::Dir { subtree } => subtree,
            _ => None,
        }
    }

    /// Whether it is a folder.
    pub fn is_dir(&self) -> bool {
        matches!(self.kind, NodeKind::Dir { .. })
    }

    /// Whether the name is one path component that can be made below a folder: not empty, not `.` or `..`, without
    /// slash or NUL. A repository may say anything; nothing is written under another name.
    pub fn has_safe_name(&self) -> bool {
        !self.name.is_empty()
            && self.name != b"."
            && self.name != b".."
            && !self.name.iter().any(|byte| matches!(byte, b'/' | 0))
    }
}

impl NodeKind {
    /// The format's word for it.
    pub fn word(&self) -> &str {
        match self {
            Self::File { .. } => "file",
            Self::Dir { .. } => "dir",
            Self::Symlink { .. } => "symlink",
            Self::BlockDevice { .. } => "dev",
            Self::CharDevice { .. } => "chardev",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Other(word) => word,
        }
    }
}
