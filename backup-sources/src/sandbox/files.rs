//! The sandbox for files: a folder of the drill's own.
//!
//! A snapshot is restored below it as it would be anywhere, and then looked at by other means than those that wrote it:
//! the file system alone, with the snapshot's hashes beside it. Nothing is started, so there is nothing to be kept from
//! the network; programs that the user asks for run in that folder, with an empty environment, and behind walls.

use std::fs;
use std::path::{Path, PathBuf};

use backup_core::cancel::Cancel;
use backup_core::contracts::{
    Answer, Caveats, Check, Entrance, Expected, ExpectedEntry, Level, Newest, NotReady, Question, Sandbox,
    SandboxError, SandboxFacts, Stopper, Target, Trace,
};
use backup_core::model::NodeKind;
use backup_core::observe::Amount;
use jiff::Timestamp;

use super::SandboxFolder;
use super::Walls;
use super::compare::Comparison;
use super::folder::{free_bytes, kept_bytes, no_room};
use super::live::Live;
use super::program::{Asked, ask_program};
use super::without_devices::WithoutDevices;
use crate::files::{FilesTarget, Owner, RestoreOptions, SpaceCheck};

/// What is in the way of a restore beside the files' own bytes: folders, the ends of blocks.
const SPARE_BYTES: u64 = 16 * 1024 * 1024;
/// The folder of a snapshot that outputs of commands are in.
const OUTPUTS: &str = "command";
/// A block of most file systems: what an entry takes at least.
const BLOCK_BYTES: u64 = 4096;

/// What it means that the files are what was backed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Meaning {
    /// They are the data: that proves the backup.
    #[default]
    Data,
    /// They are the output of a command, of which nobody knows what it should be: that proves no more than the restore.
    /// A question of the user has to prove the rest.
    Output,
}

/// A folder that files are restored to.
#[derive(Debug)]
pub struct FilesSandbox {
    /// Where it is to be made, or the caller's folder.
    place: Place,
    meaning: Meaning,
    live: Option<Live>,
    newest: Option<Newest>,
    warnings: Vec<String>,
    not_tested: Vec<String>,
    /// What the user's programs see besides.
    shown: Vec<PathBuf>,
    /// What separates the user's programs, once there was one.
    walls: Option<Walls>,
}

#[derive(Debug)]
enum Place {
    /// To be made in this folder.
    In(PathBuf),
    /// Made by this.
    Made(SandboxFolder),
    /// The caller's, who removes it.
    Given(PathBuf),
}

impl FilesSandbox {
    /// One that is made in `parent`, and removed.
    pub fn new(parent: PathBuf, meaning: Meaning) -> Self {
        Self::at(Place::In(parent), meaning)
    }

    /// A folder of the caller's that is empty or not there, for a caller that wants to look at what was restored. It is
    /// left as it is.
    pub fn left_in(folder: PathBuf, meaning: Meaning) -> Self {
        Self::at(Place::Given(folder), meaning)
    }

    fn at(place: Place, meaning: Meaning) -> Self {
        let (warnings, not_tested) = (Vec::new(), Vec::new());
        Self { place, meaning, live: None, newest: None, warnings, not_tested, shown: Vec::new(), walls: None }
    }

    /// Shows the user's programs these paths, to read.
    #[must_use]
    pub fn with_shown(self, shown: Vec<PathBuf>) -> Self {
        Self { shown, ..self }
    }

    /// Compares a sample of the files with the live source as well.
    #[must_use]
    pub fn with_live(self, live: Live) -> Self {
        Self { live: Some(live), ..self }
    }

    /// Where the files are restored to, once it was started.
    fn root(&self) -> Result<PathBuf, SandboxError> {
        match &self.place {
            Place::In(_) => Err(SandboxError::new("use the folder", "it was not made yet").ours()),
            Place::Made(folder) => Ok(folder.path().join("restored")),
            Place::Given(folder) => Ok(folder.clone()),
        }
    }

