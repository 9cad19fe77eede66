//! SQLite: files of every make, definitions that only their own program understands, rows against the rules, links.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backup_core::clock::{Clock, SystemClock};
use backup_core::contracts::{CheckResult, Report};
use backup_sources::databases::sqlite::{
    Check, Existing, Sort, SqliteOptions, SqliteSandbox, SqliteSource, SqliteTarget, Users, observe,
};
use rusqlite::Connection;
use tempfile::{TempDir, tempdir};

use crate::drill::{examined, failed, restored};
use crate::repository::{Repo, words};

/// A database made by `sql`, in a folder.
fn database(sql: &str) -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let path = folder.path().join("app.db");
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    (folder, path)
}

fn back_up(repo: &Repo, path: &Path) -> Report {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let options = SqliteOptions::new(path.parent().unwrap());
    repo.back_up(&mut SqliteSource::open(path, &options, &clock).unwrap())
        .map_err(|error| words(&error))
        .unwrap()
        .report
}

/// Restores beside it, and gives the file and what was told.
fn restore_beside(repo: &Repo, path: &Path) -> (PathBuf, Vec<String>) {
    let to = path.with_file_name("restored.db");
    let target = SqliteTarget::new(to.clone(), Existing::Replace, Users::Refuse);
    repo.restore("/sqlite/app.db", &target).map_err(|error| words(&error)).unwrap();
    (to, target.warnings())
}

/// The definition as its own program wrote it: that has something of its own where this one has `stand_in`.
fn rewritten(sql: &str, stand_in: &str, own: &str) -> (TempDir, PathBuf) {
    let (folder, path) = database(sql);
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "writable_schema", true).unwrap();
    let changed = connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ?1, ?2)", [stand_in, own]).unwrap();
    assert!(changed > 0);
    drop(connection);
    (folder, path)
}

/// What the head of a file says, and what its first table holds.
fn looks(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let ask = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    let table = ask("SELECT name FROM sqlite_schema WHERE type = 'table' LIMIT 1");
    let facts = ["encoding", "page_size", "auto_vacuum", "page_count", "freelist_count", "journal_mode"];
    let mut looks: Vec<String> =
        facts.iter().map(|fact| ask(&format!("SELECT CAST({fact} AS TEXT) FROM pragma_{fact}"))).collect();
    let columns = "SELECT group_concat('hex(' || name || ')', ' || ') FROM pragma_table_info(?1)";
    let columns: String = connection.query_row(columns, [&table], |row| row.get(0)).unwrap();
    looks.push(ask(&format!("SELECT group_concat({columns}) FROM {table}")));
    looks
}

#[test]
fn a_file_of_any_make_comes_back_as_it_was_made() {
    let rows = "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT); CREATE INDEX by_a ON t(a);
        INSERT INTO t(a) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
        SELECT 'ä' || i || '𝄞' FROM n;";
    let vacuumed = format!("PRAGMA auto_vacuum = 2; {rows} DELETE FROM t WHERE id % 3 = 0");
    let makes = [
        ("UTF-16, the low byte first", format!("PRAGMA encoding = 'UTF-16le'; {rows}")),
        ("UTF-16, the high byte first", format!("PRAGMA encoding = 'UTF-16be'; {rows}")),
        ("small pages", format!("PRAGMA page_size = 512; {rows}")),
        ("large pages", format!("PRAGMA page_size = 65536; {rows}")),
        ("large pages with a log", format!("PRAGMA page_size = 65536; PRAGMA journal_mode = WAL; {rows}")),
        ("a file that shrinks by itself", format!("PRAGMA auto_vacuum = 1; {rows} DELETE FROM t WHERE id % 3 = 0")),
        ("a file with free pages", vacuumed),
        ("an R*Tree", "CREATE VIRTUAL TABLE r USING rtree(id, low, high); INSERT INTO r VALUES (1, 0, 1)".to_owned()),
        ("words of FTS4", "CREATE VIRTUAL TABLE f USING fts4(text); INSERT INTO f VALUES ('a fox')".to_owned()),
        ("text that is none", "CREATE TABLE t(a TEXT); INSERT INTO t VALUES (CAST(x'fffe' AS TEXT))".to_owned()),
    ];
    for (make, sql) in makes {
        let ((_folder, path), repo) = (database(&sql), Repo::new());
        let report = back_up(&repo, &path);
        assert_eq!(report.warnings, Vec::<String>::new(), "{make}");
        let (again, warnings) = restore_beside(&repo, &path);
        assert_eq!(warnings, Vec::<String>::new(), "{make}");
        assert_eq!(looks(&again), looks(&path), "{make}");
        let (observed, findings) = observe(&again, Check::Full).unwrap();
        assert_eq!((observed.len() + 1, findings), (report.expectations.len(), Vec::new()), "{make}");
    }
}

