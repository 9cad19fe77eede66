//! The sandboxes in containers: verdicts as without, nothing of this machine's programs, walls that hold, and nothing left.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::contracts::{Answer, Check, CheckResult, Question, Sandbox};
use backup_core::drill::Verdict;
use backup_sources::databases::manifest::Manifest;
use backup_sources::databases::mongodb::{MongodbDump, MongodbSandbox};
use backup_sources::databases::mysql::MysqlSandbox;
use backup_sources::databases::postgres::{Folders, PostgresSandbox};
use backup_sources::databases::redis::RedisSandbox;
use backup_sources::sandbox::{ContainerSettings, SandboxPlace};

use crate::drill::{LITTLE, TOO_MUCH, examined, failed, left, load, not_run, restored};
use crate::mysql_server::Flavour;
use crate::podman::Podman;
use crate::postgres_server::{Server, open_folder};
use crate::repository::Repo;

const APP: &str = "
CREATE EXTENSION pg_trgm;
CREATE ROLE app_owner;
CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL);
INSERT INTO users (name) SELECT 'user ' || n FROM generate_series(1, 1000) n;
CREATE INDEX users_trgm ON users USING gin (name gin_trgm_ops);
ALTER TABLE users OWNER TO app_owner;
CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE EVENT TRIGGER noted ON ddl_command_start EXECUTE FUNCTION noted();
";

/// No program of this machine.
fn nowhere() -> Folders {
    Folders { only: Some(PathBuf::from("/nonexistent")), also: Vec::new() }
}

fn postgres(manifest: &Manifest, place: SandboxPlace) -> Box<dyn Sandbox> {
    Box::new(PostgresSandbox::new(manifest.clone(), place, nowhere()))
}

fn with(place: SandboxPlace, change: impl FnOnce(&mut ContainerSettings)) -> SandboxPlace {
    let mut container = place.container.unwrap();
    change(&mut container);
    SandboxPlace { container: Some(container), ..place }
}

fn asked(sandbox: &mut dyn Sandbox, question: &Question) -> Option<String> {
    let Answer(answer) = sandbox.ask(question, &Cancel::new()).unwrap();
    answer
}

#[track_caller]
fn passed(checks: &[Check], ids: &[&str]) {
    assert_eq!(failed(checks), Vec::<&str>::new(), "{checks:#?}");
    for id in ids {
        assert!(checks.iter().any(|check| check.id == *id && check.result == CheckResult::Passed), "{id}: {checks:#?}");
    }
}

