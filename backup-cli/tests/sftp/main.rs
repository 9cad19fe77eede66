//! A repository on a machine that is reached by SSH, from beginning to end; restic reads what lies there.
//!
//! `BACKUP_TEST_SSHD` and `BACKUP_TEST_RESTIC` name the programs; `scripts/tools` installs them. A missing one fails its
//! tests.

#![cfg(feature = "sftp")]

#[cfg(test)]
#[expect(dead_code, reason = "the other tests need more of the driver")]
#[path = "../program/driver.rs"]
mod driver;
#[cfg(test)]
mod life;
#[cfg(test)]
#[expect(dead_code, reason = "the tests of the store need more of it")]
#[path = "../../../backup-store/tests/sftp/server.rs"]
mod server;
#[cfg(test)]
#[path = "../program/silent.rs"]
mod silent;
