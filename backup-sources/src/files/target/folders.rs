//! Open folders below the target, reached without following a single link.
//!
//! Every folder is opened by its one name relative to the folder that it lies in, never by a path and never through a
//! link. So whatever somebody puts in the place of a folder while a restore runs, what is open is a folder that lay in
//! the target, and what is made relative to it is made there.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backup_core::limits;
use backup_core::model::SnapshotPath;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, chmodat, mkdirat, openat, statx};
use rustix::io::Errno;

use crate::files::metadata::FIELDS;

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) fd: OwnedFd,
    /// Whether files made in it inherit no access list: it was made, or looked at, by this restore.
    pub(super) is_plain: bool,
}

/// The folders that a restore has open.
#[derive(Debug)]
pub(super) struct Folders {
    root: Arc<Folder>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    folders: HashMap<SnapshotPath, (u64, Arc<Folder>)>,
    clock: u64,
}

impl Folders {
    pub(super) fn below(root: OwnedFd) -> Self {
        Self { root: Arc::new(Folder { fd: root, is_plain: false }), open: Mutex::default() }
    }

    pub(super) fn root(&self) -> Arc<Folder> {
        Arc::clone(&self.root)
    }

    /// The folder at `path`. Folders that are not there are made, for nobody but their owner.
    pub(super) fn get(&self, path: &SnapshotPath) -> io::Result<Arc<Folder>> {
        let mut missing = Vec::new();
        let mut at = path.clone();
        let mut folder = loop {
            if at.is_root() {
                break self.root();
            }
            if let Some(folder) = self.lock().touch(&at) {
                break folder;
            }
            missing.push(at.name().to_vec());
            at.pop();
        };
        while let Some(name) = missing.pop() {
            let fd = match open_folder(&folder.fd, &name) {
                Err(Errno::NOENT) => {
                    match mkdirat(&folder.fd, &name, Mode::RWXU) {
                        // Another thread needed it too, and was faster.
                        Ok(()) | Err(Errno::EXIST) => open_folder(&folder.fd, &name)?,
                        Err(error) => return Err(error.into()),
                    }
                }
                outcome => outcome?,
            };
            at.push(&name);
            folder = self.keep(at.clone(), Folder { fd, is_plain: false });
        }
        Ok(folder)
    }

    /// The folder in which the entry at `path` lies.
    pub(super) fn above(&self, path: &SnapshotPath) -> io::Result<Arc<Folder>> {
        let mut above = path.clone();
        above.pop();
        self.get(&above)
    }

    /// Keeps a folder open for those who will ask for it.
    pub(super) fn keep(&self, path: SnapshotPath, folder: Folder) -> Arc<Folder> {
        let folder = Arc::new(folder);
        self.lock().insert(path, Arc::clone(&folder));
        folder
    }

    /// Keeps a folder open no longer than those need it who have it.
    pub(super) fn release(&self, path: &SnapshotPath) {
        self.lock().folders.remove(path);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn touch(&mut self, path: &SnapshotPath) -> Option<Arc<Folder>> {
        self.clock += 1;
        let (last_used, folder) = self.folders.get_mut(path)?;
        *last_used = self.clock;
        Some(Arc::clone(folder))
    }

    fn insert(&mut self, path: SnapshotPath, folder: Arc<Folder>) {
        if self.folders.len() >= limits::RESTORE_FOLDERS_OPEN_MAX {
            // Half of them at once, so that looking for the oldest is rare.
            let mut times: Vec<_> = self.folders.values().map(|(last_used, _)| *last_used).collect();
            times.sort_unstable();
            let median = times[times.len() / 2];
            self.folders.retain(|_, (last_used, _)| *last_used > median);
        }
        self.clock += 1;
        self.folders.insert(path, (self.clock, folder));
    }
}

/// Opens the folder `name` in `above`, not a link to one, and makes it usable for its owner.
pub(super) fn open_folder(above: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(above, name, flags | OFlags::RDONLY, Mode::empty()) {
        Err(Errno::ACCESS) => {
            let handle = openat(above, name, flags | OFlags::PATH, Mode::empty())?;
            let mode = statx(&handle, c"", AtFlags::EMPTY_PATH, FIELDS)?.stx_mode;
            set_mode(&handle, u32::from(mode) & 0o7777 | 0o700)?;
            openat(above, name, flags | OFlags::RDONLY, Mode::empty())
        }
        outcome => outcome,
    }
}

/// Sets the permissions of whatever `handle`, which need not be open for reading, is open on. The way through `/proc`
/// leads to exactly that, where a name could have become a link.
pub(super) fn set_mode(handle: &OwnedFd, mode: u32) -> Result<(), Errno> {
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty())
}
