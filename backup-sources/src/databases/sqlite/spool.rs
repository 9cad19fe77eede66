//! A copy of a database that cannot be read in one go without keeping its writers out: SQLite's own online backup into a
//! private file.
//!
//! The file has lost its name before its first page is in it, so a run that is killed leaves nothing. The copy is made
//! in slices; between two of them writers have their turn. When one of them wrote, SQLite begins anew. A database that
//! is written to all the time is copied in one go after a few attempts, if that keeps writers waiting for no longer than
//! they commonly wait; otherwise the copy fails, and says that WAL mode is the way out.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use backup_core::limits::{SQLITE_COPY_ATTEMPTS_MAX, SQLITE_SLICE_BYTES, SQLITE_WRITERS_WAIT_MAX};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::source::told;

/// How long to wait before asking for a lock again.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// How a database is copied that is not in WAL mode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slices {
    /// Bytes that are copied while writers wait.
    pub(super) bytes: u64,
    /// How often the copy may begin anew before it is made in one go.
    pub(super) attempts: u32,
    /// How long writers may wait for that.
    pub(super) wait: Duration,
}

impl Default for Slices {
    fn default() -> Self {
        Self { bytes: SQLITE_SLICE_BYTES, attempts: SQLITE_COPY_ATTEMPTS_MAX, wait: SQLITE_WRITERS_WAIT_MAX }
    }
}

/// A copy.
pub(super) struct Spooled {
    /// A connection to the copy.
    pub(super) view: Connection,
    /// The copy's bytes, from the first.
    pub(super) copy: File,
    pub(super) warning: Option<String>,
}

