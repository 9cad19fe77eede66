//! PostgreSQL's sandboxes: a good backup passes, each kind of damage fails for its own reason, and what cannot run says
//! so before anything is started.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use backup_core::cancel::Cancel;
use backup_core::contracts::{Answer, Check, CheckResult, Expectation, Level, Question, Sandbox};
use backup_core::testing::{copy_program, write_program};
use backup_sources::databases::manifest::Manifest;
use backup_sources::databases::postgres::{Folders, PostgresSandbox, PostgresScratch};
use backup_sources::sandbox::{Namespaces, SandboxPlace};
use tempfile::TempDir;

use crate::drill::{LITTLE, TOO_MUCH, examined, failed, left, load, not_run, restored};
use crate::postgres_server::{NOBODY, Server, as_nobody, is_root, open_folder, programs};
use crate::repository::Repo;

/// A little of everything that is compared.
const APP: &str = "
CREATE EXTENSION pg_trgm;
CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL, joined timestamptz);
INSERT INTO users (name, joined)
    SELECT 'user ' || n, '2026-01-01 00:00:00Z'::timestamptz + n * interval '1 hour' FROM generate_series(1, 1000) n;
CREATE INDEX users_name ON users (name);
CREATE INDEX users_trgm ON users USING gin (name gin_trgm_ops);
CREATE TABLE empty (id integer GENERATED ALWAYS AS IDENTITY, v numeric);
CREATE VIEW newest AS SELECT * FROM users ORDER BY id DESC LIMIT 10;
CREATE FUNCTION twice(integer) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RETURN $1 * 2; END $$;
CREATE MATERIALIZED VIEW doubled AS SELECT id, twice(id) AS d FROM users;
SELECT lo_from_bytea(0, 'a large object');
";

/// The application's own role and grants, which walls are needed for.
const ROLES: &str = "
CREATE ROLE app_owner; CREATE ROLE app_reader LOGIN PASSWORD 'x';
ALTER TABLE users OWNER TO app_owner; GRANT SELECT ON users TO app_reader;
ALTER TABLE empty ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON empty TO app_reader USING (true);
CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE EVENT TRIGGER noted ON ddl_command_start EXECUTE FUNCTION noted();
";

fn place(parent: &TempDir, namespaces: Namespaces) -> SandboxPlace {
    SandboxPlace { namespaces, ..SandboxPlace::new(parent.path()) }
}

fn sandbox(server: &Server, manifest: &Manifest, parent: &TempDir) -> Box<dyn Sandbox> {
    let place = place(parent, Namespaces::WherePossible);
    Box::new(PostgresSandbox::new(manifest.clone(), place, server.folders()))
}

/// Whether the sandboxes of this machine have walls, which then is what is tested.
fn has_walls(sandbox: &dyn Sandbox) -> bool {
    sandbox.facts().isolation.iter().any(|text| text == "no network")
}

fn result_of<'a>(checks: &'a [Check], id: &str) -> &'a Check {
    checks.iter().find(|check| check.id == id).unwrap_or_else(|| panic!("no check {id:?} in {checks:#?}"))
}

fn asked(sandbox: &mut dyn Sandbox, sql: &str) -> Option<String> {
    let Answer(answer) = sandbox.ask(&Question::Sql(sql.into()), &Cancel::new()).unwrap();
    answer
}

