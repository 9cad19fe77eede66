//! Which files a backup leaves out: options that `create` and `try` share.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use backup_sources::files::{Atime, Case, Excludes, FileSystems, FilesOptions, Gitignore, LeftOut, Marker};
use backup_store::Place;

use crate::console::{Console, amounts};
use crate::exit::{Exit, Failure};
use crate::located::Located;
use crate::session::Session;

#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "What is left out")]
pub(crate) struct Selection {
    /// Leave out what matches: '*.tmp' at any depth, '/home/*/cache' from the root; '!…' brings back
    #[arg(short, long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// The same without regard to capital letters
    #[arg(long, value_name = "GLOB")]
    pub(crate) iexclude: Vec<String>,
    /// Read such patterns from a file, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) exclude_file: Vec<PathBuf>,
    /// Leave out what .gitignore files name
    #[arg(long)]
    pub(crate) gitignore: bool,
    /// Leave out what is in folders with a CACHEDIR.TAG
    #[arg(long)]
    pub(crate) exclude_caches: bool,
    /// Leave out what is in folders that hold a file of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) exclude_if_present: Vec<String>,
    /// Leave out files over this size: 100M, 2G
    #[arg(long, value_name = "SIZE", value_parser = amounts::parse_size)]
    pub(crate) exclude_larger_than: Option<u64>,
    /// Do not enter other file systems
    #[arg(short = 'x', long)]
    pub(crate) one_file_system: bool,
    /// Store when files were last read, too
    #[arg(long)]
    pub(crate) with_atime: bool,
}

impl Selection {
    /// The source's word for it. A repository that lies in one of `sources` is left out: each backup of itself would
    /// be larger than the one before.
    pub(crate) fn options(&self, sources: &[OsString], session: &Session) -> Result<FilesOptions, Failure> {
        let places = session.places().unwrap_or_default();
        let places: Vec<_> =
            places.into_iter().filter_map(|text| session.locate(text).ok()).flat_map(Located::places).collect();
        self.options_beside(sources, &places, session.console)
    }

    /// The same, of which the repositories are at `places`.
    pub(crate) fn options_beside(
        &self,
        sources: &[impl AsRef<Path>],
        places: &[Place],
        console: Console,
    ) -> Result<FilesOptions, Failure> {
        let mut excludes = Excludes::default();
        let usage = |error| Failure { exit: Exit::Usage, ..Failure::from(error) };
        for pattern in &self.exclude {
            excludes.add(pattern, Case::Sensitive).map_err(usage)?;
        }
        for pattern in &self.iexclude {
            excludes.add(pattern, Case::Insensitive).map_err(usage)?;
        }
        for file in &self.exclude_file {
            excludes.add_file(file, Case::Sensitive).map_err(usage)?;
        }
        for place in places {
            if let Place::Folder(folder) = place
                && let (Ok(folder), Ok(sources)) = (folder.canonicalize(), canonical(sources))
                && sources.iter().any(|source| folder.starts_with(source))
                && let Some(text) = folder.to_str()
            {
                console.note(&format!("the repository itself is left out: {text}"));
                excludes.add(&globset::escape(text), Case::Sensitive).map_err(usage)?;
            }
        }
        let caches = self.exclude_caches.then(Marker::cachedir_tag);
        let named = self.exclude_if_present.iter().map(|name| Marker::named(name));
        Ok(FilesOptions {
            excludes,
            markers: caches.into_iter().chain(named).collect(),
            gitignore: if self.gitignore { Gitignore::Honoured } else { Gitignore::Plain },
            file_bytes_max: self.exclude_larger_than,
            file_systems: if self.one_file_system { FileSystems::One } else { FileSystems::All },
            atime: if self.with_atime { Atime::Recorded } else { Atime::AsMtime },
        })
    }
}

fn canonical(paths: &[impl AsRef<Path>]) -> io::Result<Vec<PathBuf>> {
    paths.iter().map(|path| path.as_ref().canonicalize()).collect()
}

/// What was left out and why, in words; empty when nothing was.
pub(crate) fn told(left_out: &LeftOut) -> String {
    let LeftOut {
        by_pattern,
        by_gitignore,
        marked_folders,
        large_files,
        large_files_bytes,
        other_file_systems,
        sockets,
    } = left_out;
    let large = amounts::size(*large_files_bytes);
    let parts = [
        (*by_pattern, format!("{} by patterns", amounts::count(*by_pattern))),
        (*by_gitignore, format!("{} by .gitignore", amounts::count(*by_gitignore))),
        (*marked_folders, format!("the content of {}", amounts::counted(*marked_folders, "cache folder"))),
        (*large_files, format!("{} ({large})", amounts::counted(*large_files, "large file"))),
        (*other_file_systems, format!("{} on other file systems", amounts::count(*other_file_systems))),
        (*sockets, amounts::counted(*sockets, "socket")),
    ];
    parts.into_iter().filter(|(count, _)| *count > 0).map(|(_, text)| text).collect::<Vec<_>>().join(", ")
}
