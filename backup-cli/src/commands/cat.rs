//! `backup cat`: the bytes of one file.

use std::io::Write as _;

use backup_core::model::SnapshotPath;
use backup_core::pipeline::FileReader;

use crate::args::Which;
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
    let mut file = FileReader::open(&repository, &index, &snapshot, &path)?;
    let mut out = std::io::stdout().lock();
    while let Some(piece) = file.next_piece()? {
        session.cancel.check()?;
        out.write_all(&piece)?;
    }
    out.flush()?;
    Ok(Exit::Done)
}
