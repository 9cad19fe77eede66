//! Sandboxes of drills: what all of them have in common, and the one for files.
//!
//! * [`SandboxFolder`] is a drill's folder: it goes when it is dropped, with every process that was started for it, and
//!   [`remove_leftovers`] finds it when the drill was killed.
//! * [`FilesSandbox`] is a folder that files are restored to, each of which is then read again and compared.
//! * `program.rs` runs a program of the user's beside the restored data.
//!
//! * What separates an engine's programs from everything else is in `walls.rs`, client programs and the user's in
//!   `clients.rs`, and how a server lives in `served.rs`;
//!   where and as whom they run is a [`SandboxPlace`].
//!
//! * A [`ContainerSettings`] in the place has all of them run in a container (`container.rs`, `stand_ins.rs`).
//!
//! The engines' own sandboxes are in the engines' rooms.

#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
mod clients;
mod compare;
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
mod container;
mod files;
mod folder;
mod gives_way;
mod leftovers;
mod live;
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
mod place;
mod program;
mod run_as;
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
mod served;
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
mod stand_ins;
mod walls;
mod without_devices;

#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
pub(crate) use clients::Clients;
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
pub use container::ContainerSettings;
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
pub(crate) use container::Wanted;
pub use files::{FilesSandbox, Meaning};
pub use folder::SandboxFolder;
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis", feature = "sqlite"))]
pub(crate) use folder::{kept_bytes, no_room};
pub use leftovers::{Leftover, remove_leftovers};
pub use live::Live;
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
pub use place::SandboxPlace;
#[cfg(feature = "sqlite")]
pub(crate) use program::Asked;
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis", feature = "sqlite"))]
pub(crate) use program::ask_program;
pub use run_as::RunAs;
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
pub(crate) use served::Served;
pub use walls::Namespaces;
pub(crate) use walls::Walls;
#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(crate) use walls::run;
