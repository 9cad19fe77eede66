//! What a database shows, in the words of a manifest, and how it differs from what it must show.
//!
//! A restored database is dumped once more, to nowhere, and what passes is counted and hashed by the code that made the
//! manifest: the same statements, the same COPY, the same words of pg_dump for the same object.

use std::io;

use backup_core::contracts::Expectation;
use backup_core::limits::READ_BUFFER_BYTES;
use backup_core::model::SnapshotPath;
use backup_core::{Error, ErrorKind, Result};

use super::archive::{Found, Inspector, Layout};
use super::connection::Connection;
use super::contents::Contents;
use super::directory;
use super::dump::Dump;
use super::failure;
use super::server::Server;
use super::source::{DumpOptions, Form, dump_command};
use super::tls::Protection;
use super::view::{Version, writing_alike};

/// Reads all of a database and tells what is in it.
///
/// # Errors
///
/// When it cannot be read, as [`super::PostgresSource::connect`], or when the versions' format is not understood.
pub fn observe(server: &Server, database: &str, options: &DumpOptions) -> Result<Vec<Expectation>> {
    let (connection, server) = Connection::open(server, database)?;
    let version = Version::of(&connection)?;
    let server = writing_alike(server, &connection);
    let programs = server
        .programs(version.major)
        .map_err(|(what, hint)| Error::invalid(server.location(), what).with_hint(hint))?;
    let protection = Protection::of(&server)?;
    let failed = |why: String| Error::new(ErrorKind::Source(why), server.location());
    let command =
        dump_command(&server, database, &programs, &protection, &options.wanted(&connection)?, Form::Streamed, None);
    let mut dump = Dump::start(command).map_err(failed)?;
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    while dump.read(&mut buffer).map_err(|error| failed(error.to_string()))? > 0 {}
    let path = SnapshotPath::parse(database.as_bytes());
    let (found, _) = dump
        .finish(&path, |ended| failure::of_dump(path.clone(), ended, Some(&connection)))
        .map_err(|error| failed(error.reason))?;
    if !found.is_understood {
        return Err(failed(format!("pg_dump {} writes a format that is not known here", programs.version)));
    }
    Ok(found.expectations)
}

/// Reads a dump to its end and tells what is in it; `None` when its format is not known here.
///
/// # Errors
///
/// When it is no dump, damaged, or not whole: of kind [`io::ErrorKind::Other`], or what reading it gave.
pub fn inspect(mut dump: impl io::Read) -> io::Result<Option<Vec<Expectation>>> {
    let found = read(&mut dump)?;
    Ok(found.is_understood.then_some(found.expectations))
}

/// Reads the table of contents of a dump in the directory format, and tells which files it names; `None` when its format
/// is not known here.
///
/// # Errors
///
/// As [`inspect`], and when it names a file that lies elsewhere.
pub fn inspect_contents(contents: impl io::Read) -> io::Result<Option<Vec<String>>> {
    let contents = directory::contents(contents)?;
    Ok(contents.map(|contents| contents.entries().filter_map(|entry| entry.file().map(str::to_owned)).collect()))
}

