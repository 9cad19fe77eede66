//! A stream as one file: what a program prints, or what comes in on a pipe.
//!
//! The size is not known beforehand and the metadata says nothing of the content, so the stream is read anew every
//! time. When it does not come to a good end there is no snapshot: half a dump must not look like a backup.

use std::fmt;
use std::io::{self, Read};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use backup_core::contracts::{
    Consistency, Content, ContentReader, Entry, Report, Source, SourceError, SourceEvent, SourceInfo,
};
use backup_core::model::{Metadata, Node, NodeKind, SnapshotPath};
use jiff::Timestamp;

use crate::program::Program;

/// What a program prints, as the file `/command/NAME`.
#[derive(Debug)]
pub struct CommandSource(StreamSource);

impl CommandSource {
    /// The output of `command`, which is started when its content is read. `name` is one path component; `time` is
    /// what the snapshot says of when the file was made.
    ///
    /// An exit status other than 0, or an end by a signal, prevents the snapshot; the error ends with the last lines
    /// that the program wrote to its error output.
    pub fn new(name: &str, command: Command, time: Timestamp) -> Result<Self, SourceError> {
        let path = SnapshotPath::root().join(b"command").join(name.as_bytes());
        let subject = path.clone();
        let open = move || {
            let program = Program::start(command);
            let program = program.map_err(|error| SourceError::of_io("start the program of", subject, &error))?;
            Ok(Box::new(program) as Box<dyn Stream>)
        };
        StreamSource::new(path, name.as_bytes(), Box::new(open), time).map(Self)
    }
}

/// What a reader gives, such as the standard input, as one file at a given path.
#[derive(Debug)]
pub struct ReaderSource(StreamSource);

impl ReaderSource {
    /// The bytes of `reader` to its end, as the file at `path`. `time` is what the snapshot says of when it was made.
    pub fn new(path: SnapshotPath, reader: impl Read + Send + 'static, time: Timestamp) -> Result<Self, SourceError> {
        let name = path.name().to_vec();
        let open = move || Ok(Box::new(Plain(reader)) as Box<dyn Stream>);
        StreamSource::new(path, &name, Box::new(open), time).map(Self)
    }
}

macro_rules! delegate_source {
    ($($source:ty),*) => {$(
        impl Source for $source {
            fn info(&self) -> SourceInfo {
                self.0.info()
            }

            fn next(&mut self) -> Result<Option<SourceEvent>, SourceError> {
                self.0.next()
            }

            fn finish(&mut self) -> Result<Report, SourceError> {
                self.0.finish()
            }
        }
    )*};
}

delegate_source!(CommandSource, ReaderSource);

/// Something to read, with a verdict at its end.
trait Stream: Send {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Called after the end was read: whether that was the end of the whole.
    fn finish(self: Box<Self>) -> Result<(), String>;
}

type Opener = Box<dyn FnOnce() -> Result<Box<dyn Stream>, SourceError> + Send>;

/// What became of the stream, shared by the source and whoever reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Unread,
    Failed,
    Complete,
}

struct StreamSource {
    path: SnapshotPath,
    /// What is still to be said, last first.
    steps: Vec<SourceEvent>,
    outcome: Arc<Mutex<Outcome>>,
}

impl StreamSource {
    fn new(path: SnapshotPath, name: &[u8], open: Opener, time: Timestamp) -> Result<Self, SourceError> {
        let outcome = Arc::new(Mutex::new(Outcome::Unread));
        let content = StreamContent { path: path.clone(), open, outcome: Arc::clone(&outcome) };
        let file = node(name, NodeKind::File { size: 0, content: Vec::new() }, 0o600, time);
        let mut folders: Vec<_> = path.components().map(<[u8]>::to_vec).collect();
        // The last component must be the name as it was given: one with a slash in it would be two.
        if folders.pop().as_deref() != Some(name) || !file.has_safe_name() || folders.iter().any(|name| name == b"..") {
            return Err(SourceError::new("name", path, "the name is not that of a file"));
        }
        let mut steps: Vec<_> = folders.iter().map(|_| SourceEvent::Leave).collect();
        steps.push(SourceEvent::Entry(Entry { node: file, content: Some(Box::new(content)) }));
        let enter = |name: &Vec<u8>| SourceEvent::Enter(node(name, NodeKind::Dir { subtree: None }, 0o700, time));
        steps.extend(folders.iter().rev().map(enter));
        Ok(Self { path, steps, outcome })
    }

    fn info(&self) -> SourceInfo {
        SourceInfo { paths: vec![self.path.to_string()], excludes: Vec::new() }
    }

    #[expect(clippy::unnecessary_wraps, reason = "the contract's signature, which the sources around it pass on")]
    fn next(&mut self) -> Result<Option<SourceEvent>, SourceError> {
        Ok(self.steps.pop())
    }

    fn finish(&mut self) -> Result<Report, SourceError> {
        match *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) {
            Outcome::Complete => Ok(Report { consistency: Consistency::None, ..Report::default() }),
            Outcome::Unread => Err(SourceError::new("read", self.path.clone(), "it was not read to its end")),
            Outcome::Failed => Err(SourceError::new("read", self.path.clone(), "it did not come to a good end")),
        }
    }
}

