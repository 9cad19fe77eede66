//! Databases: each engine is a source and a target of its own; what they share is here.
//!
//! * [`url`]: how people write a database, and that no password leaves it.
//! * [`manifest`]: `manifest.json`, which lies beside every dump and says what a restore of it must show.
//! * `folder`: the one folder `/ENGINE/NAME/` of a snapshot, made of a few streams. A stream that fails fails the whole
//!   source, so that half a dump never becomes a snapshot; why is told once, by [`Source::finish`].
//!
//! An engine is a room of this module behind a cargo feature of its name. It offers
//!
//! * a source: `connect(url, settings, …)` looks at versions and rights and takes its consistent view; the files are a
//!   `folder::Folder`; `finish` asks it for its failure and then gives the report;
//! * a target, which loads what a restore writes into it, and refuses to touch data that is there already;
//! * a function that observes a restored database and gives the same expectations as the report had: drills compare;
//! * a sandbox, which a drill restores to: a server of its own, or a file, made for it and removed after it.
//!
//! The library reads no environment: the binary looks up passwords and the like and passes them as settings
//! (`backup-cli/src/databases/`, one file an engine, and a line in each of its two functions).
//!
//! [`Source::finish`]: backup_core::contracts::Source::finish

#[cfg(any(feature = "mongodb", feature = "mysql", feature = "redis", feature = "sqlite"))]
mod differences;
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis", feature = "sqlite"))]
mod examined;
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis", feature = "sqlite"))]
mod folder;
pub mod manifest;
#[cfg(feature = "mongodb")]
pub mod mongodb;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "redis", feature = "sqlite"))]
mod passed_over;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "redis", feature = "sqlite"))]
mod ready;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod url;

#[cfg(any(feature = "mongodb", feature = "mysql", feature = "redis", feature = "sqlite"))]
pub use differences::differences;
