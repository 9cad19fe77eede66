//! Drills of the program in containers: from a configuration and from the command line, what their records say, and what a
//! killed one leaves.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::driver::Ran;
use crate::podman::Podman;
use crate::postgres::Server;

/// The program, with the job `app` of a database, which is drilled in a container.
fn command(server: &Server, podman: &Podman) -> Command {
    let mut command = server.world.command();
    command.env_remove("BACKUP_REPO").envs(podman.environment()).env("HOME", server.world.path());
    command.args(["-c", "backup.toml"]);
    command
}

fn backed_up(podman: &Podman) -> Server {
    let server = Server::start(15, &[]);
    server.database("app", "CREATE TABLE t AS SELECT n FROM generate_series(1, 100) n");
    fs::create_dir(server.world.path().join("drills")).unwrap();
    let text = format!(
        "[repositories.local]\nurl = \"{}\"\n[jobs.app]\nsource = \"postgres://postgres@/app?host={}\"\n\
         offsite = \"none: a test\"\n[jobs.app.drill.sandbox]\nfolder = \"{}\"\nbin = \"/usr/lib/postgresql/15/bin\"\n\
         container = {{ image = \"localhost/postgres-15\", memory = \"512M\" }}\n",
        server.world.repository().display(),
        server.folder().display(),
        server.world.path().join("drills").display()
    );
    fs::write(server.world.path().join("backup.toml"), text).unwrap();
    Ran::of(&command(&server, podman).args(["run", "app"]).output().unwrap()).succeeds();
    server
}

fn left(server: &Server) -> Vec<String> {
    let entries = fs::read_dir(server.world.path().join("drills")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Ends a process as nothing can be ready for.
fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[track_caller]
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(180), "waited in vain until {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "needs podman, images and postgres-15"]
fn a_job_is_drilled_in_its_container_and_its_record_says_so() {
    let podman = Podman::with(&["postgres-15", "redis"]);
    let server = backed_up(&podman);
    let drill = |arguments: &[&str]| Ran::of(&command(&server, &podman).args(arguments).output().unwrap());

    let record: Value =
        drill(&["--json", "drill", "app", "--sql", "SELECT count(*) = 100 FROM t"]).succeeds().lines().pop().unwrap();
    assert_eq!(record["verdict"], "passed", "{record:#}");
    let sandbox = &record["sandbox"];
    assert_eq!(sandbox["provider"], "container");
    assert_eq!(sandbox["image"]["name"], "localhost/postgres-15");
    assert!(sandbox["image"]["version"].as_str().unwrap().starts_with("sha256:"), "{sandbox:#}");
    assert!(sandbox["isolation"].as_array().unwrap().contains(&"no network".into()), "{sandbox:#}");
    assert!(sandbox["isolation"].as_array().unwrap().contains(&"at most 536870912 bytes of memory".into()));

    // The command line's image comes before the configuration's.
    let ran = drill(&["drill", "app", "--container", "localhost/nothing"]).ends_with(4);
    assert!((ran.out + &ran.err).contains("the image localhost/nothing is not here"));
    let ran = drill(&["drill", "app", "--container=--privileged"]).ends_with(2);
    assert!(ran.err.contains("write an image by tag or digest"), "{}", ran.err);
    let checked = drill(&["--json", "config", "check"]);
    assert!(checked.out.contains("\"image\":\"localhost/postgres-15\""), "{}", checked.out);
    assert_eq!((podman.containers(), left(&server)), (String::new(), vec![]));

    // Files need no server.
    server.world.create(["--job", "files"]);
    let repository = server.world.repository().display().to_string();
    let ran = drill(&["-r", &repository, "drill", "--job", "files", "--container", "localhost/redis"]).ends_with(2);
    assert!(ran.err.contains("the snapshot holds no database"), "{}", ran.err);
}

#[test]
#[ignore = "needs podman, images and postgres-15"]
fn a_container_ends_with_its_drill_even_when_that_is_killed() {
    let podman = Podman::with(&["postgres-15"]);
    let server = backed_up(&podman);
    let asked = server.world.path().join("asked");
    let question = format!("touch {}; exec sleep 1000", asked.display());
    let mut drill = command(&server, &podman);
    drill.args(["drill", "app", "--program", &question]).stdout(Stdio::null()).stderr(Stdio::null());
    let drill = drill.spawn().unwrap();
    wait_for("the drill has restored", || asked.exists());
    let name = left(&server).pop().unwrap();
    assert_eq!(podman.containers(), name);
    kill(drill);
    wait_for("its container is gone", || podman.containers().is_empty());
    wait_for("nothing of it runs but what the user's own program left", || !is_running(&name));
    assert_eq!(left(&server), [name]);

    let ran = Ran::of(&command(&server, &podman).args(["drill", "app"]).output().unwrap()).succeeds();
    assert!(ran.err.contains("left by a drill that was killed"), "{}", ran.err);
    assert_eq!((podman.containers(), left(&server)), (String::new(), vec![]));
}

/// Whether a server still has its data in the folder of a drill.
fn is_running(drill: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let words = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let words: Vec<_> = words.map(|words| String::from_utf8_lossy(&words).into_owned()).collect();
    words.iter().any(|words| words.contains(drill) && words.contains("postgres") && !words.starts_with("sleep"))
}
