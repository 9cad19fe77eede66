//! What the sandboxes of drills have in common: a folder that is recognised when its drill is dead, and its processes.
//!
//! The engines' own sandboxes are in the engines' rooms; the one for files is here.

mod folder;
mod leftovers;

pub use folder::SandboxFolder;
pub use leftovers::{Leftover, remove_leftovers};
