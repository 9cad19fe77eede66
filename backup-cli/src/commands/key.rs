//! `backup key`: the passphrases that open a repository.

use std::io;
use std::path::{Path, PathBuf};

use backup_core::model::KeyId;
use backup_core::repository::{Passphrase, Repository};
use serde_json::{Value, json};

use super::init::KEEP_THE_PASSPHRASE;
use crate::console::{amounts, say, table::Table};
use crate::exit::{Exit, Failure};
use crate::secrets::{key_cost, password, write_new};
use crate::session::Session;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the keys
    List,
    /// Let another passphrase open the repository too
    Add(NewPassphrase),
    /// Take a passphrase's key away; never the one in use
    Remove {
        /// The beginning of the key's id
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Change the passphrase: add the new one, then remove the one in use
    Passwd(NewPassphrase),
    /// Draw a passphrase at random, for a repository that is to be made or for `add` and `passwd`
    ///
    /// Nobody can guess it, so that opening a repository with it takes no half second, and check characters tell when it
    /// was mistyped. No repository is asked for, and none is changed.
    Generate {
        /// Where to write it, readable by its owner alone; never over a file that is there. Else it is printed
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct NewPassphrase {
    /// Read the new passphrase from this file
    #[arg(long, value_name = "FILE", conflicts_with = "new_password_command")]
    new_password_file: Option<PathBuf>,
    /// Read the new passphrase from what this command prints
    #[arg(long, value_name = "COMMAND")]
    new_password_command: Option<String>,
}

impl NewPassphrase {
    fn read(&self, session: &Session) -> Result<Passphrase, Failure> {
        let (file, command) = (self.new_password_file.as_deref(), self.new_password_command.as_deref());
        password::additional(file, command, &session.console)
    }
}

pub(crate) fn run(command: &Command, session: &Session) -> Result<Exit, Failure> {
    if let Command::Add(_) | Command::Remove { .. } | Command::Passwd(_) = command {
        session.require_locks()?;
    }
    let reporter = session.console.reporter();
    match command {
        Command::List => list(&session.open()?, session)?,
        Command::Add(new) => {
            let repository = session.open()?;
            let new = new.read(session)?;
            let id = repository.add_key(&new, key_cost(&new), &*reporter)?;
            session.console.either(&json!({"added": id}), || format!("added key {id:.8}"))?;
        }
        Command::Remove { key } => {
            let repository = session.open()?;
            let id = find(&repository, key)?;
            repository.remove_key(id, &*reporter)?;
            session.console.either(&json!({"removed": id}), || {
                format!(
                    "removed key {id:.8}; who has a copy of it and its passphrase can still read copies made before"
                )
            })?;
        }
        Command::Passwd(new) => {
            let repository = session.open()?;
            let old = repository.key_id();
            let new = new.read(session)?;
            let id = repository.change_passphrase(&new, key_cost(&new), &*reporter)?;
            session.console.either(&json!({"added": id, "removed": old}), || {
                format!("the passphrase was changed: key {id:.8} replaces {old:.8}")
            })?;
        }
        Command::Generate { file } => generate(file.as_deref(), session)?,
    }
    Ok(Exit::Done)
}

fn generate(file: Option<&Path>, session: &Session) -> Result<(), Failure> {
    let passphrase = Passphrase::draw()?;
    let Some(file) = file else {
        let printed = json!({"file": null, "passphrase": passphrase.reveal()});
        return session.console.either(&printed, || passphrase.reveal().to_owned());
    };
    write_new(file, &format!("{}\n", passphrase.reveal())).map_err(|error| {
        let failure = Failure::because(format!("the passphrase file {}", file.display()), &error);
        match error.kind() {
            io::ErrorKind::AlreadyExists => {
                failure.with_hint("nothing was written: what it holds may be all that opens a repository")
            }
            _ => failure,
        }
    })?;
    session
        .console
        .summary(&json!({"file": file, "passphrase": null}), || format!("drew a passphrase: {}", file.display()))?;
    session.console.note(KEEP_THE_PASSPHRASE);
    Ok(())
}

fn list(repository: &Repository, session: &Session) -> Result<(), Failure> {
    let mut documents = Vec::<Value>::new();
    let mut table = Table::new(&["ID", "In use", "Made by", "Made at", ">Work"]);
    for (id, file) in repository.keys()? {
        let file = match file {
            Ok(file) => file,
            Err(error) => {
                say(&format!("loss: key {id:.8}: {error}"));
                continue;
            }
        };
        let is_in_use = id == repository.key_id();
        let (user, host) = file.made_by();
        let cost = file.cost();
        documents.push(json!({
            "id": id, "in_use": is_in_use, "username": user, "hostname": host, "created": file.created(),
            "scrypt": {"n": cost.n, "r": cost.r, "p": cost.p},
        }));
        let made = file.created().parse().map_or_else(|_| file.created().to_owned(), amounts::local_time);
        let work = format!("{}x{}x{}", cost.n, cost.r, cost.p);
        let mark = if is_in_use { "*" } else { "" };
        table.row([format!("{id:.8}"), mark.to_owned(), format!("{user}@{host}"), made, work]);
    }
    session.console.either(&json!({"keys": documents}), || table.text())
}

/// The one key whose id begins so.
fn find(repository: &Repository, text: &str) -> Result<KeyId, Failure> {
    let ids: Vec<_> = repository.keys()?.into_iter().map(|(id, _)| id).collect();
    let found: Vec<_> = ids.into_iter().filter(|id| !text.is_empty() && id.to_string().starts_with(text)).collect();
    match found.as_slice() {
        [id] => Ok(*id),
        [] => {
            Err(Failure::new(format!("no key has an id that begins with {text:?}")).with_hint("`key list` lists them"))
        }
        _ => Err(Failure::usage(format!("several keys have an id that begins with {text:?}"), "give more of it")),
    }
}