#[test]
#[ignore = "needs podman, images and postgres-15"]
fn a_good_backup_of_postgresql_passes_without_programs_of_this_machine() {
    let (podman, server, repo, parent) = (Podman::with(&["postgres-15"]), Server::new(), Repo::new(), open_folder());
    server.database("app", APP);
    let manifest = server.back_up(&repo, "app");
    // What a container left whose folder is gone, and one that is nobody's of ours.
    let label = format!("--label=backup.drill={}", parent.path().display());
    let start = |name: &str| podman.said(&["create", "--name", name, &label, "postgres-15", "cat"]);
    start("backup-drill-0123456789abcdef");
    start("somebody");

    let place = with(podman.place(&parent, "postgres-15"), |container| {
        container.memory_bytes = Some(512 << 20);
        container.processes_max = Some(200);
    });
    let mut sandbox = restored(postgres(&manifest, place), &repo, "/postgres/app");
    let checks = examined(&mut *sandbox, &manifest.report);
    passed(
        &checks,
        &[
            "table data public.users count",
            "table data public.users content",
            "pg_amcheck",
            "event trigger noted definition",
        ],
    );
    assert_eq!(asked(&mut *sandbox, &Question::Sql("SELECT count(*) FROM users".into())).as_deref(), Some("1000"));
    let psql = server.programs.join("psql").display().to_string();
    let program = [psql.as_str(), "-Atc", "SELECT count(*) FROM users"].map(str::to_owned).to_vec();
    assert_eq!(asked(&mut *sandbox, &Question::Program(program)).as_deref(), Some("1000"));

    let facts = sandbox.facts();
    assert_eq!(facts.provider, "container");
    assert!(facts.engine.unwrap().version.starts_with("15."));
    let image = facts.image.unwrap();
    let id = podman.said(&["image", "inspect", "--format", "{{.Id}}", "postgres-15"]);
    assert_eq!((image.name.as_str(), image.version), ("postgres-15", format!("sha256:{id}")));
    for words in ["no network", "read-only root", "no capabilities", "at most 200 processes"] {
        assert!(facts.isolation.iter().any(|text| text == words), "{words}: {:?}", facts.isolation);
    }

    // What the record says is so.
    let drill = left(parent.path()).pop().unwrap();
    let mut running: Vec<_> = podman.containers().lines().map(str::to_owned).collect();
    running.sort();
    assert_eq!(running, [drill.as_str(), "somebody"]);
    let inspected = |what: &str| podman.said(&["inspect", "--format", what, &drill]);
    assert_eq!(inspected("{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}"), "536870912 200");
    let within = |script: &str| podman.ask(&["exec", &drill, "sh", "-c", script]);
    let said = |script: &str| String::from_utf8(within(script).stdout).unwrap().trim().to_owned();
    assert_ne!(said("id -u"), "0");
    assert_eq!(said("sed -n 's/^CapBnd:\\t//p;s/^NoNewPrivs:\\t//p' /proc/self/status"), "0000000000000000\n1");
    assert_eq!(said("ls /sys/class/net"), "lo");
    assert!(!within("echo x >/etc/x || echo x >/usr/x").status.success());
    assert!(!said("cat /proc/1/environ").contains("CARGO"), "nothing of the caller's environment gets inside");

    sandbox.remove().unwrap();
    assert_eq!(left(parent.path()), Vec::<String>::new());
    assert_eq!(podman.containers(), "somebody");
}

#[test]
#[ignore = "needs podman, images and postgres-15"]
fn damage_fails_in_a_container_as_it_does_without() {
    let (podman, server, parent) = (Podman::with(&["postgres-15"]), Server::new(), open_folder());
    server.database("app", "CREATE TABLE t AS SELECT n, md5(n::text) AS v FROM generate_series(1, 20000) n");
    let repo = Repo::new();
    let manifest = server.back_up(&repo, "app");
    let dump = repo.file("/postgres/app/dump");
    for length in [0, dump.len() / 20, dump.len() * 19 / 20] {
        let mut made = postgres(&manifest, podman.place(&parent, "postgres-15"));
        assert!(load(&mut *made, &[("dump", &dump[..length])]).is_err(), "{length}");
    }
    server.sql("app", "UPDATE t SET v = 'another' WHERE n = 7");
    let altered = Repo::new();
    let other = server.back_up(&altered, "app");
    let made = postgres(&other, podman.place(&parent, "postgres-15"));
    let mut made = restored(made, &altered, "/postgres/app");
    assert_eq!(failed(&examined(&mut *made, &manifest.report)), ["table data public.t content"]);
    drop(made);
    let outcome =
        repo.drill("/postgres/app", postgres(&manifest, podman.place(&parent, "postgres-15")), &manifest.report);
    assert_eq!(outcome.verdict, Verdict::Passed);
    assert_eq!((podman.containers(), left(parent.path())), (String::new(), vec![]));
}

