//! The engine of a backup system: contracts, format, pipeline, care, and the rooms that only think.
//!
//! A [`contracts::Source`] says what there is, a [`pipeline`] cuts, deduplicates, compresses and seals it, and a
//! [`contracts::Sink`] keeps it as a repository in restic's format, which `restic` itself can read. The way back runs
//! through the same rooms to a [`contracts::Target`].
//!
//! What holds everywhere in this crate:
//!
//! * It never prints, never reads the environment, never exits, and asks the time only through [`clock::Clock`].
//! * What happens is told as [`observe::Event`]s to an [`observe::Observer`]; the caller draws them or drops them.
//! * Every verb blocks its thread and can be stopped by a [`cancel::Cancel`]; [`bridge::run`] makes a future of it for
//!   callers that are asynchronous, whatever their runtime.
//! * What destroys is a plan first: `plan(...)` returns data, `apply` carries it out.
//! * Every bound on memory, size and count stands in [`limits`].

#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("backup-core runs on Linux for now: file metadata, locks and durability rules are written for it");

pub mod advice;
pub mod bridge;
pub mod cancel;
pub mod care;
pub mod chunk;
pub mod clock;
pub mod codec;
pub mod contracts;
pub mod drill;
pub mod error;
pub mod evidence;
pub mod limits;
pub mod look;
mod markdown;
pub mod metrics;
pub mod model;
pub mod observe;
pub mod pack;
pub mod pipeline;
pub mod policy;
pub mod repository;
pub mod retention;
pub mod runbook;
pub mod schedule;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use error::{Error, ErrorKind, Result};
