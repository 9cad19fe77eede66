//! A file being restored.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use backup_core::contracts::{TargetError, TargetFile};
use backup_core::model::{Node, SnapshotPath};
use rustix::fs::{
    Advice, AtFlags, FallocateFlags, FileType, Mode, OFlags, Statx, fadvise, fallocate, ftruncate, openat, renameat,
    statx, unlinkat,
};
use rustix::io::Errno;

use super::folders::Folder;
use super::metadata::Before;
use super::options::{Stay, Zeros};
use super::{Shared, remove};
use crate::files::metadata::{FIELDS, timestamp};
use crate::files::xattrs::read_open;

/// Space is asked for beforehand from this size on: below it, a file is written in one piece anyway.
const ALLOCATE_BYTES_MIN: u64 = 1024 * 1024;

/// A file is written out as soon as it is finished from this size on; smaller ones are better written together.
const WRITE_OUT_BYTES_MIN: u64 = 1024 * 1024;
/// Runs of zeros from this size on become holes. Smaller holes cost more in bookkeeping and scattered blocks than they
/// save.
const HOLE_BYTES: usize = 64 * 1024;

/// Zeros are looked for in blocks of this size, the usual one of file systems.
const BLOCK_BYTES: usize = 4 * 1024;

/// A file below the target.
#[derive(Debug)]
pub(super) struct RestoredFile {
    shared: Arc<Shared>,
    folder: Arc<Folder>,
    path: SnapshotPath,
    /// `None`: what is there stays.
    file: Option<File>,
    origin: Origin,
    existing_bytes: u64,
    looks_unchanged: bool,
    /// A copy of its own, for a file that had other names when it was found.
    copy: OnceLock<File>,
    copying: Mutex<()>,
    written_end: AtomicU64,
    is_finished: bool,
}

/// How the file came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// It was made.
    New,
    /// It was there.
    Found,
    /// It was there, under other names too, which may lie outside the target, or it may only be read. It is written only
    /// as a copy.
    FoundShared,
}

impl RestoredFile {
    /// Makes the file, or opens what is there.
    pub(super) fn open(shared: &Arc<Shared>, path: &SnapshotPath, node: &Node) -> io::Result<Self> {
        let folder = shared.folders.above(path)?;
        let name = path.name();
        match create(&folder, name) {
            Err(Errno::EXIST) => {}
            outcome => return Self::new_file(shared, folder, path, node, outcome?.into()),
        }
        let found = statx(&folder.fd, name, AtFlags::SYMLINK_NOFOLLOW, FIELDS)?;
        if shared.options.overwrite.keeps(&found, node) {
            return Ok(Self::with(shared, folder, path, None, Origin::Found));
        }
        if FileType::from_raw_mode(found.stx_mode.into()) == FileType::RegularFile
            && let Some(existing) = Self::existing(shared, &folder, path, node)?
        {
            return Ok(existing);
        }
        remove::make_way(shared, &folder.fd, name)?;
        let file = create(&folder, name)?;
        Self::new_file(shared, folder, path, node, file.into())
    }

    fn new_file(
        shared: &Arc<Shared>,
        folder: Arc<Folder>,
        path: &SnapshotPath,
        node: &Node,
        file: File,
    ) -> io::Result<Self> {
        let restored = Self::with(shared, folder, path, Some(file), Origin::New);
        if node.size() >= ALLOCATE_BYTES_MIN
            && shared.options.zeros == Zeros::Written
            && let Some(file) = &restored.file
        {
            let allocated = fallocate(file, FallocateFlags::empty(), 0, node.size());
            // A file system may not know how; that it is full is better known now.
            if let Err(error @ (Errno::NOSPC | Errno::DQUOT)) = allocated {
                return Err(error.into());
            }
        }
        Ok(restored)
    }

