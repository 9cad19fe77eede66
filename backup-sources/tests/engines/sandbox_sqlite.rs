//! The sandbox of SQLite: a good snapshot passes, each kind of damage fails for its own reason.

use backup_core::cancel::Cancel;
use backup_core::contracts::{Answer, CheckResult, Question, Sandbox};
use backup_sources::databases::sqlite::SqliteSandbox;
use tempfile::tempdir;

use crate::drill::{TOO_MUCH, examined, failed, left, load, not_run, restored};
use crate::repository::Repo;
use crate::sqlite::Database;

fn asked(sandbox: &mut dyn Sandbox, sql: &str) -> Result<Option<String>, String> {
    let answer = sandbox.ask(&Question::Sql(sql.into()), &Cancel::new());
    answer.map(|Answer(answer)| answer).map_err(|error| error.to_string())
}

#[test]
fn a_good_snapshot_passes_and_is_asked() {
    for journal in ["wal", "delete"] {
        let (database, repo, parent) = (Database::new(journal, 200), Repo::new(), tempdir().unwrap());
        repo.back_up(&mut database.source()).unwrap();
        let report = repo.manifest("/sqlite/app.db").report;
        let sandbox = Box::new(SqliteSandbox::new(parent.path()));
        let mut sandbox = restored(sandbox, &repo, "/sqlite/app.db");
        let checks = examined(&mut *sandbox, &report);
        assert_eq!(failed(&checks), Vec::<&str>::new(), "{checks:#?}");
        for id in ["image", "table left_side count", "integrity_check"] {
            assert!(checks.iter().any(|check| check.id == id && check.result == CheckResult::Passed), "{id}");
        }
        assert_eq!(asked(&mut *sandbox, "SELECT count(*) > 0 FROM left_side").unwrap().as_deref(), Some("1"));
        assert_eq!(asked(&mut *sandbox, "SELECT NULL").unwrap(), None);
        for wrong in
            ["DELETE FROM left_side", "SELECT id FROM left_side", "SELECT no_such()", "PRAGMA user_version = 1"]
        {
            assert!(asked(&mut *sandbox, wrong).is_err(), "{wrong}");
        }
        let program = ["sh", "-c", "test -w \"$BACKUP_DATABASE\" && test -w . && id -u >uid && echo there"]
            .map(str::to_owned)
            .to_vec();
        let Answer(answer) = sandbox.ask(&Question::Program(program), &Cancel::new()).unwrap();
        assert_eq!(answer.as_deref(), Some("there"));
        sandbox.remove().unwrap();
        assert_eq!(left(parent.path()), Vec::<String>::new());
    }
}

#[test]
fn an_image_that_is_cut_off_or_empty_is_not_restored() {
    let (database, repo, parent) = (Database::new("wal", 200), Repo::new(), tempdir().unwrap());
    repo.back_up(&mut database.source()).unwrap();
    let image = repo.file("/sqlite/app.db/app.db");
    let report = repo.manifest("/sqlite/app.db").report;
    for length in [image.len() / 20, image.len() * 19 / 20, 0] {
        let mut sandbox = SqliteSandbox::new(parent.path());
        let loaded = load(&mut sandbox, &[("app.db", &image[..length])]);
        // An empty file is an empty database.
        let is_found = loaded.is_err() || {
            let expected = backup_core::contracts::Expected {
                report: &report,
                entries: &mut std::iter::empty(),
                until: jiff::Timestamp::MAX,
            };
            let checks = sandbox.examine(expected, &Cancel::new()).unwrap();
            failed(&checks).contains(&"image") && failed(&checks).contains(&"table left_side")
        };
        assert!(is_found, "{length}");
    }
}

#[test]
fn what_is_not_as_it_was_fails_by_its_name() {
    let (database, parent) = (Database::new("delete", 50), tempdir().unwrap());
    let first = Repo::new();
    first.back_up(&mut database.source()).unwrap();
    let original = first.manifest("/sqlite/app.db").report;
    let changes = [
        ("DELETE FROM left_side WHERE id = 7", "table left_side count"),
        ("UPDATE right_side SET amount = amount + 1 WHERE id = 7", "image"),
        ("DROP INDEX partial", "index partial"),
        ("UPDATE sqlite_sequence SET seq = 0", "image"),
        ("CREATE TABLE more(a)", "table more"),
    ];
    for (change, expected) in changes {
        database.connect().execute_batch(change).unwrap();
        let repo = Repo::new();
        repo.back_up(&mut database.source()).unwrap();
        let mut sandbox = restored(Box::new(SqliteSandbox::new(parent.path())), &repo, "/sqlite/app.db");
        let checks = examined(&mut *sandbox, &original);
        assert!(failed(&checks).contains(&expected) && failed(&checks).contains(&"image"), "{change}: {checks:#?}");
    }
}

#[test]
fn a_disk_that_is_too_small_is_said_before_anything_is_made() {
    let parent = tempdir().unwrap();
    let reason = not_run(Box::new(SqliteSandbox::new(parent.path())), TOO_MUCH, parent.path());
    assert!(reason.contains("are free"), "{reason}");
}
