//! Drills of files: what passes, what fails for which reason, and what has not run.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without has failed it")]

mod full_disk;
mod meddler;
mod outcomes;
mod recorded;
#[path = "../small_disk/mod.rs"]
mod small_disk;
mod trial;
