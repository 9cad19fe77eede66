//! The folder `/ENGINE/NAME/` of a snapshot: a few files, each a stream that is opened when its turn comes.
//!
//! What is always true: a stream that fails, ends early or is never read makes [`Folder::settle`] fail with the first
//! reason, and the snapshot is not made. The reason is told there and nowhere else: a file of a dump that is missing is
//! not a loss of one file. Streams that are still being read end at once when another has failed.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use backup_core::chunk::Chunking;
use backup_core::contracts::{Content, ContentReader, Entry, SourceError, SourceEvent};
use backup_core::model::{Metadata, Node, NodeKind, SnapshotPath};
use jiff::Timestamp;

use super::url::Engine;

/// Something to read, with a verdict at its end.
pub(super) trait Stream: Send {
    /// Reads on; 0 at the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Called after the end was read: whether that was the end of the whole.
    fn finish(self: Box<Self>) -> Result<(), SourceError>;
}

/// Opens a stream, on the thread that reads it.
pub(super) type Opener = Box<dyn FnOnce() -> Result<Box<dyn Stream>, SourceError> + Send>;

/// One file of the folder.
pub(super) struct File {
    /// Its name.
    pub(super) name: String,
    /// Its owner, rights and times, where it is not a stream that comes into being now.
    pub(super) metadata: Option<Metadata>,
    /// How it is cut; `None` for the repository's own way.
    pub(super) chunking: Option<Chunking>,
    /// Whether it is read when all others were.
    pub(super) turn: Turn,
    /// Where its bytes come from.
    pub(super) open: Opener,
}

impl File {
    /// A stream that comes into being now, cut in the repository's own way.
    pub(super) fn stream(name: impl Into<String>, turn: Turn, open: Opener) -> Self {
        Self { name: name.into(), metadata: None, chunking: None, turn, open }
    }
}

/// When a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Whenever somebody has time, beside others.
    Any,
    /// When all others were read to their ends.
    Last,
}

/// What lies in the folder.
enum Inner {
    File(Box<File>),
    #[cfg(feature = "postgres")]
    Folder(String, Vec<File>),
}

impl Inner {
    fn name(&self) -> &str {
        match self {
            Self::File(file) => &file.name,
            #[cfg(feature = "postgres")]
            Self::Folder(name, _) => name,
        }
    }
}

/// The folder, as a walk through it.
pub(super) struct Folder {
    path: SnapshotPath,
    /// What is still to be said, last first.
    steps: Vec<SourceEvent>,
    fate: Fate,
}

impl Folder {
    /// The folder of the database `name`. `time` is what the snapshot says of when its files were made.
    pub(super) fn new(engine: Engine, name: &str, files: Vec<File>, time: Timestamp) -> Self {
        Self::of(engine, name, files.into_iter().map(|file| Inner::File(Box::new(file))).collect(), time)
    }

    /// The same with a folder of files in it.
    #[cfg(feature = "postgres")]
    pub(super) fn with_folder(
        engine: Engine,
        name: &str,
        (inner, inner_files): (&str, Vec<File>),
        files: Vec<File>,
        time: Timestamp,
    ) -> Self {
        let mut all: Vec<_> = files.into_iter().map(|file| Inner::File(Box::new(file))).collect();
        all.push(Inner::Folder(inner.to_owned(), inner_files));
        Self::of(engine, name, all, time)
    }

    fn of(engine: Engine, name: &str, mut inner: Vec<Inner>, time: Timestamp) -> Self {
        let path = path_of(engine, name);
        let fate = Fate::default();
        inner.sort_by(|a, b| a.name().cmp(b.name()));
        let mut steps = vec![SourceEvent::Leave, SourceEvent::Leave];
        for inner in inner.into_iter().rev() {
            match inner {
                Inner::File(file) => steps.push(entry(&path, *file, time, &fate)),
                #[cfg(feature = "postgres")]
                Inner::Folder(name, mut files) => {
                    let path = path.join(name.as_bytes());
                    files.sort_by(|a, b| a.name.cmp(&b.name));
                    steps.push(SourceEvent::Leave);
                    steps.extend(files.into_iter().rev().map(|file| entry(&path, file, time, &fate)));
                    let folder = node(name.as_bytes(), NodeKind::Dir { subtree: None }, 0o700, time);
                    steps.push(SourceEvent::Enter(folder));
                }
            }
        }
        for name in path.components().map(<[u8]>::to_vec).collect::<Vec<_>>().iter().rev() {
            steps.push(SourceEvent::Enter(node(name, NodeKind::Dir { subtree: None }, 0o700, time)));
        }
        Self { path, steps, fate }
    }

