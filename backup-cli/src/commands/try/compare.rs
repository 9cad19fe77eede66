//! Are two trees the same? Asked of the file system alone, with nothing of the engine in between.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use backup_core::cancel::Cancel;
use jiff::Timestamp;

use super::limit::NotTaken;
use crate::exit::Failure;

/// What a comparison found.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Files whose bytes were compared.
    pub(super) files: u64,
    /// All entries whose metadata was compared.
    pub(super) entries: u64,
    /// Bytes that were compared.
    pub(super) bytes: u64,
    /// Entries that somebody changed since the backup began.
    pub(super) changed: u64,
    /// Files that could not be read.
    pub(super) unreadable: u64,
    /// What differs, as a path and how.
    pub(super) differences: Vec<String>,
}

/// Compares what was backed up since `began` with what was restored.
pub(super) fn compare(
    original: &Path,
    copy: &Path,
    not_taken: &NotTaken,
    began: Timestamp,
    cancel: &Cancel,
) -> Result<Comparison, Failure> {
    let mut comparison = Comparison::default();
    let mut waiting = vec![(original.to_owned(), copy.to_owned())];
    while let Some((original, copy)) = waiting.pop() {
        cancel.check()?;
        let Ok(before) = fs::symlink_metadata(&original) else {
            comparison.changed += 1;
            continue;
        };
        match comparison.pair(&original, &copy, &before, cancel)? {
            Pair::Equal => {}
            Pair::Unreadable => comparison.unreadable += 1,
            Pair::Differs(_) if changed_since(&before, began) => comparison.changed += 1,
            Pair::Differs(how) => comparison.differences.push(format!("{}: {how}", original.display())),
        }
        if !before.is_dir() {
            continue;
        }
        let (wanted, found) = (names(&original), names(&copy));
        let wanted = match wanted {
            Ok(names) => expected(&original, &before, names, not_taken),
            // Its loss was told by the backup.
            Err(_) => continue,
        };
        let found = found.unwrap_or_default();
        for extra in found.difference(&wanted) {
            let path = original.join(extra);
            if path.symlink_metadata().is_ok() {
                comparison.differences.push(format!("{}: was restored although it was left out", path.display()));
            } else {
                comparison.changed += 1;
            }
        }
        waiting.extend(wanted.into_iter().map(|name| (original.join(&name), copy.join(&name))));
    }
    Ok(comparison)
}

enum Pair {
    Equal,
    Unreadable,
    Differs(&'static str),
}

impl Comparison {
    fn pair(&mut self, original: &Path, copy: &Path, before: &Metadata, cancel: &Cancel) -> Result<Pair, Failure> {
        let Ok(after) = fs::symlink_metadata(copy) else {
            let is_unreadable = before.is_file() && File::open(original).is_err();
            return Ok(if is_unreadable { Pair::Unreadable } else { Pair::Differs("is missing") });
        };
        self.entries += 1;
        let is_root = rustix::process::geteuid().is_root();
        let times = |metadata: &Metadata| (metadata.mtime(), metadata.mtime_nsec());
        let how = if before.file_type() != after.file_type() {
            "is of another kind"
        } else if before.is_symlink() && fs::read_link(original).ok() != fs::read_link(copy).ok() {
            "points elsewhere"
        } else if before.mode() != after.mode() {
            "has other permissions"
        } else if times(before) != times(&after) {
            "has another time"
        } else if is_root && (before.uid(), before.gid()) != (after.uid(), after.gid()) {
            "has another owner"
        } else if before.rdev() != after.rdev() {
            "is another device"
        } else if attributes(original, is_root) != attributes(copy, is_root) {
            "has other attributes"
        } else if before.is_file() {
            return self.contents(original, copy, cancel);
        } else {
            return Ok(Pair::Equal);
        };
        Ok(Pair::Differs(how))
    }