    /// The file that is there, or `None` when it cannot be opened as it would have to be.
    fn existing(
        shared: &Arc<Shared>,
        folder: &Arc<Folder>,
        path: &SnapshotPath,
        node: &Node,
    ) -> io::Result<Option<Self>> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let open = |access| openat(&folder.fd, path.name(), flags | access, Mode::empty());
        let mut is_shared = false;
        let mut file = match open(OFlags::RDWR) {
            Ok(file) => File::from(file),
            // A link by now.
            Err(Errno::LOOP | Errno::NOENT) => return Ok(None),
            // Write-protected from us, or a running program: it may be as it should be already.
            Err(Errno::ACCESS | Errno::PERM | Errno::TXTBSY) => match open(OFlags::RDONLY) {
                Ok(file) => {
                    is_shared = true;
                    File::from(file)
                }
                Err(_) => return Ok(None),
            },
            Err(error) => return Err(error.into()),
        };
        let stat = stat_open(&file)?;
        if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::RegularFile {
            return Ok(None);
        }
        if stat.stx_nlink > 1 && !is_shared {
            // From here on no mistake can write through a name outside.
            let Ok(again) = open(OFlags::RDONLY) else { return Ok(None) };
            file = File::from(again);
            if stat_open(&file)?.stx_ino != stat.stx_ino {
                return Ok(None);
            }
            is_shared = true;
        }
        let origin = if is_shared { Origin::FoundShared } else { Origin::Found };
        let mut existing = Self::with(shared, Arc::clone(folder), path, Some(file), origin);
        existing.existing_bytes = stat.stx_size;
        existing.looks_unchanged =
            stat.stx_size == node.size() && Some(timestamp(stat.stx_mtime)) == node.metadata.mtime;
        Ok(Some(existing))
    }

    fn with(
        shared: &Arc<Shared>,
        folder: Arc<Folder>,
        path: &SnapshotPath,
        file: Option<File>,
        origin: Origin,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            folder,
            path: path.clone(),
            file,
            origin,
            existing_bytes: 0,
            looks_unchanged: false,
            copy: OnceLock::new(),
            copying: Mutex::new(()),
            written_end: AtomicU64::new(0),
            is_finished: false,
        }
    }

    fn reader(&self) -> io::Result<&File> {
        self.copy.get().or(self.file.as_ref()).ok_or_else(|| io::Error::other("the file is to be kept as it is"))
    }

    fn writer(&self) -> io::Result<&File> {
        if self.origin != Origin::FoundShared {
            return self.reader();
        }
        if self.copy.get().is_none() {
            let _one = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
            if self.copy.get().is_none() {
                let copy = self.part_from_other_names()?;
                return Ok(self.copy.get_or_init(|| copy));
            }
        }
        self.reader()
    }

    /// Puts a copy in the place of a file that has other names, which keep what they have.
    fn part_from_other_names(&self) -> io::Result<File> {
        let mut original = self.reader()?;
        let unique = format!(".backup-restores-{}-{}", std::process::id(), self.shared.next_number());
        let mut copy = File::from(create(&self.folder, unique.as_bytes())?);
        original.rewind()?;
        let outcome = io::copy(&mut original, &mut copy)
            .and_then(|_| Ok(renameat(&self.folder.fd, unique.as_str(), &self.folder.fd, self.path.name())?));
        if let Err(error) = outcome {
            let _ = unlinkat(&self.folder.fd, unique.as_str(), AtFlags::empty());
            return Err(error);
        }
        Ok(copy)
    }

    /// Whether nothing has to be done: the file has other names, was not written, and neither its size nor what its
    /// names share is to become another.
    fn is_as_wanted(&self, node: &Node, size: u64) -> io::Result<bool> {
        if self.origin != Origin::FoundShared || self.copy.get().is_some() {
            return Ok(false);
        }
        let file = self.reader()?;
        let (stat, wanted) = (stat_open(file)?, &node.metadata);
        let is_same = stat.stx_size == size
            && wanted.mtime.is_none_or(|wanted| timestamp(stat.stx_mtime) == wanted)
            && u32::from(stat.stx_mode) & 0o7777 == wanted.mode
            && (stat.stx_uid, stat.stx_gid) == (wanted.uid, wanted.gid);
        Ok(is_same && read_open(file).unwrap_or_default() == wanted.xattrs)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let written = self.written_end.load(Ordering::Acquire);
        let allocated = self.origin == Origin::New && self.shared.options.zeros == Zeros::Written;
        let present = if allocated && size >= ALLOCATE_BYTES_MIN { u64::MAX } else { written.max(self.existing_bytes) };
        if present != size {
            ftruncate(self.writer()?, size)?;
        }
        Ok(())
    }

    fn write_all(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        file.write_all_at(bytes, offset)?;
        self.written_end.fetch_max(offset + bytes.len() as u64, Ordering::AcqRel);
        Ok(())
    }
}

