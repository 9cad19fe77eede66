//! Where a drill restores a database of MongoDB: a server of its own (`local.rs`), or a database of its own on a server
//! that is there for it (`scratch.rs`). What both do with a restored database is in `restored.rs`, how it is asked in
//! `ask.rs`, and which server takes which dump in `product.rs`.
//!
//! What is always true: neither ever gets an address of the source, so nothing can reach it. What is dropped is the
//! drill's own database, and it is made sure of that before. A dump of MongoDB holds no code that a restore would run.
//!
//! Killed, a drill leaves no process where `setpriv` is there, and a folder that the next drill removes; on a server, a
//! database that a later drill on that server drops.

mod ask;
mod local;
mod product;
mod restored;
mod scratch;

pub use local::MongodbSandbox;
pub use restored::MongodbDump;
pub use scratch::MongodbScratch;