    /// Where the user's programs look: below it a command's output is at its path in the snapshot, also where a runbook's
    /// command has brought back that one file alone.
    fn asked_in(&self, folder: &SandboxFolder, root: PathBuf) -> Result<PathBuf, SandboxError> {
        if self.meaning == Meaning::Data || root.join(OUTPUTS).is_dir() {
            return Ok(root);
        }
        let asked = folder.path().join("asked");
        let linked = if asked.is_dir() {
            Ok(())
        } else {
            fs::create_dir(&asked).and_then(|()| std::os::unix::fs::symlink(&root, asked.join(OUTPUTS)))
        };
        linked.map_err(|error| SandboxError::new("ask a program", error).ours())?;
        Ok(asked)
    }

    fn level(&self) -> Level {
        match self.meaning {
            Meaning::Data => Level::Examined,
            Meaning::Output => Level::Restored,
        }
    }
}

impl Sandbox for FilesSandbox {
    fn facts(&self) -> SandboxFacts {
        let mut isolation = vec!["a folder that only its user can enter".to_owned()];
        if rustix::process::geteuid().is_root() {
            isolation.push("the drill runs as root, with owners and devices as they were".to_owned());
        } else {
            isolation.push("the drill has no rights of root".to_owned());
        }
        isolation.extend(self.walls.as_ref().map(Walls::isolation_of_reader));
        SandboxFacts { provider: "folder".to_owned(), isolation, ..SandboxFacts::default() }
    }

    fn start(&mut self, expected: Amount, _cancel: &Cancel) -> Result<(), NotReady> {
        let parent = match &self.place {
            Place::In(parent) => parent.clone(),
            Place::Made(_) => return Ok(()),
            Place::Given(folder) => {
                fs::create_dir_all(folder).map_err(|error| cannot_use(folder, &error))?;
                folder.clone()
            }
        };
        let kept = kept_bytes(&parent).map_err(|error| cannot_use(&parent, &error))?;
        let of_entries = expected.items.saturating_mul(BLOCK_BYTES);
        let needed = [expected.bytes, of_entries, SPARE_BYTES, kept].into_iter().fold(0, u64::saturating_add);
        let free = free_bytes(&parent).map_err(|error| cannot_use(&parent, &error))?;
        if free < needed {
            return Err(no_room(&parent, needed, free));
        }
        if let Place::In(parent) = &self.place {
            let folder = SandboxFolder::create(parent).map_err(|error| cannot_use(parent, &error))?;
            self.place = Place::Made(folder);
        }
        Ok(())
    }

    fn target(&mut self) -> Result<Box<dyn Target>, SandboxError> {
        let is_root = rustix::process::geteuid().is_root();
        let owner = if is_root { Owner::ByNumber } else { Owner::Restorer };
        let target = FilesTarget::new(
            self.root()?,
            RestoreOptions { owner, space: SpaceCheck::Skip, ..RestoreOptions::default() },
        );
        Ok(if is_root { Box::new(target) } else { Box::new(WithoutDevices::new(target)) })
    }

    fn entrance(&self) -> Result<Entrance, String> {
        let Place::Made(folder) = &self.place else { return Err("the folder is not the drill's own".to_owned()) };
        let root = self.root().map_err(|error| error.to_string())?;
        let target = root.to_str().ok_or_else(|| "the folder's name is not UTF-8".to_owned())?;
        Ok(folder.entrance(target.to_owned()))
    }

    /// A command of the user's, which parses what may be hostile.
    fn stopper(&self) -> Option<Stopper> {
        match &self.place {
            Place::Made(folder) => Some(folder.stopper()),
            Place::In(_) | Place::Given(_) => None,
        }
    }

    fn shortage(&self) -> Option<String> {
        match &self.place {
            Place::Made(folder) => folder.shortage(),
            Place::In(_) | Place::Given(_) => None,
        }
    }