#[test]
fn what_only_its_own_program_understands_is_backed_up_told_and_restored() {
    let own = [
        // The order of a key, of an index that would be counted by, of a whole table; functions in a rule and in an index.
        ("CREATE TABLE t(a TEXT COLLATE NOCASE PRIMARY KEY, b); INSERT INTO t VALUES ('x', 1)", "NOCASE", "mine"),
        (
            "CREATE TABLE t(a, b, c); CREATE INDEX i ON t(a COLLATE NOCASE); INSERT INTO t VALUES (1, 2, 3)",
            "NOCASE",
            "mine",
        ),
        (
            "CREATE TABLE t(a TEXT COLLATE NOCASE PRIMARY KEY) WITHOUT ROWID; INSERT INTO t VALUES ('x')",
            "NOCASE",
            "mine",
        ),
        ("CREATE TABLE t(a CHECK (abs(a) > 0)); INSERT INTO t VALUES (1)", "abs", "myf"),
        ("CREATE TABLE t(a); CREATE INDEX i ON t(abs(a)); INSERT INTO t VALUES (1)", "abs", "myf"),
    ];
    for (sql, stand_in, its_own) in own {
        let sql = format!("CREATE TABLE others(a); INSERT INTO others VALUES (1), (2); {sql}");
        let ((_folder, path), repo, parent) = (rewritten(&sql, stand_in, its_own), Repo::new(), tempdir().unwrap());
        let report = back_up(&repo, &path);
        // `quick_check` does not look at what is in an index, and SQLite does not read the rules of a file that it opens
        // for reading only.
        let (by_backup, by_restore, by_drill) = match () {
            () if sql.contains("CHECK") => (true, false, false),
            () if sql.contains("ON t(abs") => (false, false, true),
            () => (true, true, true),
        };
        let told = |warnings: &[String]| warnings.iter().any(|warning| warning.contains(its_own));
        assert_eq!(told(&report.warnings), by_backup, "{sql}: {:?}", report.warnings);
        assert!(!report.warnings.concat().contains("damaged"), "{sql}: {:?}", report.warnings);
        assert!(report.expectations.iter().any(|expected| expected.object == "others" && expected.count == Some(2)));
        let warnings = restore_beside(&repo, &path).1;
        assert_eq!(told(&warnings), by_restore, "{sql}: {warnings:?}");

        let sandbox = Box::new(SqliteSandbox::new(parent.path()));
        let mut sandbox = restored(sandbox, &repo, "/sqlite/app.db");
        let checks = examined(&mut *sandbox, &report);
        assert_eq!(failed(&checks), Vec::<&str>::new(), "{sql}: {checks:#?}");
        let result = |id: &str| checks.iter().find(|check| check.id == id).map(|check| check.result);
        let integrity = if by_drill { CheckResult::NotTested } else { CheckResult::Passed };
        assert_eq!(result("integrity_check"), Some(integrity), "{sql}");
        assert_eq!(result("image"), Some(CheckResult::Passed), "{sql}");
    }
}

