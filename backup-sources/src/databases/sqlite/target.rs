//! A database of SQLite as a target: the new file grows beside the old one, is checked, and takes its name.
//!
//! A crash at any moment leaves the old database as it was, or the new one, whole; at worst also a file
//! `.NAME.restoring-…` beside it. The log files of the old one are gone before the new one has its name, because SQLite
//! would play them into it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use backup_core::contracts::{Left, Target, TargetError, TargetFile, WriteOrder};
use backup_core::model::{Node, SnapshotPath};
use backup_core::observe::Amount;
use tempfile::NamedTempFile;

use super::super::manifest::MANIFEST;
use super::super::passed_over::PassedOver;
use super::in_use::{companions, user_of};
use super::observe::{Check, Finding, Sort, observe};

/// What becomes of a database that is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Existing {
    /// It stays, and nothing is restored.
    #[default]
    Refuse,
    /// The restored one takes its place.
    Replace,
}

/// What becomes of a database that some program has open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Users {
    /// It stays, and nothing is restored.
    #[default]
    Refuse,
    /// It is replaced all the same. The program goes on with the old file, which nobody else sees any more.
    Ignore,
}

/// A file that becomes a database of SQLite.
#[derive(Debug)]
pub struct SqliteTarget {
    path: PathBuf,
    existing: Existing,
    users: Users,
    /// The image, once all of it is there.
    image: Arc<Mutex<Option<NamedTempFile>>>,
    warnings: Mutex<Vec<String>>,
}

impl SqliteTarget {
    /// The database at `path`, of which nothing has to be there but the folder. A link is followed to the database that
    /// it leads to, as SQLite does.
    pub fn new(path: PathBuf, existing: Existing, users: Users) -> Self {
        let path = path.canonicalize().unwrap_or(path);
        Self { path, existing, users, image: Arc::default(), warnings: Mutex::default() }
    }

    /// What a person should know of the restore.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fail(&self, action: &'static str, reason: impl ToString) -> TargetError {
        TargetError { is_fatal: true, ..TargetError::new(action, SnapshotPath::of_file(&self.path), reason) }
    }

    fn fail_io(&self, action: &'static str, error: &io::Error) -> TargetError {
        TargetError { is_fatal: true, ..TargetError::of_io(action, SnapshotPath::of_file(&self.path), error) }
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// Refuses to replace what must stay.
    fn allow(&self) -> Result<(), TargetError> {
        let is_there = self.path.symlink_metadata().is_ok();
        if is_there && self.existing == Existing::Refuse {
            return Err(self.fail("restore", "there is a file already; --clean replaces it"));
        }
        if is_there && !self.path.is_file() {
            return Err(self.fail("restore", "what is there is not a file"));
        }
        if self.users == Users::Refuse
            && let Some(user) = user_of(&self.path).map_err(|error| self.fail_io("look for users of", &error))?
        {
            return Err(self.fail(
                "replace",
                format!("{user} has it open; stop that first, or replace it all the same with --in-use"),
            ));
        }
        Ok(())
    }
}

