//! One table or one schema out of a dump: it comes back with all that is its own, or not at all.

use std::fs;

use serde_json::{Value, json};

use crate::comes_back::ZOO;
use crate::driver::Ran;
use crate::server::Server;

/// A table with everything that a table can have, one that it refers to, and one that refers to it.
const APP: &str = "
CREATE ROLE reader; CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE other (id integer PRIMARY KEY); INSERT INTO other VALUES (1), (2);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v := coalesce(NEW.v, ''noted''); RETURN NEW; END';
CREATE SEQUENCE shared START 500;
CREATE TABLE t (id serial PRIMARY KEY, always integer GENERATED ALWAYS AS IDENTITY, v text UNIQUE DEFAULT 'x',
  m mood CHECK (m <> 'sad'), counted bigint DEFAULT nextval('shared'), o integer REFERENCES other);
CREATE INDEX t_v ON t (lower(v)) WHERE id > 3;
CREATE STATISTICS t_s ON id, v FROM t;
CREATE TRIGGER notes BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION note();
CREATE RULE quiet AS ON DELETE TO t WHERE old.id = 1 DO INSTEAD NOTHING;
ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON t FOR SELECT TO reader USING (id < 5);
GRANT SELECT ON t TO reader; GRANT USAGE ON SEQUENCE t_id_seq TO reader;
COMMENT ON TABLE t IS 'a table'; COMMENT ON COLUMN t.v IS 'a column'; COMMENT ON INDEX t_v IS 'an index';
COMMENT ON CONSTRAINT t_o_fkey ON t IS 'a key';
INSERT INTO t (v, m, o) SELECT n::text, 'ok', 1 FROM generate_series(1, 100) n;
CREATE TABLE \"t u\" (id integer PRIMARY KEY, o integer REFERENCES other);
CREATE VIEW v AS SELECT id FROM other;
CREATE SCHEMA inner_one; CREATE TABLE inner_one.t (id integer PRIMARY KEY, m mood);
CREATE VIEW inner_one.v AS SELECT id FROM inner_one.t; GRANT USAGE ON SCHEMA inner_one TO reader;
INSERT INTO inner_one.t VALUES (7, 'sad');
";

fn restore(server: &Server, database: &str, options: &[&str]) -> Ran {
    let mut command = server.backup();
    command.args(["--json", "restore", "latest", "--to", &server.url(database)]).args(options);
    Ran::of(&command.output().unwrap())
}

#[track_caller]
fn restored(server: &Server, database: &str, options: &[&str]) -> Value {
    restore(server, database, options).succeeds().lines().pop().unwrap()
}

/// How pg_dump writes a table and the sequence of its key: everything that is its own.
fn table(server: &Server, database: &str, names: &[&str]) -> String {
    let mut command = server.command("pg_dump");
    command.args(["--schema-only", database]).args(names.iter().map(|name| format!("--table={name}")));
    let dumped = command.output().unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    let text = String::from_utf8(dumped.stdout).unwrap();
    text.lines().filter(|line| !line.starts_with('\\')).collect::<Vec<_>>().join("\n")
}

#[test]
#[ignore = "needs postgres-15"]
fn one_table_comes_back_with_its_keys_indexes_triggers_defaults_and_grants() {
    let server = Server::start(15, &[]);
    server.database("app", APP);
    let before = table(&server, "app", &["public.t"]);
    assert!(
        ["PRIMARY KEY", "FOREIGN KEY", "TRIGGER", "POLICY", "nextval", "GRANT", "COMMENT ON CONSTRAINT"]
            .iter()
            .all(|word| before.contains(word))
    );
    for jobs in [&[][..], &["--jobs", "2"]] {
        server.create("app", jobs);
        for undo in ["DROP TABLE t", "DELETE FROM t; DROP INDEX t_v; ALTER TABLE t ADD COLUMN more text"] {
            server.sql("app", undo);
            let options: &[&str] = if undo.starts_with("DROP") { &[] } else { &["--clean"] };
            let told = restored(&server, "app", &[&["--table", "public.t"], options].concat());
            assert_eq!(told["warnings"], json!([]), "{undo}");
            assert_eq!(table(&server, "app", &["public.t"]), before, "{undo}");
            assert_eq!(server.sql("app", "SELECT count(*), max(id) FROM t"), "100|100");
        }
    }
    // Numbers go on where they were, and the trigger works.
    let inserted = "INSERT INTO t (v, m) VALUES (NULL, 'ok') RETURNING id, always, v, counted > 500";
    assert_eq!(server.sql("app", inserted), "101|101|noted|t");
    assert_eq!(server.sql("app", "SELECT count(*) FROM \"t u\""), "0");
}

