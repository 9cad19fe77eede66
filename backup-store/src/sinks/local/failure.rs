//! What the system's errors mean to those who use a sink.

use std::io;

use backup_core::contracts::{SinkError, SinkErrorKind};
use rustix::io::Errno;

/// The failure that `errno` is when it happens to `subject`.
pub(super) fn failure(subject: impl Into<String>, errno: Errno) -> SinkError {
    SinkError::new(kind_of(errno), subject).caused_by(io::Error::from(errno))
}

/// The failure that an error of the standard library is.
pub(super) fn io_failure(subject: impl Into<String>, error: io::Error) -> SinkError {
    let kind = Errno::from_io_error(&error).map_or(SinkErrorKind::Other, kind_of);
    SinkError::new(kind, subject).caused_by(error)
}

/// Whether `errno` says that there is nothing under a name: also when the name leads through a file, or is a symlink,
/// because neither can be an object.
pub(super) fn is_absence(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

fn kind_of(errno: Errno) -> SinkErrorKind {
    match errno {
        Errno::NOENT => SinkErrorKind::NotFound,
        Errno::EXIST => SinkErrorKind::AlreadyExists,
        Errno::ACCESS | Errno::PERM => SinkErrorKind::PermissionDenied,
        Errno::ROFS => SinkErrorKind::ReadOnly,
        Errno::NOSPC | Errno::DQUOT => SinkErrorKind::NoSpace,
        // What a file server that is away, or a mount that is coming back, answers with.
        Errno::TIMEDOUT
        | Errno::AGAIN
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::NETDOWN
        | Errno::NETUNREACH
        | Errno::CONNREFUSED
        | Errno::CONNRESET
        | Errno::CONNABORTED
        | Errno::NOTCONN => SinkErrorKind::Unavailable,
        _ => SinkErrorKind::Other,
    }
}
