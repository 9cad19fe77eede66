//! Where secrets come from: files, commands, the environment, the terminal; and what guessing one costs.

pub(crate) mod origin;
pub(crate) mod password;

use backup_core::repository::ScryptCost;

/// The work of a new key: calibrated on this machine, but in a debug build the least there is. Such a build runs in
/// tests, whose thousands of commands would otherwise spend three quarters of their time on guessing made hard
/// (`docs/decisions/keys.md`).
pub(crate) const KEY_COST: Option<ScryptCost> = if cfg!(debug_assertions) { Some(ScryptCost::LEAST) } else { None };
