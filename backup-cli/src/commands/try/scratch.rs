//! The folder that a trial lives in, and its end.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::console::{amounts, say};
use crate::exit::Failure;

/// Room beside the data: indexes, trees, and what the machine needs to go on.
const SPARE_BYTES: u64 = 64 * 1024 * 1024;

/// A folder in the temporary folder. It is removed when it is dropped, unless it is to be kept.
pub(super) struct Scratch {
    folder: Option<TempDir>,
    path: PathBuf,
}

impl Scratch {
    pub(super) fn create(keep: bool) -> Result<Self, Failure> {
        let above = std::env::temp_dir();
        let failed = |error: &io::Error| {
            Failure::because(format!("temporary folder {}", above.display()), error)
                .with_hint("set TMPDIR to a folder that can be written")
        };
        let folder = tempfile::Builder::new()
            .prefix("backup-try-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&above)
            .map_err(|error| failed(&error))?;
        let path = folder.path().canonicalize().map_err(|error| failed(&error))?;
        let folder = if keep {
            // What is to be kept is no longer anybody's to remove.
            let _ = folder.keep();
            None
        } else {
            Some(folder)
        };
        Ok(Self { folder, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn repository(&self) -> PathBuf {
        self.path.join("repository")
    }

    pub(super) fn restored(&self) -> PathBuf {
        self.path.join("restored")
    }

    /// Refuses when the file system has less than `bytes` left, and something to spare.
    pub(super) fn require(&self, bytes: u64) -> Result<(), Failure> {
        let needed = bytes.saturating_add(SPARE_BYTES);
        let Ok(space) = rustix::fs::statvfs(&self.path) else { return Ok(()) };
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free >= needed {
            return Ok(());
        }
        let above = self.path.parent().unwrap_or(&self.path).display();
        Err(Failure::new(format!(
            "{above} has {} left, and this needs {} for the repository and the restored files",
            amounts::size(free),
            amounts::size(needed)
        ))
        .with_hint("name a smaller folder, or set TMPDIR to a place with more space"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(folder) = self.folder.take() else { return };
        let path = folder.path().to_owned();
        make_removable(&self.restored());
        if let Err(error) = folder.close() {
            say(&format!("{} could not be removed: {error}", path.display()));
        }
    }
}

/// Folders that were restored without the right to write in them would stay.
fn make_removable(folder: &Path) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let _ = fs::set_permissions(&folder, Permissions::from_mode(0o700));
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        folders.extend(
            entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
}
