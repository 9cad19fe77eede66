//! A pooler before the server, which hands sessions on to other programs: nothing of ours may stay in one.

use std::fs;
use std::os::unix::fs::chown;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use backup_core::testing::copy_program;

use crate::driver::Ran;
use crate::server::{NOBODY, Server, as_nobody};

/// Where the pooler listens, beside the server's own 5432.
const PORT: &str = "6432";

/// pgbouncer in transaction mode, with two sessions that take turns. Ended when it is dropped.
struct Pooler(Child);

impl Pooler {
    fn start(server: &Server) -> Self {
        let named = std::env::var_os("BACKUP_TEST_PGBOUNCER").expect("BACKUP_TEST_PGBOUNCER names a program");
        let program = server.world.path().join("pgbouncer");
        copy_program(named.as_ref(), &program);
        let folder = server.folder();
        let settings = folder.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={0} port=5432 user=postgres\n[pgbouncer]\nunix_socket_dir={0}\nlisten_port={PORT}\n\
             auth_type=any\npool_mode=transaction\ndefault_pool_size=2\nserver_round_robin=1\n",
            folder.display()
        );
        fs::write(&settings, text).unwrap();
        if nix::unistd::geteuid().is_root() {
            chown(&settings, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut command = as_nobody(&program, folder);
        command.arg("-q").arg(settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program finds in a session that the pooler gives it.
fn found(server: &Server) -> Option<String> {
    let mut asked: Command = server.command("psql");
    asked.env("PGPORT", PORT).args([
        "-XAt",
        "-c",
        "SELECT count(*) FROM users; SHOW search_path; SHOW lock_timeout",
        "app",
    ]);
    let said = asked.output().unwrap();
    said.status.success().then(|| String::from_utf8(said.stdout).unwrap().lines().collect::<Vec<_>>().join(" "))
}

#[test]
#[ignore = "needs postgres-15, pgbouncer"]
fn a_session_that_a_pooler_hands_on_is_as_it_was() {
    let server = Server::start(15, &[]);
    server.database(
        "app",
        "CREATE TABLE users AS SELECT generate_series(1, 10); ALTER DATABASE app SET lock_timeout = '7s'",
    );
    let _pooler = Pooler::start(&server);
    let began = Instant::now();
    while found(&server).is_none() {
        assert!(began.elapsed() < Duration::from_secs(180), "the pooler does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    let url = server.url("app") + "&port=" + PORT;
    for _ in 0..3 {
        Ran::of(&server.backup().args(["create", "--quiet", &url]).output().unwrap()).succeeds();
        // Each of the sessions, more than once.
        for _ in 0..6 {
            assert_eq!(found(&server).as_deref(), Some("10 \"$user\", public 7s"));
        }
    }
}
