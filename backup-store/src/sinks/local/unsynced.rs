//! What was written and may not be on the disk yet.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use backup_core::contracts::{ObjectKey, SinkError, SinkErrorKind};
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::folder::Folder;
use super::naming::folder_of;

/// At most this many objects wait for a `sync`, each with its file open: a gigabyte of packs, and few enough files for
/// the usual limit of 1,024 per process. A `put` beyond waits until the older half is on the disk.
pub(super) const OBJECTS_MAX: usize = 64;

/// At most this many leftovers of killed writers are remembered, to be removed.
const LEFTOVERS_MAX: usize = 4_096;

/// A leftover that was last written this long before is nobody's work in progress.
const LEFTOVER_AGE_SECONDS_MIN: i64 = 24 * 60 * 60;

/// The objects and folders that wait to be made durable.
///
/// Files are kept open from the first byte until their `fsync`, because the system reports a failed write to those who
/// had the file open when it failed; to others only if it still remembers.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    state: Mutex<State>,
    /// Held for reading by puts that make older objects durable, for writing by `flush`, which so waits for them.
    flushing: RwLock<()>,
}

/// An object that has its name, and the file that it is.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) file: File,
    pub(super) key: ObjectKey,
}

#[derive(Debug, Default)]
struct State {
    objects: VecDeque<Written>,
    /// Folders in which names were made or deleted, and all above them: who made those may not have synced them.
    folders: BTreeSet<String>,
    /// Temporary files that a listing came by.
    leftovers: Vec<String>,
    /// Set for good when something could not be made durable: the system reports that once, and what it says later
    /// means nothing.
    lost: Option<Lost>,
}

#[derive(Clone, Debug)]
struct Lost {
    kind: SinkErrorKind,
    subject: String,
    errno: Errno,
}

impl Unsynced {
    /// Fails once something was lost.
    pub(super) fn check(&self) -> Result<(), SinkError> {
        self.state().lost.clone().map_or(Ok(()), |lost| Err(lost.into()))
    }

    /// Notes an object that has just got its name. May wait for older ones to become durable; what goes wrong with
    /// those is told by the next `put` or `flush`.
    pub(super) fn add(&self, folder: &Folder, written: Written) {
        let is_full = {
            let mut state = self.state();
            state.touch(folder_of(written.key.as_str()));
            state.objects.push_back(written);
            state.objects.len() > OBJECTS_MAX
        };
        if is_full {
            let _flush_waits_for_this = self.flushing.read().unwrap_or_else(PoisonError::into_inner);
            let older: Vec<_> = {
                let mut state = self.state();
                let count = state.objects.len().saturating_sub(OBJECTS_MAX / 2);
                state.objects.drain(..count).collect()
            };
            for written in older {
                self.make_durable(folder, &written);
            }
        }
    }

    /// Notes that a name in the folder at `path` was deleted.
    pub(super) fn touch(&self, path: &str) {
        self.state().touch(path);
    }

    /// Notes a temporary file, to be removed if it is old.
    pub(super) fn note_leftover(&self, path: String) {
        let mut state = self.state();
        if state.leftovers.len() < LEFTOVERS_MAX {
            state.leftovers.push(path);
        }
    }

    /// Makes everything durable that was noted before the call.
    pub(super) fn flush(&self, folder: &Folder) -> Result<(), SinkError> {
        // Taken before the notes are: whoever took some of them before is done then.
        let _alone = self.flushing.write().unwrap_or_else(PoisonError::into_inner);
        self.check()?;
        let (objects, folders, leftovers) = {
            let mut state = self.state();
            (
                std::mem::take(&mut state.objects),
                std::mem::take(&mut state.folders),
                std::mem::take(&mut state.leftovers),
            )
        };
        for written in &objects {
            self.make_durable(folder, written);
        }
        // The deepest first, so that a name is never on the disk before what it names.
        for path in folders.iter().rev() {
            if let Err(errno) = make_folder_durable(folder, path) {
                self.lose(folder.failure(path, errno).kind, folder.subject(path), errno);
            }
        }
        self.check()?;
        remove_old(folder, &objects, leftovers);
        Ok(())
    }

    /// How many objects wait.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.state().objects.len()
    }

    fn make_durable(&self, folder: &Folder, written: &Written) {
        let Err(errno) = rustix::fs::fsync(&written.file) else { return };
        let path = written.key.as_str();
        self.lose(folder.failure(path, errno).kind, folder.subject(path), errno);
        // Nothing refers to it yet, and no later run must take it for good because it has the right name and size.
        if is_still(folder, written) {
            let _ = rustix::fs::unlinkat(folder.root(), path, AtFlags::empty());
        }
    }

    fn lose(&self, kind: SinkErrorKind, subject: String, errno: Errno) {
        self.state().lost.get_or_insert(Lost { kind, subject, errno });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: impl AsFd) -> Result<(), Errno> {
    match rustix::fs::fsync(folder) {
        // File systems on which folders cannot be synced (SMB, some in user space) leave names to their server.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        synced => synced,
    }
}

impl State {
    fn touch(&mut self, path: &str) {
        let mut path = path;
        while self.folders.insert(path.to_owned()) && !path.is_empty() {
            path = folder_of(path);
        }
    }
}

impl From<Lost> for SinkError {
    fn from(lost: Lost) -> Self {
        Self::new(lost.kind, lost.subject).caused_by(format!("could not be made durable: {}", lost.errno))
    }
}

fn make_folder_durable(folder: &Folder, path: &str) -> Result<(), Errno> {
    match folder.open_folder(path) {
        // A folder that is gone holds nothing that could be lost.
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        opened => sync_folder(&opened?),
    }
}

/// Whether the object's name still names the file that was written.
fn is_still(folder: &Folder, written: &Written) -> bool {
    let named = rustix::fs::statat(folder.root(), written.key.as_str(), AtFlags::SYMLINK_NOFOLLOW);
    let ours = rustix::fs::fstat(&written.file);
    matches!((named, ours), (Ok(named), Ok(ours)) if (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino))
}

/// Removes leftovers that are old by the file system's own clock, which is that of `written` just now: the machine's
/// may be wrong, or another than the file server's. Best effort.
fn remove_old(folder: &Folder, written: &VecDeque<Written>, leftovers: Vec<String>) {
    let Some(now) = written.back().and_then(|written| rustix::fs::fstat(&written.file).ok()).map(|stat| stat.st_mtime)
    else {
        // Nothing was written, so the time is not known; whoever writes next lists again.
        return;
    };
    for path in leftovers {
        let stat = rustix::fs::statat(folder.root(), &path, AtFlags::SYMLINK_NOFOLLOW);
        let is_old = stat.is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && now.saturating_sub(stat.st_mtime) > LEFTOVER_AGE_SECONDS_MIN
        });
        if is_old {
            let _ = rustix::fs::unlinkat(folder.root(), &path, AtFlags::empty());
        }
    }
}