impl TargetFile for RestoredFile {
    fn existing_bytes(&self) -> u64 {
        self.existing_bytes
    }

    fn looks_unchanged(&self) -> bool {
        self.looks_unchanged
    }

    fn is_kept(&self) -> bool {
        self.file.is_none()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.reader()?.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.writer()?;
        if self.origin != Origin::New || self.shared.options.zeros == Zeros::Written || bytes.len() < HOLE_BYTES {
            return self.write_all(file, offset, bytes);
        }
        // What is not written of a new file reads as zeros. Data between two holes is written in one call.
        let (mut data_start, mut zeros_start, mut at) = (0, None, 0);
        while at < bytes.len() {
            let into_block = usize::try_from((offset + at as u64) % BLOCK_BYTES as u64).unwrap_or(0);
            let end = bytes.len().min(at + BLOCK_BYTES - into_block);
            if is_zero(&bytes[at..end]) {
                zeros_start.get_or_insert(at);
            } else if let Some(zeros_start) = zeros_start.take()
                && at - zeros_start >= HOLE_BYTES
            {
                self.write_all(file, offset + data_start as u64, &bytes[data_start..zeros_start])?;
                data_start = at;
            }
            at = end;
        }
        let data_end = zeros_start.filter(|start| bytes.len() - start >= HOLE_BYTES).unwrap_or(bytes.len());
        self.write_all(file, offset + data_start as u64, &bytes[data_start..data_end])
    }

    fn finish(mut self: Box<Self>, node: &Node, size: u64) -> Result<Vec<TargetError>, TargetError> {
        if self.file.is_none() {
            return Ok(Vec::new());
        }
        let failed = |error: &io::Error| TargetError::of_io("finish", self.path.clone(), error);
        if self.is_as_wanted(node, size).map_err(|error| failed(&error))? {
            self.is_finished = true;
            return Ok(Vec::new());
        }
        self.set_size(size).map_err(|error| failed(&error))?;
        let before =
            if self.origin == Origin::New && self.folder.is_plain { Before::Nothing } else { Before::Attributes };
        let file = self.writer().map_err(|error| failed(&error))?;
        let problems = self.shared.setter.set_open(file.as_fd(), &self.path, node, before);
        let is_lasting = self.shared.options.stay == Stay::Lasting;
        if is_lasting && self.written_end.load(Ordering::Relaxed) >= WRITE_OUT_BYTES_MIN {
            // The system begins to write it out now, while others are restored, and not when all is synced at the end.
            // Pages that are not written yet stay; that others go is as it should be for what nobody reads now.
            let _ = fadvise(file, 0, None, Advice::DontNeed);
        }
        self.is_finished = true;
        Ok(problems)
    }
}

impl Drop for RestoredFile {
    /// A new file that was not finished does not have all its bytes: better none than one that looks whole.
    fn drop(&mut self) {
        if self.origin == Origin::New && !self.is_finished {
            let _ = unlinkat(&self.folder.fd, self.path.name(), AtFlags::empty());
        }
    }
}

fn create(folder: &Folder, name: &[u8]) -> Result<std::os::fd::OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(&folder.fd, name, flags, Mode::RUSR | Mode::WUSR)
}

fn stat_open(file: &File) -> Result<Statx, Errno> {
    statx(file, c"", AtFlags::EMPTY_PATH, FIELDS)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(128).all(|chunk| chunk.iter().fold(0, |sum, byte| sum | byte) == 0)
}
