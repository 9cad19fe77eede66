//! A database of MariaDB or MySQL of which little has changed: what a second backup stores, and how many statements a restore
//! takes.

use crate::mysql_server::{Flavour, Server};
use crate::repository::Repo;

/// The longest piece that a stream is cut into: where the cuts lie differs from repository to repository.
const PIECE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// 40 MB of rows.
fn filled(flavour: &Flavour) -> Server {
    let server = Server::new(flavour);
    server.sql("mysql", "CREATE DATABASE app CHARACTER SET utf8mb4");
    let sql = "CREATE TABLE long_one (id INT PRIMARY KEY, what TEXT);
        INSERT INTO long_one WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < 399)
          SELECT a.n * 400 + b.n, CONCAT(SHA2(a.n * 400 + b.n, 512), REPEAT('.', b.n % 7), SHA2(b.n * 400 + a.n, 384))
          FROM s a JOIN s b;";
    server.sql("app", sql);
    server
}

#[test]
#[ignore = "needs mariadbd"]
fn a_row_that_is_gone_costs_the_piece_that_it_was_in() {
    for flavour in Flavour::all() {
        let server = filled(&flavour);
        let repo = Repo::new();
        let first = repo.back_up(&mut server.source("app")).unwrap().summary;
        assert!(first.total_bytes_processed > 4 * PIECE_BYTES_MAX, "{first:?}");
        server.sql("app", "DELETE FROM long_one WHERE id = 100");
        let second = repo.back_up(&mut server.source("app")).unwrap().summary;
        // The change and where statements end alike again, which may lie in two pieces, and the manifest.
        assert!(second.data_added < 2 * PIECE_BYTES_MAX + 100_000, "{second:?}");
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn a_restore_joins_short_statements() {
    for flavour in Flavour::all() {
        let server = filled(&flavour);
        let repo = Repo::new();
        let report = repo.back_up(&mut server.source("app")).unwrap().report;
        let inserts = || -> u64 {
            let shown = server.sql("mysql", "SHOW GLOBAL STATUS LIKE 'Com_insert'");
            shown.split_whitespace().last().unwrap().parse().unwrap()
        };
        let before = inserts();
        server.restore(&repo, "again");
        let taken = inserts() - before;
        assert!((20..100).contains(&taken), "{taken} statements");
        assert_eq!(backup_sources::databases::mysql::observe(&server.settings("again")).unwrap(), report.expectations);
    }
}