    /// Where it lies in the snapshot.
    #[cfg(any(test, feature = "mongodb", feature = "mysql", feature = "redis", feature = "sqlite"))]
    pub(super) fn path(&self) -> &SnapshotPath {
        &self.path
    }

    /// For [`backup_core::contracts::Source::info`].
    #[cfg(any(test, feature = "mongodb", feature = "mysql", feature = "redis", feature = "sqlite"))]
    pub(super) fn info(&self) -> backup_core::contracts::SourceInfo {
        backup_core::contracts::SourceInfo { paths: vec![self.path.to_string()], excludes: Vec::new() }
    }

    /// For [`backup_core::contracts::Source::next`].
    pub(super) fn next(&mut self) -> Option<SourceEvent> {
        self.steps.pop()
    }

    /// The first thing that went wrong with any stream, if something did.
    pub(super) fn settle(&self) -> Result<(), SourceError> {
        let mut state = self.fate.lock();
        match state.failure.take() {
            Some(error) => Err(error),
            None if state.unread > 0 => Err(SourceError::new("read", self.path.clone(), "it was not read to its end")),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folder").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Where a database lies in a snapshot: its name as one component of a path. A slash and a percent sign in it become
/// `%2F` and `%25`, and so do control characters, which no list of snapshots shows as they are, and a name that is nothing
/// but dots.
pub(super) fn path_of(engine: Engine, name: &str) -> SnapshotPath {
    let is_dots = matches!(name, "." | "..");
    let mut component = Vec::with_capacity(name.len());
    for character in name.chars() {
        let mut buffer = [0; 4];
        let bytes = character.encode_utf8(&mut buffer).bytes();
        if matches!(character, '/' | '%') || character.is_control() || is_dots {
            component.extend(bytes.flat_map(|byte| format!("%{byte:02X}").into_bytes()));
        } else {
            component.extend(bytes);
        }
    }
    SnapshotPath::root().join(engine.name().as_bytes()).join(&component)
}

/// What became of the streams of one folder; shared by all who read.
#[derive(Clone, Debug, Default)]
struct Fate(Arc<Mutex<FateState>>);

#[derive(Debug, Default)]
struct FateState {
    failure: Option<SourceError>,
    has_failed: bool,
    unread: usize,
}

impl Fate {
    /// Keeps the first failure.
    fn fail(&self, error: SourceError) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.has_failed, true) {
            state.failure = Some(error);
        }
    }

    /// Whether anything has failed: there will be no snapshot.
    fn has_failed(&self) -> bool {
        self.lock().has_failed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, FateState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn node(name: &[u8], kind: NodeKind, mode: u32, time: Timestamp) -> Node {
    let metadata = Metadata {
        mode,
        mtime: Some(time),
        atime: Some(time),
        ctime: time,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        links: if matches!(kind, NodeKind::Dir { .. }) { 0 } else { 1 },
        ..Metadata::default()
    };
    Node { name: name.to_vec(), kind, metadata }
}

/// A file in the folder at `path`.
fn entry(path: &SnapshotPath, mut file: File, time: Timestamp, fate: &Fate) -> SourceEvent {
    fate.lock().unread += 1;
    let mut node = node(file.name.as_bytes(), NodeKind::File { size: 0, content: Vec::new() }, 0o600, time);
    node.metadata = file.metadata.take().unwrap_or(node.metadata);
    let content = StreamContent { path: path.join(&node.name), file, fate: fate.clone() };
    SourceEvent::Entry(Entry { node, content: Some(Box::new(content)) })
}

struct StreamContent {
    path: SnapshotPath,
    file: File,
    fate: Fate,
}

impl fmt::Debug for StreamContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamContent").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Content for StreamContent {
    fn open(self: Box<Self>, _node: &mut Node) -> Result<Box<dyn ContentReader>, SourceError> {
        let Self { path, file, fate } = *self;
        let stream = match fate.has_failed() {
            true => None,
            false => (file.open)().map_err(|error| fate.fail(error)).ok(),
        };
        Ok(Box::new(StreamReader { path, stream, fate }))
    }

    fn chunking(&self) -> Option<Chunking> {
        self.file.chunking.clone()
    }

    fn is_proven_by_metadata(&self) -> bool {
        false
    }

    fn comes_last(&self) -> bool {
        self.file.turn == Turn::Last
    }
}

/// A stream being read; `None` once it, or another, has failed.
struct StreamReader {
    path: SnapshotPath,
    stream: Option<Box<dyn Stream>>,
    fate: Fate,
}

impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReader").field("path", &self.path).finish_non_exhaustive()
    }
}