#[test]
#[ignore = "needs podman, images and postgres-15"]
fn what_cannot_run_in_a_container_says_so_and_leaves_nothing() {
    let (podman, server, repo, parent) =
        (Podman::with(&["postgres-15", "redis"]), Server::new(), Repo::new(), open_folder());
    server.database("app", "CREATE EXTENSION pg_trgm; CREATE TABLE t (n integer)");
    let manifest = server.back_up(&repo, "app");
    let of = |image: &str| podman.place(&parent, image);
    let why = |manifest: &Manifest, place| not_run(postgres(manifest, place), LITTLE, parent.path());
    assert_eq!(why(&manifest, of("postgres:16")), "the image postgres:16 is not here");
    assert_eq!(why(&manifest, of("redis")), "PostgreSQL 15 is not installed in the image redis");
    let gone = with(of("postgres-15"), |container| container.program = "/nonexistent/podman".into());
    assert!(why(&manifest, gone).starts_with("/nonexistent/podman cannot be started: "));
    let elsewhere = with(of("postgres-15"), |container| container.bin = Some("/usr/bin".into()));
    assert_eq!(why(&manifest, elsewhere), "PostgreSQL 15 is not installed in the image postgres-15");

    let mut newer = manifest.clone();
    newer.report.tools.iter_mut().find(|tool| tool.name == "postgresql").unwrap().version = "18.1".into();
    let reason = why(&newer, of("postgres-15"));
    assert!(reason.starts_with("PostgreSQL 18 is not installed in the image postgres-15, but 15."), "{reason}");
    let mut extended = manifest.clone();
    extended.report.expectations.iter_mut().find(|one| one.kind == "extension").unwrap().object = "postgis".into();
    assert_eq!(why(&extended, of("postgres-15")), "the extension postgis is not installed here");
    let reason = not_run(postgres(&manifest, of("postgres-15")), TOO_MUCH, parent.path());
    assert!(reason.contains("are free"), "{reason}");
    assert_eq!(podman.containers(), "");
}

