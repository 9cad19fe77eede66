//! Whether somebody has a database open: what must be known before another file takes its name, because a program that
//! goes on writing to the old one would lose what it writes.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

/// The files beside a database that belong to it alone: they would be taken for the new one's.
pub(super) fn companions(database: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    ["-wal", "-shm", "-journal"].into_iter().map(|ending| {
        let mut path = database.as_os_str().to_owned();
        path.push(ending);
        path.into()
    })
}

/// Who has `database` open, in words; `None` when nobody was found. Programs that hold no lock at the moment are found
/// among the processes that this one may look at: all of them for root, its own user's for others.
///
/// Asking brings what is left of the old database's log into it, so that the file is whole on its own.
pub(super) fn user_of(database: &Path) -> io::Result<Option<String>> {
    let Some(wanted) = found(fs::metadata(database))? else { return Ok(None) };
    if let Some(process) = holder(wanted.dev(), wanted.ino())? {
        return Ok(Some(process));
    }
    Ok(is_locked(database).then(|| "a program that holds a lock on it".to_owned()))
}

/// The process other than this one that has the file open.
fn holder(device: u64, inode: u64) -> io::Result<Option<String>> {
    let own = std::process::id().to_string();
    for process in fs::read_dir("/proc")? {
        let process = process?;
        let id = process.file_name();
        if !id.as_encoded_bytes().iter().all(u8::is_ascii_digit) || id == *own {
            continue;
        }
        // Processes end, and those of others do not show their files.
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let Ok(open) = fs::metadata(descriptor.path()) else { continue };
            if (open.dev(), open.ino()) == (device, inode) {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                return Ok(Some(format!("process {} ({})", id.to_string_lossy(), name.trim())));
            }
        }
    }
    Ok(None)
}

/// Whether the database cannot be had for oneself. What is no database any more has no locks.
fn is_locked(database: &Path) -> bool {
    let alone = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(database, flags)?;
        connection.busy_timeout(Duration::from_millis(200))?;
        connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT")
    };
    let outcome: rusqlite::Result<()> = alone();
    let code = outcome.err().and_then(|error| error.sqlite_error_code());
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn found<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(Some),
    }
}
