//! Tests of what separates the programs of a sandbox.

use super::*;

fn said(walls: &Walls, folder: &SandboxFolder, script: &str) -> String {
    let mut command = walls.command(folder, Path::new("/bin/sh"));
    String::from_utf8(
        run({
            command.args(["-c", script]);
            command
        })
        .unwrap(),
    )
    .unwrap()
    .trim()
    .to_owned()
}

#[test]
fn a_program_can_write_to_its_folder_and_has_nothing_of_the_callers_environment() {
    let parent = tempfile::tempdir().unwrap();
    fs::set_permissions(parent.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for namespaces in [Namespaces::WherePossible, Namespaces::Never] {
        let folder = SandboxFolder::create(parent.path()).unwrap();
        let walls = Walls::raise(&folder, &RunAs::OwnUid, namespaces, Vec::new()).unwrap();
        assert_eq!(said(&walls, &folder, "echo here >file; cat file; echo \"[$CARGO_MANIFEST_DIR]\""), "here\n[]");
        assert_eq!(said(&walls, &folder, "pwd"), walls.own().to_str().unwrap());
        assert_ne!(said(&walls, &folder, "id -u"), "0");
        assert_eq!(said(&walls, &folder, "ionice"), "idle");
        // What is open here and would be handed on: a small number, and a large one.
        let open: Vec<_> = (0..12).map(|_| rustix::io::dup(std::io::stdin()).unwrap()).collect();
        assert_eq!(said(&walls, &folder, "ls /proc/self/fd | wc -l"), "4", "three, and the one that ls looks with");
        drop(open);
        assert_eq!(said(&walls, &folder, "cat /proc/self/oom_score_adj"), "1000");
        assert_eq!(said(&walls, &folder, "grep -c 'core file size *0 *0 ' /proc/self/limits"), "1");
        assert!(walls.isolation().contains(&"gives way: nice 10, idle input and output".to_owned()));
    }
}

#[test]
fn behind_namespaces_there_is_no_network_no_socket_and_no_secret() {
    let parent = tempfile::tempdir().unwrap();
    let secret = parent.path().join("secret");
    fs::write(&secret, "x").unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let folder = SandboxFolder::create(parent.path()).unwrap();
    let walls = Walls::raise(&folder, &RunAs::OwnUid, Namespaces::WherePossible, Vec::new()).unwrap();
    if !walls.are_up() {
        // Told to whoever reads the record; what holds then is tested with the engines.
        assert!(walls.isolation().iter().any(|text| text.starts_with("no namespaces: ")));
        return;
    }
    assert_eq!(
        said(&walls, &folder, &format!("cat {} 2>&1 | tail -c 26", secret.display())),
        "No such file or directory"
    );
    assert_eq!(said(&walls, &folder, "ls -d /run /root /home /etc/shadow 2>/dev/null | wc -l"), "0");
    // Two lines of heading, and the loopback device, which is down.
    assert_eq!(said(&walls, &folder, "wc -l </proc/net/dev"), "3");
    assert_eq!(said(&walls, &folder, "touch /usr/x /etc/x 2>/dev/null || echo refused"), "refused");
    if nix::unistd::geteuid().is_root() {
        assert_eq!(said(&walls, &folder, "grep -c 'processes *4096 *4096 ' /proc/self/limits"), "1");
    }
    assert_eq!(said(&walls, &folder, "grep NoNewPrivs /proc/self/status | tr -d '\\t'"), "NoNewPrivs:1");
}

#[test]
fn a_path_with_a_space_is_shown_and_one_with_a_name_like_an_option() {
    let parent = tempfile::tempdir().unwrap();
    let shown = parent.path().join("a b\\c");
    fs::create_dir(&shown).unwrap();
    fs::set_permissions(&shown, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(shown.join("file"), "here").unwrap();
    let folder = SandboxFolder::create(parent.path()).unwrap();
    let walls = Walls::raise(&folder, &RunAs::OwnUid, Namespaces::WherePossible, vec![shown.clone()]).unwrap();
    if walls.are_up() {
        assert_eq!(said(&walls, &folder, &format!("cat '{}/file'", shown.display())), "here");
        assert_eq!(
            said(&walls, &folder, "cat /dev/null; ls -d /usr/bin /tmp /proc/self"),
            "/proc/self\n/tmp\n/usr/bin"
        );
    }
}

/// A file system of its own, for as long as the test runs.
struct Mounted(PathBuf);

impl Mounted {
    fn on(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "mode=1777", "x"]).arg(&folder).status();
        assert!(mounted.unwrap().success());
        Self(folder)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
#[ignore = "needs root and mount"]
fn what_is_mounted_below_a_folder_that_is_shown_cannot_be_written_to() {
    let parent = tempfile::tempdir().unwrap();
    for name in ["plain", "with a space"] {
        let shown = parent.path().join(name);
        let below = Mounted::on(shown.join("below it"));
        fs::set_permissions(&shown, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let folder = SandboxFolder::create(parent.path()).unwrap();
        let walls = Walls::raise(&folder, &RunAs::OwnUid, Namespaces::WherePossible, vec![shown]).unwrap();
        assert!(walls.are_up());
        let script = format!("touch '{0}/x' 2>/dev/null || ls '{0}/..'", below.0.display());
        assert_eq!(said(&walls, &folder, &script), "below it");
        assert!(!below.0.join("x").exists());
    }
}

/// A program that opens a file by its number, as `name_to_handle_at(2)` gives it, below a folder of its file system.
const BY_NUMBER: &str = r#"
        my ($folder, $name) = @ARGV; my ($handle, $mount) = (pack("LL", 128, 0) . "\0" x 128, pack("L", 0));
        if (defined $name) {
            die "name: $!" if syscall(303, -100, $name, $handle, $mount, 0) < 0;
            my ($length) = unpack("L", $handle); print unpack("H*", substr($handle, 0, 8 + $length)); exit;
        }
        my $number = pack("H*", $ENV{HANDLE}); open(my $opened, "<", $folder) or die "folder: $!";
        my $file = syscall(304, fileno($opened), $number, 0); print "refused\n" and exit if $file < 0;
        open(my $read, "<&=", $file); print <$read>;"#;

#[test]
#[ignore = "needs root and mount"]
fn who_may_read_all_that_was_restored_opens_no_other_file_of_its_file_system() {
    let disk = tempfile::tempdir().unwrap();
    let disk = Mounted::on(disk.path().join("disk"));
    let (secret, restored) = (disk.0.join("secret"), disk.0.join("restored"));
    fs::write(&secret, "a secret").unwrap();
    fs::create_dir(&restored).unwrap();
    fs::write(restored.join("of-root"), "restored").unwrap();
    for path in [&secret, &restored.join("of-root")] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    let named = Command::new("perl").args(["-e", BY_NUMBER]).args([&restored, &secret]).output().unwrap();
    let number = String::from_utf8(named.stdout).unwrap();
    let by_number = |mut command: Command| {
        let ended = command.args(["-e", BY_NUMBER]).arg(&restored).env("HANDLE", &number).output().unwrap();
        String::from_utf8(ended.stdout).unwrap()
    };
    assert_eq!(by_number(Command::new("perl")), "a secret", "root alone does");
    let folder = SandboxFolder::create(&disk.0).unwrap();
    let walls = Walls::of_reader(&folder, vec![restored.clone()]).unwrap();
    assert!(walls.are_up());
    assert_eq!(said(&walls, &folder, &format!("cat {}/of-root", restored.display())), "restored");
    assert_eq!(by_number(walls.command(&folder, Path::new("/usr/bin/perl"))), "refused\n");
}
