//! Each database engine against the real thing: backed up while it is written to, restored into an empty one, compared.
//! And what must fail, failing without a snapshot.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod drill;
mod full_disk;
mod hanging;
mod loads;
mod mongodb;
mod mongodb_judged;
mod mongodb_refused;
mod mongodb_server;
mod mysql;
mod mysql_again;
mod mysql_definitions;
mod mysql_refused;
mod mysql_server;
mod negative;
mod podman;
mod postgres_server;
mod proxy;
mod redis;
mod redis_replayed;
mod repository;
mod sandbox_container;
mod sandbox_hostile;
mod sandbox_mongodb;
mod sandbox_mysql;
mod sandbox_postgres;
mod sandbox_redis;
mod sandbox_sqlite;
#[path = "../small_disk/mod.rs"]
mod small_disk;
mod sqlite;
mod sqlite_otherwise;