/// The same as [`inspect`], with everything that is known of it.
pub(super) fn read(dump: &mut impl io::Read) -> io::Result<Found> {
    let mut inspector = Inspector::new(Layout::OneFile);
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    loop {
        match dump.read(&mut buffer) {
            Ok(0) => return inspector.finish().map_err(io::Error::other),
            Ok(length) => inspector.look(&buffer[..length]).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The table of contents of a dump in the custom format; `None` when its format is not known here. What follows it is not
/// read.
pub(super) fn contents(mut dump: impl io::Read) -> io::Result<Option<Contents>> {
    let mut inspector = Inspector::new(Layout::OneFile);
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    while !inspector.has_contents() {
        match dump.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => inspector.look(&buffer[..length]).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    inspector.into_contents().map_err(io::Error::other)
}

/// The same expectations for a database that is called `name`: what belongs to the database as a whole is told by its name.
pub fn of_name(mut expectations: Vec<Expectation>, name: &str) -> Vec<Expectation> {
    for expectation in &mut expectations {
        if is_of_the_database(expectation) {
            expectation.object = format!("DATABASE {name}");
        }
    }
    expectations
}

/// Whether it belongs to the database as a whole: its settings, its comment, its grants.
pub(super) fn is_of_the_database(expectation: &Expectation) -> bool {
    expectation.object.starts_with("DATABASE ")
}

/// Whether it is of data that comes after the table of contents: rows, large objects.
pub(super) fn is_of_rows(expectation: &Expectation) -> bool {
    matches!(expectation.kind.as_str(), "table data" | "large objects")
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What was expected.
    pub expected: Expectation,
    /// What there is instead; `None` when there is nothing.
    pub observed: Option<Expectation>,
}

impl Difference {
    /// Whether only the words of a definition differ. PostgreSQL itself may spell an expression in another way once it
    /// was dumped and restored, a check of `varchar` values for one; data that differs, or an object that is not there,
    /// is another matter.
    pub fn is_of_words(&self) -> bool {
        let is_definition = self.expected.hash.as_deref().is_some_and(|hash| hash.starts_with("definition-"));
        self.observed.is_some() && is_definition
    }

    /// Whether it is of the database itself: its settings, its comment, its grants. They are restored with a database that
    /// is made for it; one that was there keeps its own.
    pub fn is_of_the_database(&self) -> bool {
        is_of_the_database(&self.expected)
    }

    /// In words, without any value.
    pub fn told(&self) -> String {
        let Expectation { kind, object, count, .. } = &self.expected;
        match &self.observed {
            _ if self.is_of_the_database() => {
                format!("{kind} {object} belongs to the database itself, and is another here")
            }
            None => format!("{kind} {object} is missing"),
            Some(observed) if observed.count != *count => {
                let number = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
                format!("{kind} {object}: {} instead of {}", number(observed.count), number(*count))
            }
            Some(_) if self.is_of_words() => format!("{kind} {object} is defined in other words"),
            Some(_) => format!("{kind} {object} has another content"),
        }
    }
}

/// Everything that was expected and is not so. What is there besides is not looked at.
pub fn compare(expected: &[Expectation], observed: &[Expectation]) -> Vec<Difference> {
    let mut found: std::collections::HashMap<(&str, &str), Vec<&Expectation>> = Default::default();
    for observed in observed {
        found.entry((&observed.kind, &observed.object)).or_default().push(observed);
    }
    let mut differences = Vec::new();
    for expected in expected {
        let candidates = found.get_mut(&(expected.kind.as_str(), expected.object.as_str()));
        // A few kinds have several objects of one name, such as grants.
        let candidate = candidates.and_then(|candidates| {
            let same = candidates.iter().position(|observed| *observed == expected);
            same.or((!candidates.is_empty()).then_some(0)).map(|place| candidates.remove(place))
        });
        if candidate != Some(expected) {
            differences.push(Difference { expected: expected.clone(), observed: candidate.cloned() });
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expectation(kind: &str, object: &str, count: Option<u64>, hash: &str) -> Expectation {
        Expectation { kind: kind.to_owned(), object: object.to_owned(), count, hash: Some(hash.to_owned()) }
    }

    #[test]
    fn what_is_missing_short_changed_or_in_other_words_is_told_apart() {
        let expected = [
            expectation("table data", "public.gone", Some(1), "rows-x:1"),
            expectation("table data", "public.short", Some(2), "rows-x:1"),
            expectation("table data", "public.other", Some(2), "rows-x:1"),
            expectation("view", "public.v", None, "definition-x:1"),
            expectation("table data", "public.same", Some(2), "rows-x:1"),
            expectation("comment", "DATABASE app", None, "definition-x:1"),
        ];
        let observed = [
            expectation("table data", "public.short", Some(1), "rows-x:2"),
            expectation("table data", "public.other", Some(2), "rows-x:2"),
            expectation("view", "public.v", None, "definition-x:2"),
            expectation("table data", "public.same", Some(2), "rows-x:1"),
            expectation("table data", "public.besides", Some(2), "rows-x:1"),
        ];
        let found = compare(&expected, &observed);
        assert_eq!(found.iter().filter(|found| found.is_of_the_database()).count(), 1);
        let told: Vec<_> = found.iter().map(|d| (d.told(), d.is_of_words())).collect();
        let told: Vec<_> = told.iter().map(|(text, words)| (text.as_str(), *words)).collect();
        assert_eq!(
            told,
            [
                ("table data public.gone is missing", false),
                ("table data public.short: 1 instead of 2", false),
                ("table data public.other has another content", false),
                ("view public.v is defined in other words", true),
                ("comment DATABASE app belongs to the database itself, and is another here", false),
            ]
        );
    }

    #[test]
    fn of_several_objects_of_one_name_each_needs_its_own() {
        let twice = [expectation("acl", "x", None, "definition-x:1"), expectation("acl", "x", None, "definition-x:2")];
        let reversed = [twice[1].clone(), twice[0].clone()];
        assert!(compare(&twice, &reversed).is_empty());
        assert_eq!(compare(&twice, &twice[..1]).len(), 1);
    }
}
