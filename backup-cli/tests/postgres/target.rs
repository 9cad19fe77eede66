//! What a restore does to databases, and what it leaves alone.

use std::fs;

use backup_core::testing::write_program;
use serde_json::json;

use crate::driver::Ran;
use crate::fails::write_script;
use crate::server::Server;

fn restore(server: &Server, database: &str, options: &[&str]) -> Ran {
    let mut command = server.backup();
    command.args(["restore", "latest", "--quiet", "--to", &server.url(database)]).args(options);
    Ran::of(&command.output().unwrap())
}

fn app(server: &Server) {
    server.database(
        "app",
        "CREATE TABLE t AS SELECT n FROM generate_series(1, 100) AS n; ALTER TABLE t ADD PRIMARY KEY (n);
         CREATE SCHEMA other; CREATE TABLE other.u AS SELECT 1 AS n;",
    );
    server.create("app", &[]);
}

#[test]
#[ignore = "needs postgres-15"]
fn a_database_that_holds_something_is_refused_and_replaced_only_when_asked() {
    let server = Server::start(15, &[]);
    app(&server);
    server.sql("app", "DELETE FROM t WHERE n > 10; CREATE TABLE new_one (n integer)");
    let ran = restore(&server, "app", &[]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("is not empty") && ran.err.contains("--clean"), "{}", ran.err);
    assert_eq!(server.sql("app", "SELECT count(*) FROM t"), "10");

    server.restore("app", &["--clean"]);
    assert_eq!(server.sql("app", "SELECT count(*) FROM t"), "100");
    assert_eq!(server.sql("app", "SELECT to_regclass('new_one') IS NULL"), "t");
    let names = "SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database WHERE NOT datistemplate";
    assert_eq!(server.sql("postgres", names), "app,postgres");

    server.sql("postgres", "CREATE DATABASE waiting");
    server.restore("waiting", &[]);
}

#[test]
#[ignore = "needs postgres-15"]
fn a_database_is_replaced_though_somebody_has_connected_to_the_new_one() {
    let server = Server::start(15, &[]);
    // It is loaded once somebody is there, as a program is that watches every database of a server.
    server.database(
        "app",
        "CREATE FUNCTION is_watched() RETURNS boolean LANGUAGE plpgsql AS $$
            BEGIN
                WHILE current_database() <> 'app' AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity
                        WHERE datname = current_database() AND application_name = 'watcher') LOOP
                    PERFORM pg_catalog.pg_stat_clear_snapshot();
                    PERFORM pg_catalog.pg_sleep(0.02);
                END LOOP;
                RETURN true;
            END
        $$;
        CREATE TABLE t (n int CHECK (is_watched()));
        INSERT INTO t VALUES (1), (2)",
    );
    server.create("app", &[]);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            loop {
                let mut watching = server.command("psql");
                watching.env("PGAPPNAME", "watcher").args(["-XAt", "-d", "app.backup-restore"]);
                let said = watching.args(["-c", "SELECT 'there'", "-c", "SELECT pg_sleep(600)"]).output().unwrap();
                if said.stdout.starts_with(b"there") {
                    return String::from_utf8(said.stderr).unwrap();
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let restored = server.restore("app", &["--clean"]);
        assert_eq!(restored["differences"], serde_json::json!([]));
        let told = watcher.join().unwrap();
        assert!(told.contains("terminating connection due to administrator command"), "{told}");
    });
    assert_eq!(server.sql("app", "SELECT count(*) FROM t"), "2");
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE '%backup-restore'"), "0");
}