#[test]
fn damage_is_found_beside_what_cannot_be_checked() {
    let sql =
        "CREATE TABLE others(a); INSERT INTO others WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n
        WHERE i < 400) SELECT randomblob(400) FROM n; CREATE TABLE t(a CHECK (abs(a) > 0));";
    let ((_folder, path), repo) = (rewritten(sql, "abs", "myf"), Repo::new());
    let mut bytes = fs::read(&path).unwrap();
    bytes[10 * 4096..14 * 4096].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    let warnings = back_up(&repo, &path).warnings;
    assert!(warnings.iter().any(|warning| warning.contains("is damaged")), "{warnings:?}");
}

#[test]
fn rows_against_a_rule_are_told_and_are_no_damage() {
    let ((_folder, path), repo) = (
        rewritten("CREATE TABLE t(a INTEGER); INSERT INTO t VALUES (NULL)", "INTEGER", "INTEGER NOT NULL"),
        Repo::new(),
    );
    let report = back_up(&repo, &path);
    assert_eq!(report.warnings, ["the database app.db: NULL value in t.a"]);
    let (again, warnings) = restore_beside(&repo, &path);
    assert_eq!(warnings, ["NULL value in t.a, as when it was backed up"]);
    let sorts: Vec<_> = observe(&again, Check::Full).unwrap().1.into_iter().map(|finding| finding.sort).collect();
    assert_eq!(sorts, [Sort::Rule]);
}

#[test]
fn rows_that_sqlite_keeps_for_itself_do_not_make_an_empty_database_a_full_one() {
    let sql = "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a); CREATE VIRTUAL TABLE words USING fts5(text);
        INSERT INTO t(a) VALUES (1), (2); INSERT INTO words VALUES ('a fox'); ANALYZE;";
    let (_folder, path) = database(sql);
    assert_eq!(back_up(&Repo::new(), &path).rows(), Some(2));
    Connection::open(&path).unwrap().execute_batch("DELETE FROM t").unwrap();
    let report = back_up(&Repo::new(), &path);
    assert_eq!(report.rows(), Some(0));
    assert!(report.expectations.iter().filter_map(|expected| expected.count).sum::<u64>() > 0);
}

#[test]
fn a_link_leads_to_the_database_that_is_replaced_and_stays_a_link() {
    let ((folder, path), repo) = (database("CREATE TABLE t(a); INSERT INTO t VALUES (1)"), Repo::new());
    back_up(&repo, &path);
    let link = folder.path().join("link.db");
    symlink("app.db", &link).unwrap();
    Connection::open(&path).unwrap().execute_batch("DELETE FROM t").unwrap();
    let target = SqliteTarget::new(link.clone(), Existing::Replace, Users::Refuse);
    repo.restore("/sqlite/app.db", &target).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let rows = Connection::open(&path).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get::<_, u64>(0));
    assert_eq!(rows, Ok(1));
    // One that leads nowhere is nobody's to fill.
    let nowhere = folder.path().join("nowhere.db");
    symlink("missing/app.db", &nowhere).unwrap();
    let target = SqliteTarget::new(nowhere, Existing::Replace, Users::Refuse);
    assert!(words(&repo.restore("/sqlite/app.db", &target).unwrap_err()).contains("not a file"));
}

#[test]
fn ten_thousand_tables_come_back() {
    let (_folder, path) = database("");
    let mut connection = Connection::open(&path).unwrap();
    let transaction = connection.transaction().unwrap();
    for n in 0..10_000 {
        transaction.execute_batch(&format!("CREATE TABLE t{n}(a); INSERT INTO t{n} VALUES ({n})")).unwrap();
    }
    transaction.commit().unwrap();
    let repo = Repo::new();
    let report = back_up(&repo, &path);
    assert_eq!((report.expectations.len(), report.rows()), (10_001, Some(10_000)));
    let (observed, findings) = observe(&restore_beside(&repo, &path).0, Check::Quick).unwrap();
    assert_eq!((&observed[..], findings), (&report.expectations[..10_000], Vec::new()));
}
