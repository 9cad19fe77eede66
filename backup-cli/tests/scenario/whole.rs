//! The file under `examples/`, as it stands but for places and times, from `init` to a daemon that has run every job.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::catcher::Catcher;
use crate::driver::{PASSPHRASE, Ran};
use crate::running::Daemon;
use crate::servers::signed::s3;
use crate::servers::{self, BUCKET};
use crate::{ferretdb, postgres, tool};

const EXAMPLE: &str = include_str!("../../../examples/backup.toml");

/// The jobs of the file.
const JOBS: [&str; 6] = ["app-db", "events", "uploads", "secrets", "logs", "code"];
/// What is nowhere to be read in a repository.
const SECRET: &str = "hunter2hunter2hunter2";

/// The servers and folders that the file speaks of.
struct Site {
    postgres: postgres::Server,
    mongodb: ferretdb::Server,
    store: servers::Server,
    hook: Catcher,
}

impl Site {
    fn new() -> Self {
        let postgres = postgres::Server::start(15, &[]);
        postgres.database("myapp", "CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users VALUES (1), (2), (3)");
        let mongodb = ferretdb::Server::start(postgres.world.path());
        let site = Self { mongodb, store: servers::Server::minio(), hook: Catcher::start(), postgres };
        for (name, content) in [
            ("app/uploads/photo", "a photo"),
            ("app/uploads/half.tmp", "half of one"),
            ("app/.env", SECRET),
            ("etc-myapp/settings", "colour = blue"),
            ("log/today", "all is well"),
            ("etc-backup/passphrase", PASSPHRASE),
            ("etc-backup/s3.id", &site.store.keys().id),
            ("etc-backup/s3.key", &site.store.keys().secret),
            ("etc-backup/hook", &site.hook.url()),
        ] {
            let path = site.at(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        site.git(&["init", "--quiet", "--bare", "myapp.git"]);
        site.push("first");
        site
    }

    /// Something in the folder of this test.
    fn at(&self, path: &str) -> PathBuf {
        self.postgres.world.path().join(path)
    }

    fn git(&self, arguments: &[&str]) {
        let mut git = Command::new("git");
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        git.args(["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main"]);
        let ran = git.args(arguments).current_dir(self.postgres.world.path()).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }

    /// Somebody pushes to the bare repository.
    fn push(&self, message: &str) {
        let clone = self.at(&format!("clone-{message}"));
        let clone = clone.to_str().unwrap();
        self.git(&["clone", "--quiet", "myapp.git", clone]);
        self.git(&["-C", clone, "commit", "--quiet", "--allow-empty", "-m", message]);
        self.git(&["-C", clone, "push", "--quiet", "origin", "HEAD"]);
    }

    /// The file under `examples/`, whose servers and folders are those of this test.
    fn file(&self) -> String {
        let at = |path: &str| self.at(path).display().to_string();
        // This server is no mongod of the host's own, which a drill would find by itself.
        let bin = tool("BACKUP_TEST_FERRETDB").parent().unwrap().display().to_string();
        let drilled = format!("drill = {{ sandbox = {{ bin = {bin:?} }} }}");
        let offsite = format!("region = \"us-east-1\"\nendpoint = \"{}\"", self.store.endpoint());
        let places = [
            ("\"/mnt/backups/repo\"", format!("\"{}\"", at("near"))),
            ("s3://acme-backups/prod", format!("s3://{BUCKET}/prod")),
            ("region = \"eu-west-1\"", offsite),
            // The only class beside the usual one that this server knows.
            ("GLACIER_IR", "REDUCED_REDUNDANCY".to_owned()),
            ("/etc/backup/", format!("{}/", at("etc-backup"))),
            ("postgres://backup@db.internal/myapp", self.postgres.url("myapp")),
            ("\"mongodb://backup@mongo.internal/events\"", format!("{:?}\n{drilled}", self.mongodb.url())),
            ("\"/app/uploads\"", format!("\"{}\"", at("app/uploads"))),
            ("\"/app/.env\"", format!("\"{}\"", at("app/.env"))),
            ("\"/etc/myapp\"", format!("\"{}\"", at("etc-myapp"))),
            ("\"/var/log/myapp\"", format!("\"{}\"", at("log"))),
            ("/srv/git/myapp.git", at("myapp.git")),
            // The servers of this test are of one machine with it, of which nobody can know the disk.
            ("\n[defaults]\n", "\n[defaults]\nfailure_domain = \"server\"\n".to_owned()),
        ];
        replaced(EXAMPLE, &places)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.postgres.backup();
        command.env_remove("BACKUP_REPO").env_remove("BACKUP_PASSWORD");
        // What it knows of earlier runs and drills lies in a home of its own.
        command.env("HOME", self.postgres.world.path());
        command.args(["-c", "backup.toml"]).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&self.command(arguments).output().unwrap())
    }

    fn json(&self, arguments: &[&str], code: i32) -> Vec<Value> {
        let arguments: Vec<_> = ["--json"].iter().chain(arguments).copied().collect();
        self.run(&arguments).ends_with(code).lines()
    }

    /// Everything by hand: one file, one command each.
    fn by_hand(&self) {
        self.json(&["init"], 0);
        self.json(&["config", "check"], 0);
        let lines = self.json(&["run"], 0);
        for name in JOBS {
            let told = lines.iter().find(|line| line["event"] == "job" && line["job"] == name).unwrap();
            assert_eq!(told["outcome"], "done", "{told}");
            let copies = told["copies"].as_array().unwrap();
            assert!(copies.len() == 2 && copies.iter().all(|copy| copy["proof"] == "present"), "{told}");
        }
        self.json(&["status"], 0);
        for name in JOBS {
            let told = self.json(&["drill", name], 0).pop().unwrap();
            assert_eq!(told["verdict"], "passed", "{told}");
            self.by_runbook(name);
        }
        for name in ["local", "offsite"] {
            self.run(&["-r", name, "check", "--read-data"]).succeeds();
            let listed = self.run(&["-r", name, "ls", "latest", "--job", "uploads"]).succeeds().out;
            assert!(listed.contains("photo") && !listed.contains("half.tmp"), "{listed}");
        }
        for job in self.json(&["status"], 0).pop().unwrap()["jobs"].as_array().unwrap() {
            assert_eq!(job["standing"]["three_two_one"]["answer"], "yes", "{job}");
        }
    }

    /// The same by the command that somebody would type who has lost the host.
    fn by_runbook(&self, name: &str) {
        let told = self.run(&["--json", "drill", name, "--runbook"]).lines().pop().unwrap();
        let has_walls = told["sandbox"].to_string().contains("no network");
        if name == "app-db" && !has_walls {
            // Its command makes roles, which a restorer without walls around it may not.
            assert!(told["reason"].as_str().is_some_and(|reason| reason.contains("roles")), "{told}");
            return;
        }
        assert_eq!(told["verdict"], "passed", "{told}");
        assert!(told["commands"][0].as_str().unwrap().contains(&format!("restore latest --job {name} ")), "{told}");
    }

    /// What asked for the drills, by the evidence on this machine.
    fn triggers(&self, name: &str) -> Vec<String> {
        let listed = self.json(&["evidence", "list"], 0).pop().unwrap();
        let of_job = listed.as_array().unwrap().iter().filter(|record| record["job"] == name);
        of_job.map(|record| record["trigger"].as_str().unwrap().to_owned()).collect()
    }

    /// The class that each of the store's packs is in.
    fn classes(&self) -> Vec<String> {
        let url = self.store.url(&format!("{BUCKET}?list-type=2&prefix=prod/data/"));
        let listed = s3(&self.store.keys(), "GET", &url, &[], "").body;
        let class = |entry: &str| entry.split('<').next().unwrap_or_default().to_owned();
        listed.split("<StorageClass>").skip(1).map(class).collect()
    }

    /// The same file with schedules of minutes, and a daemon that runs each job and each drill.
    fn by_daemon(&self) {
        let secrets = "[jobs.secrets]                    # at every change\n";
        let settles =
            [("settle = \"1min\"", "settle = \"1s\"".to_owned()), (secrets, format!("{secrets}settle = \"1s\"\n"))];
        let mut text = replaced(&self.file(), &settles);
        // All but the one of `logs`, so that what reads them is `read_again` and nothing else.
        for written in ["0 2 * * *", "30 2 * * *", "0 */6 * * *", "0 5 * * *", "0 5 * * 0", "0 3 * * 0"] {
            text = replaced(&text, &[(&format!("\"{written}\""), "\"* * * * *\"".to_owned())]);
        }
        fs::write(self.at("backup.toml"), format!("{text}\n[daemon]\nlisten = \"127.0.0.1:0\"\n")).unwrap();

        let daemon = Daemon::start(self.command(&["daemon"]));
        let count = |line: &str| daemon.said().lines().filter(|said| said.ends_with(line)).count();
        let has_said = |line: &str| count(line) > 0;
        // What changed while nobody watched is looked for first. A run that a change begins is of no slot.
        for job in ["secrets", "code"] {
            daemon.wait_for("what runs on change was scanned", || has_said(&format!("run {job} begins")));
        }
        fs::write(self.at("app/.env"), format!("{SECRET} and more")).unwrap();
        self.push("second");
        for job in ["secrets", "code"] {
            daemon.wait_for("a change is backed up", || count(&format!("run {job} begins")) > 1);
        }
        for job in JOBS {
            daemon.wait_for("each job has run", || has_said(&format!("run {job} done")));
        }
        for job in JOBS {
            daemon.wait_for("each drill has run", || has_said(&format!("drill {job} done")));
            let triggers = self.triggers(job);
            assert!(triggers.ends_with(&["schedule".to_owned()]) && triggers[0] == "manual", "{job}: {triggers:?}");
        }
        let is_whole = |line: &str| line.contains("run logs of ") && line.ends_with("begins, and reads everything");
        assert!(daemon.said().lines().any(is_whole), "{}", daemon.said());
        daemon.wait_for("the figures tell of every copy", || {
            let figures = daemon.get("/metrics").1;
            let copies = JOBS.iter().flat_map(|job| ["local", "offsite"].map(|repository| (job, repository)));
            copies.into_iter().all(|(job, repository)| {
                let figure = format!("backup_last_success_timestamp{{job=\"{job}\",repository=\"{repository}\"}}");
                figures.contains(&figure)
            })
        });
        let secret = self.at("app/.env");
        let kept = || self.run(&["-r", "offsite", "cat", "latest", secret.to_str().unwrap(), "--job", "secrets"]);
        daemon.wait_for("the change is off site", || kept().succeeds().out == format!("{SECRET} and more"));
        let (code, said) = daemon.stop();
        assert_eq!(code, 0, "{said}");
    }
}

#[track_caller]
fn replaced(text: &str, pairs: &[(&str, String)]) -> String {
    let mut text = text.to_owned();
    for (from, to) in pairs {
        assert!(text.contains(from), "the example has no {from}");
        text = text.replace(from, to);
    }
    text
}

/// Whether a file below `folder` holds these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => holds(&path, bytes),
            false => fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes),
        }
    })
}

#[test]
#[ignore = "needs postgres-15, ferretdb, mongo-tools, minio"]
fn the_example_runs_from_one_file_by_hand_and_by_its_daemon() {
    let site = Site::new();
    fs::write(site.at("backup.toml"), site.file()).unwrap();
    site.by_hand();
    assert!(!holds(&site.at("near"), SECRET.as_bytes()), "what is backed up can be read");
    let classes = site.classes();
    assert!(classes.iter().any(|class| class == "REDUCED_REDUNDANCY"), "{classes:?}");
    site.by_daemon();
    // Nobody is told of what goes well; a drill that could not run does not.
    let of_no_sandbox = |told: &Value| told["event"] == "drill" && told["job"] == "events";
    assert!(site.hook.caught().iter().all(of_no_sandbox), "{:?}", site.hook.caught());
}
