//! `backup config`: is the configuration right, and what comes of it.

use serde_json::json;

use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::session::Session;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Say what is wrong with the configuration, and what would run when
    Check(Check),
    /// Print the configuration as it is kept in repositories: without secrets and comments
    Show,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// Look at the file alone: read no secret and connect to nothing
    #[arg(long)]
    offline: bool,
}

pub(crate) fn run(command: &Command, session: &Session) -> Result<Exit, Failure> {
    match command {
        Command::Check(args) => check(args, session),
        Command::Show => show(session),
    }
}

fn show(session: &Session) -> Result<Exit, Failure> {
    let config = session.config()?;
    let path = config.path.display().to_string();
    session.console.either(&json!({"path": path, "text": config.kept}), || config.kept.clone())?;
    Ok(Exit::Done)
}

fn check(_args: &Check, session: &Session) -> Result<Exit, Failure> {
    let config: &Config = &*session.config()?;
    session.console.either(&json!({"jobs": config.jobs.len()}), || format!("{} jobs", config.jobs.len()))?;
    Ok(Exit::Done)
}
