//! The sandbox of MySQL and MariaDB: a good backup passes, each kind of damage fails for its own reason, a dump that
//! attacks gets nowhere, and what cannot run says so.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use backup_core::cancel::Cancel;
use backup_core::contracts::{Answer, CheckResult, Expected, Question, Sandbox};
use backup_sources::databases::manifest::Manifest;
use backup_sources::databases::mysql::MysqlSandbox;
use backup_sources::sandbox::SandboxPlace;
use tempfile::TempDir;

use crate::drill::{LITTLE, TOO_MUCH, examined, failed, left, load, not_run, restored};
use crate::mysql_server::{Flavour, Server};
use crate::postgres_server::open_folder;
use crate::repository::Repo;

/// A little of everything, some of it defined by somebody who will not be there.
const APP: &str = "
CREATE USER author@'%'; GRANT ALL ON app.* TO author@'%';
CREATE TABLE users (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(100) NOT NULL, joined DATETIME, INDEX by_name (name));
INSERT INTO users (name, joined) SELECT CONCAT('user ', seq), '2026-01-01 00:00:00' + INTERVAL seq HOUR
  FROM (WITH RECURSIVE s(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM s WHERE seq < 900) SELECT seq FROM s) numbers;
CREATE TABLE empty_one (a INT);
CREATE DEFINER = author@'%' VIEW newest AS SELECT * FROM users ORDER BY id DESC LIMIT 10;
CREATE DEFINER = author@'%' FUNCTION twice(n INT) RETURNS INT DETERMINISTIC RETURN n * 2;
CREATE DEFINER = author@'%' TRIGGER notes AFTER DELETE ON users FOR EACH ROW INSERT INTO empty_one VALUES (OLD.id);
CREATE EVENT tidies ON SCHEDULE EVERY 1 SECOND DO DELETE FROM users;
";

pub(crate) fn with_app(flavour: &Flavour) -> Server {
    let server = Server::new(flavour);
    server.sql("mysql", "CREATE DATABASE app CHARACTER SET utf8mb4");
    server.sql("app", APP);
    server
}

fn sandbox(server: &Server, manifest: &Manifest, parent: &TempDir) -> Box<dyn Sandbox> {
    let place = SandboxPlace::new(parent.path());
    let programs = vec![server.flavour.programs(), server.flavour.server.parent().unwrap().to_owned()];
    Box::new(MysqlSandbox::new(manifest.clone(), place, programs))
}

pub(crate) fn back_up(server: &Server, repo: &Repo) -> Manifest {
    repo.back_up(&mut server.source("app")).unwrap();
    repo.manifest("/mysql/app")
}

fn asked(sandbox: &mut dyn Sandbox, sql: &str) -> Result<Option<String>, String> {
    let answer = sandbox.ask(&Question::Sql(sql.into()), &Cancel::new());
    answer.map(|Answer(answer)| answer).map_err(|error| error.to_string())
}

