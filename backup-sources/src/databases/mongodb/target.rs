//! A database as a target: collections are made as they were, documents go in as they come, several batches at once;
//! indexes follow when all documents are there, views at the end.
//!
//! What came before a restore failed stays in the database; it was empty, or its owner had it emptied.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use backup_core::contracts::{Expectation, Left, Target, TargetError, TargetFile, WriteOrder};
use backup_core::model::{Node, SnapshotPath};
use backup_core::observe::Amount;
use backup_core::{Error, Result};
use mongodb::bson::doc;

use super::accounts::Accounts;
use super::catalog::{self, BUCKETS, Collection, Selection, Sort};
use super::connection::Connection;
use super::load::{DocumentsFile, Flow};
use super::settings::MongodbSettings;
use super::source::refuse_own;
use super::{build, metadata, names, users};
use crate::databases::manifest::{MANIFEST, Manifest};
use crate::databases::passed_over::PassedOver;
use crate::databases::url::Engine;

/// How a dump is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// What happens to what is there already.
    pub existing: Existing,
    /// Which collections.
    pub selection: Selection,
    /// Batches of documents, and indexes, that are under way at once; as many as there are cores when not given.
    pub jobs: Option<NonZeroUsize>,
    /// What becomes of the database's users and roles.
    pub grants: Grants,
}

/// What becomes of the users and roles of a database. They are the deployment's, and lie in `admin`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grants {
    /// They stay in the snapshot.
    #[default]
    LeftOut,
    /// Those that the deployment does not have are made.
    Restored,
}

/// What happens to what is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and nothing is restored.
    #[default]
    Refuse,
    /// The database is dropped first; of a part, the collections are.
    Replace,
}

/// Whether a file of a snapshot must be known before the others come: what a collection is made with. By their names
/// they come after its documents.
pub fn is_needed_beforehand(name: &str) -> bool {
    name.ends_with(names::METADATA)
}

/// A database that is being filled.
#[derive(Debug)]
pub struct MongodbTarget {
    connection: Arc<Connection>,
    database: String,
    options: LoadOptions,
    /// What is restored.
    collections: Vec<Collection>,
    /// Whose documents a file has, by its name.
    by_file: BTreeMap<String, Collection>,
    expected: Vec<Expectation>,
    flow: Arc<Flow>,
    /// The files of documents that came.
    came: Mutex<BTreeSet<String>>,
    accounts: Accounts,
    warnings: Mutex<Vec<String>>,
}

impl MongodbTarget {
    /// Connects, and reads what the collections are made with. `beforehand` are the names and contents of the files that
    /// [`is_needed_beforehand`] names.
    ///
    /// # Errors
    ///
    /// When the deployment cannot be reached or refuses who asks, when the snapshot is another engine's, or has none of
    /// the collections asked for.
    pub fn connect(
        settings: &MongodbSettings,
        database: &str,
        beforehand: &[(String, Vec<u8>)],
        manifest: Manifest,
        options: LoadOptions,
    ) -> Result<Self> {
        let wrong = |what: String| Error::invalid(settings.location(), what);
        refuse_own(settings, database)?;
        if options.grants == Grants::Restored && manifest.database != database {
            let why = format!("users and roles of {} name it, so they are not those of {database}", manifest.database);
            return Err(wrong(why).with_hint("leave --users away, or restore it under its own name"));
        }
        if manifest.engine != Engine::Mongodb.name() {
            return Err(wrong(format!("the snapshot holds a database of {}", manifest.engine)));
        }
        let mut all = Vec::new();
        for (name, text) in beforehand {
            all.push(metadata::read_file(name, text).map_err(|why| Error::damaged(name, why))?);
        }
        let there = all.iter().map(|(collection, _)| collection.name.as_str()).collect();
        if let Some(missing) = options.selection.missing(&there) {
            return Err(wrong(format!("the snapshot has no collection {missing}"))
                .with_hint("`ls` shows what it has; one without a metadata.json cannot be chosen"));
        }
        // Also of those that are not wanted: their documents are then known, and passed over.
        let by_file = all.iter().filter_map(|(it, file)| Some((file.clone()?, it.clone()))).collect();
        let mut collections: Vec<_> = all.into_iter().map(|(collection, _)| collection).collect();
        collections.retain(|collection| options.selection.has(&collection.name));
        let connection = Arc::new(Connection::open(settings)?);
        let jobs = options.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
        Ok(Self {
            flow: Arc::new(Flow::new(Arc::clone(&connection), database, jobs)),
            connection,
            database: database.to_owned(),
            options,
            collections,
            by_file,
            expected: manifest.report.expectations,
            came: Mutex::default(),
            accounts: Accounts::default(),
            warnings: Mutex::default(),
        })
    }