    fn contents(&mut self, original: &Path, copy: &Path, cancel: &Cancel) -> Result<Pair, Failure> {
        let Ok(original) = File::open(original) else { return Ok(Pair::Unreadable) };
        let Ok(copy) = File::open(copy) else { return Ok(Pair::Differs("cannot be read again")) };
        self.files += 1;
        let (mut one, mut other) = (vec![0; 256 * 1024], vec![0; 256 * 1024]);
        loop {
            cancel.check()?;
            let (Ok(read), Ok(again)) = (fill(&original, &mut one), fill(&copy, &mut other)) else {
                return Ok(Pair::Differs("cannot be read to its end"));
            };
            if one[..read] != other[..again] {
                return Ok(Pair::Differs("has other content"));
            }
            self.bytes += read as u64;
            if read < one.len() {
                return Ok(Pair::Equal);
            }
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(mut file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Whether somebody touched it since the backup began. Coarse clocks are given a moment.
fn changed_since(metadata: &Metadata, began: Timestamp) -> bool {
    metadata.ctime() >= began.as_second() - 1
}

fn names(folder: &Path) -> io::Result<BTreeSet<OsString>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// The names that must have been restored: without what a trial leaves out.
fn expected(
    folder: &Path,
    metadata: &Metadata,
    mut names: BTreeSet<OsString>,
    not_taken: &NotTaken,
) -> BTreeSet<OsString> {
    const TAG: &str = "CACHEDIR.TAG";
    const SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
    let tag = folder.join(TAG);
    if names.contains(OsStr::new(TAG)) && fs::read(tag).is_ok_and(|text| text.starts_with(SIGNATURE)) {
        return BTreeSet::from([OsString::from(TAG)]);
    }
    names.retain(|name| {
        let path = folder.join(name);
        let Ok(entry) = fs::symlink_metadata(&path) else { return false };
        !entry.file_type().is_socket()
            && !is_scratch(&path)
            && !not_taken.contains(path.as_os_str().as_bytes())
            // What is mounted there is not taken; the mount point itself is.
            && (entry.dev() == metadata.dev() || entry.is_dir())
    });
    names
}

/// Whether this is a folder that some trial lives in.
fn is_scratch(path: &Path) -> bool {
    path.parent() == Some(&*std::env::temp_dir())
        && path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"backup-try-"))
}

/// Extended attributes that a restore by this user can set.
fn attributes(path: &Path, is_root: bool) -> BTreeMap<OsString, Vec<u8>> {
    let mut names = vec![0; 64 * 1024];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names) else { return BTreeMap::new() };
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let restorable = names.filter(|name| {
        name.starts_with(b"user.")
            || name.starts_with(b"system.posix_acl_")
            || is_root && !name.starts_with(b"security.selinux")
    });
    let with_value = restorable.filter_map(|name| {
        let mut value = vec![0; 64 * 1024];
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value).ok()?;
        value.truncate(length);
        Some((OsString::from_vec(name.to_vec()), value))
    });
    with_value.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::{Duration, SystemTime};

    use super::*;

    /// Two equal trees, of which one is then changed.
    fn differences(change: impl FnOnce(&Path)) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let time = SystemTime::now() - Duration::from_secs(1_000);
        for tree in ["a", "b"] {
            let tree = folder.path().join(tree);
            fs::create_dir_all(tree.join("sub")).unwrap();
            fs::write(tree.join("sub/file"), "content").unwrap();
            fs::write(tree.join("sub/empty"), "").unwrap();
            symlink("target", tree.join("link")).unwrap();
            rustix::fs::utimensat(
                rustix::fs::CWD,
                tree.join("link"),
                &rustix::fs::Timestamps {
                    last_access: rustix::fs::Timespec { tv_sec: 5, tv_nsec: 0 },
                    last_modification: rustix::fs::Timespec { tv_sec: 5, tv_nsec: 0 },
                },
                rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
            )
            .unwrap();
            for path in ["sub/file", "sub/empty", "sub", ""] {
                File::open(tree.join(path)).unwrap().set_modified(time).unwrap();
            }
        }
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        change(&b);
        // Nothing counts as changed meanwhile: the backup begins in the future.
        let began = Timestamp::now() + jiff::SignedDuration::from_hours(1);
        let found = compare(&a, &b, &NotTaken::default(), began, &Cancel::new()).unwrap();
        found.differences.iter().map(|text| text.replace(&*a.to_string_lossy(), "")).collect()
    }

    fn keeping_time(path: &Path, change: impl FnOnce()) {
        let time = fs::metadata(path).unwrap().modified().unwrap();
        change();
        File::open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn equal_trees_have_no_differences() {
        assert_eq!(differences(|_| {}), [""; 0]);
    }

    #[test]
    fn every_difference_is_found_and_named() {
        let file = |copy: &Path| copy.join("sub/file");
        let content = differences(|copy| keeping_time(&file(copy), || fs::write(file(copy), "Content").unwrap()));
        assert_eq!(content, ["/sub/file: has other content"]);
        let longer = differences(|copy| keeping_time(&file(copy), || fs::write(file(copy), "contents").unwrap()));
        assert_eq!(longer, ["/sub/file: has other content"]);
        let time = differences(|copy| File::open(file(copy)).unwrap().set_modified(SystemTime::now()).unwrap());
        assert_eq!(time, ["/sub/file: has another time"]);
        let mode = differences(|copy| fs::set_permissions(file(copy), fs::Permissions::from_mode(0o600)).unwrap());
        assert_eq!(mode, ["/sub/file: has other permissions"]);
        let sub = |copy: &Path| copy.join("sub");
        let missing = differences(|copy| keeping_time(&sub(copy), || fs::remove_file(copy.join("sub/empty")).unwrap()));
        assert_eq!(missing, ["/sub/empty: is missing"]);
        let kind = differences(|copy| {
            keeping_time(&sub(copy), || {
                fs::remove_file(copy.join("sub/empty")).unwrap();
                fs::create_dir(copy.join("sub/empty")).unwrap();
            });
        });
        assert_eq!(kind, ["/sub/empty: is of another kind"]);
    }
}
