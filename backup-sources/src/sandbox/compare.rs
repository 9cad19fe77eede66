//! Restored files against the snapshot: every entry looked at, every file read again and hashed, nothing left over.
//!
//! It shares no code with what wrote the files. Names come from the snapshot and are followed in the sandbox's own
//! folder, which nobody else can enter.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use backup_core::cancel::Cancel;
use backup_core::contracts::{Check, ExpectedEntry, Level, SandboxError};
use backup_core::model::{Id, Node, NodeKind, SnapshotPath};

use super::without_devices::is_device;

/// Differences that are told one by one.
const TOLD_MAX: usize = 10;

/// A comparison that is under way.
#[derive(Debug)]
pub(super) struct Comparison<'a> {
    root: &'a Path,
    is_root: bool,
    /// Entries that are as they must be, and those that must be.
    entries: Tally,
    /// The same for the contents of files.
    files: Tally,
    bytes: u64,
    /// Entries that are no folders: without any, nothing of anybody's was compared.
    borne: u64,
    /// Entries that were met below the root, to tell how many are too many.
    met: u64,
    extra_count: u64,
    /// The inode of every file with several names, by the snapshot's device and inode.
    inodes: HashMap<(u64, u64), (u64, u64)>,
    buffer: Vec<u8>,
    opened: Opened,
}

/// What was opened to look at it, with the permissions that it gets back: what was restored stays as it was.
#[derive(Debug, Default)]
struct Opened(Vec<(PathBuf, u32)>);