impl Target for SqliteTarget {
    fn location(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    fn order(&self) -> WriteOrder {
        WriteOrder::Any
    }

    fn begin(&self, expected: Amount) -> Result<(), TargetError> {
        self.allow()?;
        let free =
            rustix::fs::statvfs(self.folder()).map_err(|error| self.fail_io("look at the disk of", &error.into()))?;
        let free = free.f_bavail * free.f_frsize;
        if free < expected.bytes {
            let why = format!("no space for it: {} bytes are to be restored, {free} are left", expected.bytes);
            return Err(self.fail("restore", why));
        }
        Ok(())
    }

    fn enter(&self, _path: &SnapshotPath, _node: &Node) -> Result<(), TargetError> {
        Ok(())
    }

    fn file(&self, path: &SnapshotPath, node: &Node) -> Result<Box<dyn TargetFile>, TargetError> {
        if path.name() == MANIFEST.as_bytes() {
            return Ok(Box::new(PassedOver));
        }
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let file = tempfile::Builder::new()
            .prefix(&format!(".{name}.restoring-"))
            .tempfile_in(self.folder())
            .map_err(|error| self.fail_io("create a file beside", &error))?;
        file.as_file().set_len(node.size()).map_err(|error| self.fail_io("make room for", &error))?;
        Ok(Box::new(ImageFile { file, path: path.clone(), image: Arc::clone(&self.image) }))
    }

    fn hard_link(&self, path: &SnapshotPath, _first: &SnapshotPath, _node: &Node) -> Result<(), TargetError> {
        Err(self.fail("restore", format!("{path} is no part of a backup of SQLite")))
    }

    fn special(&self, path: &SnapshotPath, _node: &Node) -> Result<Vec<TargetError>, TargetError> {
        Err(self.fail("restore", format!("{path} is no part of a backup of SQLite")))
    }

    fn leave(&self, _path: &SnapshotPath, _node: &Node, _names: Option<&[Vec<u8>]>) -> Result<Left, TargetError> {
        Ok(Left::default())
    }

    fn finish(&self) -> Result<(), TargetError> {
        let image = self.image.lock().unwrap_or_else(PoisonError::into_inner).take();
        let image = image.ok_or_else(|| self.fail("restore", "the snapshot has no database here"))?;
        // Every byte is the one that was read, its hash says so; whether indexes agree with their tables takes several
        // times as long as the restore itself, and is a drill's question.
        let (_, findings) = observe(image.path(), Check::Quick).map_err(|error| self.fail("check", error))?;
        // What the check left beside it, in WAL mode.
        remove(companions(image.path())).map_err(|error| self.fail_io("clean up beside", &error))?;
        if let Some(Finding { text, .. }) = findings.iter().find(|finding| finding.sort == Sort::Damage) {
            return Err(self.fail("check", format!("it is damaged: {text}; it can be restored into a folder as it is")));
        }
        // The rest is as it was when it was backed up, to the byte.
        let told = findings.into_iter().map(|finding| format!("{}, as when it was backed up", finding.text));
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).extend(told);
        image.as_file().sync_all().map_err(|error| self.fail_io("write", &error))?;
        // Somebody may have come in the meantime.
        self.allow()?;
        remove(companions(&self.path)).map_err(|error| self.fail_io("remove the old log of", &error))?;
        image.persist(&self.path).map_err(|error| self.fail_io("rename into place", &error.error))?;
        let folder = File::open(self.folder()).and_then(|folder| folder.sync_all());
        folder.map_err(|error| self.fail_io("make durable", &error))
    }
}

/// The image being written.
#[derive(Debug)]
struct ImageFile {
    file: NamedTempFile,
    path: SnapshotPath,
    image: Arc<Mutex<Option<NamedTempFile>>>,
}

impl TargetFile for ImageFile {
    fn existing_bytes(&self) -> u64 {
        0
    }

    fn looks_unchanged(&self) -> bool {
        false
    }

    fn is_kept(&self) -> bool {
        false
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.as_file().read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.as_file().write_all_at(bytes, offset)
    }

    fn finish(self: Box<Self>, node: &Node, size: u64) -> Result<Vec<TargetError>, TargetError> {
        let Self { file, path, image } = *self;
        file.as_file().set_len(size).map_err(|error| TargetError::of_io("cut", path.clone(), &error))?;
        let mut problems = Vec::new();
        let mut note = |action, outcome: io::Result<()>| {
            problems.extend(outcome.err().map(|error| TargetError::of_io(action, path.clone(), &error)));
        };
        let metadata = &node.metadata;
        // Only root gives files away; for others the database is theirs.
        if rustix::process::geteuid().is_root() {
            note("set owner of", chown(file.path(), Some(metadata.uid), Some(metadata.gid)));
        }
        note("set permissions of", fs::set_permissions(file.path(), Permissions::from_mode(metadata.mode & 0o777)));
        let mut image = image.lock().unwrap_or_else(PoisonError::into_inner);
        if image.is_some() {
            return Err(TargetError {
                is_fatal: true,
                ..TargetError::new("restore", path, "there is more than one database; choose one with --path")
            });
        }
        *image = Some(file);
        Ok(problems)
    }
}

fn remove(paths: impl Iterator<Item = PathBuf>) -> io::Result<()> {
    for path in paths {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
