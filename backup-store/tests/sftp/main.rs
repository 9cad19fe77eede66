//! The SFTP sink against OpenSSH's server, started for each test as whoever runs it.
//!
//! The server is named by `BACKUP_TEST_SSHD`; `scripts/tools` installs it. A missing one fails the tests.

#![cfg(feature = "sftp")]

#[cfg(test)]
mod faults;
#[cfg(test)]
mod line;
#[cfg(test)]
mod promises;
#[cfg(test)]
mod server;
