//! What was backed up comes back, exactly.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::driver::{PASSPHRASE, Ran};
use crate::server::Server;

pub(crate) const ZOO: &str = include_str!("zoo.sql");

/// Backs up the zoo, restores it into a new database, and compares both in every way there is.
fn the_zoo_comes_back(major: u32) {
    let server = Server::start(major, &["wal_level=logical"]);
    server.database("zoo", ZOO);
    // Those that the servers of the tests have besides the language.
    let with_extension = match major {
        15 => {
            "CREATE EXTENSION citext; CREATE EXTENSION hstore WITH SCHEMA \"Odd Schema; \"\"quoted\"\"\";
               CREATE TABLE extended (a citext PRIMARY KEY, b \"Odd Schema; \"\"quoted\"\"\".hstore);
               INSERT INTO extended VALUES ('Ab', '\"x y\"=>NULL, z=>1');"
        }
        _ => {
            "CREATE EXTENSION vector; CREATE TABLE extended (a vector(3), b text DEFAULT 'x');
              INSERT INTO extended VALUES ('[1,2.5,-3]'), (NULL);
              CREATE INDEX ON extended USING hnsw (a vector_l2_ops);"
        }
    };
    server.sql("zoo", with_extension);
    let summary = server.create("zoo", &[]);
    assert_eq!(summary["paths"], json!(["/postgres/zoo"]));
    assert_eq!(summary["consistency"], "transactional");
    assert!(summary["recovery_point"]["time"].is_string() && summary["recovery_point"]["position"].is_string());
    assert_eq!(summary["warnings"], json!(["1 foreign table is in it without its rows, which are elsewhere"]));

    let restored = server.restore("\"again\"", &[]);
    assert_eq!((&restored["differences"], &restored["notes"]), (&json!([]), &json!([])));
    assert!(restored["verified"].as_u64().unwrap() > 80, "{restored}");
    assert_eq!(server.schema("zoo"), server.schema("\"again\""));
    for query in [
        "SELECT md5(string_agg(e::text, '' ORDER BY id)), count(*) FROM everything e",
        "SELECT count(*), sum(value) FROM measured",
        "SELECT string_agg(row(a, b, c, d)::text, '' ORDER BY a) FROM ONLY heir",
        "SELECT count(*) FROM no_columns",
        "SELECT last_value, is_called FROM counter",
        "SELECT loid, md5(string_agg(data, '' ORDER BY pageno)) FROM pg_largeobject GROUP BY 1 ORDER BY 1",
        "SELECT * FROM totals ORDER BY 1",
        "SELECT * FROM extended ORDER BY a",
    ] {
        assert_eq!(server.sql("zoo", query), server.sql("\"again\"", query), "{query}");
    }

    // Unchanged rows are the same bytes: only what tells of the run is new.
    let again = server.create("zoo", &[]);
    assert!(again["bytes_new"].as_u64().unwrap() < summary["bytes_new"].as_u64().unwrap() / 5, "{again}");
}

#[test]
#[ignore = "needs postgres-15"]
fn the_zoo_comes_back_in_version_15() {
    the_zoo_comes_back(15);
}

#[test]
#[ignore = "needs postgres-16"]
fn the_zoo_comes_back_in_version_16() {
    the_zoo_comes_back(16);
}

#[test]
#[ignore = "needs postgres-18"]
fn the_zoo_comes_back_in_version_18() {
    the_zoo_comes_back(18);
}

#[test]
#[ignore = "needs postgres-15"]
fn a_database_under_writes_comes_back_as_it_was_at_one_instant() {
    let server = Server::start(15, &[]);
    server.database(
        "busy",
        "CREATE TABLE account (id integer PRIMARY KEY, amount bigint);
         INSERT INTO account SELECT n, 1000 FROM generate_series(1, 2000) n;
         CREATE TABLE transfer (id bigserial PRIMARY KEY, amount bigint, text text);",
    );
    // Money moves from one to another, and each move is written down, in one transaction.
    let mut writer = server
        .command("psql")
        .args(["-qX", "busy", "-c"])
        .arg(
            "DO $$ BEGIN FOR n IN 1..1000000 LOOP
               UPDATE account SET amount = amount - 1 WHERE id = 1 + n % 2000;
               INSERT INTO transfer (amount, text) VALUES (1, repeat('x', 200));
               UPDATE account SET amount = amount + 1 WHERE id = 1 + (n * 7) % 2000;
               COMMIT; END LOOP; END $$",
        )
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let count = |database| server.sql(database, "SELECT count(*) FROM transfer").parse::<u64>().unwrap();
    while count("busy") < 2_000 {}
    let before = count("busy");
    server.create("busy", &[]);
    let after = count("busy");
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert!(after > before, "nothing was written meanwhile");

    let restored = server.restore("calm", &[]);
    assert_eq!(restored["differences"], json!([]));
    assert!((before..=after).contains(&count("calm")));
    assert_eq!(server.sql("calm", "SELECT sum(amount) FROM account"), "2000000");
}

#[test]
#[ignore = "needs postgres-15, restic"]
fn restic_and_pg_restore_bring_it_back_without_us() {
    let server = Server::start(15, &["wal_level=logical"]);
    server.database("zoo", ZOO);
    server.create("zoo", &[]);
    let restic = std::env::var_os("BACKUP_TEST_RESTIC").expect("BACKUP_TEST_RESTIC names no program");
    let to = server.world.path().join("restored");
    let mut command = Command::new(restic);
    command.env("RESTIC_REPOSITORY", server.world.repository()).env("RESTIC_PASSWORD", PASSPHRASE);
    command.args(["--no-cache", "restore", "latest", "--target"]).arg(&to);
    assert!(command.output().unwrap().status.success());
    server.sql("postgres", "CREATE DATABASE plain");
    let dump = to.join("postgres/zoo/dump");
    let loaded =
        server.command("pg_restore").args(["--exit-on-error", "--dbname", "plain"]).arg(&dump).output().unwrap();
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    assert_eq!(server.schema("zoo"), server.schema("plain"));
    let globals = fs::read_to_string(to.join("postgres/zoo/globals.sql")).unwrap();
    assert!(globals.contains("CREATE ROLE zoo_owner;"), "{globals}");
}

#[test]
#[ignore = "needs postgres-15"]
fn an_empty_database_is_backed_up_with_a_warning() {
    let server = Server::start(15, &[]);
    server.database("nothing", "");
    assert_eq!(server.create("nothing", &[])["warnings"], json!(["there is no table in it"]));
    assert_eq!(server.restore("nothing_again", &[])["differences"], json!([]));
}

#[test]
#[ignore = "needs postgres-15"]
fn a_database_that_is_empty_now_and_was_not_is_suspicious() {
    let server = Server::start(15, &[]);
    server.database("app", "CREATE TABLE t AS SELECT 1 AS n FROM generate_series(1, 7)");
    assert_eq!(server.create("app", &[])["suspicion"], json!(null));
    for emptied in ["DELETE FROM t", "INSERT INTO t SELECT 1 FROM generate_series(1, 7)", "DROP TABLE t"] {
        server.sql("app", emptied);
        let ran = server.backup().args(["--json", "create", &server.url("app")]).output().unwrap();
        let (told, ran) = (String::from_utf8_lossy(&ran.stderr).into_owned(), Ran::of(&ran));
        let summary = ran.succeeds().lines().pop().unwrap();
        let is_suspicious = !emptied.starts_with("INSERT");
        let expected = if is_suspicious { json!("0 rows, where it usually is 7") } else { json!(null) };
        assert_eq!(summary["suspicion"], expected, "{emptied}");
        assert_eq!(told.contains("looks wrong"), is_suspicious, "{told}");
    }
    // Once more it is no news.
    assert_eq!(server.create("app", &[])["suspicion"], json!(null));
}

/// Settings, a comment, grants, and who may not connect: what is of the database and not in it.
const OWN: &str = "CREATE TABLE t (n integer); CREATE ROLE r LOGIN; CREATE ROLE keeper SUPERUSER;
    ALTER DATABASE \"Own; \"\"one\" SET work_mem = '7MB';
    ALTER DATABASE \"Own; \"\"one\" SET \"my.x\" = 'ON DATABASE \"Own; \"\"one\"';
    ALTER ROLE r IN DATABASE \"Own; \"\"one\" SET search_path = 'a b', public;
    ALTER DATABASE \"Own; \"\"one\" CONNECTION LIMIT 9; COMMENT ON DATABASE \"Own; \"\"one\" IS 'it''s';
    REVOKE CONNECT ON DATABASE \"Own; \"\"one\" FROM PUBLIC; GRANT CREATE ON DATABASE \"Own; \"\"one\" TO r;
    ALTER DATABASE \"Own; \"\"one\" OWNER TO keeper;";

/// The same of any database, without its name.
fn own(server: &Server, database: &str) -> String {
    let sql = format!(
        "SELECT datconnlimit, shobj_description(oid, 'pg_database'), datdba::regrole, (SELECT array_agg(a::text ORDER BY a::text) FROM
           unnest(datacl) a), (SELECT
           string_agg(setrole::regrole || ' ' || setconfig::text, ';' ORDER BY setrole) FROM pg_db_role_setting s
           WHERE s.setdatabase = d.oid) FROM pg_database d WHERE datname = '{database}'"
    );
    server.sql("postgres", &sql)
}

