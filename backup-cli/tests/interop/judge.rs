//! The programs that judge.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::driver::{PASSPHRASE, Ran, World};
use crate::rich::RAW_LINK;
use crate::tree;

/// What a judge may find beside a sound repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Nothing.
    Clean,
    /// Packs that no index lists for those who know no marks.
    UnlistedPacks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Restic,
    ResticDebian,
    Rustic,
}

/// A program that reads and writes the same repositories.
pub(crate) struct Judge<'world> {
    pub(crate) kind: Kind,
    program: PathBuf,
    world: &'world World,
    repository: PathBuf,
}

impl<'world> Judge<'world> {
    /// The judge of this world's repository.
    pub(crate) fn new(kind: Kind, world: &'world World) -> Self {
        let variable = match kind {
            Kind::Restic => "BACKUP_TEST_RESTIC",
            Kind::ResticDebian => "BACKUP_TEST_RESTIC_DEBIAN",
            Kind::Rustic => "BACKUP_TEST_RUSTIC",
        };
        let program = std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} names no program"));
        Self { kind, program: program.into(), world, repository: world.repository() }
    }

    /// The same program at another repository.
    pub(crate) fn at(self, repository: PathBuf) -> Self {
        Self { repository, ..self }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("TZ", "UTC").env("TMPDIR", self.world.path()).env("HOME", self.world.path());
        command.current_dir(self.world.path()).stdin(Stdio::null());
        command.env("RESTIC_REPOSITORY", &self.repository).env("RESTIC_PASSWORD", PASSPHRASE);
        command.env("RUSTIC_REPOSITORY", &self.repository).env("RUSTIC_PASSWORD", PASSPHRASE);
        command.arg("--no-cache");
        command
    }

    pub(crate) fn run<T: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = T>) -> Ran {
        Ran::of(&self.command().args(arguments).output().unwrap())
    }

    /// Creates the repository.
    pub(crate) fn init(&self) {
        self.run(["init"]).succeeds();
    }

    /// Backs up the world's source.
    pub(crate) fn backup(&self) {
        self.run([OsStr::new("backup"), self.world.source().as_os_str()]).succeeds();
    }

    /// Has everything read and verified.
    #[track_caller]
    pub(crate) fn checks(&self, expect: Expect, step: &str) {
        let ran = self.run(["check", "--read-data"]);
        let said = format!("{}{}", ran.out, ran.err);
        assert_eq!(ran.code, 0, "{:?} after {step}:\n{said}", self.kind);
        if self.kind == Kind::Rustic {
            let complains = said.contains("[ERROR]") || (expect == Expect::Clean && said.contains("[WARN]"));
            assert!(!complains, "after {step}:\n{said}");
        } else {
            assert!(said.contains("no errors were found"), "{:?} after {step}:\n{said}", self.kind);
            let unlisted = said.contains("additional files were found");
            assert_eq!(unlisted, expect == Expect::UnlistedPacks, "{:?} after {step}:\n{said}", self.kind);
        }
    }

    /// Has a snapshot restored and compares the source in it with `original`.
    #[track_caller]
    pub(crate) fn restores(&self, snapshot: &str, original: &Path, step: &str) {
        let to = tempfile::tempdir_in(self.world.path()).unwrap();
        let to = to.path();
        let inside = self.world.source();
        let inside = inside.strip_prefix("/").unwrap();
        match self.kind {
            Kind::Rustic => self.run([OsStr::new("restore"), snapshot.as_ref(), to.as_os_str()]),
            _ => self.run([OsStr::new("restore"), snapshot.as_ref(), "--target".as_ref(), to.as_os_str()]),
        }
        .succeeds();
        let mut found = tree::differences(original, &to.join(inside));
        if self.kind == Kind::ResticDebian {
            found.retain(|difference| !difference.contains(RAW_LINK));
        }
        assert!(found.is_empty(), "{:?} after {step}:\n{}", self.kind, found.join("\n"));
    }

    /// How many pieces of files the repository holds. Restic's word only.
    pub(crate) fn data_blobs(&self) -> usize {
        let listed = self.run(["list", "blobs", "--no-lock"]).succeeds();
        listed.out.lines().filter(|line| line.starts_with("data ")).count()
    }

    /// A document that restic prints of an object.
    pub(crate) fn cat(&self, what: &str, id: &str) -> Value {
        serde_json::from_str(&self.run(["cat", what, id]).succeeds().out).unwrap()
    }
}
