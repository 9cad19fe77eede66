//! Where repositories are kept: implementations of [`Sink`](backup_core::contracts::Sink), and the spelling of places.
//!
//! This crate knows objects and those who keep them; what the objects mean is the engine's affair. Every sink here
//! passes the engine's contract suite.

#![forbid(unsafe_code)]

pub mod sinks;
mod url;

pub use url::Place;