#[test]
#[ignore = "needs postgres-15"]
fn what_belongs_to_the_database_itself_comes_back_under_whatever_name() {
    let server = Server::start(15, &[]);
    let url = |name: &str| server.url(&name.replace(';', "%3B").replace(' ', "%20").replace('"', "%22"));
    server.sql("postgres", "CREATE DATABASE \"Own; \"\"one\"");
    server.sql("Own; \"one", OWN);
    let before = own(&server, "Own; \"one");
    assert!(
        before.contains("7MB") && before.contains("r=C/keeper") && before.starts_with("9|it's|keeper|"),
        "{before}"
    );
    server.world.run(["create", &url("Own; \"one"), "--pg-bin", server.programs().to_str().unwrap()]).succeeds();
    // Into the one that is replaced, and into one of another name.
    for (name, options) in [("Own; \"one", &["--clean"][..]), ("another", &[])] {
        let mut command = server.backup();
        command.args(["--json", "restore", "latest", "--verify", "--to", &url(name)]).args(options);
        let restored = Ran::of(&command.output().unwrap()).succeeds().lines().pop().unwrap();
        assert_eq!((&restored["notes"], &restored["warnings"]), (&json!([]), &json!([])), "{name}");
        assert_eq!(own(&server, name), before, "{name}");
    }
    // Without roles: nobody may connect who could not before.
    server.load("without", &["--no-roles"]);
    let (without, public) = (own(&server, "without"), "has_database_privilege('r', 'without', 'CONNECT')");
    assert!(
        without.starts_with("9|it's|postgres|") && without.contains("7MB") && !without.contains("a b"),
        "{without}"
    );
    assert_eq!(server.sql("postgres", &format!("SELECT {public}")), "f");
    // One that was there keeps its own, and that is no loss.
    server.sql("postgres", "CREATE DATABASE waiting; COMMENT ON DATABASE waiting IS 'mine'");
    let restored = server.restore("waiting", &[]);
    assert_eq!(restored["differences"], json!([]));
    assert!(restored["notes"].as_array().unwrap().iter().all(|note| note.as_str().unwrap().contains("itself")));
    assert_eq!(restored["notes"].as_array().unwrap().len(), 3, "{restored}");
    assert!(own(&server, "waiting").starts_with("-1|mine|postgres|"));
}

