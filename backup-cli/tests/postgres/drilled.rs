//! Drills by the runbook's own commands: `backup restore … --to postgres://…`, aimed at the drill's own cluster.

use std::fs;

use serde_json::Value;

use crate::driver::Ran;
use crate::server::Server;

/// A server whose databases are all of one job, which ran once.
fn a_job_of_a_whole_server() -> Server {
    let server = Server::start(15, &[]);
    server.database("one", "CREATE ROLE reader; CREATE TABLE t AS SELECT 1 AS n; GRANT SELECT ON t TO reader");
    server.database("two words", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n");
    let path = server.world.path().display();
    let url = server.url("");
    let text = format!(
        "[repositories.near]\nurl = \"{path}/near\"\npassword_file = \"{path}/passphrase\"\n\
         [jobs.server]\nsource = {url:?}\nrepositories = [\"near\"]\n"
    );
    fs::write(server.world.path().join("backup.toml"), text).unwrap();
    fs::write(server.world.path().join("passphrase"), "correct horse\n").unwrap();
    run(&server, &["init"]).succeeds();
    run(&server, &["run"]).succeeds();
    server
}

fn run(server: &Server, arguments: &[&str]) -> Ran {
    let mut command = server.backup();
    // What it remembers of earlier drills lies in its home.
    command.env("HOME", server.world.path().join("home"));
    command.env_remove("BACKUP_REPO").env_remove("BACKUP_PASSWORD").args(["--json", "-c", "backup.toml"]);
    Ran::of(&command.args(arguments).output().unwrap())
}

#[test]
#[ignore = "needs postgres-15"]
fn the_databases_of_a_job_are_drilled_in_turn() {
    let server = a_job_of_a_whole_server();
    let drilled = || {
        let told = summaries(&run(&server, &["drill", "server"]).ends_with(0)).pop().unwrap();
        told["snapshot"].as_str().unwrap().to_owned()
    };
    let first: Vec<_> = (0..3).map(|_| drilled()).collect();
    assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2], "{first:?}");
    assert_eq!(drilled(), first[0], "its turn has come again");
}

fn summaries(ran: &Ran) -> Vec<Value> {
    ran.lines().into_iter().filter(|line| line["event"] == "summary").collect()
}

#[test]
#[ignore = "needs postgres-15"]
fn the_runbooks_commands_bring_each_database_of_a_server_back_into_the_drills_own_cluster() {
    let server = a_job_of_a_whole_server();
    let ran = run(&server, &["drill", "server", "--runbook"]);
    let drilled = summaries(&ran);
    let commands: Vec<_> = drilled.iter().filter_map(|drilled| drilled["commands"][0].as_str()).collect();
    if !drilled[0].to_string().contains("no network") {
        // Without walls the drill's restorer may not make roles, which the command does.
        assert!(drilled.iter().all(|drilled| drilled["reason"].as_str().unwrap().contains("roles")), "{}", ran.out);
        return;
    }
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    for drilled in &drilled {
        assert_eq!((&drilled["verdict"], &drilled["level"]), (&"passed".into(), &4.into()), "{drilled}");
        assert_eq!(drilled["sandbox"]["engine"]["name"], "postgresql");
    }
    // What is recorded is what the runbook says: production's address, which the sandbox's has replaced.
    for source in ["--source /postgres/one ", "--source '/postgres/two words' ", "--source /postgres/postgres "] {
        let command = commands.iter().find(|command| command.contains(source));
        assert!(command.is_some_and(|command| !command.contains("backup-drill-")), "{source}: {commands:?}");
    }
    let left = fs::read_dir(server.world.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with("backup-")), "nothing is left");

    let one = summaries(&run(&server, &["drill", "server", "--runbook", "--source", "/postgres/one"]).ends_with(0));
    assert_eq!(one.len(), 1);
    let wrong = run(&server, &["drill", "server", "--runbook", "--source", "/postgres/none"]).ends_with(2);
    assert!(wrong.out.contains("/postgres/one"), "{}", wrong.out);
}

#[test]
#[ignore = "needs postgres-15"]
fn a_drill_that_waits_for_its_engine_ends_when_its_time_is_over() {
    let server = Server::start(15, &[]);
    // The dump says that the view is full, and to fill it again takes for ever.
    let slow = |body: &str| format!("CREATE OR REPLACE FUNCTION slow() RETURNS int LANGUAGE plpgsql AS '{body}';");
    let view = format!("{}CREATE MATERIALIZED VIEW v AS SELECT slow() AS x;", slow("begin return 1; end"));
    server.database("app", &format!("{view}{}", slow("begin perform pg_sleep(500); return 1; end")));
    let path = server.world.path().display();
    let configure = |limit: &str| {
        let text = format!(
            "[repositories.near]\nurl = \"{path}/near\"\npassword_file = \"{path}/passphrase\"\n\
             [jobs.app]\nsource = {:?}\ndrill = {{ limit = \"{limit}\" }}\n",
            server.url("app")
        );
        fs::write(server.world.path().join("backup.toml"), text).unwrap();
    };
    configure("8s");
    fs::write(server.world.path().join("passphrase"), "correct horse\n").unwrap();
    run(&server, &["init"]).succeeds();
    run(&server, &["run"]).succeeds();
    // A busy machine may need longer until the view is being filled.
    let has_restored = ["8s", "30s", "120s"].into_iter().any(|limit| {
        configure(limit);
        let drilled = summaries(&run(&server, &["drill", "app"]).ends_with(4)).pop().unwrap();
        assert_eq!(drilled["verdict"], "not_run", "{drilled}");
        assert!(drilled["reason"].as_str().unwrap().starts_with("time: "), "{drilled}");
        let took: u64 = drilled["stages"].as_array().unwrap().iter().filter_map(|it| it["duration_ms"].as_u64()).sum();
        assert!(took < 400_000, "it waited until the view was filled: {drilled}");
        drilled["stages"].as_array().unwrap().iter().any(|stage| stage["name"] == "restore")
    });
    assert!(has_restored, "it never came to restoring");
    let left = fs::read_dir(server.world.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with("backup-")), "nothing is left");
}
