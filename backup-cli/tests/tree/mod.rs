//! A comparison of two trees that shares no line with the programs that it judges.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// What differs between a tree and its copy; nothing when a restore was right.
pub(crate) fn differences(original: &Path, copy: &Path) -> Vec<String> {
    let mut comparison = Comparison::default();
    comparison.pair(original, copy);
    let Comparison { mut found, links, .. } = comparison;
    let groups = |which: fn(&Link) -> Option<Inode>| {
        let mut groups = BTreeMap::<Inode, BTreeSet<&Path>>::new();
        for link in &links {
            if let Some(inode) = which(link) {
                groups.entry(inode).or_default().insert(&link.path);
            }
        }
        groups.into_values().filter(|group| group.len() > 1).collect::<BTreeSet<_>>()
    };
    if groups(|link| link.original) != groups(|link| link.copy) {
        found.push("hard links differ".to_owned());
    }
    found
}

/// Bytes that do not compress and are the same each time.
pub(crate) fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

type Inode = (u64, u64);

#[derive(Default)]
struct Comparison {
    found: Vec<String>,
    links: Vec<Link>,
}

/// A file that may have several names, in the original or in the copy.
struct Link {
    path: PathBuf,
    original: Option<Inode>,
    copy: Option<Inode>,
}

impl Comparison {
    fn pair(&mut self, original: &Path, copy: &Path) {
        let before = fs::symlink_metadata(original).unwrap();
        let Ok(after) = fs::symlink_metadata(copy) else {
            self.found.push(format!("{} is missing", original.display()));
            return;
        };
        let (left, right) = (facts(original, &before), facts(copy, &after));
        if left != right {
            self.found.push(format!("{}:\n  {left:?}\n  {right:?}", original.display()));
        }
        if before.file_type() != after.file_type() {
            return;
        }
        if before.is_file() {
            let inode = |metadata: &Metadata| (metadata.nlink() > 1).then_some((metadata.dev(), metadata.ino()));
            self.links.push(Link { path: original.to_owned(), original: inode(&before), copy: inode(&after) });
            if fs::read(original).unwrap() != fs::read(copy).unwrap() {
                self.found.push(format!("{}: content differs", original.display()));
            }
        }
        if before.is_dir() {
            let (left, right) = (names(original), names(copy));
            for extra in right.difference(&left) {
                self.found.push(format!("{} should not be there", copy.join(extra).display()));
            }
            for name in &left {
                self.pair(&original.join(name), &copy.join(name));
            }
        }
    }
}

/// What must be equal beside content and names.
fn facts(path: &Path, metadata: &Metadata) -> BTreeMap<&'static str, String> {
    let kind = metadata.file_type();
    let mut facts = BTreeMap::from([
        ("type", format!("{kind:?}")),
        ("modified", format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec())),
        ("owner", format!("{}:{}", metadata.uid(), metadata.gid())),
        ("attributes", format!("{:?}", attributes(path))),
    ]);
    if kind.is_symlink() {
        facts.insert("target", format!("{:?}", fs::read_link(path).unwrap()));
    } else {
        facts.insert("mode", format!("{:o}", metadata.mode() & 0o7777));
    }
    if kind.is_char_device() || kind.is_block_device() {
        facts.insert("device", metadata.rdev().to_string());
    }
    facts
}

fn names(folder: &Path) -> BTreeSet<OsString> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

fn attributes(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut names = vec![0; 4096];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names) else { return BTreeMap::new() };
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        value[..length].to_owned()
    };
    names.map(|name| (OsStr::from_bytes(name).to_owned(), value(name))).collect()
}
