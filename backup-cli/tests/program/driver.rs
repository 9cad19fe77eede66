//! Runs the built program in a world of its own: a folder with a repository, a source, and no environment but what is
//! given.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The passphrase of every repository here.
pub(crate) const PASSPHRASE: &str = "correct horse";

/// A folder with a source to back up, and a place for a repository.
pub(crate) struct World {
    folder: TempDir,
}

/// How a run ended.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    /// A world without a repository.
    pub(crate) fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(world.source().join("sub")).unwrap();
        fs::write(world.source().join("hello.txt"), "hello\n").unwrap();
        fs::write(
            world.source().join("sub/data.bin"),
            (0..200_000_u32).map(|n| (n.wrapping_mul(n).wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>(),
        )
        .unwrap();
        std::os::unix::fs::symlink("hello.txt", world.source().join("link")).unwrap();
        world
    }

    /// A world with an empty repository.
    pub(crate) fn with_repository() -> Self {
        let world = Self::new();
        world.run(["init"]).succeeds();
        world
    }

    /// A world with a repository that holds one snapshot of the source.
    pub(crate) fn with_snapshot() -> Self {
        let world = Self::with_repository();
        world.create(["--quiet"]);
        world
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.path().join("source")
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.path().join("repository")
    }

    /// The program, about to run here.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backup"));
        command.env_clear().env("TZ", "UTC").env("TMPDIR", self.path()).current_dir(self.path());
        command.env("BACKUP_REPO", self.repository()).env("BACKUP_PASSWORD", PASSPHRASE).stdin(Stdio::null());
        command
    }

    pub(crate) fn run<T: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = T>) -> Ran {
        Ran::of(&self.command().args(arguments).output().unwrap())
    }

    /// Runs with `--json` and gives the last document or line.
    pub(crate) fn json<T: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = T>) -> Value {
        let ran = Ran::of(&self.command().arg("--json").args(arguments).output().unwrap());
        ran.succeeds().lines().pop().unwrap()
    }

    /// Backs up the source and gives the snapshot's id.
    pub(crate) fn create<const COUNT: usize>(&self, options: [&str; COUNT]) -> String {
        let source = self.source();
        let fixed = ["create", source.to_str().unwrap()];
        self.json(fixed.into_iter().chain(options))["snapshot"].as_str().unwrap().to_owned()
    }
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Insists on success.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        self.ends_with(0)
    }

    /// Insists on an exit code.
    #[track_caller]
    pub(crate) fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\n{}\n{}", self.out, self.err);
        self
    }

    /// Every line of standard output as JSON.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect()
    }
}
