//! The contracts between the rooms: what a source owes, what a sink promises, and the rest.
//!
//! Each has one contract suite in [`crate::testing`] that every implementation runs.

mod archive;
mod codec;
mod report;
mod retention;
mod sandbox;
mod sink;
mod source;
mod target;

pub use archive::{Archive, Readiness, ThawRequest, ThawSpeed};
pub use codec::{Codec, CodecError, Sealed};
pub use report::{Consistency, Expectation, RecoveryPoint, Report, Tool};
pub use retention::{Decision, KeepReason, Proof, RetentionPolicy, SnapshotFacts};
pub use sandbox::{
    Answer, Caveats, Check, CheckResult, Entrance, Expected, ExpectedEntry, Level, Newest, NotReady, Question, Sandbox,
    SandboxError, SandboxFacts, Stopper, Trace,
};
pub use sink::{
    LISTING_LAG, ObjectInfo, ObjectKey, Placement, PutMode, Sink, SinkError, SinkErrorKind, SinkFuture, SinkStream,
};
pub use source::{Content, ContentReader, Entry, Source, SourceError, SourceEvent, SourceInfo};
pub use target::{Left, Pieces, Stored, Target, TargetError, TargetFile, WriteOrder};
