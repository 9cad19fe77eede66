//! `backup init`: creates a repository.

use std::path::PathBuf;
use std::sync::Arc;

use backup_core::bridge::Store;
use backup_core::clock::SystemClock;
use backup_core::repository::layout;
use backup_core::repository::{CreateOptions, Like, Passphrase, Repository};
use backup_core::{Error, ErrorKind};
use futures::FutureExt as _;
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};
use crate::located::Located;
use crate::network::{Caching, patience};
use crate::secrets::key_cost;
use crate::secrets::password::{self, Second};
use crate::session::{Session, identity};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without -r, all repositories of the configuration are made that are not there yet, so that they cut \
    files at the same places. With --like, and without an option or variable for its passphrase ($BACKUP_LIKE_PASSWORD, \
    $BACKUP_LIKE_PASSWORD_FILE, $BACKUP_LIKE_PASSWORD_COMMAND), the other repository is opened with the passphrase of \
    the new one."
)]
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
    let like = args.like.as_deref().map(|like| other(like, args, session)).transpose()?;
    if session.globals.repo.iter().all(String::is_empty) && session.has_config()? {
        return all_configured(args, like, session);
    }
    let place = session.place()?;
    let located = session.locate(place)?;
    // As every command opens it afterwards: an option is nearer than the configuration.
    let configured = located.passphrase.as_ref().filter(|_| !session.has_password_option());
    let passphrase = password::of_new_repository(configured, session, &located.place.to_string())?;
    let repository = create(&located, &passphrase, like_of(args, like), session)?;
    let id = repository.config().id;
    session
        .console
        .either(&document(&repository), || format!("created repository {id:.8} at {}", place_of(&repository)))?;
    session.console.note(KEEP_THE_PASSPHRASE);
    Ok(Exit::Done)
}

pub(crate) const KEEP_THE_PASSPHRASE: &str = "Without the passphrase nobody can read the backups, you included: keep a second copy \
    of it elsewhere, on paper or in a password manager, not only on this machine.";

/// Creates every repository of the configuration that is not there yet. All cut files as the first does, so that what
/// is backed up to several in one pass, or copied between them, is stored once.
fn all_configured(args: &Args, like: Option<Repository>, session: &Session) -> Result<Exit, Failure> {
    let config = session.config()?;
    let (mut documents, mut lines, mut worst) = (Vec::new(), String::new(), Exit::Done);
    let mut first = like;
    for configured in &config.repositories {
        let name = &configured.name;
        let located = Located::configured(configured, &session.globals.network);
        match session.open_configured(configured, None) {
            Ok(repository) => {
                documents.push(
                    json!({"name": name, "created": false, "repository": document(&repository), "failure": null}),
                );
                lines += &format!("{name} is there: {}\n", place_of(&repository));
                first = first.or(Some(repository));
                continue;
            }
            Err(failure) if failure.exit == Exit::NoRepository => {}
            Err(failure) => {
                documents.push(json!({"name": name, "created": false, "repository": null, "failure": failure.what}));
                session.console.failure(&failure);
                worst = worst.graver(failure.exit);
                continue;
            }
        }
        let created = password::of_new_repository(located.passphrase.as_ref(), session, &located.place.to_string())
            .and_then(|passphrase| create(&located, &passphrase, like_of(args, first.clone()), session));
        match created {
            Ok(repository) => {
                documents
                    .push(json!({"name": name, "created": true, "repository": document(&repository), "failure": null}));
                lines += &format!("created {name}: {:.8} at {}\n", repository.config().id, place_of(&repository));
                first = first.or(Some(repository));
            }
            Err(failure) => {
                documents.push(json!({"name": name, "created": false, "repository": null, "failure": failure.what}));
                session.console.failure(&failure);
                worst = worst.graver(failure.exit);
            }
        }
    }
    session.console.either(&json!({"repositories": documents}), || lines)?;
    session.console.note(KEEP_THE_PASSPHRASE);
    Ok(worst)
}

fn create(located: &Located, passphrase: &Passphrase, like: Like, session: &Session) -> Result<Repository, Failure> {
    if let Some(stranger) = stranger(located, session)? {
        // A repository that is there already is told of as such.
        let there = Store::new(located.open(Caching::Forbidden, session)?)?;
        if there.stat(&layout::config()).is_err() {
            return Err(stranger);
        }
    }
    let sink = located.create(session)?;
    let options = CreateOptions { like, cost: key_cost(passphrase) };
    Ok(Repository::create(sink, passphrase, &options, identity(None), Arc::new(SystemClock))?)
}

/// What lies there and is of no repository.
fn stranger(located: &Located, session: &Session) -> Result<Option<Failure>, Failure> {
    let access = located.access(session)?;
    for place in located.clone().places() {
        let (with, at, patience) = (access.clone(), place.clone(), patience(session));
        let look = async move { at.stranger(&with, &patience).await };
        // A folder is looked into at once.
        let found = match place.is_remote() {
            true => Store::new(place.open(&access)?)?.start(look).join(),
            false => look.now_or_never(),
        };
        if let Some(name) = found.transpose()?.flatten() {
            let error = Error::new(ErrorKind::AlreadyThere, place.to_string())
                .caused_by(format!("{name} lies there and is of no repository"))
                .with_hint("give an empty place, or one below it: nothing was changed");
            return Ok(Some(error.into()));
        }
    }
    Ok(None)
}

fn like_of(args: &Args, other: Option<Repository>) -> Like {
    match other {
        None => Like::Nothing,
        Some(other) if args.same_key => Like::CutsAndKey(other),
        Some(other) => Like::Cuts(other),
    }
}

fn document(repository: &Repository) -> Value {
    let config = repository.config();
    json!({"id": config.id, "place": place_of(repository), "version": config.version})
}

fn place_of(repository: &Repository) -> String {
    repository.store().location()
}

/// The repository that the new one takes after.
fn other(place: &str, args: &Args, session: &Session) -> Result<Repository, Failure> {
    let sink = session.open_sink(place, Caching::Forbidden)?;
    let (file, command) = (args.like_password_file.as_deref(), args.like_password_command.as_deref());
    let passphrase = password::of_second(Second::Like, file, command, place, session)?;
    let reporter = session.console.reporter();
    Repository::open(sink, &passphrase, identity(None), Arc::new(SystemClock), &*reporter)
        .map_err(|error| password::hint_at_second(Second::Like, error.into()))
}