impl Opened {
    fn open(&mut self, place: &Path, found: &Metadata) -> io::Result<()> {
        fs::set_permissions(place, Permissions::from_mode(found.mode() & 0o7777 | 0o500))?;
        self.0.push((place.to_owned(), found.mode() & 0o7777));
        Ok(())
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // What is in a folder before the folder. Where it fails, the sandbox goes anyway.
        for (place, mode) in self.0.drain(..).rev() {
            let _ = fs::set_permissions(place, Permissions::from_mode(mode));
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    expected: u64,
    right: u64,
    told: Vec<String>,
}

impl Tally {
    fn judge(&mut self, path: &SnapshotPath, outcome: Result<(), String>) {
        self.expected += 1;
        match outcome {
            Ok(()) => self.right += 1,
            Err(what) if self.told.len() < TOLD_MAX => self.told.push(format!("{path}: {what}")),
            Err(_) => {}
        }
    }

    fn into_check(self, id: &str, level: Level) -> Check {
        let check = Check::compare(id, level, self.expected, self.right);
        if self.told.is_empty() { check } else { check.with_detail(self.told.join("; ")) }
    }
}

impl<'a> Comparison<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        Self {
            root,
            is_root: rustix::process::geteuid().is_root(),
            entries: Tally::default(),
            files: Tally::default(),
            bytes: 0,
            borne: 0,
            met: 0,
            extra_count: 0,
            inodes: HashMap::new(),
            buffer: Vec::new(),
            opened: Opened::default(),
        }
    }

    /// Compares one entry. Folders come before what is in them.
    pub(super) fn entry(&mut self, expected: &ExpectedEntry) -> Result<(), SandboxError> {
        let ExpectedEntry { path, node, .. } = expected;
        self.borne += u64::from(!node.is_dir());
        if matches!(node.kind, NodeKind::Socket) || is_device(node) && !self.is_root {
            return Ok(());
        }
        let place = below(self.root, path);
        let found = match fs::symlink_metadata(&place) {
            Ok(found) => found,
            Err(error) => {
                self.entries.judge(path, Err(missing(&error)));
                if matches!(node.kind, NodeKind::File { .. }) {
                    self.files.judge(path, Err(missing(&error)));
                }
                return Ok(());
            }
        };
        if !path.is_root() {
            self.met += 1;
        }
        let outcome = self.metadata(&place, &found, node);
        self.entries.judge(path, outcome);
        if found.is_dir() && !self.is_root && found.mode() & 0o500 != 0o500 {
            // What is in it cannot be looked at otherwise; its own permissions have just been compared.
            let opened = self.opened.open(&place, &found);
            opened.map_err(|error| SandboxError::new("enter a restored folder", error).ours())?;
        }
        if matches!(node.kind, NodeKind::File { .. }) {
            let outcome = self.content(&place, &found, expected);
            self.files.judge(path, outcome);
        }
        Ok(())
    }

    fn metadata(&mut self, place: &Path, found: &Metadata, node: &Node) -> Result<(), String> {
        let expected = &node.metadata;
        let kind = found.file_type();
        let is_kind = match &node.kind {
            NodeKind::File { .. } => kind.is_file(),
            NodeKind::Dir { .. } => kind.is_dir(),
            NodeKind::Symlink { .. } => kind.is_symlink(),
            NodeKind::BlockDevice { .. } => kind.is_block_device(),
            NodeKind::CharDevice { .. } => kind.is_char_device(),
            NodeKind::Fifo => kind.is_fifo(),
            _ => false,
        };
        if !is_kind {
            return Err(format!("is not a {}", node.kind.word()));
        }
        if let NodeKind::Symlink { target } = &node.kind {
            let there = fs::read_link(place).map_err(|error| error.to_string())?;
            if there.as_os_str().as_bytes() != target.as_slice() {
                return Err("points elsewhere".to_owned());
            }
        } else if !same_mode(found.mode(), expected.mode, self.is_root) {
            return Err(format!("has the permissions {:04o}, not {:04o}", found.mode() & 0o7777, expected.mode));
        }
        if self.is_root && (found.uid(), found.gid()) != (expected.uid, expected.gid) {
            return Err(format!("belongs to {}:{}, not {}:{}", found.uid(), found.gid(), expected.uid, expected.gid));
        }
        if let Some(mtime) = expected.mtime {
            let mtime = (mtime.as_second(), i64::from(mtime.subsec_nanosecond()));
            if !same_time((found.mtime(), found.mtime_nsec()), mtime) {
                return Err("has another time of change".to_owned());
            }
        }
        let device = match node.kind {
            NodeKind::BlockDevice { device } | NodeKind::CharDevice { device } => Some(device),
            _ => None,
        };
        if device.is_some_and(|device| device != found.rdev()) {
            return Err("is another device".to_owned());
        }
        self.attributes(place, node)?;
        self.links(found, node)
    }

    /// Attributes that whoever restores can set.
    fn attributes(&self, place: &Path, node: &Node) -> Result<(), String> {
        for attribute in &node.metadata.xattrs {
            let is_settable = attribute.name.starts_with(b"user.")
                || self.is_root && attribute.name == b"security.capability"
                || attribute.name.starts_with(b"system.posix_acl_");
            if !is_settable {
                continue;
            }
            let mut value = vec![0; attribute.value.len() + 1];
            let name = OsStr::from_bytes(&attribute.name);
            let is_right = rustix::fs::lgetxattr(place, name, &mut value)
                .is_ok_and(|length| value.get(..length) == Some(&attribute.value[..]));
            if !is_right {
                return Err(format!("lacks the attribute {}", name.to_string_lossy()));
            }
        }
        Ok(())
    }

    /// Names of one file are names of one file again.
    fn links(&mut self, found: &Metadata, node: &Node) -> Result<(), String> {
        let expected = &node.metadata;
        if expected.links < 2 || found.is_dir() {
            return Ok(());
        }
        let here = (found.dev(), found.ino());
        let first = *self.inodes.entry((expected.device_id, expected.inode)).or_insert(here);
        if first == here { Ok(()) } else { Err("is no longer the same file as its other names".to_owned()) }
    }

    fn content(&mut self, place: &Path, found: &Metadata, expected: &ExpectedEntry) -> Result<(), String> {
        let opened = match File::open(place) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !self.is_root => {
                // Its permissions have been compared.
                self.opened.open(place, found).and_then(|()| File::open(place))
            }
            opened => opened,
        };
        let mut file = opened.map_err(|error| format!("cannot be opened: {error}"))?;
        let size: u64 = expected.pieces.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
        if found.len() != size {
            return Err(format!("has {} bytes, not {size}", found.len()));
        }
        let mut offset = 0_u64;
        for (id, bytes) in &expected.pieces {
            self.buffer.resize(*bytes as usize, 0);
            file.read_exact(&mut self.buffer).map_err(|error| format!("cannot be read: {error}"))?;
            if Id::of(&self.buffer) != *id {
                return Err(format!("what is there at byte {offset} is not what was backed up"));
            }
            offset += u64::from(*bytes);
        }
        self.bytes += offset;
        Ok(())
    }

    /// Looks for what the snapshot does not have: as many entries must be there as were met.
    pub(super) fn extras(&mut self, cancel: &Cancel) -> Result<(), SandboxError> {
        let mut there = 0_u64;
        let mut folders = vec![self.root.to_owned()];
        while let Some(folder) = folders.pop() {
            if cancel.requested() {
                return Err(SandboxError::new("compare", "stopped on request").ours());
            }
            let failed = |error: io::Error| SandboxError::new("list a restored folder", error);
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                there += 1;
                if entry.file_type().map_err(failed)?.is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        self.extra_count = there.saturating_sub(self.met);
        Ok(())
    }

    /// What came of it.
    pub(super) fn into_checks(self, level: Level) -> Vec<Check> {
        let Self { entries, files, bytes, borne, extra_count, .. } = self;
        // Folders come back from any backup, also from that of a disk that was not there.
        let level = if borne == 0 { level.min(Level::Restored) } else { level };
        let contents = files.into_check("contents of files", level);
        let contents = match contents.detail {
            None => contents.with_detail(format!("{bytes} bytes read again and hashed")),
            Some(_) => contents,
        };
        vec![
            entries.into_check("entries with their metadata", level),
            contents,
            Check::compare("entries that the snapshot does not have", level, 0, extra_count),
        ]
    }
}

