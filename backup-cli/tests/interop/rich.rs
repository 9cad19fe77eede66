//! A source with one of everything that backup programs trip over.

use std::ffi::OsStr;
use std::fs::{self, FileTimes, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
use rustix::io::Errno;

use crate::tree::{differences, noise};

/// More than a pack holds, so that one file spans several.
const LARGE_BYTES: usize = 21 << 20;

/// A link whose target is not UTF-8. Restic before 0.16 does not read it right, nor write it.
pub(crate) const RAW_LINK: &str = "odd/raw link";

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
    symlink("nowhere <&>", at("odd/dangling")).unwrap();
    symlink(OsStr::from_bytes(b"nowhere \xff"), at(RAW_LINK)).unwrap();
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

/// Sets an attribute, where the file system knows them: both sides of a comparison lack it otherwise.
fn attribute(path: &Path, name: &str, value: &[u8]) {
    let set = setxattr(path, name, value, XattrFlags::empty());
    assert!(matches!(set, Ok(()) | Err(Errno::NOTSUP)), "{set:?}");
}

#[test]
fn the_comparison_that_judges_restores_sees_every_change() {
    let scratch = tempfile::tempdir().unwrap();
    let (original, copy) = (scratch.path().join("original"), scratch.path().join("copy"));
    fs::create_dir(&original).unwrap();
    fill(&original);
    let copied = std::process::Command::new("cp").arg("-a").args([&original, &copy]).status().unwrap();
    assert!(copied.success());
    assert_eq!(differences(&original, &copy), [""; 0]);

    let at = |name: &str| copy.join(name);
    let set_time = |name: &str| {
        let times = FileTimes::new().set_modified(UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_788));
        fs::File::open(at(name)).unwrap().set_times(times).unwrap();
    };
    let replace = |name: &str, make: &dyn Fn(&Path)| {
        fs::remove_file(at(name)).unwrap();
        make(&at(name));
    };
    let changes: [(&str, &dyn Fn()); 8] = [
        ("deep/er", &|| set_time("deep/er")),
        ("text", &|| fs::set_permissions(at("text"), Permissions::from_mode(0o755)).unwrap()),
        ("empty folder", &|| attribute(&at("empty folder"), "user.of a folder", b"no")),
        ("should not be there", &|| fs::write(at("odd/more"), "").unwrap()),
        ("raw link", &|| replace(RAW_LINK, &|path| symlink("nowhere \u{fffd}", path).unwrap())),
        ("fifo is missing", &|| fs::remove_file(at("fifo")).unwrap()),
        ("hard links", &|| replace("linked as well", &|path| assert!(fs::copy(at("deep/linked"), path).is_ok()))),
        ("large: content", &|| {
            let large = fs::File::options().write(true).open(at("large")).unwrap();
            large.write_at(b"?", 20 << 20).unwrap();
        }),
    ];
    for (word, change) in changes {
        change();
        let found = differences(&original, &copy).join("\n");
        assert!(found.contains(word), "{word}: {found}");
    }
}
