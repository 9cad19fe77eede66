//! A path inside a snapshot.

use std::fmt;
use std::path::Path;

/// An absolute path inside a snapshot, as raw bytes; names need not be UTF-8. `/` is the snapshot's root.
///
/// The text that `Display` gives is for people: bytes that are not UTF-8 are replaced, and control characters are
/// escaped so that a hostile name cannot play with a terminal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SnapshotPath(Vec<u8>);

impl SnapshotPath {
    /// The root of a snapshot.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The path that `text` spells. A leading slash is implied; empty components and `.` are dropped.
    pub fn parse(text: &[u8]) -> Self {
        let mut path = Self::root();
        for component in text.split(|byte| *byte == b'/').filter(|component| !matches!(*component, b"" | b".")) {
            path.push(component);
        }
        path
    }

    /// The path of a file of this machine, which must be absolute already.
    pub fn of_file(path: &Path) -> Self {
        use std::os::unix::ffi::OsStrExt;
        Self::parse(path.as_os_str().as_bytes())
    }

    /// This path with `name` below it.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        let mut path = Self(Vec::with_capacity(self.0.len() + 1 + name.len()));
        path.0.extend_from_slice(&self.0);
        path.push(name);
        path
    }

    /// Goes down to `name`.
    pub fn push(&mut self, name: &[u8]) {
        self.0.push(b'/');
        self.0.extend_from_slice(name);
    }

    /// Goes up one level; `false` at the root.
    pub fn pop(&mut self) -> bool {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => {
                self.0.truncate(slash);
                true
            }
            None => false,
        }
    }

    /// Takes back what [`SnapshotPath::push`] did with `name`, which in a hostile repository may hold slashes.
    pub(crate) fn pop_name(&mut self, name: &[u8]) {
        debug_assert!(self.0.ends_with(name), "only what was pushed last can be taken back");
        self.0.truncate(self.0.len().saturating_sub(name.len() + 1));
    }

    /// The last component; empty at the root.
    pub fn name(&self) -> &[u8] {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => &self.0[slash + 1..],
            None => &[],
        }
    }

    /// The components from the root down.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').skip(1)
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this path is `ancestor` or lies below it.
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        self.0.strip_prefix(ancestor.0.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// The bytes, beginning with a slash; `/` at the root.
    pub fn as_bytes(&self) -> &[u8] {
        if self.0.is_empty() { b"/" } else { &self.0 }
    }
}

impl fmt::Display for SnapshotPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in String::from_utf8_lossy(self.as_bytes()).chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                fmt::Write::write_char(f, character)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_sum_of_its_components() {
        let path = SnapshotPath::parse(b"//home/./a//b/");
        assert_eq!(path.as_bytes(), b"/home/a/b");
        assert_eq!(path.components().collect::<Vec<_>>(), [b"home".as_slice(), b"a", b"b"]);
        assert_eq!(path.name(), b"b");
        assert!(path.starts_with(&SnapshotPath::parse(b"/home/a")));
        assert!(!path.starts_with(&SnapshotPath::parse(b"/home/a/b/c")));
        assert!(!SnapshotPath::parse(b"/home/ab").starts_with(&SnapshotPath::parse(b"/home/a")));
        assert_eq!(SnapshotPath::root().components().count(), 0);
        assert_eq!(SnapshotPath::root().to_string(), "/");
    }

    #[test]
    fn a_hostile_name_cannot_speak_to_the_terminal() {
        assert_eq!(SnapshotPath::parse(b"/a\x1b[2J\n").to_string(), "/a\\u{1b}[2J\\n");
    }
}
