//! What the sandboxes of drills have in common: a folder that is recognised when its drill is dead, and its processes.
//!
//! The engines' own sandboxes are in the engines' rooms; the one for files is here. What separates an engine's programs
//! from everything else is in `walls.rs`, and how a server lives in `served.rs`.

mod folder;
mod leftovers;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
mod place;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
mod served;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
mod walls;

pub use folder::SandboxFolder;
pub use leftovers::{Leftover, remove_leftovers};
#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
pub use place::SandboxPlace;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
pub(crate) use served::Served;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
pub use walls::{Namespaces, RunAs};
#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
pub(crate) use walls::{Walls, run};
