//! A source with one of everything that backup programs trip over, and a comparison of two trees that shares no line
//! with the programs that it judges.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, FileTimes, Metadata, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
use rustix::io::Errno;

/// More than a pack holds, so that one file spans several.
const LARGE_BYTES: usize = 21 << 20;

/// Names that some program has once misread: as text, as a pattern, as JSON, as HTML, as an option.
const ODD_NAMES: [&[u8]; 14] = [
    b" leading and trailing ",
    b"-rf",
    b"<a href=\"x\">&'amp;.html",
    b"back\\slash",
    b"backslash-n\\n",
    b"bell\x07 escape\x1b[31m delete\x7f",
    b"line\nfeed\ttab\rreturn",
    b"not utf-8 \xff\xfe\x80",
    b"quote\"d `$(touch x)`",
    b"star*[a-z]?.{a,b}",
    b"surrogate \xed\xa0\x80",
    "\u{2028}\u{2029}\u{feff}".as_bytes(),
    "na\u{308}ive n\u{e4}ive \u{1f980}".as_bytes(),
    b"%2e%2e%2f",
];

/// Fills `folder`.
pub(crate) fn fill(folder: &Path) {
    let at = |name: &str| folder.join(name);
    for name in ["empty folder", "odd", "deep/er/and/deeper", "locked"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    fs::write(at("empty"), "").unwrap();
    fs::write(at("large"), noise(LARGE_BYTES, 1)).unwrap();
    fs::write(at("text"), "the same line again and again\n".repeat(50_000)).unwrap();
    for (number, name) in ODD_NAMES.into_iter().enumerate() {
        fs::write(at("odd").join(OsStr::from_bytes(name)), format!("{number}")).unwrap();
    }
    symlink(OsStr::from_bytes(b"nowhere \xff<&>"), at("odd/dangling")).unwrap();
    symlink("../deep", at("odd/to a folder")).unwrap();
    for number in 0..60 {
        fs::write(at("deep/er").join(format!("{number:03}")), noise(number * 97, 7 + number as u64)).unwrap();
    }
    fs::hard_link(at("deep/er/059"), at("deep/linked")).unwrap();
    fs::hard_link(at("deep/er/059"), at("linked as well")).unwrap();

    let sparse = fs::File::create(at("sparse")).unwrap();
    sparse.write_at(b"begin", 0).unwrap();
    sparse.write_at(b"middle", 3 << 20).unwrap();
    sparse.set_len(6 << 20).unwrap();

    fs::write(at("attributes"), "x").unwrap();
    attribute(&at("attributes"), "user.text", b"value");
    attribute(&at("attributes"), "user.bytes", b"\0\xff<&>");
    attribute(&at("attributes"), "user.empty", b"");
    attribute(&at("empty folder"), "user.of a folder", b"yes");

    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    if rustix::process::geteuid().is_root() {
        // Containers may forbid even root to make devices.
        let made = mknodat(CWD, at("device"), FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(1, 3));
        assert!(matches!(made, Ok(()) | Err(Errno::PERM)), "{made:?}");
    }
    for (name, mode) in [("empty", 0o400), ("text", 0o4755), ("attributes", 0o2711), ("locked", 0o1500)] {
        fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
    }
    for (name, seconds) in [("text", 1), ("large", 951_782_400), ("odd", 4_102_444_800), ("deep/er", 1_000_000_000)] {
        let times = FileTimes::new().set_modified(UNIX_EPOCH + Duration::new(seconds, 123_456_789));
        fs::File::open(at(name)).unwrap().set_times(times).unwrap();
    }
}

/// Changes some of what [`fill`] made: content, a mode alone, a time alone, a name, a kind.
pub(crate) fn change(folder: &Path, round: u8) {
    let at = |name: &str| folder.join(name);
    fs::File::options().write(true).open(at("large")).unwrap().write_at(&[round; 1000], 9 << 20).unwrap();
    fs::write(at("deep/er/and").join(format!("new in {round}")), noise(200_000, 1_000 + u64::from(round))).unwrap();
    fs::set_permissions(at("attributes"), Permissions::from_mode(0o600 + u32::from(round % 8))).unwrap();
    attribute(&at("attributes"), "user.text", &[round]);
    let number = |round: u8| format!("deep/er/{round:03}");
    fs::remove_file(at(&number(round))).unwrap();
    symlink("../er", at(&number(round))).unwrap();
    fs::rename(at(&number(round + 20)), at("odd").join(format!("moved in {round}"))).unwrap();
}

/// What differs between a tree and its copy; nothing when a restore was right.
pub(crate) fn differences(original: &Path, copy: &Path) -> Vec<String> {
    let mut comparison = Comparison::default();
    comparison.pair(original, copy);
    let Comparison { mut found, links, .. } = comparison;
    let groups = |which: fn(&(PathBuf, Option<Inode>, Option<Inode>)) -> Option<Inode>| {
        let mut groups = BTreeMap::<Inode, BTreeSet<&Path>>::new();
        for link in &links {
            if let Some(inode) = which(link) {
                groups.entry(inode).or_default().insert(&link.0);
            }
        }
        groups.into_values().filter(|group| group.len() > 1).collect::<BTreeSet<_>>()
    };
    if groups(|link| link.1) != groups(|link| link.2) {
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
    /// Files with several names: the original's path, its inode, its copy's.
    links: Vec<(PathBuf, Option<Inode>, Option<Inode>)>,
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
            self.links.push((original.to_owned(), inode(&before), inode(&after)));
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

/// Sets an attribute, where the file system knows them: both sides of a comparison lack it otherwise.
fn attribute(path: &Path, name: &str, value: &[u8]) {
    let set = setxattr(path, name, value, XattrFlags::empty());
    assert!(matches!(set, Ok(()) | Err(Errno::NOTSUP)), "{set:?}");
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
