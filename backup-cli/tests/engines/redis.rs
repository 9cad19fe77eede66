//! Redis from the command line.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::driver::World;

/// A server that wants a password, on a socket in the world's folder.
struct Server(Child);

impl Server {
    fn new(world: &World, name: &str) -> Self {
        let program =
            std::env::var_os("BACKUP_TEST_REDIS_SERVER").expect("scripts/tools redis-server says where it is");
        let child = Command::new(&program)
            .args(["--port", "0", "--save", "", "--requirepass", "s/cret", "--unixsocket", name])
            .current_dir(world.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while !said(world, name, &["PING"]).contains("PONG") {
            assert!(began.elapsed() < Duration::from_secs(180), "the server does not start");
            thread::sleep(Duration::from_millis(20));
        }
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn said(world: &World, name: &str, words: &[&str]) -> String {
    let server = std::env::var_os("BACKUP_TEST_REDIS_SERVER").unwrap();
    let mut client = Command::new(Path::new(&server).with_file_name("redis-cli"));
    client.arg("-s").arg(world.path().join(name)).args(words).env("REDISCLI_AUTH", "s/cret").stderr(Stdio::null());
    String::from_utf8_lossy(&client.output().unwrap().stdout).into_owned()
}

fn url(world: &World, name: &str, password: &str) -> String {
    let socket = world.path().join(name).display().to_string().replace('/', "%2F");
    format!("redis://{password}{socket}?name=cache")
}

#[test]
#[ignore = "needs redis-server"]
fn a_server_goes_into_a_repository_and_comes_back_into_another() {
    let world = World::with_repository();
    let (_one, _other) = (Server::new(&world, "one"), Server::new(&world, "other"));
    said(&world, "one", &["SET", "a", "1"]);
    let summary = world.json(["create", &url(&world, "one", ":s%2Fcret@")]);
    assert_eq!(summary["paths"][0], "/redis/cache");
    assert!(summary["recovery_point"]["position"].is_string());
    // The environment's password, as the server's own client takes it.
    let to = url(&world, "other", "");
    let mut restore = world.command();
    restore.args(["restore", "latest", "--verify", "--to", &to]).env("REDISCLI_AUTH", "s/cret");
    let output = restore.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said(&world, "other", &["GET", "a"]).trim(), "1");
    let told = world.run(["create", &to]).ends_with(1).err;
    assert!(told.contains("REDISCLI_AUTH"), "{told}");
    let told = world.run(["create", &url(&world, "one", ":wr0ng@")]).ends_with(1).err;
    assert!(told.contains("password") && !told.contains("wr0ng"), "{told}");
}

#[test]
#[ignore = "needs redis-server"]
fn a_server_that_is_empty_now_and_was_not_is_suspicious() {
    let world = World::with_repository();
    let _one = Server::new(&world, "one");
    let create = || world.json(["create", &url(&world, "one", ":s%2Fcret@")])["suspicion"].clone();
    said(&world, "one", &["SET", "a", "1"]);
    // Counted once, though it expires.
    said(&world, "one", &["SET", "b", "1", "EX", "1000"]);
    assert_eq!(create(), serde_json::Value::Null);
    said(&world, "one", &["FLUSHALL"]);
    assert_eq!(create(), "0 rows, where it usually is 2");
}
