//! A database as a source.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use backup_core::codec::Compression;
use backup_core::contracts::{Consistency, RecoveryPoint, Report, Source, SourceError, SourceEvent, SourceInfo};
use backup_core::model::SnapshotPath;
use backup_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

use super::catalog::{self, Collection, Selection, Sort};
use super::connection::Connection;
use super::cursor::{Documents, Query, Stop, View};
use super::documents::Sum;
use super::instant::{self, Instant};
use super::settings::MongodbSettings;
use super::users::{self, Users};
use super::{failure, metadata, names};
use crate::databases::folder::{File, Folder, Opener, Stream, Turn, path_of};
use crate::databases::manifest::{MANIFEST, Manifest};
use crate::databases::ready::Ready;
use crate::databases::url::Engine;

/// What is dumped, and how.
#[derive(Clone, Debug, Default)]
pub struct DumpOptions {
    /// Which collections.
    pub selection: Selection,
    /// In which state they are read.
    pub reads: Reads,
}

/// In which state of the deployment collections are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// All as of one instant, where the deployment can do that.
    #[default]
    Snapshot,
    /// Each as it is when the server comes to it.
    Latest,
}

/// One database of a deployment.
#[derive(Debug)]
pub struct MongodbSource {
    folder: Folder,
    shared: Arc<Shared>,
}

/// What the streams and the source share.
#[derive(Debug)]
struct Shared {
    connection: Connection,
    database: String,
    path: SnapshotPath,
    collections: Vec<Collection>,
    options: DumpOptions,
    view: View,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    warnings: Vec<String>,
    /// What passed, by collection.
    sums: BTreeMap<String, Sum>,
    users: Option<Value>,
    report: Option<Report>,
}

impl MongodbSource {
    /// Connects, looks at what there is, and takes the view that everything will be read in.
    ///
    /// # Errors
    ///
    /// When the deployment cannot be reached or refuses who asks, when it has no such database, or none of the
    /// collections asked for.
    pub fn connect(settings: &MongodbSettings, database: &str, options: &DumpOptions) -> Result<Self> {
        refuse_own(settings, database)?;
        let connection = Connection::open(settings)?;
        let began = Instant::now(&connection)?;
        let listed = catalog::list(&connection, database)?;
        if listed.is_empty() && !databases_of(&connection)?.iter().any(|name| name == database) {
            let why = format!("there is no database {database}");
            return Err(Error::new(ErrorKind::Source(why), connection.location())
                .with_hint("check its name; MongoDB drops a database with its last collection"));
        }
        let there: BTreeSet<&str> = listed.iter().map(|collection| collection.name.as_str()).collect();
        if let Some(missing) = options.selection.missing(&there) {
            let why = format!("{database} has no collection {missing}");
            return Err(Error::invalid(connection.location(), why));
        }
        let chosen = listed.into_iter().filter(|collection| options.selection.has(&collection.name)).collect();
        let collections = catalog::complete(&connection, database, chosen)?;
        refuse_what_cannot_be_read(&connection, &collections)?;
        let mut state = State::default();
        let view = instant::view(&connection, database, &collections, options.reads)?;
        state.warnings.extend(told_of_view(view, options.reads, &connection, &collections));
        let users = users::read(&connection, database)?;
        state.warnings.extend(users.warning.clone());
        state.users = users.counts();

        let path = path_of(Engine::Mongodb, database);
        let began_at = began.time;
        let (database, options) = (database.to_owned(), options.clone());
        let state = Mutex::new(state);
        let shared = Arc::new(Shared { connection, database, path, collections, options, view, began, state });
        let folder = Folder::new(Engine::Mongodb, &shared.database, files(&shared, users), began_at);
        Ok(Self { folder, shared })
    }
}

impl Source for MongodbSource {
    fn info(&self) -> SourceInfo {
        self.folder.info()
    }

    fn level(&self) -> Option<i32> {
        Some(Compression::DUMP_LEVEL)
    }

    fn next(&mut self) -> Result<Option<SourceEvent>, SourceError> {
        Ok(self.folder.next())
    }

    fn finish(&mut self) -> Result<Report, SourceError> {
        self.folder.settle()?;
        let report = self.shared.lock().report.clone();
        report.ok_or_else(|| SourceError::new("read", self.folder.path().clone(), "its manifest was not written"))
    }
}

