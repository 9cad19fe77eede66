//! A sample of restored files against the live source: the only look at whether what was backed up was right.
//!
//! The snapshot's hashes say what the backup read; the source says what there is. A file that somebody has changed since
//! the backup began differs rightly, and is counted, not judged: its time of change or of its inode is later then. A file
//! that nobody has touched and that differs is a failure.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use backup_core::cancel::Cancel;
use backup_core::contracts::{Check, ExpectedEntry, Level, SandboxError};
use backup_core::model::{Id, NodeKind};
use jiff::Timestamp;
use rustix::fs::OFlags;

use super::compare::below;

/// Files that are drawn.
const FILES_MAX: usize = 100;
/// Larger ones are not drawn: a sample must not read half of the source.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Clocks of file systems are coarse.
const SLACK_SECONDS: i64 = 2;

/// A sample of files to compare with the source.
#[derive(Debug)]
pub struct Live {
    root: PathBuf,
    began: Timestamp,
    files_met: u64,
    drawn: Vec<ExpectedEntry>,
}

impl Live {
    /// A sample of the files whose source lies below `root`, as their paths in the snapshot say; the backup began at
    /// `began`, by this machine's clock.
    pub fn new(root: PathBuf, began: Timestamp) -> Self {
        Self { root, began, files_met: 0, drawn: Vec::new() }
    }

    /// Draws the entry or not: each file as likely as the others (Vitter's algorithm R).
    pub(super) fn offer(&mut self, entry: &ExpectedEntry) -> Result<(), SandboxError> {
        if !matches!(entry.node.kind, NodeKind::File { .. }) || entry.node.size() > FILE_BYTES_MAX {
            return Ok(());
        }
        self.files_met += 1;
        if self.drawn.len() < FILES_MAX {
            self.drawn.push(entry.clone());
            return Ok(());
        }
        let random = getrandom::u64().map_err(|error| SandboxError::new("draw a sample", error).ours())?;
        // The remainder of a 64-bit number by a number of files is even enough.
        let place = usize::try_from(random % self.files_met).ok();
        if let Some(drawn) = place.and_then(|place| self.drawn.get_mut(place)) {
            *drawn = entry.clone();
        }
        Ok(())
    }

    /// Compares the drawn files with the source.
    pub(super) fn compare(&self, cancel: &Cancel) -> Result<Check, SandboxError> {
        const ID: &str = "sample of the live source";
        let (mut equal, mut changed, mut unreadable) = (0_u64, 0_u64, 0_u64);
        let mut different = Vec::new();
        for entry in &self.drawn {
            if cancel.requested() {
                return Err(SandboxError::new("compare", "stopped on request").ours());
            }
            match self.one(entry) {
                Ok(Standing::Equal) => equal += 1,
                Ok(Standing::Changed) => changed += 1,
                Ok(Standing::Different) => different.push(entry.path.to_string()),
                Err(_) => unreadable += 1,
            }
        }
        let told = format!(
            "of {} files drawn from {}, {equal} are as restored, {changed} were changed or removed since the backup, \
             {unreadable} cannot be read",
            self.drawn.len(),
            self.files_met
        );
        if !different.is_empty() {
            different.truncate(10);
            let what = format!("{told}; these differ and were not touched since: {}", different.join(", "));
            return Ok(Check::failed(ID, Level::Examined, what));
        }
        if equal == 0 {
            return Ok(Check::not_tested(ID, Level::Examined, format!("nothing could be compared: {told}")));
        }
        Ok(Check::passed(ID, Level::Examined).with_detail(told))
    }

    fn one(&self, entry: &ExpectedEntry) -> io::Result<Standing> {
        let place = below(&self.root, &entry.path);
        let before = match fs::symlink_metadata(&place) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Standing::Changed);
            }
            before => before?,
        };
        // The inode's own time cannot be set back by those who set a file's time.
        let touched = before.ctime().max(before.mtime());
        if !before.is_file() || touched >= self.began.as_second() - SLACK_SECONDS {
            return Ok(Standing::Changed);
        }
        let mut file = open_quietly(&place)?;
        let mut buffer = Vec::new();
        for (id, bytes) in &entry.pieces {
            buffer.resize(*bytes as usize, 0);
            match file.read_exact(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return self.differs(&place, &before),
                read => read?,
            }
            if Id::of(&buffer) != *id {
                return self.differs(&place, &before);
            }
        }
        if before.len() == entry.node.size() { Ok(Standing::Equal) } else { self.differs(&place, &before) }
    }

    /// It differs, unless somebody has touched it while it was read.
    fn differs(&self, place: &Path, before: &fs::Metadata) -> io::Result<Standing> {
        let after = fs::symlink_metadata(place)?;
        let stamp = |facts: &fs::Metadata| (facts.ctime(), facts.ctime_nsec(), facts.len(), facts.ino());
        Ok(if stamp(&after) == stamp(before) { Standing::Different } else { Standing::Changed })
    }
}

enum Standing {
    Equal,
    Changed,
    Different,
}

/// Opens a file of the source without leaving a trace of it, where the system lets us, and without waiting for a pipe.
fn open_quietly(place: &Path) -> io::Result<File> {
    let open = |flags: OFlags| {
        let flags = i32::try_from((flags | OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
        OpenOptions::new().read(true).custom_flags(flags).open(place)
    };
    match open(OFlags::NOATIME) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => open(OFlags::empty()),
        opened => opened,
    }
}
