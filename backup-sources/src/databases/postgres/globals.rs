//! `globals.sql`: what belongs to the server and not to one database, as pg_dumpall writes it: roles, their memberships
//! and settings, tablespaces.

use std::io::Read;

use backup_core::limits::GLOBALS_BYTES_MAX;

use super::programs::{Programs, complaint};
use super::server::Server;
use super::tls::Protection;
use crate::program::Program;

/// What came of it.
pub(super) struct Globals {
    /// The text, if the server gave it out.
    pub(super) text: Option<Vec<u8>>,
    /// What a person should know of it.
    pub(super) warning: Option<String>,
}

impl Globals {
    /// Asks pg_dumpall. Managed servers show nobody the hashes of passwords; roles are then kept without them.
    pub(super) fn dump(server: &Server, database: &str, programs: &Programs, protection: &Protection) -> Self {
        let run = |options: &[&str]| {
            let mut command = programs.command("pg_dumpall");
            command.args(["--globals-only", "--no-password", "--database", database]).args(options);
            server.equip(&mut command, database, protection.authorities.as_deref());
            read(Program::start(command).map_err(|error| error.to_string())?)
        };
        let (text, warning) = match run(&[]) {
            Ok(text) => (Some(text), None),
            Err(refused) => match run(&["--no-role-passwords"]) {
                Ok(text) => (
                    Some(text),
                    Some(format!("roles are kept without their passwords, which this user may not read: {refused}")),
                ),
                Err(refused) => (None, Some(format!("roles are not in the backup: {refused}"))),
            },
        };
        Self { text, warning }
    }
}

fn read(mut running: Program) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    (&mut running).take(GLOBALS_BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > GLOBALS_BYTES_MAX {
        return Err("they are too many".to_owned());
    }
    let ended = running.finish()?;
    if ended.status.success() { Ok(text) } else { Err(complaint(&ended)) }
}
