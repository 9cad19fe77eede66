//! The folder of one drill: everything that the drill puts on disk is in it, and everything it starts bears its name.
//!
//! It is called `backup-drill-` and something random, lies in a folder of the caller's choice, and is open to its owner
//! alone. While its drill lives, the file `drill.lock` in it is locked; the kernel gives the lock back when the process
//! ends, however it ends, so that [`super::remove_leftovers`] knows a dead drill's folder from a living one's. Every
//! child is started with the folder's name in the environment variable [`MARK`], which its own children inherit: by that
//! the processes of a killed drill are found. A container that was started for the drill belongs to its folder too, and
//! goes before it.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backup_core::contracts::{Entrance, NotReady, SandboxError, Stopper};
use backup_core::limits::{SANDBOX_KEPT_BYTES_MAX, SANDBOX_KEPT_PART, SANDBOX_LEFT_BYTES_MIN};
use rustix::fs::{FlockOperation, OFlags, flock, statvfs};
use zeroize::Zeroizing;

#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
use super::container::Container;
use super::leftovers::end_processes;

/// How the folders begin.
pub(super) const PREFIX: &str = "backup-drill-";

/// The file that is locked while the drill lives.
const LOCK: &str = "drill.lock";

/// Where the way to a server's socket is. No longer than the name of the folder that has the socket, whose length was
/// looked at.
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
const WAY: &str = "way";

/// The environment variable that every child has.
pub(super) const MARK: &str = "BACKUP_DRILL";

/// Where children look for programs: nothing of the caller's.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A drill's folder. It is removed when it is dropped, with every process that was started for it.
#[derive(Debug)]
pub struct SandboxFolder {
    path: PathBuf,
    /// Locked as long as it is open.
    lock: Option<File>,
    #[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
    container: Option<Box<Container>>,
}

impl SandboxFolder {
    /// Makes one in `parent`, which must be there.
    pub fn create(parent: &Path) -> io::Result<Self> {
        let parent = parent.canonicalize()?;
        // Losing against a drill that is just cleaning up, and took the empty folder for a leftover, happens once.
        for _ in 0..8 {
            let mut random = [0; 8];
            getrandom::fill(&mut random).map_err(io::Error::other)?;
            let path = parent.join(format!("{PREFIX}{:016x}", u64::from_ne_bytes(random)));
            fs::DirBuilder::new().mode(0o700).create(&path)?;
            if let Some(mut lock) = claim(&path)? {
                // For people; nobody reads it to decide anything.
                writeln!(lock, "the folder of a drill, run by process {}", std::process::id())?;
                return Ok(Self {
                    path,
                    lock: Some(lock),
                    #[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
                    container: None,
                });
            }
        }
        Err(io::Error::other("another process takes every folder away"))
    }

    /// Where it is: absolute, and without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets other users walk through it, to a folder in it that is theirs, without seeing what is there: for engines
    /// that run under a uid of their own.
    pub fn let_pass(&self) -> io::Result<()> {
        fs::set_permissions(&self.path, Permissions::from_mode(0o711))
    }

    /// The space in bytes that is left for it.
    pub fn free_bytes(&self) -> io::Result<u64> {
        free_bytes(&self.path)
    }

    /// A program that is found again if the drill is killed: its environment holds the mark, a plain path and the C
    /// locale, its working folder is this one, nothing comes in, and it is not in the terminal's group of processes.
    /// Whoever wants its output says so.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8").env("TZ", "UTC").env("HOME", &self.path);
        command.env(MARK, self.name());
        command.current_dir(&self.path).stdin(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
    }

    /// The mark by itself, for programs that others start for the drill.
    #[cfg(feature = "postgres")]
    pub(crate) fn mark(&self) -> (&'static str, std::ffi::OsString) {
        (MARK, self.name().to_owned())
    }

    /// Takes over a container that was started for this drill.
    #[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
    pub(super) fn keep(&mut self, container: Container) -> &Container {
        self.container.insert(Box::new(container))
    }

    /// The drill's container, where its programs run in one.
    #[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
    pub(crate) fn container(&self) -> Option<&Container> {
        self.container.as_deref()
    }

    /// An error where the drill's client programs are in a container: a runbook's commands would use this machine's.
    #[cfg(any(feature = "mysql", feature = "postgres"))]
    pub(crate) fn has_own_programs(&self) -> Result<(), String> {
        match self.container {
            Some(_) => Err("its client programs are in a container; drill it without the runbook".to_owned()),
            None => Ok(()),
        }
    }

    /// Another way to a server's `socket`, in a folder that only the drill writes in; that folder. Whatever a dump's code
    /// later puts in the socket's place, a link to production's for one, this way goes on leading to the server that was
    /// started: to be made before anything is restored. Whom the socket lets in may go it.
    #[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
    pub(crate) fn way_to(&self, socket: &Path) -> io::Result<PathBuf> {
        let way = match self.container() {
            // The client programs are inside, and see this one.
            Some(container) => container.spool().to_owned(),
            None => {
                let way = self.path.join(WAY);
                fs::DirBuilder::new().mode(0o700).create(&way)?;
                // Whatever the mask for new files says.
                fs::set_permissions(&way, Permissions::from_mode(0o711))?;
                way
            }
        };
        let link = way.join(socket.file_name().unwrap_or_default());
        // Not of what a link leads to, but of the link, which is then refused.
        fs::hard_link(socket, &link)?;
        if !fs::symlink_metadata(&link)?.file_type().is_socket() {
            return Err(io::Error::other(format!("{} is not a socket", socket.display())));
        }
        Ok(way)
    }

