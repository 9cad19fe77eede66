//! What we write, restic and rustic verify and restore; what they write, we do; and nobody is in anybody's way.
//!
//! The judges are named by `BACKUP_TEST_RESTIC` (0.18), `BACKUP_TEST_RESTIC_DEBIAN` (0.14, what Debian 12 ships) and
//! `BACKUP_TEST_RUSTIC`; `scripts/tools` installs them. A missing one fails its tests.

#[cfg(test)]
mod copies;
#[cfg(test)]
#[path = "../program/driver.rs"]
mod driver;
#[cfg(test)]
mod judge;
#[cfg(test)]
mod locks;
#[cfg(test)]
mod ours;
#[cfg(test)]
mod rich;
#[cfg(test)]
mod same_trees;
#[cfg(test)]
mod theirs;
#[cfg(test)]
#[path = "../tree/mod.rs"]
mod tree;
