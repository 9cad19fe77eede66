//! The files target: a snapshot's files below a folder.

mod file;
mod folders;
mod metadata;
mod options;
mod preview;
mod remove;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use backup_core::contracts::{Left, Target, TargetError, TargetFile, WriteOrder};
use backup_core::model::{Node, NodeKind, SnapshotPath};
use backup_core::observe::Amount;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, fremovexattr, fstatvfs, linkat, mkdirat, mknodat, openat, readlinkat, statx,
    symlinkat, syncfs,
};
use rustix::io::Errno;

use self::file::RestoredFile;
use self::folders::{Folder, Folders, open_folder, set_mode};
use self::metadata::{Before, Setter};
pub use self::options::{Extra, Overwrite, Owner, RestoreOptions, SpaceCheck, Stay, Zeros};
use self::preview::FilesPreview;
use super::metadata::{FIELDS, device_number_of};
use super::names::list_anew;

/// A folder that a snapshot's files are restored to.
///
/// What is always true:
///
/// * Nothing outside the folder is made, changed or removed, whatever names the snapshot has and whatever links lie in
///   the folder or are put there meanwhile: see `folders.rs`. The folder itself may be reached through a link.
/// * A file that has other names is never written through one of them: it is replaced by a copy first, so the others
///   keep what they have.
/// * A new file belongs to the restorer alone until all its bytes are there, and is removed when they do not come.
/// * Set-user-id and set-group-id bits are only set on what has its right owner.
///
/// Killed at any moment, it leaves finished files as they should be and at most a few that are short and readable by
/// the restorer alone; the same restore again mends them.
#[derive(Debug)]
pub struct FilesTarget {
    dir: PathBuf,
    options: RestoreOptions,
    shared: OnceLock<Arc<Shared>>,
}

/// What the files being restored share.
#[derive(Debug)]
struct Shared {
    options: RestoreOptions,
    folders: Folders,
    setter: Setter,
    /// Folders that were found and whose metadata is to stay.
    untouched: Mutex<HashSet<SnapshotPath>>,
    numbers: AtomicU64,
}

impl FilesTarget {
    /// The target `dir`, which [`Target::begin`] makes when it is not there.
    pub fn new(dir: PathBuf, options: RestoreOptions) -> Self {
        Self { dir, options, shared: OnceLock::new() }
    }

    fn shared(&self) -> Result<&Arc<Shared>, TargetError> {
        let missing = || TargetError::new("restore to", SnapshotPath::root(), "the target was not begun");
        self.shared.get().ok_or_else(missing)
    }

    fn open(&self, expected: Amount) -> io::Result<OwnedFd> {
        fs::create_dir_all(&self.dir)?;
        let root = openat(CWD, &self.dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        refuse_if_full(&root, self.options.space, expected)?;
        Ok(root)
    }
}

impl Target for FilesTarget {
    fn location(&self) -> String {
        self.dir.display().to_string()
    }

    fn order(&self) -> WriteOrder {
        WriteOrder::Any
    }

    fn begin(&self, expected: Amount) -> Result<(), TargetError> {
        let root = self.open(expected).map_err(|error| {
            let path = std::path::absolute(&self.dir).unwrap_or_else(|_| self.dir.clone());
            TargetError { is_fatal: true, ..TargetError::of_io("restore to", SnapshotPath::of_file(&path), &error) }
        })?;
        let _ = self.shared.set(Arc::new(Shared {
            options: self.options,
            folders: Folders::below(root),
            setter: Setter::new(self.options.owner),
            untouched: Mutex::default(),
            numbers: AtomicU64::new(0),
        }));
        Ok(())
    }

    fn enter(&self, path: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
        let shared = self.shared()?;
        check(path, node)?;
        shared.enter(path).map_err(|error| TargetError::of_io("make folder", path.clone(), &error))
    }

    fn file(&self, path: &SnapshotPath, node: &Node) -> Result<Box<dyn TargetFile>, TargetError> {
        let shared = self.shared()?;
        check(path, node)?;
        let file = RestoredFile::open(shared, path, node);
        Ok(Box::new(file.map_err(|error| TargetError::of_io("make", path.clone(), &error))?))
    }

    fn hard_link(&self, path: &SnapshotPath, first: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
        let shared = self.shared()?;
        check(path, node)?;
        check_path(first)?;
        shared.hard_link(path, first, node).map_err(|error| TargetError::of_io("link", path.clone(), &error))
    }

    fn special(&self, path: &SnapshotPath, node: &Node) -> Result<Vec<TargetError>, TargetError> {
        let shared = self.shared()?;
        check(path, node)?;
        match &node.kind {
            // Its owner makes it anew.
            NodeKind::Socket => return Ok(Vec::new()),
            NodeKind::File { .. } | NodeKind::Dir { .. } => {
                return Err(TargetError::new("make", path.clone(), "it is no special file"));
            }
            NodeKind::Other(word) => {
                return Err(TargetError::new("make", path.clone(), format!("its kind {word:?} is not known")));
            }
            _ => {}
        }
        let made = shared.make_special(path, node);
        made.map_err(|error| TargetError::of_io("make", path.clone(), &error))
    }

