//! What is called how in the store (restic's design document, *Repository Layout*; ours below `ext/`).

use crate::contracts::ObjectKey;
use crate::model::{ConfigurationId, Id, IndexId, KeyId, LockId, PackId, RecordId, SnapshotId};

/// The folders that restic knows, and our own.
pub const DATA: &str = "data";
/// See [`DATA`].
pub const INDEX: &str = "index";
/// See [`DATA`].
pub const KEYS: &str = "keys";
/// See [`DATA`].
pub const LOCKS: &str = "locks";
/// See [`DATA`].
pub const SNAPSHOTS: &str = "snapshots";
/// Our records of what was proven; no other program looks there.
pub const RECORDS: &str = "ext/records";
/// Our records of drills, chained and signed.
pub const EVIDENCE: &str = "ext/evidence";
/// Ours: who runs a job's slot, `JOB/SLOT`.
pub const LEASES: &str = "ext/leases";
/// Ours: the configurations of those who backed up here, without secrets.
pub const CONFIGURATIONS: &str = "ext/configurations";

/// The repository's parameters.
pub fn config() -> ObjectKey {
    ObjectKey::new("config")
}

/// A thing that has a place in the store by its id.
pub trait Named: Copy + From<Id> {
    /// The folder that holds all of its kind.
    const FOLDER: &'static str;
    /// What people call it.
    const WORD: &'static str;

    /// Its id.
    fn id(self) -> Id;

    /// Its key.
    fn key(self) -> ObjectKey {
        ObjectKey::new(format!("{}/{}", Self::FOLDER, self.id()))
    }

    /// The thing whose key this is, if it is one: the last component must be an id.
    fn from_key(key: &ObjectKey) -> Option<Self> {
        key.name().parse::<Id>().ok().map(Self::from)
    }
}

macro_rules! named {
    ($($name:ident, $folder:expr, $word:literal;)*) => {$(
        impl Named for $name {
            const FOLDER: &'static str = $folder;
            const WORD: &'static str = $word;

            fn id(self) -> Id {
                Self::id(&self)
            }
        }
    )*};
}

named! {
    IndexId, INDEX, "index";
    KeyId, KEYS, "key";
    LockId, LOCKS, "lock";
    SnapshotId, SNAPSHOTS, "snapshot";
    RecordId, RECORDS, "record";
    ConfigurationId, CONFIGURATIONS, "configuration";
}

impl Named for PackId {
    const FOLDER: &'static str = DATA;
    const WORD: &'static str = "pack";

    fn id(self) -> Id {
        Self::id(&self)
    }

    fn key(self) -> ObjectKey {
        ObjectKey::new(format!("{DATA}/{:.2}/{self}", self.id()))
    }
}