    /// What a person should know of what was loaded.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn warn(&self, texts: impl IntoIterator<Item = String>) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        for text in texts {
            if !warnings.contains(&text) {
                warnings.push(text);
            }
        }
    }

    /// Looks at what is there already, and makes room if that was asked for.
    fn make_room(&self) -> Result<()> {
        let mut there = catalog::list(&self.connection, &self.database)?;
        if !self.options.selection.is_whole() {
            there.retain(|it| self.collections.iter().any(|collection| collection.name == it.name));
        }
        let Some(first) = there.first() else { return Ok(()) };
        if self.options.existing == Existing::Refuse {
            let why = match self.options.selection.is_whole() {
                true if there.len() == 1 => format!("the database is not empty: it has {}", first.name),
                true => format!("the database is not empty: it has {} and {} more", first.name, there.len() - 1),
                false => format!("the collection {} is there already", first.name),
            };
            return Err(Error::invalid(self.connection.location(), why)
                .with_hint("name another database, or replace what is there with --clean"));
        }
        if self.options.selection.is_whole() {
            self.connection.command(&self.database, "drop the database", doc! {"dropDatabase": 1})?;
            return Ok(());
        }
        for collection in there {
            let action = format!("drop {}", collection.name);
            self.connection.command(&self.database, &action, doc! {"drop": collection.name})?;
        }
        Ok(())
    }

    /// The namespace that the documents of a file go into, and their collection where that is known; `None` when they
    /// are not wanted.
    fn documents_of(&self, file: &str) -> std::result::Result<Option<(String, Option<&Collection>)>, String> {
        let wanted = |name: &str| self.options.selection.has(name);
        if let Some(collection) = self.by_file.get(file) {
            let namespace = collection.namespace().filter(|_| wanted(&collection.name));
            return Ok(namespace.map(|namespace| (namespace, Some(collection))));
        }
        // Without metadata it is made by its first document.
        let namespace = file.strip_suffix(names::DOCUMENTS).and_then(names::unescaped);
        let namespace = namespace.ok_or("its name was cut, and no metadata.json says whose it is")?;
        Ok(wanted(namespace.strip_prefix(BUCKETS).unwrap_or(&namespace)).then_some((namespace, None)))
    }

    /// A file of documents that should have come, and did not.
    fn missing(&self) -> Option<String> {
        let came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = self.by_file.iter().filter(|(_, collection)| self.options.selection.has(&collection.name));
        wanted.find(|(file, _)| !came.contains(*file)).map(|(file, _)| file.clone())
    }

    fn fail(&self, action: &'static str, error: &Error) -> TargetError {
        let failed = fatal(action, &SnapshotPath::parse(self.database.as_bytes()), error.to_string());
        match error.hint() {
            Some(hint) => failed.with_hint(hint),
            None => failed,
        }
    }
}

impl Target for MongodbTarget {
    fn location(&self) -> String {
        self.connection.location().to_owned()
    }

    fn order(&self) -> WriteOrder {
        WriteOrder::Sequential
    }