#[test]
#[ignore = "needs mariadbd"]
fn a_good_backup_passes_and_is_asked() {
    for flavour in Flavour::all() {
        let (server, repo, parent) = (with_app(&flavour), Repo::new(), open_folder());
        let manifest = back_up(&server, &repo);
        let mut sandbox = restored(sandbox(&server, &manifest, &parent), &repo, "/mysql/app");
        let checks = examined(&mut *sandbox, &manifest.report);
        assert_eq!(failed(&checks), Vec::<&str>::new(), "{checks:#?}");
        for id in ["definition users definition", "view newest definition", "event tidies definition"] {
            assert!(checks.iter().any(|check| check.id == id && check.result == CheckResult::Passed), "{id}");
        }
        for id in ["table users count", "table users content", "check table users"] {
            assert!(checks.iter().any(|check| check.id == id && check.result == CheckResult::Passed), "{id}");
        }
        assert_eq!(asked(&mut *sandbox, "SELECT count(*) FROM newest;").unwrap().as_deref(), Some("10"));
        let newest = asked(&mut *sandbox, "SELECT max(joined) FROM users").unwrap();
        assert_eq!(newest.as_deref(), Some("2026-02-07T12:00:00Z"));
        assert_eq!(asked(&mut *sandbox, "SELECT a FROM empty_one").unwrap(), None);
        for wrong in
            ["DELETE FROM users", "SELECT id FROM users", "SELECT * FROM mysql.user", "SELECT 1 INTO OUTFILE 'x'"]
        {
            assert!(asked(&mut *sandbox, wrong).is_err(), "{wrong}");
        }
        let client = flavour.programs().join(if flavour.is_mariadb { "mariadb" } else { "mysql" });
        let script = format!(
            "{} --no-defaults -Nu $BACKUP_USER -e 'SELECT COUNT(*) FROM users' $BACKUP_DATABASE",
            client.display()
        );
        let program = ["sh".to_owned(), "-c".to_owned(), script];
        let Answer(answer) = sandbox.ask(&Question::Program(program.to_vec()), &Cancel::new()).unwrap();
        assert_eq!(answer.as_deref(), Some("900"));
        let isolation = sandbox.facts().isolation;
        let has_walls = isolation.iter().any(|text| text == "no network");
        let told = if has_walls { "client programs and commands behind the same walls" } else { "no namespaces: " };
        assert!(isolation.iter().any(|text| text.starts_with(told)), "{isolation:?}");
        sandbox.remove().unwrap();
        assert_eq!(left(parent.path()), Vec::<String>::new());
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn a_dump_that_is_cut_off_or_empty_fails() {
    let (server, repo, parent) = (with_app(&Flavour::all()[0]), Repo::new(), open_folder());
    let manifest = back_up(&server, &repo);
    let dump = repo.file("/mysql/app/dump.sql");
    for length in [dump.len() / 20, dump.len() * 19 / 20, 0] {
        let mut made = sandbox(&server, &manifest, &parent);
        if load(&mut *made, &[("dump.sql", &dump[..length])]).is_ok() {
            made.ready().unwrap();
            let expected =
                Expected { report: &manifest.report, entries: &mut std::iter::empty(), until: jiff::Timestamp::MAX };
            let checks = made.examine(expected, &Cancel::new()).unwrap();
            assert!(failed(&checks).contains(&"table users"), "{length}: {checks:#?}");
        }
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn what_is_not_as_it_was_fails_by_its_name() {
    let (server, parent) = (with_app(&Flavour::all()[0]), open_folder());
    let original = back_up(&server, &Repo::new()).report;
    let changes = [
        (
            "UPDATE users SET name = 'someone else' WHERE id = 7",
            "UPDATE users SET name = 'user 7' WHERE id = 7",
            &["table users content"][..],
        ),
        (
            "DROP INDEX by_name ON users",
            "CREATE INDEX by_name ON users (name)",
            &["definition users definition", "index users.by_name"],
        ),
        (
            "DROP VIEW newest",
            "CREATE DEFINER = author@'%' VIEW newest AS SELECT * FROM users ORDER BY id DESC LIMIT 10",
            &["view newest", "declaration view newest"],
        ),
        ("CREATE TABLE more (a INT)", "DROP TABLE more", &["definition more", "table more"]),
        ("DELETE FROM users WHERE id = 7; DELETE FROM empty_one", "", &["table users count", "table users content"]),
    ];
    for (change, undo, expected) in changes {
        server.sql("app", change);
        let repo = Repo::new();
        let altered = back_up(&server, &repo);
        server.sql("app", undo);
        let mut made = restored(sandbox(&server, &altered, &parent), &repo, "/mysql/app");
        assert_eq!(failed(&examined(&mut *made, &original)), expected, "{change}");
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn a_dump_that_attacks_gets_nowhere() {
    let (server, repo, parent, prey) = (with_app(&Flavour::all()[0]), Repo::new(), open_folder(), open_folder());
    fs::set_permissions(prey.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let manifest = back_up(&server, &repo);
    let mark = prey.path().join("mark");
    let mark = mark.display();
    for attack in [
        // Commands of the client, which would run as who drills.
        format!("\\! touch {mark}\n"),
        format!("system touch {mark}\n"),
        format!("SELECT 'x' INTO OUTFILE '{mark}';\n"),
        "SELECT authentication_string FROM mysql.user INTO @x;\n".to_owned(),
        "GRANT ALL ON *.* TO CURRENT_USER();\n".to_owned(),
        "SET GLOBAL event_scheduler = ON;\n".to_owned(),
        // In the name of who could.
        "CREATE DEFINER = root@localhost PROCEDURE peeks() SELECT user INTO @x FROM mysql.user LIMIT 1; CALL peeks();\n"
            .to_owned(),
        "CREATE DEFINER = root@'127.0.0.1' PROCEDURE rules() SET GLOBAL event_scheduler = ON; CALL rules();\n".to_owned(),
    ] {
        let dump = [&repo.file("/mysql/app/dump.sql")[..], attack.as_bytes()].concat();
        let mut made = sandbox(&server, &manifest, &parent);
        load(&mut *made, &[("dump.sql", &dump)]).expect_err(&attack);
        assert_eq!(left(prey.path()), Vec::<String>::new(), "{attack}");
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn what_cannot_run_here_says_so_and_starts_nothing() {
    let (server, repo, parent) = (with_app(&Flavour::all()[0]), Repo::new(), open_folder());
    let good = back_up(&server, &repo);
    let mut other = good.clone();
    other.report.tools.iter_mut().for_each(|tool| tool.version = "3.1.4-MariaDB".into());
    let reason = not_run(sandbox(&server, &other, &parent), LITTLE, parent.path());
    assert!(reason.starts_with("MariaDB 3.1 is not installed here, but "), "{reason}");
    let reason = not_run(sandbox(&server, &good, &parent), TOO_MUCH, parent.path());
    assert!(reason.contains("are free"), "{reason}");
}