fn a_good_backup_passes(namespaces: Namespaces, script: &str) {
    let (server, repo, parent) = (Server::new(), Repo::new(), open_folder());
    server.database("app", script);
    let manifest = server.back_up(&repo, "app");
    let place = place(&parent, namespaces);
    let sandbox = Box::new(PostgresSandbox::new(manifest.clone(), place, server.folders()));
    let mut sandbox = restored(sandbox, &repo, "/postgres/app");
    let checks = examined(&mut *sandbox, &manifest.report);
    assert_eq!(failed(&checks), Vec::<&str>::new(), "{checks:#?}");
    assert!(checks.iter().all(|check| check.level == Level::Examined));
    for id in ["table data public.users count", "table data public.users content", "pg_amcheck", "invalid indexes"] {
        assert_eq!(result_of(&checks, id).result, CheckResult::Passed, "{id}");
    }
    assert_eq!(asked(&mut *sandbox, "SELECT count(*) > 0 FROM users;").as_deref(), Some("true"));
    assert_eq!(
        asked(&mut *sandbox, "SELECT max(joined) FROM users -- the newest").as_deref(),
        Some("2026-02-11T16:00:00Z")
    );
    assert_eq!(asked(&mut *sandbox, "SELECT v FROM empty"), None);
    for wrong in [
        "SELECT repeat('x', 100000000)",
        "DELETE FROM users RETURNING 1",
        "SELECT id FROM users",
        "SELECT lo_unlink(oid) FROM pg_largeobject_metadata",
    ] {
        assert!(sandbox.ask(&Question::Sql(wrong.into()), &Cancel::new()).is_err(), "{wrong}");
    }
    let psql = server.programs.join("psql").display().to_string();
    let program = [psql.as_str(), "-Atc", "SELECT count(*) FROM users"].map(str::to_owned).to_vec();
    let Answer(answer) = sandbox.ask(&Question::Program(program), &Cancel::new()).unwrap();
    assert_eq!(answer.as_deref(), Some("1000"));
    assert_eq!(sandbox.facts().engine.unwrap().version.split('.').next(), Some("15"));
    assert!(!sandbox.caveats().not_tested.is_empty());
    sandbox.remove().unwrap();
    assert_eq!(left(parent.path()), Vec::<String>::new());
}

#[test]
#[ignore = "needs postgres-15"]
fn a_good_backup_passes_with_what_walls_the_system_allows() {
    a_good_backup_passes(Namespaces::WherePossible, APP);
}

#[test]
#[ignore = "needs postgres-15"]
fn a_good_backup_passes_without_namespaces_by_one_who_is_no_superuser() {
    a_good_backup_passes(Namespaces::Never, APP);
}

/// What a program says of itself: its uid, whether it reaches a port of this machine and a file that everybody may read
/// there, what it has of the caller's environment, and whether it gives way.
fn of_itself(port: u16, file: &Path) -> String {
    format!(
        "id -u; (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>&- && echo network; [ -r '{}' ] && echo file; \
         [ -n \"$CARGO_MANIFEST_DIR\" ] && echo environment; ionice",
        file.display()
    )
}

#[test]
#[ignore = "needs postgres-15"]
fn a_good_backup_passes_through_client_programs_that_reach_nothing_else() {
    let (server, repo, parent, bin) = (Server::new(), Repo::new(), open_folder(), open_folder());
    server.database("app", APP);
    let manifest = server.back_up(&repo, "app");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let prey = bin.path().join("prey");
    fs::write(&prey, "x").unwrap();
    let script = of_itself(listener.local_addr().unwrap().port(), &prey);
    let programs = bin.path().join("lib/bin");
    fs::create_dir_all(&programs).unwrap();
    for name in ["initdb", "postgres", "pg_dump", "pg_restore", "pg_amcheck"] {
        let (stands, real) = (programs.join(name), server.programs.join(name));
        if ["initdb", "postgres"].contains(&name) {
            std::os::unix::fs::symlink(&real, &stands).unwrap();
            continue;
        }
        let real = real.display();
        let text =
            format!("#!/bin/bash\n[ $# -lt 2 ] || {{ {script}; }} >\"$HOME/$(basename \"$0\")\"\nexec {real} \"$@\"\n");
        write_program(&stands, &text);
    }
    for namespaces in [Namespaces::WherePossible, Namespaces::Never] {
        let shown = server.programs.parent().map(Path::to_owned).into_iter().collect();
        let place = SandboxPlace { shown, ..place(&parent, namespaces) };
        let folders = Folders { only: Some(programs.clone()), also: Vec::new() };
        let mut sandbox =
            restored(Box::new(PostgresSandbox::new(manifest.clone(), place, folders)), &repo, "/postgres/app");
        assert_eq!(failed(&examined(&mut *sandbox, &manifest.report)), Vec::<&str>::new());
        let own = parent.path().join(left(parent.path()).pop().unwrap()).join("clients");
        let said = |name: &str| fs::read_to_string(own.join(name)).unwrap();
        let command = ["bash", "-c", script.as_str()].map(str::to_owned).to_vec();
        let Answer(answer) = sandbox.ask(&Question::Program(command), &Cancel::new()).unwrap();
        for said in [said("pg_restore"), said("pg_dump"), said("pg_amcheck"), answer.unwrap()] {
            let lines: Vec<&str> = said.lines().collect();
            let uid: u32 = lines[0].parse().unwrap();
            assert_eq!(uid == rustix::process::geteuid().as_raw(), !is_root(), "{said}");
            assert!(!lines.contains(&"environment") && lines.contains(&"idle"), "{said}");
            assert_eq!(lines.contains(&"network") || lines.contains(&"file"), !has_walls(&*sandbox), "{said}");
        }
        let isolation = sandbox.facts().isolation;
        assert_eq!(
            isolation.contains(&"client programs and commands behind the same walls".to_owned()),
            has_walls(&*sandbox),
            "{isolation:?}"
        );
        sandbox.remove().unwrap();
    }
}

