//! Puts metadata back: attributes, owner, permissions and times, in the order in which they do not undo each other.
//!
//! * Attributes of users and access lists come first: who may not write a file may not set them.
//! * Then the owner: changing it takes set-user-id bits and capabilities away.
//! * Then the permissions, then capabilities and labels (`security.*`), then the times, which all of it disturbs.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use backup_core::contracts::TargetError;
use backup_core::model::{Metadata, Node, SnapshotPath, Xattr};
use jiff::Timestamp;
use nix::unistd::{Group, User};
use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chownat, fchmod, fchown, fremovexattr,
    fsetxattr, futimens, lsetxattr, utimensat,
};
use rustix::io::Errno;

use super::folders::set_mode;
use super::options::Owner;
use crate::files::xattrs;

/// Sets metadata.
#[derive(Debug)]
pub(super) struct Setter {
    owner: Owner,
    user: Uid,
    group: Gid,
    users: Mutex<HashMap<String, Option<u32>>>,
    groups: Mutex<HashMap<String, Option<u32>>>,
    told_of_owners: AtomicBool,
    told_of_xattrs: AtomicBool,
}

/// What may be there before the metadata is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing: it was just made, and inherited nothing.
    Nothing,
    /// Attributes that the snapshot does not have.
    Attributes,
}

impl Setter {
    pub(super) fn new(owner: Owner) -> Self {
        Self {
            owner,
            user: rustix::process::geteuid(),
            group: rustix::process::getegid(),
            users: Mutex::default(),
            groups: Mutex::default(),
            told_of_owners: AtomicBool::new(false),
            told_of_xattrs: AtomicBool::new(false),
        }
    }

    /// Sets everything on an open file or folder; what could not be set is returned.
    pub(super) fn set_open(
        &self,
        file: BorrowedFd<'_>,
        path: &SnapshotPath,
        node: &Node,
        before: Before,
    ) -> Vec<TargetError> {
        let metadata = &node.metadata;
        let mut problems = Problems { path, found: Vec::new() };
        if before == Before::Attributes {
            problems.of("remove extended attributes of", self.remove_others(file, &metadata.xattrs));
        }
        let (secured, free): (Vec<_>, Vec<_>) =
            metadata.xattrs.iter().partition(|xattr| xattr.name.starts_with(b"security."));
        let set = |xattr: &Xattr| fsetxattr(file, xattr.name.as_slice(), &xattr.value, XattrFlags::empty());
        self.set_xattrs(&free, set, &mut problems);
        let mode = self.set_owner(metadata, &mut problems, |owner, group| fchown(file, owner, group));
        problems.of("set permissions of", fchmod(file, Mode::from_raw_mode(mode)));
        self.set_xattrs(&secured, set, &mut problems);
        problems.of("set times of", futimens(file, &times(metadata)));
        problems.found
    }

    /// The same for what is not opened, by its name in an open folder, following no link. `handle` is the entry itself,
    /// open without reading; a link has no permissions of its own.
    pub(super) fn set_named(
        &self,
        (folder, handle): (&OwnedFd, &OwnedFd),
        path: &SnapshotPath,
        node: &Node,
        is_link: bool,
    ) -> Vec<TargetError> {
        let (metadata, name) = (&node.metadata, path.name());
        let mut problems = Problems { path, found: Vec::new() };
        let mut proc_path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
        proc_path.extend_from_slice(name);
        let xattrs: Vec<_> = metadata.xattrs.iter().collect();
        let mode = self
            .set_owner(metadata, &mut problems, |owner, group| chownat(handle, c"", owner, group, AtFlags::EMPTY_PATH));
        if !is_link {
            problems.of("set permissions of", set_mode(handle, mode));
        }
        let set =
            |xattr: &Xattr| lsetxattr(proc_path.as_slice(), xattr.name.as_slice(), &xattr.value, XattrFlags::empty());
        self.set_xattrs(&xattrs, set, &mut problems);
        problems.of("set times of", utimensat(folder, name, &times(metadata), AtFlags::SYMLINK_NOFOLLOW));
        problems.found
    }

    /// Takes away the attributes that a restore would have set and the snapshot does not have. Labels of security
    /// modules stay: they belong to the machine.
    fn remove_others(&self, file: BorrowedFd<'_>, wanted: &[Xattr]) -> Result<(), Errno> {
        let names = match xattrs::names_open(file) {
            Err(Errno::NOTSUP) => return Ok(()),
            names => names?,
        };
        for name in names {
            let is_ours = [b"user.".as_slice(), b"system.posix_acl_", b"security.capability"]
                .iter()
                .any(|start| name.starts_with(start));
            if is_ours && !wanted.iter().any(|xattr| xattr.name == name) {
                fremovexattr(file, name.as_slice())?;
            }
        }
        Ok(())
    }

