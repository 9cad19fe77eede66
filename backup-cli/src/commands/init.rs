//! `backup init`: creates a repository.

use std::sync::Arc;

use backup_core::clock::SystemClock;
use backup_core::repository::{CreateOptions, Repository};
use backup_store::Place;
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::network::Caching;
use crate::secrets::password;
use crate::session::{Session, identity};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Cut files as this repository does, so that copies between the two share their data
    #[arg(long, value_name = "PLACE")]
    like: Option<String>,
    /// Where the passphrase of the repository given with --like is read from
    #[arg(long, value_name = "FILE", requires = "like")]
    like_password_file: Option<std::path::PathBuf>,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let place = session.place()?;
    let parsed = Place::parse(place)?;
    let polynomial = args.like.as_deref().map(|like| polynomial_of(like, args, session)).transpose()?;
    let passphrase = password::of_new_repository(session, place)?;
    let sink = session.create_sink(&parsed)?;
    let options = CreateOptions { polynomial, cost: None };
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

/// The polynomial of another repository, which is opened with the same passphrase unless another is given.
fn polynomial_of(like: &str, args: &Args, session: &Session) -> Result<backup_core::chunk::Polynomial, Failure> {
    let sink = session.open_sink(like, Caching::Forbidden)?;
    let passphrase = match &args.like_password_file {
        Some(file) => password::additional(Some(file), None, &session.console)?,
        None => password::of_repository(session, like)?,
    };
    let reporter = session.console.reporter();
    let other = Repository::open(sink, &passphrase, identity(None), Arc::new(SystemClock), &*reporter)?;
    Ok(other.config().polynomial()?)
}
