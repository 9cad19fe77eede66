//! A repository: keys, parameters, indexes, snapshots, locks; everything that has a name in the store.
//!
//! What is always true of a repository that this crate writes, also after a crash at any moment:
//!
//! * A snapshot's trees and data are in packs that an index lists: packs are durable before the index that lists them
//!   is written, and indexes before the snapshot that needs them.
//! * Nothing that a snapshot needs is deleted: snapshots go first, then the index is written anew and is durable, then
//!   the old one goes, then packs.
//! * An object's name is the SHA-256 of its content; every reader checks it.

mod config;
mod configurations;
mod each;
mod evidence;
mod index;
mod index_file;
mod key_files;
mod keys;
pub mod layout;
mod leases;
mod lock;
mod passphrase;
mod records;
mod snapshots;
mod unpacked;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

pub use config::{Config, VERSIONS};
pub use configurations::KeptConfiguration;
pub use index::{BlobLocation, Index, IndexBuilder, PackInfo};
pub use index_file::{IndexBlob, IndexFile, IndexPack};
pub use keys::{KeyFile, ScryptCost};
pub use leases::{Claim, Lease};
pub use lock::{Lock, LockFile, LockMode, Unlock};
pub use passphrase::Passphrase;
pub use records::{ObjectLock, Record, RecordBody};
pub use snapshots::SnapshotQuery;
pub use unpacked::Form;

use crate::bridge::{Foresight, Store};
use crate::clock::Clock;
use crate::codec::{BlobCodec, Compression, MasterKey, Proof};
use crate::contracts::{Codec, PutMode, Sink, SinkErrorKind};
use crate::limits::{KEYS_TRIED_MAX, SMALL_OBJECT_BYTES_MAX};
use crate::model::{BlobId, BlobKind, Id, IndexId, KeyId, LockId};
use crate::observe::{Amount, Event, Observer, Phase};
use crate::{Error, ErrorKind, Result};
use layout::Named;

/// Who acts: written into keys, locks and snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The machine's name. May be set where a container's changes at every start.
    pub hostname: String,
    /// The user's name.
    pub username: String,
    /// The user's number.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
    /// This process.
    pub pid: i32,
}

/// What helps where there are keys and no config: an `init` that was cut off, half of a pair, or a loss.
const KEYS_WITHOUT_CONFIG: &str = "there are keys and no config: repeat an `init` that was cut off; if this is the hot \
    half of a pair, name both halves; else bring back `config` from a copy";

/// An open repository. Clones share everything.
#[derive(Clone)]
pub struct Repository {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    master: Arc<MasterKey>,
    key_id: KeyId,
    config: Config,
    form: Form,
    /// Opens blobs; what it would seal is nobody's business.
    reader: BlobCodec,
    identity: Identity,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repository({})", self.store.location())
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// What a new repository gets.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// Another repository that it takes after.
    pub like: Like,
    /// How much work scrypt makes of the passphrase; [`ScryptCost::for_passphrase`] when not given.
    pub cost: Option<ScryptCost>,
}

/// How far a new repository takes after another.
#[derive(Clone, Debug, Default)]
pub enum Like {
    /// Not at all: it draws a polynomial and a key of its own.
    #[default]
    Nothing,
    /// Files are cut where that one cuts them, so that what is copied from it and what is backed up to both is stored
    /// once.
    Cuts(Repository),
    /// The same, and everything is sealed with that one's master key, so that a copy need not seal anew. Whoever opens
    /// one of the two can then read the other's objects too, and a passphrase that was taken away from one still opens
    /// both as long as it opens the other (`docs/decisions/copy.md`).
    CutsAndKey(Repository),
}

/// What is looked at first in a repository that is being opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstLook {
    /// Whose locks there are, by a lock that is taken. The listing is then older than the lock, by as long as the key took:
    /// who held an exclusive one in between, and has gone again, is not seen. So it is only for a verb that looks at the
    /// indexes again before it relies on them, as a backup does.
    Locks,
    /// The snapshots, before any lock is taken.
    Snapshots,
    /// The records, before any lock is taken.
    Records,
}

