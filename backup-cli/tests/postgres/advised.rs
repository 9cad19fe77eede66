//! What `backup advise` proposes for a server works as it stands.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::driver::{PASSPHRASE, Ran};
use crate::server::Server;

#[test]
#[ignore = "needs postgres-15"]
fn a_proposed_strategy_backs_a_database_up_and_its_scripts_bring_it_back() {
    let server = Server::start(15, &[]);
    server.database("app", "CREATE TABLE users (name text); INSERT INTO users VALUES ('Ada'), ('Grace');");
    let path = |name: &str| server.world.path().join(name);
    fs::write(path("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
    fs::set_permissions(path("passphrase"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = server.backup();
    command.arg("advise").arg("--source").arg(server.url("app")).arg("--local").arg(path("near"));
    command.arg("--offsite").arg(path("far")).args(["--offsite-site", "oslo", "--timezone", "UTC", "--yes"]);
    command.args(["--size", "app=10MB", "--output", "strategy", "--password-file"]).arg(path("passphrase"));
    Ran::of(&command.output().unwrap()).succeeds();

    let configuration = path("strategy/backup.toml");
    for arguments in [&["init"][..], &["config", "check"], &["run"], &["status"]] {
        let mut command = server.backup();
        command.env_remove("BACKUP_REPO").env_remove("BACKUP_PASSWORD").env("HOME", server.world.path());
        Ran::of(&command.arg("--config").arg(&configuration).args(arguments).output().unwrap()).succeeds();
    }
    let script = |name: &str, arguments: &[&str]| {
        let mut command = Command::new(path("strategy").join(name));
        command.env_clear().env("BACKUP_PG_BIN", server.programs()).env("TMPDIR", server.world.path());
        command.env("HOME", server.world.path());
        Ran::of(&command.args(arguments).output().unwrap())
    };
    script("backup-db", &[]).succeeds();
    script("restore-db", &["app", &server.url("back")]).succeeds();
    assert_eq!(server.sql("back", "SELECT count(*) FROM users"), "2");
    assert!(script("backup-files", &[]).ends_with(2).err.contains("no files"));
}
