//! A dump that attacks whoever restores it: it runs a program as soon as its rows are loaded, which tries the network,
//! production's socket, and a file of somebody else's. The attack itself is shown to work where nothing stops it.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use backup_core::cancel::Cancel;
use backup_core::contracts::Question;
use backup_sources::databases::postgres::PostgresSandbox;
use backup_sources::sandbox::{Namespaces, SandboxPlace};

use crate::drill::{examined, failed, left, restored};
use crate::postgres_server::{Server, as_nobody, open_folder};
use crate::repository::Repo;

/// What it does, in a folder of its own, against a port, a socket and a file.
struct Attack {
    script: String,
    listener: TcpListener,
    mark: std::path::PathBuf,
}

impl Attack {
    fn new(server: &Server, prey: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (port, mark) = (listener.local_addr().unwrap().port(), prey.join("mark"));
        let (mark_path, psql) = (mark.display(), server.programs.join("psql"));
        let script = format!(
            "echo ran >ran; echo x >{mark_path}; (exec 3<>/dev/tcp/127.0.0.1/{port}); \
             {} -X -h {} -U postgres -d app -c \"CREATE TABLE pwned ()\"; true",
            psql.display(),
            server.folder.path().display()
        );
        Self { script, listener, mark }
    }

    /// What of it has come through since it was asked last.
    fn reached(&self, server: &Server) -> Vec<&'static str> {
        let mut reached = Vec::new();
        match self.listener.accept() {
            Ok(_) => reached.push("network"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        if fs::remove_file(&self.mark).is_ok() {
            reached.push("file");
        }
        if server.sql("app", "SELECT to_regclass('pwned')") == "pwned" {
            server.sql("app", "DROP TABLE pwned");
            reached.push("socket");
        }
        reached
    }
}

/// A table whose rows, when they are loaded anywhere but in production, run `script` in the server's data folder.
fn bait(script: &str) -> String {
    format!(
        "CREATE FUNCTION attack(v text) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN
             IF current_setting('cluster_name') = 'production' THEN RETURN true; END IF;
             COPY (SELECT 1) TO PROGRAM $p$bash -c '{script}'$p$;
             RETURN true;
         EXCEPTION WHEN OTHERS THEN RETURN true; END $f$;
         CREATE TABLE bait (v text CHECK (attack(v)));
         INSERT INTO bait VALUES ('x');"
    )
}

/// Loads the attack, and says whether its program ran.
fn attacked(namespaces: Namespaces) -> (bool, bool) {
    let (server, repo, parent, prey) = (Server::new(), Repo::new(), open_folder(), open_folder());
    fs::set_permissions(prey.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let attack = Attack::new(&server, prey.path());
    server.database("app", &bait(&attack.script));
    // Where nothing stops it, it does all that it is meant to.
    let free = as_nobody(Path::new("bash"), prey.path()).args(["-c", &attack.script]).output().unwrap();
    assert_eq!(attack.reached(&server), ["network", "file", "socket"], "{}", String::from_utf8_lossy(&free.stderr));

    let manifest = server.back_up(&repo, "app");
    let place = SandboxPlace { namespaces, ..SandboxPlace::new(parent.path()) };
    let sandbox = Box::new(PostgresSandbox::new(manifest.clone(), place, server.folders()));
    let mut sandbox = restored(sandbox, &repo, "/postgres/app");
    assert_eq!(failed(&examined(&mut *sandbox, &manifest.report)), Vec::<&str>::new());
    assert_eq!(attack.reached(&server), Vec::<&str>::new());
    let drill = parent.path().join(left(parent.path()).pop().unwrap());
    let has_run = drill.join("own/data/ran").exists();
    let has_walls = sandbox.facts().isolation.iter().any(|text| text == "no network");
    sandbox.remove().unwrap();
    (has_run, has_walls)
}

#[test]
#[ignore = "needs postgres-15"]
fn a_program_that_a_dump_starts_behind_walls_reaches_nothing() {
    let (has_run, has_walls) = attacked(Namespaces::WherePossible);
    // Behind walls a superuser restores, so it runs, into nothing.
    assert_eq!(has_run, has_walls);
}

#[test]
#[ignore = "needs postgres-15"]
fn without_walls_a_dump_starts_no_program() {
    assert_eq!(attacked(Namespaces::Never), (false, false));
}

#[test]
#[ignore = "needs postgres-15"]
fn a_program_that_a_dump_starts_leads_the_drill_to_no_other_server() {
    let (server, repo, parent) = (Server::new(), Repo::new(), open_folder());
    let production = server.folder.path().join(".s.PGSQL.5432");
    server.database("app", &bait(&format!("ln -sf {} ../.s.PGSQL.5432", production.display())));
    let manifest = server.back_up(&repo, "app");
    let sandbox = Box::new(PostgresSandbox::new(manifest, SandboxPlace::new(parent.path()), server.folders()));
    let mut sandbox = restored(sandbox, &repo, "/postgres/app");
    let has_walls = sandbox.facts().isolation.iter().any(|text| text == "no network");
    let socket = parent.path().join(left(parent.path()).pop().unwrap()).join("own/.s.PGSQL.5432");
    // Behind walls it runs, and has put its link where the socket was.
    assert_eq!(fs::read_link(&socket).ok(), has_walls.then_some(production));
    let question = Question::Sql("SELECT current_setting('cluster_name')".to_owned());
    let answer = sandbox.ask(&question, &Cancel::new()).unwrap();
    assert_ne!(answer.0.as_deref(), Some("production"));
    sandbox.remove().unwrap();
}
