//! Passphrases: from a file, a command, the environment, or the terminal.

use std::io::{self, IsTerminal as _};
use std::path::Path;

use backup_core::repository::Passphrase;
use backup_core::{Error, ErrorKind};
use zeroize::Zeroizing;

use super::origin::Origin;
use crate::console::{Console, signals};
use crate::exit::{Exit, Failure};
use crate::session::Session;

/// What a second repository is for; its word begins the names of its options and variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Second {
    /// The one that is copied to.
    To,
    /// The one that a new one takes after.
    Like,
}

impl Second {
    fn word(self) -> &'static str {
        match self {
            Self::To => "to",
            Self::Like => "like",
        }
    }

    /// The passphrase itself, a file, a command.
    fn variables(self) -> [&'static str; 3] {
        match self {
            Self::To => ["BACKUP_TO_PASSWORD", "BACKUP_TO_PASSWORD_FILE", "BACKUP_TO_PASSWORD_COMMAND"],
            Self::Like => ["BACKUP_LIKE_PASSWORD", "BACKUP_LIKE_PASSWORD_FILE", "BACKUP_LIKE_PASSWORD_COMMAND"],
        }
    }
}

/// The passphrase of a second repository at `place`: its own where one is given, or where the configuration says that it
/// is, else that of the first.
pub(crate) fn of_second(
    second: Second,
    file: Option<&Path>,
    command: Option<&str>,
    place: &str,
    session: &Session,
) -> Result<Passphrase, Failure> {
    let given =
        file.map(|file| Origin::File(file.to_owned())).or(command.map(|command| Origin::Command(command.into())));
    let configured = session.locate(place)?.passphrase;
    let origin = given.or(configured).or_else(|| of_variables(second.variables()));
    match origin {
        Some(origin) => read(&origin, &session.console),
        None => of_repository(session, place),
    }
}

/// A passphrase that opens the first repository and not the second: says how to give the second's.
pub(crate) fn hint_at_second(second: Second, failure: Failure) -> Failure {
    if failure.exit != Exit::WrongPassphrase {
        return failure;
    }
    let word = second.word();
    failure.with_hint(format!(
        "--{word}-password-file gives the passphrase of the repository of --{word}, if it has another"
    ))
}

/// The passphrase of the only, or the first, repository, at `place`.
pub(crate) fn of_repository(session: &Session, place: &str) -> Result<Passphrase, Failure> {
    of_nth_repository(session, 0, place)
}

/// The passphrase of one of the repositories, at `place`. Options come before the environment, because they are nearer to the
/// hand of who runs the command.
pub(crate) fn of_nth_repository(session: &Session, number: usize, place: &str) -> Result<Passphrase, Failure> {
    match origin(session, number)? {
        Some(origin) => read(&origin, &session.console),
        None => ask(&format!("passphrase of {place}: "), Ask::Once),
    }
}

/// Where the passphrase of one of the repositories is read, in a word for a record.
pub(crate) fn source_of_nth(session: &Session, number: usize) -> &'static str {
    match origin(session, number).ok().flatten() {
        Some(Origin::File(_)) => "file",
        Some(Origin::Command(_)) => "command",
        Some(Origin::Variable(_)) => "variable",
        Some(Origin::Given(_)) => "configuration",
        None => "prompt",
    }
}

/// The passphrase that `origin` gives.
pub(crate) fn of_origin(origin: &Origin, session: &Session) -> Result<Passphrase, Failure> {
    read(origin, &session.console)
}

/// The passphrase of a repository that is about to be made, as `configured`, or else as for any other; asked for twice when a
/// person types it.
pub(crate) fn of_new_repository(
    configured: Option<&Origin>,
    session: &Session,
    place: &str,
) -> Result<Passphrase, Failure> {
    match configured.cloned().map_or_else(|| origin(session, 0), |configured| Ok(Some(configured)))? {
        Some(origin) => read_new(&origin, &session.console),
        None => ask(&format!("new passphrase for {place}: "), Ask::Twice),
    }
}

