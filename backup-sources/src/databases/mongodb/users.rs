//! The users and roles of a database, where who asks may read them: three files that `mongorestore
//! --restoreDbUsersAndRoles` takes.
//!
//! They lie in `admin` and belong to the deployment, so they are kept, and restored only when that is asked for
//! (`accounts.rs`). They hold what passwords are checked against, as `globals.sql` of PostgreSQL does.

use backup_core::limits::GLOBALS_BYTES_MAX;
use backup_core::{Error, ErrorKind, Result};
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};

use super::connection::Connection;
use super::cursor::{Documents, Query, Stop, View};
use super::{failure, names};

/// What the names of their files begin with.
pub(super) const PREFIX: &str = "$admin.system.";

/// What was found of them.
#[derive(Debug, Default)]
pub(super) struct Users {
    /// Names and contents of files; none when there is nobody.
    pub(super) files: Vec<(String, Vec<u8>)>,
    pub(super) warning: Option<String>,
    users: u64,
    roles: u64,
}

impl Users {
    /// For the manifest.
    pub(super) fn counts(&self) -> Option<Value> {
        (!self.files.is_empty()).then(|| json!({"users": self.users, "roles": self.roles}))
    }
}

/// Reads the users and roles of `database`.
///
/// # Errors
///
/// When the server fails to give them, but for want of rights, or there are more than anybody has.
pub(super) fn read(connection: &Connection, database: &str) -> Result<Users> {
    // All or none: users without their roles, or without saying how they are written, would be taken for whole ones.
    let withheld = |what: &str, why: String| {
        let warning = Some(format!("users and roles are not in it, for want of {what}: {why}"));
        Ok(Users { warning, ..Users::default() })
    };
    let own = doc! {"db": database};
    let users = match of(connection, "users", own.clone())? {
        Ok(users) => users,
        Err(why) => return withheld("users", why),
    };
    let roles = match of(connection, "roles", own)? {
        Ok(roles) => roles,
        Err(why) => return withheld("roles", why),
    };
    if users.0 + roles.0 == 0 {
        return Ok(Users::default());
    }
    // How they are written: without it nobody takes them back.
    let version = match of(connection, "version", doc! {"_id": "authSchema"})? {
        Ok(version) => version,
        Err(why) => return withheld("their version", why),
    };
    let named = |name: &str, bytes| (format!("{PREFIX}{name}{}", names::DOCUMENTS), bytes);
    let files = vec![named("roles", roles.1), named("users", users.1), named("version", version.1)];
    Ok(Users { files, warning: None, users: users.0, roles: roles.0 })
}

/// How many documents of a collection of `admin` there are and their bytes, or why they are not shown to who asks.
///
/// # Errors
///
/// When the server fails for any other reason, or they are more than anybody has.
pub(super) fn of(connection: &Connection, name: &str, filter: Document) -> Result<Result<(u64, Vec<u8>), String>> {
    let lost = |why: String| Error::new(ErrorKind::Source(why), connection.location());
    let (database, namespace) = ("admin".to_owned(), format!("system.{name}"));
    let mut documents = Documents::ask(connection, Query { database, namespace, filter, view: View::Latest })?;
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        match documents.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(Stop::Gone) => return Err(lost("the connection is gone".to_owned())),
            Err(Stop::Server(error)) if failure::is_for_want_of_rights(&error) => {
                return Ok(Err("who asks may not read them (the role backup in admin may)".to_owned()));
            }
            Err(Stop::Server(error)) => {
                return Err(failure::of(connection.location(), &format!("read the {name} of admin"), &error));
            }
        }
        if bytes.len() as u64 > GLOBALS_BYTES_MAX {
            return Err(Error::new(ErrorKind::Limit("the size of users and roles"), connection.location()));
        }
    }
    Ok(Ok((documents.sum().unwrap_or_default().count, bytes)))
}
