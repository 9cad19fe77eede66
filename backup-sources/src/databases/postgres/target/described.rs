//! The dump of a database before and after it is loaded: whether it is whole, and what its manifest describes.
//!
//! What is always true: an error says what became of the database, and "nothing was loaded" only where that is so. Called by the
//! target, in the order of a restore.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use backup_core::contracts::{Expectation, Stored, TargetError};
use backup_core::model::SnapshotPath;
use backup_core::{Error, ErrorKind};
use postgres_protocol::escape::escape_identifier;

use super::{DUMP, PostgresTarget, Way};
use crate::databases::postgres::archive::{Data, Found};
use crate::databases::postgres::contents::{Contents, Entry};
use crate::databases::postgres::directory;
use crate::databases::postgres::failure::words;
use crate::databases::postgres::laid_out::{LaidOut, StoredDump};
use crate::databases::postgres::observe::{self, Difference};
use crate::databases::postgres::places::Places;

impl PostgresTarget {
    /// The dump in the repository, when it is loaded from there.
    pub(super) fn stored_dump<'a>(&self, stored: &'a dyn Stored, folder: &'a Path) -> Option<StoredDump<'a>> {
        let places = match self.way {
            Way::Copied => return None,
            Way::OneFile => Some(Places::of(&self.manifest.details)?),
            Way::Folder => None,
        };
        Some(StoredDump { stored, path: SnapshotPath::parse(DUMP.as_bytes()), places, folder })
    }

    /// The table of contents of a dump in the repository, when it is that which the manifest describes.
    pub(super) fn described(&self, dump: &StoredDump<'_>) -> Result<Contents, TargetError> {
        let contents = dump.contents().map_err(untouched)?;
        let found: Vec<_> = contents.entries().filter(|entry| !entry.has_data).filter_map(Entry::expectation).collect();
        let expected = self.manifest.report.expectations.iter();
        let expected: Vec<_> = expected.filter(|expected| !observe::is_of_rows(expected)).cloned().collect();
        match observe::compare(&expected, &found).iter().find(|difference| !difference.is_of_the_database()) {
            None => Ok(contents),
            Some(difference) => {
                let why = format!("it is not the dump that its manifest describes: {}", difference.told());
                Err(untouched(io::Error::other(why)))
            }
        }
    }

    pub(super) fn lay_out(
        &self,
        dump: Option<&StoredDump<'_>>,
        contents: Option<&Contents>,
        wanted: Option<&HashSet<i32>>,
    ) -> Result<Option<LaidOut>, TargetError> {
        let (Some(dump), Some(contents)) = (dump, contents) else { return Ok(None) };
        // A part, and whatever one connection loads, comes in the order of the dump.
        let is_in_order = wanted.is_some() || self.options.jobs.is_some_and(|jobs| jobs.get() == 1);
        dump.lay_out(contents, wanted, is_in_order, self.options.space).map(Some).map_err(untouched)
    }

    /// Looks whether what was loaded is what the manifest says.
    pub(super) fn compare(&self, contents: &Contents, data: Data) -> Result<(), TargetError> {
        let found = Found::of(contents, data).map_err(|error| self.incomplete(io::Error::other(error)))?;
        match self.difference(&found) {
            None => Ok(()),
            Some(difference) => {
                let why = format!("what was loaded is not what its manifest describes: {}", difference.told());
                Err(self.incomplete(io::Error::other(why)))
            }
        }
    }

    /// The same of a part. Rows of partitions are known together only, and are passed over.
    pub(super) fn compare_part(&self, contents: &Contents, data: &Data) -> Result<(), TargetError> {
        let expected = &self.manifest.report.expectations;
        for entry in contents.entries().filter(|entry| entry.root().is_none()) {
            let Some(rows) = data.rows.get(&entry.number) else { continue };
            let found = rows.expectation(entry.object());
            let is_it = |other: &&Expectation| (&other.kind, &other.object) == (&found.kind, &found.object);
            if expected.iter().find(is_it).is_some_and(|expected| *expected != found) {
                let why = format!("{} was loaded, and is not what its manifest describes", entry.object());
                return Err(failed_to_read(io::Error::other(why)).with_hint("take it from another snapshot"));
            }
        }
        Ok(())
    }

    /// The first thing of a dump that is not as the manifest says.
    pub(super) fn difference(&self, found: &Found) -> Option<Difference> {
        // Manifests of before counted the rows of every partition for itself, and hashed what belongs to the database itself
        // with its name.
        let all = [&found.expectations[..], &found.apart].concat();
        let differences = observe::compare(&self.manifest.report.expectations, &all);
        differences.into_iter().find(|difference| !difference.is_of_the_database())
    }

    /// That loading has begun, and did not come to its end.
    pub(super) fn incomplete(&self, error: io::Error) -> TargetError {
        let state = match self.loaded == self.database {
            true => format!("the database {} is not complete", escape_identifier(&self.database)),
            false => format!("the database {} is as it was", escape_identifier(&self.database)),
        };
        let hint = match is_damage(&error) {
            true => format!("{state}; `check --read-data` shows what is damaged, another snapshot may be whole"),
            false => state,
        };
        failed_to_read(error).with_hint(hint)
    }

    /// Looks whether a copy of a dump is whole and what the manifest says, and completes it with the places of its data.
    pub(super) fn check(&self, dump: &Path) -> Result<(), TargetError> {
        let found = match dump.is_dir() {
            true => directory::read(dump),
            false => File::open(dump).and_then(|mut file| observe::read(&mut file)),
        };
        let found = found.map_err(untouched)?;
        if !found.is_understood {
            return Ok(());
        }
        if let Some(difference) = self.difference(&found) {
            let why = format!("it is not the dump that its manifest describes: {}", difference.told());
            return Err(untouched(io::Error::other(why)));
        }
        if found.blocks.is_empty() {
            return Ok(());
        }
        let complete = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).open(dump)?;
            for block in &found.blocks {
                file.seek(SeekFrom::Start(block.entry_place))?;
                file.write_all(&block.place())?;
            }
            Ok(())
        };
        complete().map_err(|error| TargetError::of_io("write", SnapshotPath::parse(DUMP.as_bytes()), &error))
    }
}

/// That a dump is not loaded, of which nothing was.
fn untouched(error: io::Error) -> TargetError {
    let (is_of_pipes, is_damage) = (error.kind() == io::ErrorKind::Unsupported, is_damage(&error));
    let failed = failed_to_read(error);
    let hint = match failed.is_fatal {
        _ if is_of_pipes => "nothing was loaded; name a folder on a file system of this machine with --spool",
        true => "nothing was loaded; name a folder with more space with --spool",
        false if is_damage => {
            "nothing was loaded; `check --read-data` shows what else is damaged, another snapshot may be whole"
        }
        false => "nothing was loaded",
    };
    failed.with_hint(hint)
}

/// Whether the repository does not hold what it should: neither the store, nor this machine, nor pg_restore, nor who asked for
/// a stop is to blame.
pub(super) fn is_damage(error: &io::Error) -> bool {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => matches!(error.kind(), ErrorKind::Damaged(_) | ErrorKind::Missing),
        None => error.raw_os_error().is_none() && error.kind() != io::ErrorKind::BrokenPipe,
    }
}

pub(super) fn failed_to_read(error: io::Error) -> TargetError {
    let path = SnapshotPath::parse(DUMP.as_bytes());
    match error.downcast::<Error>() {
        Ok(error) => TargetError::new("load", path, words(&error)),
        Err(error) => TargetError::of_io("load", path, &error),
    }
}
