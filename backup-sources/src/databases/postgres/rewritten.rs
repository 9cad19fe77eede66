//! Tables that were emptied, or written anew, between the moment at which the view was taken and the one at which pg_dump
//! locked them. The view shows them without their rows (`TRUNCATE`, and `ALTER TABLE` where it rewrites, do not keep what
//! older views need), and neither server nor pg_dump says so.
//!
//! What is always true: this is asked once pg_dump holds all its locks, so that nothing of the kind can come later.

use std::collections::HashSet;

use backup_core::Result;
use backup_core::contracts::SourceError;
use backup_core::model::SnapshotPath;

use super::connection::Connection;
use super::contents::Contents;

/// The numbers of tables whose file is another than in the view of `connection`. pg_dump need not dump all of them.
pub(super) fn rewritten(connection: &Connection) -> Result<HashSet<u32>> {
    // The catalogue is read in the view; the function tells how it is now. The catalogues themselves have no number here.
    let rows = connection.ask(
        "SELECT oid FROM pg_catalog.pg_class WHERE relkind = 'r' AND relfilenode <> 0 \
         AND pg_catalog.pg_relation_filenode(oid) IS DISTINCT FROM relfilenode",
    )?;
    Ok(rows.into_iter().flatten().flatten().filter_map(|number| number.parse().ok()).collect())
}

/// The failure of a dump in which rows of one of these tables would be missing.
pub(super) fn failure(path: &SnapshotPath, rewritten: &HashSet<u32>, contents: &Contents) -> Option<SourceError> {
    let mut entries = contents.entries();
    let entry = entries.find(|entry| entry.table.is_some_and(|number| rewritten.contains(&number)))?;
    let why = format!(
        "the table {} was emptied or written anew as the dump began, so that rows of it would be missing",
        entry.object()
    );
    Some(SourceError::new("dump", path.clone(), why).with_hint("run it again; no snapshot was made"))
}
