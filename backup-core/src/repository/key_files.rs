//! Which passphrases open a repository: key files listed, added, removed.
//!
//! Always true, also after a crash at any moment: some key file opens the repository. A key is durable before the one
//! that it replaces goes, and the one in use is never removed but by its replacement.
//!
//! Taking a key away closes the repository to its passphrase, not the data to whoever kept a copy of the key file: the
//! master key stays the same.

use super::layout::Named;
use super::{KeyFile, LockMode, Passphrase, Repository, ScryptCost, load_key, save_key, unpacked};
use crate::contracts::SinkErrorKind;
use crate::model::KeyId;
use crate::observe::Observer;
use crate::{Error, ErrorKind, Result};

impl Repository {
    /// All key files; those that cannot be read as errors.
    pub fn keys(&self) -> Result<Vec<(KeyId, Result<KeyFile>)>> {
        let ids = unpacked::list::<KeyId>(self.store())?;
        Ok(ids.into_iter().map(|(id, bytes)| (id, load_key(self.store(), id, bytes))).collect())
    }

    /// Lets a further passphrase open the repository. `cost` is [`ScryptCost::for_passphrase`] when not given.
    pub fn add_key(&self, passphrase: &Passphrase, cost: Option<ScryptCost>, observer: &dyn Observer) -> Result<KeyId> {
        let lock = self.lock(LockMode::Shared, observer).map_err(|error| match error.kind() {
            ErrorKind::Sink(SinkErrorKind::ReadOnly | SinkErrorKind::PermissionDenied) => {
                error.with_hint("a key is added with credentials that may write below locks/ and keys/")
            }
            _ => error,
        })?;
        lock.confirm(observer)?;
        self.write_key(passphrase, cost)
    }

    /// Removes a key. The one that opened this repository is refused, so that one always stays.
    pub fn remove_key(&self, id: KeyId, observer: &dyn Observer) -> Result<()> {
        if id == self.key_id() {
            return Err(Error::invalid(format!("key {id:.8}"), "it is the one in use")
                .with_hint("open the repository with another passphrase, or change this one with `key passwd`"));
        }
        let lock = self.lock(LockMode::Exclusive, observer)?;
        lock.confirm(observer)?;
        // Somebody else may have removed ours since we came in, and then this one may be the last.
        self.load_key(self.key_id())?;
        self.store().delete(&id.key())?;
        self.store().sync()
    }

    /// Replaces the key in use by one for another passphrase, and returns it.
    ///
    /// After a crash in between both passphrases open the repository.
    pub fn change_passphrase(
        &self,
        passphrase: &Passphrase,
        cost: Option<ScryptCost>,
        observer: &dyn Observer,
    ) -> Result<KeyId> {
        let lock = self.lock(LockMode::Exclusive, observer)?;
        lock.confirm(observer)?;
        let new = self.write_key(passphrase, cost)?;
        let old = self.key_id();
        self.store().delete(&old.key()).map_err(|error| {
            error.with_hint(format!(
                "the new passphrase opens the repository already, and so does the old one: `key remove {old:.8}` with \
                 credentials that may delete"
            ))
        })?;
        self.store().sync()?;
        Ok(new)
    }

    fn load_key(&self, id: KeyId) -> Result<KeyFile> {
        load_key(self.store(), id, self.store().stat(&id.key())?.bytes)
    }

    /// Stores a key file, proves that it opens, and waits until it is durable.
    fn write_key(&self, passphrase: &Passphrase, cost: Option<ScryptCost>) -> Result<KeyId> {
        passphrase.fit_for_a_key()?;
        let cost = cost.map_or_else(|| ScryptCost::for_passphrase(passphrase), Ok)?;
        let key = KeyFile::create(self.master_key(), passphrase, cost, self.identity(), self.clock().now())?;
        let id = save_key(self.store(), &key)?;
        self.store().sync()?;
        let opened = self.load_key(id)?.open(passphrase)?;
        if opened.is_none_or(|master| master != **self.master_key()) {
            self.store().delete(&id.key())?;
            return Err(Error::new(ErrorKind::Broken("a new key does not open"), id.key().as_str()));
        }
        Ok(id)
    }
}
