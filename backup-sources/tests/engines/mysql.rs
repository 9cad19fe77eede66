//! MariaDB, and MySQL where there is one: the zoo of definitions, writers, definitions that change under the dump, and
//! each way to fail.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use backup_core::contracts::Consistency;
use backup_core::testing::{source_suite, write_program};
use backup_sources::databases::differences;
use backup_sources::databases::mysql::{Existing, MysqlSettings, MysqlTarget, observe};
use backup_sources::databases::url::Password;
use tempfile::tempdir;

use crate::mysql_server::{Flavour, Server, source};
use crate::repository::{Meddled, Repo, words};

const ZOO: &str = r#"
CREATE TABLE authors (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(100) NOT NULL UNIQUE, born DATE,
  INDEX (born)) COMMENT='it''s a "comment"';
CREATE TABLE books (id BIGINT UNSIGNED PRIMARY KEY, author INT, title LONGTEXT, cover LONGBLOB, price DECIMAL(20,5),
  rating DOUBLE, ratio FLOAT, flags SET('a','b'), kind ENUM('x','y z'), bits BIT(10), at DATETIME(6), stamp TIMESTAMP NULL,
  took TIME(3), y YEAR, doc JSON, place POINT, length_of INT GENERATED ALWAYS AS (CHAR_LENGTH(title)) STORED,
  is_rated INT GENERATED ALWAYS AS (rating IS NOT NULL) VIRTUAL, FULLTEXT (title), CHECK (price >= 0),
  FOREIGN KEY (author) REFERENCES authors (id) ON DELETE CASCADE);
CREATE TABLE `odd ``name` (`a``b` INT, `select` VARCHAR(10) CHARACTER SET latin1, `ü` VARCHAR(20) COLLATE utf8mb4_bin);
CREATE TABLE empty_one (a INT);
CREATE TABLE parts (id INT, y INT) PARTITION BY RANGE (y) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE);
CREATE TABLE node_a (id INT PRIMARY KEY, b INT); CREATE TABLE node_b (id INT PRIMARY KEY, a INT);
ALTER TABLE node_a ADD FOREIGN KEY (b) REFERENCES node_b (id); ALTER TABLE node_b ADD FOREIGN KEY (a) REFERENCES node_a (id);
INSERT INTO authors (name, born) VALUES ('Ada', '1815-12-10'), ('it''s (me), \\ "quoted"', NULL), ('日本語 😀', '2000-01-01');
INSERT INTO books (id, author, title, cover, price, rating, ratio, flags, kind, bits, at, stamp, took, y, doc, place) VALUES
  (1, 1, 'line\nbreak\r\n\ttab\0zero', X'00FF27275C', 1.5, 0.1, 1e-7, 'a,b', 'y z', b'1010101010',
   '2020-02-29 12:34:56.789012', '2020-01-01 00:00:00', '-12:00:00.5', 1999, '{"a": [1, "ü"]}', POINT(1, 2)),
  (18446744073709551615, 2, '', '', 0, -1.7976931348623157e308, 3.4e38, '', 'x', b'0', '1000-01-01', NULL, NULL, NULL, NULL, NULL),
  (3, NULL, REPEAT('long ', 300000), REPEAT(X'01', 700000), 123456789012345.12345, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '[]', NULL);
INSERT INTO `odd ``name` VALUES (1, 'é', 'ß'), (NULL, '', NULL), (1, 'é', 'ß');
INSERT INTO parts SELECT seq, seq % 20 FROM (WITH RECURSIVE s(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM s WHERE seq < 900) SELECT seq FROM s) numbers;
INSERT INTO node_a VALUES (1, NULL); INSERT INTO node_b VALUES (1, 1); UPDATE node_a SET b = 1;
CREATE VIEW shelf AS SELECT b.title, a.name FROM books b JOIN authors a ON a.id = b.author;
CREATE VIEW on_shelf AS SELECT name FROM shelf;
CREATE TABLE log (what TEXT);
DELIMITER ;;
CREATE TRIGGER logs AFTER INSERT ON authors FOR EACH ROW BEGIN
INSERT INTO `log` VALUES ('a row; with a semicolon');
END;;
CREATE PROCEDURE adds(IN n VARCHAR(50)) COMMENT 'it''s' BEGIN
-- A comment that stays.
INSERT INTO `authors` (name) VALUES (n);
SELECT COUNT(*) FROM authors;
END;;
CREATE FUNCTION twice(n INT) RETURNS INT DETERMINISTIC RETURN n * 2;;
CREATE EVENT tidies ON SCHEDULE EVERY 1 DAY DO DELETE FROM log;;
DELIMITER ;
"#;

