//! What stands between the engine and a store: each layer is a sink around a sink, and alone in its file.
//!
//! From the engine to the store: [`AsideSink`], for stores that do not keep everything; [`CacheSink`], so that what is here already costs nothing; [`LimitSink`], whose waits
//! are nobody's time-out; [`RetrySink`], directly at the store. [`HotColdSink`] makes one store of two, each of which may
//! have its own layers.

mod aside;
mod cache;
mod hot_cold;
mod limit;
mod patience;
mod retry;

pub use aside::AsideSink;
pub use cache::{CACHE_BYTES_MAX, CacheSink};
pub use hot_cold::HotColdSink;
pub use limit::{LimitSink, Limits, Pace};
#[cfg(feature = "rest")]
pub(crate) use patience::LISTING_SECONDS_MAX;
pub use patience::{Patience, RetryPolicy, Setback};
pub use retry::RetrySink;
