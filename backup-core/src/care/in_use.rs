//! Which objects a repository consists of, for those who protect them: the store's owner, who prolongs their retention.
//!
//! All that is there but locks, and packs that no index lists or that a prune has marked: nothing that is kept needs
//! those. A pack that nothing needs any more and that no prune has marked yet counts as needed.

use crate::Result;
use crate::contracts::ObjectKey;
use crate::observe::Observer;
use crate::repository::Repository;
use crate::repository::layout::{self, INDEX, KEYS, Named as _, SNAPSHOTS};

/// An object that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInUse {
    /// Its name.
    pub key: ObjectKey,
    /// The size that it must have, where an index tells: what the store tells may be that of something else by now.
    pub bytes: Option<u64>,
}

/// The objects, each once.
///
/// # Errors
///
/// What the store says, and damage to an index.
pub fn objects_in_use(repository: &Repository, observer: &dyn Observer) -> Result<Vec<ObjectInUse>> {
    let store = repository.store();
    let unsized_object = |key| ObjectInUse { key, bytes: None };
    let mut objects = vec![unsized_object(layout::config())];
    for folder in [KEYS, SNAPSHOTS, INDEX] {
        objects.extend(store.list(folder)?.into_iter().map(|info| unsized_object(info.key)));
    }
    // After the snapshots, so that what the newest of them needs is listed.
    let index = repository.load_index(observer)?;
    let packs = index.packs().iter().filter(|pack| pack.marked.is_none());
    objects.extend(packs.map(|pack| ObjectInUse { key: pack.id.key(), bytes: Some(pack.bytes) }));
    Ok(objects)
}
