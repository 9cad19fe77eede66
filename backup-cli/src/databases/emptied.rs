//! Whether a database that was backed up holds nothing any more.

use backup_core::model::{SnapshotId, SnapshotPath};
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOutcome, FileReader};
use backup_core::policy::{self, Amounts, Suspicion};
use backup_core::repository::Repository;
use backup_sources::databases::manifest::{MANIFEST, Manifest};

use crate::console::Console;

/// What looks wrong with a database at the first of `paths` beside the parent snapshot: that it is empty, and was not then.
/// Only for one that is empty the parent is looked at; when it cannot be read, that is told.
pub(crate) fn emptied(
    repository: &Repository,
    outcome: &BackupOutcome,
    paths: &[String],
    console: &Console,
) -> Option<Suspicion> {
    let now = outcome.report.rows().filter(|rows| *rows == 0)?;
    let (parent, path) = (outcome.parent?, paths.first()?);
    match rows_of(repository, parent, path) {
        Ok(before) => {
            let of = |rows| Amounts { rows, ..Amounts::default() };
            policy::suspicion(of(Some(now)), &[of(before)])
        }
        Err(error) => {
            console.warn(&format!("it is empty, and whether it was so in the snapshot before is not known: {error}"));
            None
        }
    }
}

/// What the manifest of the database at `path` counts.
fn rows_of(repository: &Repository, snapshot: SnapshotId, path: &str) -> backup_core::Result<Option<u64>> {
    let (_, snapshot) = repository.find_snapshot(&snapshot.to_string(), &Default::default())?;
    let index = repository.load_index(&Silent)?;
    let path = SnapshotPath::parse(path.as_bytes()).join(MANIFEST.as_bytes());
    let reader = FileReader::open(repository, &index, &snapshot, &path)?;
    Ok(Manifest::read(reader)?.report.rows())
}
