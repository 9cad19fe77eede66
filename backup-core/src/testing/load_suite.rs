//! The contract suite of a [`Target`] that makes something else of the files of a snapshot: a database of its dump.
//!
//! Such a target cannot be asked for a file again, so that `target_suite` is not for it. What it owes is: the whole dump,
//! or an error.

#![expect(clippy::unwrap_used, reason = "a suite reports a broken promise by panicking, as a test does")]

use std::collections::HashMap;
use std::io;

use jiff::Timestamp;

use crate::contracts::{Pieces, Stored, Target, TargetError, WriteOrder};
use crate::model::{Metadata, Node, NodeKind, SnapshotPath};
use crate::observe::Amount;

/// Checks every promise of a [`Target`] that loads a dump.
///
/// `make` opens the place of a number, which is empty when the number comes for the first time, and which it must not be
/// told to replace; or says why that cannot be loaded into. `files` are the dump, in the order of its paths, which are
/// relative to its folder. Whether what was loaded is right, only the implementer can look at.
///
/// # Panics
///
/// When a promise is broken, with the promise in the message.
pub fn load_suite(make: impl Fn(usize) -> Result<Box<dyn Target>, String>, files: &[(String, Vec<u8>)]) {
    let open = |place| make(place).unwrap_or_else(|why| panic!("an empty place is refused: {why}"));
    assert!(!open(0).location().is_empty(), "a target says where it is");
    let nothing = load(&*open(0), &[], Fate::Whole);
    assert!(nothing.is_err(), "a dump of which nothing came was taken for loaded");

    for (place, piece_bytes) in [(1, usize::MAX), (2, 1_000)] {
        load(&*open(place), files, Fate::InPiecesOf(piece_bytes))
            .unwrap_or_else(|error| panic!("a whole dump cannot be loaded in pieces of {piece_bytes} bytes: {error}"));
        let again =
            make(place).and_then(|target| load(&*target, files, Fate::Whole).map_err(|error| error.to_string()));
        assert!(again.is_err(), "what a place held was replaced, or added to, although nobody asked for that");
    }

    // The largest is the dump itself, or the better part of it.
    let largest = (0..files.len()).max_by_key(|&number| files[number].1.len()).unwrap();
    let (name, bytes) = &files[largest];
    let cut = load(&*open(3), files, Fate::Dropped(largest));
    assert!(cut.is_err(), "a dump whose {name} was dropped half-way was taken for loaded");
    let mut short = files.to_vec();
    short[largest].1.truncate(bytes.len() / 2);
    assert!(load(&*open(4), &short, Fate::Whole).is_err(), "half of {name} was taken for the whole");
    let mut lacking = files.to_vec();
    lacking.remove(largest);
    assert!(load(&*open(5), &lacking, Fate::Whole).is_err(), "a dump without its {name} was taken for loaded");
    if open(6).order() == WriteOrder::Sequential {
        let backwards = load(&*open(6), files, Fate::Backwards(largest));
        assert!(backwards.is_err(), "{name} was taken although its end came first");
    }
}

/// Has a target load a whole dump: its files, in the order of their paths, as for [`load_suite`].
///
/// # Errors
///
/// The target's own.
pub fn load_all(target: &dyn Target, files: &[(String, Vec<u8>)]) -> Result<(), TargetError> {
    load(target, files, Fate::Whole)
}

/// What becomes of the files on their way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Whole,
    InPiecesOf(usize),
    /// This one is dropped when half of it was written.
    Dropped(usize),
    /// The second half of this one is written before the first.
    Backwards(usize),
}

