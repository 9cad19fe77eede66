//! The files source and the files target on a real file system.
//!
//! What only root may do (devices, owners) is tested when root runs the tests; a test that needs it is ignored
//! otherwise and says so.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without has failed it")]

mod driver;
mod hostile;
mod properties;
mod restore;
mod walk;
