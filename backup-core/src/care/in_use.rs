//! Which objects a repository consists of, for those who protect them: the store's owner, who prolongs their retention.
//!
//! All that is there but locks, and packs that no index lists or that a prune has marked: nothing that is kept needs
//! those. A pack that nothing needs any more and that no prune has marked yet counts as needed.

use crate::Result;
use crate::contracts::ObjectKey;
use crate::observe::Observer;
use crate::repository::Repository;
use crate::repository::layout::{self, INDEX, KEYS, Named as _, SNAPSHOTS};

/// The names of the objects, each once.
///
/// # Errors
///
/// What the store says, and damage to an index.
pub fn objects_in_use(repository: &Repository, observer: &dyn Observer) -> Result<Vec<ObjectKey>> {
    let store = repository.store();
    let mut keys = vec![layout::config()];
    for folder in [KEYS, SNAPSHOTS, INDEX] {
        keys.extend(store.list(folder)?.into_iter().map(|info| info.key));
    }
    // After the snapshots, so that what the newest of them needs is listed.
    let index = repository.load_index(observer)?;
    keys.extend(index.packs().iter().filter(|pack| pack.marked.is_none()).map(|pack| pack.id.key()));
    Ok(keys)
}
