//! What the fuzz targets share: a bound on memory, and a repository into which sealed bytes of any kind are put.
//!
//! Whoever can write to a store but has no key can damage objects, which the seal notices. Whoever has a key (a
//! machine that was broken into, a faulty program) can seal anything. The targets stand behind the seal, at the
//! decoders, and ask of every input the same: no panic, no endless work, no more memory than [`bounded`] allows.

use std::alloc::System;
use std::panic;
use std::sync::{Arc, LazyLock, Once};

use backup_core::clock::SystemClock;
use backup_core::codec::MasterKey;
use backup_core::contracts::ObjectKey;
use backup_core::model::Id;
use backup_core::repository::{CreateOptions, Identity, Passphrase, Repository, ScryptCost};
use backup_core::testing::MemorySink;
use cap::Cap;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// Runs `work` with at most `bytes` more of memory than there is in use. More ends the process, which the fuzzer
/// reports with the input.
pub fn bounded<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    static LIFTED_BY_PANICS: Once = Once::new();
    LIFTED_BY_PANICS.call_once(|| {
        // Telling of a panic takes memory too.
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let _ = MEMORY.set_limit(usize::MAX);
            tell(info);
        }));
    });
    // There may be less in use than the last bound supposed; never fails upwards.
    let _ = MEMORY.set_limit(MEMORY.allocated().saturating_add(bytes));
    let result = work();
    let _ = MEMORY.set_limit(usize::MAX);
    result
}

/// What a decoder of JSON may take: parsed values are larger than their text, by no more than this.
pub fn of_json(text: &[u8]) -> usize {
    4 * MIB + 64 * text.len()
}

/// 2²⁰ bytes.
pub const MIB: usize = 1024 * 1024;

/// A repository in memory with everything that opens and seals it.
pub struct Sealed {
    /// The open repository.
    pub repository: Repository,
    /// Where its objects are.
    pub sink: Arc<MemorySink>,
}

/// One repository for all inputs of a run.
pub static SEALED: LazyLock<Sealed> = LazyLock::new(|| {
    let sink = Arc::new(MemorySink::new());
    let cost = Some(ScryptCost { n: 2, r: 1, p: 1 });
    // A lock names a process; the first one of a machine always lives.
    let identity = Identity { hostname: "host".into(), username: "user".into(), uid: 0, gid: 0, pid: 1 };
    let repository = Repository::create(
        Arc::clone(&sink) as _,
        &Passphrase::new("fuzz"),
        &CreateOptions { cost, ..CreateOptions::default() },
        identity,
        Arc::new(SystemClock),
    )
    .expect("a repository in memory can be made");
    Sealed { repository, sink }
});

impl Sealed {
    /// The key that everything is sealed with.
    pub fn key(&self) -> &MasterKey {
        self.repository.master_key()
    }

    /// Seals `plain`, puts it under its own hash into `folder`, runs `work`, and takes it away again.
    pub fn with_object<T>(&self, folder: &str, plain: &[u8], work: impl FnOnce(&Repository) -> T) -> T {
        let sealed = self.key().seal(plain).expect("the system gives random numbers");
        let key = ObjectKey::new(format!("{folder}/{}", Id::of(&sealed)));
        self.with_sealed(key, sealed, work)
    }

    /// The same under a name that says what it is; what `work` puts beside it is taken away as well.
    pub fn with_object_at<T>(&self, key: ObjectKey, plain: &[u8], work: impl FnOnce(&Repository) -> T) -> T {
        let sealed = self.key().seal(plain).expect("the system gives random numbers");
        let folder = key.as_str().rsplit_once('/').map_or_else(String::new, |(folder, _)| format!("{folder}/"));
        let result = self.with_sealed(key, sealed, work);
        let beside: Vec<ObjectKey> = self.sink.objects().into_keys().filter(|key| key.as_str().starts_with(&folder)).collect();
        beside.iter().for_each(|key| drop(self.sink.remove(key)));
        result
    }

    fn with_sealed<T>(&self, key: ObjectKey, sealed: Vec<u8>, work: impl FnOnce(&Repository) -> T) -> T {
        self.sink.replace(key.clone(), sealed);
        let result = work(&self.repository);
        self.sink.remove(&key);
        result
    }
}
