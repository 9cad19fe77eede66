//! Which objects a folder holds.

use std::sync::Arc;

use backup_core::contracts::{ObjectInfo, ObjectKey, SinkError};
use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::folder::Folder;
use super::naming::is_temporary;

/// At most this many objects are read before they are handed on, so that a listing of a million needs no memory for
/// a million, and each hand-over is worth its cost.
const PAGE_OBJECTS: usize = 1_024;

/// A walk through a folder and what is below it, which can be left and taken up again.
#[derive(Debug)]
pub(super) struct Listing {
    folder: Arc<Folder>,
    /// Folders that are still to be read.
    waiting: Vec<String>,
    reading: Option<(String, Dir)>,
    stage: Stage,
}

#[derive(Debug, PartialEq)]
enum Stage {
    /// Nothing was read yet.
    Fresh,
    Begun,
}

impl Listing {
    pub(super) fn new(folder: Arc<Folder>, prefix: &str) -> Self {
        // A prefix that cannot begin a key has nothing below it, whatever the file system thinks of it.
        let is_possible = prefix.is_empty() || prefix.split('/').all(ObjectKey::is_component);
        let waiting = if is_possible { vec![prefix.to_owned()] } else { Vec::new() };
        Self { folder, waiting, reading: None, stage: Stage::Fresh }
    }

    /// More objects, at least one; `None` at the end.
    pub(super) fn next_page(&mut self) -> Result<Option<Vec<ObjectInfo>>, SinkError> {
        let mut page = Vec::new();
        while page.len() < PAGE_OBJECTS {
            if let Some((path, dir)) = &mut self.reading {
                let path = path.clone();
                match dir.read() {
                    None => self.reading = None,
                    Some(entry) => {
                        let entry = entry.map_err(|errno| self.folder.failure(&path, errno))?;
                        if let Ok(name) = entry.file_name().to_str() {
                            page.extend(self.look_at(&path, name, entry.file_type())?);
                        }
                    }
                }
            } else if let Some(path) = self.waiting.pop() {
                self.begin(path)?;
            } else {
                break;
            }
        }
        Ok((!page.is_empty()).then_some(page))
    }

    fn begin(&mut self, path: String) -> Result<(), SinkError> {
        let is_first = std::mem::replace(&mut self.stage, Stage::Begun) == Stage::Fresh;
        match self.folder.open_folder(&path).and_then(Dir::new) {
            Ok(dir) => self.reading = Some((path, dir)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(self.folder.failure(&path, errno)),
        }
        if is_first && self.folder.is_gone()? {
            // "No snapshots" would be the wrong answer.
            return Err(self.folder.failure("", Errno::NOENT));
        }
        Ok(())
    }

    /// What an entry of the folder at `path` is: an object, a folder to read later, or nothing to us.
    fn look_at(&mut self, path: &str, name: &str, kind: FileType) -> Result<Option<ObjectInfo>, SinkError> {
        if matches!(name, "." | "..") {
            return Ok(None);
        }
        let full = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        if is_temporary(name) {
            self.folder.unsynced().note_leftover(full);
            return Ok(None);
        }
        if !ObjectKey::is_component(name) {
            return Ok(None);
        }
        if kind == FileType::Directory {
            self.waiting.push(full);
            return Ok(None);
        }
        // Symlinks to folders are followed directly in the sink's folder, where people put a large one elsewhere.
        let follow =
            if path.is_empty() && kind == FileType::Symlink { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        let stat = match rustix::fs::statat(self.folder.root(), &full, follow) {
            Ok(stat) => stat,
            // Deleted since the folder was read, or a symlink to nowhere.
            Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(self.folder.failure(&full, errno)),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.waiting.push(full),
            FileType::RegularFile if kind != FileType::Symlink => {
                let bytes = u64::try_from(stat.st_size).unwrap_or_default();
                return Ok(Some(ObjectInfo { key: ObjectKey::new(full), bytes }));
            }
            _ => {}
        }
        Ok(None)
    }
}
