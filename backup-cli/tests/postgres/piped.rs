//! Tables that pg_restore reads out of the repository as it loads them: all of a database, one of them, several at once, in
//! every version; and what is left when one does not come out of it whole.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::driver::Ran;
use crate::server::Server;

/// Tables of more than a megabyte, and smaller ones between them.
const TABLES: &str = "
    CREATE TABLE a AS SELECT n, repeat(md5(n::text), 3) AS v FROM generate_series(1, 15000) n;
    ALTER TABLE a ADD PRIMARY KEY (n);
    CREATE TABLE \"b \"\"quoted\"\"\" (n int, v text);
    CREATE TABLE c (w text) INHERITS (\"b \"\"quoted\"\"\");
    INSERT INTO c SELECT n, md5(n::text), repeat('ä\\', 40) FROM generate_series(1, 12000) n;
    CREATE TABLE d (n int REFERENCES a, v text) PARTITION BY HASH (n);
    CREATE TABLE d1 PARTITION OF d FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE d2 PARTITION OF d FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO d SELECT n, repeat(md5(n::text), 6) FROM generate_series(1, 15000) n;
    CREATE TABLE e ();
    CREATE TABLE f AS SELECT repeat(md5(n::text), 1000) AS v FROM generate_series(1, 100) n;
    CREATE TABLE g AS SELECT 1 AS n;
    SELECT lo_from_bytea(17, 'an object'), lo_from_bytea(18, decode(repeat('ab', 300000), 'hex'));
";

/// A table that nobody gets to the end of in the database `new`: a quarter of it comes, then the server is busy.
const STALLS: &str = "
    CREATE FUNCTION goes_on(n int) RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN
            IF current_database() = 'new' AND n = 10000 THEN PERFORM pg_sleep(600); END IF;
            RETURN true;
        END
    $$;
    CREATE TABLE h (n int CHECK (goes_on(n)), v text);
    INSERT INTO h SELECT n, repeat(md5(n::text), 3) FROM generate_series(1, 40000) n;
";

fn large_tables_come_back(major: u32) {
    let server = Server::start(major, &[]);
    server.database("app", TABLES);
    let spool = server.world.path().join("spool");
    fs::create_dir(&spool).unwrap();
    let spool = spool.to_str().unwrap();
    for (form, options) in [("file", &[][..]), ("folder", &["--jobs", "3", "--spool", spool])] {
        server.create("app", options);
        for jobs in ["1", "3"] {
            let database = format!("{form}{jobs}");
            let restored = server.restore(&database, &["--jobs", jobs, "--spool", spool]);
            assert_eq!((&restored["differences"], &restored["notes"]), (&json!([]), &json!([])));
            assert_eq!(server.schema("app"), server.schema(&database));
        }
        let part = format!("part_{form}");
        server.load(&part, &["--table", "c", "--table", "b \"quoted\"", "--table", "g", "--spool", spool]);
        for (table, rows) in [("c", "12000"), ("\"b \"\"quoted\"\"\"", "12000"), ("g", "1")] {
            assert_eq!(server.sql(&part, &format!("SELECT count(*) FROM {table}")), rows);
        }
        assert_eq!(server.sql(&part, "SELECT count(*) FROM pg_class WHERE relname IN ('a', 'd1', 'f')"), "0");
        assert_eq!(fs::read_dir(spool).unwrap().count(), 0, "nothing is left where it was laid down");
    }
}

#[test]
#[ignore = "needs postgres-15"]
fn large_tables_come_back_in_version_15() {
    large_tables_come_back(15);
}

#[test]
#[ignore = "needs postgres-16"]
fn large_tables_come_back_in_version_16() {
    large_tables_come_back(16);
}

#[test]
#[ignore = "needs postgres-18"]
fn large_tables_come_back_in_version_18() {
    large_tables_come_back(18);
}

#[test]
#[ignore = "needs postgres-15"]
fn more_tables_come_back_than_are_looked_at_each_time() {
    let server = Server::start(15, &[]);
    let tables = (0..80).map(|table| {
        format!("CREATE TABLE t{table} AS SELECT repeat(md5(n::text), 9) AS v FROM generate_series({table}, 3800) n;")
    });
    server.database("app", &tables.collect::<String>());
    server.create("app", &[]);
    let restored = server.restore("back", &["--jobs", "4"]);
    assert_eq!(restored["differences"], json!([]));
}

#[test]
#[ignore = "needs postgres-15"]
fn a_piece_that_is_damaged_replaces_nothing_and_leaves_no_half_of_a_table() {
    let server = Server::start(15, &[]);
    server.database("app", TABLES);
    server.create("app", &[]);
    server.sql("app", "DROP TABLE d; CREATE TABLE newer AS SELECT 5 AS n");
    let packs = |folder: &Path| -> Vec<_> {
        let folders = fs::read_dir(folder.join("data")).unwrap().map(|entry| entry.unwrap().path());
        folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())).collect()
    };
    let pack =
        packs(&server.world.repository()).into_iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let last = bytes.len() - bytes.len() / 4;
    bytes[last] ^= 1;
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();
    for (database, options, told) in [
        ("app", &["--clean"][..], "the database \"app\" is as it was"),
        ("new", &[], "the database \"new\" is not complete"),
    ] {
        let mut command = server.backup();
        command.args(["restore", "latest", "--to", &server.url(database)]).args(options);
        let ran = Ran::of(&command.output().unwrap());
        assert_eq!(ran.code, 1, "{}", ran.err);
        // Before anything was touched, when the damage is in what is read first.
        assert!(ran.err.contains(told) || ran.err.contains("nothing was loaded"), "{}", ran.err);
        assert!(ran.err.contains("damaged") && ran.err.contains("check --read-data"), "{}", ran.err);
    }
    assert_eq!(server.sql("app", "SELECT n FROM newer"), "5");
    let whole = [("a", "15000"), ("c", "12000"), ("d", "15000"), ("f", "100")];
    let made = server.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'new'") == "1";
    for (table, rows) in whole.into_iter().filter(|_| made) {
        let counted = server.sql("new", &format!("SELECT count(*) FROM {table}"));
        assert!(counted == rows || counted == "0", "{table} has {counted} rows");
    }
}

