//! A repository in a backup: how it is entered, and the snapshot that it ends with.
//!
//! The order is what makes a crash harmless: packs are durable before the index that lists them, the indexes before the
//! snapshot. Just before the snapshot is written the index is looked at again: a prune on another machine may have
//! marked packs that the snapshot relies on, and they are then listed anew.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::backup::{BackupOptions, BackupOutcome, Parent};
use super::blob_store::BlobStore;
use super::commit::{is_present, list_anew_what_was_marked, list_packs, record_presence};
use super::parent::newest_parent;
use super::reader::Shared;
use crate::contracts::{self, Report, SourceInfo};
use crate::model::{BlobId, Snapshot, SnapshotId, Summary};
use crate::observe::Observer;
use crate::repository::{Index, Lock, LockMode, Repository};
use crate::{Error, ErrorKind, Result};

/// A repository that a backup has begun to work in.
pub(super) struct Entered<'a> {
    pub(super) repository: &'a Repository,
    pub(super) lock: Lock,
    /// Which of its snapshots this one is compared with.
    pub(super) parent: Option<(SnapshotId, Snapshot)>,
    pub(super) index: Index,
}

impl<'a> Entered<'a> {
    /// Takes the lock and reads what is known there.
    pub(super) fn enter(
        repository: &'a Repository,
        lock: LockMode,
        options: &BackupOptions,
        info: &SourceInfo,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let lock = match options.dry_run {
            true => repository.lock(LockMode::None, observer)?,
            false => repository.lock(lock, observer)?,
        };
        // Snapshots before indexes: whatever a listed snapshot needs was indexed before it was written.
        let parent = match &options.parent {
            Parent::None => None,
            Parent::Given(id) => match repository.find_snapshot(&id.to_string(), &Default::default()) {
                // It may be another repository's.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound(_)) => None,
                found => Some((*id, found?.1)),
            },
            Parent::Newest => newest_parent(repository, &options.tags, &info.paths, observer)?,
        };
        let index = repository.load_index(observer)?;
        Ok(Self { repository, lock, parent, index })
    }
}

/// The snapshot that a backup ends with.
pub(super) struct NewSnapshot<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) options: &'a BackupOptions,
    pub(super) info: &'a SourceInfo,
    pub(super) started: Timestamp,
    pub(super) tree_before: Option<BlobId>,
    /// Its id in the first repository that has it.
    pub(super) first: Option<SnapshotId>,
}

impl NewSnapshot<'_> {
    /// Writes it into a repository that has everything that it needs.
    pub(super) fn commit(
        &mut self,
        one: &Entered<'_>,
        blobs: &BlobStore<'_>,
        report: &Report,
        observer: &dyn Observer,
    ) -> Result<BackupOutcome> {
        let Self { shared, options, info, started, tree_before, first } = self;
        let Entered { repository, lock, parent, index } = one;
        let root = *shared.root.lock().unwrap_or_else(PoisonError::into_inner);
        let tree = root.ok_or_else(|| Error::new(ErrorKind::Broken("a folder was never finished"), "backup"))?;
        let mut summary = Summary { backup_start: *started, ..Summary::default() };
        shared.tally.write_into(&mut summary);
        blobs.counts.write_into(&mut summary);
        summary.backup_end = repository.clock().now();
        // What was compared with has another id here, if it is here at all.
        let parent = parent.as_ref().filter(|(_, snapshot)| Some(snapshot.tree) == *tree_before).map(|(id, _)| *id);
        let losses = shared.tally.losses.load(Ordering::Relaxed);
        let (reached, report) = (contracts::Proof::Uploaded, report.clone());
        let mut outcome = BackupOutcome { snapshot: None, parent, summary: summary.clone(), losses, reached, report };
        if options.dry_run {
            return Ok(outcome);
        }
        let identity = repository.identity();
        let snapshot = Snapshot {
            time: options.time.unwrap_or(*started),
            parent,
            tree,
            paths: info.paths.clone(),
            hostname: identity.hostname.clone(),
            username: identity.username.clone(),
            uid: identity.uid,
            gid: identity.gid,
            excludes: info.excludes.clone(),
            tags: options.tags.clone(),
            original: *first,
            program_version: concat!("backup ", env!("CARGO_PKG_VERSION")).to_owned(),
            summary: Some(summary),
            other: serde_json::Map::new(),
        };
        lock.confirm(observer)?;
        list_anew_what_was_marked(repository, index, blobs, lock, observer)?;
        let packs = list_packs(repository);
        let id = repository.save_snapshot(&snapshot)?;
        first.get_or_insert(id);
        outcome.snapshot = Some(id);
        let is_present = is_present(packs, index, blobs, observer)?;
        // What is still written is evidence, which nothing relies on: the lock goes meanwhile.
        lock.leave();
        outcome.reached = record_presence(repository, is_present, vec![id], observer);
        lock.tell_if_it_stays(observer);
        Ok(outcome)
    }
}
