//! A dry run of a restore below a folder: it looks at what is there, and says what would become of it. A verification
//! looks with the same care at what has become of it.
//!
//! Nothing is made, changed or removed, and nothing outside the folder is looked at: every path is opened below it, with no
//! link on the way. Where the kernel cannot promise that (before Linux 5.6), the dry run fails and says so.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use backup_core::contracts::{Left, Target, TargetError, TargetFile, WriteOrder};
use backup_core::model::{Node, SnapshotPath};
use backup_core::observe::Amount;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, openat, openat2, statx};
use rustix::io::Errno;

use super::options::{Extra, Overwrite, RestoreOptions, SpaceCheck};
use super::{check, check_path, others};
use crate::files::metadata::{FIELDS, timestamp};
use crate::files::names::list_anew;

/// What a [`super::FilesTarget`] would do.
#[derive(Debug)]
pub(super) struct FilesPreview {
    dir: PathBuf,
    options: RestoreOptions,
    /// Whether what is not there cannot be spoken of: the restore is over.
    is_review: bool,
    /// `None` inside: the folder itself is not there yet.
    root: OnceLock<Option<OwnedFd>>,
}

impl FilesPreview {
    pub(super) fn of(dir: PathBuf, options: RestoreOptions) -> Self {
        Self { dir, options, is_review: false, root: OnceLock::new() }
    }

    /// What lies there after a restore.
    pub(super) fn review(dir: PathBuf) -> Self {
        let options = RestoreOptions { space: SpaceCheck::Skip, ..RestoreOptions::default() };
        Self { is_review: true, ..Self::of(dir, options) }
    }

    /// What is at `path`, opened without reading it; `None` when nothing is.
    fn look(&self, path: &SnapshotPath) -> io::Result<Option<(OwnedFd, Statx)>> {
        let Some(handle) = self.open(path, OFlags::PATH)? else { return Ok(None) };
        let stat = statx(&handle, c"", AtFlags::EMPTY_PATH, FIELDS)?;
        Ok(Some((handle, stat)))
    }

    fn open(&self, path: &SnapshotPath, flags: OFlags) -> io::Result<Option<OwnedFd>> {
        let Some(root) = self.root.get().and_then(Option::as_ref) else { return Ok(None) };
        let path = path.as_bytes().strip_prefix(b"/").filter(|path| !path.is_empty()).unwrap_or(b".");
        // What only looks has nothing to wait for, and openat2 refuses flags without a meaning.
        let careful = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK | OFlags::NOCTTY };
        let flags = flags | careful | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match openat2(root, path, flags, Mode::empty(), within) {
            Ok(handle) => Ok(Some(handle)),
            // Nothing there; or something that is no folder is in the way, and would be replaced.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether what is there, of another kind, could be put out of the way.
    fn make_way(&self, path: &SnapshotPath, there: &Statx) -> io::Result<()> {
        if self.options.extra == Extra::Delete || kind(there) != FileType::Directory {
            return Ok(());
        }
        match self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)? {
            Some(folder) if list_anew(&folder)?.count() > 0 => Err(Errno::NOTEMPTY.into()),
            _ => Ok(()),
        }
    }

    fn preview(&self, path: &SnapshotPath, node: &Node) -> io::Result<PreviewedFile> {
        let Some((_, stat)) = self.look(path)? else {
            return if self.is_review { Err(Errno::NOENT.into()) } else { Ok(PreviewedFile::default()) };
        };
        if self.is_review && kind(&stat) != FileType::RegularFile {
            return Err(io::Error::other("something else is there"));
        }
        if self.options.overwrite.keeps(&stat, node) {
            return Ok(PreviewedFile { is_kept: true, ..PreviewedFile::default() });
        }
        if kind(&stat) != FileType::RegularFile {
            self.make_way(path, &stat)?;
            return Ok(PreviewedFile::default());
        }
        Ok(PreviewedFile {
            // One that cannot be read cannot be compared: it would be written.
            file: self.open(path, OFlags::RDONLY).ok().flatten().map(File::from),
            existing_bytes: stat.stx_size,
            looks_unchanged: stat.stx_size == node.size() && Some(timestamp(stat.stx_mtime)) == node.metadata.mtime,
            is_kept: false,
        })
    }
}