/// The processes of pg_restore that read below `folder`, each with its parent.
fn readers(folder: &Path) -> Vec<(i32, i32)> {
    // Not we, who are told the folder itself.
    let below = format!("{}/", folder.display());
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let parent = |process: i32| {
        let arguments = fs::read(format!("/proc/{process}/cmdline")).ok()?;
        let is_one = arguments.split(|&byte| byte == 0).any(|argument| argument.starts_with(below.as_bytes()));
        let status = fs::read_to_string(format!("/proc/{process}/stat")).ok().filter(|_| is_one)?;
        // Behind the name, which may hold anything: the state and the parent.
        Some((process, status.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?))
    };
    processes.filter_map(parent).collect()
}

/// Whether `process` has opened a pipe that lies below `folder`.
fn has_opened_a_pipe(process: i32, folder: &Path) -> bool {
    let Ok(opened) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    opened.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).any(|file| file.starts_with(folder))
}

/// Restores [`STALLS`] into the database `new`, and stops a worker of pg_restore in the middle of a table; `end` gets the
/// numbers of our process and of pg_restore's first one.
fn ended_in_the_middle_of_a_table(server: &Server, end: impl FnOnce(Pid, Pid)) -> Ran {
    let spool = server.world.path().join("spool");
    fs::create_dir(&spool).unwrap();
    let mut command = server.backup();
    command.args(["restore", "latest", "--jobs", "2", "--spool", spool.to_str().unwrap(), "--to", &server.url("new")]);
    let mut restore = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let restoring = i32::try_from(restore.id()).unwrap();
    let (leader, worker) = loop {
        assert!(restore.try_wait().unwrap().is_none(), "it has ended before a table was seen to be read");
        let readers = readers(&spool);
        let reads = |reader: &&(i32, i32)| reader.1 != restoring && has_opened_a_pipe(reader.0, &spool);
        if let Some(&(worker, leader)) = readers.iter().find(reads) {
            break (leader, worker);
        }
        thread::sleep(Duration::from_millis(1));
    };
    // It neither goes on nor ends by itself.
    kill(Pid::from_raw(worker), Signal::SIGSTOP).unwrap();
    end(Pid::from_raw(restoring), Pid::from_raw(leader));
    let ran = Ran::of(&restore.wait_with_output().unwrap());
    assert_eq!(fs::read_dir(&spool).unwrap().count(), 0, "nothing is left where it was laid down");
    while !readers(&spool).is_empty() {
        thread::sleep(Duration::from_millis(1));
    }
    ran
}

#[test]
#[ignore = "needs postgres-15"]
fn a_pg_restore_that_is_killed_ends_the_restore_though_its_workers_live_on() {
    let server = Server::start(15, &[]);
    server.database("app", STALLS);
    server.create("app", &[]);
    let ran = ended_in_the_middle_of_a_table(&server, |_, leader| kill(leader, Signal::SIGKILL).unwrap());
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.err.contains("signal: 9") && ran.err.contains("the database is not complete; the system's log"),
        "{}",
        ran.err
    );
}

#[test]
#[ignore = "needs postgres-15"]
fn a_restore_that_is_interrupted_in_a_table_ends_and_says_what_it_leaves_behind() {
    let server = Server::start(15, &[]);
    server.database("app", STALLS);
    server.create("app", &[]);
    let ran = ended_in_the_middle_of_a_table(&server, |restoring, _| kill(restoring, Signal::SIGINT).unwrap());
    assert_eq!(ran.code, 130, "{}", ran.err);
    assert!(ran.err.contains("stopped on request"), "{}", ran.err);
    assert!(ran.err.contains("the database \"new\" is not complete"), "{}", ran.err);
    assert!(!ran.err.contains("damaged"), "nothing is: {}", ran.err);
}
