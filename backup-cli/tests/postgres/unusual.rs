//! What few databases have, and what once lost rows without a word, told differences where there were none, or let
//! somebody else act as who backs up.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};

use serde_json::{Value, json};

use crate::driver::Ran;
use crate::fails::{assert_failed, write_script};
use crate::server::Server;

/// Backs up as `reader`, and gives what it warns of.
fn warnings(server: &Server, database: &str, user: &str) -> Value {
    let url = server.url(database).replace("postgres@", &format!("{user}@"));
    let ran = Ran::of(&server.backup().args(["--json", "create", &url]).output().unwrap());
    ran.succeeds().lines().pop().unwrap()["warnings"].clone()
}

#[test]
#[ignore = "needs postgres-15"]
fn a_table_that_is_emptied_or_rewritten_as_the_dump_begins_is_not_taken_for_an_empty_one() {
    let server = Server::start(15, &[]);
    let folder = server.world.path().join("bin");
    fs::create_dir(&folder).unwrap();
    let programs = server.programs();
    std::os::unix::fs::symlink(programs.join("pg_dumpall"), folder.join("pg_dumpall")).unwrap();
    server.database("app", "CREATE TABLE t AS SELECT 1 AS n FROM generate_series(1, 9); CREATE TABLE u AS TABLE t");
    for (statement, option, is_whole) in [
        // Behind the view, and before the locks.
        ("TRUNCATE t", &[][..], false),
        ("ALTER TABLE t ADD x float DEFAULT random()", &[], false),
        ("ALTER TABLE t ALTER n TYPE text", &["--jobs", "2"], false),
        // This keeps the rows where the view finds them, and so does what happens to a table that is not dumped.
        ("DELETE FROM u; INSERT INTO t SELECT", &[], true),
        ("TRUNCATE t", &["--exclude-table", "t"], true),
    ] {
        let before = server.snapshots();
        let meanwhile = format!(
            "[ \"$1\" = --version ] && exec {0}/pg_dump $1\n{0}/psql -qX -d app -c '{statement}' >&2 || exit 9\nexec {0}/pg_dump \"$@\"",
            programs.display()
        );
        write_script(&folder.join("pg_dump"), &meanwhile);
        let ran = server.try_create("app", &[&["--pg-bin", folder.to_str().unwrap()], option].concat());
        match is_whole {
            true => assert_eq!((ran.code, server.snapshots()), (0, before + 1), "{statement}: {}", ran.err),
            false => assert_failed(&server, &ran, before, &["public.t was emptied or written anew", "run it again"]),
        }
        server.sql("app", "DROP TABLE t; CREATE TABLE t AS SELECT 1 AS n FROM generate_series(1, 9)");
    }
}

#[test]
#[ignore = "needs postgres-15"]
fn rows_that_move_to_another_partition_by_a_restore_are_no_difference() {
    let server = Server::start(15, &[]);
    // The hash of a label is that of its number, which is another in each database.
    server.database(
        "app",
        "CREATE TYPE colour AS ENUM ('red', 'green', 'blue', 'white', 'black', 'grey');
         CREATE TABLE \"P, (s\" (c colour, n integer) PARTITION BY HASH (c);
         CREATE TABLE p0 PARTITION OF \"P, (s\" FOR VALUES WITH (MODULUS 3, REMAINDER 0);
         CREATE TABLE p1 PARTITION OF \"P, (s\" FOR VALUES WITH (MODULUS 3, REMAINDER 1);
         CREATE TABLE p2 (n integer, c colour);
         ALTER TABLE \"P, (s\" ATTACH PARTITION p2 FOR VALUES WITH (MODULUS 3, REMAINDER 2);
         INSERT INTO \"P, (s\" SELECT (enum_range(NULL::colour))[1 + n % 6], n FROM generate_series(1, 600) AS n;",
    );
    // Other databases have other numbers; in one of these some rows move.
    let placed = "SELECT string_agg(tableoid::regclass || c::text || n, ' ' ORDER BY n) FROM \"P, (s\"";
    let mut moved = 0;
    for (name, options) in [("again", &[][..]), ("by_two", &["--jobs", "2"])] {
        server.create("app", options);
        assert_eq!(server.restore(name, &[])["differences"], json!([]), "{name}");
        moved += u32::from(server.sql(name, placed) != server.sql("app", placed));
    }
    assert!(moved > 0, "no row moved: nothing was tested");
    // They are told of the whole table.
    let manifest = server.world.run(["cat", "latest", "/postgres/app/manifest.json"]).succeeds().out;
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let rows: Vec<_> =
        manifest["expectations"].as_array().unwrap().iter().filter(|e| e["kind"] == "table data").collect();
    assert_eq!((rows.len(), &rows[0]["object"], &rows[0]["count"]), (1, &json!("public.\"P, (s\""), &json!(600)));
}

#[test]
#[ignore = "needs postgres-15"]
fn a_database_that_writes_binary_values_in_another_way_is_compared_in_the_same() {
    let server = Server::start(15, &[]);
    server.database("app", "CREATE TABLE t AS SELECT decode(md5(n::text), 'hex') AS b FROM generate_series(1, 99) n");
    server
        .sql("app", "ALTER DATABASE app SET bytea_output = 'escape'; ALTER ROLE postgres SET bytea_output = 'escape'");
    server.create("app", &["--jobs", "2"]);
    server.create("app", &[]);
    // One that was there, and keeps its own settings; and one without any.
    server.sql("postgres", "ALTER ROLE postgres RESET ALL; CREATE DATABASE waiting");
    assert_eq!(server.restore("waiting", &[])["differences"], json!([]));
    server.assert_drilled();
}