impl Repository {
    /// Creates a repository in an empty place.
    ///
    /// The key is durable before the config is written, and a place without config is no repository: an interrupted
    /// creation is simply repeated.
    pub fn create(
        sink: Arc<dyn Sink>,
        passphrase: &Passphrase,
        options: &CreateOptions,
        identity: Identity,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let store = Store::new(sink)?;
        let config_key = layout::config();
        match store.stat(&config_key) {
            Ok(_) => return Err(Error::new(ErrorKind::AlreadyThere, store.location())),
            Err(error) if *error.kind() == ErrorKind::Missing => {}
            Err(error) => return Err(error),
        }
        passphrase.fit_for_a_key()?;
        for folder in [layout::SNAPSHOTS, layout::INDEX, layout::DATA] {
            if !store.list(folder)?.is_empty() {
                let hint = "a repository that lost its config? restore the config from a copy; nothing was changed";
                return Err(
                    Error::new(ErrorKind::AlreadyThere, format!("{}/{folder}", store.location())).with_hint(hint)
                );
            }
        }
        let (config, master) = match &options.like {
            Like::Nothing => (Config::create(None)?, None),
            Like::Cuts(other) => (Config::create(Some(other.config()))?, None),
            Like::CutsAndKey(other) => (Config::create(Some(other.config()))?, Some(Arc::clone(other.master_key()))),
        };
        let master = master.map_or_else(|| MasterKey::generate().map(Arc::new), Ok).map_err(random_failed)?;
        // Without a config a key belongs to nothing: they are of creations that were cut off.
        let orphans = store.list(layout::KEYS)?;
        let cost = options.cost.map_or_else(|| ScryptCost::for_passphrase(passphrase), Ok)?;
        let key = KeyFile::create(&master, passphrase, cost, &identity, clock.now())?;
        let key_id = save_key(&store, &key)?;
        let sealed = unpacked::seal_unpacked(&master, Form::Plain, &config)?;
        match store.sync().and_then(|()| store.put(&config_key, sealed, PutMode::Create)) {
            Err(error) if *error.kind() == ErrorKind::Sink(SinkErrorKind::AlreadyExists) => {
                // Somebody else was faster: the key belongs to nothing.
                store.delete(&key_id.key())?;
                return Err(Error::new(ErrorKind::AlreadyThere, store.location()));
            }
            Err(error) => {
                // Whoever cannot tell whether the config is there after all leaves the key, which the next creation or
                // `open` passes over.
                if store.stat(&config_key).is_err_and(|absent| *absent.kind() == ErrorKind::Missing) {
                    let _ = store.delete(&key_id.key());
                }
                return Err(error);
            }
            Ok(()) => {}
        }
        store.sync()?;
        for orphan in orphans.iter().filter(|orphan| orphan.key != key_id.key()) {
            // For other programs, which try one key only. Where nothing can be deleted ours goes on to the next.
            let _ = store.delete(&orphan.key);
        }
        Ok(Self::assemble(store, master, key_id, config, identity, clock))
    }

    /// Opens a repository with a passphrase.
    pub fn open(
        sink: Arc<dyn Sink>,
        passphrase: &Passphrase,
        identity: Identity,
        clock: Arc<dyn Clock>,
        observer: &dyn Observer,
    ) -> Result<Self> {
        Self::open_to(&[], sink, passphrase, identity, clock, observer)
    }

    /// The same for who says what comes first: it is asked for while the passphrase is turned into a key, which takes
    /// longer than most stores need to answer.
    ///
    /// # Errors
    ///
    /// As [`Repository::open`]. What the store says to the first looks is heard by who then looks.
    pub fn open_to(
        looks: &[FirstLook],
        sink: Arc<dyn Sink>,
        passphrase: &Passphrase,
        identity: Identity,
        clock: Arc<dyn Clock>,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let store = Store::new(sink)?;
        let config_key = layout::config();
        let (config, keys) = (store.start_get(&config_key, None), store.start_list(layout::KEYS));
        for look in looks {
            match look {
                FirstLook::Locks => store.foresee(layout::LOCKS, Foresight::Names),
                FirstLook::Snapshots => store.foresee(layout::SNAPSHOTS, Foresight::Contents),
                FirstLook::Records => store.foresee(layout::RECORDS, Foresight::Contents),
            }
        }
        let sealed_config = match config.wait() {
            Err(error) if *error.kind() == ErrorKind::Missing => {
                let error = error.into_no_repository(store.location());
                let has_keys = keys.wait().is_ok_and(|keys| !keys.is_empty());
                return Err(if has_keys { error.with_hint(KEYS_WITHOUT_CONFIG) } else { error });
            }
            result => result?,
        };
        let keys: Vec<_> =
            keys.wait()?.iter().filter_map(|info| Some((KeyId::from_key(&info.key)?, info.bytes))).collect();
        let (master, key_id, config) = open_key(&store, &keys, passphrase, &sealed_config, observer)?;
        Ok(Self::assemble(store, Arc::new(master), key_id, config, identity, clock))
    }