impl ContentReader for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.fate.has_failed() {
            self.stream = None;
        }
        let Some(stream) = &mut self.stream else { return Ok(0) };
        loop {
            match stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.fate.fail(SourceError::new("read", self.path.clone(), error));
                    self.stream = None;
                    return Ok(0);
                }
                Ok(length) => return Ok(length),
            }
        }
    }

    fn finish(self: Box<Self>, _node: &mut Node) -> Result<Option<String>, SourceError> {
        let Self { stream, fate, .. } = *self;
        let Some(stream) = stream else { return Ok(None) };
        match stream.finish() {
            Ok(()) => fate.lock().unread -= 1,
            Err(error) => fate.fail(error),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its text, then its verdict.
    struct Fixed(&'static [u8], Result<(), &'static str>);

    impl Stream for Fixed {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            io::Read::read(&mut self.0, buffer)
        }

        fn finish(self: Box<Self>) -> Result<(), SourceError> {
            self.1.map_err(|why| SourceError::new("dump", SnapshotPath::root(), why))
        }
    }

    fn file(name: &'static str, verdict: Result<(), &'static str>) -> File {
        let open: Opener = Box::new(move || Ok(Box::new(Fixed(b"text", verdict))));
        File::stream(name, Turn::Any, open)
    }

    fn folder(name: &str, files: Vec<File>) -> Folder {
        Folder::new(Engine::Postgres, name, files, Timestamp::UNIX_EPOCH)
    }

    /// Reads everything; the names in their order.
    fn read(folder: &mut Folder) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(step) = folder.next() {
            match step {
                SourceEvent::Enter(node) => names.push(format!("{}/", String::from_utf8_lossy(&node.name))),
                SourceEvent::Entry(Entry { mut node, content }) => {
                    names.push(String::from_utf8_lossy(&node.name).into_owned());
                    let mut reader = content.unwrap().open(&mut node).unwrap();
                    while reader.read(&mut [0; 3]).unwrap() > 0 {}
                    assert!(reader.finish(&mut node).unwrap().is_none());
                }
                _ => {}
            }
        }
        names
    }

    #[test]
    fn files_come_in_the_order_of_their_names_below_their_database() {
        let mut folder = folder("app", vec![file("manifest.json", Ok(())), file("dump", Ok(()))]);
        assert_eq!(folder.info().paths, ["/postgres/app"]);
        assert_eq!(read(&mut folder), ["postgres/", "app/", "dump", "manifest.json"]);
        assert!(folder.settle().is_ok());
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_folder_stands_among_the_files_in_the_order_of_names() {
        let inner = vec![file("2", Ok(())), file("10", Ok(()))];
        let files = vec![file("manifest.json", Ok(())), file("a", Ok(()))];
        let mut folder = Folder::with_folder(Engine::Postgres, "app", ("dump", inner), files, Timestamp::UNIX_EPOCH);
        assert_eq!(read(&mut folder), ["postgres/", "app/", "a", "dump/", "10", "2", "manifest.json"]);
        assert!(folder.settle().is_ok());
    }

    #[test]
    fn one_failure_fails_all_and_the_first_is_told() {
        let files = vec![file("a", Ok(())), file("b", Err("cut off")), file("c", Err("too late"))];
        let mut folder = folder("app", files);
        read(&mut folder);
        assert!(folder.fate.has_failed());
        assert!(folder.settle().unwrap_err().to_string().contains("cut off"));
        assert!(folder.settle().is_err(), "a second question has no better answer");
    }

    #[test]
    fn what_was_not_read_is_missed() {
        let mut folder = folder("app", vec![file("a", Ok(()))]);
        while folder.next().is_some() {}
        assert!(folder.settle().unwrap_err().to_string().contains("not read to its end"));
    }

    #[test]
    fn any_name_of_a_database_is_one_component() {
        for (name, path) in [
            ("a/b", "/postgres/a%2Fb"),
            ("..", "/postgres/%2E%2E"),
            ("50%", "/postgres/50%25"),
            ("ä.b", "/postgres/ä.b"),
            ("a\nb\u{9b}", "/postgres/a%0Ab%C2%9B"),
        ] {
            assert_eq!(folder(name, Vec::new()).path().to_string(), path);
        }
    }
}