    /// The way in for another program of the drill's, to `target`: it bears the mark too.
    pub(crate) fn entrance(&self, target: String) -> Entrance {
        let mark = (MARK.to_owned(), Zeroizing::new(self.name().to_string_lossy().into_owned()));
        Entrance { target, folder: self.path.clone(), variables: vec![mark] }
    }

    /// See [`backup_core::contracts::Sandbox::stopper`]: ends every process that was started for it.
    pub(crate) fn stopper(&self) -> Stopper {
        let name = self.name().to_owned();
        #[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
        let container = self.container().map(Container::killer);
        let end = move || {
            #[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
            container.iter().for_each(|kill| kill());
            // What does not end now is ended with the folder.
            let _ = end_processes(&name);
        };
        Stopper { end: Box::new(end), takes_too_much: self.takes_too_much() }
    }

    /// See [`Stopper::takes_too_much`]: whether less is left of the disk than a drill leaves to others. A dump may make its
    /// engine write without end.
    pub(crate) fn takes_too_much(&self) -> Box<dyn Fn() -> Option<String> + Send> {
        let path = self.path.clone();
        Box::new(move || {
            let (free, kept) = (free_bytes(&path).ok()?, kept_bytes(&path).ok()?);
            let place = path.parent().unwrap_or(&path).display();
            (free < kept).then(|| format!("{place} has {free} bytes left, and a drill leaves {kept} to others"))
        })
    }

    /// See [`backup_core::contracts::Sandbox::shortage`].
    pub(crate) fn shortage(&self) -> Option<String> {
        let free = self.free_bytes().ok().filter(|free| *free < SANDBOX_LEFT_BYTES_MIN)?;
        let place = self.path.parent().unwrap_or(&self.path).display();
        Some(format!("{place} has {free} bytes left"))
    }

    /// Ends every process that was started for it and still lives, and removes it.
    pub fn remove(mut self) -> io::Result<()> {
        self.clear()
    }

    /// The same for a sandbox, whose error says what is left and where.
    pub(crate) fn clear_away(self) -> Result<(), SandboxError> {
        let path = self.path.clone();
        self.remove().map_err(|error| SandboxError::new(format!("remove {}", path.display()), error).ours())
    }

    /// Leaves everything as a kill would.
    #[cfg(test)]
    pub(super) fn forget(mut self) {
        self.lock = None;
    }

    fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    fn clear(&mut self) -> io::Result<()> {
        let Some(lock) = self.lock.take() else { return Ok(()) };
        #[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
        if let Some(mut container) = self.container.take() {
            container.remove()?;
        }
        let outcome = remove_with_processes(&self.path);
        drop(lock);
        outcome
    }
}

impl Drop for SandboxFolder {
    fn drop(&mut self) {
        // What could not be removed now is a leftover, which the next drill tells of.
        let _ = self.clear();
    }
}

/// That what will be restored does not fit.
pub(crate) fn no_room(place: &Path, needed: u64, free: u64) -> NotReady {
    NotReady::CannotRun {
        reason: format!("disk: it takes about {needed} bytes in {}, and {free} are free", place.display()),
        hint: Some("name a folder for drills on a larger disk".to_owned()),
    }
}

/// The space in bytes that is left for this user where `folder` is.
pub(super) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let space = statvfs(folder)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// What a drill leaves of the disk that `folder` is on.
pub(crate) fn kept_bytes(folder: &Path) -> io::Result<u64> {
    let space = statvfs(folder)?;
    Ok((space.f_blocks.saturating_mul(space.f_frsize) / SANDBOX_KEPT_PART).min(SANDBOX_KEPT_BYTES_MAX))
}

/// Ends the processes that bear the folder's name and removes the folder.
pub(super) fn remove_with_processes(folder: &Path) -> io::Result<()> {
    end_processes(folder.file_name().unwrap_or_default())?;
    if fs::remove_dir_all(folder).is_err() {
        // Folders that were restored without the right to write in them.
        make_removable(folder);
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Locks the folder for this process. `None` when somebody else has it, or has just removed it.
pub(super) fn claim(folder: &Path) -> io::Result<Option<File>> {
    let path = folder.join(LOCK);
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let opened = OpenOptions::new().read(true).write(true).create(true).mode(0o600).custom_flags(flags).open(&path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    // Between the two calls another may have locked it, removed it and let go.
    let is_same = fs::symlink_metadata(&path)
        .is_ok_and(|now| file.metadata().is_ok_and(|locked| (now.dev(), now.ino()) == (locked.dev(), locked.ino())));
    Ok(is_same.then_some(file))
}

fn make_removable(folder: &Path) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let _ = fs::set_permissions(&folder, Permissions::from_mode(0o700));
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let inner = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.extend(inner.map(|entry| entry.path()));
    }
}