#[test]
#[ignore = "needs postgres-15"]
fn what_lay_in_a_tablespace_comes_back_on_a_server_without_it() {
    let server = Server::start(15, &[]);
    let place = server.folder().join("fast");
    fs::create_dir(&place).unwrap();
    let owner = fs::metadata(server.folder()).unwrap();
    chown(&place, Some(owner.uid()), Some(owner.gid())).unwrap();
    server.sql("postgres", &format!("CREATE TABLESPACE \"fast; one\" LOCATION '{}'", place.display()));
    let tables =
        "CREATE TABLE t TABLESPACE \"fast; one\" AS SELECT 1 AS n; CREATE INDEX i ON t (n) TABLESPACE \"fast; one\"";
    server.database("app", tables);
    server.create("app", &[]);
    let places = "SELECT count(*) FROM pg_class WHERE relname IN ('t', 'i') AND reltablespace <> 0";
    // With it everything lies where it did.
    let restored = server.restore("again", &[]);
    assert_eq!((&restored["warnings"], server.sql("again", places).as_str()), (&json!([]), "2"));
    server.assert_drilled();
    server.sql("postgres", "DROP DATABASE app");
    server.sql("postgres", "DROP DATABASE again");
    server.sql("postgres", "DROP TABLESPACE \"fast; one\"");
    let restored = server.restore("app", &[]);
    let told = "the server does not have the tablespace fast; one: all lies where the database does";
    assert_eq!((&restored["differences"], &restored["warnings"]), (&json!([]), &json!([told])));
    assert_eq!((server.sql("app", places).as_str(), server.sql("app", "SELECT n FROM t").as_str()), ("0", "1"));
    server.load("app", &["--table", "t", "--clean"]);
}

#[test]
#[ignore = "needs postgres-15"]
fn functions_and_operators_of_a_databases_owner_are_not_called_by_who_backs_it_up() {
    let server = Server::start(15, &[]);
    server.sql("postgres", "CREATE ROLE mallory LOGIN");
    server.sql("postgres", "CREATE DATABASE app OWNER mallory");
    // Whatever is called writes down as whom.
    let note = "BEGIN INSERT INTO evil.seen VALUES (current_user);";
    server.sql(
        "app",
        &format!(
            "SET ROLE mallory; CREATE SCHEMA evil; CREATE TABLE evil.seen (who text);
             CREATE FUNCTION evil.pg_database_collation_actual_version(oid) RETURNS text LANGUAGE plpgsql AS
               $$ {note} RETURN '1'; END $$;
             CREATE FUNCTION evil.pg_export_snapshot() RETURNS text LANGUAGE plpgsql AS $$ {note} RETURN 'x'; END $$;
             CREATE FUNCTION evil.same(name, name) RETURNS boolean LANGUAGE plpgsql AS
               $$ {note} RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
             CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.same);
             ALTER DATABASE app SET search_path = evil, pg_catalog;"
        ),
    );
    server.create("app", &[]);
    server.restore("app", &["--clean"]);
    assert_eq!(server.sql("app", "SELECT count(*) FROM evil.seen"), "0");
}

#[test]
#[ignore = "needs postgres-15"]
fn what_only_a_superuser_is_shown_is_told_or_fails() {
    let server = Server::start(15, &[]);
    server.database(
        "app",
        "CREATE ROLE reader LOGIN; GRANT pg_read_all_data TO reader; CREATE TABLE t (n integer);
         CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere;
         GRANT USAGE ON FOREIGN SERVER far TO reader;
         CREATE USER MAPPING FOR postgres SERVER far OPTIONS (password 'hidden');
         CREATE USER MAPPING FOR reader SERVER far OPTIONS (password 'shown');",
    );
    let told = |warnings: &Value| {
        warnings.as_array().unwrap().iter().filter(|w| w.as_str().unwrap().contains("mapping")).count()
    };
    let of_reader = warnings(&server, "app", "reader");
    assert_eq!(told(&of_reader), 1, "{of_reader}");
    assert!(
        of_reader.to_string().contains("1 user mapping of a foreign server is in it without options"),
        "{of_reader}"
    );
    assert_eq!(told(&warnings(&server, "app", "postgres")), 0);
    server.sql("app", "SELECT lo_from_bytea(0, 'x')");
    let url = server.url("app").replace("postgres@", "reader@");
    let ran = Ran::of(&server.backup().args(["create", &url]).output().unwrap());
    assert_failed(&server, &ran, 2, &["permission denied for large object", "GRANT SELECT ON LARGE OBJECT"]);
}

#[test]
#[ignore = "needs postgres-15"]
fn a_standby_is_backed_up_and_what_it_has_no_rows_of_is_told() {
    let server = Server::start(15, &[]);
    server.database("app", "CREATE TABLE t AS SELECT 1 AS n; CREATE UNLOGGED TABLE u AS SELECT 1 AS n");
    let standby = server.standby();
    for options in [&[][..], &["--jobs", "2"]] {
        let summary = standby.create("app", options);
        assert_eq!(summary["warnings"], json!(["1 unlogged table is in it without rows: a standby has none of them"]));
        assert!(summary["recovery_point"]["position"].is_string(), "{summary}");
    }
    let mut restore = server.backup();
    restore.env("BACKUP_REPO", standby.world.repository());
    let restored =
        restore.args(["--json", "restore", "latest", "--verify", "--to", &server.url("again")]).output().unwrap();
    assert_eq!(Ran::of(&restored).succeeds().lines().pop().unwrap()["differences"], json!([]));
    assert_eq!(server.sql("again", "SELECT count(*) FROM t"), "1");
}
