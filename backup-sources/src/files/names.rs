//! The names in one folder.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, RawDir, openat};
use rustix::io::Errno;

/// The names in a folder with their kinds, sorted by their bytes. One buffer holds all names, so that a folder with a
/// million entries costs little more than the bytes of their names.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    offset: usize,
    length: u16,
    kind: FileType,
}

impl Names {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.spans.len()
    }

    /// The name at `index`, and its kind; [`FileType::Unknown`] when the file system does not say.
    pub(super) fn get(&self, index: usize) -> (&[u8], FileType) {
        let span = self.spans[index];
        (&self.bytes[span.offset..span.offset + usize::from(span.length)], span.kind)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], FileType)> {
        (0..self.count()).map(|index| self.get(index))
    }

    /// The kind of `name`, when it is there.
    pub(super) fn find(&self, name: &[u8]) -> Option<FileType> {
        let found = self.spans.binary_search_by(|span| span.name(&self.bytes).cmp(name));
        found.ok().map(|index| self.spans[index].kind)
    }

    /// Takes all but one name away.
    pub(super) fn keep_only(&mut self, name: &[u8]) {
        let bytes = &self.bytes;
        self.spans.retain(|span| span.name(bytes) == name);
    }

    /// Appends a name. The order is restored by [`Names::sort`].
    pub(super) fn push(&mut self, name: &[u8], kind: FileType) {
        // No file system has names longer than 255 bytes.
        let Ok(length) = u16::try_from(name.len()) else {
            return;
        };
        self.spans.push(Span { offset: self.bytes.len(), length, kind });
        self.bytes.extend_from_slice(name);
    }

    /// Sorts, and drops the second of two equal names, which a folder that changes while it is read may give.
    pub(super) fn sort(&mut self) {
        let bytes = &self.bytes;
        self.spans.sort_unstable_by(|a, b| a.name(bytes).cmp(b.name(bytes)));
        self.spans.dedup_by(|a, b| a.name(bytes) == b.name(bytes));
    }
}

impl Span {
    fn name(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.offset..self.offset + usize::from(self.length)]
    }
}

/// Lists an open folder, which must not have been listed before. An error comes with the names read until then.
pub(super) fn list(folder: impl AsFd) -> (Names, Result<(), Errno>) {
    let mut names = Names::default();
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    let outcome = loop {
        match entries.next() {
            Some(Ok(entry)) => match entry.file_name().to_bytes() {
                b"." | b".." => {}
                name => names.push(name, entry.file_type()),
            },
            Some(Err(Errno::INTR)) => {}
            Some(Err(error)) => break Err(error),
            None => break Ok(()),
        }
    };
    names.sort();
    (names, outcome)
}

/// Lists the folder that `folder` is open on, whatever was read through it before.
pub(super) fn list_anew(folder: impl AsFd) -> Result<Names, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let again: OwnedFd = openat(folder, c".", flags, Mode::empty())?;
    let (names, outcome) = list(&again);
    outcome.map(|()| names)
}