    /// Opens the same repository again, through `sink` and acting as `identity`, with the key that is known: deriving it
    /// from a passphrase takes half a second by intent, and once is enough for one process.
    ///
    /// # Errors
    ///
    /// As [`Repository::open`]; also when another repository, or one with another key, lies there by now.
    pub fn reopen(&self, sink: Arc<dyn Sink>, identity: Identity, clock: Arc<dyn Clock>) -> Result<Self> {
        let store = Store::new(sink)?;
        let sealed = match store.get(&layout::config(), None) {
            Err(error) if *error.kind() == ErrorKind::Missing => return Err(error.into_no_repository(store.location())),
            result => result?,
        };
        let config = open_config(&self.inner.master, &sealed)?;
        if config.id != self.inner.config.id {
            return Err(Error::damaged(layout::config(), "it is another repository's"));
        }
        Ok(Self::assemble(store, Arc::clone(&self.inner.master), self.inner.key_id, config, identity, clock))
    }

    fn assemble(
        store: Store,
        master: Arc<MasterKey>,
        key_id: KeyId,
        config: Config,
        identity: Identity,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let form = if config.version == 1 { Form::Plain } else { Form::Compressed };
        let reader = BlobCodec::new(Arc::clone(&master), Compression::Never, Proof::Off);
        Self { inner: Arc::new(Inner { store, master, key_id, config, form, reader, identity, clock }) }
    }

    /// The store it lies in.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Its parameters.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The key that everything is sealed with.
    pub fn master_key(&self) -> &Arc<MasterKey> {
        &self.inner.master
    }

    /// The key file that the passphrase opened.
    pub fn key_id(&self) -> KeyId {
        self.inner.key_id
    }

    /// Who acts on it.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// What tells it the time.
    pub fn clock(&self) -> &dyn Clock {
        &*self.inner.clock
    }

    /// A codec for new blobs of a kind, at the zstd level given.
    pub fn codec(&self, kind: BlobKind, level: i32, proof: Proof) -> BlobCodec {
        let compression = match (self.inner.form, kind) {
            (Form::Plain, _) => Compression::Never,
            (Form::Compressed, BlobKind::Data) => Compression::WhenItPays(level),
            (Form::Compressed, BlobKind::Tree) => Compression::Always(level),
        };
        BlobCodec::new(Arc::clone(&self.inner.master), compression, proof)
    }

    /// Takes a lock.
    pub fn lock(&self, mode: LockMode, observer: &dyn Observer) -> Result<Lock> {
        Lock::acquire(self, mode, observer).map_err(|error| match error.kind() {
            ErrorKind::Sink(SinkErrorKind::ReadOnly | SinkErrorKind::PermissionDenied) if mode == LockMode::Shared => {
                error.with_hint("--no-lock leaves no lock: for reading, and for backups that may add and not delete")
            }
            _ => error,
        })
    }

    /// All locks there are; those that cannot be read as errors.
    pub fn locks(&self) -> Result<Vec<(LockId, Result<LockFile>)>> {
        lock::list(self)
    }

    /// Removes locks; returns how many were removed and how many were left.
    pub fn unlock(&self, which: Unlock) -> Result<(usize, usize)> {
        lock::unlock(self, which)
    }

