//! The REST sink against restic's own server, straight and through a proxy that spoils what passes.
//!
//! The server is named by `BACKUP_TEST_REST_SERVER`; `scripts/tools` installs it. A missing one fails the tests.

#![cfg(feature = "rest")]
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test fails by panicking"))]

#[cfg(test)]
mod contract;
#[cfg(test)]
#[cfg(test)]
mod server;