/// Copies what `from` shows into a file in `folder`: in `slices`, or in one go where a reader keeps nobody out.
pub(super) fn take(
    from: &Connection,
    folder: &Path,
    patience: Duration,
    slices: Option<Slices>,
) -> Result<Spooled, String> {
    let no_room = |error: &dyn std::fmt::Display| format!("no copy can be made in {}: {error}", folder.display());
    // Looking often is what gets a turn between two writers; SQLite's own waiting looks ten times a second.
    from.busy_timeout(Duration::ZERO).map_err(|error| told(&error))?;
    let page_bytes = number(from, "PRAGMA page_size", patience)?;
    let bytes = page_bytes * number(from, "PRAGMA page_count", patience)?;
    let free = rustix::fs::statvfs(folder).map_err(|error| no_room(&error))?;
    if free.f_bavail * free.f_frsize < bytes {
        return Err(no_room(&format_args!("it needs {bytes} bytes, and {} are free", free.f_bavail * free.f_frsize)));
    }
    let named =
        tempfile::Builder::new().prefix(".backup-sqlite-").tempfile_in(folder).map_err(|error| no_room(&error))?;
    let mut view =
        Connection::open_with_flags(named.path(), OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(|error| told(&error))?;
    // A copy that is thrown away after a crash needs neither.
    view.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").map_err(|error| told(&error))?;
    let copy = named.into_file();
    let warning = copy_all(from, &mut view, page_bytes, patience, slices)?;
    Ok(Spooled { view, copy, warning })
}

fn copy_all(
    from: &Connection,
    to: &mut Connection,
    page_bytes: u64,
    patience: Duration,
    slices: Option<Slices>,
) -> Result<Option<String>, String> {
    let backup = Backup::new(from, to).map_err(|error| told(&error))?;
    let Some(slices) = slices else {
        return in_one_go(&backup, patience).map(|_| None);
    };
    let pages = i32::try_from(slices.bytes / page_bytes).unwrap_or(i32::MAX).max(1);
    let (mut attempts, mut copied_before) = (1, 0);
    let (mut copying, mut copied_bytes) = (Duration::ZERO, 0);
    let mut busy_since = None;
    loop {
        let began = Instant::now();
        let step = backup.step(pages).map_err(|error| told(&error))?;
        copying += began.elapsed();
        match step {
            StepResult::Done => return Ok(None),
            StepResult::More => busy_since = None,
            _ if busy_since.get_or_insert(began).elapsed() > patience => return Err(locked(patience)),
            _ => {}
        }
        let progress = backup.progress();
        let copied = progress.pagecount - progress.remaining;
        copied_bytes += u64::from(pages.unsigned_abs()) * page_bytes;
        if copied < copied_before {
            attempts += 1;
        }
        copied_before = copied;
        if attempts > slices.attempts {
            let whole = u64::from(progress.pagecount.unsigned_abs()) * page_bytes;
            let estimate = copying.mul_f64(whole as f64 / copied_bytes.max(1) as f64);
            if estimate > slices.wait {
                return Err(format!(
                    "it is written to more often than its {whole} bytes can be copied; in WAL mode \
                     (PRAGMA journal_mode = WAL) a backup and writers do not disturb each other"
                ));
            }
            let waited = in_one_go(&backup, patience)?;
            return Ok(Some(format!(
                "writers had to wait for {} ms: the database is not in WAL mode and is written to all the time",
                waited.as_millis()
            )));
        }
        // A turn for those who wait: they too look every few milliseconds.
        thread::sleep(if step == StepResult::More { 2 * LOOK_AGAIN } else { LOOK_AGAIN });
    }
}

fn in_one_go(backup: &Backup<'_, '_>, patience: Duration) -> Result<Duration, String> {
    let asked = Instant::now();
    loop {
        let began = Instant::now();
        match backup.step(-1).map_err(|error| told(&error))? {
            StepResult::Done => return Ok(began.elapsed()),
            _ if asked.elapsed() > patience => return Err(locked(patience)),
            _ => thread::sleep(LOOK_AGAIN),
        }
    }
}

fn locked(patience: Duration) -> String {
    format!("another program kept it locked for {} seconds", patience.as_secs())
}

fn number(view: &Connection, pragma: &str, patience: Duration) -> Result<u64, String> {
    let asked = Instant::now();
    loop {
        match view.query_row(pragma, [], |row| row.get(0)) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                if asked.elapsed() > patience {
                    return Err(locked(patience));
                }
                thread::sleep(LOOK_AGAIN);
            }
            outcome => return outcome.map_err(|error| told(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Two connections to a database of about 400 KB, and a folder.
    fn database() -> (Connection, Connection, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch("CREATE TABLE t(a); INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT randomblob(400) FROM n")
            .unwrap();
        (super::super::source::connect(&path, Duration::from_secs(1)).unwrap(), writer, folder)
    }

    fn small(wait: Duration) -> Option<Slices> {
        Some(Slices { bytes: 4_096, attempts: 2, wait })
    }

    /// Writes whenever it can until the copy is there.
    fn copy_under_writes(slices: Option<Slices>) -> Result<Spooled, String> {
        let (view, writer, folder) = database();
        let stop = AtomicBool::new(false);
        let stopped = &stop;
        thread::scope(|scope| {
            scope.spawn(move || {
                writer.busy_timeout(Duration::from_secs(10)).unwrap();
                while !stopped.load(Ordering::Relaxed) {
                    writer.execute_batch("INSERT INTO t VALUES (randomblob(10))").unwrap();
                    thread::sleep(Duration::from_millis(1));
                }
            });
            let outcome = take(&view, folder.path(), Duration::from_secs(20), slices);
            stop.store(true, Ordering::Relaxed);
            outcome
        })
    }

    #[test]
    fn a_copy_in_slices_is_whole_and_has_no_name() {
        let (view, _writer, folder) = database();
        let Spooled { view, copy, warning } =
            take(&view, folder.path(), Duration::from_secs(1), small(Duration::ZERO)).unwrap();
        assert_eq!(warning, None);
        assert_eq!(number(&view, "SELECT count(*) FROM t", Duration::ZERO), Ok(1_000));
        let pages = number(&view, "PRAGMA page_count", Duration::ZERO).unwrap();
        assert_eq!(copy.metadata().unwrap().len(), pages * 4_096);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_database_that_is_never_left_alone_is_copied_in_one_go_and_that_is_told() {
        let Spooled { view, warning, .. } = copy_under_writes(small(Duration::from_secs(60))).unwrap();
        assert!(warning.unwrap().contains("writers had to wait"));
        assert_eq!(view.query_row("PRAGMA integrity_check", [], |row| row.get(0)), Ok("ok".to_owned()));
    }

    #[test]
    fn a_copy_that_would_keep_writers_waiting_for_too_long_fails_and_says_what_helps() {
        let Err(told) = copy_under_writes(small(Duration::ZERO)) else { panic!("it was copied") };
        assert!(told.contains("PRAGMA journal_mode = WAL"), "{told}");
    }
}
