//! The contract suite of [`Source`]: one function per promise.

#![expect(clippy::unwrap_used, reason = "a suite reports a broken promise by panicking, as a test does")]

use crate::contracts::{Content, Source, SourceEvent};
use crate::limits::CHUNK_BYTES_MAX;
use crate::model::{BlobId, Node, NodeKind, SnapshotPath};

/// Checks every promise of [`Source`], each on a source of its own that `make` gives: always of the same data, all of
/// which can be read, none of which changes while the suite runs.
///
/// Contents that come last may differ from run to run: they tell of the reading, with its times.
///
/// What cannot be checked without knowing the data, that nothing was left out of it, is the implementer's to test.
///
/// # Panics
///
/// When a promise is broken, with the promise in the message.
pub fn source_suite(make: impl Fn() -> Box<dyn Source>) {
    it_says_what_it_covers(&*make());
    a_walk_has_a_shape(walk(&mut *make()));
    a_walk_may_move_to_another_thread(make());
    let whole = read(&mut *make(), 64 * 1024, Order::AsWalked);
    contents_are_independent_of_how_they_are_read(&make, &whole);
    a_source_that_is_dropped_early_is_no_trouble(&make);
}

/// What one file was when it was read.
#[derive(Debug, PartialEq, Eq)]
struct ReadFile {
    path: SnapshotPath,
    bytes: u64,
    hash: BlobId,
}

/// In which order, and by whom, contents are read.
#[derive(Clone, Copy)]
enum Order {
    /// By one thread, in the order of the walk.
    AsWalked,
    /// By two threads, the last first.
    Backwards,
}

/// What a walk found, and where.
enum Step {
    Enter(SnapshotPath, Node),
    Entry(SnapshotPath, Node, Option<Box<dyn Content>>),
}

fn it_says_what_it_covers(source: &dyn Source) {
    let info = source.info();
    assert!(!info.paths.is_empty(), "a source covers at least one path");
    for path in &info.paths {
        assert!(path.starts_with('/'), "the path {path:?} is not absolute");
    }
    assert_eq!(source.info(), info, "a source always says the same of itself");
}

/// Walks to the end, checking the order of events.
fn walk(source: &mut dyn Source) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut path = SnapshotPath::root();
    let mut last_names: Vec<Option<Vec<u8>>> = vec![None];
    let check_order = |last_names: &mut Vec<Option<Vec<u8>>>, node: &Node| {
        assert!(node.has_safe_name(), "{:?} is not the name of one entry", String::from_utf8_lossy(&node.name));
        let last = last_names.last_mut().unwrap();
        let is_after = last.as_ref().is_none_or(|last| *last < node.name);
        assert!(is_after, "{:?} does not come after {last:?} in the order of raw names", node.name);
        *last = Some(node.name.clone());
    };
    while let Some(event) = source.next().unwrap_or_else(|error| panic!("the walk failed: {error}")) {
        match event {
            SourceEvent::Enter(node) => {
                check_order(&mut last_names, &node);
                last_names.push(None);
                path.push(&node.name);
                steps.push(Step::Enter(path.clone(), node));
            }
            SourceEvent::Leave => {
                assert!(last_names.len() > 1, "a folder is left that was never entered");
                last_names.pop();
                path.pop();
            }
            SourceEvent::Entry(entry) => {
                check_order(&mut last_names, &entry.node);
                steps.push(Step::Entry(path.join(&entry.node.name), entry.node, entry.content));
            }
            SourceEvent::Problem(problem) => panic!("all of the data can be read, but {problem:?}"),
        }
    }
    assert_eq!(last_names.len(), 1, "the walk ended inside of {path}");
    steps
}

fn a_walk_has_a_shape(steps: Vec<Step>) {
    for step in steps {
        match step {
            Step::Enter(path, node) => {
                assert_eq!(
                    node.kind,
                    NodeKind::Dir { subtree: None },
                    "{path} is entered, so it is a folder without tree"
                );
                assert!(node.metadata.mode <= 0o7777, "the mode of {path} has bits that are no permissions");
            }
            Step::Entry(path, node, content) => {
                assert!(!node.is_dir(), "{path} is a folder, so it is entered");
                assert!(node.content().is_empty(), "the blobs of {path} are the pipeline's to find");
                let is_file = matches!(node.kind, NodeKind::File { .. });
                assert_eq!(content.is_some(), is_file, "{path} has content if and only if it is a file");
                assert!(node.metadata.mode <= 0o7777, "the mode of {path} has bits that are no permissions");
                let chunking = content.and_then(|content| content.chunking());
                let longest = chunking.map_or(1, |chunking| chunking.max_chunk_bytes());
                assert!((1..=CHUNK_BYTES_MAX).contains(&longest), "{path} asks for chunks that are too long");
            }
        }
    }
}

