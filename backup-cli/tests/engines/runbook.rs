//! Drills by the runbook's own commands, where the drill's sandbox is a server: the command reaches that server, with what
//! lets it in, and no other.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::driver::{PASSPHRASE, Ran, World};

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Starts it, and waits until `asked` succeeds.
    fn start(mut command: Command, asked: impl Fn() -> bool) -> Self {
        let server = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let began = Instant::now();
        while !asked() {
            assert!(began.elapsed() < Duration::from_secs(180), "the server does not start");
            thread::sleep(Duration::from_millis(50));
        }
        server
    }
}

fn named(variable: &str) -> PathBuf {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} names no program")).into()
}

/// A world with one job of `url` that ran once, with programs in `folders`.
fn a_job_of(world: &World, url: &str, folders: &[PathBuf]) {
    let path = world.path().display();
    let text = format!(
        "[repositories.near]\nurl = \"{path}/near\"\npassword_file = \"{path}/passphrase\"\n\
         [jobs.data]\nsource = {url:?}\nrepositories = [\"near\"]\nretries = {{ attempts = 1 }}\n"
    );
    fs::write(world.path().join("backup.toml"), text).unwrap();
    let passphrase = world.path().join("passphrase");
    fs::write(&passphrase, format!("{PASSPHRASE}\n")).unwrap();
    fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o600)).unwrap();
    // Where a server of another uid has to pass.
    fs::set_permissions(world.path(), fs::Permissions::from_mode(0o755)).unwrap();
    run(world, folders, &["init"]).succeeds();
    run(world, folders, &["run"]).succeeds();
}

fn run(world: &World, folders: &[PathBuf], arguments: &[&str]) -> Ran {
    let mut command = world.command();
    // The runbook's command looks for programs where whoever drills does.
    command.env("PATH", std::env::join_paths(folders).unwrap());
    command.env_remove("BACKUP_REPO").env_remove("BACKUP_PASSWORD");
    Ran::of(&command.args(["--json", "-c", "backup.toml"]).args(arguments).output().unwrap())
}

/// A drill by the runbook's command that must pass.
fn drilled(world: &World, folders: &[PathBuf]) -> Value {
    let drilled = run(world, folders, &["drill", "data", "--runbook"]).ends_with(0).lines().pop().unwrap();
    assert_eq!((&drilled["verdict"], &drilled["level"]), (&"passed".into(), &4.into()), "{drilled}");
    let command = drilled["commands"][0].as_str().unwrap();
    assert!(command.contains(" restore latest --job data --to ") && !command.contains("backup-drill-"), "{command}");
    let left = fs::read_dir(world.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with("backup-drill-")), "nothing is left");
    drilled
}

#[test]
#[ignore = "needs mariadbd"]
fn the_runbooks_command_restores_a_database_of_mariadb_into_the_drills_own_server() {
    let world = World::new();
    let program = named("BACKUP_TEST_MARIADBD");
    let top = program.ancestors().nth(2).unwrap();
    let bin = top.join("bin");
    let data = world.path().join("data");
    let as_root = (fs::metadata("/proc/self").unwrap().uid() == 0).then_some("--user=root");
    let made = Command::new(bin.join("mariadb-install-db"))
        .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
        .args(["--innodb-log-file-size=8M"])
        .args(as_root)
        .arg(format!("--basedir={}", top.display()))
        .arg(format!("--tmpdir={}", world.path().display()))
        .arg(format!("--datadir={}", data.display()))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let socket = world.path().join("socket");
    let mut command = Command::new(&program);
    let share = top.join("share/mysql");
    command.args(["--no-defaults", "--skip-networking", "--innodb-log-file-size=8M"]).args(as_root);
    command.arg(format!("--datadir={}", data.display())).arg(format!("--socket={}", socket.display()));
    command.arg(format!("--tmpdir={}", world.path().display()));
    command.arg(format!("--pid-file={}", world.path().join("pid").display()));
    command.arg(format!("--lc-messages-dir={}", share.display()));
    command.arg(format!("--character-sets-dir={}", share.join("charsets").display()));
    let sql = |text: &str| {
        let mut client = Command::new(bin.join("mariadb"));
        client.args(["--no-defaults", "--user=root", "-e", text]).arg(format!("--socket={}", socket.display()));
        client.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let _server = Server::start(command, || sql("SELECT 1"));
    assert!(sql("CREATE DATABASE app; CREATE TABLE app.t (n INT PRIMARY KEY); INSERT INTO app.t VALUES (1), (2)"));
    let url = format!("mysql://root:@{}/app", socket.display().to_string().replace('/', "%2F"));
    let folders = [program.parent().unwrap().to_owned(), bin.clone()];
    a_job_of(&world, &url, &folders);
    let drilled = drilled(&world, &folders);
    assert_eq!(drilled["sandbox"]["engine"]["name"], "mariadb-server", "{drilled}");
}

#[test]
#[ignore = "needs redis-server"]
fn the_runbooks_command_restores_a_server_of_redis_into_the_drills_own() {
    let world = World::new();
    let program = named("BACKUP_TEST_REDIS_SERVER");
    let mut command = Command::new(&program);
    command.args(["--port", "0", "--save", "", "--unixsocket", "socket"]).current_dir(world.path());
    let socket = world.path().join("socket");
    let said = |words: &[&str]| {
        let mut client = Command::new(program.with_file_name("redis-cli"));
        client.arg("-s").arg(&socket).args(words).stderr(Stdio::null());
        String::from_utf8_lossy(&client.output().unwrap().stdout).into_owned()
    };
    let _server = Server::start(command, || said(&["PING"]).contains("PONG"));
    said(&["SET", "a", "1"]);
    let url = format!("redis://{}?name=cache", socket.display().to_string().replace('/', "%2F"));
    let folders = [program.parent().unwrap().to_owned()];
    a_job_of(&world, &url, &folders);
    drilled(&world, &folders);
}