    fn leave(&self, path: &SnapshotPath, node: &Node, names: Option<&[Vec<u8>]>) -> Result<Left, TargetError> {
        let shared = self.shared()?;
        check(path, node)?;
        let failed = |error: &io::Error| TargetError::of_io("finish folder", path.clone(), error);
        let folder = shared.folders.get(path).map_err(|error| failed(&error))?;
        let mut left = match (self.options.extra, names) {
            (Extra::Delete, Some(names)) => shared.remove_others(&folder, path, names),
            _ => Left::default(),
        };
        shared.folders.release(path);
        if !shared.untouched.lock().unwrap_or_else(PoisonError::into_inner).remove(path) {
            let before = if folder.is_plain { Before::Nothing } else { Before::Attributes };
            left.problems = shared.setter.set_open(folder.fd.as_fd(), path, node, before);
        }
        Ok(left)
    }

    /// One `syncfs` for everything: to sync 80,000 files one by one would take minutes, and until this call returns
    /// nobody was told that the restore is done.
    fn finish(&self) -> Result<(), TargetError> {
        if self.options.stay == Stay::Passing {
            return Ok(());
        }
        let root = self.shared()?.folders.root();
        syncfs(&root.fd).map_err(|error| TargetError::of_io("sync", SnapshotPath::root(), &error.into()))
    }

    fn preview(&self) -> Option<Box<dyn Target>> {
        Some(Box::new(FilesPreview::of(self.dir.clone(), self.options)))
    }

    fn restored(&self) -> Option<Box<dyn Target>> {
        Some(Box::new(FilesPreview::review(self.dir.clone())))
    }
}

impl Shared {
    /// A number that no other file of this restore has.
    fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn enter(&self, path: &SnapshotPath) -> io::Result<()> {
        if path.is_root() {
            return Ok(());
        }
        let above = self.folders.above(path)?;
        let name = path.name();
        let mut made = mkdirat(&above.fd, name, Mode::RWXU);
        let mut is_found = false;
        if made == Err(Errno::EXIST) {
            let stat = statx(&above.fd, name, AtFlags::SYMLINK_NOFOLLOW, FIELDS)?;
            is_found = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory;
            made = Ok(());
            if !is_found {
                if self.options.overwrite == Overwrite::Never {
                    return Err(io::Error::other("something that is no folder is there and is to be kept"));
                }
                remove::make_way(self, &above.fd, name)?;
                made = mkdirat(&above.fd, name, Mode::RWXU);
            }
        }
        made?;
        let fd = open_folder(&above.fd, name)?;
        if is_found && self.options.overwrite == Overwrite::Never {
            self.untouched.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
            self.folders.keep(path.clone(), Folder { fd, is_plain: false });
            return Ok(());
        }
        if is_found {
            let mode = u32::from(statx(&fd, c"", AtFlags::EMPTY_PATH, FIELDS)?.stx_mode) & 0o7777;
            if mode & 0o700 != 0o700 {
                // Others than its owner may not; then making something in it says so.
                let _ = set_mode(&fd, mode | 0o700);
            }
        }
        if is_found || !above.is_plain {
            // What is made in it must not inherit an access list that the snapshot does not have.
            for name in ["system.posix_acl_default", "system.posix_acl_access"] {
                let _ = fremovexattr(&fd, name);
            }
        }
        // Attributes of a folder that was there are compared again when it is left.
        self.folders.keep(path.clone(), Folder { fd, is_plain: !is_found });
        Ok(())
    }

    fn hard_link(&self, path: &SnapshotPath, first: &SnapshotPath, node: &Node) -> io::Result<()> {
        let folder = self.folders.above(path)?;
        let first_folder = self.folders.above(first)?;
        let link = || linkat(&first_folder.fd, first.name(), &folder.fd, path.name(), AtFlags::empty());
        match link() {
            Err(Errno::EXIST) => {}
            outcome => return Ok(outcome?),
        }
        let look = |folder: &Folder, name: &[u8]| statx(&folder.fd, name, AtFlags::SYMLINK_NOFOLLOW, FIELDS);
        let (there, wanted) = (look(&folder, path.name())?, look(&first_folder, first.name())?);
        let is_same = (there.stx_ino, there.stx_dev_major, there.stx_dev_minor)
            == (wanted.stx_ino, wanted.stx_dev_major, wanted.stx_dev_minor);
        if is_same || self.options.overwrite.keeps(&there, node) {
            return Ok(());
        }
        remove::make_way(self, &folder.fd, path.name())?;
        Ok(link()?)
    }

