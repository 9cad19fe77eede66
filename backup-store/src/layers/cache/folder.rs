//! The folder of copies: `ROOT/STORE/KIND/ID`, STORE being a hash of the store's location.
//!
//! A copy is written under a temporary name and gets its own in one step. Nothing waits for the disk: what a power
//! failure damages does not match its name any more. Every failure means "not here".

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use backup_core::model::Id;
use backup_core::repository::layout::{DATA, INDEX, SNAPSHOTS};
use bytes::Bytes;

use super::Object;

/// After so many new bytes the folder is measured again.
const MEASURED_EVERY_BYTES: u64 = 64 * 1024 * 1024;

/// Tells programs that make backups to leave the folder out (bford.info/cachedir).
const TAG: &str =
    "Signature: 8a477f597d28d172789f06886806bc55\n# A cache of `backup`. It may be deleted at any time.\n";

#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    store: PathBuf,
    bytes_max: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Packs that this process has compared with their names: they are read in many small parts.
    proven: HashSet<Object>,
    /// Bytes that may still be added before the folder is measured.
    unmeasured: u64,
}

impl Folder {
    pub(super) fn open(root: &Path, location: &str, bytes_max: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let found = fs::metadata(root)?;
        if found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others own it, or may write into it"));
        }
        let store = root.join(&Id::of(location.as_bytes()).to_string()[..32]);
        for kind in [INDEX, SNAPSHOTS, DATA] {
            DirBuilder::new().recursive(true).mode(0o700).create(store.join(kind))?;
        }
        let tag = root.join("CACHEDIR.TAG");
        if !tag.exists() {
            fs::write(tag, TAG)?;
        }
        Ok(Self { root: root.to_owned(), store, bytes_max, state: Mutex::default() })
    }

    /// The bytes of `range`, or all: `None` when there is no sound copy, `Some(None)` when it ends before the range does.
    pub(super) fn read(&self, object: Object, range: Option<Range<u64>>) -> Option<Option<Bytes>> {
        let read = if object.kind == DATA { Self::read_pack } else { Self::read_whole };
        let found = read(self, object, range).ok()?;
        if found.is_none() {
            // Not what its name says.
            self.drop_all(object.kind, [object.id]);
        }
        found
    }

    /// Keeps a copy, and tells whether it could. The oldest go when it is too much.
    pub(super) fn keep(&self, object: Object, content: &[u8]) -> bool {
        let is_kept = self.write(object, content).is_ok();
        if is_kept {
            self.account(content.len() as u64);
        }
        is_kept
    }

    /// Whether there is a copy, sound or not.
    pub(super) fn has(&self, object: Object) -> bool {
        self.path(object).exists()
    }

    /// What there are copies of.
    pub(super) fn ids(&self, kind: &'static str) -> HashSet<Id> {
        let Ok(entries) = fs::read_dir(self.store.join(kind)) else { return HashSet::new() };
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Throws copies away.
    pub(super) fn drop_all(&self, kind: &'static str, ids: impl IntoIterator<Item = Id>) {
        for id in ids {
            let object = Object { kind, id };
            self.state().proven.remove(&object);
            let _ = fs::remove_file(self.path(object));
        }
    }

    fn path(&self, object: Object) -> PathBuf {
        self.store.join(object.kind).join(object.id.to_string())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_copy(&self, object: Object) -> io::Result<File> {
        let file = File::open(self.path(object))?;
        // So that the longest unused can be told.
        let _ = file.set_modified(SystemTime::now());
        Ok(file)
    }

    /// `Ok(None)` when the copy is not what its name says.
    fn read_whole(&self, object: Object, range: Option<Range<u64>>) -> io::Result<Option<Option<Bytes>>> {
        let mut content = Vec::new();
        self.open_copy(object)?.read_to_end(&mut content)?;
        if Id::of(&content) != object.id {
            return Ok(None);
        }
        let content = Bytes::from(content);
        let Some(range) = range else { return Ok(Some(Some(content))) };
        let bounds = (usize::try_from(range.start), usize::try_from(range.end));
        Ok(Some(match bounds {
            (Ok(start), Ok(end)) if end <= content.len() => Some(content.slice(start.min(end)..end)),
            _ => None,
        }))
    }

    /// The same for a pack, of which only the range is read once the whole was proven.
    fn read_pack(&self, object: Object, range: Option<Range<u64>>) -> io::Result<Option<Option<Bytes>>> {
        let Some(range) = range.clone().filter(|_| self.state().proven.contains(&object)) else {
            let found = self.read_whole(object, range)?;
            if found.is_some() {
                self.state().proven.insert(object);
            }
            return Ok(found);
        };
        let mut file = self.open_copy(object)?;
        if range.end > file.metadata()?.len() {
            return Ok(Some(None));
        }
        let length = range.end.saturating_sub(range.start);
        file.seek(SeekFrom::Start(range.start.min(range.end)))?;
        let mut content = Vec::new();
        file.take(length).read_to_end(&mut content)?;
        // Shorter when somebody has tampered with it since.
        Ok((content.len() as u64 == length).then(|| Some(content.into())))
    }

    fn write(&self, object: Object, content: &[u8]) -> io::Result<()> {
        let path = self.path(object);
        let mut file = tempfile::NamedTempFile::new_in(self.store.join(object.kind))?;
        file.write_all(content)?;
        file.persist(path)?;
        Ok(())
    }

    /// Counts new bytes, and makes room from time to time.
    fn account(&self, bytes: u64) {
        {
            let mut state = self.state();
            if let Some(left) = state.unmeasured.checked_sub(bytes) {
                state.unmeasured = left;
                return;
            }
            state.unmeasured = MEASURED_EVERY_BYTES.min(self.bytes_max / 8);
        }
        let mut copies = self.copies();
        let mut total: u64 = copies.iter().map(|copy| copy.bytes).sum();
        copies.sort_unstable_by_key(|copy| copy.used);
        for copy in copies {
            if total <= self.bytes_max {
                break;
            }
            if fs::remove_file(&copy.path).is_ok() {
                total -= copy.bytes;
            }
        }
    }

    /// Every file two folders below the root: the copies of all stores, and what killed processes left half-written.
    fn copies(&self) -> Vec<Copy> {
        let below = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
        let stores = below(&self.root).flat_map(|store| below(&store.path()));
        let files = stores.flat_map(|kind| below(&kind.path())).filter_map(|file| {
            let found = file.metadata().ok().filter(fs::Metadata::is_file)?;
            Some(Copy { used: found.modified().ok()?, bytes: found.len(), path: file.path() })
        });
        files.collect()
    }
}

struct Copy {
    used: SystemTime,
    bytes: u64,
    path: PathBuf,
}