#[test]
#[ignore = "needs postgres-15"]
fn ten_thousand_tables_come_back() {
    let server = Server::start(15, &["max_locks_per_transaction=1024", "autovacuum=off"]);
    server.database(
        "many",
        "DO $$ BEGIN FOR n IN 1..10000 LOOP
           EXECUTE format('CREATE TABLE t%s AS SELECT %s AS n', n, n);
         END LOOP; END $$",
    );
    server.create("many", &[]);
    let restored = server.restore("many_again", &[]);
    assert_eq!(restored["differences"], json!([]));
    assert_eq!(restored["verified"], 20_000);
    let manifest = || server.world.run(["cat", "latest", "/postgres/many/manifest.json"]).succeeds().out;
    let expectations = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["expectations"].clone();
    let streamed = expectations(&manifest());
    server.create("many", &["--jobs", "2"]);
    assert_eq!(expectations(&manifest()), streamed, "by several connections it is the same");
}

#[test]
#[ignore = "needs postgres-15"]
fn bytes_that_are_no_text_come_back_from_a_database_without_an_encoding() {
    let server = Server::start(15, &[]);
    server.sql("postgres", "CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'");
    server.sql("ascii", "CREATE TABLE t (v text); INSERT INTO t VALUES (E'\\xff\\xfe'), (E'caf\\xe9'), ('plain');");
    server.create("ascii", &[]);
    let restored = server.restore("ascii_again", &[]);
    assert_eq!((&restored["differences"], &restored["warnings"]), (&json!([]), &json!([])));
    let query = "SELECT string_agg(encode(v::bytea, 'hex'), ',' ORDER BY v) FROM t";
    assert_eq!(server.sql("ascii", query), server.sql("ascii_again", query));
    assert_eq!(server.sql("ascii_again", "SHOW server_encoding"), "SQL_ASCII");
}

