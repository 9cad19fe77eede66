//! Whatever happens while keys change, some passphrase opens the repository.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use backup_core::clock::SystemClock;
use backup_core::contracts::Sink;
use backup_core::observe::Silent;
use backup_core::repository::{CreateOptions, Identity, Passphrase, Repository, ScryptCost};
use backup_core::testing::{FaultySink, MemorySink};
use backup_core::{ErrorKind, Result};

const CHEAP: ScryptCost = ScryptCost { n: 2, r: 1, p: 1 };

fn identity() -> Identity {
    let pid = i32::try_from(std::process::id()).unwrap();
    Identity { hostname: "host".into(), username: "user".into(), uid: 1, gid: 1, pid }
}

fn created() -> Arc<MemorySink> {
    let sink = Arc::new(MemorySink::new());
    let options = CreateOptions { cost: Some(CHEAP), ..CreateOptions::default() };
    let passphrase = Passphrase::new("old");
    Repository::create(Arc::clone(&sink) as _, &passphrase, &options, identity(), Arc::new(SystemClock)).unwrap();
    sink
}

fn open(sink: Arc<dyn Sink>, passphrase: &str) -> Result<Repository> {
    Repository::open(sink, &Passphrase::new(passphrase), identity(), Arc::new(SystemClock), &Silent)
}

#[test]
fn a_changed_passphrase_opens_and_the_old_one_does_not() {
    let sink = created();
    let repository = open(Arc::clone(&sink) as _, "old").unwrap();
    let id = repository.change_passphrase(&Passphrase::new("new"), Some(CHEAP), &Silent).unwrap();
    assert_eq!(open(Arc::clone(&sink) as _, "new").unwrap().key_id(), id);
    assert_eq!(*open(sink, "old").unwrap_err().kind(), ErrorKind::WrongPassphrase);
}

#[test]
fn a_repository_is_opened_again_without_its_passphrase_and_another_one_is_not() {
    let sink = created();
    let repository = open(Arc::clone(&sink) as _, "old").unwrap();
    let other = Identity { hostname: "other".into(), ..identity() };
    let again = repository.reopen(Arc::clone(&sink) as _, other, Arc::new(SystemClock)).unwrap();
    assert_eq!(again.key_id(), repository.key_id());
    assert_eq!(again.identity().hostname, "other");
    assert!(again.readable_snapshots(|_, error| Err(error)).unwrap().is_empty());
    let stranger = repository.reopen(created(), identity(), Arc::new(SystemClock)).unwrap_err();
    assert!(matches!(stranger.kind(), ErrorKind::Damaged(_)), "{stranger:?}");
    let gone = repository.reopen(Arc::new(MemorySink::new()), identity(), Arc::new(SystemClock)).unwrap_err();
    assert_eq!(*gone.kind(), ErrorKind::NoRepository);
}

#[test]
fn a_change_that_ends_anywhere_leaves_a_passphrase_that_opens() {
    for calls in 0.. {
        let sink = created();
        // Opening takes calls as well; the store goes away somewhere in the change that follows.
        let faulty = Arc::new(FaultySink::new(Arc::clone(&sink) as _).dark_after(calls));
        let changed = open(Arc::clone(&faulty) as _, "old")
            .and_then(|repository| repository.change_passphrase(&Passphrase::new("new"), Some(CHEAP), &Silent));
        let (old, new) = (open(Arc::clone(&sink) as _, "old"), open(Arc::clone(&sink) as _, "new"));
        assert!(old.is_ok() || new.is_ok(), "after {calls} calls nothing opens");
        if changed.is_ok() {
            assert!(new.is_ok() && old.is_err());
            return;
        }
    }
}

#[test]
fn the_key_in_use_is_never_removed_and_so_one_always_stays() {
    let sink = created();
    let repository = open(Arc::clone(&sink) as _, "old").unwrap();
    let refused = repository.remove_key(repository.key_id(), &Silent).unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Invalid(_)));
    let second = repository.add_key(&Passphrase::new("second"), Some(CHEAP), &Silent).unwrap();
    let other = open(Arc::clone(&sink) as _, "second").unwrap();
    repository.remove_key(second, &Silent).unwrap();
    // The other one's own key is gone: what it sees as another's is the last.
    assert!(other.remove_key(repository.key_id(), &Silent).is_err());
    assert_eq!(repository.keys().unwrap().len(), 1);
    assert!(repository.add_key(&Passphrase::new(""), Some(CHEAP), &Silent).is_err());
}
