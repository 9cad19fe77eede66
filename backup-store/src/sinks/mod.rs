//! One module for each kind of store.

#[cfg(feature = "azure")]
pub(crate) mod azure;
#[cfg(feature = "gcs")]
pub(crate) mod gcs;
mod local;
#[cfg(feature = "object")]
mod object;
#[cfg(feature = "rest")]
pub(crate) mod rest;
#[cfg(feature = "s3")]
pub(crate) mod s3;
#[cfg(feature = "sftp")]
mod sftp;

/// What [`backup_core::contracts::Sink::parallelism`] says of a server: at 50 ms, eight requests of 1 MB fill a line of
/// 100 MB/s, and eight packs are 128 MiB of memory at most.
#[cfg(any(feature = "object", feature = "rest", feature = "sftp"))]
pub(crate) const SERVER_PARALLELISM: usize = 8;

pub use local::LocalSink;
#[cfg(feature = "object")]
pub use object::{
    COMPLIANCE, Lost, LostKind, ObjectRetention, ObjectSink, Prolong, Retention, RetentionReport, Short, ShortReason,
    Versions, Wanted,
};
#[cfg(feature = "rest")]
pub use rest::RestSink;
#[cfg(feature = "s3")]
pub use s3::S3Archive;
#[cfg(feature = "sftp")]
pub use sftp::SftpSink;
