//! The way in and the way out: the only rooms that join several stages.
//!
//! ```text
//! backup:   walk ─▶ (as in the parent?) ─▶ read ─▶ cut ─▶ hash ─▶ known? ─▶ compress ─▶ seal ─▶ prove ─▶ pack ─▶ store
//! restore:  plan ◀─ trees            write ◀─ compare ◀─ hash ◀─ decompress ◀─ open ◀─ ranges of packs
//! ```
//!
//! Stages are blocking and run on threads of their own; bounded queues lie between them, so that memory is bounded
//! whatever the sizes and counts ([`crate::limits`]). Results may overtake each other: a folder is finished when its
//! last entry is, not when its turn has come.

mod backup;
mod blob_store;
mod commit;
mod fan_out;
mod file_reader;
mod in_flight;
mod new_snapshot;
mod on_the_way;
mod parent;
mod reader;
mod restore;
mod restore_batch;
mod stored_files;
mod tree_assembly;
mod verify;
mod walk;

pub use backup::{BackupOptions, BackupOutcome, Parent, backup, backup_to_all};
pub(crate) use blob_store::{BlobStore, Writing};
pub(crate) use commit::{is_present, list_anew_what_was_marked, list_packs, record_presence};
pub use file_reader::FileReader;
pub use restore::{Compare, RestoreOptions, RestoreOutcome, restore, restore_by, restored_amount, restored_packs};
pub use walk::{TreeReader, WalkStep, find_node, walk};
