//! stand-in
use crate::{
    exit::{Exit, Failure},
    session::Session,
};
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Index,
    Snapshots,
}
pub(crate) fn run(_a: &Command, _s: &Session) -> Result<Exit, Failure> {
    Err(Failure::new("not yet"))
}