#[test]
#[ignore = "needs postgres-15"]
fn a_restore_that_fails_costs_the_database_nothing_and_leaves_no_copy() {
    let server = Server::start(15, &[]);
    server.database("app", "CREATE EXTENSION citext; CREATE TABLE t AS SELECT 'a'::citext AS v");
    server.create("app", &[]);
    // An extension that the server does not have any more.
    let broken = server.world.path().join("bin");
    fs::create_dir(&broken).unwrap();
    for name in ["pg_dump", "psql"] {
        std::os::unix::fs::symlink(server.programs().join(name), broken.join(name)).unwrap();
    }
    let script =
        "#!/bin/sh\necho 'pg_restore: error: could not execute query: ERROR:  no such extension' >&2\nexit 1\n";
    write_program(&broken.join("pg_restore"), script);
    let spool = server.world.path().join("spool");
    fs::create_dir(&spool).unwrap();
    let options = ["--clean", "--pg-bin", broken.to_str().unwrap(), "--spool", spool.to_str().unwrap()];
    let ran = restore(&server, "app", &options);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("no such extension"), "{}", ran.err);
    assert_eq!(fs::read_dir(&spool).unwrap().count(), 0);
    assert_eq!(server.sql("app", "SELECT count(*) FROM t"), "1");
}