#[test]
#[ignore = "needs postgres-15"]
fn what_a_part_needs_comes_along_and_what_cannot_is_told() {
    let server = Server::start(15, &[]);
    server.database("app", APP);
    server.create("app", &[]);
    let told = restored(&server, "fresh", &["--schema", "public", "--table", "t"]);
    let warnings = told["warnings"].as_array().unwrap();
    assert!(warnings.len() == 1 && warnings[0].as_str().unwrap().contains("t_o_fkey"), "{told}");
    assert_eq!(server.sql("fresh", "SELECT count(*) FROM t"), "100");
    let names = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'S')";
    assert_eq!(server.sql("fresh", names), "shared t t_always_seq t_id_seq");

    // A schema is made, with its grants.
    restored(&server, "schema_only", &["--schema", "inner_one"]);
    assert_eq!(server.sql("schema_only", "SELECT id, m FROM inner_one.t JOIN inner_one.v USING (id)"), "7|sad");
    assert_eq!(server.sql("schema_only", "SELECT has_schema_privilege('reader', 'inner_one', 'USAGE')"), "t");
    assert_eq!(server.sql("schema_only", "SELECT to_regclass('t') IS NULL"), "t");
    let both = ["inner_one.t", "inner_one.v"];
    assert_eq!(table(&server, "schema_only", &both), table(&server, "app", &both));
    // Where it is there, it is filled again.
    server.sql("app", "DROP VIEW inner_one.v; DELETE FROM inner_one.t");
    restored(&server, "app", &["--schema", "inner_one", "--clean"]);
    assert_eq!(server.sql("app", "SELECT id FROM inner_one.v"), "7");
}

#[test]
#[ignore = "needs postgres-15"]
fn a_part_that_is_refused_changes_nothing() {
    let server = Server::start(15, &[]);
    server.database("app", APP);
    server.create("app", &[]);
    server.sql("app", "CREATE VIEW depends AS SELECT id FROM t; DELETE FROM t WHERE id > 10");
    let before = server.schema("app");
    let ran = restore(&server, "app", &["--table", "t", "--clean"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("nothing was changed"), "{}", ran.err);
    assert_eq!(server.schema("app"), before);
    assert_eq!(server.sql("app", "SELECT count(*) FROM t"), "10");
    for (options, told) in
        [(&["--table", "nothing"][..], "no table nothing"), (&["--schema", "nowhere"], "no schema nowhere")]
    {
        let ran = restore(&server, "app", options);
        assert!(ran.code == 1 && ran.err.contains(told), "{}", ran.err);
    }
    let ran = restore(&server, "app", &["--table", "t", "--jobs", "4"]);
    assert!(ran.code == 2 && ran.err.contains("--jobs is for a whole database"), "{}", ran.err);
    let left = fs::read_dir(server.world.path()).unwrap();
    let left = left.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("backup-restore"));
    assert_eq!(left.count(), 0);
}