impl Target for FilesPreview {
    fn location(&self) -> String {
        self.dir.display().to_string()
    }

    fn order(&self) -> WriteOrder {
        WriteOrder::Any
    }

    fn begin(&self, expected: Amount) -> Result<(), TargetError> {
        let failed = |error: &io::Error| {
            let path = SnapshotPath::of_file(&std::path::absolute(&self.dir).unwrap_or_else(|_| self.dir.clone()));
            TargetError { is_fatal: true, ..TargetError::of_io("restore to", path, error) }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = match openat(CWD, &self.dir, flags, Mode::empty()) {
            Ok(root) => Some(root),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(failed(&error.into())),
        };
        match &root {
            Some(root) => super::refuse_if_full(root, self.options.space, expected),
            None => nearest_folder(&self.dir).and_then(|above| match above {
                Some(above) => super::refuse_if_full_below(&above, self.options.space, expected),
                None => Ok(()),
            }),
        }
        .map_err(|error| failed(&error))?;
        let _ = self.root.set(root);
        Ok(())
    }

    fn enter(&self, path: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
        check(path, node)?;
        let look = || match self.look(path)? {
            Some((_, stat)) if kind(&stat) != FileType::Directory => {
                if self.options.overwrite == Overwrite::Never {
                    return Err(io::Error::other("something that is no folder is there and is to be kept"));
                }
                Ok(())
            }
            _ => Ok(()),
        };
        look().map_err(|error| TargetError::of_io("make folder", path.clone(), &error))
    }

    fn file(&self, path: &SnapshotPath, node: &Node) -> Result<Box<dyn TargetFile>, TargetError> {
        check(path, node)?;
        let file = self.preview(path, node);
        let action = if self.is_review { "verify" } else { "make" };
        Ok(Box::new(file.map_err(|error| TargetError::of_io(action, path.clone(), &error))?))
    }

    fn hard_link(&self, path: &SnapshotPath, first: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
        check(path, node)?;
        check_path(first)
    }

    fn special(&self, path: &SnapshotPath, node: &Node) -> Result<Vec<TargetError>, TargetError> {
        check(path, node)?;
        let look = || match self.look(path)? {
            Some((_, stat)) if !self.options.overwrite.keeps(&stat, node) => self.make_way(path, &stat),
            _ => Ok(()),
        };
        look().map(|()| Vec::new()).map_err(|error| TargetError::of_io("make", path.clone(), &error))
    }

    fn leave(&self, path: &SnapshotPath, node: &Node, names: Option<&[Vec<u8>]>) -> Result<Left, TargetError> {
        check(path, node)?;
        let (Extra::Delete, Some(names)) = (self.options.extra, names) else { return Ok(Left::default()) };
        let folder = self
            .open(path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|error| TargetError::of_io("list", path.clone(), &error))?;
        let deleted = match folder {
            Some(folder) => others(&folder, path, names)?,
            None => Vec::new(),
        };
        Ok(Left { deleted, ..Left::default() })
    }

    fn finish(&self) -> Result<(), TargetError> {
        Ok(())
    }
}

/// A file that would be restored.
#[derive(Debug, Default)]
struct PreviewedFile {
    file: Option<File>,
    existing_bytes: u64,
    looks_unchanged: bool,
    is_kept: bool,
}

impl TargetFile for PreviewedFile {
    fn existing_bytes(&self) -> u64 {
        self.existing_bytes
    }

    fn looks_unchanged(&self) -> bool {
        self.looks_unchanged
    }

    fn is_kept(&self) -> bool {
        self.is_kept
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let file = self.file.as_ref().ok_or_else(|| io::Error::other("it cannot be read"))?;
        file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>, _node: &Node, _size: u64) -> Result<Vec<TargetError>, TargetError> {
        Ok(Vec::new())
    }
}

fn kind(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

/// The folder nearest to `dir` that is there: what would be restored would lie on its file system.
fn nearest_folder(dir: &Path) -> io::Result<Option<OwnedFd>> {
    let dir = std::path::absolute(dir)?;
    let Some(there) = dir.ancestors().find(|above| fs::metadata(above).is_ok()) else { return Ok(None) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Some(openat(CWD, there.as_os_str().as_bytes(), flags, Mode::empty())?))
}
