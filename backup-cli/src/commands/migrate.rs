//! `backup migrate`: brings a repository to the newest version of its format.

use backup_core::care::migrate::{Migration, apply, plan};
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::session::Session;

pub(crate) fn run(session: &Session) -> Result<Exit, Failure> {
    session.require_locks()?;
    let repository = session.open()?;
    let reporter = session.console.reporter();
    let migration = plan(&repository);
    let Migration { from, to } = migration;
    if migration.is_needed() {
        apply(&repository, migration, &*reporter)?;
    }
    session.console.either(&json!({"from": from, "to": to}), || {
        if migration.is_needed() {
            format!("migrated from version {from} to {to}: what is stored from now on is compressed")
        } else {
            format!("already at version {to}, the newest")
        }
    })?;
    Ok(Exit::Done)
}