    fn begin(&self, _expected: Amount) -> std::result::Result<(), TargetError> {
        self.make_room().map_err(|error| self.fail("restore into", &error))?;
        let made = build::collections(&self.connection, &self.database, &self.collections);
        made.map_err(|error| self.fail("restore into", &error))
    }

    fn enter(&self, _path: &SnapshotPath, _node: &Node) -> std::result::Result<(), TargetError> {
        Ok(())
    }

    fn file(&self, path: &SnapshotPath, _node: &Node) -> std::result::Result<Box<dyn TargetFile>, TargetError> {
        let name = String::from_utf8_lossy(path.name()).into_owned();
        if name.starts_with(users::PREFIX) {
            if self.options.grants == Grants::Restored {
                return Ok(self.accounts.file(&name, path));
            }
            let told = "users and roles are in the snapshot and were not restored: they are the deployment's; --users \
                makes those that are missing";
            self.warn([told.to_owned()]);
            return Ok(Box::new(PassedOver));
        }
        // `prelude.json` is what newer versions of mongodump say of themselves.
        if is_needed_beforehand(&name) || name == MANIFEST || name == "prelude.json" {
            return Ok(Box::new(PassedOver));
        }
        if !name.ends_with(names::DOCUMENTS) {
            let why = "it is no part of a dump of MongoDB";
            return Err(fatal("restore", path, why.to_owned())
                .with_hint("a dump compressed with --gzip is for mongorestore; others have .bson and .metadata.json"));
        }
        let documents = self.documents_of(&name).map_err(|why| fatal("restore", path, why))?;
        let Some((namespace, collection)) = documents else { return Ok(Box::new(PassedOver)) };
        let expected = collection.and_then(|collection| {
            let kind = if collection.sort == Sort::TimeSeries { "time series" } else { "collection" };
            self.expected.iter().find(|it| it.kind == kind && it.object == collection.name).cloned()
        });
        let is_capped = collection.is_some_and(Collection::is_capped);
        self.came.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
        Ok(Box::new(DocumentsFile::new(Arc::clone(&self.flow), path, namespace, is_capped, expected)))
    }

    fn hard_link(&self, path: &SnapshotPath, _: &SnapshotPath, _: &Node) -> std::result::Result<(), TargetError> {
        Err(fatal("restore", path, "it is no part of a dump of MongoDB".to_owned()))
    }

    fn special(&self, path: &SnapshotPath, _node: &Node) -> std::result::Result<Vec<TargetError>, TargetError> {
        Err(fatal("restore", path, "it is no part of a dump of MongoDB".to_owned()))
    }

    fn leave(
        &self,
        _path: &SnapshotPath,
        _node: &Node,
        _names: Option<&[Vec<u8>]>,
    ) -> std::result::Result<Left, TargetError> {
        Ok(Left::default())
    }

    fn finish(&self) -> std::result::Result<(), TargetError> {
        let path = SnapshotPath::parse(self.database.as_bytes());
        if let Some(file) = self.missing() {
            return Err(fatal("restore into", &path, format!("{file} did not come; what came is there")));
        }
        self.flow
            .settle()
            .map_err(|why| fatal("restore into", &path, format!("{why}; what came before it is there")))?;
        build::indexes(&self.connection, &self.database, &self.collections, self.flow.jobs())
            .and_then(|()| build::views(&self.connection, &self.database, &self.collections))
            .map_err(|error| self.fail("complete", &error))?;
        if self.options.grants == Grants::Restored {
            let made = self.accounts.make_missing(&self.connection, &self.database);
            self.warn(made.map_err(|error| self.fail("restore the users and roles of", &error))?);
        }
        Ok(())
    }
}

pub(super) fn fatal(action: &'static str, path: &SnapshotPath, reason: String) -> TargetError {
    TargetError { is_fatal: true, ..TargetError::new(action, path.clone(), reason) }
}
