//! What a snapshot holds, and the sandbox that it is restored to.

use std::path::PathBuf;

use backup_core::ErrorKind;
use backup_core::contracts::Sandbox;
use backup_core::drill::UserCheck;
use backup_core::model::{Snapshot, SnapshotPath};
use backup_core::pipeline::FileReader;
use backup_core::repository::Repository;
use backup_sources::databases::manifest::{MANIFEST, Manifest};
use backup_sources::databases::url::Engine;
use backup_sources::sandbox::{FilesSandbox, Live, Meaning};

use super::engines;
use crate::config::SandboxPlace;
use crate::databases::{DumpFolder, Known};
use crate::exit::Failure;
use crate::session::{Session, identity};

/// The engines whose databases have folders of their own in snapshots.
const ENGINES: [Engine; 5] = [Engine::Postgres, Engine::Mysql, Engine::Mongodb, Engine::Sqlite, Engine::Redis];

/// Where and how sandboxes are made.
#[derive(Clone, Debug)]
pub(crate) struct Sandboxes {
    /// The folder that they are made in.
    pub(crate) parent: PathBuf,
    /// What the configuration says of them.
    pub(crate) place: SandboxPlace,
}

/// What a snapshot holds.
#[derive(Debug)]
pub(super) struct Contents {
    /// What of it is restored; all of it when not given.
    pub(super) part: Option<SnapshotPath>,
    /// For a database.
    pub(super) manifest: Option<Manifest>,
    engine: Option<Engine>,
    /// What of a database's dump has to be known before it is restored.
    beforehand: Vec<(String, Vec<u8>)>,
    meaning: Meaning,
}

impl Contents {
    /// Looks at the snapshot: a database lies in a folder of its own with a manifest, a command's output below
    /// `/command`, and everything else is files.
    pub(super) fn of(repository: &Repository, snapshot: &Snapshot, session: &Session) -> backup_core::Result<Self> {
        let files = |meaning| Self { part: None, manifest: None, engine: None, beforehand: Vec::new(), meaning };
        let [path] = snapshot.paths.as_slice() else { return Ok(files(Meaning::Data)) };
        if is_output(path) {
            return Ok(files(Meaning::Output));
        }
        let Some(engine) = engine_of(path) else { return Ok(files(Meaning::Data)) };
        let part = SnapshotPath::parse(path.as_bytes());
        Ok(match known(repository, snapshot, &part, engine, session)? {
            Some(Known { manifest, files: beforehand }) => Self {
                part: Some(part),
                manifest: Some(manifest),
                engine: Some(engine),
                beforehand,
                meaning: Meaning::Data,
            },
            None => files(Meaning::Data),
        })
    }

    pub(super) fn engine(&self) -> Option<Engine> {
        self.engine
    }
}

/// What of a snapshot the runbook's command brings back, where it is not all of it: a command's output is one file.
pub(super) fn restored_by_runbook(snapshot: &Snapshot) -> Option<SnapshotPath> {
    match snapshot.paths.as_slice() {
        [path] if is_output(path) => Some(SnapshotPath::parse(path.as_bytes())),
        _ => None,
    }
}

/// The folder of a snapshot's database, as far as its path tells: for those who cannot read its manifest yet.
pub(super) fn folder_of(snapshot: &Snapshot) -> Option<SnapshotPath> {
    match snapshot.paths.as_slice() {
        [path] if engine_of(path).is_some() => Some(SnapshotPath::parse(path.as_bytes())),
        _ => None,
    }
}

fn is_output(path: &str) -> bool {
    path.starts_with("/command/")
}

/// The engine whose database lies at this path of a snapshot, as far as the path tells.
fn engine_of(path: &str) -> Option<Engine> {
    let is_of = |engine: &Engine| {
        path.strip_prefix('/')
            .and_then(|path| path.strip_prefix(engine.name()))
            .is_some_and(|rest| rest.starts_with('/'))
    };
    ENGINES.into_iter().find(is_of)
}

/// Which part of a job the snapshots of these paths are of: each database is one, everything else is one together.
pub(super) fn part_of(paths: &[String]) -> Vec<String> {
    match paths {
        [path] if engine_of(path).is_some() => paths.to_vec(),
        _ => Vec::new(),
    }
}

/// What is known of a dump of `engine`; `None` for a folder of files that happens to be called so.
fn known(
    repository: &Repository,
    snapshot: &Snapshot,
    part: &SnapshotPath,
    engine: Engine,
    session: &Session,
) -> backup_core::Result<Option<Known>> {
    let reporter = session.console.reporter();
    let lock = repository.lock(session.globals.shared_lock(), &*reporter)?;
    let index = repository.load_index(&*reporter)?;
    lock.confirm(&*reporter)?;
    let manifest = match FileReader::open(repository, &index, snapshot, &part.join(MANIFEST.as_bytes())) {
        Ok(reader) => Manifest::read(reader)?,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    if manifest.engine != engine.name() {
        return Ok(None);
    }
    let files = DumpFolder::open(repository, &index, snapshot, part)?.beforehand(engine)?;
    Ok(Some(Known { manifest, files }))
}

impl Sandboxes {
    /// In the folder that is named, else in the one for temporary files.
    pub(crate) fn new(place: SandboxPlace) -> Self {
        let parent = place.folder.as_ref().map_or_else(std::env::temp_dir, PathBuf::from);
        Self { parent, place }
    }

    /// What commands see besides the system's own folders.
    pub(super) fn shown(&self) -> Vec<PathBuf> {
        self.place.shown.iter().map(PathBuf::from).collect()
    }

    /// The sandbox for what a snapshot holds. Nothing is made yet.
    pub(super) fn make(
        &self,
        contents: &Contents,
        snapshot: &Snapshot,
        questions: &[UserCheck],
        session: &Session,
    ) -> Result<Box<dyn Sandbox>, Failure> {
        if let (Some(engine), Some(manifest)) = (contents.engine, &contents.manifest) {
            let known = Known { manifest: manifest.clone(), files: contents.beforehand.clone() };
            return engines::sandbox(engine, known, self, session);
        }
        if self.place.container.is_some() {
            let what = "sandbox.container is for servers, and the snapshot holds no database";
            return Err(Failure::usage(what, "leave it away: files are restored to a folder"));
        }
        if contents.meaning == Meaning::Output && questions.is_empty() {
            return Err(Failure::usage(
                "nobody knows what a command's output has to be: restoring it proves nothing",
                "ask something of it: --program 'test \"$(tail -n 1 command/NAME)\" = \"-- complete\"'",
            ));
        }
        let sandbox = FilesSandbox::new(self.parent.clone(), contents.meaning).with_shown(self.shown());
        let is_here = snapshot.hostname == identity(None).hostname && contents.meaning == Meaning::Data;
        Ok(Box::new(if is_here { sandbox.with_live(Live::new(PathBuf::from("/"), snapshot.time)) } else { sandbox }))
    }
}
