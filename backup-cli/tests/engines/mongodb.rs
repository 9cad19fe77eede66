//! MongoDB from the command line, against a server that speaks its protocol.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use backup_core::testing::free_port;

use crate::driver::{Ran, World};

/// A server with its files in the world's folder.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn new(world: &World) -> Self {
        Self::with(world, "server", &[])
    }

    /// One with more options, with its files in a folder of this name.
    fn with(world: &World, name: &str, options: &[&str]) -> Self {
        let program = std::env::var_os("BACKUP_TEST_FERRETDB").expect("scripts/tools ferretdb says where it is");
        let port = free_port();
        let folder = world.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let folder = folder.display();
        let child = Command::new(program)
            .args(["--handler=sqlite", "--debug-addr=-", "--telemetry=disable", "--log-level=error"])
            .arg(format!("--sqlite-url=file:{folder}/"))
            .arg(format!("--state-dir={folder}"))
            .arg(format!("--listen-addr=127.0.0.1:{port}"))
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(180), "the server does not start");
            thread::sleep(Duration::from_millis(50));
        }
        Self { child, port }
    }

    fn url(&self, user: &str, database: &str) -> String {
        let options = "directConnection=true&serverSelectionTimeoutMS=10000";
        format!("mongodb://{user}127.0.0.1:{}/{database}?{options}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One of MongoDB's own programs.
fn tool(server: &Server, name: &str, arguments: &[&str], input: Stdio) {
    let tools = std::env::var_os("BACKUP_TEST_MONGO_TOOLS").expect("scripts/tools mongo-tools says where it is");
    let mut command = Command::new(PathBuf::from(tools).with_file_name(name));
    let url = format!("mongodb://127.0.0.1:{}/?directConnection=true", server.port);
    let output = command.arg(format!("--uri={url}")).args(arguments).stdin(input).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Has the server do something in a database: the words of a command and their values, each a text.
///
/// After the MongoDB Wire Protocol's `OP_MSG`: a header of four numbers, flags, a zero, the command.
fn command(server: &Server, database: &str, words: &[(&str, &str)]) {
    let mut fields = Vec::new();
    for (name, text) in words.iter().chain([&("$db", database)]) {
        let length = i32::try_from(text.len() + 1).unwrap().to_le_bytes();
        fields.extend([b"\x02", name.as_bytes(), b"\0", &length, text.as_bytes(), b"\0"].concat());
    }
    let number = |number: usize| i32::try_from(number).unwrap().to_le_bytes();
    let body = [&number(fields.len() + 5)[..], &fields, b"\0"].concat();
    let head = [number(21 + body.len()), number(1), number(0), number(2013), number(0)].concat();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.write_all(&[&head[..], b"\0", &body].concat()).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::try_from(i32::from_le_bytes(length)).unwrap() - 4];
    stream.read_exact(&mut answer).unwrap();
    // A number of eight bytes, which is 1 where it was done.
    let is_done = [b"\x01ok\0", &1_f64.to_le_bytes()[..]].concat();
    assert!(answer.windows(is_done.len()).any(|bytes| bytes == is_done), "{}", String::from_utf8_lossy(&answer));
}

/// Gives the server a collection of three documents, by mongorestore.
fn fill(world: &World, server: &Server, database: &str) {
    let folder = world.path().join("documents");
    std::fs::create_dir_all(&folder).unwrap();
    let document = |id: u8| [&[14, 0, 0, 0, 0x10][..], b"_id\0", &[id, 0, 0, 0, 0]].concat();
    std::fs::write(folder.join("things.bson"), [document(1), document(2), document(3)].concat()).unwrap();
    let folder = folder.display().to_string();
    tool(server, "mongorestore", &[&format!("--db={database}"), "--dir", &folder], Stdio::null());
}

#[test]
#[ignore = "needs ferretdb, mongo-tools"]
fn a_database_goes_into_a_repository_and_comes_back_by_us_and_by_mongorestore() {
    let world = World::with_repository();
    let server = Server::new(&world);
    fill(&world, &server, "app");
    let summary = world.json(["create", &server.url("", "app")]);
    assert_eq!(summary["paths"][0], "/mongodb/app");
    assert_eq!(summary["consistency"], "fuzzy");
    assert!(summary["warnings"].to_string().contains("each collection is of its own moment"), "{summary}");

    let restored = world.json(["restore", "latest", "--verify", "--to", &server.url("", "again")]);
    assert_eq!((&restored["losses"], &restored["differences"]), (&0.into(), &serde_json::json!([])));
    let told = world.run(["restore", "latest", "--to", &server.url("", "again")]).ends_with(1).err;
    assert!(told.contains("not empty") && told.contains("--clean"), "{told}");
    let to = server.url("", "again");
    world.run(["restore", "latest", "--clean", "--collection", "things", "--to", &to]).succeeds();

    let path = world.path().join("archive");
    let mut cat = world.command();
    cat.args(["cat", "latest", "/mongodb/app", "--archive"]).stdout(File::create(&path).unwrap());
    assert!(cat.status().unwrap().success());
    let renamed = ["--archive", "--nsFrom=app.*", "--nsTo=by_archive.*"];
    tool(&server, "mongorestore", &renamed, File::open(&path).unwrap().into());
    let again = world.json(["create", &server.url("", "by_archive")]);
    assert_eq!(again["bytes_new"].as_u64().map(|bytes| bytes > 0), Some(true));
    let snapshot = again["snapshot"].as_str().unwrap();
    let restored = world.json(["restore", snapshot, "--verify", "--to", &server.url("", "last")]);
    assert_eq!((&restored["losses"], &restored["differences"]), (&0.into(), &serde_json::json!([])));
}

#[test]
#[ignore = "needs ferretdb, mongo-tools"]
fn a_folder_of_mongodump_s_is_restored_into_a_database() {
    let world = World::with_repository();
    let server = Server::new(&world);
    fill(&world, &server, "app");
    let dump = world.path().join("dump");
    tool(&server, "mongodump", &["--db=app", "--out", &dump.display().to_string()], Stdio::null());
    world.run(["create", &dump.display().to_string()]).succeeds();
    let (path, to) = (dump.join("app").display().to_string(), server.url("", "again"));
    world.run(["restore", "latest", "--path", &path, "--to", &to]).succeeds();
    let summary = world.json(["create", &to]);
    assert_eq!(summary["losses"], 0);
    let told = world.run(["restore", "latest", "--path", &path, "--verify", "--clean", "--to", &to]).err;
    assert!(!told.contains("panicked"), "{told}");
}

#[test]
#[ignore = "needs ferretdb, mongo-tools"]
fn all_databases_of_a_deployment_are_a_snapshot_each() {
    let world = World::with_repository();
    let server = Server::new(&world);
    fill(&world, &server, "app");
    fill(&world, &server, "other");
    world.run(["create", &server.url("", "")]).succeeds();
    let listed = world.run(["snapshots"]).succeeds().out;
    assert!(listed.contains("/mongodb/app") && listed.contains("/mongodb/other"), "{listed}");
    assert!(!listed.contains("/mongodb/admin"), "{listed}");
}

#[test]
#[ignore = "needs ferretdb, mongo-tools"]
fn a_database_that_is_empty_now_and_was_not_is_suspicious() {
    let world = World::with_repository();
    let server = Server::new(&world);
    let no_documents = world.path().join("none");
    std::fs::create_dir(&no_documents).unwrap();
    std::fs::write(no_documents.join("things.bson"), "").unwrap();
    let without_documents = ["--db=app", "--drop", "--dir", &no_documents.display().to_string()];
    let empty = |what: &str| match what {
        "a collection without documents" => tool(&server, "mongorestore", &without_documents, Stdio::null()),
        _ => command(&server, "app", &[("drop", "things")]),
    };
    let job = format!(
        "[repositories.here]\nurl = {:?}\n[jobs.app]\nsource = {:?}\nretention = {{ here = {{ last = 1 }} }}\n",
        world.repository(),
        server.url("", "app")
    );
    std::fs::write(world.path().join("backup.toml"), job).unwrap();
    let run = |arguments: &[&str], code: i32| {
        let ran = Ran::of(
            &world.command().env_remove("BACKUP_REPO").args(["--json", "run"]).args(arguments).output().unwrap(),
        );
        ran.ends_with(code).lines().into_iter().find(|line| line["event"] == "job").unwrap()
    };
    for what in ["a collection without documents", "no collection"] {
        fill(&world, &server, "app");
        assert_eq!(world.json(["create", &server.url("", "app")])["suspicion"], serde_json::Value::Null);
        assert_eq!(run(&["--accept", "app"], 0)["outcome"], "done");
        empty(what);
        let told = run(&["app"], 4);
        assert_eq!((&told["outcome"], &told["copies"][0]["frozen"]), (&"suspicious".into(), &true.into()), "{told}");
        let has_told = |told: &serde_json::Value| told["warnings"].to_string().contains("there is no collection in it");
        assert_eq!(has_told(&told["parts"][0]), what == "no collection", "{told}");
        fill(&world, &server, "app");
        world.json(["create", &server.url("", "app")]);
        empty(what);
        let summary = world.json(["create", &server.url("", "app")]);
        assert_eq!(summary["suspicion"], "0 rows, where it usually is 3", "{what}");
        assert_eq!(has_told(&summary), what == "no collection", "{summary}");
        // Nothing comes back as nothing, and once more it is no news.
        let to = server.url("", "nothing");
        let snapshot = summary["snapshot"].as_str().unwrap();
        let restored = world.json(["restore", snapshot, "--verify", "--clean", "--to", &to]);
        assert_eq!((&restored["losses"], &restored["differences"]), (&0.into(), &serde_json::json!([])));
        assert_eq!(world.json(["create", &server.url("", "app")])["suspicion"], serde_json::Value::Null);
    }
    // A database that was dropped is none, and nothing makes a snapshot of it.
    command(&server, "app", &[("dropDatabase", "")]);
    let told = world.run(["create", &server.url("", "app")]).ends_with(1).err;
    assert!(told.contains("no database app") && told.contains("its last collection"), "{told}");
}

#[test]
#[ignore = "needs ferretdb, mongo-tools"]
fn what_cannot_be_meant_is_told_without_the_password() {
    let world = World::with_repository();
    let server = Server::new(&world);
    fill(&world, &server, "app");
    let login = ["--test-enable-new-auth", "--setup-username=backup", "--setup-password=pw", "--setup-database=app"];
    let guarded = Server::with(&world, "guarded", &login);
    let told = world.run(["create", &guarded.url("backup:wr0ng@", "app")]).ends_with(1).err;
    assert!(told.contains("authSource") && !told.contains("wr0ng"), "{told}");
    let told = world.run(["create", &server.url("", "nobody")]).ends_with(1).err;
    assert!(told.contains("no database nobody"), "{told}");
    let unreachable = "mongodb://u:pw@127.0.0.1:1/app?serverSelectionTimeoutMS=300";
    let told = world.run(["create", unreachable]).ends_with(1).err;
    assert!(told.contains("no server answers"), "{told}");
    let told = world.run(["create", "mongodb://127.0.0.1:1/app?nosuch=1"]).ends_with(2).err;
    assert!(told.contains("nosuch"), "{told}");
    world.run(["create", "--collection", "x", "/etc/hostname"]).ends_with(2);
    world.run(["restore", "latest", "--collection", "x", "--to", "/tmp/x"]).ends_with(2);
    world.run(["create", &server.url("", "app")]).succeeds();
    let to = server.url("", "x");
    world.run(["restore", "latest", "--collection", "things", "--verify", "--to", &to]).ends_with(2);
    assert!(!world.run(["snapshots"]).succeeds().out.contains("nobody"));
}

#[test]
#[ignore = "needs ferretdb, mongo-tools"]
fn a_database_is_drilled_in_a_server_of_its_own_and_on_one_for_drills() {
    let world = World::with_repository();
    let (server, scratch) = (Server::new(&world), Server::with(&world, "scratch", &[]));
    fill(&world, &server, "app");
    let bin = PathBuf::from(std::env::var_os("BACKUP_TEST_FERRETDB").unwrap());
    let bin = bin.parent().unwrap().display().to_string();
    let drill = |arguments: &[&str]| {
        let mut command = world.command();
        if arguments == ["app"] {
            // By its name in the configuration.
            command.env_remove("BACKUP_REPO");
        }
        command.env("HOME", world.path().join("home")).args(["--json", "drill"]).args(arguments);
        let ran = Ran::of(&command.output().unwrap());
        (ran.code, ran.lines().pop().unwrap_or_else(|| panic!("no line: {}", ran.err)))
    };
    let job = |sandbox: &str| {
        let text = format!(
            "[repositories.here]\nurl = {:?}\n[jobs.app]\nsource = {:?}\n\
             drill = {{ sandbox = {sandbox}, checks = [{{ aggregate = '{COUNT}', equals = 3 }}] }}\n",
            world.repository(),
            server.url("", "app")
        );
        std::fs::write(world.path().join("backup.toml"), text).unwrap();
    };
    job(&format!("{{ bin = {bin:?} }}"));
    world.run(["run", "app"]).succeeds();
    let (code, drilled) = drill(&["app"]);
    assert_eq!((code, &drilled["verdict"], &drilled["level"]), (0, &"passed".into(), &5.into()), "{drilled}");
    job(&format!("{{ server = {:?} }}", scratch.url("", "")));
    let (code, drilled) = drill(&["app"]);
    assert_eq!((code, &drilled["verdict"], &drilled["level"]), (0, &"passed".into(), &5.into()), "{drilled}");
    // The source's own server is none for drills.
    job(&format!("{{ server = {:?} }}", server.url("", "")));
    let (code, drilled) = drill(&["app"]);
    assert_eq!((code, &drilled["verdict"]), (4, &"not_run".into()), "{drilled}");
    assert!(drilled["reason"].as_str().unwrap().contains("may be the one that was backed up"), "{drilled}");

    std::fs::remove_file(world.path().join("backup.toml")).unwrap();
    let (code, drilled) = drill(&["--bin", &bin, "--aggregate", COUNT]);
    assert_eq!((code, &drilled["level"]), (0, &5.into()), "{drilled}");
    let nothing = r#"{"aggregate": "nothing", "pipeline": [{"$count": "n"}]}"#;
    assert_eq!(drill(&["--bin", &bin, "--aggregate", nothing]).0, 4);
    let (code, drilled) = drill(&["--bin", "/nowhere"]);
    assert_eq!((code, &drilled["verdict"]), (4, &"not_run".into()), "{drilled}");
    world.run(["drill", "--bin", &bin, "--sql", "SELECT 1"]).ends_with(2);
    world.run(["drill", "--bin", &bin, "--aggregate", "[]"]).ends_with(2);
}

/// A question to what `fill` makes.
const COUNT: &str = r#"{"aggregate": "things", "pipeline": [{"$count": "n"}]}"#;