#[test]
#[ignore = "needs postgres-15"]
fn behind_walls_roles_grants_and_what_only_a_superuser_makes_come_back() {
    let (server, repo, parent) = (Server::new(), Repo::new(), open_folder());
    server.database("postgres2", APP);
    server.sql("postgres2", ROLES);
    let manifest = server.back_up(&repo, "postgres2");
    let place = place(&parent, Namespaces::Never);
    let reason =
        not_run(Box::new(PostgresSandbox::new(manifest.clone(), place, server.folders())), LITTLE, parent.path());
    assert!(reason.contains("only a superuser makes the event trigger noted"), "{reason}");
    let mut made = sandbox(&server, &manifest, &parent);
    if made.start(LITTLE, &Cancel::new()).is_err() {
        // No walls here: it says so, as above.
        return;
    }
    drop(made);
    let mut made = restored(sandbox(&server, &manifest, &parent), &repo, "/postgres/postgres2");
    let checks = examined(&mut *made, &manifest.report);
    assert_eq!(failed(&checks), Vec::<&str>::new(), "{checks:#?}");
    assert!(checks.iter().any(|check| check.id.starts_with("acl ") && check.result == CheckResult::Passed));
}

#[test]
#[ignore = "needs postgres-15"]
fn rights_that_a_restorer_lacks_are_no_fault_of_the_backup() {
    let (server, repo, parent) = (Server::new(), Repo::new(), open_folder());
    server.database(
        "app",
        "CREATE ROLE somebody; CREATE TABLE t (n integer); CREATE POLICY p ON t TO somebody USING (true);",
    );
    let manifest = server.back_up(&repo, "app");
    let place = place(&parent, Namespaces::Never);
    let mut made = PostgresSandbox::new(manifest, place, server.folders());
    made.start(LITTLE, &Cancel::new()).unwrap();
    let target = made.target().unwrap();
    repo.restore("/postgres/app", &*target).unwrap();
    let error = made.ready().unwrap_err();
    assert!(error.is_ours && error.reason.contains("somebody"), "{error}");
}

#[test]
#[ignore = "needs postgres-15"]
fn a_database_called_postgres_is_restored_as_itself() {
    let (server, repo, parent) = (Server::new(), Repo::new(), open_folder());
    server.sql(
        "postgres",
        "CREATE TABLE t AS SELECT 1 AS n; COMMENT ON DATABASE postgres IS 'x'; CREATE ROLE r;
         GRANT CREATE ON DATABASE postgres TO r",
    );
    let manifest = server.back_up(&repo, "postgres");
    let mut made = restored(sandbox(&server, &manifest, &parent), &repo, "/postgres/postgres");
    assert_eq!(failed(&examined(&mut *made, &manifest.report)), Vec::<&str>::new());
}

