//! Verbs that only look: what changed between two snapshots, how much there is, where a file is, what
//! each job's history is.
//!
//! They read trees, the index or records, write nothing, and need no more than a shared lock (or none). Memory grows with the
//! number of folders that differ, or with the names of the blobs that are counted, never with the data.

mod diff;
mod histories;
mod search;
mod stats;

pub use diff::{Change, Difference, diff, folder_at};
pub use histories::{Histories, histories, read_back};
pub use search::Search;
pub use stats::{Stats, stats};
