//! stand-in
use crate::{
    exit::{Exit, Failure},
    session::Session,
};
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}
pub(crate) fn run(_a: &Args, _s: &Session) -> Result<Exit, Failure> {
    Err(Failure::new("not yet"))
}
pub(crate) fn after_forget(_r: &backup_core::repository::Repository, _s: &Session) -> Result<Exit, Failure> {
    Err(Failure::new("not yet"))
}