#[test]
#[ignore = "needs postgres-15"]
fn a_dump_that_is_cut_off_empty_or_anothers_is_not_restored() {
    let (server, repo, parent) = (Server::new(), Repo::new(), open_folder());
    server.database("app", APP);
    let manifest = server.back_up(&repo, "app");
    let dump = repo.file("/postgres/app/dump");
    for (what, bytes, words) in [
        ("cut at 5 %", &dump[..dump.len() / 20], "ends"),
        ("cut at 95 %", &dump[..dump.len() * 19 / 20], "ends"),
        ("empty", &dump[..0], "ends"),
        ("something else", &b"CREATE TABLE t (n integer);\n"[..], "dump"),
    ] {
        let mut made = sandbox(&server, &manifest, &parent);
        let error = load(&mut *made, &[("dump", bytes)]).unwrap_err();
        assert!(error.reason.contains(words), "{what}: {error}");
    }
    // A row that is another, in as many bytes.
    let mut altered = dump.clone();
    let at = dump.windows(7).position(|bytes| bytes == b"user 7\t").unwrap();
    altered[at + 5] = b'0';
    let mut made = sandbox(&server, &manifest, &parent);
    let error = load(&mut *made, &[("dump", &altered)]).unwrap_err();
    assert!(error.reason.contains("has another content"), "{error}");
    server.sql("app", "DELETE FROM users WHERE id = 7");
    server.back_up(&repo, "app");
    let mut made = sandbox(&server, &manifest, &parent);
    // Where its data was, something else is.
    load(&mut *made, &[("dump", &repo.file("/postgres/app/dump"))]).unwrap_err();
    // As it was backed up before manifests said where data is.
    let mut old = manifest.clone();
    old.details.remove("data_begins").unwrap();
    let mut made = sandbox(&server, &old, &parent);
    let error = load(&mut *made, &[("dump", &repo.file("/postgres/app/dump"))]).unwrap_err();
    assert!(error.reason.contains("table data public.users: 999 instead of 1000"), "{error}");
    let mut made = sandbox(&server, &old, &parent);
    load(&mut *made, &[("dump", &dump)]).unwrap();
    assert_eq!(failed(&examined(&mut *made, &old.report)), Vec::<&str>::new());
}

#[test]
#[ignore = "needs postgres-15"]
fn what_is_not_as_it_was_fails_by_its_name() {
    let (server, parent) = (Server::new(), open_folder());
    server.database("app", APP);
    let original = server.back_up(&Repo::new(), "app").report;
    for (script, undo, expected) in [
        (
            "DELETE FROM users WHERE id = 7",
            "INSERT INTO users VALUES (7, 'user 7', '2026-01-01 07:00:00Z')",
            &["table data public.users count", "table data public.users content"][..],
        ),
        (
            "UPDATE users SET name = 'someone else' WHERE id = 7",
            "UPDATE users SET name = 'user 7' WHERE id = 7",
            &["table data public.users content"],
        ),
        ("DROP INDEX users_name", "CREATE INDEX users_name ON users (name)", &["index public.users_name"]),
        (
            "SELECT setval('users_id_seq', 500)",
            "SELECT setval('users_id_seq', 1000)",
            &["sequence set public.users_id_seq value", "sequence public.users_id_seq ahead of public.users.id"],
        ),
        ("CREATE TABLE more (n integer)", "DROP TABLE more", &["table public.more"]),
    ] {
        server.sql("app", script);
        let repo = Repo::new();
        let altered = server.back_up(&repo, "app");
        server.sql("app", undo);
        let mut made = restored(sandbox(&server, &altered, &parent), &repo, "/postgres/app");
        let checks = examined(&mut *made, &original);
        assert_eq!(failed(&checks), expected, "{script}");
    }
}

#[test]
#[ignore = "needs postgres-15"]
fn a_sequence_that_was_behind_already_is_a_warning() {
    let (server, repo, parent) = (Server::new(), Repo::new(), open_folder());
    server.database("app", "CREATE TABLE t (id serial PRIMARY KEY); INSERT INTO t VALUES (5), (6);");
    let manifest = server.back_up(&repo, "app");
    let mut made = restored(sandbox(&server, &manifest, &parent), &repo, "/postgres/app");
    let checks = examined(&mut *made, &manifest.report);
    assert_eq!(failed(&checks), Vec::<&str>::new());
    assert_eq!(result_of(&checks, "sequence public.t_id_seq ahead of public.t.id").result, CheckResult::NotTested);
    assert!(made.caveats().warnings[0].contains("public.t_id_seq is behind"), "{:?}", made.caveats());
}

