//! pg_restore being run: what it is told, what it says.
//!
//! What is always true: its exit status decides, and its first complaints are told. Called by the target, once for a restore.

use std::fs::{self, Permissions};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use backup_core::contracts::{Stored, TargetError};
use backup_core::model::SnapshotPath;
use postgres_protocol::escape::escape_identifier;

use super::described::{failed_to_read, is_damage};
use super::{DUMP, Existing, PostgresTarget, Readers, Tablespaces};
use crate::databases::postgres::archive::Data;
use crate::databases::postgres::laid_out::LaidOut;
use crate::databases::postgres::pipes;
use crate::databases::postgres::programs::complaint;
use crate::databases::postgres::source::Roles;
use crate::databases::postgres::tls::Protection;
use crate::program::{Ended, Program};

/// Complaints of pg_restore that are told.
const TOLD_MAX: usize = 3;

impl PostgresTarget {
    /// Loads the dump, or what `list` names of it; what its data comes to, when that was looked into on the way.
    pub(super) fn run(
        &self,
        dump: &Path,
        list: Option<&Path>,
        places: Tablespaces,
        stored: &dyn Stored,
        laid_out: Option<LaidOut>,
    ) -> Result<Option<Data>, TargetError> {
        let failed = |why: String| TargetError::new("load", SnapshotPath::parse(DUMP.as_bytes()), why);
        let protection = Protection::of(&self.server).map_err(|error| failed(error.to_string()))?;
        let jobs = self.options.jobs.or_else(|| std::thread::available_parallelism().ok());
        let mut command = self.programs.command("pg_restore");
        command.arg("--no-password");
        // Without a database pg_restore would print. A name with an equals sign would be taken for a connection.
        command.arg(format!("--dbname=dbname='{}'", self.loaded.replace('\\', "\\\\").replace('\'', "\\'")));
        if self.options.roles == Roles::LeftOut {
            command.args(["--no-owner", "--no-privileges"]);
        }
        if places == Tablespaces::TheDatabases {
            command.arg("--no-tablespaces");
        }
        match list {
            None => {
                command.arg(format!("--jobs={}", jobs.map_or(1, NonZeroUsize::get)));
            }
            // Beside what is there it is all or nothing: rows must not be added to a table that was there before, and one
            // that is replaced must not be lost when the new one is refused.
            Some(list) => {
                command.arg("--single-transaction").arg("--use-list").arg(list);
                if self.options.existing == Existing::Replaced {
                    command.args(["--clean", "--if-exists"]);
                }
            }
        }
        command.arg(dump);
        self.server.equip(&mut command, &self.loaded, protection.authorities.as_deref());
        if self.options.readers == Readers::Everybody {
            show(self.folder.path()).map_err(|error| TargetError::of_io("show", SnapshotPath::root(), &error))?;
        }
        let running = Program::start_as_group(command).map_err(|error| failed(error.to_string()))?;
        let is_looked_into = laid_out.is_some();
        let LaidOut { mut data, pipes } = laid_out.unwrap_or_default();
        let path = SnapshotPath::parse(DUMP.as_bytes());
        let ended = pipes::serve(running, pipes, &path, stored, &mut data).map_err(|error| match list {
            Some(_) => {
                let hint = match is_damage(&error) {
                    true => "no table was changed; `check --read-data` shows what is damaged",
                    false => "no table was changed",
                };
                failed_to_read(error).with_hint(hint)
            }
            None => self.incomplete(error),
        })?;
        self.judge(&ended.map_err(failed)?, list.is_some())?;
        Ok(is_looked_into.then_some(data))
    }

    /// What pg_restore says of its end.
    fn judge(&self, ended: &Ended, is_part: bool) -> Result<(), TargetError> {
        for line in ended.said.lines() {
            if let Some((_, warning)) = line.split_once("pg_restore: warning: ") {
                self.warn(warning.trim().to_owned());
            }
        }
        if ended.status.success() {
            return Ok(());
        }
        let told: Vec<&str> =
            ended.said.lines().filter_map(|line| Some(line.split_once("error: ")?.1.trim())).take(TOLD_MAX).collect();
        let what = if told.is_empty() { complaint(ended) } else { told.join("; ") };
        // One that was killed has had no time to say why.
        let was_killed = told.is_empty() && ended.status.signal().is_some();
        let hint = match (is_part, self.options.existing) {
            (true, _) if was_killed => "nothing was changed; the system's log says whether memory was short",
            (false, _) if was_killed => {
                "the database is not complete; the system's log says whether memory was short: a smaller --jobs takes less"
            }
            (true, Existing::Refused) => {
                "nothing was changed; an object that is there already is replaced with --clean"
            }
            (true, Existing::Replaced) => {
                "nothing was changed; drop what depends on it first, and make that again after"
            }
            (false, _) => "the database is not complete; --no-roles loads it without its owners and grants",
        };
        let what = format!("{what}, into the database {}", escape_identifier(&self.loaded));
        Err(TargetError::new("load", SnapshotPath::parse(DUMP.as_bytes()), what).with_hint(hint))
    }
}

/// Lets everybody read a folder who can enter the one that it is in.
fn show(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            show(&entry.path())?;
        } else if kind.is_file() || kind.is_fifo() {
            fs::set_permissions(entry.path(), Permissions::from_mode(0o644))?;
        }
    }
    Ok(())
}
