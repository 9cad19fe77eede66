//! The users and roles of a dump, back into a deployment: those that it does not have yet.
//!
//! What is there stays as it is, passwords above all. MongoDB's own way is taken, which is mongorestore's: the documents go
//! into two collections beside the real ones, and one command merges them; both are dropped then, also when that fails. The
//! command is internal to MongoDB, and FerretDB does not have it: its users lie in an ordinary collection.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use backup_core::contracts::{TargetError, TargetFile};
use backup_core::limits::GLOBALS_BYTES_MAX;
use backup_core::model::{Node, SnapshotPath};
use backup_core::{Error, ErrorKind, Result};
use mongodb::bson::{Bson, Document, deserialize_from_slice, doc};

use super::connection::Connection;
use super::documents::Splitter;
use super::target::fatal;
use super::{names, users};

/// What lies beside `admin.system.users` and `admin.system.roles` while they are merged. mongorestore's names: the role
/// `restore` has the rights on these.
const BESIDE: [(&str, &str); 2] = [("users", "tempusers"), ("roles", "temproles")];

/// The files of users and roles, as they come.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// Their bytes, by what they hold: `users`, `roles`, `version`.
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl Accounts {
    /// A place for the file `name`.
    pub(super) fn file(&self, name: &str, path: &SnapshotPath) -> Box<dyn TargetFile> {
        let kind = name.trim_start_matches(users::PREFIX).trim_end_matches(names::DOCUMENTS).to_owned();
        Box::new(AccountsFile { kind, path: path.clone(), bytes: Mutex::default(), files: Arc::clone(&self.files) })
    }

    /// Makes those that are missing, of the database `database`. Which were there already, as warnings.
    pub(super) fn make_missing(&self, connection: &Connection, database: &str) -> Result<Vec<String>> {
        let files = std::mem::take(&mut *self.files.lock().unwrap_or_else(PoisonError::into_inner));
        let documents = |kind: &str| documents(files.get(kind).map(Vec::as_slice).unwrap_or_default());
        let mut warnings = Vec::from_iter(compare_versions(connection, &documents("version")?)?);
        let mut missing = Vec::new();
        for (kind, beside) in BESIDE {
            let there = there(connection, kind, database)?;
            let mut new = documents(kind)?;
            new.retain(|one| {
                let id = one.get_str("_id").unwrap_or_default();
                // A dump of ours has no others; one that was tampered with could.
                let is_own = one.get_str("db").is_ok_and(|db| db == database);
                if there.contains(id) && is_own {
                    warnings.push(format!("{id}, of the {kind}, is there already and stays as it is"));
                }
                is_own && !there.contains(id)
            });
            missing.push((kind, beside, new));
        }
        if missing.iter().all(|(_, _, new)| new.is_empty()) {
            return Ok(warnings);
        }
        if connection.server().ferretdb.is_some() {
            for (kind, _, new) in missing {
                insert(connection, &format!("system.{kind}"), new)?;
            }
            return Ok(warnings);
        }
        let merged = merge(connection, database, missing);
        for (_, beside) in BESIDE {
            // One that was never made cannot be dropped, and nobody minds.
            let _ = connection.ask("admin", doc! {"drop": beside})?;
        }
        merged.map(|()| warnings)
    }
}

fn merge(connection: &Connection, database: &str, missing: Vec<(&str, &str, Vec<Document>)>) -> Result<()> {
    let mut command = doc! {"_mergeAuthzCollections": 1};
    for (kind, beside, new) in missing {
        let _ = connection.ask("admin", doc! {"drop": beside})?;
        let is_any = !new.is_empty();
        insert(connection, beside, new)?;
        let word = if kind == "users" { "tempUsersCollection" } else { "tempRolesCollection" };
        command.insert(word, if is_any { format!("admin.{beside}") } else { String::new() });
    }
    command.extend(doc! {"drop": false, "db": database, "writeConcern": {"w": "majority"}});
    connection.command("admin", "merge users and roles", command).map(drop)
}

