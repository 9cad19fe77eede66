//! The bytes of a file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use backup_core::contracts::{Content, ContentReader, SourceError};
use backup_core::model::{Node, NodeKind, SnapshotPath};
use rustix::fs::{Advice, AtFlags, FileType, SeekFrom, Statx, fadvise, seek, statx};
use rustix::io::Errno;

use super::list::Walk;
use super::metadata::{FIELDS, device_of, timestamp};
use super::page_cache::Pages;
use super::place::Place;
use super::xattrs;

/// Below this size the system reads a file ahead as a whole, and advice costs more than it brings.
const ADVICE_BYTES_MIN: u64 = 256 * 1024;

/// A file that is not open yet.
#[derive(Debug)]
pub(super) struct FileContent {
    walk: Arc<Walk>,
    folder: Place,
    name: Vec<u8>,
}

impl FileContent {
    pub(super) fn new(walk: Arc<Walk>, folder: Place, name: &[u8]) -> Self {
        Self { walk, folder, name: name.to_vec() }
    }

    fn path(&self) -> SnapshotPath {
        self.folder.snapshot_path().join(&self.name)
    }

    fn failure(&self, action: &'static str, error: Errno) -> SourceError {
        SourceError::of_io(action, self.path(), &error.into())
    }

    /// What was opened may be newer than what the walk saw, and the next backup compares with what is stored now.
    fn bring_up_to_date(&self, node: &mut Node, file: &File, stat: &Statx) -> Result<(), SourceError> {
        let seen = &node.metadata;
        if (seen.ctime, seen.mtime, seen.inode)
            == (timestamp(stat.stx_ctime), Some(timestamp(stat.stx_mtime)), stat.stx_ino)
            && node.size() == stat.stx_size
        {
            return Ok(());
        }
        let xattrs = self
            .walk
            .xattrs(device_of(stat), || xattrs::read_open(file))
            .map_err(|error| self.failure("read extended attributes of", error))?;
        node.kind = NodeKind::File { size: stat.stx_size, content: Vec::new() };
        node.metadata = self.walk.nodes.metadata(&node.kind, stat, xattrs);
        Ok(())
    }
}

impl Content for FileContent {
    fn open(self: Box<Self>, node: &mut Node) -> Result<Box<dyn ContentReader>, SourceError> {
        let file = File::from(self.folder.open_file(&self.name).map_err(|error| match error {
            Errno::LOOP => SourceError::new("open", self.path(), "a link was put in its place"),
            error => self.failure("open", error),
        })?);
        let stat = stat_open(&file).map_err(|error| self.failure("look at", error))?;
        if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::RegularFile {
            return Err(SourceError::new("open", self.path(), "it is no longer a regular file"));
        }
        self.bring_up_to_date(node, &file, &stat)?;
        let pages = Pages::of(&file, stat.stx_size);
        if stat.stx_size >= ADVICE_BYTES_MIN {
            // Advice may be refused, and nothing depends on it.
            let _ = fadvise(&file, 0, None, Advice::Sequential);
        }
        let segment = (stat.stx_blocks * 512 < stat.stx_size).then_some(Segment { end: 0, is_hole: false });
        Ok(Box::new(FileReader { content: *self, file, stat, position: 0, segment, pages }))
    }
}

/// A file being read.
#[derive(Debug)]
struct FileReader {
    content: FileContent,
    file: File,
    /// As it was when it was opened.
    stat: Statx,
    position: u64,
    /// The segment at hand, when the file has holes. They are given as zeros and not read.
    segment: Option<Segment>,
    pages: Pages,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    end: u64,
    is_hole: bool,
}

impl FileReader {
    /// The segment that begins at the present position; `None` at the end of the file.
    fn next_segment(&self) -> io::Result<Option<Segment>> {
        match seek(&self.file, SeekFrom::Data(self.position)) {
            Ok(data) if data > self.position => Ok(Some(Segment { end: data, is_hole: true })),
            Ok(_) => {
                let end = seek(&self.file, SeekFrom::Hole(self.position))?;
                Ok(Some(Segment { end, is_hole: false }))
            }
            // No data from here to the end.
            Err(Errno::NXIO) => {
                let size = stat_open(&self.file)?.stx_size;
                Ok((size > self.position).then_some(Segment { end: size, is_hole: true }))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn read_sparse(&mut self, segment: Segment, buffer: &mut [u8]) -> io::Result<usize> {
        let segment = if self.position < segment.end {
            segment
        } else {
            match self.next_segment()? {
                Some(next) => *self.segment.insert(next),
                None => return Ok(0),
            }
        };
        let length = usize::try_from(segment.end - self.position).unwrap_or(usize::MAX).min(buffer.len());
        if segment.is_hole {
            buffer[..length].fill(0);
            return Ok(length);
        }
        self.file.read_at(&mut buffer[..length], self.position)
    }
}

impl ContentReader for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = loop {
            let outcome = match self.segment {
                Some(segment) => self.read_sparse(segment, buffer),
                None => self.file.read_at(buffer, self.position),
            };
            match outcome {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome?,
            }
        };
        self.position += length as u64;
        self.pages.read_to(&self.file, self.position);
        Ok(length)
    }

    fn finish(mut self: Box<Self>, _node: &mut Node) -> Result<Option<String>, SourceError> {
        self.pages.end(&self.file, self.position);
        let now = stat_open(&self.file).map_err(|error| self.content.failure("look at", error))?;
        let was = &self.stat;
        let state = |stat: &Statx| (stat.stx_size, timestamp(stat.stx_mtime), timestamp(stat.stx_ctime));
        // The node keeps the times from before the reading: the next backup then sees that the file is another.
        if state(&now) == state(was) && self.position == now.stx_size {
            Ok(None)
        } else if now.stx_size == was.stx_size && self.position == was.stx_size {
            Ok(Some("it changed while it was read".to_owned()))
        } else {
            let (before, read, after) = (was.stx_size, self.position, now.stx_size);
            Ok(Some(format!(
                "it changed while it was read: {before} bytes before, {after} after, {read} are in the snapshot"
            )))
        }
    }
}

fn stat_open(file: &File) -> Result<Statx, Errno> {
    statx(file, c"", AtFlags::EMPTY_PATH, FIELDS)
}
