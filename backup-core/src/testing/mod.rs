//! For those who implement a contract: the suites that say whether it is kept, and sinks to test against.
//!
//! * [`source_suite`], [`target_suite`], [`sink_suite`] and [`codec_suite`] run every promise of a contract against an
//!   implementation, [`load_suite`] those of a target that loads a database; [`assert_retention_laws`] does so for a policy and the snapshots that it finds hard.
//! * [`MemorySink`] keeps objects in memory. It is the reference for the suite.
//! * [`RecordingSink`] remembers every call, so that a test can count them, and can tell what a power failure or a
//!   kill at any moment would have left of the store.
//! * [`FaultySink`] fails, lies, fills up, goes dark or damages what is read, when it is told to.
//! * [`MemoryTree`] is a source and a target without a file system.
//! * [`free_port`] is for a server that a test starts, [`write_program`] and [`copy_program`] for a program that it runs.
//!
//! The three sinks wrap or stand in for any other. Suites and sinks report a broken promise by panicking, as tests do.

mod call;
mod codec_suite;
mod faulty_sink;
mod load_suite;
mod memory_sink;
mod memory_tree;
mod port;
mod program;
mod recording_sink;
mod replay;
mod sink_suite;
mod source_suite;
mod target_suite;

pub use call::{Call, Verb};
pub use codec_suite::codec_suite;
pub use faulty_sink::{Fault, FaultySink};
pub use load_suite::{load_all, load_suite};
pub use memory_sink::MemorySink;
pub use memory_tree::{MemoryEntry, MemorySource, MemoryTarget, MemoryTree};
pub use port::free_port;
pub use program::{copy_program, write_program};
pub use recording_sink::{Outcome, Record, RecordingSink};
pub use replay::{Ending, Recording};
pub use sink_suite::{Exception, sink_suite, sink_suite_except};
pub use source_suite::source_suite;
pub use target_suite::target_suite;

pub use crate::retention::laws::assert_retention_laws;

/// Runs what never waits: the sinks of this module are ready at once.
#[cfg(test)]
fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}
