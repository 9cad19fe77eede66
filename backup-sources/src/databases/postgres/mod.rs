//! PostgreSQL: one database as `/postgres/NAME/{manifest.json, globals.sql, dump}`, and back.
//!
//! A connection of ours opens a transaction and exports its snapshot; PostgreSQL's own pg_dump takes the same view and
//! streams it in its custom format, or writes its directory format by several connections, uncompressed, so that the
//! repository finds what it has already. What passes is
//! counted and hashed: the manifest says what a restore must show, of the very state that was dumped, and nothing was
//! read twice for it. `pg_restore` opens what comes out, without us.
//!
//! What is always true: one instant, between transactions, or no snapshot of ours at all. Whatever pg_dump complains of,
//! a dump that ends early, a table without its data, all end the run. No password is in an argument, a path, an error or
//! the manifest; `globals.sql` has the hashes of roles' passwords when the server gives them out.
//!
//! A crash leaves nothing on the server: the transaction ends with its connection. On our side a restore keeps
//! what it lays down of the dump in a folder of its own, which only this user can read, and which is removed at its end; so does a dump
//! by several connections.

mod absent;
mod archive;
mod block;
mod connection;
mod contents;
mod copy;
mod creation;
mod databases;
mod directory;
mod dump;
mod encoding;
mod failure;
mod globals;
mod laid_out;
mod observe;
mod parallel;
mod part;
mod passfile;
mod pipes;
mod places;
mod present;
mod programs;
mod properties;
mod rewritten;
mod roles;
mod rows;
mod sandbox;
mod server;
mod source;
mod target;
mod tls;
mod toc;
mod view;

pub use databases::databases;
pub use observe::{Difference, compare, inspect, inspect_contents, observe, of_name};
pub use programs::Folders;
pub use sandbox::{PostgresSandbox, PostgresScratch};
pub use server::{PARAMETERS, Server, Settings};
pub use source::{DumpOptions, Parallel, PostgresSource, Roles};
pub use target::{Existing, LoadOptions, OwnSettings, PostgresTarget, Readers};
