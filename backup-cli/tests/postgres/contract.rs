//! The source keeps the engine's contract.

use std::time::{Duration, Instant};

use backup_core::testing::source_suite;
use backup_sources::databases::postgres::{DumpOptions, Folders, PostgresSource, Roles, Server as Database, Settings};
use backup_sources::databases::url::DatabaseUrl;

use crate::server::Server;

#[test]
#[ignore = "needs postgres-15"]
fn a_database_keeps_the_contract_of_a_source() {
    let server = Server::start(15, &[]);
    server.database("app", "CREATE TABLE t AS SELECT n, repeat('x', 300) AS x FROM generate_series(1, 10000) AS n");
    let settings = Settings {
        folders: Folders { only: Some(server.programs().to_owned()), also: Vec::new() },
        ..Settings::default()
    };
    let database = Database::new(&DatabaseUrl::parse(server.url("app")).unwrap(), &settings).unwrap();
    // What pg_dumpall prints has a random word in it.
    let options = DumpOptions { roles: Roles::LeftOut, ..DumpOptions::default() };
    source_suite(|| Box::new(PostgresSource::connect(&database, "app", &options).unwrap()));
}

#[tokio::test]
#[ignore = "needs postgres-15"]
async fn a_source_may_live_and_die_inside_of_a_runtime() {
    let server = Server::start(15, &[]);
    server.database("app", "");
    let settings = Settings {
        folders: Folders { only: Some(server.programs().to_owned()), also: Vec::new() },
        ..Settings::default()
    };
    let database = Database::new(&DatabaseUrl::parse(server.url("app")).unwrap(), &settings).unwrap();
    drop(PostgresSource::connect(&database, "app", &DumpOptions::default()).unwrap());
    // A server that was told goodbye takes a moment to go.
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'backup'";
    let began = Instant::now();
    while server.sql("postgres", left) != "0" {
        assert!(began.elapsed() < Duration::from_secs(60), "the connection stays open");
    }
}