    /// A folder answers when it can be listed.
    fn ready(&mut self) -> Result<(), SandboxError> {
        let root = self.root()?;
        let first = fs::read_dir(&root).and_then(|mut entries| entries.next().transpose());
        first.map(drop).map_err(|error| SandboxError::new("list the restored folder", error))
    }

    fn examine(&mut self, expected: Expected<'_>, cancel: &Cancel) -> Result<Vec<Check>, SandboxError> {
        let root = self.root()?;
        let level = self.level();
        let mut comparison = Comparison::new(&root);
        let mut live = self.live.take();
        for entry in expected.entries {
            if cancel.requested() {
                return Err(SandboxError::new("compare", "stopped on request").ours());
            }
            let entry = entry?;
            comparison.entry(&entry)?;
            self.newest = of_file(&entry, expected.until).map(|of_file| of_file.or_newer(self.newest)).or(self.newest);
            if let Some(live) = &mut live {
                live.offer(&entry)?;
            }
        }
        comparison.extras(cancel)?;
        let mut checks = comparison.into_checks(level);
        checks.extend(live.map(|live| live.compare(cancel)).transpose()?);
        Ok(checks)
    }

    fn ask(&mut self, question: &Question, cancel: &Cancel) -> Result<Answer, SandboxError> {
        let Question::Program(words) = question else {
            let hint = "ask with a program: files answer neither SQL nor an engine's commands";
            return Err(SandboxError::new("ask", "there is no engine here").with_hint(hint));
        };
        let root = self.root()?;
        match &self.place {
            Place::Made(folder) => {
                let within = self.asked_in(folder, root.clone())?;
                if self.walls.is_none() {
                    let shown = self.shown.iter().cloned().chain([root, within.clone()]).collect();
                    let failed = |why: NotReady| SandboxError::new("ask a program", why).ours();
                    self.walls = Some(Walls::of_reader(folder, shown).map_err(failed)?);
                }
                let asked = Asked { folder, walls: self.walls.as_ref(), within: &within };
                ask_program(asked, words, &[], cancel)
            }
            // Without a folder of its own nobody would find the program again.
            Place::In(_) | Place::Given(_) => {
                Err(SandboxError::new("ask", "this folder is not the drill's own").ours())
            }
        }
    }

    /// A folder's time changes when something is put beside something else, and a command's output is as old as its backup:
    /// neither tells when data was changed.
    fn newest(&mut self) -> Option<Newest> {
        self.newest.filter(|_| self.meaning == Meaning::Data)
    }

    fn caveats(&self) -> Caveats {
        let mut not_tested = self.not_tested.clone();
        if !rustix::process::geteuid().is_root() {
            not_tested.push(
                "owners of files, set-user-id bits, and device files: the drill has no rights of root".to_owned(),
            );
        }
        if self.meaning == Meaning::Output {
            not_tested.push("whether the command's output was complete when it was backed up".to_owned());
        }
        not_tested.push("whether the programs that use the files run with them".to_owned());
        not_tested.push("times of access, and attributes of security modules".to_owned());
        Caveats { warnings: self.warnings.clone(), not_tested }
    }

    fn remove(self: Box<Self>) -> Result<(), SandboxError> {
        let Place::Made(folder) = self.place else { return Ok(()) };
        folder.clear_away()
    }
}

/// When a file was changed, by the time that it came back with, unless that lies after `until`.
fn of_file(entry: &ExpectedEntry, until: Timestamp) -> Option<Newest> {
    let is_file = matches!(entry.node.kind, NodeKind::File { .. });
    let time = entry.node.metadata.mtime.filter(|time| is_file && *time <= until)?;
    Some(Newest { time, from: Trace::File })
}

fn cannot_use(folder: &Path, error: &std::io::Error) -> NotReady {
    NotReady::CannotRun {
        reason: format!("{} cannot be used: {error}", folder.display()),
        hint: Some("name a folder that can be written to".to_owned()),
    }
}