#[test]
#[ignore = "needs postgres-15"]
fn a_collation_of_another_version_is_a_warning_with_its_cause() {
    let (server, repo, parent) = (Server::new(), Repo::new(), open_folder());
    server.sql("postgres", "CREATE DATABASE app TEMPLATE template0 ENCODING UTF8 LOCALE_PROVIDER icu ICU_LOCALE 'en'");
    server.sql("app", "CREATE TABLE t AS SELECT 1 AS n");
    let mut manifest = server.back_up(&repo, "app");
    let version = manifest.details["collation_version"].as_str().unwrap().to_owned();
    manifest.details.insert("collation_version".into(), "1.2.3".into());
    let mut made = restored(sandbox(&server, &manifest, &parent), &repo, "/postgres/app");
    assert_eq!(failed(&examined(&mut *made, &manifest.report)), Vec::<&str>::new());
    let told = made.caveats().warnings.join("\n");
    assert!(told.contains(&format!("version is {version} here and was 1.2.3 there")), "{told}");
}

#[test]
#[ignore = "needs postgres-15"]
fn what_cannot_run_here_says_so_and_starts_nothing() {
    let (server, repo, parent) = (Server::new(), Repo::new(), open_folder());
    server.database("app", "CREATE TABLE t (n integer)");
    let good = server.back_up(&repo, "app");
    let mut other = good.clone();
    other.report.tools.iter_mut().for_each(|tool| tool.version = "9.6.24".into());
    let reason = not_run(sandbox(&server, &other, &parent), LITTLE, parent.path());
    assert!(reason.starts_with("PostgreSQL 9 is not installed here, but 15"), "{reason}");
    let nowhere = Folders { only: Some(parent.path().join("bin")), also: Vec::new() };
    let place = place(&parent, Namespaces::WherePossible);
    let reason = not_run(Box::new(PostgresSandbox::new(good.clone(), place, nowhere)), LITTLE, parent.path());
    assert_eq!(reason, "PostgreSQL 15 is not installed here");
    let mut other = good.clone();
    let (kind, object) = ("extension".to_owned(), "no_such_thing".to_owned());
    other.report.expectations.push(Expectation { kind, object, count: None, hash: None });
    let reason = not_run(sandbox(&server, &other, &parent), LITTLE, parent.path());
    assert_eq!(reason, "the extension no_such_thing is not installed here");
    let reason = not_run(sandbox(&server, &good, &parent), TOO_MUCH, parent.path());
    assert!(reason.contains("bytes in") && reason.contains("are free"), "{reason}");
    let place = SandboxPlace::new(parent.path().join("not there"));
    let mut nowhere = PostgresSandbox::new(good, place, server.folders());
    assert!(nowhere.start(LITTLE, &Cancel::new()).unwrap_err().to_string().contains("not there"));
}

#[test]
#[ignore = "needs postgres-18"]
fn a_version_in_another_place_is_shown_to_its_programs() {
    let (server, repo, parent) = (Server::new(), Repo::new(), open_folder());
    server.database("app", "CREATE TABLE t AS SELECT generate_series(1, 100) AS n");
    let mut manifest = server.back_up(&repo, "app");
    // What version 15 dumps, 18 restores.
    let server = manifest.report.tools.iter_mut().find(|tool| tool.name == "postgresql").unwrap();
    server.version = "18.0".into();
    let programs = programs(18);
    // Their libraries lie beside their package.
    let shown = vec![programs.ancestors().nth(3).unwrap().to_owned()];
    let place = SandboxPlace { shown, ..SandboxPlace::new(parent.path()) };
    let folders = Folders { only: Some(programs), also: Vec::new() };
    let mut made: Box<dyn Sandbox> = Box::new(PostgresSandbox::new(manifest.clone(), place, folders));
    match made.start(LITTLE, &Cancel::new()) {
        Ok(()) => {}
        // Without namespaces nobody can enter a folder of root's.
        Err(error) => return assert!(!has_walls(&*made), "{error}"),
    }
    let target = made.target().unwrap();
    repo.restore("/postgres/app", &*target).unwrap();
    drop(target);
    made.ready().unwrap();
    assert_eq!(asked(&mut *made, "SELECT sum(n) FROM t").as_deref(), Some("5050"));
    let checks = examined(&mut *made, &manifest.report);
    assert_eq!(result_of(&checks, "table data public.t content").result, CheckResult::Passed);
    assert_eq!(result_of(&checks, "pg_amcheck").result, CheckResult::NotTested);
}