/// Restores the files as the pipeline does, to the end or to the first failure. What the target reads by itself comes in other
/// pieces than it would be written in.
fn load(target: &dyn Target, files: &[(String, Vec<u8>)], fate: Fate) -> Result<(), TargetError> {
    let mut stored = InMemory::default();
    let nodes = files.iter().map(|(name, bytes)| (SnapshotPath::parse(name.as_bytes()), bytes.len() as u64));
    let written = nodes.filter(|(path, size)| !target.reads(path, &file(path, *size)));
    let bytes = written.map(|(_, size)| size).sum();
    target.begin(Amount { items: files.len() as u64, bytes })?;
    let root = SnapshotPath::root();
    target.enter(&root, &folder(b""))?;
    let mut inner: Option<SnapshotPath> = None;
    for (number, (name, bytes)) in files.iter().enumerate() {
        let path = SnapshotPath::parse(name.as_bytes());
        let above = name.rsplit_once('/').map(|(above, _)| SnapshotPath::parse(above.as_bytes()));
        if above != inner {
            leave(target, inner.as_ref())?;
            if let Some(above) = &above {
                target.enter(above, &folder(above.name()))?;
            }
            inner = above;
        }
        let node = file(&path, bytes.len() as u64);
        match target.reads(&path, &node) {
            true => {
                let ends = (fate == Fate::Dropped(number)).then_some(bytes.len() / 2);
                stored.0.insert(path, (bytes, ends));
            }
            false => one(target, &path, &node, bytes, fate, number)?,
        }
    }
    leave(target, inner.as_ref())?;
    target.leave(&root, &folder(b""), Some(&[]))?;
    target.load(&stored)?;
    target.finish()
}

/// The files that a target reads by itself, and how many bytes of each come: all, or some before an error.
#[derive(Default)]
struct InMemory<'a>(HashMap<SnapshotPath, (&'a [u8], Option<usize>)>);

impl Stored for InMemory<'_> {
    fn size(&self, path: &SnapshotPath) -> Option<u64> {
        self.0.get(path).map(|(bytes, _)| bytes.len() as u64)
    }

    fn open(&self, path: &SnapshotPath, from: u64) -> io::Result<Box<dyn Pieces + '_>> {
        let (bytes, ends) = self.0.get(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let rest = bytes.get(from..ends.unwrap_or(bytes.len())).unwrap_or_default();
        Ok(Box::new(Rest { bytes: rest, is_cut: ends.is_some() }))
    }

    fn go_on(&self) -> io::Result<()> {
        Ok(())
    }
}

struct Rest<'a> {
    bytes: &'a [u8],
    is_cut: bool,
}

impl Pieces for Rest<'_> {
    fn next(&mut self, piece: &mut Vec<u8>) -> io::Result<bool> {
        // Of a length that nothing in a dump has.
        let (next, rest) = self.bytes.split_at(self.bytes.len().min(7_919));
        if next.is_empty() && self.is_cut {
            return Err(io::Error::other("the rest of it is gone"));
        }
        self.bytes = rest;
        piece.clear();
        piece.extend_from_slice(next);
        Ok(!next.is_empty())
    }
}

fn leave(target: &dyn Target, folder_path: Option<&SnapshotPath>) -> Result<(), TargetError> {
    match folder_path {
        Some(path) => target.leave(path, &folder(path.name()), Some(&[])).map(drop),
        None => Ok(()),
    }
}

fn one(
    target: &dyn Target,
    path: &SnapshotPath,
    node: &Node,
    bytes: &[u8],
    fate: Fate,
    number: usize,
) -> Result<(), TargetError> {
    let file = target.file(path, node)?;
    if file.is_kept() {
        return Ok(());
    }
    let write = |at: usize, bytes: &[u8]| {
        let written = file.write_at(at as u64, bytes);
        written.map_err(|error| TargetError::of_io("write", path.clone(), &error))
    };
    let half = bytes.len() / 2;
    match fate {
        Fate::Dropped(which) if which == number => {
            write(0, &bytes[..half])?;
            // Without its last word.
            return Ok(());
        }
        Fate::Backwards(which) if which == number => {
            write(half, &bytes[half..])?;
            write(0, &bytes[..half])?;
        }
        Fate::InPiecesOf(piece_bytes) => {
            let piece_bytes = piece_bytes.min(bytes.len()).max(1);
            for (piece, bytes) in bytes.chunks(piece_bytes).enumerate() {
                write(piece * piece_bytes, bytes)?;
            }
        }
        _ => write(0, bytes)?,
    }
    file.finish(node, bytes.len() as u64).map(drop)
}

fn file(path: &SnapshotPath, size: u64) -> Node {
    let kind = NodeKind::File { size, content: Vec::new() };
    Node { name: path.name().to_vec(), kind, metadata: metadata(0o600) }
}

fn folder(name: &[u8]) -> Node {
    Node { name: name.to_vec(), kind: NodeKind::Dir { subtree: None }, metadata: metadata(0o700) }
}

fn metadata(mode: u32) -> Metadata {
    // Whoever runs the suite may own what it makes.
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Metadata { mode, mtime: Some(Timestamp::UNIX_EPOCH), uid, gid, links: 1, ..Metadata::default() }
}
