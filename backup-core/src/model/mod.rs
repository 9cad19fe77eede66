//! Plain data of the repository format, and its spelling to the byte.
//!
//! Nothing here does input or output, and the files import only each other. What is written is what restic writes
//! (`docs/format.md`); what is read is whatever restic and rustic are known to have written.

mod id;
mod name;
mod node;
mod path;
mod snapshot;
mod text;
mod time;
mod tree;

pub use id::{BlobId, BlobKind, ConfigurationId, Id, IndexId, KeyId, LockId, PackId, RecordId, SnapshotId};
pub use node::{Metadata, Node, NodeKind, Xattr};
pub use path::SnapshotPath;
pub use snapshot::{Snapshot, Summary};
pub use time::format_timestamp;
pub use tree::{EMPTY_TREE, FormatError, TreeWriter, decode_tree, encode_node};