fn insert(connection: &Connection, collection: &str, documents: Vec<Document>) -> Result<()> {
    if documents.is_empty() {
        return Ok(());
    }
    let documents: Vec<Bson> = documents.into_iter().map(Bson::Document).collect();
    let action = format!("write into admin.{collection}");
    let answer = connection.command("admin", &action, doc! {"insert": collection, "documents": documents})?;
    match answer.get_array("writeErrors").ok().and_then(|errors| errors.first()) {
        None => Ok(()),
        Some(error) => {
            let why = error.as_document().and_then(|error| error.get_str("errmsg").ok()).unwrap_or("it is refused");
            Err(Error::new(ErrorKind::Target(format!("{action}: {why}")), connection.location()))
        }
    }
}

/// The ids of those of `database` that the deployment has.
fn there(connection: &Connection, kind: &str, database: &str) -> Result<BTreeSet<String>> {
    let bytes = users::of(connection, kind, doc! {"db": database})?.map_err(|why| {
        let why = format!("it cannot be seen which {kind} are there: {why}");
        Error::new(ErrorKind::Target(why), connection.location()).with_hint("the role restore in admin may see them")
    })?;
    let all = documents(&bytes.1)?;
    Ok(all.iter().filter_map(|one| Some(one.get_str("_id").ok()?.to_owned())).collect())
}

/// Users of one version of their schema are not those of another. A warning where the server does not tell its own.
fn compare_versions(connection: &Connection, ours: &[Document]) -> Result<Option<String>> {
    let version = |documents: &[Document]| documents.first().and_then(|one| one.get("currentVersion")).cloned();
    let Some(ours) = version(ours) else { return Ok(None) };
    let there = match users::of(connection, "version", doc! {"_id": "authSchema"})? {
        Ok(there) => there,
        Err(why) => return Ok(Some(format!("the version of the server's users was not compared: {why}"))),
    };
    match version(&documents(&there.1)?) {
        Some(theirs) if theirs != ours => {
            let why = format!("its users are of version {theirs} of their schema, and those in the snapshot of {ours}");
            Err(Error::new(ErrorKind::Target(why), connection.location()).with_hint("leave --users away"))
        }
        _ => Ok(None),
    }
}

fn documents(bytes: &[u8]) -> Result<Vec<Document>> {
    let (mut splitter, mut documents) = (Splitter::default(), Vec::new());
    let fed = splitter.feed(bytes, |document| {
        documents.push(deserialize_from_slice(document).map_err(|error| error.to_string())?);
        Ok(())
    });
    let damaged = |why: String| Error::damaged("the users and roles of the snapshot", why);
    fed.map_err(damaged)?;
    if !splitter.is_between() {
        return Err(damaged("they end in the middle".to_owned()));
    }
    Ok(documents)
}

/// One of the files.
#[derive(Debug)]
struct AccountsFile {
    kind: String,
    path: SnapshotPath,
    bytes: Mutex<Vec<u8>>,
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl TargetFile for AccountsFile {
    fn existing_bytes(&self) -> u64 {
        0
    }

    fn looks_unchanged(&self) -> bool {
        false
    }

    fn is_kept(&self) -> bool {
        false
    }

    fn read_at(&self, _offset: u64, _buffer: &mut [u8]) -> io::Result<()> {
        Err(io::Error::other("what a server was given cannot be read back"))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut kept = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if offset != kept.len() as u64 || offset + bytes.len() as u64 > GLOBALS_BYTES_MAX {
            return Err(io::Error::other("users and roles do not come in their order, or are more than anybody has"));
        }
        kept.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, _node: &Node, size: u64) -> std::result::Result<Vec<TargetError>, TargetError> {
        let Self { kind, path, bytes, files } = *self;
        let bytes = bytes.into_inner().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() as u64 != size {
            return Err(fatal("restore", &path, "it did not come whole".to_owned()));
        }
        files.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, bytes);
        Ok(Vec::new())
    }
}