/// Tables of the zoo, each alone into a database of its own: the same definitions as in the whole.
fn each_table_of_the_zoo_comes_back(major: u32) {
    let server = Server::start(major, &["wal_level=logical"]);
    server.database("zoo", ZOO);
    server.create("zoo", &[]);
    let odd = "Odd Schema; \"quoted\"";
    let order = "\"Odd Schema; \"\"quoted\"\"\".\"Order \"\" by; --\"";
    for (place, (options, names)) in [
        (&["--table", "everything"][..], &["everything"][..]),
        (&["--table", "measured"], &["measured", "measured_*"]),
        (&["--table", "left_side", "--table", "right_side"], &["left_side", "right_side"]),
        (&["--schema", odd], &[order]),
        (&["--table", "collated"], &["collated"]),
        (&["--table", "counter"], &["counter"]),
    ]
    .into_iter()
    .enumerate()
    {
        let database = format!("part_{place}");
        restored(&server, &database, options);
        // Publications are the whole database's.
        let own = |database: &str| {
            let text = table(&server, database, names);
            text.lines().filter(|line| !line.contains("PUBLICATION")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(own(&database).trim(), own("zoo").trim(), "{options:?}");
    }
    assert_eq!(server.sql("part_1", "SELECT count(*) FROM measured"), "900");
    assert_eq!(server.sql("part_0", "SELECT count(*) FROM everything"), "1003");
    // A partition goes back into its table.
    server.sql("zoo", "DROP TABLE measured_2023");
    restored(&server, "zoo", &["--table", "measured_2023"]);
    assert_eq!(server.sql("zoo", "SELECT count(*) FROM measured"), "900");
}

#[test]
#[ignore = "needs postgres-15"]
fn each_table_of_the_zoo_comes_back_in_version_15() {
    each_table_of_the_zoo_comes_back(15);
}

#[test]
#[ignore = "needs postgres-18"]
fn each_table_of_the_zoo_comes_back_in_version_18() {
    each_table_of_the_zoo_comes_back(18);
}

/// A database in an encoding of its own. Names are typed in UTF-8, and pg_dump looks for those of the database.
#[test]
#[ignore = "needs postgres-15"]
fn a_table_with_letters_of_another_encoding_is_found_by_its_name() {
    let server = Server::start(15, &[]);
    let made = "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'";
    server.sql("postgres", &format!("CREATE DATABASE app {made}"));
    let typed = "SET client_encoding = 'UTF8';";
    server.sql(
        "app",
        &format!(
            "{typed} CREATE SCHEMA \"Übung\"; CREATE TABLE \"größe\" (n integer PRIMARY KEY);
             CREATE TYPE \"Übung\".art AS ENUM ('é'); CREATE TABLE \"Übung\".t (n integer REFERENCES \"größe\", a \"Übung\".art);
             INSERT INTO \"größe\" VALUES (7); INSERT INTO \"Übung\".t VALUES (7, 'é'); CREATE TABLE other (n integer)"
        ),
    );
    let tables = "SELECT string_agg(c.oid::regclass::text, ' ' ORDER BY relname) FROM pg_class c WHERE relkind = 'r'
        AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)";
    let tables = |database: &str| server.sql(database, &format!("{typed} {tables}"));
    // Chosen by a backup.
    for options in [&["--table", "größe", "--schema", "\"Übung\""][..], &["--exclude-table", "o*", "--jobs", "2"]] {
        server.create("app", options);
        server.load("chosen", &["--clean"]);
        let found = tables("chosen");
        assert!(found.contains("\"größe\"") && !found.contains("other"), "{options:?}: {found}");
    }
    let before = server.snapshots();
    let ran = server.try_create("app", &["--table", "Łódź"]);
    assert!(ran.code == 1 && ran.err.contains("LATIN1"), "{}: {}", ran.code, ran.err);
    assert_eq!(server.snapshots(), before);
    // Chosen by a restore, into databases of any encoding; what is there already is seen to be.
    server.create("app", &[]);
    for encoding in [made.to_owned(), made.replace("LATIN1", "UTF8"), made.replace("LATIN1", "SQL_ASCII")] {
        server.sql("postgres", "DROP DATABASE IF EXISTS beside");
        server.sql("postgres", &format!("CREATE DATABASE beside {encoding}"));
        restored(&server, "beside", &["--table", "größe"]);
        let told = restored(&server, "beside", &["--table", "Übung.t"]);
        assert_eq!(told["warnings"], json!([]), "{encoding}");
        restored(&server, "beside", &["--schema", "Übung", "--clean"]);
        assert!(restore(&server, "beside", &["--table", "großes"]).err.contains("no table großes"));
        if !encoding.contains("SQL_ASCII") {
            assert_eq!(tables("beside"), "\"größe\" \"Übung\".t", "{encoding}");
            assert_eq!(server.sql("beside", &format!("{typed} SELECT n, a FROM \"Übung\".t")), "7|é");
        }
    }
}
