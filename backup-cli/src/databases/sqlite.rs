//! SQLite on the command line.

use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use backup_core::clock::{Clock, SystemClock};
use backup_core::contracts::Source;
use backup_sources::databases::differences;
use backup_sources::databases::manifest::Manifest;
use backup_sources::databases::sqlite::{
    Check, Existing, Sort, SqliteOptions, SqliteSource, SqliteTarget, Users, observe,
};
use backup_sources::databases::url::DatabaseUrl;

use super::{Cleaning, Loading, Verified};
use crate::exit::Failure;

pub(super) fn source(url: &DatabaseUrl) -> Result<Box<dyn Source>, Failure> {
    let options = SqliteOptions::new(env::temp_dir()).with_parameters(url)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Ok(Box::new(SqliteSource::open(path(url)?, &options, &clock)?))
}

pub(super) fn target(url: &DatabaseUrl, cleaning: Cleaning, is_in_use: bool) -> Result<Box<dyn Loading>, Failure> {
    let existing = if cleaning == Cleaning::Asked { Existing::Replace } else { Existing::Refuse };
    let users = if is_in_use { Users::Ignore } else { Users::Refuse };
    Ok(Box::new(SqliteTarget::new(path(url)?.to_owned(), existing, users)))
}

/// The file's bytes were compared as they were written; here it is opened, as a program will.
pub(super) fn verify(url: &DatabaseUrl, manifest: &Manifest) -> Result<Verified, Failure> {
    let (observed, findings) = observe(path(url)?, Check::Full)?;
    let expected: Vec<_> =
        manifest.report.expectations.iter().filter(|expected| expected.kind != "image").cloned().collect();
    let mut losses = differences(&expected, &observed);
    let (damage, others): (Vec<_>, Vec<_>) = findings.into_iter().partition(|finding| finding.sort == Sort::Damage);
    losses.extend(damage.into_iter().map(|finding| finding.text));
    // A restore brings back what was there, with what a program had written against the rules.
    let notes = others.into_iter().map(|finding| finding.text).collect();
    Ok(Verified { objects: expected.len(), losses, notes })
}

impl Loading for SqliteTarget {
    fn warnings(&self) -> Vec<String> {
        Self::warnings(self)
    }
}

fn path(url: &DatabaseUrl) -> Result<&Path, Failure> {
    match url.path() {
        b"" => Err(Failure::usage("sqlite: names no file", "write sqlite:/path/file.db")),
        path => Ok(Path::new(OsStr::from_bytes(path))),
    }
}
