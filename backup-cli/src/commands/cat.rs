//! `backup cat`: the bytes of one file.

use std::io::Write as _;

use backup_core::model::SnapshotPath;
use backup_core::pipeline::FileReader;

#[cfg(feature = "mongodb")]
use backup_core::Error;
#[cfg(feature = "mongodb")]
use backup_sources::databases::mongodb::archive::{ArchiveWriter, Contents};
#[cfg(feature = "mongodb")]
use backup_sources::databases::url::Engine;

use crate::args::Which;
#[cfg(feature = "mongodb")]
use crate::databases::{DumpFolder, Known};
use crate::exit::{Exit, Failure};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A snapshot: the beginning of its id, or `latest`
    #[arg(value_name = "SNAP")]
    snapshot: String,
    /// The file
    #[arg(value_name = "PATH")]
    path: std::ffi::OsString,
    /// PATH is the folder of a database of MongoDB: as one stream, for `mongorestore --archive`
    #[cfg(feature = "mongodb")]
    #[arg(long)]
    archive: bool,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    if session.console.is_json() {
        return Err(Failure::usage("the bytes of a file are not JSON", "leave out --json"));
    }
    let repository = session.open()?;
    let reporter = session.console.reporter();
    let _lock = session.lock(&repository, &*reporter)?;
    let (_, snapshot) = session.find(&repository, &args.snapshot, &args.which)?;
    let index = repository.load_index(&*reporter)?;
    reporter.finish();
    let path = SnapshotPath::parse(args.path.as_encoded_bytes());
    #[cfg(feature = "mongodb")]
    if args.archive {
        return archive(&DumpFolder::open(&repository, &index, &snapshot, &path)?, session);
    }
    let mut file = FileReader::open(&repository, &index, &snapshot, &path)?;
    let (mut out, mut piece) = (std::io::stdout().lock(), Vec::new());
    while file.read_piece(&mut piece)? {
        session.cancel.check()?;
        out.write_all(&piece)?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// A database of MongoDB as mongodump's archive.
#[cfg(feature = "mongodb")]
fn archive(folder: &DumpFolder<'_>, session: &Session) -> Result<Exit, Failure> {
    let Known { manifest, files } = folder.known(Engine::Mongodb)?;
    if manifest.engine != Engine::Mongodb.name() {
        let hint = "--archive is for folders below /mongodb/";
        return Err(Failure::usage(format!("this is a database of {}", manifest.engine), hint));
    }
    let contents = Contents::of(&manifest, &folder.sizes(), &files);
    let contents = contents.map_err(|why| Error::damaged(manifest.database.as_str(), why))?;
    let names: Vec<String> = contents.files().map(str::to_owned).collect();
    let mut archive = ArchiveWriter::begin(std::io::stdout().lock(), contents)?;
    let mut piece = Vec::new();
    for name in names {
        let mut file = folder.file(&name)?;
        while file.read_piece(&mut piece)? {
            session.cancel.check()?;
            archive.write(&piece)?;
        }
        archive.end_file()?;
    }
    let _ = archive.finish()?;
    Ok(Exit::Done)
}