#[test]
#[ignore = "needs postgres-15"]
fn on_a_server_for_drills_a_database_is_made_and_dropped() {
    let (source, scratch, repo, parent) = (Server::new(), Server::new(), Repo::new(), open_folder());
    source.database("app", APP);
    let manifest = source.back_up(&repo, "app");
    scratch.sql("postgres", "CREATE ROLE drill LOGIN CREATEDB; CREATE ROLE poor LOGIN;");
    let made = |server: &Server, user: &str, manifest: &Manifest| -> Box<dyn Sandbox> {
        Box::new(PostgresScratch::new(manifest.clone(), server.address(user), parent.path().to_owned()))
    };
    let databases =
        || scratch.sql("postgres", "SELECT string_agg(datname, ' ') FROM pg_database WHERE datname ~ '^backup'");

    let mut sandbox = restored(made(&scratch, "drill", &manifest), &repo, "/postgres/app");
    let checks = examined(&mut *sandbox, &manifest.report);
    assert_eq!(failed(&checks), Vec::<&str>::new(), "{checks:#?}");
    assert_eq!(asked(&mut *sandbox, "SELECT count(*) FROM users").as_deref(), Some("1000"));
    assert!(databases().starts_with("backup_drill_"));
    sandbox.remove().unwrap();
    assert_eq!((databases(), left(parent.path())), (String::new(), vec![]));

    // Somebody has put another in its place: that one is not dropped.
    let mut sandbox = made(&scratch, "drill", &manifest);
    sandbox.start(LITTLE, &Cancel::new()).unwrap();
    let name = databases();
    scratch.sql("postgres", &format!("DROP DATABASE {name} WITH (FORCE); CREATE DATABASE {name} OWNER drill"));
    let error = sandbox.remove().unwrap_err();
    assert!(error.reason.contains("left alone"), "{error}");
    assert_eq!(databases(), name);
    // Nor by the next one: it does not bear its mark. One that does, without a session, is a killed drill's.
    scratch.sql(
        "postgres",
        "CREATE DATABASE backup_drill_old OWNER drill; COMMENT ON DATABASE backup_drill_old IS 'made by a drill, 1'",
    );
    let mut sandbox = made(&scratch, "drill", &manifest);
    sandbox.start(LITTLE, &Cancel::new()).unwrap();
    assert!(sandbox.caveats().warnings[0].contains("backup_drill_old of a killed drill was dropped"));
    sandbox.remove().unwrap();
    assert_eq!(databases(), name);

    for (server, user, manifest, words) in [
        (&source, "postgres", manifest.clone(), "the one that was backed up"),
        (&scratch, "postgres", manifest.clone(), "superuser"),
        (&scratch, "poor", manifest.clone(), "CREATEDB"),
        (
            &scratch,
            "drill",
            {
                let mut other = manifest.clone();
                other.details.remove("system");
                other
            },
            "not known whether",
        ),
    ] {
        let reason = not_run(made(server, user, &manifest), LITTLE, parent.path());
        assert!(reason.contains(words), "{reason}");
    }
}

#[test]
#[ignore = "needs postgres-15"]
fn a_plain_user_drills_as_root_does() {
    if !is_root() {
        // All the other tests are this one.
        return;
    }
    let folder = open_folder();
    std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
    let program = folder.path().join("tests");
    copy_program(&std::env::current_exe().unwrap(), &program);
    let mut tests = as_nobody(&program, folder.path());
    tests.args(["--ignored", "sandbox_postgres::a_good_backup_passes", "sandbox_hostile"]);
    let ended = tests.env("TMPDIR", folder.path()).env("HOME", folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("6 passed"), "{said}");
}
