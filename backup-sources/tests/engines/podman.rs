//! podman with a storage of its own and images without a registry. Its configuration says what works as well where much is
//! forbidden: no overlay, no systemd, no limits beyond the usual ones.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use backup_sources::sandbox::{ContainerSettings, SandboxPlace};
use tempfile::{TempDir, tempdir};

const CONTAINERS: &str = r#"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[engine.runtimes]
runc = ["/usr/sbin/runc", "/usr/bin/runc"]
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"#;

/// A storage of images, gone with the test.
pub(crate) struct Podman {
    folder: TempDir,
}

impl Podman {
    /// With these images of `scripts/tools images`.
    pub(crate) fn with(images: &[&str]) -> Self {
        Self::from("BACKUP_TEST_IMAGES", images)
    }

    /// With these images of a tool that brings some.
    pub(crate) fn from(tool: &str, images: &[&str]) -> Self {
        let podman = Self { folder: tempdir().unwrap() };
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{0}/graph\"\nrunroot = \"{0}/run\"\n",
            podman.folder.path().display()
        );
        fs::write(podman.folder.path().join("storage.conf"), storage).unwrap();
        fs::write(podman.folder.path().join("containers.conf"), CONTAINERS).unwrap();
        let mut load = podman.equipped(&named(tool));
        let loaded = load.args(images).output().unwrap();
        assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
        podman
    }

    /// By which the program finds this storage.
    pub(crate) fn environment(&self) -> Vec<(String, OsString)> {
        let own = |name: &str| self.folder.path().join(name).into_os_string();
        vec![
            ("PATH".into(), std::env::var_os("PATH").unwrap()),
            ("HOME".into(), self.folder.path().into()),
            ("CONTAINERS_CONF".into(), own("containers.conf")),
            ("CONTAINERS_STORAGE_CONF".into(), own("storage.conf")),
        ]
    }

    fn equipped(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.environment());
        command
    }

    pub(crate) fn ask(&self, words: &[&str]) -> Output {
        self.equipped(&named("BACKUP_TEST_PODMAN")).args(words).output().unwrap()
    }

    /// What it prints.
    #[track_caller]
    pub(crate) fn said(&self, words: &[&str]) -> String {
        let output = self.ask(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The names of all its containers.
    pub(crate) fn containers(&self) -> String {
        self.said(&["ps", "--all", "--format", "{{.Names}}"])
    }

    /// A drill's place with a container of `image`.
    pub(crate) fn place(&self, parent: &TempDir, image: &str) -> SandboxPlace {
        let container = ContainerSettings {
            image: image.to_owned(),
            program: named("BACKUP_TEST_PODMAN"),
            environment: self.environment(),
            bin: None,
            memory_bytes: None,
            processes_max: None,
        };
        SandboxPlace { container: Some(container), ..SandboxPlace::new(parent.path()) }
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // What runs holds mounts in the folder.
        let _ = self.ask(&["rm", "--all", "--force", "--time", "0"]);
    }
}

fn named(variable: &str) -> PathBuf {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} names no program")).into()
}
