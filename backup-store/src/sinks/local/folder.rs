//! The blocking work of the local sink.

use std::fs::{DirBuilder, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backup_core::contracts::{LISTING_LAG, ObjectInfo, ObjectKey, PutMode, SinkError, SinkErrorKind};
use bytes::Bytes;
use rustix::fs::{Advice, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::failure::{failure, io_failure, is_absence};
use super::gate::Gate;
use super::naming::{TemporaryNames, folder_of, or_self};
use super::temporary::Temporary;
use super::unsynced::{Unsynced, Written, sync_folder};

/// An open folder and what was done in it that is not yet durable. All paths are relative to it.
#[derive(Debug)]
pub(super) struct Folder {
    root: OwnedFd,
    path: PathBuf,
    modes: Modes,
    temporary_names: TemporaryNames,
    unsynced: Unsynced,
    listing_lag: Duration,
}

/// File systems of one machine's own disks and memory, by statfs(2) and the kernel's `magic.h`: one kernel serves
/// all who list and write. A network's, and those of programs, are not among them.
const OF_ONE_MACHINE: [i64; 12] = [
    0xEF53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683E, // btrfs
    0x2FC1_2FC1, // ZFS
    0xCA45_1A4E, // bcachefs
    0xF2F5_2010, // F2FS
    0x0102_1994, // tmpfs
    0x8584_58F6, // ramfs
    0x794C_7630, // overlayfs
    0x4D44,      // FAT
    0x2011_BAB0, // exFAT
    0x7366_746E, // NTFS
];

/// The permissions of what is made. As restic does it: for the owner alone, and for the group too where the group can
/// read `config`; objects are never writable.
#[derive(Clone, Copy, Debug)]
struct Modes {
    file: Mode,
    folder: Mode,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, SinkError> {
        let subject = path.display().to_string();
        let path = std::path::absolute(path).map_err(|error| io_failure(&subject, error))?;
        let root = rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failure(subject, errno))?;
        let modes = Modes::of(&root);
        let system = rustix::fs::fstatfs(&root).map(|system| system.f_type & 0xFFFF_FFFF);
        let is_of_one_machine = system.is_ok_and(|system| OF_ONE_MACHINE.contains(&system));
        let listing_lag = if is_of_one_machine { Duration::ZERO } else { LISTING_LAG };
        let (temporary_names, unsynced) = (TemporaryNames::new(), Unsynced::default());
        Ok(Self { root, path, modes, temporary_names, unsynced, listing_lag })
    }

    pub(super) fn listing_lag(&self) -> Duration {
        self.listing_lag
    }

    pub(super) fn create(path: &Path) -> Result<Self, SinkError> {
        let subject = path.display().to_string();
        let path = std::path::absolute(path).map_err(|error| io_failure(&subject, error))?;
        let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|error| io_failure(&subject, error))?;
        let folder = Self::open(&path)?;
        for parent in missing.into_iter().filter_map(Path::parent) {
            let parent = File::open(parent).map_err(|error| io_failure(&subject, error))?;
            sync_folder(&parent).map_err(|errno| failure(&subject, errno))?;
        }
        Ok(folder)
    }

    pub(super) fn location(&self) -> String {
        self.path.display().to_string()
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub(super) fn unsynced(&self) -> &Unsynced {
        &self.unsynced
    }

    /// The failure that `errno` is when it happens to what is at `path`.
    pub(super) fn failure(&self, path: &str, errno: Errno) -> SinkError {
        failure(self.subject(path), errno)
    }

    /// What is at `path`, for people.
    pub(super) fn subject(&self, path: &str) -> String {
        self.path.join(path).display().to_string()
    }

    pub(super) fn put(&self, key: &ObjectKey, bytes: &Bytes, mode: PutMode, gate: &Gate) -> Result<(), SinkError> {
        self.unsynced.check()?;
        let (mut file, temporary) = self.create_temporary(key)?;
        file.write_all(bytes).map_err(|error| io_failure(self.subject(key.as_str()), error))?;
        if matches!(mode, PutMode::Bulk(_)) {
            // Starts the writing without waiting for it, so that `sync` finds most of it done. Only advice: no harm in
            // it failing.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        } else {
            file.sync_all().map_err(|error| io_failure(self.subject(key.as_str()), error))?;
        }
        temporary.place(&file, mode, gate)?;
        self.unsynced.add(self, Written { file, key: key.clone() });
        Ok(())
    }

    pub(super) fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes, SinkError> {
        // Not blocking: somebody may have put a fifo there.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::openat(self.root(), key.as_str(), flags, Mode::empty());
        let mut file = File::from(file.map_err(|errno| self.absence_or(key, errno))?);
        let stat = rustix::fs::fstat(&file).map_err(|errno| self.failure(key.as_str(), errno))?;
        let size = self.object_bytes(key, &stat)?;
        let Range { start, end } = range.unwrap_or(0..size);
        let truncated = || SinkError::new(SinkErrorKind::Truncated, self.subject(key.as_str()));
        if end > size {
            return Err(truncated());
        }
        // A range that ends before it begins names no bytes.
        let wanted = end.saturating_sub(start);
        let other = |error| SinkError::new(SinkErrorKind::Other, self.subject(key.as_str())).caused_by(error);
        let mut bytes = Vec::new();
        let capacity = usize::try_from(wanted).map_err(|error| other(error.into()))?;
        bytes
            .try_reserve_exact(capacity)
            .map_err(|error| other(Box::<dyn std::error::Error + Send + Sync>::from(error)))?;
        let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.take(wanted).read_to_end(&mut bytes));
        read.map_err(|error| io_failure(self.subject(key.as_str()), error))?;
        if bytes.len() < capacity { Err(truncated()) } else { Ok(bytes.into()) }
    }

    pub(super) fn stat(&self, key: &ObjectKey) -> Result<ObjectInfo, SinkError> {
        let stat = rustix::fs::statat(self.root(), key.as_str(), AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(|errno| self.absence_or(key, errno))?;
        Ok(ObjectInfo { key: key.clone(), bytes: self.object_bytes(key, &stat)? })
    }

    pub(super) fn delete(&self, key: &ObjectKey, gate: &Gate) -> Result<(), SinkError> {
        let unlink = || rustix::fs::unlinkat(self.root(), key.as_str(), AtFlags::empty());
        match gate.pass(unlink).ok_or_else(|| self.given_up(key))? {
            // A folder is no object: there was nothing to delete.
            Err(Errno::ISDIR) => return Ok(()),
            // What is not there may have been deleted by somebody who has not made that durable yet.
            Ok(()) => {}
            Err(errno) if is_absence(errno) => {}
            Err(errno) => return Err(self.failure(key.as_str(), errno)),
        }
        self.unsynced.touch(folder_of(key.as_str()));
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<(), SinkError> {
        self.unsynced.flush(self)
    }

    /// Whether the folder itself was deleted while it is open: what is below it cannot be told from what never was.
    pub(super) fn is_gone(&self) -> Result<bool, SinkError> {
        let stat = rustix::fs::fstat(&self.root).map_err(|errno| self.failure("", errno))?;
        Ok(stat.st_nlink == 0)
    }

    fn absence_or(&self, key: &ObjectKey, errno: Errno) -> SinkError {
        self.failure(key.as_str(), if is_absence(errno) { Errno::NOENT } else { errno })
    }

    pub(super) fn given_up(&self, key: &ObjectKey) -> SinkError {
        SinkError::new(SinkErrorKind::Unavailable, self.subject(key.as_str())).caused_by("the operation was given up")
    }

    fn object_bytes(&self, key: &ObjectKey, stat: &Stat) -> Result<u64, SinkError> {
        match (FileType::from_raw_mode(stat.st_mode), u64::try_from(stat.st_size)) {
            (FileType::RegularFile, Ok(bytes)) => Ok(bytes),
            _ => Err(self.failure(key.as_str(), Errno::NOENT)),
        }
    }

    /// An empty file in the folder of the object, and that folder if need be.
    pub(super) fn create_temporary<'a>(&'a self, key: &'a ObjectKey) -> Result<(File, Temporary<'a>), SinkError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut has_made_folders = false;
        loop {
            let path = self.temporary_names.path_for(key);
            match rustix::fs::openat(self.root(), &path, flags, self.modes.file) {
                Ok(file) => {
                    let temporary = Temporary::new(self, key, path);
                    if self.modes.file.contains(Mode::RGRP) {
                        // The caller's umask may have taken the group's access away; where modes mean nothing this
                        // fails, and matters not.
                        let _ = rustix::fs::fchmod(&file, self.modes.file);
                    }
                    return Ok((File::from(file), temporary));
                }
                Err(Errno::EXIST) => {}
                Err(Errno::NOENT) if !has_made_folders => {
                    self.create_folders(folder_of(key.as_str()))?;
                    has_made_folders = true;
                }
                Err(errno) => return Err(self.failure(key.as_str(), errno)),
            }
        }
    }

    fn create_folders(&self, path: &str) -> Result<(), SinkError> {
        let ends = path.match_indices('/').map(|(index, _)| index).chain((!path.is_empty()).then_some(path.len()));
        for folder in ends.map(|end| &path[..end]) {
            match rustix::fs::mkdirat(self.root(), folder, self.modes.folder) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.failure(folder, errno)),
            }
        }
        Ok(())
    }

    /// Opens a folder to list it or to make it durable.
    pub(super) fn open_folder(&self, path: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Folders that are symlinks are followed directly in the sink's folder only: below it they could lead in rings.
        let nofollow = if path.contains('/') { OFlags::NOFOLLOW } else { OFlags::empty() };
        rustix::fs::openat(self.root(), or_self(path), flags | nofollow, Mode::empty())
    }
}

impl Modes {
    fn of(root: &OwnedFd) -> Self {
        let config = rustix::fs::statat(root, "config", AtFlags::empty());
        let is_shared = config.is_ok_and(|stat| Mode::from_raw_mode(stat.st_mode).contains(Mode::RGRP));
        if is_shared {
            Self { file: Mode::RUSR | Mode::RGRP, folder: Mode::RWXU | Mode::RWXG }
        } else {
            Self { file: Mode::RUSR, folder: Mode::RWXU }
        }
    }
}
