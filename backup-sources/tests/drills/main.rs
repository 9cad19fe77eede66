//! Drills of files: what passes, what fails for which reason, and what has not run.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without has failed it")]

mod meddler;
mod outcomes;
mod recorded;
mod trial;
