//! `backup completions`: what the shell needs to know.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use crate::args::Cli;
use crate::exit::{Exit, Failure};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "backup", &mut script);
    let script = String::from_utf8_lossy(&script);
    session.console.either(&serde_json::json!({"shell": args.shell.to_string(), "script": script}), || {
        script.clone().into_owned()
    })?;
    Ok(Exit::Done)
}
