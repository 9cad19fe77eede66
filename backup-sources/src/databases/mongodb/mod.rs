//! MongoDB: one database as `/mongodb/NAME/{manifest.json, COLL.bson, COLL.metadata.json}`, and back.
//!
//! The official driver asks for the documents of each collection, several collections at once, and passes on what the
//! server sends without decoding it. Files are named and written as mongodump does, so that `mongorestore` opens what
//! comes out, without us; [`archive`] makes of them the one stream that it takes too.
//!
//! What is always true: where the deployment can be read as of one instant (a replica set or sharded cluster since 5.0),
//! everything is, or there is no snapshot; elsewhere the manifest says between which moments it was read. What passes is
//! counted and hashed. A collection that was dropped, renamed or altered under the dump ends the run. No password is in
//! a path, an error or the manifest; the files of users, where the server shows them, have what their passwords are
//! checked against.
//!
//! A crash leaves nothing on the server but cursors, which it drops by itself; a restore that is killed leaves what it
//! had made.

pub mod archive;

mod accounts;
mod build;
mod catalog;
mod connection;
mod cursor;
mod documents;
mod extended_json;
mod failure;
mod instant;
mod load;
mod metadata;
mod names;
mod observe;
mod sandbox;
mod settings;
mod source;
mod target;
mod users;

pub use catalog::Selection;
pub use observe::observe;
pub use sandbox::{MongodbDump, MongodbSandbox, MongodbScratch};
pub use settings::MongodbSettings;
pub use source::{DumpOptions, MongodbSource, Reads, databases};
pub use target::{Existing, Grants, LoadOptions, MongodbTarget, is_needed_beforehand};
