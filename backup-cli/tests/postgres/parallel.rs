//! Dumps by several connections: what lies in the snapshot, what comes back, and what is left on this machine.

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use backup_core::testing::source_suite;
use backup_sources::databases::postgres::{
    DumpOptions, Folders, Parallel, PostgresSource, Roles, Server as Database, Settings,
};
use backup_sources::databases::url::DatabaseUrl;
use serde_json::{Value, json};

use crate::comes_back::ZOO;
use crate::driver::Ran;
use crate::fails::{assert_failed, write_script};
use crate::server::Server;

/// A folder for dumps, in which nothing must be left.
fn spool(server: &Server) -> PathBuf {
    let spool = server.world.path().join("spool");
    fs::create_dir_all(&spool).unwrap();
    spool
}

#[track_caller]
fn assert_nothing_left(spool: &Path) {
    let left: Vec<_> = fs::read_dir(spool).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn manifest(server: &Server, database: &str) -> Value {
    let path = format!("/postgres/{database}/manifest.json");
    serde_json::from_str(&server.world.run(["cat", "latest", &path]).succeeds().out).unwrap()
}

/// The zoo by three connections is the zoo by one.
fn the_zoo_comes_back(major: u32) {
    let server = Server::start(major, &["wal_level=logical"]);
    server.database("zoo", ZOO);
    let streamed = server.create("zoo", &[]);
    let by_one = manifest(&server, "zoo");
    let spool = spool(&server);
    let options = ["--jobs", "3", "--spool", spool.to_str().unwrap()];
    let summary = server.create("zoo", &options);
    assert_nothing_left(&spool);
    assert_eq!((&summary["warnings"], &summary["consistency"]), (&streamed["warnings"], &json!("transactional")));
    let by_three = manifest(&server, "zoo");
    assert_eq!(by_three["expectations"], by_one["expectations"]);
    assert_eq!((&by_one["details"]["jobs"], &by_three["details"]["jobs"]), (&Value::Null, &json!(3)));

    let restored = server.restore("\"again\"", &["--spool", spool.to_str().unwrap()]);
    assert_eq!((&restored["differences"], &restored["notes"]), (&json!([]), &json!([])));
    assert_eq!(server.schema("zoo"), server.schema("\"again\""));
    let objects = "SELECT loid, md5(string_agg(data, '' ORDER BY pageno)) FROM pg_largeobject GROUP BY 1 ORDER BY 1";
    assert_eq!(server.sql("zoo", objects), server.sql("\"again\"", objects));
    assert_nothing_left(&spool);

    // What is unchanged is the same files.
    let again = server.create("zoo", &options);
    assert!(again["bytes_new"].as_u64().unwrap() < summary["bytes_total"].as_u64().unwrap() / 5, "{again}");

    // Without us: a folder that pg_restore reads with several connections.
    let out = server.world.path().join("out");
    server.world.run(["restore", "latest", "--to", out.to_str().unwrap()]).succeeds();
    server.sql("postgres", "CREATE DATABASE plain");
    let mut load = server.command("pg_restore");
    load.args(["--exit-on-error", "--jobs", "2", "--dbname", "plain"]).arg(out.join("postgres/zoo/dump"));
    let loaded = load.output().unwrap();
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    assert_eq!(server.schema("zoo"), server.schema("plain"));
}

#[test]
#[ignore = "needs postgres-15"]
fn the_zoo_comes_back_by_several_connections_in_version_15() {
    the_zoo_comes_back(15);
}

#[test]
#[ignore = "needs postgres-16"]
fn the_zoo_comes_back_by_several_connections_in_version_16() {
    the_zoo_comes_back(16);
}

#[test]
#[ignore = "needs postgres-18"]
fn the_zoo_comes_back_by_several_connections_in_version_18() {
    the_zoo_comes_back(18);
}

/// Two tables, one of which is large.
const APP: &str = "CREATE TABLE t AS SELECT n, repeat('x', 300) AS x FROM generate_series(1, 10000) AS n;
                   CREATE TABLE u AS SELECT 1 AS n; CREATE TABLE \"o dd\" (a integer)";

#[test]
#[ignore = "needs postgres-15"]
fn a_part_of_it_comes_back_and_a_drill_of_it_passes() {
    let server = Server::start(15, &[]);
    server.database("app", APP);
    server.create("app", &["--jobs", "2"]);
    server.sql("app", "DROP TABLE t");
    server.load("app", &["--table", "t"]);
    assert_eq!(server.sql("app", "SELECT count(*) FROM t"), "10000");
    server.create("app", &["--jobs", "2", "--table", "u", "--exclude-table-data", "u"]);
    server.sql("postgres", "CREATE DATABASE part");
    server.load("part", &[]);
    assert_eq!(server.sql("part", "SELECT count(*) FROM u"), "0");

    server.create("app", &["--jobs", "2"]);
    server.assert_drilled();
}

#[test]
#[ignore = "needs postgres-15"]
fn a_database_by_several_connections_keeps_the_contract_of_a_source() {
    let server = Server::start(15, &[]);
    server.database("app", APP);
    server.sql("app", "SELECT lo_from_bytea(0, 'hello')");
    let only = Some(server.programs().to_owned());
    let settings = Settings { folders: Folders { only, also: Vec::new() }, ..Settings::default() };
    let database = Database::new(&DatabaseUrl::parse(server.url("app")).unwrap(), &settings).unwrap();
    let spool = spool(&server);
    let parallel = Some(Parallel { jobs: NonZeroUsize::new(2).unwrap(), spool: spool.clone() });
    let options = DumpOptions { roles: Roles::LeftOut, parallel, ..DumpOptions::default() };
    source_suite(|| Box::new(PostgresSource::connect(&database, "app", &options).unwrap()));
    assert_nothing_left(&spool);
}

#[test]
#[ignore = "needs postgres-15"]
fn the_folder_of_a_dump_is_closed_to_others() {
    let server = Server::start(15, &[]);
    server.database("app", APP);
    let folder = server.world.path().join("bin");
    fs::create_dir(&folder).unwrap();
    let seen = server.world.path().join("seen");
    let script = format!("{DIR}\nstat -c %a \"$(dirname $dir)\" > {}\nexec $real \"$@\"", seen.display());
    wrapped(&server, &folder, &script);
    server.create("app", &["--jobs", "2", "--pg-bin", folder.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(seen).unwrap().trim(), "700");
}

/// Finds the folder that pg_dump is to write.
const DIR: &str = "for word in \"$@\"; do [ \"$last\" = --file ] && dir=$word; last=$word; done";

/// Puts a pg_dump into `folder` that does what `script` says of the real one.
fn wrapped(server: &Server, folder: &Path, script: &str) {
    let programs = server.programs();
    let pg_dumpall = folder.join("pg_dumpall");
    if !pg_dumpall.exists() {
        std::os::unix::fs::symlink(programs.join("pg_dumpall"), pg_dumpall).unwrap();
    }
    let real = programs.join("pg_dump");
    let script = format!("real={}\n[ \"$1\" = --version ] && exec $real $1\n{script}", real.display());
    write_script(&folder.join("pg_dump"), &script);
}

#[test]
#[ignore = "needs postgres-15"]
fn what_fails_leaves_no_snapshot_and_no_folder() {
    let server = Server::start(15, &[]);
    server.database("app", APP);
    server.create("app", &["--jobs", "2"]);
    let (spool, folder) = (spool(&server), server.world.path().join("bin"));
    fs::create_dir(&folder).unwrap();
    let whole = format!("{DIR}\n$real \"$@\" --file $dir.whole || exit 1");
    let gone = "echo 'pg_dump: error: server closed the connection unexpectedly' >&2; exit 1";
    let middle = format!("mkdir $dir; mv $dir.whole/toc.dat $dir; sleep 0.3; {gone}");
    for (then, words) in [
        ("truncate -s -3 $(ls -S $dir.whole/*.dat | head -1); mv $dir.whole $dir", "public.t did not come"),
        ("rm $(ls -S $dir.whole/*.dat | head -1); mv $dir.whole $dir", "did not write"),
        ("truncate -s -3 $dir.whole/toc.dat; mv $dir.whole $dir", "ends in the middle"),
        ("echo more > $dir.whole/more.dat; mv $dir.whole $dir", "more.dat"),
        // In the middle of the data, and before any.
        (middle.as_str(), "server closed the connection"),
        (gone, "server closed the connection"),
        ("exit 0", "ends in the middle"),
    ] {
        wrapped(&server, &folder, &format!("{whole}\n{then}\nexit 0"));
        let options = ["--jobs", "2", "--spool", spool.to_str().unwrap(), "--pg-bin", folder.to_str().unwrap()];
        let ran = server.try_create("app", &options);
        assert_failed(&server, &ran, 1, &["/postgres/app", words]);
        assert_nothing_left(&spool);
    }
}

#[test]
#[ignore = "needs postgres-15, root and mount"]
fn a_disk_that_is_too_small_is_refused_and_one_that_fills_up_makes_no_snapshot() {
    let server = Server::start(15, &[]);
    // Its text is a hundred times as long as what it takes in the table.
    server.database("app", "CREATE TABLE t AS SELECT repeat('x', 1000000) AS x FROM generate_series(1, 40)");
    server.database("large", "CREATE TABLE t AS SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n");
    let spool = spool(&server);
    let mount = |arguments: &[&str]| assert!(Command::new("mount").args(arguments).status().unwrap().success());
    mount(&["-t", "tmpfs", "-o", "size=8m", "none", spool.to_str().unwrap()]);
    let options = ["--jobs", "2", "--spool", spool.to_str().unwrap()];
    let full = server.try_create("app", &options);
    let left = fs::read_dir(&spool).unwrap().count();
    let refused = server.try_create("large", &options);
    assert!(Command::new("umount").arg(&spool).status().unwrap().success());
    assert_failed(&server, &full, 0, &["No space left on device", "--spool"]);
    assert_eq!((left, refused.code, refused.err.lines().count()), (0, 2, 2), "{}", refused.err);
    assert!(refused.err.contains("are free") && refused.err.contains("--spool"), "{}", refused.err);
    // By one connection it needs no space here.
    server.create("app", &[]);
}

#[test]
#[ignore = "needs postgres-15"]
fn a_hostile_folder_is_not_loaded() {
    let server = Server::start(15, &[]);
    server.database("app", APP);
    server.sql("app", "SELECT lo_from_bytea(0, 'hello')");
    server.create("app", &["--jobs", "2"]);
    let out = server.world.path().join("out");
    server.world.run(["restore", "latest", "--to", out.to_str().unwrap()]).succeeds();
    let dump = out.join("postgres/app/dump");
    let list = dump.join("blobs.toc");
    let number = fs::read_to_string(&list).unwrap().split(' ').next().unwrap().to_owned();
    fs::set_permissions(&list, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&list, format!("{number} ../../../../../../etc/passwd\n")).unwrap();
    let folder = out.join("postgres/app");
    let made = server.world.json(["create", folder.to_str().unwrap()]);
    let mut restore = server.backup();
    restore.args([
        "restore",
        made["snapshot"].as_str().unwrap(),
        "--path",
        folder.to_str().unwrap(),
        "--to",
        &server.url("again"),
    ]);
    let ran = Ran::of(&restore.output().unwrap());
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("names something else") && ran.err.contains("nothing was loaded"), "{}", ran.err);
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'again'"), "0");
}