    fn make_special(&self, path: &SnapshotPath, node: &Node) -> io::Result<Vec<TargetError>> {
        let folder = self.folders.above(path)?;
        let name = path.name();
        let kind = match &node.kind {
            NodeKind::BlockDevice { .. } => FileType::BlockDevice,
            NodeKind::CharDevice { .. } => FileType::CharacterDevice,
            NodeKind::Fifo => FileType::Fifo,
            _ => FileType::Symlink,
        };
        let device = match node.kind {
            NodeKind::BlockDevice { device } | NodeKind::CharDevice { device } => device,
            _ => 0,
        };
        let make = || match &node.kind {
            NodeKind::Symlink { target } => symlinkat(target.as_slice(), &folder.fd, name),
            _ => mknodat(&folder.fd, name, kind, Mode::RUSR | Mode::WUSR, device),
        };
        if let Err(error) = make() {
            if error != Errno::EXIST {
                return Err(error.into());
            }
            let there = statx(&folder.fd, name, AtFlags::SYMLINK_NOFOLLOW, FIELDS)?;
            if self.options.overwrite.keeps(&there, node) {
                return Ok(Vec::new());
            }
            let is_same = FileType::from_raw_mode(there.stx_mode.into()) == kind
                && match &node.kind {
                    NodeKind::Symlink { target } => {
                        readlinkat(&folder.fd, name, Vec::new())?.to_bytes() == target.as_slice()
                    }
                    NodeKind::Fifo => true,
                    _ => device_number_of(&there) == device,
                };
            if !is_same {
                remove::make_way(self, &folder.fd, name)?;
                make()?;
            }
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = openat(&folder.fd, name, flags, Mode::empty())?;
        let found = FileType::from_raw_mode(statx(&handle, c"", AtFlags::EMPTY_PATH, FIELDS)?.stx_mode.into());
        if found != kind {
            return Err(io::Error::other("something else was put in its place"));
        }
        Ok(self.setter.set_named((&folder.fd, &handle), path, node, kind == FileType::Symlink))
    }

    fn remove_others(&self, folder: &Folder, path: &SnapshotPath, names: &[Vec<u8>]) -> Left {
        let mut left = Left::default();
        match others(&folder.fd, path, names) {
            Ok(paths) => {
                for path in paths {
                    match remove::remove(&folder.fd, path.name()) {
                        Ok(()) => left.deleted.push(path),
                        Err(error) => left.kept.push(TargetError::of_io("remove", path, &error)),
                    }
                }
            }
            Err(error) => left.kept.push(error),
        }
        left
    }
}

/// What lies in a folder and not in the snapshot, which has `names` there.
fn others(folder: &OwnedFd, path: &SnapshotPath, names: &[Vec<u8>]) -> Result<Vec<SnapshotPath>, TargetError> {
    let wanted: HashSet<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let there = list_anew(folder).map_err(|error| TargetError::of_io("list", path.clone(), &error.into()))?;
    Ok(there.iter().filter(|(name, _)| !wanted.contains(name)).map(|(name, _)| path.join(name)).collect())
}

/// Refuses to restore into an empty folder what does not fit.
fn refuse_if_full(root: &OwnedFd, space: SpaceCheck, expected: Amount) -> io::Result<()> {
    // What is there already may be what is to be there.
    if space == SpaceCheck::Refuse && list_anew(root)?.count() > 0 {
        return Ok(());
    }
    refuse_if_full_below(root, space, expected)
}

/// Refuses to restore into a new folder in `above` what does not fit.
fn refuse_if_full_below(above: &OwnedFd, space: SpaceCheck, expected: Amount) -> io::Result<()> {
    let there = fstatvfs(above)?;
    let left = there.f_bavail.saturating_mul(there.f_frsize);
    if space == SpaceCheck::Refuse && left < expected.bytes {
        let text = format!("no space for it: {} bytes are to be restored, {left} are left", expected.bytes);
        return Err(io::Error::new(io::ErrorKind::StorageFull, text));
    }
    Ok(())
}

/// Refuses names that could lead elsewhere. The pipeline has refused them before; nothing depends on that.
fn check(path: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
    if path.is_root() {
        return if node.is_dir() { Ok(()) } else { Err(unsafe_name(path)) };
    }
    if node.has_safe_name() { check_path(path) } else { Err(unsafe_name(path)) }
}

fn check_path(path: &SnapshotPath) -> Result<(), TargetError> {
    let is_safe = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    if !path.is_root() && path.components().all(is_safe) { Ok(()) } else { Err(unsafe_name(path)) }
}

fn unsafe_name(path: &SnapshotPath) -> TargetError {
    TargetError::new("make", path.clone(), "its name would lead out of the folder that it belongs in")
}
