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

pub use local::LocalSink;
#[cfg(feature = "object")]
pub use object::ObjectSink;
#[cfg(feature = "rest")]
pub use rest::RestSink;
#[cfg(feature = "s3")]
pub use s3::{Lost, LostKind, Prolong, Retention, RetentionReport, S3Retention, S3Versions};
#[cfg(feature = "sftp")]
pub use sftp::SftpSink;
