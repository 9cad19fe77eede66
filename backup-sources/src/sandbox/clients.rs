//! Client programs, and those of the user's that look at restored data: behind walls of their own, beside the server's.
//!
//! They parse what a dump holds and what a server says that a dump's code may have taken over. So they have the server's
//! uid, because the socket is that uid's alone, no network, and a root in which there is nothing but the system's programs,
//! a way to the socket, the copy of the dump to read, and a folder to write to.
//!
//! What is always true: the folder with the scripts belongs to the drill alone, so nothing of the sandbox chooses what the
//! drill runs. Made by an engine's sandbox once its server is there; everything goes with the drill's folder.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use backup_core::contracts::NotReady;

use super::program::Asked;
#[cfg(any(feature = "mysql", feature = "postgres"))]
use super::stand_ins::{script_of, write};
use super::{SandboxFolder, Walls};

/// Where the copy of a dump is laid.
const SPOOL: &str = "spool";

/// Where the scripts are that stand for client programs.
#[cfg(any(feature = "mysql", feature = "postgres"))]
const SCRIPTS: &str = "scripts";

/// Where client programs write.
const OWN: &str = "clients";

/// Walls for client programs, where there can be some.
#[derive(Debug)]
pub(crate) struct Clients {
    walls: Option<Walls>,
    isolation: String,
}

impl Clients {
    /// Beside `walls`: they see `way`, where the way to the socket is, the copy of the dump, the folders of `programs`, and
    /// `shown`.
    ///
    /// # Errors
    ///
    /// When a folder cannot be made.
    pub(crate) fn beside(
        walls: &Walls,
        folder: &SandboxFolder,
        way: &Path,
        programs: &[PathBuf],
        shown: &[PathBuf],
    ) -> Result<Self, NotReady> {
        let spool = folder.path().join(SPOOL);
        let of_programs = programs.iter().flat_map(|programs| [Some(programs.as_path()), programs.parent()]);
        let seen = of_programs.flatten().chain([way, &spool]).chain(shown.iter().map(PathBuf::as_path));
        let clients = walls.beside(folder, OWN, seen.map(Path::to_owned))?;
        let isolation = walls.isolation_of_clients(clients.as_ref());
        let of_io = |error: io::Error| NotReady::cannot_run(format!("no folder can be made for it: {error}"));
        if let Some(clients) = &clients {
            fs::DirBuilder::new().mode(0o700).create(&spool).map_err(of_io)?;
            clients.let_in(&spool).map_err(of_io)?;
        }
        Ok(Self { walls: clients, isolation })
    }

    /// For the user's programs alone, beside an engine whose data this program reads itself: with the way to `socket`, whose
    /// name comes first, and the folder `bin` of the engine's programs.
    ///
    /// # Errors
    ///
    /// When the way or a folder cannot be made.
    #[cfg(any(feature = "mongodb", feature = "redis"))]
    pub(crate) fn of_user(
        walls: &Walls,
        folder: &SandboxFolder,
        socket: &Path,
        bin: Option<&Path>,
        shown: &[PathBuf],
    ) -> Result<(PathBuf, Self), NotReady> {
        if folder.container().is_some() {
            return Ok((socket.to_owned(), Self::beside(walls, folder, walls.own(), &[], shown)?));
        }
        let way = folder.way_to(socket).map_err(|error| NotReady::cannot_run(format!("link the socket: {error}")))?;
        let bin: Vec<PathBuf> = bin.map(Path::to_owned).into_iter().collect();
        let clients = Self::beside(walls, folder, &way, &bin, shown)?;
        Ok((way.join(socket.file_name().unwrap_or_default()), clients))
    }

    /// What separates them, for the record.
    pub(crate) fn isolation(&self) -> &str {
        &self.isolation
    }

    /// Whether they run as somebody else than the server's own client would: what they are to read must be shown to them.
    #[cfg(feature = "mysql")]
    pub(crate) fn walls(&self) -> Option<&Walls> {
        self.walls.as_ref()
    }

    /// A folder that they read and the drill writes to, for the copy of a dump; `None` where they have no walls.
    #[cfg(feature = "postgres")]
    pub(crate) fn spool(&self, folder: &SandboxFolder) -> Option<PathBuf> {
        self.walls.as_ref().map(|_| folder.path().join(SPOOL))
    }

    /// For each folder of `programs` one with scripts that stand for those of `names` that are there, and hand on
    /// `variables`. The folders themselves where there are no walls.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    #[cfg(any(feature = "mysql", feature = "postgres"))]
    pub(crate) fn stand_ins(
        &self,
        folder: &SandboxFolder,
        programs: &[PathBuf],
        names: &[&str],
        variables: &[&str],
    ) -> io::Result<Vec<PathBuf>> {
        let Some(walls) = &self.walls else { return Ok(programs.to_vec()) };
        let mut stand_ins = Vec::new();
        for (place, programs) in programs.iter().enumerate() {
            let scripts = folder.path().join(SCRIPTS).join(place.to_string());
            let there = names.iter().map(|name| (*name, programs.join(name))).filter(|(_, program)| program.is_file());
            let script = |program: &Path| script_of(&walls.command(folder, program), variables);
            let written: Vec<_> = there.map(|(name, program)| (name, script(&program))).collect();
            write(&scripts, &written)?;
            stand_ins.push(scripts);
        }
        Ok(stand_ins)
    }

    /// How a program of the user's is run: behind the same walls. In a container the user's programs are this machine's, and
    /// run as whoever drills.
    pub(crate) fn asked<'a>(&'a self, folder: &'a SandboxFolder) -> Asked<'a> {
        let within = self.walls.as_ref().map_or(folder.path(), Walls::own);
        Asked { folder, walls: self.walls.as_ref(), within }
    }
}
