//! MariaDB from the command line: where its password comes from, and what comes back.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::driver::{Ran, World};

/// A server in the world's folder, with a user `u` whose password is `s3 cret`.
struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    fn new(world: &World) -> Self {
        let program = program();
        let (data, socket) = (world.path().join("data"), world.path().join("socket"));
        let top = program.ancestors().nth(2).unwrap();
        let as_root = nix::unistd::geteuid().is_root().then_some("--user=root");
        let mut install = Command::new(programs().join("mariadb-install-db"));
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.arg(format!("--basedir={}", top.display())).arg(format!("--datadir={}", data.display()));
        install.arg(format!("--tmpdir={}", world.path().display())).args(["--innodb-log-file-size=8M"]).args(as_root);
        assert!(install.output().unwrap().status.success());
        let mut run = Command::new(&program);
        run.args(["--no-defaults", "--skip-networking", "--innodb-log-file-size=8M"]).args(as_root);
        run.args(["--innodb-flush-method=nosync", "--innodb-doublewrite=0", "--innodb-flush-log-at-trx-commit=0"]);
        run.arg(format!("--datadir={}", data.display())).arg(format!("--socket={}", socket.display()));
        run.arg(format!("--tmpdir={}", world.path().display()));
        run.arg(format!("--lc-messages-dir={}", top.join("share/mysql").display()));
        run.arg(format!("--character-sets-dir={}", top.join("share/mysql/charsets").display()));
        let child = run.current_dir(world.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, socket };
        let began = Instant::now();
        while server.try_sql("SELECT 1").is_none() {
            assert!(began.elapsed() < Duration::from_secs(180), "the server does not start");
            thread::sleep(Duration::from_millis(50));
        }
        server.sql("CREATE USER u@localhost IDENTIFIED BY 's3 cret'; GRANT ALL ON *.* TO u@localhost");
        server
    }

    fn try_sql(&self, sql: &str) -> Option<String> {
        let mut client = Command::new(programs().join("mariadb"));
        client.args(["--no-defaults", "--user=root", "--batch", "--skip-column-names"]);
        client.arg(format!("--socket={}", self.socket.display()));
        let client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut client = client.unwrap();
        let _ = client.stdin.take().unwrap().write_all(sql.as_bytes());
        let output = client.wait_with_output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap()
    }

    fn url(&self, who: &str, database: &str) -> String {
        format!("mysql://{who}{}/{database}", self.socket.display().to_string().replace('/', "%2F"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    std::env::var_os("BACKUP_TEST_MARIADBD").expect("scripts/tools mariadbd says where it is").into()
}

fn programs() -> PathBuf {
    program().ancestors().nth(2).unwrap().join("bin")
}

/// Runs the program with a home, and a password in the environment if there is one.
fn run(world: &World, home: &Path, password: Option<&str>, arguments: &[&str]) -> Ran {
    let mut command = world.command();
    command.env("HOME", home).env("BACKUP_MYSQL_BIN", programs()).arg("--json").args(arguments);
    command.envs(password.map(|password| ("MYSQL_PWD", password)));
    Ran::of(&command.output().unwrap())
}

#[test]
#[ignore = "needs mariadbd"]
fn a_database_goes_into_a_repository_and_comes_back_whoever_knows_the_password() {
    let world = World::with_repository();
    let server = Server::new(&world);
    server
        .sql("CREATE DATABASE app; CREATE TABLE app.t (id INT PRIMARY KEY, v TEXT); INSERT INTO app.t VALUES (1, 'a')");
    let (bare, home) = (world.path().join("bare"), world.path().join("home"));
    fs::create_dir(&bare).unwrap();
    fs::create_dir(&home).unwrap();
    fs::write(home.join(".my.cnf"), "[client]\nuser=u\npassword=\"s3 cret\"\n").unwrap();
    let (asked, named) = (server.url("u@", "app"), server.url("u:s3%20cret@", "app"));
    // The environment, the programs' own file, which may name the user too, and the URL, which comes before both.
    for (home, password, url) in [
        (&bare, Some("s3 cret"), &asked),
        (&home, None, &asked),
        (&home, None, &server.url("", "app")),
        (&home, Some("wrong"), &named),
    ] {
        let summary = run(&world, home, password, &["create", url]).succeeds().lines().pop().unwrap();
        assert_eq!((&summary["paths"], &summary["consistency"]), (&json!(["/mysql/app"]), &json!("transactional")));
    }
    for (home, password) in [(&bare, None), (&bare, Some("wr0ng")), (&home, Some("wr0ng"))] {
        let told = run(&world, home, password, &["create", &asked]).ends_with(1).err;
        assert!(told.contains("Access denied") && !told.contains("wr0ng") && !told.contains("s3 cret"), "{told}");
    }

    let to = server.url("u@", "again");
    let restore = ["restore", "latest", "--verify", "--to", &to];
    let restored = run(&world, &home, None, &restore).succeeds().lines().pop().unwrap();
    assert_eq!(restored["differences"], json!([]), "{restored}");
    assert_eq!(server.sql("SELECT v FROM again.t"), "a");
    // Not over something, unless that is meant; and a difference is one.
    assert!(run(&world, &home, None, &restore).ends_with(1).err.contains("not empty"));
    server.sql("INSERT INTO app.t VALUES (2, 'b')");
    run(&world, &home, None, &["create", &asked]).succeeds();
    let over = [&restore[..], &["--clean"]].concat();
    run(&world, &home, None, &over).succeeds();
    assert_eq!(server.sql("SELECT COUNT(*) FROM again.t"), "2");
}

#[test]
#[ignore = "needs mariadbd"]
fn a_database_that_is_empty_now_and_was_not_is_suspicious() {
    let world = World::with_repository();
    let server = Server::new(&world);
    server.sql("CREATE DATABASE app");
    let url = server.url("root@", "app");
    let summary = |arguments: &[&str]| run(&world, world.path(), None, arguments).succeeds().lines().pop().unwrap();
    let no_tables = json!(["the database app has no tables"]);
    let first = summary(&["create", &url]);
    assert_eq!((&first["warnings"], &first["suspicion"]), (&no_tables, &json!(null)));
    let job = format!(
        "[repositories.here]\nurl = {:?}\n[jobs.app]\nsource = {{ url = {url:?}, mysql_bin = {:?} }}\n\
             retention = {{ here = {{ last = 1 }} }}\n",
        world.repository(),
        programs()
    );
    fs::write(world.path().join("backup.toml"), job).unwrap();
    let of_job = |arguments: &[&str], code: i32| {
        let mut command = world.command();
        command.env("HOME", world.path()).env_remove("BACKUP_REPO").args(["--json", "run"]).args(arguments);
        let ran = Ran::of(&command.output().unwrap()).ends_with(code);
        ran.lines().into_iter().find(|line| line["event"] == "job").unwrap()
    };
    for emptied in ["DELETE FROM app.t", "DROP TABLE app.t"] {
        server.sql(
            "CREATE OR REPLACE TABLE app.t SELECT 1 AS n UNION SELECT 2; CREATE OR REPLACE VIEW app.v AS SELECT 1",
        );
        assert_eq!(summary(&["create", &url])["suspicion"], json!(null));
        assert_eq!(of_job(&["--accept", "app"], 0)["outcome"], "done");
        server.sql(emptied);
        let told = of_job(&["app"], 4);
        assert_eq!((&told["outcome"], &told["copies"][0]["frozen"]), (&json!("suspicious"), &json!(true)), "{told}");
        let is_without_tables = emptied.starts_with("DROP");
        let warnings = if is_without_tables { no_tables.clone() } else { json!([]) };
        let part = &told["parts"][0];
        assert_eq!((&part["suspicion"], &part["warnings"]), (&json!("0 rows, where it usually is 2"), &warnings));
        server.sql("CREATE OR REPLACE TABLE app.t SELECT 1 AS n UNION SELECT 2");
        summary(&["create", &url]);
        server.sql(emptied);
        let nothing = summary(&["create", &url]);
        assert_eq!(nothing["suspicion"], "0 rows, where it usually is 2", "{emptied}");
        assert_eq!(nothing["warnings"], warnings);
        // Nothing comes back as nothing, and once more it is no news.
        let (snapshot, to) = (nothing["snapshot"].as_str().unwrap(), server.url("root@", "nothing"));
        let restored = summary(&["restore", snapshot, "--verify", "--clean", "--to", &to]);
        assert_eq!((&restored["losses"], &restored["differences"]), (&json!(0), &json!([])));
        assert_eq!(server.sql("SELECT * FROM nothing.v"), "1");
        assert_eq!(summary(&["create", &url])["suspicion"], json!(null));
    }
    let mut in_words = world.command();
    let told = Ran::of(&in_words.env_remove("BACKUP_REPO").args(["run", "app"]).output().unwrap()).ends_with(4).out;
    assert!(told.lines().any(|line| line.contains("warning") && line.contains("has no tables")), "{told}");
}
