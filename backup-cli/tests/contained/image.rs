//! The image of the `Containerfile`: built, and used as the manual says, by its own user and without a network.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::driver::{PASSPHRASE, Ran, World};
use crate::podman::Podman;

/// The tree that all this is built from.
const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The user in the image.
const USER: u32 = 10_001;

#[test]
#[ignore = "needs podman, debian-image and root"]
fn the_image_is_built_and_its_user_backs_up_drills_and_serves() {
    let (world, podman) = (World::new(), Podman::from("BACKUP_TEST_DEBIAN_IMAGE", &["debian"]));
    // With the program that is tested, in place of compiling another one.
    let context = world.path().join("context");
    fs::create_dir(&context).unwrap();
    let mut install = Command::new("install");
    install.args(["--strip", env!("CARGO_BIN_EXE_backup")]).arg(context.join("backup"));
    Ran::of(&install.output().unwrap()).succeeds();
    let file = format!("{TOP}/Containerfile");
    let words = ["build", "--quiet", "--pull=never", "--network=host", "--tag=backup:test", "--file"];
    let arguments = ["--build-arg=PROGRAM=ready", "--build-arg=DEBIAN=localhost/debian"];
    let context = context.display().to_string();
    podman.said(&[&words[..], &[file.as_str()], &arguments[..], &[context.as_str()]].concat());

    let at = |name: &str| {
        let path = world.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let (configuration, repository) = (at("etc"), at("repository"));
    chown(&repository, Some(USER), Some(USER)).unwrap();
    fs::set_permissions(world.source(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(configuration.join("passphrase"), PASSPHRASE).unwrap();
    chown(configuration.join("passphrase"), Some(USER), Some(USER)).unwrap();
    fs::set_permissions(configuration.join("passphrase"), fs::Permissions::from_mode(0o400)).unwrap();
    fs::write(
        configuration.join("backup.toml"),
        "[defaults]\nhost = \"app\"\n[repositories.local]\nurl = \"/mnt/backups\"\n\
         password_file = \"/etc/backup/passphrase\"\n\
         [jobs.app]\nsource = \"/srv/source\"\noffsite = \"none: a test\"\n",
    )
    .unwrap();
    let volumes = [
        format!("--volume={}:/etc/backup:ro", configuration.display()),
        format!("--volume={}:/srv/source:ro", world.source().display()),
        format!("--volume={}:/mnt/backups", repository.display()),
    ];
    let run = |options: &[&str], arguments: &[&str]| {
        let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
        podman.said(&[&["run", "--network=none"], options, &volumes[..], &["backup:test"], arguments].concat())
    };
    // Two containers: without an overlay each is a copy of the image.
    run(&["--rm"], &["init"]);
    run(&["--detach", "--name=daemon"], &[]);
    let began = Instant::now();
    let said = || {
        let said = podman.ask(&["logs", "daemon"]);
        String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned()
    };
    while !said().contains("http://") {
        assert!(began.elapsed() < Duration::from_secs(180), "{}", said());
        thread::sleep(Duration::from_millis(100));
    }
    let within = |words: &[&str]| podman.said(&[&["exec", "daemon"], words].concat());
    let backup = |verb: &str| within(&["/usr/bin/backup", "--config", "/etc/backup/backup.toml", verb]);
    assert_eq!(within(&["/usr/bin/backup", "--version"]), format!("backup {}", env!("CARGO_PKG_VERSION")));
    assert_eq!(within(&["id", "-u"]), USER.to_string());
    backup("run");
    let drilled = backup("drill");
    assert!(drilled.contains("passed"), "{drilled}");
    backup("status");
    within(&["which", "pg_dump", "mariadb-dump", "redis-cli", "ssh"]);

    // The daemon is the first process of its container, to which a signal means nothing that it does not ask for.
    podman.said(&["stop", "--time=60", "daemon"]);
    assert_eq!(podman.said(&["inspect", "--format={{.State.ExitCode}}", "daemon"]), "0", "{}", said());
}
