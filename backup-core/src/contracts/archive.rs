//! Stores that keep objects in an archive, from which they are brought out on request, hours later.
//!
//! It is no part of [`super::Sink`]: most stores have no archive, and of those that have one the sink says only that an
//! object lies there ([`super::SinkErrorKind::Frozen`]).

use std::fmt::Debug;

use super::{ObjectKey, SinkFuture};

/// Brings objects out of a store's archive. What was brought out can be read for some days, and lies in the archive
/// meanwhile as before.
pub trait Archive: Send + Sync + Debug {
    /// How it stands with an object. One that never was in the archive is [`Readiness::Ready`].
    fn readiness<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, Readiness>;

    /// Asks that an object be brought out, if it is in the archive and nobody has asked yet; says how it stood before.
    fn thaw<'a>(&'a self, key: &'a ObjectKey, request: ThawRequest) -> SinkFuture<'a, Readiness>;
}

/// Whether an object can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It was asked for and is on its way.
    Thawing,
    /// It is in the archive, and nobody has asked for it.
    Frozen,
}

/// How objects are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThawRequest {
    /// For how many days they can be read then.
    pub days: u32,
    /// How soon.
    pub speed: ThawSpeed,
}

/// How soon objects come out of an archive, which decides what it costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThawSpeed {
    /// Within a day or two, for the least.
    Bulk,
    /// Within hours.
    #[default]
    Standard,
    /// Within minutes, where the store can.
    Expedited,
}
