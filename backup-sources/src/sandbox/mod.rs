//! Sandboxes of drills: what all of them have in common, and the one for files.
//!
//! * [`SandboxFolder`] is a drill's folder: it goes when it is dropped, with every process that was started for it, and
//!   [`remove_leftovers`] finds it when the drill was killed.
//! * [`FilesSandbox`] is a folder that files are restored to, each of which is then read again and compared.
//! * [`ask_program`] runs a program of the user's beside the restored data.
//!
//! The engines' own sandboxes are in the engines' rooms.

mod compare;
mod files;
mod folder;
mod leftovers;
mod live;
mod program;
mod without_devices;

pub use files::{FilesSandbox, Meaning};
pub use folder::SandboxFolder;
pub use leftovers::{Leftover, remove_leftovers};
pub use live::Live;
pub use program::ask_program;
