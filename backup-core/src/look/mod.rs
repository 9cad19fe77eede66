//! Verbs that only look: what changed between two snapshots, how much there is, where a file is.
//!
//! They read trees and the index, write nothing, and need no more than a shared lock (or none). Memory grows with the
//! number of folders that differ, or with the names of the blobs that are counted, never with the data.

mod diff;
mod search;
mod stats;

pub use diff::{Change, Difference, diff, folder_at};
pub use search::Search;
pub use stats::{Stats, stats};
