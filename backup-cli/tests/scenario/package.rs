//! The Debian package: made, installed into a root of its own, used from there, and removed again.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::driver::{Ran, World};
use crate::tool;

/// The tree that all this is built from.
const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn ran(command: &mut Command) -> Ran {
    Ran::of(&command.output().unwrap_or_else(|error| panic!("{command:?}: {error}")))
}

/// The machine's own packages and services are left alone: what the package's scripts would ask of systemd is written
/// down beside the root.
fn dpkg(root: &Path) -> Command {
    let asked = root.with_file_name("asked");
    fs::create_dir_all(&asked).unwrap();
    for name in ["systemctl", "deb-systemd-invoke"] {
        let (shim, log) = (asked.join(name), asked.join("log"));
        fs::write(&shim, format!("#!/bin/sh\necho {name} \"$@\" >> '{}'\n", log.display())).unwrap();
        fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new("dpkg");
    let path = format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", asked.display());
    command.env("PATH", path);
    command.arg(format!("--root={}", root.display()));
    command.args(["--force-not-root", "--force-script-chrootless", "--force-depends"]);
    command
}

#[test]
#[ignore = "needs cargo-deb and systemd-analyze"]
fn the_package_is_installed_used_and_removed_and_leaves_the_configuration_alone() {
    let world = World::new();
    let (output, root) = (world.path().join("output"), world.path().join("root"));
    fs::create_dir(&output).unwrap();
    let _ = tool("BACKUP_TEST_CARGO_DEB");
    let mut make = Command::new(format!("{TOP}/scripts/package"));
    make.args(["--program", env!("CARGO_BIN_EXE_backup"), "--output"]).arg(&output);
    ran(&mut make).succeeds();
    let package = fs::read_dir(&output).unwrap().next().unwrap().unwrap().path();
    fs::create_dir_all(root.join("var/lib/dpkg/updates")).unwrap();
    for file in ["status", "available"] {
        fs::write(root.join("var/lib/dpkg").join(file), "").unwrap();
    }
    fs::create_dir_all(root.join("var/lib/dpkg/info")).unwrap();

    ran(dpkg(&root).arg("--install").arg(&package)).succeeds();
    let program = root.join("usr/bin/backup");
    let mut version = Command::new(&program);
    assert!(ran(version.env_clear().arg("--version")).succeeds().out.starts_with("backup "));
    let configuration = root.join("etc/backup");
    assert_eq!(fs::metadata(&configuration).unwrap().permissions().mode() & 0o777, 0o700, "secrets lie there");
    for file in [
        "usr/share/man/man1/backup.1.gz",
        "usr/share/man/man1/backup-run.1.gz",
        "usr/share/bash-completion/completions/backup",
        "usr/share/zsh/vendor-completions/_backup",
        "usr/share/fish/vendor_completions.d/backup.fish",
        "usr/share/doc/backup/examples/backup.toml",
        "usr/share/doc/backup/copyright",
    ] {
        assert!(root.join(file).is_file(), "{file}: {:?}", ran(Command::new("dpkg-deb").arg("-c").arg(&package)).out);
    }
    let asked = fs::read_to_string(world.path().join("asked/log")).unwrap_or_default();
    assert!(!asked.contains("start") && !asked.contains("enable"), "{asked}");
    let wanted = root.join("etc/systemd/system");
    assert!(!wanted.exists() || fs::read_dir(wanted).unwrap().next().is_none(), "nothing starts that nobody asked for");
    judge_unit(&world, &root);

    // As its user would: a configuration where the package keeps it, and a run.
    let text = format!(
        "[repositories.local]\nurl = \"{}\"\n[jobs.app]\nsource = \"{}\"\noffsite = \"none: a test\"\n",
        world.repository().display(),
        world.source().display()
    );
    fs::write(configuration.join("backup.toml"), text).unwrap();
    for arguments in [&["init"][..], &["run"], &["drill"], &["status"]] {
        let mut command = Command::new(&program);
        command.env_clear().env("HOME", world.path()).env("TMPDIR", world.path()).current_dir(world.path());
        command.env("BACKUP_PASSWORD", crate::driver::PASSPHRASE);
        command.arg("-c").arg(configuration.join("backup.toml")).args(arguments);
        ran(&mut command).succeeds();
    }

    ran(dpkg(&root).args(["--purge", "backup"])).succeeds();
    assert!(!program.exists() && configuration.join("backup.toml").exists());
}

/// What systemd says of the unit, and how much it may still do.
fn judge_unit(world: &World, root: &Path) {
    let analyze = tool("BACKUP_TEST_SYSTEMD_ANALYZE");
    let unit = root.join("usr/lib/systemd/system/backup.service");
    // It looks for the program where the unit says that it is.
    let text = fs::read_to_string(&unit).unwrap();
    let program = root.join("usr/bin/backup").display().to_string();
    let judged = world.path().join("backup.service");
    fs::write(&judged, text.replace("ExecStart=/usr/bin/backup", &format!("ExecStart={program}"))).unwrap();
    let verified = ran(Command::new(&analyze).args(["verify", "--man=no"]).arg(&judged)).succeeds();
    assert!(!verified.err.contains("backup.service"), "{}", verified.err);
    let mut security = Command::new(&analyze);
    security.args(["security", "--offline=yes", "--threshold=80"]).arg(&judged);
    ran(&mut security).succeeds();
}