/// As in the hostile dump of a sandbox without a container: a program that the dump starts tries the network,
/// production's socket, and a file of somebody else's; and the socket of whoever runs the containers.
#[test]
#[ignore = "needs podman, images and postgres-15"]
fn a_program_that_a_dump_starts_in_a_container_reaches_nothing() {
    let (podman, server, repo, parent, prey) =
        (Podman::with(&["postgres-15"]), Server::new(), Repo::new(), open_folder(), open_folder());
    fs::set_permissions(prey.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let (port, mark) = (listener.local_addr().unwrap().port(), prey.path().join("mark"));
    let script = format!(
        "echo ran >ran; psql=$(command -v psql) && echo found >found; echo x >{}; \
         PGCONNECT_TIMEOUT=2 psql -X -h 127.0.0.1 -p {port} -U postgres -d app -c x; \
         psql -X -h {} -U postgres -d app -c \"CREATE TABLE pwned ()\"; true",
        mark.display(),
        server.folder.path().display()
    );
    server.database(
        "app",
        &format!(
            "CREATE FUNCTION attack(v text) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN
                 IF current_setting('cluster_name') = 'production' THEN RETURN true; END IF;
                 COPY (SELECT 1) TO PROGRAM $p${script}$p$;
                 RETURN true;
             EXCEPTION WHEN OTHERS THEN RETURN true; END $f$;
             CREATE TABLE bait (v text CHECK (attack(v)));
             INSERT INTO bait VALUES ('x');"
        ),
    );
    let reached = || {
        let mut reached = Vec::new();
        match listener.accept() {
            Ok(_) => reached.push("network"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        if fs::remove_file(&mark).is_ok() {
            reached.push("file");
        }
        if server.sql("app", "SELECT to_regclass('pwned')") == "pwned" {
            server.sql("app", "DROP TABLE pwned");
            reached.push("socket");
        }
        reached
    };
    // Where nothing stops it, it does all that it is meant to.
    let path = format!("{}:/bin:/usr/bin", server.programs.display());
    let mut free = crate::postgres_server::as_nobody(std::path::Path::new("/bin/sh"), prey.path());
    free.args(["-c", &script]).env("PATH", path).output().unwrap();
    assert_eq!(reached(), ["network", "file", "socket"]);

    let manifest = server.back_up(&repo, "app");
    let made = postgres(&manifest, podman.place(&parent, "postgres-15"));
    let mut sandbox = restored(made, &repo, "/postgres/app");
    passed(&examined(&mut *sandbox, &manifest.report), &["table data public.bait count"]);
    assert_eq!(reached(), Vec::<&str>::new());
    let drill = parent.path().join(left(parent.path()).pop().unwrap());
    assert!(drill.join("own/data/ran").exists() && drill.join("own/data/found").exists(), "it ran, into nothing");
    sandbox.remove().unwrap();
}

#[test]
#[ignore = "needs podman, images and postgres-15"]
fn a_version_that_this_machine_has_not_got_is_restored_in_its_image() {
    let (podman, server, repo, parent) = (Podman::with(&["postgres-18"]), Server::new(), Repo::new(), open_folder());
    server.database("app", "CREATE TABLE t AS SELECT generate_series(1, 100) AS n");
    let mut manifest = server.back_up(&repo, "app");
    // What version 15 dumps, 18 restores.
    manifest.report.tools.iter_mut().find(|tool| tool.name == "postgresql").unwrap().version = "18.0".into();
    let made = postgres(&manifest, podman.place(&parent, "localhost/postgres-18:latest"));
    let mut sandbox = restored(made, &repo, "/postgres/app");
    passed(&examined(&mut *sandbox, &manifest.report), &["table data public.t content"]);
    assert_eq!(asked(&mut *sandbox, &Question::Sql("SELECT sum(n) FROM t".into())).as_deref(), Some("5050"));
    assert!(sandbox.facts().engine.unwrap().version.starts_with("18."));
}

#[test]
#[ignore = "needs podman, images, mariadbd, redis-server and ferretdb"]
fn the_other_engines_pass_in_their_containers_too() {
    let (podman, parent) = (Podman::with(&["mariadb", "redis", "ferretdb"]), open_folder());

    let (server, repo) = (crate::sandbox_mysql::with_app(&Flavour::all()[0]), Repo::new());
    let manifest = crate::sandbox_mysql::back_up(&server, &repo);
    let made = MysqlSandbox::new(manifest.clone(), podman.place(&parent, "mariadb"), Vec::new());
    let mut sandbox = restored(Box::new(made), &repo, "/mysql/app");
    let ids = ["table users count", "table users content", "check table users", "event tidies definition"];
    passed(&examined(&mut *sandbox, &manifest.report), &ids);
    assert_eq!(asked(&mut *sandbox, &Question::Sql("SELECT count(*) FROM newest".into())).as_deref(), Some("10"));
    sandbox.remove().unwrap();
    let older = MysqlSandbox::new(manifest, podman.place(&parent, "redis"), Vec::new());
    let reason = not_run(Box::new(older), LITTLE, parent.path());
    assert_eq!(reason, "MariaDB 10.11 is not installed in the image redis");

    let (server, repo) = (crate::redis::Server::with_zoo(&[]), Repo::new());
    let manifest = crate::sandbox_redis::back_up(&server, &repo);
    let of = |manifest: &Manifest| {
        let place = podman.place(&parent, "redis");
        Box::new(RedisSandbox::new(manifest.clone(), place, Vec::new(), Arc::new(SystemClock)))
    };
    let mut sandbox = restored(of(&manifest), &repo, "/redis/r");
    passed(&examined(&mut *sandbox, &manifest.report), &["database 3 content"]);
    let question = Question::Engine(["GET", "text"].map(str::to_owned).to_vec());
    assert_eq!(asked(&mut *sandbox, &question).as_deref(), Some("plain"));
    sandbox.remove().unwrap();
    let mut newer = manifest;
    newer.report.tools.iter_mut().find(|tool| tool.name == "redis").unwrap().version = "8.0.1".into();
    let reason = not_run(of(&newer), LITTLE, parent.path());
    assert_eq!(reason, "the dump is of version 8.0, and redis-server in the image redis has 7.0");

    let (server, repo) = (crate::mongodb_server::Server::new(crate::mongodb_server::Kind::Ferret), Repo::new());
    crate::mongodb::fill(&server, "app");
    let dump: MongodbDump = crate::sandbox_mongodb::back_up(&server, &repo);
    let made = MongodbSandbox::new(dump.clone(), podman.place(&parent, "ferretdb"), Vec::new());
    let mut sandbox = restored(Box::new(made), &repo, "/mongodb/app");
    passed(&examined(&mut *sandbox, &dump.manifest.report), &["collection users count", "collection users content"]);
    sandbox.remove().unwrap();
    assert_eq!((podman.containers(), left(parent.path())), (String::new(), vec![]));
}
