//! The sinks, one file for each kind of store.

mod local;

pub use local::LocalSink;
