//! What fails leaves no snapshot, the earlier ones as they were, and two lines that name what to look at.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use backup_core::testing::write_program;

use crate::driver::Ran;
use crate::server::Server;

/// Insists that a run failed in two lines with all of `words`, and that `snapshots` are what there is.
#[track_caller]
pub(crate) fn assert_failed(server: &Server, ran: &Ran, snapshots: usize, words: &[&str]) {
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let lines: Vec<_> = ran.err.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("backup: ") && lines[1].starts_with("  try: "), "{}", ran.err);
    assert!(words.iter().all(|word| ran.err.contains(word)), "{words:?} in {}", ran.err);
    assert_eq!(server.snapshots(), snapshots);
}

/// A database whose dump takes a while: rows, and a lock that pg_dump waits for.
fn app(server: &Server) {
    server.database("app", "CREATE TABLE t AS SELECT n, repeat('x', 500) AS x FROM generate_series(1, 20000) AS n");
}

/// Somebody who holds the table's lock, and has it already.
fn hold(server: &Server) -> Child {
    let mut holder = server.command("psql");
    for statement in ["BEGIN", "LOCK TABLE t", "SELECT 'held'", "SELECT pg_sleep(600)"] {
        holder.args(["-c", statement]);
    }
    let mut holder = holder.args(["-qAtX", "app"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    holder
}

#[test]
#[ignore = "needs postgres-15"]
fn a_table_that_may_not_be_read_is_named() {
    let server = Server::start(15, &[]);
    app(&server);
    server.create("app", &[]);
    server.sql("app", "CREATE ROLE poor LOGIN; CREATE TABLE secret (n integer); GRANT SELECT ON t TO poor;");
    let url = server.url("app").replace("postgres@", "poor@");
    let ran = Ran::of(&server.backup().args(["create", &url]).output().unwrap());
    assert_failed(&server, &ran, 1, &["permission denied for table secret", "pg_read_all_data"]);
}

#[test]
#[ignore = "needs postgres-15"]
fn rows_that_are_hidden_from_who_connects_are_not_left_out_silently() {
    let server = Server::start(15, &[]);
    app(&server);
    server.sql(
        "app",
        "CREATE ROLE poor LOGIN; GRANT pg_read_all_data TO poor; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
         CREATE POLICY few ON t USING (n < 10);",
    );
    let url = server.url("app").replace("postgres@", "poor@");
    let ran = Ran::of(&server.backup().args(["create", &url]).output().unwrap());
    assert_failed(&server, &ran, 0, &["row-level security", "BYPASSRLS"]);
}

#[test]
#[ignore = "needs postgres-15"]
fn a_server_that_stops_in_the_middle_fails_the_backup() {
    for by_connection in [false, true] {
        let mut server = Server::start(15, &[]);
        app(&server);
        server.create("app", &[]);
        // Somebody holds a lock: pg_dump has begun, and waits.
        let mut holder = hold(&server);
        let running = server.backup().args(["create", "--quiet", &server.url("app")]).stderr(Stdio::piped()).spawn();
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump' AND wait_event_type = 'Lock'";
        let began = Instant::now();
        while server.sql("postgres", waits) != "1" {
            assert!(began.elapsed() < Duration::from_secs(180), "pg_dump does not wait for the lock");
        }
        if by_connection {
            server.sql(
                "postgres",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_dump'",
            );
        } else {
            server.crash();
        }
        let ran = Ran::of(&running.unwrap().wait_with_output().unwrap());
        let _ = holder.kill();
        let _ = holder.wait();
        if by_connection {
            // The server does not notice that nobody waits for its answer any more.
            server.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'app'");
        } else {
            server.restart(&[]);
        }
        assert_failed(&server, &ran, 1, &["/postgres/app", "connection"]);
        server.create("app", &[]);
    }
}

#[test]
#[ignore = "needs postgres-15"]
fn a_lock_that_is_not_given_up_ends_the_wait() {
    let server = Server::start(15, &[]);
    app(&server);
    let mut holder = hold(&server);
    let ran = server.try_create("app", &["--lock-wait", "1"]);
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_failed(&server, &ran, 0, &["--lock-wait"]);
}

#[test]
#[ignore = "needs postgres-15"]
fn programs_that_do_not_fit_are_told_with_both_versions() {
    let server = Server::start(15, &[]);
    app(&server);
    let folder = server.world.path().join("old");
    fs::create_dir(&folder).unwrap();
    for (version, words) in [(Some("14.9"), &["version 15", "14.9"][..]), (None, &["no pg_dump in"])] {
        let program = folder.join("pg_dump");
        match version {
            Some(version) => write_script(&program, &format!("echo 'pg_dump (PostgreSQL) {version}'")),
            None => fs::remove_file(&program).unwrap(),
        }
        let ran = server.try_create("app", &["--pg-bin", folder.to_str().unwrap()]);
        assert_eq!((ran.code, ran.err.lines().count()), (2, 2), "{}", ran.err);
        assert!(words.iter().all(|word| ran.err.contains(word)), "{}", ran.err);
    }
    assert_eq!(server.snapshots(), 0);
}

#[test]
#[ignore = "needs postgres-15"]
fn a_dump_that_is_cut_short_by_a_content_program_is_found_out() {
    let server = Server::start(15, &[]);
    app(&server);
    let folder = server.world.path().join("cut");
    fs::create_dir(&folder).unwrap();
    let real = server.programs().join("pg_dump");
    let pg_dumpall = server.programs().join("pg_dumpall");
    std::os::unix::fs::symlink(pg_dumpall, folder.join("pg_dumpall")).unwrap();
    // In the head, in the table of contents, in the rows.
    for bytes in [30, 700, 1_000_000] {
        let script =
            format!("case $1 in --version) exec {0} $1;; esac\n{0} \"$@\" | head -c {bytes}\nexit 0", real.display());
        write_script(&folder.join("pg_dump"), &script);
        let ran = server.try_create("app", &["--pg-bin", folder.to_str().unwrap()]);
        assert_failed(&server, &ran, 0, &["ends in the middle"]);
    }
}

#[test]
#[ignore = "needs postgres-15"]
fn a_value_that_no_dump_can_hold_is_named_with_its_column() {
    let server = Server::start(15, &[]);
    server.database(
        "app",
        "CREATE TABLE big (id integer, small bytea, large bytea);
         ALTER TABLE big ALTER large SET STORAGE EXTERNAL;
         INSERT INTO big VALUES (1, 'x', convert_to(repeat('x', 540000000), 'UTF8'));",
    );
    let ran = server.try_create("app", &[]);
    assert_failed(&server, &ran, 0, &["public.big", "column large", "540000000 bytes", "--exclude-table-data"]);
}

#[test]
#[ignore = "needs postgres-15"]
fn what_cannot_be_reached_is_told_with_a_hint() {
    let server = Server::start(15, &[]);
    let ran = server.try_create("nowhere", &[]);
    assert_failed(&server, &ran, 0, &["database \"nowhere\" does not exist", "name of the database"]);
    let url = "postgres://me:hidden@127.0.0.1:1/app";
    let ran = Ran::of(&server.backup().args(["create", url]).output().unwrap());
    assert_failed(&server, &ran, 0, &["postgres://me@127.0.0.1:1/app", "Connection refused"]);
    assert!(!ran.err.contains("hidden"), "{}", ran.err);
}

pub(crate) fn write_script(path: &std::path::Path, script: &str) {
    write_program(path, &format!("#!/bin/sh\n{script}\n"));
}
