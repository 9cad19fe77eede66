//! One file for each command: what it takes, which calls of the library it is made of, and how its result is printed.

pub(crate) mod advise;
pub(crate) mod alerts;
pub(crate) mod cat;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod copy;
mod counting;
pub(crate) mod create;
mod destinations;
pub(crate) mod diff;
pub(crate) mod drill;
pub(crate) mod evidence;
pub(crate) mod find;
pub(crate) mod forget;
pub(crate) mod hold;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod migrate;
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
pub(crate) mod protect;
pub(crate) mod prune;
pub(crate) mod repair;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod runbook;
pub(crate) mod schedule;
pub(crate) mod selection;
pub(crate) mod snapshots;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod tag;
pub(crate) mod r#try;
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
pub(crate) mod undelete;
pub(crate) mod unlock;

use std::panic::{self, AssertUnwindSafe};

use clap::error::ErrorKind as Misuse;
use clap::{CommandFactory as _, Parser as _};

use crate::args::{Cli, Command, Globals};
use crate::console::{Console, say, signals};
use crate::exit::{Exit, Failure};
use crate::session::Session;

/// Reads the command line and does what it says.
pub(crate) fn main() -> Exit {
    panic::set_hook(Box::new(|report| {
        let place = report.location().map(ToString::to_string).unwrap_or_default();
        let payload = report.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let what = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given");
        say(&format!(
            "backup: internal error at {place}: {what}\n  try: report it, this is a bug; no snapshot was lost"
        ));
    }));
    let Cli { globals, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let session = Session::new(globals, signals::listen());
    let Ok(ended) = panic::catch_unwind(AssertUnwindSafe(|| run(command, &session))) else {
        // The hook has told what happened.
        return Exit::Failed;
    };
    match ended {
        Ok(exit) => exit,
        Err(failure) => {
            session.console.failure(&failure);
            // `backup ls | head` has given what was wanted of it.
            if failure.is_unheard { Exit::Done } else { failure.exit }
        }
    }
}

fn run(command: Command, session: &Session) -> Result<Exit, Failure> {
    match command {
        Command::Try(args) => r#try::run(&args, session),
        Command::Init(args) => init::run(&args, session),
        Command::Create(args) => create::run(&args, session),
        Command::Run(args) => run::run(&args, session),
        Command::Status(args) => status::run(&args, session),
        Command::Config(command) => config::run(&command, session),
        Command::Snapshots(args) => snapshots::run(&args, session),
        Command::Ls(args) => ls::run(&args, session),
        Command::Find(args) => find::run(&args, session),
        Command::Diff(args) => diff::run(&args, session),
        Command::Cat(args) => cat::run(&args, session),
        Command::Stats(args) => stats::run(&args, session),
        Command::Restore(args) => restore::run(&args, session),
        Command::Drill(args) => drill::run(&args, session),
        Command::Evidence(command) => evidence::run(&command, session),
        Command::Check(args) => check::run(&args, session),
        Command::Repair(command) => repair::run(&command, session),
        Command::Forget(args) => forget::run(&args, session),
        Command::Prune(args) => prune::run(&args, session),
        #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
        Command::Protect(args) => protect::run(&args, session),
        Command::Tag(args) => tag::run(&args, session),
        Command::Hold(args) => hold::run(&args, session),
        Command::Copy(args) => copy::run(&args, session),
        Command::Key(command) => key::run(&command, session),
        Command::Unlock(args) => unlock::run(&args, session),
        Command::Migrate => migrate::run(session),
        Command::Daemon => crate::daemon::run(session),
        Command::Runbook(args) => runbook::run(&args, session),
        Command::Schedule(command) => schedule::run(&command, session),
        Command::Advise(args) => advise::run(&args, session),
        Command::Alerts(command) => alerts::run(&command, session),
        Command::Completions(args) => completions::run(&args, session),
        Command::Man(args) => man::run(&args, session),
    }
}

/// The command that words name, and a space behind each of its own.
fn named(words: &[String]) -> String {
    let (mut command, mut named) = (Cli::command(), String::new());
    for word in words {
        let Some(found) = command.find_subcommand(word) else { continue };
        named = format!("{named}{} ", found.get_name());
        command = found.clone();
    }
    named
}

/// Help and version go to standard output; a command line that cannot be read is a failure of two lines like any
/// other.
fn misused(error: &clap::Error) -> Exit {
    if matches!(error.kind(), Misuse::DisplayHelp | Misuse::DisplayVersion) {
        // Whoever asked has gone away.
        let _ = error.print();
        return Exit::Done;
    }
    // Options that come from the environment are no reason to keep the help back.
    let is_bare = std::env::args_os().len() == 1;
    if is_bare || error.kind() == Misuse::DisplayHelpOnMissingArgumentOrSubcommand {
        say(Cli::command().render_help().ansi().to_string().trim_end());
        return Exit::Usage;
    }
    let text = error.render().to_string();
    let what = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: ")).map(str::to_owned);
    // Only some misuse is told with a usage; an option before the command may have any value.
    let usage = text.lines().find_map(|line| line.trim().strip_prefix("Usage: backup "));
    let words: Vec<String> = match usage {
        Some(usage) => usage.split(' ').map(str::to_owned).collect(),
        None => std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect(),
    };
    let hint = tip.unwrap_or_else(|| format!("backup {}--help", named(&words)));
    let is_json = std::env::args_os().any(|argument| argument == "--json");
    let globals = Globals { json: is_json, ..Globals::default() };
    Console::new(&globals).failure(&Failure::usage(what, hint));
    Exit::Usage
}
