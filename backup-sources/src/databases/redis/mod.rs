//! Redis and Valkey: the snapshot of a server as its replicas get it, and a server that takes one back.
//!
//! What is always true:
//!
//! * The source asks as a replica does (`PSYNC`): the server forks, sends one state of all its databases as an RDB file,
//!   and goes on. Nothing is written on its side that it would not write for a replica, and nothing on ours.
//! * The file is whole by three measures: the length or the mark that the server promised, its own end, its checksum.
//! * Keys are counted, and hashed, as the file passes. What a newer server or a module put in that is not known here is
//!   carried all the same; then nothing is claimed of its keys.
//! * A restore loads the keys one by one (`RESTORE`) over the one connection: it needs neither a way back from the server
//!   nor rights over its replication. It refuses a server that is not empty.
//!
//! The snapshot's folder is `/redis/NAME/` with `dump.rdb`, which is what a server loads at its start, and
//! `manifest.json`.

mod connection;
mod elements;
mod inspect;
mod keys;
mod listener;
mod numeral;
mod rdb;
#[cfg(test)]
mod rdb_tests;
mod sandbox;
mod settings;
mod shape;
mod source;
mod sum;
mod sync;
mod target;

pub use inspect::{inspect, payloads};
pub use keys::differences;
pub use sandbox::RedisSandbox;
pub use settings::{Address, RedisSettings, Tls};
pub use source::{RedisSource, observe};
pub use target::{Existing, RedisTarget};
