//! `backup unlock`: removes locks.

use backup_core::repository::Unlock;
use serde_json::json;

use crate::console::amounts;
use crate::exit::{Exit, Failure};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove locks that somebody may be holding, too
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let repository = session.open()?;
    let (removed, left) = repository.unlock(if args.all { Unlock::All } else { Unlock::Stale })?;
    session.console.either(&json!({"removed": removed, "left": left}), || {
        let removed = amounts::counted(removed as u64, "lock");
        match left {
            0 => format!("removed {removed}"),
            left => format!(
                "removed {removed}; left {} that may be held: --all removes them too",
                amounts::counted(left as u64, "lock")
            ),
        }
    })?;
    Ok(Exit::Done)
}
