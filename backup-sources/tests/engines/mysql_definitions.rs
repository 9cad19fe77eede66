//! MariaDB, and MySQL where there is one: the zoo of definitions comes back, and one that is another is a difference.

use std::io::Write as _;
use std::process::{Command, Stdio};

use backup_core::contracts::Consistency;
use backup_sources::databases::differences;
use backup_sources::databases::mysql::{Existing, MysqlTarget, observe, observe_as};

use crate::mysql::app;
use crate::mysql_server::{Flavour, Server};
use crate::repository::{Repo, words};

pub(crate) const ZOO: &str = r#"
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
        assert_eq!(report.warnings, Vec::<String>::new());
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
        assert_eq!(observe_as(&server.settings("again"), "app").unwrap(), report.expectations);
        if flavour.is_mariadb {
            let history = "SELECT *, row_start, row_end FROM versioned FOR SYSTEM_TIME ALL ORDER BY id, row_start";
            assert_eq!(server.sql("again", history).lines().count(), 3);
            assert_eq!(server.sql("again", history), server.sql("app", history));
            // A database of an odd name, whose dump and restore are like any other's.
            let odd = "odd `db`; ü %41";
            let target = MysqlTarget::connect(&server.settings(odd), Existing::Refuse, Some(&manifest)).unwrap();
            repo.restore("/mysql/app", &target).map_err(|error| words(&error)).unwrap();
            let other = Repo::new();
            let expectations = report.expectations.clone();
            let report = other.back_up(&mut server.source(odd)).map_err(|error| words(&error)).unwrap().report;
            assert_eq!(other.manifest("/mysql/odd `db`; ü %2541").report, report);
            assert_eq!(observe_as(&server.settings(odd), "app").unwrap(), expectations);
            server.sql("mysql", "DROP DATABASE again");
            let target = MysqlTarget::connect(&server.settings("again"), Existing::Refuse, Some(&manifest)).unwrap();
            repo.restore("/mysql/app", &target).map_err(|error| words(&error)).unwrap();
        }
        let first = repo.file("/mysql/app/dump.sql");
        if flavour.is_mariadb {
            let elsewhere = Server::new(&flavour);
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
            // A sequence is named with its database, which a client alone does not change.
            let again = String::from_utf8_lossy(&again).replace("nextval(`again`.", "nextval(`app`.");
            let (again, first) = (text_of(again.as_bytes()), text_of(&first));
            let differs = again.lines().zip(first.lines()).find(|(again, first)| again != first);
            assert_eq!(differs, None, "{database} is dumped in other words");
            assert_eq!(again.lines().count(), first.lines().count());
        }
    }
}

/// A database whose sequence numbers the rows of a table, and whose definitions say the same words for other reasons.
const NUMBERED: &str = r#"
CREATE SEQUENCE numbers; CREATE SEQUENCE other.numbers START 500;
CREATE TABLE t (id INT PRIMARY KEY DEFAULT NEXTVAL(numbers) COMMENT 'nextval(`app`.`numbers`) it''s \ "', of_other INT DEFAULT
  NEXTVAL(other.numbers), last INT DEFAULT LASTVAL(numbers), text VARCHAR(90) DEFAULT 'nextval(`app`.`numbers`)',
  `e nextval(``app``.``numbers``)` VARCHAR(200) DEFAULT (CONCAT('a
) nextval(`app`.`numbers`)', "nextval(`app`.`numbers`)")), CHECK (text <> 'x
) ;
nextval(`app`.`numbers`)')) COMMENT='nextval(`app`.`numbers`)';
CREATE VIEW draws AS SELECT NEXTVAL(numbers) AS n;
DELIMITER ;;
CREATE PROCEDURE says() BEGIN
CREATE TABLE `x` (id INT DEFAULT nextval(`app`.`numbers`));
END;;
DELIMITER ;
INSERT INTO t (last) VALUES (DEFAULT);
"#;

#[test]
#[ignore = "needs mariadbd"]
fn a_sequence_that_numbers_rows_comes_back_under_another_name_and_the_same_words_elsewhere_stay() {
    let flavour = Flavour::all().into_iter().find(|flavour| flavour.is_mariadb).unwrap();
    let (server, elsewhere, repo) = (app(&flavour), Server::new(&flavour), Repo::new());
    server.sql("mysql", "CREATE DATABASE other");
    server.sql("app", NUMBERED);
    let report = repo.back_up(&mut server.source("app")).unwrap().report;
    assert_eq!(report.warnings, Vec::<String>::new());
    // What is another database's stays its own, and is told where it is missing.
    let target = |server: &Server, name: &str| {
        MysqlTarget::connect(&server.settings(name), Existing::Replace, Some(&repo.manifest("/mysql/app"))).unwrap()
    };
    let told = words(&repo.restore("/mysql/app", &target(&elsewhere, "again")).unwrap_err());
    assert!(told.contains("other.numbers") && told.contains("restore that one first"), "{told}");
    elsewhere.sql("mysql", "CREATE DATABASE other; CREATE SEQUENCE other.numbers");
    for name in ["again", "odd `db`; ü %41"] {
        repo.restore("/mysql/app", &target(&elsewhere, name)).map_err(|error| words(&error)).unwrap();
        assert_eq!(observe_as(&elsewhere.settings(name), "app").unwrap(), report.expectations);
        elsewhere.sql(name, "INSERT INTO t (last) VALUES (DEFAULT); SELECT n FROM draws");
        assert_eq!(elsewhere.sql(name, "SELECT COUNT(DISTINCT id) FROM t").trim(), "2");
        let kept = |database: &str, server: &Server| {
            let about = format!(
                "SELECT column_comment, column_name, IF(column_name IN ('id', 'last'), '', column_default) FROM                  information_schema.columns WHERE table_name = 't' AND table_schema = '{database}' ORDER BY 2; SELECT                  check_clause FROM information_schema.check_constraints WHERE constraint_schema = '{database}'; SELECT                  routine_definition FROM information_schema.routines WHERE routine_schema = '{database}'; SELECT                  table_comment FROM information_schema.tables WHERE table_name = 't' AND table_schema = '{database}';                  SELECT `e nextval(``app``.``numbers``)` FROM t LIMIT 1"
            );
            server.sql(database, &about)
        };
        assert_eq!(kept(name, &elsewhere), kept("app", &server));
    }
    // Beside the one that was backed up it draws nothing from there, and does without it.
    repo.restore("/mysql/app", &target(&server, "beside")).map_err(|error| words(&error)).unwrap();
    let drawn = || server.sql("app", "SELECT next_not_cached_value, NEXTVAL(numbers) FROM numbers");
    let before: Vec<u64> = drawn().split_whitespace().map(|number| number.parse().unwrap()).collect();
    server.sql("beside", "INSERT INTO t (last) VALUES (DEFAULT); SELECT n FROM draws");
    let after: Vec<u64> = drawn().split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert_eq!(after, [before[0], before[1] + 1]);
    server.sql("mysql", "DROP DATABASE app");
    server.sql("beside", "INSERT INTO t (of_other) VALUES (1)");
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
