//! The contract suite of [`Target`]: one function per promise.

#![expect(clippy::unwrap_used, reason = "a suite reports a broken promise by panicking, as a test does")]

use jiff::Timestamp;

use crate::contracts::{Target, TargetFile, WriteOrder};
use crate::model::{Metadata, Node, NodeKind, SnapshotPath};
use crate::observe::Amount;

/// Checks every promise of [`Target`], each on a target of its own that `make` gives: empty, writable, and told to
/// overwrite what is there and to delete nothing.
///
/// What was restored is looked at through the target itself, by opening it again. Whether something outside of it was
/// touched, and what metadata was set, only the implementer can look at.
///
/// # Panics
///
/// When a promise is broken, with the promise in the message.
pub fn target_suite(make: impl Fn() -> Box<dyn Target>) {
    let made = || {
        let target = make();
        assert!(!target.location().is_empty(), "a target says where it is");
        target
            .begin(Amount { items: 10, bytes: 1_000_000 })
            .unwrap_or_else(|error| panic!("it does not begin: {error}"));
        target
    };
    files_are_what_was_written(&*made());
    files_are_cut_to_their_size(&*made());
    only_what_is_written_changes(&*made());
    a_new_file_that_is_dropped_unfinished_is_not_left(&*made());
    a_file_that_was_there_outlives_a_dropped_restore(&*made());
    reading_fills_the_buffer_or_fails(&*made());
    an_unchanged_file_is_not_claimed_lightly(&*made());
    a_hard_link_has_the_content_of_its_first_name(&*made());
    folders_nest_and_keep_what_the_snapshot_names(&*made());
    names_that_lead_elsewhere_are_refused(&*made());
    if made().order() == WriteOrder::Any {
        pieces_may_come_in_any_order(&*made());
        several_threads_may_write_one_file(&*made());
        several_threads_may_write_several_files(&*made());
    }
}

fn files_are_what_was_written(target: &dyn Target) {
    let contents: [(&str, Vec<u8>); 5] = [
        ("/empty", Vec::new()),
        ("/small", b"small".to_vec()),
        ("/zeros", vec![0; 300_000]),
        ("/mixed", [vec![1; 100], vec![0; 200_000], vec![2; 70_000], vec![0; 65_536]].concat()),
        ("/noise", noise(3, 1_000_003)),
    ];
    for (path, content) in &contents {
        restore(target, path, content);
    }
    target.finish().unwrap_or_else(|error| panic!("it does not finish: {error}"));
    for (path, content) in &contents {
        assert_holds(target, path, content, "files are what was written");
    }
}

fn files_are_cut_to_their_size(target: &dyn Target) {
    restore(target, "/a", &noise(1, 5_000));
    restore(target, "/a", b"short");
    assert_holds(target, "/a", b"short", "a longer file that was there is cut");
    restore(target, "/a", &noise(2, 9_000));
    assert_holds(target, "/a", &noise(2, 9_000), "a shorter file that was there grows");
    restore(target, "/a", b"");
    assert_holds(target, "/a", b"", "a file becomes empty");
}

fn only_what_is_written_changes(target: &dyn Target) {
    let mut content = noise(4, 20_000);
    restore(target, "/a", &content);
    let file = open(target, "/a", content.len());
    assert_eq!(file.existing_bytes(), 20_000, "a file that is there has its size");
    assert!(!file.is_kept(), "a target that was told to overwrite keeps nothing back");
    file.write_at(5_000, &[9; 100]).unwrap();
    content[5_000..5_100].fill(9);
    finish(file, "/a", content.len());
    assert_holds(target, "/a", &content, "what was not written stays");
    let file = open(target, "/a", content.len());
    file.write_at(5_000, &[0; 100]).unwrap();
    content[5_000..5_100].fill(0);
    finish(file, "/a", content.len());
    assert_holds(target, "/a", &content, "zeros are written over what was there");
}

fn a_new_file_that_is_dropped_unfinished_is_not_left(target: &dyn Target) {
    let file = open(target, "/a", 10_000);
    file.write_at(0, &[7; 5_000]).unwrap();
    drop(file);
    let again = open(target, "/a", 10_000);
    assert_eq!(again.existing_bytes(), 0, "a new file that was dropped unfinished is not left under its name");
    assert!(!again.looks_unchanged(), "a file that is not there is not unchanged");
}

fn a_file_that_was_there_outlives_a_dropped_restore(target: &dyn Target) {
    restore(target, "/a", &noise(5, 10_000));
    let file = open(target, "/a", 10_000);
    file.write_at(100, &[7; 100]).unwrap();
    drop(file);
    let again = open(target, "/a", 10_000);
    assert_eq!(again.existing_bytes(), 10_000, "a file that was there before stays when its restore is dropped");
    let mut start = vec![0; 100];
    again.read_at(0, &mut start).unwrap();
    assert_eq!(start, noise(5, 10_000)[..100], "a file that was there keeps what was not written");
}