fn a_walk_may_move_to_another_thread(mut source: Box<dyn Source>) {
    let steps = std::thread::scope(|scope| scope.spawn(|| walk(&mut *source)).join());
    assert!(steps.is_ok(), "a walk on another thread failed");
}

/// Reads all of a source, as the pipeline does, to its report. The files are in the order of the walk.
fn read(source: &mut dyn Source, buffer_bytes: usize, order: Order) -> Vec<ReadFile> {
    let mut contents: Vec<_> = walk(source)
        .into_iter()
        .filter_map(|step| match step {
            Step::Entry(path, node, Some(content)) => Some((path, node, content)),
            _ => None,
        })
        .collect();
    // As the pipeline does: what counts the others is opened when they were read.
    let (last, contents_now): (Vec<_>, Vec<_>) = contents.into_iter().partition(|(_, _, content)| content.comes_last());
    contents = contents_now;
    let files = match order {
        Order::AsWalked => {
            contents.into_iter().map(|(path, node, content)| read_file(path, node, content, buffer_bytes)).collect()
        }
        Order::Backwards => {
            contents.reverse();
            let rest = contents.split_off(contents.len() / 2);
            let read_all = |part: Vec<(SnapshotPath, Node, Box<dyn Content>)>| -> Vec<ReadFile> {
                part.into_iter().map(|(path, node, content)| read_file(path, node, content, buffer_bytes)).collect()
            };
            let mut files = std::thread::scope(|scope| {
                let other = scope.spawn(|| read_all(rest));
                let mut files = read_all(contents);
                files.extend(other.join().unwrap_or_else(|_| panic!("a content could not be read on another thread")));
                files
            });
            files.reverse();
            files
        }
    };
    for (path, node, content) in last {
        let file = read_file(path, node, content, buffer_bytes);
        assert!(file.bytes > 0, "{} waited for all others and has nothing to say", file.path);
    }
    source.finish().unwrap_or_else(|error| panic!("everything was read, but there is no report: {error}"));
    files
}

fn read_file(path: SnapshotPath, mut node: Node, content: Box<dyn Content>, buffer_bytes: usize) -> ReadFile {
    let at_rest = content.is_proven_by_metadata();
    let mut reader = content.open(&mut node).unwrap_or_else(|error| panic!("{path} cannot be opened: {error}"));
    let mut buffer = vec![0; buffer_bytes];
    let mut bytes = Vec::new();
    loop {
        let count = reader.read(&mut buffer).unwrap_or_else(|error| panic!("{path} cannot be read: {error}"));
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&buffer[..count]);
    }
    assert_eq!(reader.read(&mut buffer).ok(), Some(0), "the end of {path} stays the end");
    let changed = reader.finish(&mut node).unwrap_or_else(|error| panic!("{path} was read but is refused: {error}"));
    assert_eq!(changed, None, "{path} did not change");
    assert!(matches!(node.kind, NodeKind::File { .. }), "{path} is no file any more after it was read");
    assert_eq!(path.name(), node.name, "{path} has another name after it was read");
    if at_rest {
        assert_eq!(node.size(), bytes.len() as u64, "the size of {path} is not that of its bytes");
    }
    ReadFile { path, bytes: bytes.len() as u64, hash: BlobId::of(&bytes) }
}

fn contents_are_independent_of_how_they_are_read(make: &impl Fn() -> Box<dyn Source>, whole: &[ReadFile]) {
    for (buffer_bytes, order) in [(64 * 1024, Order::Backwards), (7, Order::AsWalked), (1 << 20, Order::Backwards)] {
        let again = read(&mut *make(), buffer_bytes, order);
        assert_eq!(again, whole, "the same data read in another way is not the same");
    }
}

