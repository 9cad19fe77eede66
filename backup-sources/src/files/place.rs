//! Where a folder is, and how it and its entries are opened.
//!
//! A folder knows its name and the folder it lies in, so that a million folders, or one 2,000 levels deep, cost the
//! memory of their names. Everything below a source is opened relative to an open folder and without following any
//! link: what somebody swaps in while the walk runs is never read in the place of what was there.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use backup_core::model::SnapshotPath;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// Linux takes no path of this length or more in one call (`PATH_MAX`).
pub(super) const PATH_BYTES_END: usize = 4_096;

/// The folder that a source lies in, open.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) fd: OwnedFd,
    /// Its absolute path; empty for the root.
    pub(super) path: Vec<u8>,
}

impl Base {
    /// Opens the folder at `path`, following links as the person did who named it.
    pub(super) fn open(path: &[u8]) -> Result<Arc<Self>, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, if path.is_empty() { b"/" } else { path }, flags, Mode::empty())?;
        Ok(Arc::new(Self { fd, path: path.to_vec() }))
    }
}

/// A folder: its base, and the way from there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    base: Arc<Base>,
    link: Option<Arc<Link>>,
}

#[derive(Debug)]
struct Link {
    name: Vec<u8>,
    above: Option<Arc<Self>>,
    relative_bytes: usize,
}

impl Place {
    /// The base itself.
    pub(super) fn of(base: Arc<Base>) -> Self {
        Self { base, link: None }
    }

    /// The folder `name` in this one.
    pub(super) fn join(&self, name: &[u8]) -> Self {
        let above_bytes = self.link.as_ref().map_or(0, |link| link.relative_bytes + 1);
        let link = Link { name: name.to_vec(), above: self.link.clone(), relative_bytes: above_bytes + name.len() };
        Self { base: Arc::clone(&self.base), link: Some(Arc::new(link)) }
    }

    /// The absolute path; empty for the root.
    pub(super) fn absolute(&self) -> Vec<u8> {
        match &self.link {
            None => self.base.path.clone(),
            Some(link) => {
                let mut path = Vec::with_capacity(self.base.path.len() + 1 + link.relative_bytes);
                path.extend_from_slice(&self.base.path);
                path.push(b'/');
                link.push_onto(&mut path);
                path
            }
        }
    }

    /// The path in the snapshot.
    pub(super) fn snapshot_path(&self) -> SnapshotPath {
        SnapshotPath::parse(&self.absolute())
    }

    /// Opens the folder itself.
    pub(super) fn open_folder(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME;
        self.open_relative(&self.relative(), flags)
    }

    /// Opens a file in it for reading, even when a pipe was put in its place, and without touching its access time
    /// where that is allowed.
    pub(super) fn open_file(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        let mut path = self.relative();
        if path == b"." {
            path.clear();
        } else {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        self.open_relative(&path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOATIME)
    }

    fn relative(&self) -> Vec<u8> {
        match &self.link {
            None => b".".to_vec(),
            Some(link) => {
                let mut path = Vec::with_capacity(link.relative_bytes + 1);
                link.push_onto(&mut path);
                path
            }
        }
    }

    fn open_relative(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        match open_beneath(&self.base.fd, path, flags) {
            // Only the owner of a file and root may ask that its access time stays.
            Err(Errno::PERM) => open_beneath(&self.base.fd, path, flags - OFlags::NOATIME),
            outcome => outcome,
        }
    }
}

impl Link {
    fn push_onto(&self, path: &mut Vec<u8>) {
        let mut names = Vec::new();
        let mut level = Some(self);
        while let Some(link) = level {
            names.push(link.name.as_slice());
            level = link.above.as_deref();
        }
        for (count, name) in names.iter().rev().enumerate() {
            if count > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
    }
}

/// Opens a path of any length.
fn open_beneath(folder: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut rest = path;
    let mut reached: Option<OwnedFd> = None;
    while rest.len() >= PATH_BYTES_END {
        let Some(slash) = rest[..PATH_BYTES_END].iter().rposition(|byte| *byte == b'/') else {
            return Err(Errno::NAMETOOLONG);
        };
        let step = OFlags::PATH | OFlags::DIRECTORY;
        reached = Some(match &reached {
            Some(reached) => open_without_links(reached, &rest[..slash], step)?,
            None => open_without_links(&folder, &rest[..slash], step)?,
        });
        rest = &rest[slash + 1..];
    }
    match &reached {
        Some(reached) => open_without_links(reached, rest, flags),
        None => open_without_links(&folder, rest, flags),
    }
}

fn open_without_links(folder: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    /// Kernels before 5.6 lack the call. Without it only the last component is protected from being a link.
    static IS_MISSING: AtomicBool = AtomicBool::new(false);
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    if !IS_MISSING.load(Ordering::Relaxed) {
        match openat2(&folder, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS) {
            Err(Errno::NOSYS) => IS_MISSING.store(true, Ordering::Relaxed),
            outcome => return outcome,
        }
    }
    openat(folder, path, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_spells_its_path() {
        let root = Place::of(Base::open(b"").unwrap());
        assert_eq!(root.absolute(), b"");
        assert!(root.snapshot_path().is_root());
        let below = root.join(b"proc").join(b"self");
        assert_eq!(below.absolute(), b"/proc/self");
        assert_eq!(Place::of(Base::open(b"/proc").unwrap()).join(b"x").absolute(), b"/proc/x");
    }

    #[test]
    fn no_link_below_a_source_is_followed() {
        let proc = Place::of(Base::open(b"/proc").unwrap());
        assert_eq!(proc.join(b"self").open_file(b"status").unwrap_err(), Errno::LOOP);
        assert!(proc.open_file(b"version").is_ok());
    }
}