#[test]
#[ignore = "needs postgres-15"]
fn every_database_of_a_server_becomes_a_snapshot() {
    let server = Server::start(15, &[]);
    server.database("a", "CREATE TABLE t (n integer)");
    server.database("b/..%", "CREATE TABLE t (n integer)");
    server.backup().args(["create", "--quiet", &server.url("")]).status().unwrap();
    let snapshots = server.world.json(["snapshots"]);
    let mut paths: Vec<_> = snapshots["snapshots"].as_array().unwrap().iter().map(|s| s["paths"][0].clone()).collect();
    paths.sort_by_key(ToString::to_string);
    assert_eq!(paths, ["/postgres/a", "/postgres/b%2F..%25", "/postgres/postgres"]);
}

#[test]
#[ignore = "needs postgres-15"]
fn a_part_of_a_database_is_that_part() {
    let server = Server::start(15, &[]);
    server.database(
        "parts",
        "CREATE SCHEMA inner_one; CREATE TABLE inner_one.a (n integer); CREATE TABLE public.b (n integer);
         CREATE TABLE public.log (n integer); INSERT INTO b VALUES (1); INSERT INTO log VALUES (1), (2);",
    );
    let tables = |database| {
        server.sql(database, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace >= 2200 AND relname !~ '^(pg|sql)_' ORDER BY 1")
    };
    server.create("parts", &["--exclude-schema", "inner_*", "--exclude-table-data", "public.log"]);
    server.restore("outer_ones", &[]);
    assert_eq!(tables("outer_ones"), "b\nlog");
    assert_eq!(server.sql("outer_ones", "SELECT count(*) FROM log"), "0");
    server.create("parts", &["--table", "inner_one.a", "--table", "public.b"]);
    server.sql("postgres", "CREATE DATABASE two");
    server.sql("two", "CREATE SCHEMA inner_one");
    server.load("two", &["--table", "a", "--table", "b"]);
    let refused =
        server.backup().args(["restore", "latest", "--verify", "--table", "a", "--to", &server.url("x")]).output();
    assert_eq!(refused.unwrap().status.code(), Some(2));
    assert_eq!(tables("two"), "a\nb");
    let manifest = server.world.run(["cat", "latest", "/postgres/parts/manifest.json"]).succeeds().out;
    assert!(manifest.contains("table=inner_one.a"), "{manifest}");
}