impl fmt::Debug for StreamSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSource").field("path", &self.path).finish_non_exhaustive()
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

struct StreamContent {
    path: SnapshotPath,
    open: Opener,
    outcome: Arc<Mutex<Outcome>>,
}

impl fmt::Debug for StreamContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamContent").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Content for StreamContent {
    fn open(self: Box<Self>, _node: &mut Node) -> Result<Box<dyn ContentReader>, SourceError> {
        set(&self.outcome, Outcome::Failed);
        let stream = (self.open)()?;
        Ok(Box::new(StreamReader { path: self.path, stream, outcome: self.outcome }))
    }

    fn is_proven_by_metadata(&self) -> bool {
        false
    }
}

struct StreamReader {
    path: SnapshotPath,
    stream: Box<dyn Stream>,
    outcome: Arc<Mutex<Outcome>>,
}

impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReader").field("path", &self.path).finish_non_exhaustive()
    }
}

impl ContentReader for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    fn finish(self: Box<Self>, _node: &mut Node) -> Result<Option<String>, SourceError> {
        let Self { path, stream, outcome } = *self;
        stream.finish().map_err(|reason| SourceError::new("read", path, reason))?;
        set(&outcome, Outcome::Complete);
        Ok(None)
    }
}

fn set(outcome: &Mutex<Outcome>, to: Outcome) {
    *outcome.lock().unwrap_or_else(PoisonError::into_inner) = to;
}

struct Plain<R>(R);

impl<R: Read + Send> Stream for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        Ok(())
    }
}

impl Stream for Program {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(self, buffer)
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        let ended = Program::finish(*self)?;
        let (status, said) = (ended.status, ended.said.trim());
        match (status.success(), said.is_empty()) {
            (true, _) => Ok(()),
            (false, true) => Err(format!("the program failed: {status}")),
            (false, false) => Err(format!("the program failed: {status}: {said}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> CommandSource {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        CommandSource::new("dump", command, Timestamp::UNIX_EPOCH).unwrap()
    }

    /// The bytes of the one file, and the error of its reader.
    fn read(source: &mut dyn Source) -> (Vec<u8>, Option<SourceError>) {
        let (mut bytes, mut failure, mut depth) = (Vec::new(), None, 0);
        while let Some(event) = source.next().unwrap() {
            match event {
                SourceEvent::Enter(_) => depth += 1,
                SourceEvent::Leave => depth -= 1,
                SourceEvent::Entry(Entry { mut node, content }) => {
                    let content = content.unwrap();
                    assert!(!content.is_proven_by_metadata());
                    let mut reader = content.open(&mut node).unwrap();
                    let mut buffer = [0; 1000];
                    loop {
                        match reader.read(&mut buffer).unwrap() {
                            0 => break,
                            length => bytes.extend_from_slice(&buffer[..length]),
                        }
                    }
                    failure = reader.finish(&mut node).err();
                }
                SourceEvent::Problem(problem) => panic!("{problem:?}"),
            }
        }
        assert_eq!(depth, 0);
        (bytes, failure)
    }

    #[test]
    fn what_a_program_prints_is_a_file() {
        let mut source = shell("printf hello; echo noise >&2");
        assert_eq!(source.info().paths, ["/command/dump"]);
        let (bytes, failure) = read(&mut source);
        assert_eq!((bytes.as_slice(), failure.is_none()), (b"hello".as_slice(), true));
        assert!(source.finish().is_ok());
    }

    #[test]
    fn a_program_that_fails_prevents_the_snapshot_and_its_last_words_are_told() {
        for (script, words) in
            [("echo half; echo no such table >&2; exit 3", "no such table"), ("kill -9 $$", "signal: 9")]
        {
            let mut source = shell(script);
            let (_, failure) = read(&mut source);
            assert!(failure.unwrap().to_string().contains(words));
            assert!(source.finish().is_err());
        }
    }

    #[test]
    fn a_program_that_floods_its_error_output_does_not_block() {
        let mut source = shell("head -c 1000000 /dev/zero >&2; echo done");
        let (bytes, failure) = read(&mut source);
        assert_eq!((bytes.as_slice(), failure.is_none()), (b"done\n".as_slice(), true));
    }

    #[test]
    fn a_stream_that_nobody_read_prevents_the_snapshot() {
        let mut source = shell("true");
        while source.next().unwrap().is_some() {}
        assert!(source.finish().is_err());
    }

    #[test]
    fn a_reader_is_a_file_at_its_path() {
        let path = SnapshotPath::parse(b"/in/data.sql");
        let mut source = ReaderSource::new(path, &b"select 1"[..], Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(read(&mut source).0, b"select 1");
        assert!(source.finish().is_ok());
    }

    #[test]
    fn a_name_that_is_no_name_is_refused() {
        for name in ["", ".", "..", "a/b", "/"] {
            assert!(CommandSource::new(name, Command::new("true"), Timestamp::UNIX_EPOCH).is_err(), "{name}");
        }
    }
}
