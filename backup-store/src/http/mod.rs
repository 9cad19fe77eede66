//! What stores that are reached over HTTP share: the client, and what can go wrong on the way.
//!
//! A client reads no environment and follows no redirect: a signed request means one address only. Nothing hangs: a
//! connection on which nothing moves for [`STALL_SECONDS_MAX`] is given up. Whether a request is sent again is not
//! decided here.

mod client;
mod failure;
mod message;

pub(crate) use client::{Network, client};
pub(crate) use failure::{Failure, Refusal};
pub use message::{Message, Method};

use std::time::Duration;

/// For how long no byte may come or go before a request is given up. Servers that assemble a large upload answer
/// within seconds; a line that carries nothing for a minute is cut off.
pub(crate) const STALL_SECONDS_MAX: u64 = 60;

/// For how long a connection may take to be made, its TLS included.
pub(crate) const CONNECT_SECONDS_MAX: u64 = 15;

/// The same as a duration.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(STALL_SECONDS_MAX);
