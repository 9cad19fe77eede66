//! Records of evidence in the store: below `ext/evidence/`, sealed like everything else, under names that tell their
//! place in their chain.

use super::Repository;
use super::layout::EVIDENCE;
use super::unpacked;
use crate::ErrorKind;
use crate::Result;
use crate::contracts::{ObjectKey, PutMode, SinkErrorKind};

impl Repository {
    /// What is below `ext/evidence/`, as paths below it.
    pub(crate) fn list_evidence(&self) -> Result<Vec<String>> {
        let listed = self.store().list(EVIDENCE)?;
        let below = |key: &ObjectKey| Some(key.as_str().strip_prefix(EVIDENCE)?.strip_prefix('/')?.to_owned());
        Ok(listed.iter().filter_map(|info| below(&info.key)).collect())
    }

    /// Stores a record under its path. One that is there already is the same, and stays.
    pub(crate) fn put_evidence(&self, path: &str, record: &impl serde::Serialize) -> Result<()> {
        let sealed = unpacked::seal_unpacked(self.master_key(), self.inner.form, record)?;
        match self.store().put(&key(path), sealed, PutMode::Create) {
            Err(error) if *error.kind() == ErrorKind::Sink(SinkErrorKind::AlreadyExists) => Ok(()),
            stored => stored,
        }
    }

    /// Reads the record at a path.
    pub(crate) fn get_evidence<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        let key = key(path);
        unpacked::open_unpacked(self.master_key(), &key, &self.store().get(&key, None)?)
    }
}

fn key(path: &str) -> ObjectKey {
    ObjectKey::new(format!("{EVIDENCE}/{path}"))
}