/// What only `MariaDB` has, and what a MySQL refuses by its usual mode.
const MARIADB_ZOO: &str = r#"
CREATE SEQUENCE numbers START 5; SELECT NEXTVAL(numbers);
CREATE TABLE counted (id INT PRIMARY KEY DEFAULT NEXTVAL(numbers), a INT); INSERT INTO counted (a) VALUES (1), (2);
CREATE TABLE versioned (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING; INSERT INTO versioned VALUES (1, 1), (2, 2);
UPDATE versioned SET v = 3 WHERE id = 1; DELETE FROM versioned WHERE id = 2;
CREATE TABLE hidden (a INT, b INT INVISIBLE DEFAULT 7); INSERT INTO hidden (a, b) VALUES (1, 8); INSERT INTO hidden VALUES (2);
CREATE TABLE typed (u UUID, i INET6); INSERT INTO typed VALUES ('123e4567-e89b-12d3-a456-426655440000', '2001:db8::1');
CREATE TABLE bytes (t VARCHAR(20) CHARACTER SET latin1, b VARBINARY(20)); INSERT INTO bytes VALUES (X'E9FC80', X'00FFE9');
SET sql_mode = ''; CREATE TABLE zero (d DATE, t DATETIME); INSERT INTO zero VALUES ('0000-00-00', '2020-00-10 00:00:00');
CREATE DEFINER=ghost@nowhere PROCEDURE haunts() SELECT 1;
CREATE DEFINER=ghost@nowhere TRIGGER haunted BEFORE INSERT ON bytes FOR EACH ROW SET NEW.b = '';
"#;

fn app(flavour: &Flavour) -> Server {
    let server = Server::new(flavour);
    server.sql("mysql", "CREATE DATABASE app CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci");
    server
}

/// A database whose first table is too long for the pipe, so that a dump stands still in it until somebody reads on.
fn long(flavour: &Flavour) -> Server {
    let server = app(flavour);
    let sql = "CREATE TABLE a_long (id INT PRIMARY KEY, filler TEXT); CREATE TABLE b (id INT PRIMARY KEY, x INT);
        CREATE TABLE c (id INT); INSERT INTO b VALUES (1, 1), (2, 2); INSERT INTO c VALUES (1);
        INSERT INTO a_long WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 900)
          SELECT n, REPEAT(SHA2(n, 256), 150) FROM s;";
    server.sql("app", sql);
    server
}

/// A dump without what the name of its database is in, and without the character sets that MySQL names or does not.
fn text_of(dump: &[u8]) -> String {
    let text = String::from_utf8_lossy(dump);
    let changing = ["-- Host:", "_LOG_POS=", "gtid_slave_pos=", "for database '"];
    let lines = text.lines().filter(|line| !changing.iter().any(|words| line.contains(words)));
    lines.collect::<Vec<_>>().join("\n").replace(" CHARACTER SET utf8mb4 COLLATE", " COLLATE")
}

/// The options with which the manual has a dump loaded without this program.
fn options_by_hand() -> impl Iterator<Item = &'static str> {
    let manual = include_str!("../../../docs/manual/mysql.md");
    let line = manual.lines().find(|line| line.ends_with(" app < /tmp/out/mysql/app/dump.sql")).unwrap();
    line.split_whitespace().filter(|word| word.starts_with("--"))
}

