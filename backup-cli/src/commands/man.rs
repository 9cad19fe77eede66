//! `backup man`: manual pages, made of the same words as `--help`.

use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_mangen::Man;
use serde_json::json;

use crate::args::Cli;
use crate::console::amounts;
use crate::exit::{Exit, Failure};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A folder for the pages of all commands, such as ~/.local/share/man/man1
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let command = Cli::command();
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        let page = String::from_utf8_lossy(&page);
        session.console.either(&json!({"page": page}), || page.clone().into_owned())?;
        return Ok(Exit::Done);
    };
    let failed = |error: &std::io::Error| Failure::because(format!("pages in {}", folder.display()), error);
    std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    clap_mangen::generate_to(command, folder).map_err(|error| failed(&error))?;
    let pages = std::fs::read_dir(folder).map_err(|error| failed(&error))?.count();
    session.console.either(&json!({"folder": folder.to_string_lossy(), "pages": pages}), || {
        format!("{} in {}", amounts::counted(pages as u64, "page"), folder.display())
    })?;
    Ok(Exit::Done)
}