#[test]
#[ignore = "needs postgres-15"]
fn the_programs_are_told_no_password_and_read_a_copy_that_nobody_else_can_enter_by_several_connections() {
    let server = Server::start(15, &[]);
    app(&server);
    let (folder, said) = (server.world.path().join("bin"), server.world.path().join("said"));
    fs::create_dir(&folder).unwrap();
    for name in ["pg_dump", "pg_dumpall", "pg_restore"] {
        let real = server.programs().join(name);
        // The dump is the last word; it lies in a folder within the closed one.
        let script = format!(
            "[ \"$1\" = --version ] && exec {0} $1\necho {name} \"$@\" >> {1}\nfor last; do :; done\n\
             [ {name} = pg_restore ] && stat -c %a \"$(dirname \"$(dirname \"$last\")\")\" >> {1}\nexec {0} \"$@\"",
            real.display(),
            said.display()
        );
        write_script(&folder.join(name), &script);
    }
    let url = |database: &str| server.url(database).replace("postgres@", "postgres:s3cret@");
    for arguments in [&["create", &url("app")][..], &["restore", "latest", "--jobs", "3", "--to", &url("again")]] {
        let mut command = server.backup();
        command.args(arguments).args(["--pg-bin", folder.to_str().unwrap()]);
        Ran::of(&command.output().unwrap()).succeeds();
    }
    let said = fs::read_to_string(said).unwrap();
    for words in ["pg_dump --", "pg_dumpall --", "--jobs=3", "\n700\n"] {
        assert!(said.contains(words), "{words:?} in {said}");
    }
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
#[ignore = "needs postgres-15"]
fn one_table_comes_back_beside_others_and_never_into_one_that_is_there() {
    let server = Server::start(15, &[]);
    app(&server);
    server.sql("app", "DROP TABLE t; UPDATE other.u SET n = 7");
    assert_eq!(restore(&server, "app", &["--table", "t"]).code, 0);
    assert_eq!(server.sql("app", "SELECT count(*) FROM t"), "100");
    assert_eq!(server.sql("app", "SELECT n FROM other.u"), "7");
    let ran = restore(&server, "app", &["--table", "t"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("already exists") && ran.err.contains("--clean"), "{}", ran.err);
    assert_eq!(server.sql("app", "SELECT count(*) FROM t"), "100");
    server.sql("app", "DELETE FROM t");
    assert_eq!(restore(&server, "app", &["--table", "t", "--clean"]).code, 0);
    assert_eq!(server.sql("app", "SELECT count(*) FROM t"), "100");
}

#[test]
#[ignore = "needs postgres-15"]
fn missing_roles_are_made_and_those_that_are_there_stay() {
    let mut server = Server::start(15, &[]);
    server.database(
        "app",
        "CREATE ROLE gone LOGIN PASSWORD 'p' CREATEDB; CREATE ROLE stays CREATEDB; GRANT stays TO gone;
         CREATE TABLE t (n integer); ALTER TABLE t OWNER TO gone;
         COMMENT ON ROLE gone IS 'it''s; gone'; COMMENT ON ROLE stays IS 'old'; GRANT SET ON PARAMETER log_statement TO gone;",
    );
    server.create("app", &[]);
    server.sql(
        "app",
        "DROP TABLE t; REVOKE stays FROM gone; DROP OWNED BY gone; DROP ROLE gone; ALTER ROLE stays NOCREATEDB;
         COMMENT ON ROLE stays IS 'new'",
    );
    server.restart(&[]);
    let restored = server.restore("again", &[]);
    assert_eq!(restored["warnings"], json!([]));
    assert_eq!(server.sql("again", "SELECT tableowner FROM pg_tables WHERE tablename = 't'"), "gone");
    let roles = "SELECT string_agg(rolname || rolcreatedb || rolcanlogin, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname IN ('gone', 'stays')";
    assert_eq!(server.sql("again", roles), "gonetruetrue staysfalsefalse");
    assert_eq!(server.sql("again", "SELECT pg_has_role('gone', 'stays', 'MEMBER')"), "t");
    let comments = "SELECT string_agg(shobj_description(oid, 'pg_authid'), ' ' ORDER BY rolname) FROM pg_roles WHERE rolname IN ('gone', 'stays')";
    assert_eq!(server.sql("again", comments), "it's; gone new");
    assert_eq!(server.sql("again", "SELECT has_parameter_privilege('gone', 'log_statement', 'SET')"), "t");
    server.sql("again", "DROP TABLE t; DROP OWNED BY gone; DROP ROLE gone");
    server.restore("without", &["--no-roles"]);
    assert_eq!(server.sql("without", "SELECT tableowner FROM pg_tables WHERE tablename = 't'"), "postgres");
}

#[test]
#[ignore = "needs postgres-15"]
fn a_role_that_is_called_something_in_another_encoding_is_told_and_stops_nothing() {
    let server = Server::start(15, &[]);
    server.sql("postgres", "CREATE DATABASE app TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'");
    server.sql(
        "app",
        "SET client_encoding = 'UTF8'; CREATE ROLE \"jürgen\"; CREATE ROLE other; CREATE TABLE t (n integer)",
    );
    server.create("app", &[]);
    server.sql("app", "SET client_encoding = 'UTF8'; DROP ROLE \"jürgen\"; DROP ROLE other");
    let warnings = server.restore("again", &[])["warnings"].to_string();
    assert!(warnings.contains("j\u{fffd}rgen") && warnings.contains("globals.sql"), "{warnings}");
    assert_eq!(server.sql("again", "SELECT count(*) FROM pg_roles WHERE rolname = 'other'"), "1");
}

#[test]
#[ignore = "needs postgres-15, postgres-16"]
fn a_dump_of_an_older_server_is_restored_into_a_newer_one() {
    let old = Server::start(15, &[]);
    app(&old);
    let new = Server::start(16, &[]);
    let mut command = new.backup();
    command.env("BACKUP_REPO", old.world.repository());
    command.args(["restore", "latest", "--verify", "--json", "--to", &new.url("app")]);
    let restored = Ran::of(&command.output().unwrap()).succeeds().lines().pop().unwrap();
    assert_eq!(restored["differences"], json!([]));
}

#[test]
#[ignore = "needs postgres-15"]
fn what_json_tells_of_a_restore_is_what_is_documented() {
    let server = Server::start(15, &[]);
    app(&server);
    let restored = server.restore("again", &[]);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json/restore.md");
    let text = fs::read_to_string(path).unwrap();
    let sections = text.split("\n## ").filter(|section| section.starts_with("`restore`"));
    let rows = sections.flat_map(str::lines).filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: std::collections::BTreeSet<&str> = rows.collect();
    let told: std::collections::BTreeSet<&str> = restored.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(told, documented);
}