fn reading_fills_the_buffer_or_fails(target: &dyn Target) {
    restore(target, "/a", &noise(6, 1_000));
    let file = open(target, "/a", 1_000);
    for (offset, bytes) in [(0, 1_001), (999, 2), (1_000, 1), (u64::MAX / 4, 1)] {
        let outcome = file.read_at(offset, &mut vec![0; bytes]);
        assert!(outcome.is_err(), "{bytes} bytes at {offset} were read from a file of 1000");
    }
    let mut whole = vec![0; 1_000];
    file.read_at(0, &mut whole).unwrap();
    assert_eq!(whole, noise(6, 1_000));
}

fn an_unchanged_file_is_not_claimed_lightly(target: &dyn Target) {
    restore(target, "/a", b"12345");
    assert!(!open(target, "/a", 6).looks_unchanged(), "a file of another size is not unchanged");
    let later = Node { metadata: Metadata { mtime: Timestamp::from_second(9).ok(), ..metadata() }, ..node("/a", 5) };
    let file = target.file(&SnapshotPath::parse(b"/a"), &later).unwrap();
    assert!(!file.looks_unchanged(), "a file of another time is not unchanged");
}

fn a_hard_link_has_the_content_of_its_first_name(target: &dyn Target) {
    restore(target, "/first", b"shared");
    restore(target, "/there", b"was there before");
    for second in ["/second", "/there"] {
        let (path, first) = (SnapshotPath::parse(second.as_bytes()), SnapshotPath::parse(b"/first"));
        let linked = target.hard_link(&path, &first, &node(second, 6));
        linked.unwrap_or_else(|error| panic!("a second name cannot be given: {error}"));
        assert_holds(target, second, b"shared", "a second name has the first one's content");
    }
    let (path, first) = (SnapshotPath::parse(b"/third"), SnapshotPath::parse(b"/nobody"));
    assert!(target.hard_link(&path, &first, &node("/third", 1)).is_err(), "a name of what is not there was given");
}

fn folders_nest_and_keep_what_the_snapshot_names(target: &dyn Target) {
    let folders = ["/a", "/a/b", "/a/b/c"].map(|path| (SnapshotPath::parse(path.as_bytes()), folder(path)));
    for (path, node) in &folders {
        target.enter(path, node).unwrap_or_else(|error| panic!("a folder cannot be entered: {error}"));
    }
    restore(target, "/a/b/c/d", b"deep");
    for (path, node) in folders.iter().rev() {
        let names = match path.as_bytes() {
            b"/a/b/c" => vec![b"d".to_vec()],
            b"/a/b" => vec![b"c".to_vec()],
            _ => vec![b"b".to_vec()],
        };
        let left =
            target.leave(path, node, Some(&names)).unwrap_or_else(|error| panic!("a folder cannot be left: {error}"));
        assert!(left.deleted.is_empty(), "nothing was to be deleted, but {:?} was", left.deleted);
    }
    target.finish().unwrap();
    assert_holds(target, "/a/b/c/d", b"deep", "what lies deep is there after its folders were left");
    // A second restore finds them all there.
    for (path, node) in &folders {
        target.enter(path, node).unwrap_or_else(|error| panic!("a folder that is there cannot be entered: {error}"));
    }
    assert_holds(target, "/a/b/c/d", b"deep", "entering a folder that is there leaves what is in it");
}

fn names_that_lead_elsewhere_are_refused(target: &dyn Target) {
    restore(target, "/first", b"first");
    for name in [b"..".as_slice(), b".", b"", b"a/b", b"../a", b"/etc/passwd", b"a\0b"] {
        let path = SnapshotPath::root().join(name);
        let named = |kind: NodeKind| Node { name: name.to_vec(), kind, metadata: metadata() };
        let shown = String::from_utf8_lossy(name).into_owned();
        let file = target.file(&path, &named(NodeKind::File { size: 0, content: Vec::new() }));
        assert!(file.is_err(), "a file of the name {shown:?} was made");
        let entered = target.enter(&path, &named(NodeKind::Dir { subtree: None }));
        assert!(entered.is_err(), "a folder of the name {shown:?} was entered");
        let made = target.special(&path, &named(NodeKind::Symlink { target: b"x".to_vec() }));
        assert!(made.is_err(), "a link of the name {shown:?} was made");
        let file = named(NodeKind::File { size: 5, content: Vec::new() });
        let linked = target.hard_link(&path, &SnapshotPath::parse(b"/first"), &file);
        assert!(linked.is_err(), "a second name {shown:?} was given");
    }
    // The last name alone may look harmless.
    let path = SnapshotPath::root().join(b"..").join(b"a");
    assert!(target.file(&path, &node("/a", 0)).is_err(), "a file beyond `..` was made");
    assert!(target.enter(&path, &folder("/a")).is_err(), "a folder beyond `..` was entered");
}

