//!
//! Every source is a [`backup_core::contracts::Source`] and imports nothing of this project but `backup-core`.

#![forbid(unsafe_code)]

pub mod command;
pub mod databases;
pub mod files;
mod program;
pub mod sandbox;
