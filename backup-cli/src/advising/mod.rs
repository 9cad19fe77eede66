//! What `backup advise` is made of: what is found on this machine, the questions, and what is written.
//!
//! What is always true: nothing is decided here, that is [`backup_core::advice`]. Looking has the least effect that tells
//! something: names, sizes and what the kernel lists are read, of files the first sixteen bytes of what may be SQLite; no
//! server is spoken to, no password is tried, and none is written. A run that is killed leaves files that are whole.

pub(crate) mod answers;
pub(crate) mod configuration;
pub(crate) mod folders;
pub(crate) mod found;
pub(crate) mod machine;
pub(crate) mod notified;
pub(crate) mod output;
pub(crate) mod prices;
#[cfg(test)]
mod properties;
pub(crate) mod questions;
pub(crate) mod scripts;
pub(crate) mod told;