fn pieces_may_come_in_any_order(target: &dyn Target) {
    let content = noise(8, 400_000);
    let file = open(target, "/a", content.len());
    for at in [3, 0, 2, 1] {
        let part = at * 100_000..(at + 1) * 100_000;
        file.write_at(part.start as u64, &content[part]).unwrap();
    }
    finish(file, "/a", content.len());
    assert_holds(target, "/a", &content, "pieces may come in any order");
    // The end first, and nothing in between: what was not written of a new file is zeros.
    let file = open(target, "/b", 100_000);
    file.write_at(99_999, &[1]).unwrap();
    finish(file, "/b", 100_000);
    let mut expected = vec![0; 100_000];
    expected[99_999] = 1;
    assert_holds(target, "/b", &expected, "what was not written is zeros");
}

fn several_threads_may_write_one_file(target: &dyn Target) {
    let content = noise(9, 800_000);
    let file = open(target, "/a", content.len());
    std::thread::scope(|scope| {
        for lane in 0..4 {
            let (file, content) = (&file, &content);
            scope.spawn(move || {
                for (number, part) in content.chunks(10_000).enumerate().filter(|(number, _)| number % 4 == lane) {
                    file.write_at(number as u64 * 10_000, part).unwrap();
                }
            });
        }
    });
    finish(file, "/a", content.len());
    assert_holds(target, "/a", &content, "several threads may write one file");
}

fn several_threads_may_write_several_files(target: &dyn Target) {
    std::thread::scope(|scope| {
        for number in 0..4_u64 {
            scope.spawn(move || restore(target, &format!("/folder/{number}"), &noise(number, 50_000)));
        }
    });
    for number in 0..4 {
        assert_holds(target, &format!("/folder/{number}"), &noise(number, 50_000), "files do not get mixed up");
    }
}

fn metadata() -> Metadata {
    // Whoever runs the suite may own what it makes.
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Metadata { mode: 0o600, mtime: Some(Timestamp::UNIX_EPOCH), uid, gid, links: 1, ..Metadata::default() }
}

fn node(path: &str, bytes: usize) -> Node {
    let kind = NodeKind::File { size: bytes as u64, content: Vec::new() };
    Node { name: SnapshotPath::parse(path.as_bytes()).name().to_vec(), kind, metadata: metadata() }
}

fn folder(path: &str) -> Node {
    let name = SnapshotPath::parse(path.as_bytes()).name().to_vec();
    Node { name, kind: NodeKind::Dir { subtree: None }, metadata: Metadata { mode: 0o700, ..metadata() } }
}

fn open(target: &dyn Target, path: &str, bytes: usize) -> Box<dyn TargetFile> {
    let file = target.file(&SnapshotPath::parse(path.as_bytes()), &node(path, bytes));
    file.unwrap_or_else(|error| panic!("{path} cannot be opened: {error}"))
}

fn finish(file: Box<dyn TargetFile>, path: &str, bytes: usize) {
    let problems = file.finish(&node(path, bytes), bytes as u64);
    let problems = problems.unwrap_or_else(|error| panic!("{path} cannot be finished: {error}"));
    assert!(problems.is_empty(), "plain metadata could not be set: {problems:?}");
}

