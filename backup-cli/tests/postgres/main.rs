//! PostgreSQL's real servers: what is backed up comes back, and what fails leaves no snapshot.
//!
//! The servers are named by `BACKUP_TEST_POSTGRES_15`, `_16` and `_18`, paths of the program `postgres` among its
//! fellows; `scripts/tools` installs them. Each test starts its own, on a socket in its own folder.

#[cfg(test)]
mod advised;
#[cfg(test)]
mod comes_back;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod drilled;
#[cfg(test)]
#[path = "../program/driver.rs"]
#[expect(dead_code, reason = "other tests need the rest")]
mod driver;
#[cfg(test)]
mod fails;
#[cfg(test)]
mod parallel;
#[cfg(test)]
mod part;
#[cfg(test)]
mod piped;
#[cfg(test)]
mod pooled;
#[cfg(test)]
mod protected;
#[cfg(test)]
mod server;
#[cfg(test)]
mod target;
#[cfg(test)]
mod unusual;
