//! How a finished file gets its name.

use std::fs::File;

use backup_core::contracts::{ObjectKey, PutMode, SinkError, SinkErrorKind};
use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::folder::Folder;
use super::gate::Gate;

/// The temporary name of a file that is to become an object. The name is deleted when this goes, unless it has become
/// the object's.
pub(super) struct Temporary<'a> {
    folder: &'a Folder,
    key: &'a ObjectKey,
    path: String,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Named,
    Renamed,
}

impl<'a> Temporary<'a> {
    /// `path` is that of the file which is to become the object `key`.
    pub(super) fn new(folder: &'a Folder, key: &'a ObjectKey, path: String) -> Self {
        Self { folder, key, path, state: State::Named }
    }

    /// Gives `file`, which bears the temporary name, the object's, in one step.
    pub(super) fn place(mut self, file: &File, mode: PutMode, gate: &Gate) -> Result<(), SinkError> {
        match self.rename(RenameFlags::NOREPLACE, gate)? {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) if mode != PutMode::Create => self.replace(file, gate),
            // File systems that rename in one way only: NFS, many in user space.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.place_by_link(file, mode, gate),
            Err(errno) => Err(self.failure(errno)),
        }
    }

    /// As [`Temporary::place`] where a rename always replaces: a hard link never does.
    pub(super) fn place_by_link(mut self, file: &File, mode: PutMode, gate: &Gate) -> Result<(), SinkError> {
        let Self { folder, key, path, .. } = &self;
        let link = || rustix::fs::linkat(folder.root(), path, folder.root(), key.as_str(), AtFlags::empty());
        match gate.pass(link).ok_or_else(|| folder.given_up(key))? {
            Ok(()) => Ok(()),
            // A file server that is asked again because its answer was lost finds its own link there: the number of
            // links tells, as open(2) advises.
            Err(Errno::EXIST) if rustix::fs::fstat(file).is_ok_and(|stat| stat.st_nlink == 2) => Ok(()),
            Err(Errno::EXIST | Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) if mode != PutMode::Create => {
                self.replace(file, gate)
            }
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {
                Err(SinkError::new(SinkErrorKind::Other, folder.subject(key.as_str())).caused_by(
                    "the file system can neither rename without replacing nor make hard links, so that one of two \
                     writers could destroy what the other wrote",
                ))
            }
            Err(errno) => Err(self.failure(errno)),
        }
    }

    /// Takes the place of the object that is there. The file is on the disk before: a power failure between the two
    /// must not cost the old object without having brought the new one.
    fn replace(&mut self, file: &File, gate: &Gate) -> Result<(), SinkError> {
        rustix::fs::fsync(file).map_err(|errno| self.failure(errno))?;
        self.rename(RenameFlags::empty(), gate)?.map_err(|errno| self.failure(errno))
    }

    fn rename(&mut self, flags: RenameFlags, gate: &Gate) -> Result<Result<(), Errno>, SinkError> {
        let (root, key) = (self.folder.root(), self.key.as_str());
        let renamed = gate.pass(|| rustix::fs::renameat_with(root, &self.path, root, key, flags));
        let renamed = renamed.ok_or_else(|| self.folder.given_up(self.key))?;
        if renamed.is_ok() {
            self.state = State::Renamed;
        }
        Ok(renamed)
    }

    fn failure(&self, errno: Errno) -> SinkError {
        self.folder.failure(self.key.as_str(), errno)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if self.state == State::Named {
            // What cannot be removed now is removed by a later run.
            let _ = rustix::fs::unlinkat(self.folder.root(), &self.path, AtFlags::empty());
        }
    }
}