/// Who is not root gets set-user-id bits back on files of his own only: whether they are there says nothing then.
fn same_mode(found: u32, expected: u32, is_root: bool) -> bool {
    let compared = if is_root { 0o7777 } else { 0o1777 };
    found & compared == expected & compared
}

/// File systems may keep less than nanoseconds.
fn same_time(found: (i64, i64), expected: (i64, i64)) -> bool {
    found.0 == expected.0 && (found.1 == expected.1 || found.1 == expected.1 / 1_000 * 1_000 || found.1 == 0)
}

fn missing(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "is missing".to_owned(),
        _ => format!("cannot be looked at: {error}"),
    }
}

/// Where an entry lies.
pub(super) fn below(root: &Path, path: &SnapshotPath) -> PathBuf {
    let mut place = root.to_owned();
    place.extend(path.components().map(OsStr::from_bytes));
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_user_id_bits_are_compared_by_root_alone() {
        const FILE: u32 = 0o100_000;
        assert!(same_mode(FILE | 0o4755, 0o4755, true) && !same_mode(FILE | 0o755, 0o4755, true));
        assert!(same_mode(FILE | 0o4755, 0o4755, false) && same_mode(FILE | 0o755, 0o4755, false));
        assert!(!same_mode(FILE | 0o754, 0o4755, false) && !same_mode(FILE | 0o755, 0o1755, false));
    }

    #[test]
    fn a_file_system_may_keep_less_of_a_time() {
        let exact = (1_700_000_000, 123_456_789);
        for kept in [exact, (exact.0, 123_456_000), (exact.0, 0)] {
            assert!(same_time(kept, exact), "{kept:?}");
        }
        assert!(!same_time((exact.0, 5), exact) && !same_time((exact.0 + 1, exact.1), exact));
    }
    #[test]
    fn what_was_opened_to_be_looked_at_is_shut_again() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(&inner, Permissions::from_mode(0o222)).unwrap();
        let mode = || fs::metadata(&inner).unwrap().mode() & 0o7777;
        let mut opened = Opened::default();
        opened.open(&inner, &fs::metadata(&inner).unwrap()).unwrap();
        assert_eq!(mode(), 0o722);
        drop(opened);
        assert_eq!(mode(), 0o222);
    }
}
