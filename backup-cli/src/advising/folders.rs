//! What lies in a folder: how much, and what of it wants a job of its own.
//!
//! Names and sizes are read. Of files whose names are those of SQLite's, the first sixteen bytes are read; nothing else is
//! opened. Links are not followed, and other file systems are not entered.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use backup_core::advice::{Kind, kind_of_path};

use super::found::Found;
use crate::exit::{Exit, Failure};

/// What lies in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// How much it is; nothing where it was too much to count, or not all could be seen.
    pub(crate) bytes: Option<u64>,
    /// Whether it is itself a file of SQLite.
    pub(crate) is_sqlite: bool,
    /// Whether it is itself a bare repository of Git.
    pub(crate) is_bare_git: bool,
    /// Files of SQLite, and their sizes.
    pub(crate) databases: Vec<(PathBuf, u64)>,
    /// Files with keys and passwords.
    pub(crate) secrets: Vec<(PathBuf, u64)>,
    /// Bare repositories of Git.
    pub(crate) repositories: Vec<PathBuf>,
    /// Folders that have the name of one into which people put files.
    pub(crate) uploads: Vec<PathBuf>,
}

/// Folders that are looked through when nothing was named: where services keep their data by the usual rules.
pub(crate) const USUAL: [&str; 4] = ["/srv", "/opt", "/var/www", "/home"];
/// More entries than these are not counted: a look has to end while somebody waits.
const ENTRIES_MAX: u64 = 500_000;
/// Nor is anything found deeper than this.
const DEPTH_MAX: usize = 24;
const SQLITE_ENDS: [&str; 6] = ["db", "db3", "sqlite", "sqlite3", "s3db", "sl3"];
const SQLITE_BEGINS: &[u8; 16] = b"SQLite format 3\0";
const UPLOADS: [&str; 5] = ["uploads", "upload", "media", "attachments", "files"];

/// Looks at a file or a folder.
///
/// # Errors
///
/// When it is not there.
pub(crate) fn look(path: &Path) -> Result<Seen, Failure> {
    let metadata = fs::metadata(path).map_err(|error| {
        let failure = Failure::because(path.display().to_string(), &error);
        Failure { exit: Exit::Usage, ..failure }.with_hint("name what is there, from the root")
    })?;
    let mut seen = Seen::default();
    if metadata.is_file() {
        seen.bytes = Some(metadata.len());
        seen.is_sqlite = is_sqlite(path);
        return Ok(seen);
    }
    seen.is_bare_git = is_bare_git(path);
    let mut walk = Walk { seen, device: metadata.dev(), entries: 0, is_whole: true, bytes: 0 };
    walk.folder(path, 0);
    walk.seen.bytes = walk.is_whole.then_some(walk.bytes);
    Ok(walk.seen)
}

/// What is worth a backup in folders in which nobody has named anything.
pub(crate) fn search(folders: &[PathBuf]) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    for folder in folders {
        let seen = look(folder)?;
        let how = format!("found in {}", folder.display());
        for (path, bytes) in &seen.databases {
            found.push(Found::sqlite(path, Some(*bytes), &how));
        }
        for path in &seen.uploads {
            found.extend(
                Found::given(&path.to_string_lossy())?.into_iter().take(1).map(|one| Found { how: how.clone(), ..one }),
            );
        }
        for path in &seen.repositories {
            let bytes = look(path).ok().and_then(|seen| seen.bytes);
            found.push(Found::files(path, Kind::Git, bytes, how.clone()));
        }
        for (path, bytes) in &seen.secrets {
            found.push(Found::files(path, Kind::Secrets, Some(*bytes), how.clone()));
        }
    }
    Ok(found)
}

struct Walk {
    seen: Seen,
    device: u64,
    entries: u64,
    bytes: u64,
    is_whole: bool,
}

impl Walk {
    fn folder(&mut self, folder: &Path, depth: usize) {
        let Ok(entries) = fs::read_dir(folder) else {
            self.is_whole = false;
            return;
        };
        if depth > DEPTH_MAX {
            self.is_whole = false;
            return;
        }
        // In the order of names, so that the same folder gives the same strategy.
        let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort_unstable();
        for path in paths {
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                self.is_whole = false;
                return;
            }
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                self.is_whole = false;
                continue;
            };
            // What no configuration can name is still counted.
            let is_text = path.to_str().is_some();
            if metadata.is_dir() && metadata.dev() == self.device {
                if is_text && is_bare_git(&path) {
                    self.seen.repositories.push(path.clone());
                } else if is_text && is_uploads(&path) && !self.seen.uploads.iter().any(|above| path.starts_with(above))
                {
                    self.seen.uploads.push(path.clone());
                }
                self.folder(&path, depth + 1);
            } else if metadata.is_file() {
                self.bytes = self.bytes.saturating_add(metadata.len());
                if is_text && is_sqlite(&path) {
                    self.seen.databases.push((path, metadata.len()));
                } else if is_text && is_env(&path) {
                    self.seen.secrets.push((path, metadata.len()));
                }
            }
        }
    }
}

fn is_sqlite(path: &Path) -> bool {
    let has_end = path.extension().and_then(|end| end.to_str()).is_some_and(|end| SQLITE_ENDS.contains(&end));
    let begins = || -> Option<bool> {
        let mut first = [0; 16];
        File::open(path).ok()?.read_exact(&mut first).ok()?;
        Some(first == *SQLITE_BEGINS)
    };
    has_end && begins() == Some(true)
}

fn is_env(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // Examples hold no keys.
    let is_example = [".example", ".sample", ".dist", ".template"].iter().any(|end| name.ends_with(end));
    (name == ".env" || name.starts_with(".env.")) && !is_example && kind_of_path(name).0 == Kind::Secrets
}

fn is_bare_git(path: &Path) -> bool {
    let has = |name: &str| path.join(name).symlink_metadata().is_ok();
    path.file_name().is_some_and(|name| name != ".git") && has("HEAD") && has("objects") && has("refs")
}

fn is_uploads(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| UPLOADS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_finds_databases_uploads_repositories_and_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in
            ["app/uploads/2026", "git/app.git/objects", "git/app.git/refs", "work/.git/objects", "work/.git/refs"]
        {
            fs::create_dir_all(path(name)).unwrap();
        }
        fs::write(path("app/uploads/2026/a.jpg"), [0; 100]).unwrap();
        fs::write(path("app/data.sqlite"), b"SQLite format 3\0").unwrap();
        fs::write(path("app/.env"), "KEY=1").unwrap();
        fs::write(path("app/.env.example"), "KEY=").unwrap();
        fs::write(path("git/app.git/HEAD"), "ref: x").unwrap();
        fs::write(path("work/.git/HEAD"), "ref: x").unwrap();
        std::os::unix::fs::symlink("/", path("app/all")).unwrap();
        let found = search(&[folder.path().to_owned()]).unwrap();
        let told: Vec<_> = found.iter().map(|found| (found.kind, found.name.as_str(), found.bytes)).collect();
        assert_eq!(
            told,
            [
                (Kind::Sqlite, "data", Some(16)),
                (Kind::Files, "uploads", Some(100)),
                (Kind::Git, "app.git", Some(6)),
                (Kind::Secrets, "secrets", Some(5)),
            ]
        );
    }
}