    fn set_xattrs(&self, xattrs: &[&Xattr], set: impl Fn(&Xattr) -> Result<(), Errno>, problems: &mut Problems<'_>) {
        for xattr in xattrs {
            match set(xattr) {
                Ok(()) => {}
                // What the file system or the rights of this process never allow is said once, not for each file.
                Err(error @ (Errno::NOTSUP | Errno::PERM)) => {
                    if !self.told_of_xattrs.swap(true, Ordering::Relaxed) {
                        let name = String::from_utf8_lossy(&xattr.name);
                        problems.say("set extended attributes of", format!("{name}: {error} (said once)"));
                    }
                }
                Err(error) => {
                    let name = String::from_utf8_lossy(&xattr.name);
                    problems.say("set extended attributes of", format!("{name}: {error}"));
                }
            }
        }
    }

    /// Sets the owner and gives the permissions that may be set then: a program that was to run with its owner's
    /// rights must not run with those of whoever restored it.
    fn set_owner(
        &self,
        metadata: &Metadata,
        problems: &mut Problems<'_>,
        set: impl Fn(Option<Uid>, Option<Gid>) -> Result<(), Errno>,
    ) -> u32 {
        let (owner, group) = match self.owner {
            Owner::ByNumber => (metadata.uid, metadata.gid),
            Owner::ByName => (
                known(&self.users, &metadata.user, |name| User::from_name(name).ok()?.map(|user| user.uid.as_raw()))
                    .unwrap_or(metadata.uid),
                known(&self.groups, &metadata.group, |name| {
                    Group::from_name(name).ok()?.map(|group| group.gid.as_raw())
                })
                .unwrap_or(metadata.gid),
            ),
            Owner::Restorer => {
                let is_same = (metadata.uid, metadata.gid) == (self.user.as_raw(), self.group.as_raw());
                return if is_same { metadata.mode } else { metadata.mode & !0o6000 };
            }
        };
        let (owner, group) = (Uid::from_raw(owner), Gid::from_raw(group));
        match set(Some(owner), Some(group)) {
            Ok(()) => metadata.mode,
            Err(Errno::PERM) if !self.user.is_root() => {
                // A group that this user belongs to may still be set.
                let _ = set(None, Some(group));
                if !self.told_of_owners.swap(true, Ordering::Relaxed) {
                    let reason = "only root can give files to others, so this user owns what is restored (said once)";
                    problems.say("set owner of", reason.to_owned());
                }
                metadata.mode & !0o6000
            }
            Err(error) => {
                problems.of("set owner of", Err(error));
                metadata.mode & !0o6000
            }
        }
    }
}

struct Problems<'a> {
    path: &'a SnapshotPath,
    found: Vec<TargetError>,
}

impl Problems<'_> {
    fn of(&mut self, action: &'static str, outcome: Result<(), Errno>) {
        if let Err(error) = outcome {
            self.found.push(TargetError::of_io(action, self.path.clone(), &error.into()));
        }
    }

    fn say(&mut self, action: &'static str, reason: String) {
        self.found.push(TargetError::new(action, self.path.clone(), reason));
    }
}

fn times(metadata: &Metadata) -> Timestamps {
    Timestamps { last_access: timespec(metadata.atime), last_modification: timespec(metadata.mtime) }
}

/// A time that the snapshot does not have stays as it is.
fn timespec(time: Option<Timestamp>) -> Timespec {
    let Some(time) = time else { return Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT } };
    let nanoseconds = time.as_nanosecond();
    // Every instant that has a calendar date fits.
    let tv_sec = i64::try_from(nanoseconds.div_euclid(1_000_000_000)).unwrap_or_default();
    let tv_nsec = i64::try_from(nanoseconds.rem_euclid(1_000_000_000)).unwrap_or_default();
    Timespec { tv_sec, tv_nsec }
}

fn known(
    names: &Mutex<HashMap<String, Option<u32>>>,
    name: &str,
    look_up: impl FnOnce(&str) -> Option<u32>,
) -> Option<u32> {
    if name.is_empty() {
        return None;
    }
    let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(number) = names.get(name) {
        return *number;
    }
    let number = look_up(name);
    names.insert(name.to_owned(), number);
    number
}
