//! From version 1 of the format to version 2: what is written from then on is compressed.
//!
//! Only the config changes, in one write that is whole or not at all, under the exclusive lock: a program that opened
//! the repository before has a lock or is turned away, so that nobody goes on writing what the other version expects.
//! What is stored stays as it is; version 2 reads it. After a crash the repository is of the one version or of the
//! other.

use bytes::Bytes;

use crate::contracts::PutMode;
use crate::observe::Observer;
use crate::repository::{Config, LockMode, Repository, VERSIONS, layout};
use crate::{Error, ErrorKind, Result};

/// What migrating a repository would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// The version it has.
    pub from: u64,
    /// The version it will have.
    pub to: u64,
}

impl Migration {
    /// Whether there is anything to do.
    pub fn is_needed(&self) -> bool {
        self.from < self.to
    }
}

/// What migrating to the newest version takes.
pub fn plan(repository: &Repository) -> Migration {
    Migration { from: repository.config().version, to: *VERSIONS.end() }
}

/// Migrates. `repository` goes on working as the version that it was opened with; open it again to write the new one.
pub fn apply(repository: &Repository, migration: Migration, observer: &dyn Observer) -> Result<()> {
    if !migration.is_needed() {
        return Ok(());
    }
    let lock = repository.lock(LockMode::Exclusive, observer)?;
    lock.confirm(observer)?;
    let (store, master, key) = (repository.store(), repository.master_key(), layout::config());
    let broken = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(ErrorKind::Broken("the new config could not be made"), key.as_str()).caused_by(error)
    };
    // The store's word and not what was read when the repository was opened: somebody may have migrated meanwhile.
    let mut plain = Vec::new();
    let stored = store.get(&key, None)?;
    master.open(&stored, &mut plain).map_err(|error| Error::damaged(&key, error.to_string()))?;
    let mut config: Config = serde_json::from_slice(&plain)
        .map_err(|error| Error::damaged(&key, "not what it should be").caused_by(error))?;
    config.validate(&key)?;
    if config.version >= migration.to {
        return Ok(());
    }
    config.version = migration.to;
    let json = serde_json::to_vec(&config).map_err(|error| broken(error.into()))?;
    let sealed = master.seal(&json).map_err(|error| broken(error.into()))?;
    master.open(&sealed, &mut plain).map_err(|error| broken(error.into()))?;
    if plain != json {
        return Err(Error::new(ErrorKind::Broken("the new config does not open again"), key.as_str()));
    }
    lock.check()?;
    store.put(&key, Bytes::from(sealed), PutMode::Overwrite)?;
    store.sync()
}
