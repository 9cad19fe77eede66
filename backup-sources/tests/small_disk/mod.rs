//! A disk of a few megabytes, mounted for one test, that another program fills up while a drill uses it.
//!
//! It takes root and a system that lets it mount. Dropping it unmounts it, so whatever a drill started must have ended.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::time::Duration;

use backup_core::cancel::Cancel;
use backup_core::contracts::{
    Answer, Caveats, Check, Entrance, Expected, Left, Newest, NotReady, Question, Sandbox, SandboxError, SandboxFacts,
    Stored, Target, TargetError, TargetFile, WriteOrder,
};
use backup_core::model::{Node, SnapshotPath};
use backup_core::observe::Amount;
use tempfile::TempDir;

/// The file of the program that fills the disk.
pub(crate) const OF_ANOTHER: &str = "of-another-program";

/// A file system in memory.
pub(crate) struct SmallDisk(TempDir);

impl SmallDisk {
    pub(crate) fn new(megabytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={megabytes}m,mode=0755");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).status();
        assert!(mount.unwrap().success(), "mount");
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// What is on it beside the other program's file.
    pub(crate) fn left(&self) -> Vec<String> {
        let names = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.to_string_lossy().into_owned()).filter(|name| name != OF_ANOTHER).collect()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What a killed server had open is closed a moment after it was waited for.
        for _ in 0..100 {
            let ended = Command::new("umount").arg(self.path()).stderr(Stdio::null()).status();
            if ended.is_ok_and(|ended| ended.success()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(std::thread::panicking(), "somebody still uses it");
    }
}

/// Another program writes until `left_bytes` are free.
pub(crate) fn fill_up(disk: &Path, left_bytes: u64) {
    let path = disk.join(OF_ANOTHER);
    let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let piece = vec![1; 64 * 1024];
    loop {
        let there = rustix::fs::statvfs(disk).unwrap();
        let free = there.f_bavail * there.f_frsize;
        let more = free.saturating_sub(left_bytes).min(piece.len() as u64);
        if more == 0 || file.write_all(&piece[..usize::try_from(more).unwrap()]).is_err() {
            return;
        }
    }
}

/// When the disk fills up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Once the sandbox has started: its target may still look before it begins.
    Started,
    /// When the first file is about to be written: nobody looks any more.
    Writing,
}

/// A sandbox on a disk that fills up but for so many bytes.
#[derive(Debug)]
pub(crate) struct Crowded {
    pub(crate) inner: Box<dyn Sandbox>,
    pub(crate) disk: PathBuf,
    pub(crate) when: When,
    pub(crate) left_bytes: u64,
}

impl Crowded {
    /// A target that fills the disk, when that is the time.
    fn crowd(&self, inner: Box<dyn Target>) -> Box<dyn Target> {
        match self.when {
            When::Started => inner,
            When::Writing => {
                let filled = Once::new();
                Box::new(CrowdedTarget { inner, disk: self.disk.clone(), left_bytes: self.left_bytes, filled })
            }
        }
    }
}

impl Sandbox for Crowded {
    fn facts(&self) -> SandboxFacts {
        self.inner.facts()
    }

    fn start(&mut self, expected: Amount, cancel: &Cancel) -> Result<(), NotReady> {
        self.inner.start(expected, cancel)?;
        if self.when == When::Started {
            fill_up(&self.disk, self.left_bytes);
        }
        Ok(())
    }

    fn target(&mut self) -> Result<Box<dyn Target>, SandboxError> {
        let target = self.inner.target()?;
        Ok(self.crowd(target))
    }

    fn entrance(&self) -> Result<Entrance, String> {
        self.inner.entrance()
    }

    fn shortage(&self) -> Option<String> {
        self.inner.shortage()
    }

    fn ready(&mut self) -> Result<(), SandboxError> {
        self.inner.ready()
    }

    fn examine(&mut self, expected: Expected<'_>, cancel: &Cancel) -> Result<Vec<Check>, SandboxError> {
        self.inner.examine(expected, cancel)
    }

    fn ask(&mut self, question: &Question, cancel: &Cancel) -> Result<Answer, SandboxError> {
        self.inner.ask(question, cancel)
    }

    fn newest(&mut self) -> Option<Newest> {
        self.inner.newest()
    }

    fn caveats(&self) -> Caveats {
        self.inner.caveats()
    }

    fn remove(self: Box<Self>) -> Result<(), SandboxError> {
        self.inner.remove()
    }
}

#[derive(Debug)]
struct CrowdedTarget {
    inner: Box<dyn Target>,
    disk: PathBuf,
    left_bytes: u64,
    /// Whoever comes meanwhile waits until it is full.
    filled: Once,
}

#[deny(clippy::missing_trait_methods)]
impl Target for CrowdedTarget {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn order(&self) -> WriteOrder {
        self.inner.order()
    }

    fn reads(&self, path: &SnapshotPath, node: &Node) -> bool {
        self.inner.reads(path, node)
    }

    fn begin(&self, expected: Amount) -> Result<(), TargetError> {
        self.inner.begin(expected)
    }

    fn enter(&self, path: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
        self.inner.enter(path, node)
    }

    fn file(&self, path: &SnapshotPath, node: &Node) -> Result<Box<dyn TargetFile>, TargetError> {
        self.filled.call_once(|| fill_up(&self.disk, self.left_bytes));
        self.inner.file(path, node)
    }

    fn hard_link(&self, path: &SnapshotPath, first: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
        self.inner.hard_link(path, first, node)
    }

    fn special(&self, path: &SnapshotPath, node: &Node) -> Result<Vec<TargetError>, TargetError> {
        self.inner.special(path, node)
    }

    fn leave(&self, path: &SnapshotPath, node: &Node, names: Option<&[Vec<u8>]>) -> Result<Left, TargetError> {
        self.inner.leave(path, node, names)
    }

    fn load(&self, stored: &dyn Stored) -> Result<(), TargetError> {
        self.inner.load(stored)
    }

    fn finish(&self) -> Result<(), TargetError> {
        self.inner.finish()
    }

    fn restored(&self) -> Option<Box<dyn Target>> {
        self.inner.restored()
    }

    fn preview(&self) -> Option<Box<dyn Target>> {
        self.inner.preview()
    }
}
