//! Where repositories are kept: implementations of [`Sink`](backup_core::contracts::Sink), and the spelling of places.
//!
//! This crate knows objects and those who keep them; what the objects mean is the engine's affair. Every sink here
//! passes the engine's contract suite.

#![forbid(unsafe_code)]

mod access;
mod bucket;
#[cfg(feature = "message")]
mod http;
pub mod layers;
mod server;
pub mod sinks;
mod stranger;
mod url;

pub use access::{Access, Credentials, Environment, Secret};
pub use bucket::{Bucket, BucketSettings, Provider};
#[cfg(feature = "message")]
pub use http::{Message, Method, reach_server};
pub use server::{RestServer, SftpServer};
pub use url::Place;
