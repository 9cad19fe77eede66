//! The REST sink against restic's own server, straight and through a proxy that spoils what passes.
//!
//! The server is named by `BACKUP_TEST_REST_SERVER`; `scripts/tools` installs it. A missing one fails the tests.

#![cfg(feature = "rest")]

#[cfg(test)]
mod contract;
#[cfg(test)]
mod faults;
#[cfg(test)]
#[expect(dead_code, reason = "the tests of other crates need more of it")]
mod proxy;
#[cfg(test)]
mod server;
#[cfg(test)]
mod work;