fn restore(target: &dyn Target, path: &str, content: &[u8]) {
    let file = open(target, path, content.len());
    for (number, part) in content.chunks(131_072).enumerate() {
        file.write_at(number as u64 * 131_072, part).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    finish(file, path, content.len());
}

fn assert_holds(target: &dyn Target, path: &str, content: &[u8], promise: &str) {
    // Another time, so that a target need not believe that nothing is to be done.
    let file = open(target, path, content.len() + 1);
    assert_eq!(file.existing_bytes(), content.len() as u64, "{promise}: the size of {path}");
    let mut there = vec![0xa5; content.len()];
    file.read_at(0, &mut there).unwrap_or_else(|error| panic!("{promise}: {path} cannot be read: {error}"));
    assert!(there == content, "{promise}: the bytes of {path}");
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut step = || {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..bytes).map(|_| step()).collect()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::contracts::{Left, TargetError};
    use crate::testing::MemoryTarget;

    #[test]
    fn the_memory_target_keeps_the_contract() {
        target_suite(|| Box::new(MemoryTarget::default()));
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Flaw {
        TakesAnyName,
        DoesNotCut,
        LosesAPiece,
        SkipsZeros,
        LeavesUnfinishedFiles,
        ReadsShort,
        ClaimsUnchanged,
        ForgetsLinks,
        DeletesUnasked,
        ForgetsWhatWasThere,
    }

    #[derive(Debug)]
    struct Broken(MemoryTarget, Flaw);

    #[derive(Debug)]
    struct BrokenFile {
        file: Option<Box<dyn TargetFile>>,
        flaw: Flaw,
        node: Node,
    }

    impl Target for Broken {
        fn location(&self) -> String {
            self.0.location()
        }

        fn order(&self) -> WriteOrder {
            self.0.order()
        }

        fn begin(&self, expected: Amount) -> Result<(), TargetError> {
            self.0.begin(expected)
        }

        fn enter(&self, path: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
            self.0.enter(path, node)
        }

        fn file(&self, path: &SnapshotPath, node: &Node) -> Result<Box<dyn TargetFile>, TargetError> {
            let file = match self.1 {
                Flaw::TakesAnyName => self.0.file(&SnapshotPath::parse(b"/x"), &super::node("/x", 0))?,
                Flaw::ForgetsWhatWasThere => MemoryTarget::default().file(path, node)?,
                _ => self.0.file(path, node)?,
            };
            Ok(Box::new(BrokenFile { file: Some(file), flaw: self.1, node: node.clone() }))
        }

        fn hard_link(&self, path: &SnapshotPath, first: &SnapshotPath, node: &Node) -> Result<(), TargetError> {
            if self.1 == Flaw::ForgetsLinks { Ok(()) } else { self.0.hard_link(path, first, node) }
        }

        fn special(&self, path: &SnapshotPath, node: &Node) -> Result<Vec<TargetError>, TargetError> {
            self.0.special(path, node)
        }

        fn leave(&self, path: &SnapshotPath, node: &Node, names: Option<&[Vec<u8>]>) -> Result<Left, TargetError> {
            let left = self.0.leave(path, node, names)?;
            if self.1 == Flaw::DeletesUnasked {
                return Ok(Left { deleted: vec![path.join(b"x")], ..left });
            }
            Ok(left)
        }

        fn finish(&self) -> Result<(), TargetError> {
            self.0.finish()
        }
    }

    impl BrokenFile {
        fn file(&self) -> &dyn TargetFile {
            &**self.file.as_ref().unwrap()
        }
    }

    impl TargetFile for BrokenFile {
        fn existing_bytes(&self) -> u64 {
            self.file().existing_bytes()
        }

        fn looks_unchanged(&self) -> bool {
            self.flaw == Flaw::ClaimsUnchanged
        }

        fn is_kept(&self) -> bool {
            self.file().is_kept()
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            match self.file().read_at(offset, buffer) {
                Err(_) if self.flaw == Flaw::ReadsShort => Ok(()),
                outcome => outcome,
            }
        }

        fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            match self.flaw {
                Flaw::LosesAPiece if offset > 0 && bytes.len() > 1 => Ok(()),
                Flaw::SkipsZeros if bytes.iter().all(|byte| *byte == 0) => Ok(()),
                _ => self.file().write_at(offset, bytes),
            }
        }

        fn finish(mut self: Box<Self>, node: &Node, size: u64) -> Result<Vec<TargetError>, TargetError> {
            let file = self.file.take().unwrap();
            let size = if self.flaw == Flaw::DoesNotCut { size.max(file.existing_bytes()) } else { size };
            file.finish(node, size)
        }
    }

    impl Drop for BrokenFile {
        fn drop(&mut self) {
            if self.flaw == Flaw::LeavesUnfinishedFiles
                && let Some(file) = self.file.take()
            {
                let _ = file.finish(&self.node, self.node.size());
            }
        }
    }

    #[test]
    fn the_suite_finds_targets_that_break_a_promise() {
        for flaw in [
            Flaw::TakesAnyName,
            Flaw::DoesNotCut,
            Flaw::LosesAPiece,
            Flaw::SkipsZeros,
            Flaw::LeavesUnfinishedFiles,
            Flaw::ReadsShort,
            Flaw::ClaimsUnchanged,
            Flaw::ForgetsLinks,
            Flaw::DeletesUnasked,
            Flaw::ForgetsWhatWasThere,
        ] {
            let make = || -> Box<dyn Target> { Box::new(Broken(MemoryTarget::default(), flaw)) };
            let outcome = catch_unwind(AssertUnwindSafe(|| target_suite(make)));
            assert!(outcome.is_err(), "the suite did not notice the flaw {flaw:?}");
        }
    }
}