#[test]
#[ignore = "needs mariadbd"]
fn every_kind_of_definition_and_value_comes_back() {
    for flavour in Flavour::all() {
        let server = app(&flavour);
        server.sql("app", ZOO);
        if flavour.is_mariadb {
            server.sql("app", MARIADB_ZOO);
        }
        let repo = Repo::new();
        let report = repo.back_up(&mut server.source("app")).unwrap().report;
        // MariaDB writes a default with the name of the database.
        let bound = "the default of counted.id names a sequence of app itself";
        assert_eq!(report.warnings.len(), usize::from(flavour.is_mariadb), "{:?}", report.warnings);
        assert!(report.warnings.iter().all(|warning| warning.starts_with(bound)), "{:?}", report.warnings);
        assert_eq!(report.consistency, Consistency::Transactional);
        assert!(report.recovery_point.as_ref().unwrap().position.as_ref().unwrap().contains("binlog.0"), "{report:?}");
        let rows = |name: &str| report.expectations.iter().find(|e| e.object == name).unwrap().count;
        assert_eq!(
            (rows("books"), rows("parts"), rows("empty_one"), rows("odd `name")),
            (Some(3), Some(900), Some(0), Some(3))
        );
        for (kind, name) in
            [("view", "shelf"), ("trigger", "logs"), ("procedure", "adds"), ("function", "twice"), ("event", "tidies")]
        {
            assert!(report.expectations.iter().any(|e| (e.kind.as_str(), e.object.as_str()) == (kind, name)), "{name}");
        }
        let manifest = repo.manifest("/mysql/app");
        assert_eq!(manifest.details["collation"], "utf8mb4_unicode_ci");

        let target = MysqlTarget::connect(&server.settings("again"), Existing::Refuse, Some(&manifest)).unwrap();
        repo.restore("/mysql/app", &target).map_err(|error| words(&error)).unwrap();
        assert_eq!(observe(&server.settings("again")).unwrap(), report.expectations);
        if flavour.is_mariadb {
            let next = server.sql("again", "INSERT INTO counted (a) VALUES (3); SELECT COUNT(*), MIN(id) FROM counted");
            assert_eq!(next.trim(), "3\t6", "the sequence numbers rows");
            server.sql("again", "DELETE FROM counted WHERE a = 3");
            let history = "SELECT *, row_start, row_end FROM versioned FOR SYSTEM_TIME ALL ORDER BY id, row_start";
            assert_eq!(server.sql("again", history).lines().count(), 3);
            assert_eq!(server.sql("again", history), server.sql("app", history));
            // A database of an odd name, whose dump and restore are like any other's.
            let odd = "odd `db`; ü %41";
            let target = MysqlTarget::connect(&server.settings(odd), Existing::Refuse, Some(&manifest)).unwrap();
            repo.restore("/mysql/app", &target).map_err(|error| words(&error)).unwrap();
            let other = Repo::new();
            let report = other.back_up(&mut server.source(odd)).map_err(|error| words(&error)).unwrap().report;
            assert_eq!(other.manifest("/mysql/odd `db`; ü %2541").report.expectations, report.expectations);
            server.sql("mysql", "DROP DATABASE again");
            let target = MysqlTarget::connect(&server.settings("again"), Existing::Refuse, Some(&manifest)).unwrap();
            repo.restore("/mysql/app", &target).map_err(|error| words(&error)).unwrap();
        }
        let first = repo.file("/mysql/app/dump.sql");
        if flavour.is_mariadb {
            let elsewhere = Server::new(&flavour);
            let target = MysqlTarget::connect(&elsewhere.settings("again"), Existing::Refuse, Some(&manifest)).unwrap();
            let told = words(&repo.restore("/mysql/app", &target).unwrap_err());
            assert!(told.contains("under the name that it had"), "{told}");
            elsewhere.restore(&repo, "app");
            assert_eq!(observe(&elsewhere.settings("app")).unwrap(), report.expectations);
        }
        // And without this program.
        server.sql("mysql", "CREATE DATABASE by_hand CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci");
        let mut client = Command::new(server.client("by_hand").get_program());
        client.args(["--no-defaults", "--user=root"]).arg(format!("--socket={}", server.socket().display()));
        let mut child = client.args(options_by_hand()).arg("by_hand").stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&first).unwrap();
        assert!(child.wait().unwrap().success());
        for database in ["again", "by_hand"] {
            let other = Repo::new();
            other.back_up(&mut server.source(database)).unwrap();
            let again = other.file(&format!("/mysql/{database}/dump.sql"));
            let (again, first) = (text_of(&again), text_of(&first));
            let differs = again.lines().zip(first.lines()).find(|(again, first)| again != first);
            assert_eq!(differs, None, "{database} is dumped in other words");
            assert_eq!(again.lines().count(), first.lines().count());
        }
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn what_is_written_meanwhile_is_in_it_wholly_or_not_at_all() {
    for flavour in Flavour::all() {
        let server = long(&flavour);
        server.sql("app", "CREATE TABLE z (id INT PRIMARY KEY AUTO_INCREMENT, x INT); INSERT INTO z (x) VALUES (0)");
        let stop = Arc::new(AtomicBool::new(false));
        let (mut client, stopped) = (server.client("app").spawn().unwrap(), Arc::clone(&stop));
        let mut input = client.stdin.take().unwrap();
        let writer = thread::spawn(move || {
            let mut id = 10;
            while !stopped.load(Ordering::Relaxed) {
                id += 1;
                let sql = format!(
                    "BEGIN; INSERT INTO b VALUES ({id}, 1); UPDATE a_long SET filler = REPEAT('{id}', 90) \
                    WHERE id = {id} % 900; INSERT INTO z (x) VALUES ({id}); COMMIT;\n"
                );
                input.write_all(sql.as_bytes()).unwrap();
            }
        });
        for round in 0..3 {
            let repo = Repo::new();
            let report = repo.back_up(&mut server.source("app")).map_err(|error| words(&error)).unwrap().report;
            let database = format!("again{round}");
            server.restore(&repo, &database);
            assert_eq!(observe(&server.settings(&database)).unwrap(), report.expectations);
            let counts = server.sql(&database, "SELECT (SELECT COUNT(*) - 2 FROM b) = (SELECT COUNT(*) - 1 FROM z)");
            assert_eq!(counts.trim(), "1", "half a transaction came back");
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        client.wait().unwrap();
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn a_definition_that_changes_under_the_dump_fails_it() {
    for flavour in Flavour::all() {
        let server = Arc::new(long(&flavour));
        let repo = Repo::new();
        repo.back_up(&mut server.source("app")).unwrap();
        for sql in [
            "ALTER TABLE b ADD COLUMN y INT DEFAULT 7",
            "TRUNCATE TABLE b",
            "DROP TABLE c",
            "RENAME TABLE b TO bb",
            "CREATE TABLE d (x INT)",
            "CREATE VIEW v AS SELECT 1",
            "CREATE INDEX i ON bb (x)",
        ] {
            let (meddler, source) = (Arc::clone(&server), server.source("app"));
            let mut source = Meddled::new(source, move || drop(meddler.sql("app", sql)));
            let told = repo.fail_to_back_up(&mut source);
            assert!(
                ["while the database was dumped", "Table", "exist", "field count"]
                    .iter()
                    .any(|word| told.contains(word)),
                "{told}"
            );
        }
        assert_eq!(repo.snapshots(), 1);
        repo.back_up(&mut server.source("app")).unwrap();
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn a_server_or_a_connection_that_goes_away_makes_no_snapshot() {
    for flavour in Flavour::all() {
        let mut server = long(&flavour);
        let repo = Repo::new();
        repo.back_up(&mut server.source("app")).unwrap();
        let mut other = server.client("app");
        let cut = move || {
            let mut child = other.spawn().unwrap();
            let find =
                "SELECT CONCAT('KILL ', id, ';') FROM information_schema.processlist WHERE id <> CONNECTION_ID()";
            child.stdin.take().unwrap().write_all(find.as_bytes()).unwrap();
            let kill = child.wait_with_output().unwrap().stdout;
            assert!(!kill.is_empty());
            let mut child = other.spawn().unwrap();
            child.stdin.take().unwrap().write_all(&kill).unwrap();
            child.wait().unwrap();
        };
        let told = repo.fail_to_back_up(&mut Meddled::new(server.source("app"), cut));
        assert!(told.contains("dump failed: ") && told.contains("a_long"), "{told}");
        let process = server.process().to_string();
        let stop = move || assert!(Command::new("kill").args(["-9", &process]).status().unwrap().success());
        let told = repo.fail_to_back_up(&mut Meddled::new(server.source("app"), stop));
        assert!(told.contains("dump failed: "), "{told}");
        server.kill();
        assert!(source(&server.settings("app")).unwrap_err().contains("Can't connect"));
        assert_eq!(repo.snapshots(), 1);
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn a_dump_that_stops_early_without_a_word_is_noticed() {
    for flavour in Flavour::all() {
        let server = long(&flavour);
        let folder = tempdir().unwrap();
        let (name, client) = if flavour.is_mariadb { ("mariadb-dump", "mariadb") } else { ("mysqldump", "mysql") };
        let real = flavour.programs();
        std::os::unix::fs::symlink(real.join(client), folder.path().join(client)).unwrap();
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && exec {0} --version\n{0} \"$@\" | head -c 100000\nexit 0\n",
            real.join(name).display()
        );
        let program = folder.path().join(name);
        write_program(&program, &script);
        let settings = MysqlSettings { programs: vec![folder.path().to_owned()], ..server.settings("app") };
        let told = Repo::new().fail_to_back_up(&mut source(&settings).unwrap());
        assert!(told.contains("cut short"), "{told}");
        fs::remove_file(&program).unwrap();
        assert!(source(&settings).unwrap_err().contains("--mysql-bin"));
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn who_may_not_see_everything_backs_up_nothing() {
    for flavour in Flavour::all() {
        let server = app(&flavour);
        server.sql("app", ZOO);
        let secret = "p\"w' \\#;ü";
        let quoted = secret.replace('\\', "\\\\").replace('\'', "''");
        server.sql("mysql", &format!("CREATE USER u@localhost IDENTIFIED BY '{quoted}'"));
        let settings =
            MysqlSettings { user: Some("u".into()), password: Some(Password::new(secret)), ..server.settings("app") };
        assert!(!format!("{settings:?}").contains("p\\\"w"), "it is not shown");
        let grant = |rights: &str| server.sql("mysql", &format!("GRANT {rights} TO u@localhost"));
        assert!(source(&settings).unwrap_err().contains("there is no database"));
        grant("SELECT, SHOW VIEW, TRIGGER ON app.authors");
        assert!(source(&settings).unwrap_err().contains("SELECT, SHOW VIEW, TRIGGER, EVENT is missing"));
        grant("SELECT, SHOW VIEW, EVENT ON app.*");
        assert!(source(&settings).unwrap_err().contains("TRIGGER is missing"));
        grant("TRIGGER ON app.*");
        let repo = Repo::new();
        // What others defined is only half to be seen: either that is told, or the dump fails.
        match repo.back_up(&mut source(&settings).unwrap()) {
            Ok(outcome) => assert!(outcome.report.warnings[0].contains("routines"), "{:?}", outcome.report.warnings),
            Err(error) => assert!(words(&error).contains("insufficent") || words(&error).contains("insufficient")),
        }
        grant(if flavour.is_mariadb { "SELECT ON mysql.proc" } else { "SHOW_ROUTINE ON *.*" });
        let report = repo.back_up(&mut source(&settings).unwrap()).map_err(|error| words(&error)).unwrap().report;
        assert!(report.warnings.iter().any(|warning| warning.contains("binary log")), "{:?}", report.warnings);
        assert!(report.expectations.iter().any(|expected| expected.object == "adds"));
        let wrong = MysqlSettings { password: Some(Password::new("wrong")), ..settings };
        assert!(source(&wrong).unwrap_err().contains("Access denied"));
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn a_password_is_in_no_argument_of_a_program() {
    for flavour in Flavour::all() {
        let server = long(&flavour);
        server.sql("mysql", "CREATE USER u@localhost IDENTIFIED BY 'very-secret'; GRANT ALL ON *.* TO u@localhost");
        let password = Some(Password::new("very-secret"));
        let settings = MysqlSettings { user: Some("u".into()), password, ..server.settings("app") };
        let look = || {
            let mut dumps = 0;
            for process in fs::read_dir("/proc").unwrap() {
                let Ok(line) = fs::read(process.unwrap().path().join("cmdline")) else { continue };
                let line = String::from_utf8_lossy(&line).into_owned();
                assert!(!line.contains("very-secret"), "{line}");
                dumps += usize::from(line.contains("--single-transaction") && line.contains("--defaults-file=/proc/"));
            }
            assert!(dumps > 0, "the dump was running");
        };
        Repo::new().back_up(&mut Meddled::new(source(&settings).unwrap(), look)).unwrap();
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn tables_without_transactions_are_named_and_an_empty_database_is_told() {
    for flavour in Flavour::all() {
        let server = app(&flavour);
        let repo = Repo::new();
        let report = repo.back_up(&mut server.source("app")).unwrap().report;
        assert_eq!(report.warnings, ["the database app has no tables"]);
        server.restore(&repo, "again");
        server.sql(
            "app",
            "CREATE TABLE safe (a INT); CREATE TABLE plain (a INT) ENGINE=MyISAM; INSERT INTO plain VALUES (1)",
        );
        let report = repo.back_up(&mut server.source("app")).unwrap().report;
        assert_eq!(report.warnings, ["tables without transactions are of no single instant: plain (MyISAM)"]);
        assert_eq!(report.consistency, Consistency::Fuzzy);
        assert!(source(&server.settings("nothing")).unwrap_err().contains("there is no database nothing"));
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn a_history_that_no_dump_can_hold_is_told() {
    let flavour = Flavour::all().into_iter().find(|flavour| flavour.is_mariadb).unwrap();
    let server = app(&flavour);
    let sql = "CREATE TABLE by_time (a INT) WITH SYSTEM VERSIONING; INSERT INTO by_time VALUES (1); DELETE FROM by_time;
        CREATE TABLE by_transaction (a INT, s BIGINT UNSIGNED GENERATED ALWAYS AS ROW START, e BIGINT UNSIGNED GENERATED
          ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING; INSERT INTO by_transaction (a) VALUES (1)";
    server.sql("app", sql);
    let repo = Repo::new();
    let report = repo.back_up(&mut server.source("app")).unwrap().report;
    let told = &report.warnings[..];
    assert!(told.len() == 1 && told[0].contains("(by_time, by_transaction)"), "{told:?}");
    assert_eq!(report.expectations.iter().map(|e| e.count.unwrap_or(0)).sum::<u64>(), 1, "the rows that are valid now");
}

#[test]
#[ignore = "needs mariadbd"]
fn a_database_that_is_not_empty_is_only_dropped_when_that_is_meant() {
    for flavour in Flavour::all() {
        let server = app(&flavour);
        server.sql("app", ZOO);
        let repo = Repo::new();
        let report = repo.back_up(&mut server.source("app")).unwrap().report;
        server
            .sql("mysql", "CREATE DATABASE other; CREATE TABLE other.mine (a INT); INSERT INTO other.mine VALUES (1)");
        let restore = |existing| {
            let target = MysqlTarget::connect(&server.settings("other"), existing, None).unwrap();
            repo.restore("/mysql/app", &target).map_err(|error| words(&error))
        };
        assert!(restore(Existing::Refuse).unwrap_err().contains("not empty"));
        assert_eq!(server.sql("other", "SELECT * FROM mine").trim(), "1");
        restore(Existing::Replace).unwrap();
        assert_eq!(observe(&server.settings("other")).unwrap(), report.expectations);
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn a_definition_that_is_another_after_a_restore_is_a_difference() {
    for flavour in Flavour::all() {
        let server = app(&flavour);
        server.sql("app", ZOO);
        if flavour.is_mariadb {
            server.sql("app", "CREATE SEQUENCE numbers START 5");
        }
        let repo = Repo::new();
        let report = repo.back_up(&mut server.source("app")).unwrap().report;
        server.restore(&repo, "again");
        let different = || differences(&report.expectations, &observe(&server.settings("again")).unwrap());
        assert_eq!(different(), Vec::<String>::new());
        for (altered, back, told) in [
            (
                "ALTER TABLE node_a ALTER b SET DEFAULT 7",
                "ALTER TABLE node_a ALTER b DROP DEFAULT",
                "definition node_a",
            ),
            (
                "ALTER TABLE log ADD CHECK (what <> '')",
                "DROP TABLE log; CREATE TABLE log (what TEXT)",
                "definition log",
            ),
            ("CREATE OR REPLACE VIEW on_shelf AS SELECT title AS name FROM shelf", "", "view on_shelf"),
            (
                "DROP FUNCTION twice; CREATE FUNCTION twice(n INT) RETURNS INT DETERMINISTIC RETURN n * 3",
                "",
                "function twice",
            ),
            (
                "DROP TRIGGER logs; CREATE TRIGGER logs AFTER INSERT ON authors FOR EACH ROW SET @x = 1",
                "",
                "trigger logs",
            ),
            (
                "DROP FUNCTION twice; CREATE FUNCTION twice(n BIGINT) RETURNS INT DETERMINISTIC RETURN n * 2",
                "",
                "declaration function twice",
            ),
            ("ALTER PROCEDURE adds SQL SECURITY INVOKER", "", "declaration procedure adds"),
            ("ALTER EVENT tidies ON SCHEDULE EVERY 2 DAY", "", "declaration event tidies"),
            ("ALTER DEFINER = CURRENT_USER SQL SECURITY INVOKER VIEW shelf AS SELECT b.title, a.name FROM books b JOIN authors a ON a.id = b.author", "", "declaration view shelf"),
            ("ALTER SEQUENCE numbers INCREMENT BY 3", "", "declaration sequence numbers"),
        ]
        .into_iter()
        .filter(|(altered, ..)| flavour.is_mariadb || !altered.contains("SEQUENCE"))
        {
            server.sql("again", altered);
            let found = different();
            assert!(found.contains(&format!("{told}: its content is another")), "{altered}: {found:?}");
            server.sql("again", back);
        }
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn a_restore_that_the_server_refuses_says_why() {
    for flavour in Flavour::all() {
        let server = app(&flavour);
        server.sql("app", ZOO);
        let repo = Repo::new();
        repo.back_up(&mut server.source("app")).unwrap();
        server.sql("mysql", "CREATE DATABASE other; CREATE USER u@localhost; GRANT CREATE, INSERT, DROP, SELECT ON other.* TO u@localhost");
        let settings = MysqlSettings { user: Some("u".into()), ..server.settings("other") };
        let target = MysqlTarget::connect(&settings, Existing::Refuse, None).unwrap();
        let told = words(&repo.restore("/mysql/app", &target).unwrap_err());
        assert!(told.contains("ERROR") && told.contains("denied"), "{told}");
    }
}

/// Users with the rights that the manual gives them, and no others.
#[test]
#[ignore = "needs mariadbd"]
fn the_rights_that_the_manual_names_are_enough() {
    let flavour = Flavour::all().swap_remove(0);
    let server = app(&flavour);
    server.sql("app", ZOO);
    server.sql("mysql", "CREATE USER backup@'%'; CREATE USER restore@'%'");
    let manual = include_str!("../../../docs/manual/mysql.md").lines().map(str::trim);
    let grants: Vec<&str> = manual.filter(|line| line.starts_with("GRANT ") && !line.contains("-- MySQL")).collect();
    let [of_backup @ .., of_restore] = &grants[..] else { panic!("the manual names no rights") };
    assert_eq!(of_backup.len(), 3, "{grants:?}");
    of_backup.iter().for_each(|grant| drop(server.sql("mysql", grant)));
    let of = |user: &str, database: &str| MysqlSettings { user: Some(user.into()), ..server.settings(database) };
    let repo = Repo::new();
    let report = repo.back_up(&mut source(&of("backup", "app")).unwrap()).unwrap().report;
    assert_eq!(report.warnings, Vec::<String>::new());
    let everything: Vec<_> = observe(&server.settings("app")).unwrap();
    assert_eq!(report.expectations, everything, "root sees no more");

    server.sql("mysql", of_restore);
    let restore = |existing| {
        let target = MysqlTarget::connect(&of("restore", "app_again"), existing, None).unwrap();
        repo.restore("/mysql/app", &target).map(drop).map_err(|error| words(&error))
    };
    // The servers of these tests write a binary log.
    let told = restore(Existing::Refuse).unwrap_err();
    assert!(told.contains("SET GLOBAL log_bin_trust_function_creators = 1"), "{told}");
    server.sql("mysql", "SET GLOBAL log_bin_trust_function_creators = 1");
    restore(Existing::Replace).unwrap();
    assert_eq!(observe(&of("restore", "app_again")).unwrap(), report.expectations);
}

/// The manual says how many more were tried by hand: 10,000 take a server some minutes.
#[test]
#[ignore = "needs mariadbd"]
fn three_hundred_tables_come_back() {
    for flavour in Flavour::all() {
        let unhurried = ["--innodb-flush-log-at-trx-commit=0", "--innodb-file-per-table=0", "--innodb-doublewrite=0"];
        let server =
            Server::with(&flavour, &[&unhurried[..], &["--innodb-flush-method=nosync", "--sync-binlog=0"]].concat());
        let sql: String =
            (0..300).map(|n| format!("CREATE TABLE t{n} (id INT); INSERT INTO t{n} VALUES ({n});")).collect();
        server.sql("mysql", "CREATE DATABASE app");
        server.sql("app", &sql);
        let repo = Repo::new();
        let report = repo.back_up(&mut server.source("app")).unwrap().report;
        // Rows and a definition of each.
        assert_eq!(report.expectations.len(), 600);
        server.restore(&repo, "again");
        assert_eq!(observe(&server.settings("again")).unwrap(), report.expectations);
    }
}

#[test]
#[ignore = "needs mariadbd"]
fn a_database_of_mysql_keeps_the_contract_of_a_source() {
    for flavour in Flavour::all() {
        let server = app(&flavour);
        server.sql("app", "CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (2)");
        source_suite(|| Box::new(server.source("app")));
    }
}
