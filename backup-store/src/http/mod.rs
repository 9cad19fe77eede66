//! What stores that are reached over HTTP share: the client, and what can go wrong on the way.
//!
//! A client reads no environment and follows no redirect: a signed request means one address only. Nothing hangs: a
//! connection on which nothing moves for [`STALL_SECONDS_MAX`] is given up. Whether a request is sent again is not
//! decided here.

mod client;
#[cfg_attr(
    not(any(feature = "object", feature = "rest")),
    expect(dead_code, reason = "what a store's refusal says concerns stores alone")
)]
mod failure;
mod message;

#[cfg(any(feature = "object", feature = "rest"))]
pub(crate) use client::{Network, client};
#[cfg(feature = "azure")]
pub(crate) use failure::unescaped;
#[cfg(any(feature = "object", feature = "rest"))]
pub(crate) use failure::{Failure, Refusal};
pub use message::{Message, Method, reach_server};

#[cfg(any(feature = "object", feature = "rest"))]
use std::time::Duration;

/// For how long no byte may come or go before a request is given up. Servers that assemble a large upload answer
/// within seconds; a line that carries nothing for a minute is cut off.
pub(crate) const STALL_SECONDS_MAX: u64 = 60;

/// For how long a connection may take to be made, its TLS included.
pub(crate) const CONNECT_SECONDS_MAX: u64 = 15;

/// The same as a duration.
#[cfg(any(feature = "object", feature = "rest"))]
pub(crate) const STALL_MAX: Duration = Duration::from_secs(STALL_SECONDS_MAX);