/// The databases of a deployment that are somebody's, by their names.
///
/// # Errors
///
/// As [`MongodbSource::connect`]; and when there are none.
pub fn databases(settings: &MongodbSettings) -> Result<Vec<String>> {
    let connection = Connection::open(settings)?;
    let mut names = databases_of(&connection)?;
    names.retain(|name| !matches!(name.as_str(), "admin" | "config" | "local"));
    names.sort();
    match names.is_empty() {
        true => Err(Error::new(ErrorKind::Source("it holds no database".to_owned()), connection.location())),
        false => Ok(names),
    }
}

/// Refuses what belongs to the deployment itself.
pub(super) fn refuse_own(settings: &MongodbSettings, database: &str) -> Result<()> {
    if !matches!(database, "local" | "config") {
        return Ok(());
    }
    let why = format!("the database {database} is the deployment's own, and nothing to be backed up or restored");
    Err(Error::invalid(settings.location(), why).with_hint("name one of yours"))
}

fn databases_of(connection: &Connection) -> Result<Vec<String>> {
    let question = mongodb::bson::doc! {"listDatabases": 1, "nameOnly": true};
    let answer = connection.command("admin", "list the databases", question)?;
    let databases = answer.get_array("databases").map(Vec::as_slice).unwrap_or_default();
    let name = |database: &mongodb::bson::Bson| database.as_document()?.get_str("name").ok().map(str::to_owned);
    Ok(databases.iter().filter_map(name).collect())
}

/// From version 8.3 on, time series have no buckets that could be read as a collection.
fn refuse_what_cannot_be_read(connection: &Connection, collections: &[Collection]) -> Result<()> {
    let series = collections.iter().find(|collection| collection.sort == Sort::TimeSeries);
    match series {
        Some(series) if connection.server().release >= (8, 3) => {
            let why = format!("{} is a time series, which is not supported with MongoDB 8.3 and newer", series.name);
            Err(Error::new(ErrorKind::Source(why), connection.location())
                .with_hint("leave it out with --exclude-collection, and back it up with mongodump"))
        }
        _ => Ok(()),
    }
}

/// What a person should know of the state in which things are read.
fn told_of_view(view: View, reads: Reads, connection: &Connection, collections: &[Collection]) -> Option<String> {
    let capped: Vec<&str> =
        collections.iter().filter(|it| it.is_capped()).map(|collection| collection.name.as_str()).collect();
    match view {
        View::At(_) if capped.is_empty() => None,
        View::At(_) => Some(format!(
            "capped collections cannot be read as of one instant; these are of another one: {}",
            capped.join(", ")
        )),
        View::Latest if collections.is_empty() => Some("there is no collection in it".to_owned()),
        View::Latest if reads == Reads::Latest => None,
        View::Latest => Some(format!(
            "this deployment ({}) cannot be read as of one instant: each collection is of its own moment",
            connection.server().topology().name()
        )),
    }
}

/// Opens what is at hand already.
fn ready(bytes: Vec<u8>) -> Opener {
    Box::new(move || Ok(Box::new(Ready::new(bytes))))
}

