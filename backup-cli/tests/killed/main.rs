//! Killed at any moment, a command leaves a repository that the next one uses as if nothing had happened.
//!
//! The moments are drawn at random over the time that the command takes. `BACKUP_TEST_SEED` repeats a run's draws.

#[cfg(test)]
mod copies;
#[cfg(test)]
#[expect(dead_code, reason = "the other tests need more of the driver")]
#[path = "../program/driver.rs"]
mod driver;
#[cfg(test)]
mod moments;
#[cfg(test)]
#[path = "../tree/mod.rs"]
mod tree;
