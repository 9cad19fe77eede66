//! What a job consists of, as a restore sees it.

use std::collections::{BTreeMap, BTreeSet};

use backup_core::model::{SnapshotId, SnapshotPath};
use backup_core::observe::Silent;
use backup_core::pipeline::FileReader;
use backup_core::policy::JobFacts;
use backup_core::repository::{Repository, SnapshotQuery};
use backup_core::runbook::{Part, PartKind};
use backup_sources::databases::manifest::{MANIFEST, Manifest};
use backup_sources::databases::url::{DatabaseUrl, Engine};

use crate::config::{Job, Source};
use crate::session::Session;

/// The parts of a job: as its snapshots show, or else as its source says.
pub(super) fn of_job(
    job: &Job,
    facts: &JobFacts,
    open: &BTreeMap<String, Repository>,
    session: Option<&Session>,
) -> Vec<Part> {
    match &job.source {
        Source::Files { paths, .. } => {
            let absolute = |path: &std::path::PathBuf| {
                std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()
            };
            vec![plain(PartKind::Files(paths.iter().map(absolute).collect()))]
        }
        Source::Command { name, .. } => vec![output(&format!("/command/{name}"))],
        Source::Database { url, .. } => {
            let folders = dumps(facts);
            let several = folders.len() > 1;
            let mut parts: Vec<_> = folders
                .into_iter()
                .map(|folder| {
                    let manifest = session.and_then(|session| manifest(facts, &folder, open, session));
                    database(Some(url), folder, manifest.as_ref(), several)
                })
                .collect();
            if parts.is_empty() {
                let name = url.database().ok().flatten().unwrap_or_default();
                parts.push(database(Some(url), format!("/{}/{name}", url.engine().name()), None, false));
            }
            parts
        }
    }
}

/// The folders of a job's dumps, in any of its copies.
pub(super) fn dumps(facts: &JobFacts) -> BTreeSet<String> {
    let backups = facts.copies.iter().flat_map(|copy| &copy.history.backups);
    backups.filter_map(|backup| backup.part.paths.as_ref()?.first().cloned()).collect()
}

/// A part that is a command's output.
pub(super) fn output(file: &str) -> Part {
    plain(PartKind::Output(file.to_owned()))
}

/// A part that needs no programs: the only one of its job.
pub(super) fn plain(kind: PartKind) -> Part {
    Part { source: None, kind, tools: Vec::new(), extensions: Vec::new() }
}

/// A part that is a database, in the folder of its dump. Without an address the reader has to put one in.
pub(super) fn database(url: Option<&DatabaseUrl>, folder: String, manifest: Option<&Manifest>, several: bool) -> Part {
    let mut steps = folder.trim_start_matches('/').splitn(2, '/');
    let (engine, tail) = (steps.next().unwrap_or_default().to_owned(), steps.next().unwrap_or_default().to_owned());
    let name = manifest.map_or_else(|| decoded(&tail), |manifest| manifest.database.clone());
    let url = match url {
        Some(url) if matches!(url.engine(), Engine::Sqlite | Engine::Redis) => url.to_string(),
        Some(url) => url.with_database(&name).to_string(),
        None if engine == "sqlite" => format!("sqlite:/srv/restored/{name}"),
        None if engine == "redis" => "redis://HOST/".to_owned(),
        None => format!("{engine}://USER@HOST/{tail}"),
    };
    let tools = manifest.map(|manifest| &manifest.report.tools).into_iter().flatten();
    let tools = tools.map(|tool| format!("{} {}", tool.name, tool.version)).collect();
    let source = several.then(|| folder.clone());
    let expected = manifest.iter().flat_map(|manifest| &manifest.report.expectations);
    // One that every cluster has needs no package.
    let extensions = expected.filter(|expected| expected.kind == "extension" && expected.object != "plpgsql");
    let extensions = extensions.map(|expected| expected.object.clone()).collect();
    Part { source, kind: PartKind::Database { engine, folder, name, url }, tools, extensions }
}

/// The manifest of the newest dump in a folder, from the first copy that gives it.
fn manifest(
    facts: &JobFacts,
    folder: &str,
    open: &BTreeMap<String, Repository>,
    session: &Session,
) -> Option<Manifest> {
    facts.copies.iter().find_map(|copy| {
        let repository = open.get(&copy.repository)?;
        let is_of = |paths: &Option<Vec<String>>| paths.as_ref().is_some_and(|paths| paths.iter().eq([folder]));
        let newest = copy.history.backups.iter().rfind(|backup| is_of(&backup.part.paths))?;
        read_manifest(repository, newest.snapshot, folder, session)
    })
}

/// The manifest of a dump; `None` when it cannot be read, which costs the runbook some versions and nothing else.
pub(super) fn read_manifest(
    repository: &Repository,
    id: SnapshotId,
    folder: &str,
    session: &Session,
) -> Option<Manifest> {
    let (_, snapshot) = repository.find_snapshot(&id.to_string(), &SnapshotQuery::default()).ok()?;
    let file = SnapshotPath::parse(folder.as_bytes()).join(MANIFEST.as_bytes());
    let read = || -> backup_core::Result<Manifest> {
        // What this reading tells is no part of what is printed.
        let lock = repository.lock(session.globals.shared_lock(), &Silent)?;
        let index = repository.load_index(&Silent)?;
        lock.confirm(&Silent)?;
        Manifest::read(FileReader::open(repository, &index, &snapshot, &file)?)
    };
    read().ok()
}

/// A name as it was before it became a folder's: some bytes are written there as a percent sign and two digits.
fn decoded(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let written = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(written.unwrap_or(b'%'));
        rest = if written.is_some() { &after[2..] } else { after };
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_it_was() {
        let name = |written: &str| decoded(written);
        assert_eq!(
            (name("a%2Fb%25"), name("%2E%2E"), name("a%0Ab"), name("50%")),
            ("a/b%".into(), "..".into(), "a\nb".into(), "50%".into())
        );
    }

    #[test]
    fn a_dump_goes_back_to_where_it_came_from_or_to_an_address_that_has_to_be_put_in() {
        let url = |part: &Part| match &part.kind {
            PartKind::Database { url, .. } => url.clone(),
            other => panic!("{other:?}"),
        };
        let server = DatabaseUrl::parse("postgres://me:secret@db/").unwrap();
        let part = database(Some(&server), "/postgres/a%2Fb".to_owned(), None, true);
        assert_eq!((url(&part).as_str(), part.source.as_deref()), ("postgres://me@db/a%2Fb", Some("/postgres/a%2Fb")));
        assert_eq!(url(&database(None, "/mysql/shop".to_owned(), None, false)), "mysql://USER@HOST/shop");
        let file = DatabaseUrl::parse("sqlite:/srv/app.db").unwrap();
        assert_eq!(url(&database(Some(&file), "/sqlite/app.db".to_owned(), None, false)), "sqlite:/srv/app.db");
    }
}