/// The files of the snapshot.
fn files(shared: &Arc<Shared>, users: Users) -> Vec<File> {
    let mut files = Vec::with_capacity(2 * shared.collections.len() + 4);
    for (index, collection) in shared.collections.iter().enumerate() {
        let text = metadata::text(collection);
        let name = names::escaped(&collection.name) + names::METADATA;
        files.push(File::stream(name, Turn::Any, ready(text)));
        let Some(namespace) = collection.namespace() else { continue };
        let name = names::escaped(&namespace) + names::DOCUMENTS;
        let shared = Arc::clone(shared);
        let open = move || {
            let documents = shared.documents(index, namespace)?;
            Ok(Box::new(CollectionStream { documents, index, shared }) as Box<dyn Stream>)
        };
        files.push(File::stream(name, Turn::Any, Box::new(open)));
    }
    files.extend(users.files.into_iter().map(|(name, bytes)| File::stream(name, Turn::Any, ready(bytes))));
    let shared = Arc::clone(shared);
    let manifest = move || Ok(Box::new(Ready::new(shared.manifest()?)) as Box<dyn Stream>);
    files.push(File::stream(MANIFEST, Turn::Last, Box::new(manifest)));
    files
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn documents(&self, index: usize, namespace: String) -> Result<Documents, SourceError> {
        let collection = &self.collections[index];
        let view = if collection.is_capped() { View::Latest } else { self.view };
        let query = Query { database: self.database.clone(), namespace, filter: Default::default(), view };
        Documents::ask(&self.connection, query).map_err(|error| self.failed("read", &error))
    }

    fn failed(&self, action: &'static str, why: &dyn ToString) -> SourceError {
        SourceError::new(action, self.path.clone(), why.to_string())
    }

    /// Everything else was read: what there is to say of it.
    fn manifest(&self) -> Result<Vec<u8>, SourceError> {
        let failed = |error: Error| {
            let hint = error.hint().map(str::to_owned);
            let failed = self.failed("look again at", &error);
            hint.into_iter().fold(failed, SourceError::with_hint)
        };
        let ended = Instant::now(&self.connection).map_err(failed)?;
        let later = catalog::list(&self.connection, &self.database).map_err(failed)?;
        let made_meanwhile = self.compare(&later)?;
        let mut state = self.lock();
        let mut warnings = std::mem::take(&mut state.warnings);
        warnings.extend(made_meanwhile);
        let capped = self.collections.iter().any(Collection::is_capped);
        let (recovery_point, consistency) = match self.view {
            View::At(time) => (instant::point_of(time), Consistency::Transactional),
            View::Latest => {
                (RecoveryPoint { time: self.began.time, position: self.began.position() }, Consistency::Fuzzy)
            }
        };
        let consistency = if capped { Consistency::Fuzzy } else { consistency };
        let expectations =
            self.collections.iter().flat_map(|it| it.expectations(state.sums.get(&it.name).copied())).collect();
        let report = Report {
            recovery_point: Some(recovery_point),
            consistency,
            warnings,
            tools: self.connection.server().tools(),
            expectations,
            held: None,
        };
        let details = self.details(&ended, state.users.take());
        let manifest = Manifest { details, ..Manifest::new(Engine::Mongodb, &self.database, report.clone()) };
        let bytes = manifest.to_bytes().map_err(|error| self.failed("describe", &error))?;
        state.report = Some(report);
        Ok(bytes)
    }

    fn details(&self, ended: &Instant, users: Option<Value>) -> Map<String, Value> {
        let mut details = Map::from_iter([
            ("topology".to_owned(), json!(self.connection.server().topology().name())),
            ("began".to_owned(), self.began.told()),
            ("ended".to_owned(), ended.told()),
        ]);
        if let Some(users) = users {
            details.insert("users".to_owned(), users);
        }
        let Selection { only, except } = &self.options.selection;
        if !self.options.selection.is_whole() {
            details.insert("selection".to_owned(), json!({"only": only, "except": except}));
        }
        details
    }

    /// Refuses when something was dropped, renamed or made anew while it was read: its file may then hold half of it, or
    /// nothing. What was made meanwhile is told.
    fn compare(&self, later: &[Collection]) -> Result<Option<String>, SourceError> {
        let now: BTreeMap<&str, &Collection> = later.iter().map(|it| (it.name.as_str(), it)).collect();
        for earlier in &self.collections {
            let is_still = now.get(earlier.name.as_str()).is_some_and(|now| now.is_still(earlier));
            if !is_still {
                let why = format!("the collection {} was dropped, renamed or altered meanwhile", earlier.name);
                return Err(self.failed("read", &why).with_hint("run it again when nobody does that"));
            }
        }
        let known: BTreeSet<&str> = self.collections.iter().map(|it| it.name.as_str()).collect();
        let new: Vec<&str> =
            now.keys().copied().filter(|name| !known.contains(name) && self.options.selection.has(name)).collect();
        let told = format!("made while the backup ran, and not in it: {}", new.join(", "));
        Ok((!new.is_empty()).then_some(told))
    }
}

/// A collection on its way into the snapshot.
struct CollectionStream {
    documents: Documents,
    index: usize,
    shared: Arc<Shared>,
}

impl Stream for CollectionStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.documents.read(buffer).map_err(|stop| io::Error::other(told(&self.shared, self.index, stop)))
    }

    fn finish(self: Box<Self>) -> Result<(), SourceError> {
        let Self { documents, index, shared } = *self;
        let sum = documents.sum().ok_or_else(|| shared.failed("read", &"it was not read to its end"))?;
        shared.lock().sums.insert(shared.collections[index].name.clone(), sum);
        Ok(())
    }
}

/// Why a collection stopped coming, with what may help, in one line: the folder passes on no more than a text.
fn told(shared: &Shared, index: usize, stop: Stop) -> String {
    let name = &shared.collections[index].name;
    match stop {
        Stop::Gone => format!("collection {name}: the connection is gone"),
        Stop::Server(error) => {
            let hint = failure::hint(&error).map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("collection {name}: {}{hint}", failure::told(&error))
        }
    }
}
