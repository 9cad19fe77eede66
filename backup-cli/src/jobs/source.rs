//! A job's source, opened: one part, or each database of a server.

use std::process::Command;

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::contracts::Source;
use backup_sources::command::CommandSource;
use backup_sources::databases::url::{DatabaseUrl, Password};
use backup_sources::files::FilesSource;
use backup_store::Place;

use crate::config::{self, Job};
use crate::databases::{self, DumpArgs};
use crate::exit::Failure;
use crate::session::Session;

/// One part of a job. What holds a connection, or a program, is opened when its turn comes.
pub(crate) enum Opening<'a> {
    Files(FilesSource),
    Command { command: &'a str, name: &'a str },
    Database { url: DatabaseUrl, dump: &'a DumpArgs },
}

/// The parts of a job, whose repositories lie at `places`.
pub(crate) fn parts<'a>(job: &'a Job, places: &[Place], session: &Session) -> Result<Vec<Opening<'a>>, Failure> {
    match &job.source {
        config::Source::Files { paths, selection, .. } => {
            let options = selection.options_beside(paths, places, session.console)?;
            Ok(vec![Opening::Files(FilesSource::new(paths.clone(), &options)?)])
        }
        config::Source::Command { command, name } => Ok(vec![Opening::Command { command, name }]),
        config::Source::Database { url, password, dump } => {
            let url = match password {
                Some(origin) => {
                    let password = origin.read(&format!("password of {}", job.name), &session.console)?;
                    url.with_password(Password::new(password.as_str()))
                }
                None => url.clone(),
            };
            let each = databases::each(&url, dump, &session.console)?;
            Ok(each.into_iter().map(|url| Opening::Database { url, dump }).collect())
        }
    }
}

impl Opening<'_> {
    /// Opens it.
    pub(crate) fn open(self, session: &Session) -> Result<Box<dyn Source>, Failure> {
        Ok(match self {
            Self::Files(source) => Box::new(source),
            Self::Command { command, name } => {
                let mut shell = Command::new("/bin/sh");
                shell.arg("-c").arg(command);
                Box::new(CommandSource::new(name, shell, SystemClock.now())?)
            }
            Self::Database { url, dump } => databases::source(&url, dump, &session.console)?,
        })
    }

    /// What it is called before it is open.
    pub(crate) fn named(&self) -> String {
        match self {
            Self::Files(source) => source.info().paths.join(" "),
            Self::Command { name, .. } => format!("/command/{name}"),
            Self::Database { url, .. } => url.to_string(),
        }
    }
}
