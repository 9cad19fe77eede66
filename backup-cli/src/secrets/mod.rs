//! Where secrets come from: files, commands, the environment, the terminal; and what guessing one costs.

pub(crate) mod origin;
pub(crate) mod password;

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use backup_core::repository::{Passphrase, ScryptCost};

/// The work of a new key: the core's choice, but in a debug build the least there is. Such a build runs in tests, whose
/// thousands of commands would otherwise spend three quarters of their time on guessing made hard
/// (`docs/decisions/keys.md`).
pub(crate) fn key_cost(passphrase: &Passphrase) -> Option<ScryptCost> {
    (cfg!(debug_assertions) && !passphrase.is_drawn()).then_some(ScryptCost::LEAST)
}

/// Writes a secret into a file that is not there yet, readable by its owner alone; its folder too, where it is missing.
/// When this returns, the file is durable.
pub(crate) fn write_new(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
