//! MySQL and MariaDB: one database of a server as the SQL that its own dump program writes, and the client that reads it.
//!
//! What is always true:
//!
//! * The dump is one transaction's view (`--single-transaction`). Tables whose engine knows no transactions are named in
//!   the report, and it then claims no single instant.
//! * A definition that changes while the dump runs fails it: a table that is altered under a dump comes out without its
//!   rows. So does a dump that does not end with its last line, or whose program did not end well.
//! * A user who may not see all of a database would back up a part of it in silence: the rights are looked at first.
//! * The password goes to the programs in a file that only its owner can read, never among their arguments.
//!
//! The snapshot's folder is `/mysql/DB/` with `dump.sql` and `manifest.json`.

mod client;
mod defaults;
mod grants;
mod history;
mod inventory;
mod joined;
mod renamed;
mod rows;
mod sandbox;
mod settings;
mod source;
mod target;

pub use sandbox::MysqlSandbox;
pub use settings::{Encryption, Environment, MysqlSettings, Server};
pub use source::{MysqlSource, observe, observe_as};
pub use target::{Existing, MysqlTarget};