    /// Reads all indexes. An index that is damaged is an error: with a part of the index a backup would only store
    /// twice, but everything else would be wrong.
    pub fn load_index(&self, observer: &dyn Observer) -> Result<Index> {
        let mut builder = IndexBuilder::default();
        self.for_each_index(observer, |id, file| {
            builder.add(id, &file?);
            Ok(())
        })?;
        Ok(builder.finish())
    }

    /// Reads all index objects and hands them over one by one, damaged ones as errors. Those that vanish between
    /// listing and reading were replaced by a prune; their successors are listed then.
    pub fn for_each_index(
        &self,
        observer: &dyn Observer,
        mut each: impl FnMut(IndexId, Result<IndexFile>) -> Result<()>,
    ) -> Result<()> {
        let mut seen = std::collections::HashSet::new();
        loop {
            let mut listed = unpacked::list::<IndexId>(&self.inner.store)?;
            listed.retain(|(id, _)| seen.insert(*id));
            let total = Amount { items: listed.len() as u64, bytes: listed.iter().map(|(_, bytes)| bytes).sum() };
            observer.event(Event::Phase { phase: Phase::LoadIndex, total: Some(total) });
            let mut vanished = false;
            self.inner.store.get_each(listed.iter().map(|(id, _)| id.key()), |key, stored| {
                let Some(id) = IndexId::from_key(&key) else { return Ok(()) };
                let file = match stored {
                    Err(error) if *error.kind() == ErrorKind::Missing => {
                        vanished = true;
                        return Ok(());
                    }
                    stored => stored.and_then(|stored| unpacked::open_named(&self.inner.master, id, &stored)),
                };
                observer.event(Event::Progress(Amount { items: 1, bytes: 0 }));
                each(id, file)
            })?;
            if !vanished {
                return Ok(());
            }
        }
    }

    /// Stores an index object. The packs that it lists must be durable.
    pub fn save_index(&self, file: &IndexFile) -> Result<IndexId> {
        unpacked::save(&self.inner.store, &self.inner.master, self.inner.form, file)
    }

    /// Stores any object of ours or the format's under its own hash.
    pub(crate) fn save<N: Named>(&self, value: &impl serde::Serialize) -> Result<N> {
        unpacked::save(&self.inner.store, &self.inner.master, self.inner.form, value)
    }

    /// Loads an object by its name.
    pub(crate) fn load<N: Named, T: serde::de::DeserializeOwned>(&self, id: N) -> Result<T> {
        unpacked::load(&self.inner.store, &self.inner.master, id)
    }

    /// Opens a stored object after checking that it is what its name says.
    pub(crate) fn open_object<N: Named, T: serde::de::DeserializeOwned>(&self, id: N, stored: &[u8]) -> Result<T> {
        unpacked::open_named(&self.inner.master, id, stored)
    }

    /// Reads and opens objects that were listed, by all cores and in their order.
    pub(crate) fn open_each<N, T>(&self, listed: &[(N, u64)]) -> Vec<(N, Result<T>)>
    where
        N: Named + Send + Sync,
        T: serde::de::DeserializeOwned + Send,
    {
        each::open_each(&self.inner.store, &self.inner.master, listed)
    }

    /// The ids of all objects of a kind, with their stored sizes.
    pub(crate) fn list<N: Named>(&self) -> Result<Vec<(N, u64)>> {
        unpacked::list(&self.inner.store)
    }

    /// Reads one blob, from whichever of its packs it can be read.
    pub fn read_blob(&self, index: &Index, kind: BlobKind, id: &BlobId) -> Result<Vec<u8>> {
        let mut failure = None;
        for location in index.find_all(kind, id) {
            let start = u64::from(location.blob.offset);
            let range = start..start + u64::from(location.blob.length);
            let read = self.inner.store.get(&location.pack.key(), Some(range));
            let opened = read.and_then(|sealed| {
                let mut plain = Vec::new();
                self.open_blob(&location, &sealed, &mut plain)?;
                Ok(plain)
            });
            match opened {
                Ok(plain) => return Ok(plain),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| Error::new(ErrorKind::Missing, format!("{kind} blob {id}"))))
    }

