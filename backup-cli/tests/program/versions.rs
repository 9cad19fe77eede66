//! Repositories of other versions of the format.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use backup_core::clock::SystemClock;
use backup_core::observe::Silent;
use backup_core::repository::{Identity, Passphrase, Repository};

use crate::driver::{PASSPHRASE, World};
use crate::wrong_use::assert_two_lines;

/// Seals another config into a repository, as a program of another version would have.
fn change_version(world: &World, version: u64) {
    let sink = backup_store::Place::Folder(world.repository()).open(&backup_store::Access::default()).unwrap();
    let identity = Identity { hostname: String::new(), username: String::new(), uid: 0, gid: 0, pid: 1 };
    let passphrase = Passphrase::new(PASSPHRASE);
    let repository = Repository::open(sink, &passphrase, identity, Arc::new(SystemClock), &Silent).unwrap();
    let mut config = repository.config().clone();
    config.version = version;
    let sealed = repository.master_key().seal(&serde_json::to_vec(&config).unwrap()).unwrap();
    let path = world.repository().join("config");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, sealed).unwrap();
}

#[test]
fn a_future_version_is_refused_by_its_number() {
    let world = World::with_repository();
    change_version(&world, 3);
    let ran = world.run(["snapshots"]).ends_with(1);
    assert_two_lines(&ran);
    assert!(ran.err.contains("version 3") && ran.err.contains("newer version of this program"), "{}", ran.err);
}

#[test]
fn an_old_version_is_written_and_can_be_migrated() {
    let world = World::with_repository();
    change_version(&world, 1);
    world.create([]);
    assert!(world.run(["migrate"]).succeeds().out.contains("from version 1 to 2"));
    assert!(world.run(["migrate"]).succeeds().out.contains("already at version 2"));
    world.create(["--force"]);
    world.run(["check", "--read-data"]).succeeds();
    world.run(["restore", "latest", "--to", "out", "--verify"]).succeeds();
}
