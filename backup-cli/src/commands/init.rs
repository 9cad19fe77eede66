//! `backup init`: creates a repository.

use std::path::PathBuf;
use std::sync::Arc;

use backup_core::clock::SystemClock;
use backup_core::repository::{CreateOptions, Like, Repository};
use backup_store::Place;
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::secrets::password::{self, Second};
use crate::session::{Session, identity, open_sink};

#[derive(Debug, clap::Args)]
#[command(after_help = "With --like, and without an option or variable for its passphrase ($BACKUP_LIKE_PASSWORD, \
    $BACKUP_LIKE_PASSWORD_FILE, $BACKUP_LIKE_PASSWORD_COMMAND), the other repository is opened with the passphrase of \
    the new one.")]
pub(crate) struct Args {
    /// Cut files as this repository does, so that copies between the two share their data
    #[arg(long, value_name = "PLACE")]
    like: Option<String>,
    /// Seal with the master key of the repository given with --like: copies need no sealing anew, and whoever opens one
    /// of the two can read both
    #[arg(long, requires = "like")]
    same_key: bool,
    /// Read the passphrase of the repository given with --like from this file
    #[arg(long, value_name = "FILE", requires = "like", conflicts_with = "like_password_command")]
    like_password_file: Option<PathBuf>,
    /// Read the passphrase of the repository given with --like from what this command prints
    #[arg(long, value_name = "COMMAND", requires = "like")]
    like_password_command: Option<String>,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let place = session.place()?;
    let parsed = Place::parse(place)?;
    let like = match args.like.as_deref().map(|like| other(like, args, session)).transpose()? {
        None => Like::Nothing,
        Some(other) if args.same_key => Like::CutsAndKey(other),
        Some(other) => Like::Cuts(other),
    };
    let passphrase = password::of_new_repository(session, place)?;
    let sink = parsed.create().map_err(backup_core::Error::from)?;
    let options = CreateOptions { like, cost: None };
    let repository = Repository::create(sink, &passphrase, &options, identity(None), Arc::new(SystemClock))?;
    let id = repository.config().id;
    let document = json!({"id": id, "place": repository.store().location(), "version": repository.config().version});
    session.console.either(&document, || format!("created repository {id:.8} at {}", repository.store().location()))?;
    session.console.note(
        "Without the passphrase nobody can read it, you included: keep a second copy of it elsewhere, on paper or in a \
         password manager, not only on this machine.",
    );
    Ok(Exit::Done)
}

/// The repository that the new one takes after.
fn other(place: &str, args: &Args, session: &Session) -> Result<Repository, Failure> {
    let sink = open_sink(place)?;
    let (file, command) = (args.like_password_file.as_deref(), args.like_password_command.as_deref());
    let passphrase = password::of_second(Second::Like, file, command, place, session)?;
    let reporter = session.console.reporter();
    Repository::open(sink, &passphrase, identity(None), Arc::new(SystemClock), &*reporter)
        .map_err(|error| password::hint_at_second(Second::Like, error.into()))
}