    /// Opens the sealed bytes of a blob and checks that they are what its name says.
    pub fn open_blob(&self, location: &BlobLocation, sealed: &[u8], plain: &mut Vec<u8>) -> Result<()> {
        let damaged = |what: String| Error::damaged(location.pack.key(), what);
        let BlobLocation { blob, .. } = location;
        self.inner
            .reader
            .open(sealed, blob.plain_bytes, plain)
            .map_err(|error| damaged(format!("{} blob {}: {error}", blob.kind, blob.id)))?;
        if BlobId::of(plain) != blob.id {
            return Err(damaged(format!("{} blob {}: its content does not match its name", blob.kind, blob.id)));
        }
        Ok(())
    }
}

/// Stores a key file under its hash. Keys are plain JSON: what they hold is sealed inside.
fn save_key(store: &Store, key: &KeyFile) -> Result<KeyId> {
    let json = serde_json::to_vec(key)
        .map_err(|error| Error::new(ErrorKind::Broken("a key could not be encoded"), "key").caused_by(error))?;
    let id = KeyId::of(&json);
    store.put(&id.key(), Bytes::from(json), PutMode::Overwrite)?;
    Ok(id)
}

/// Tries the passphrase on one key file after the other, until one is of this config: a creation that was cut off may
/// have left a key of its own.
fn open_key(
    store: &Store,
    keys: &[(KeyId, u64)],
    passphrase: &Passphrase,
    sealed_config: &[u8],
    observer: &dyn Observer,
) -> Result<(MasterKey, KeyId, Config)> {
    let (mut failure, mut not_opened) = (None, None);
    for (id, bytes) in keys.iter().take(KEYS_TRIED_MAX) {
        match load_key(store, *id, *bytes).and_then(|key| key.open(passphrase)) {
            Ok(Some(master)) => match open_config(&master, sealed_config) {
                Ok(config) => return Ok((master, *id, config)),
                Err(error) => not_opened = not_opened.or(Some(error)),
            },
            Ok(None) => {}
            Err(error) => {
                observer.event(Event::Notice(&format!("key {id:.8} was passed over: {error}")));
                failure = Some(error);
            }
        }
    }
    if let Some(error) = not_opened {
        return Err(error);
    }
    let error = Error::new(ErrorKind::WrongPassphrase, store.location());
    Err(match failure {
        _ if keys.is_empty() => Error::new(ErrorKind::Missing, format!("every key of {}", store.location())).with_hint(
            "bring back the folder `keys` from a copy: nothing can be read without; if this is the cold half of a \
                 pair, name both halves",
        ),
        Some(failure) => error.caused_by(failure),
        None if keys.len() > KEYS_TRIED_MAX => {
            error.caused_by(format!("only the first {KEYS_TRIED_MAX} keys were tried"))
        }
        None if passphrase.is_mistyped() => error.with_hint(
            "it looks like one that `key generate` drew, and its check characters say that it was mistyped: compare it, \
             group by group; nothing was changed",
        ),
        None => error,
    })
}

/// Reads a key file that was listed with this size, and checks that it is what its name says.
fn load_key(store: &Store, id: KeyId, bytes: u64) -> Result<KeyFile> {
    let key = id.key();
    if bytes > SMALL_OBJECT_BYTES_MAX {
        return Err(Error::new(ErrorKind::Limit("the size of a key"), key.as_str()));
    }
    // As a range, so that no more comes than was listed.
    let stored = store.get(&key, Some(0..bytes))?;
    if Id::of(&stored) != id.id() {
        return Err(Error::damaged(&key, "its content does not match its name"));
    }
    serde_json::from_slice(&stored).map_err(|error| Error::damaged(&key, "not a key file").caused_by(error))
}

fn open_config(master: &MasterKey, sealed: &[u8]) -> Result<Config> {
    let key = layout::config();
    if sealed.len() as u64 > SMALL_OBJECT_BYTES_MAX {
        return Err(Error::new(ErrorKind::Limit("the size of a config"), key.as_str()));
    }
    let config: Config = unpacked::open_unpacked(master, &key, sealed)?;
    config.validate(&key)?;
    Ok(config)
}

fn random_failed(error: crate::contracts::CodecError) -> Error {
    Error::new(ErrorKind::Broken("no random numbers from the system"), "key").caused_by(error)
}
