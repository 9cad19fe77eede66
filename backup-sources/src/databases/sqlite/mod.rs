//! SQLite: the file of a database as it is between two transactions, while programs go on writing to it.
//!
//! What is always true:
//!
//! * The database is opened for reading only, through SQLite and with its locks, and never created. No file of it is
//!   opened in any other way: the locks that SQLite takes belong to the whole process and would go with it.
//! * In WAL mode the image is read inside one read transaction, and writers go on. In the other modes a reader keeps
//!   writers out, so the image is copied in slices into a private file first (`spool.rs`).
//! * Pages are stored as they are and cut at multiples of their size: what did not change is not stored again.
//! * A restore never writes over a database: the new one grows beside it, is checked, and takes its name at the end.
//!
//! The snapshot's folder is `/sqlite/NAME/` with `NAME`, which is a database like any other, and `manifest.json`.

mod image;
mod in_use;
mod observe;
mod sandbox;
mod source;
mod spool;
mod target;

pub use observe::{Check, Finding, Sort, observe};
pub use sandbox::SqliteSandbox;
pub use source::{SqliteOptions, SqliteSource};
pub use target::{Existing, SqliteTarget, Users};