fn a_source_that_is_dropped_early_is_no_trouble(make: &impl Fn() -> Box<dyn Source>) {
    drop(make());
    for count in 1..4 {
        let mut source = make();
        for _ in 0..count {
            if source.next().unwrap().is_none() {
                break;
            }
        }
    }
    // A backup that was cancelled keeps contents that it never opened for a moment longer than the source.
    let mut source = make();
    let steps = walk(&mut *source);
    drop(source);
    drop(steps);
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::contracts::{ContentReader, Entry, Report, SourceError, SourceInfo};
    use crate::testing::{MemorySource, MemoryTree};

    fn tree() -> MemoryTree {
        MemoryTree::new().with_file("/a/b", "1").with_file("/a/c", vec![7; 100_000]).with_file("/d", "")
    }

    #[test]
    fn the_memory_source_keeps_the_contract() {
        source_suite(|| Box::new(tree().source(4_096)));
        source_suite(|| Box::new(MemoryTree::new().source(1)));
    }

    type ChangeEvent = fn(SourceEvent) -> Option<SourceEvent>;

    /// A source that keeps the contract, but for one thing.
    #[derive(Debug)]
    struct Broken {
        sound: MemorySource,
        paths: Vec<String>,
        change: ChangeEvent,
        report: bool,
    }

    impl Source for Broken {
        fn info(&self) -> SourceInfo {
            SourceInfo { paths: self.paths.clone(), excludes: Vec::new() }
        }

        fn next(&mut self) -> Result<Option<SourceEvent>, SourceError> {
            while let Some(event) = self.sound.next()? {
                if let Some(event) = (self.change)(event) {
                    return Ok(Some(event));
                }
            }
            Ok(None)
        }

        fn finish(&mut self) -> Result<Report, SourceError> {
            if self.report { self.sound.finish() } else { Err(SourceError::new("end", SnapshotPath::root(), "no")) }
        }
    }

    /// Gives one byte after its end.
    #[derive(Debug)]
    struct Endless(Box<dyn ContentReader>, bool);

    impl Content for Endless {
        fn open(self: Box<Self>, _: &mut Node) -> Result<Box<dyn ContentReader>, SourceError> {
            Ok(self)
        }
    }

    impl ContentReader for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 if self.1 => Ok(1),
                0 => {
                    self.1 = true;
                    Ok(0)
                }
                count => Ok(count),
            }
        }

        fn finish(self: Box<Self>, node: &mut Node) -> Result<Option<String>, SourceError> {
            self.0.finish(node)
        }
    }

    fn on_entry(event: SourceEvent, change: impl FnOnce(&mut Entry)) -> Option<SourceEvent> {
        Some(match event {
            SourceEvent::Entry(mut entry) => {
                change(&mut entry);
                SourceEvent::Entry(entry)
            }
            event => event,
        })
    }

    #[test]
    fn the_suite_finds_sources_that_break_a_promise() {
        let same: ChangeEvent = Some;
        let slash = || vec!["/".to_owned()];
        let broken: [(&str, Vec<String>, ChangeEvent, bool); 10] = [
            ("a source covers at least one path", Vec::new(), same, true),
            ("is not absolute", vec!["a".to_owned()], same, true),
            ("there is no report", slash(), same, false),
            (
                "the walk ended inside",
                slash(),
                |event| Some(event).filter(|event| !matches!(event, SourceEvent::Leave)),
                true,
            ),
            (
                "left that was never entered",
                slash(),
                |event| Some(event).filter(|event| !matches!(event, SourceEvent::Enter(_))),
                true,
            ),
            (
                "is not the name of one entry",
                slash(),
                |event| on_entry(event, |entry| entry.node.name = b"..".to_vec()),
                true,
            ),
            ("does not come after", slash(), |event| on_entry(event, |entry| entry.node.name = b"a".to_vec()), true),
            ("if and only if it is a file", slash(), |event| on_entry(event, |entry| entry.content = None), true),
            (
                "is not that of its bytes",
                slash(),
                |event| on_entry(event, |entry| entry.node.kind = NodeKind::File { size: 5, content: Vec::new() }),
                true,
            ),
            (
                "stays the end",
                slash(),
                |event| {
                    on_entry(event, |entry| {
                        let content = entry.content.take().unwrap();
                        let reader = content.open(&mut entry.node).unwrap();
                        entry.content = Some(Box::new(Endless(reader, false)));
                    })
                },
                true,
            ),
        ];
        for (promise, paths, change, report) in broken {
            let make = || -> Box<dyn Source> {
                Box::new(Broken { sound: tree().source(4_096), paths: paths.clone(), change, report })
            };
            let outcome = catch_unwind(AssertUnwindSafe(|| source_suite(make)));
            let message = outcome.expect_err(promise);
            let message = message
                .downcast_ref::<String>()
                .cloned()
                .unwrap_or_else(|| message.downcast_ref::<&str>().copied().unwrap_or_default().to_owned());
            assert!(message.contains(promise), "expected {promise:?}, found {message:?}");
        }
    }

    #[test]
    fn the_suite_finds_a_source_whose_data_depends_on_the_reading() {
        let made = std::cell::Cell::new(0);
        let make = || -> Box<dyn Source> {
            made.set(made.get() + 1);
            Box::new(MemoryTree::new().with_file("/a", format!("{:04}", made.get())).source(3))
        };
        assert!(catch_unwind(AssertUnwindSafe(|| source_suite(make))).is_err());
    }
}
