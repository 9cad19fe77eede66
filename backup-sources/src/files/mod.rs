//!
//! [`FilesSource`] gives the entries of one or several paths in the order that a tree needs, read ahead by a few
//! threads; [`FilesTarget`] makes them again below a folder that nothing it does ever leaves. What is followed, what is
//! left out and why stands in `docs/decisions/files.md`.

mod ahead;
mod filter;
mod gitignore;
mod list;
mod metadata;
mod names;
mod options;
mod page_cache;
mod patterns;
mod place;
mod plan;
mod priority;
mod read;
mod target;
mod walk;
mod xattrs;

pub use filter::LeftOut;
pub use options::{Atime, FileSystems, FilesOptions, Gitignore, Marker};
pub use patterns::{Below, Case, Excludes};
pub use priority::step_back;
pub use target::{Extra, FilesTarget, Overwrite, Owner, RestoreOptions, SpaceCheck, Stay, Zeros};
pub use walk::FilesSource;