/// A further or changed passphrase of a repository that is open already.
pub(crate) fn additional(file: Option<&Path>, command: Option<&str>, console: &Console) -> Result<Passphrase, Failure> {
    match (file, command) {
        (Some(file), _) => read_new(&Origin::File(file.to_owned()), console),
        (None, Some(command)) => read_new(&Origin::Command(command.into()), console),
        (None, None) => ask("new passphrase: ", Ask::Twice).map_err(|failure| match failure.exit {
            Exit::Usage if failure.what.starts_with("no passphrase") => {
                failure.with_hint("give --new-password-file or --new-password-command")
            }
            _ => failure,
        }),
    }
}

/// Where the passphrase of the repository of this number is to be read: options are given once for all repositories, or
/// once for each in their order.
fn origin(session: &Session, number: usize) -> Result<Option<Origin>, Failure> {
    let globals = &session.globals;
    let mut given = globals.password_file.iter().cloned().map(Origin::File).collect::<Vec<_>>();
    given.extend(globals.password_command.iter().map(|command| Origin::Command(command.into())));
    let repositories = globals.repo.len().max(1);
    match given.len() {
        0 => Ok(of_variables(["BACKUP_PASSWORD", "BACKUP_PASSWORD_FILE", "BACKUP_PASSWORD_COMMAND"])),
        1 => Ok(given.pop()),
        count if count == repositories => Ok(Some(given.swap_remove(number))),
        count => Err(Failure::usage(
            format!("{count} passphrases are given for {repositories} repositories"),
            "give --password-file or --password-command once for all, or once for each -r",
        )),
    }
}

/// The first that is set of a passphrase itself, a file and a command.
fn of_variables([passphrase, file, command]: [&'static str; 3]) -> Option<Origin> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if variable(passphrase).is_some() {
        Some(Origin::Variable(passphrase.to_owned()))
    } else if let Some(file) = variable(file) {
        Some(Origin::File(file.into()))
    } else {
        variable(command).map(Origin::Command)
    }
}

fn read(origin: &Origin, console: &Console) -> Result<Passphrase, Failure> {
    let text = origin.read("password", console)?;
    if text.is_empty() {
        return Err(Failure::usage(
            format!("{} gives an empty passphrase", origin.told("password")),
            "an empty passphrase protects nothing",
        ));
    }
    Ok(Passphrase::new(text.as_str()))
}

/// The same of a passphrase that opens nothing yet.
fn read_new(origin: &Origin, console: &Console) -> Result<Passphrase, Failure> {
    let passphrase = read(origin, console)?;
    fit_for_a_key(&passphrase, &origin.told("password"))?;
    Ok(passphrase)
}

/// Refuses a drawn one that was mistyped, before anything is made: nothing opens yet that would tell.
fn fit_for_a_key(passphrase: &Passphrase, told: &str) -> Result<(), Failure> {
    passphrase.fit_for_a_key().map_err(|error| match error.kind() {
        ErrorKind::Invalid(why) => Failure { what: format!("{told}: {why}"), ..error.into() },
        _ => error.into(),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Once,
    Twice,
}

fn ask(prompt: &str, times: Ask) -> Result<Passphrase, Failure> {
    // Standard input may carry a dump; whether a person is there shows elsewhere too.
    if !io::stdin().is_terminal() && !io::stderr().is_terminal() {
        return Err(Failure::usage(
            "no passphrase, and no terminal to ask on",
            "set BACKUP_PASSWORD_FILE or give --password-file",
        ));
    }
    let typed = |prompt: &str| {
        signals::while_typing(|| rpassword::prompt_password(prompt)).map(Zeroizing::new).map_err(|error| {
            match error.kind() {
                io::ErrorKind::Interrupted => Error::new(ErrorKind::Cancelled, "passphrase").into(),
                _ => Failure { exit: Exit::Usage, ..Failure::because("the terminal", &error) },
            }
        })
    };
    let passphrase = typed(prompt)?;
    if passphrase.is_empty() {
        return Err(Failure::usage("the passphrase is empty", "an empty passphrase protects nothing"));
    }
    let given = Passphrase::new(passphrase.as_str());
    if times == Ask::Twice {
        fit_for_a_key(&given, "the passphrase")?;
        if *typed("the same again: ")? != *passphrase {
            return Err(Failure::usage("the two passphrases differ", "run it again"));
        }
    }
    Ok(given)
}
