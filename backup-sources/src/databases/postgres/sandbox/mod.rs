//! Where a drill restores a database of PostgreSQL: a cluster of its own (`local.rs`), or a database of its own on a
//! server that is there for it (`scratch.rs`). What both do with a restored database is in `restored.rs`, how it is
//! looked at in `examine.rs`, how it is asked in `ask.rs`.
//!
//! What is always true: neither ever gets an address of the source, so no statement can reach it; a statement that
//! destroys follows a check that it is the drill's own database that it would hit. What restores is either behind walls
//! (no network, no paths but its own) or no superuser, so that a dump with `COPY … FROM PROGRAM` in it gets nowhere.
//!
//! Killed, a drill leaves no process where `setpriv` is there, and a folder that the next drill removes; on a server, a
//! database that the next drill on that server drops.

mod ask;
mod examine;
mod local;
mod needs;
mod restored;
mod scratch;

pub use local::PostgresSandbox;
pub use scratch::PostgresScratch;
