//! What a check looks at one by one: config, keys, locks, snapshots, index objects, and the listing of packs.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::findings::{Finding, Severity};
use crate::contracts::{ObjectKey, SinkErrorKind};
use crate::limits::SEAL_OVERHEAD_BYTES;
use crate::model::{BlobKind, Id, IndexId, KeyId, LockId, PackId, RecordId, Snapshot, SnapshotId};
use crate::observe::Observer;
use crate::pack::PackedBlob;
use crate::repository::layout::{self, Named};
use crate::repository::{Config, Index, IndexBuilder, IndexFile, KeyFile, Record, Repository};
use crate::{Error, ErrorKind, Result};

/// Why an object is damaged, as a text that follows its name. What says nothing of the object itself (the store cannot
/// be reached, a stop was asked for) is passed on: what could not be checked is no finding.
pub(super) fn reason(error: Error) -> Result<String> {
    let mut text = match error.kind() {
        ErrorKind::Damaged(what) => what.clone(),
        ErrorKind::Missing => "is missing".to_owned(),
        ErrorKind::Limit(what) => format!("is over the limit on {what}"),
        ErrorKind::Sink(SinkErrorKind::Truncated) => "is shorter than it must be".to_owned(),
        _ => return Err(error),
    };
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Ok(text)
}

fn damage(object: ObjectKey, what: impl Into<String>) -> Finding {
    Finding::new(Severity::Damage, object, what)
}

/// The config is still what it was when the repository was opened.
pub(super) fn config(repository: &Repository, findings: &mut Vec<Finding>) -> Result<()> {
    let key = layout::config();
    let opened = repository.store().get(&key, None).and_then(|stored| {
        let mut plain = Vec::new();
        let damaged = |what: String| Error::damaged(&key, what);
        repository.master_key().open(&stored, &mut plain).map_err(|error| damaged(error.to_string()))?;
        serde_json::from_slice::<Config>(&plain).map_err(|error| damaged(error.to_string()))
    });
    match opened {
        Ok(config) if config == *repository.config() => {}
        Ok(_) => findings.push(damage(key, "was changed while it was checked")),
        Err(error) => findings.push(damage(key, reason(error)?)),
    }
    Ok(())
}

/// Every key file is what its name says, and the one in use is there.
pub(super) fn keys(repository: &Repository, findings: &mut Vec<Finding>) -> Result<()> {
    let listed = repository.list::<KeyId>()?;
    if !listed.iter().any(|(id, _)| *id == repository.key_id()) {
        findings.push(damage(repository.key_id().key(), "is missing, and is the key that opened the repository"));
    }
    repository.store().get_each(listed.iter().map(|(id, _)| id.key()), |key, stored| {
        let what = match stored {
            Err(error) if *error.kind() == ErrorKind::Missing => return Ok(()),
            Err(error) => reason(error)?,
            Ok(stored) if KeyId::from_key(&key).is_none_or(|id| id.id() != Id::of(&stored)) => {
                "its content does not match its name".to_owned()
            }
            Ok(stored) => match serde_json::from_slice::<KeyFile>(&stored) {
                Ok(_) => return Ok(()),
                Err(error) => format!("not a key file: {error}"),
            },
        };
        findings.push(damage(key, what));
        Ok(())
    })
}

/// Every lock can be read: restic refuses to work beside one that it cannot read.
pub(super) fn locks(repository: &Repository, findings: &mut Vec<Finding>) -> Result<()> {
    let sizes: HashMap<LockId, u64> = repository.list::<LockId>()?.into_iter().collect();
    for (id, read) in repository.locks()? {
        match read {
            Ok(_) => {}
            // Nobody takes an empty lock for one, restic neither.
            Err(_) if sizes.get(&id) == Some(&0) => {
                findings.push(Finding::new(Severity::Note, id.key(), "is empty and locks nothing"));
            }
            Err(error) if *error.kind() == ErrorKind::Missing => {}
            Err(error) => findings.push(damage(id.key(), reason(error)?)),
        }
    }
    Ok(())
}

/// The records that can be read. One that cannot proves nothing any more, and nothing else is lost with it.
pub(super) fn records(repository: &Repository, findings: &mut Vec<Finding>) -> Result<Vec<(RecordId, Record)>> {
    repository.readable_records(|id, error| match error.kind() {
        // It was removed since it was listed.
        ErrorKind::Missing => {}
        _ => {
            let what = format!("what it recorded of proofs and runs counts no more: {error}");
            findings.push(Finding::new(Severity::Note, id.key(), what));
        }
    })
}

/// The snapshots that can be read.
pub(super) fn snapshots(repository: &Repository, findings: &mut Vec<Finding>) -> Result<Vec<(SnapshotId, Snapshot)>> {
    repository.readable_snapshots(|id, error| {
        findings.push(damage(id.key(), reason(error)?));
        Ok(())
    })
}

/// The index, made of what can be read of it.
pub(super) fn index(repository: &Repository, findings: &mut Vec<Finding>, observer: &dyn Observer) -> Result<Index> {
    let mut builder = IndexBuilder::default();
    let mut entries = Entries::default();
    repository.for_each_index(observer, |id, read| {
        match read {
            Ok(file) => {
                entries.look_at(id, &file, findings);
                builder.add(id, &file);
            }
            Err(error) => findings.push(damage(id.key(), reason(error)?)),
        }
        Ok(())
    })?;
    if entries.repeated > 0 {
        let what = format!("{} packs are listed more than once, each time alike", entries.repeated);
        findings.push(Finding::new(Severity::Note, ObjectKey::new(layout::INDEX), what));
    }
    Ok(builder.finish())
}

/// Which packs were listed so far, and how.
#[derive(Default)]
struct Entries {
    seen: HashMap<PackId, u64>,
    repeated: usize,
}

impl Entries {
    fn look_at(&mut self, id: IndexId, file: &IndexFile, findings: &mut Vec<Finding>) {
        for pack in file.packs.iter().chain(&file.packs_to_delete) {
            let mut blobs: Vec<_> = pack.packed_blobs().collect();
            blobs.sort_unstable_by_key(|blob| blob.offset);
            if let Err(what) = follow_each_other(&blobs) {
                findings.push(damage(id.key(), format!("pack {}: {what}", pack.id)));
            }
            if blobs.iter().any(|blob| blob.kind != blobs[0].kind) {
                let what = "holds data and trees, which a prune separates";
                findings.push(Finding::new(Severity::Note, pack.id.key(), what));
            }
            // A mark of a pack that no index knew says nothing of its blobs.
            if blobs.is_empty() && pack.size.is_some() {
                continue;
            }
            let print = fingerprint(&blobs);
            match self.seen.insert(pack.id, print) {
                None => {}
                Some(other) if other == print => self.repeated += 1,
                Some(_) => {
                    let what = format!("pack {}: another index lists other blobs for it", pack.id);
                    findings.push(damage(id.key(), what));
                }
            }
        }
    }
}

/// Whether blobs, sorted by offset, lie one after the other from the pack's beginning.
pub(super) fn follow_each_other(blobs: &[PackedBlob]) -> std::result::Result<(), &'static str> {
    let mut expected = 0_u32;
    for blob in blobs {
        if blob.offset != expected {
            return Err("its blobs do not follow each other");
        }
        if (blob.length as usize) < SEAL_OVERHEAD_BYTES {
            return Err("a blob is shorter than its seal");
        }
        expected = expected.checked_add(blob.length).ok_or("its blobs do not fit into a pack")?;
    }
    Ok(())
}

/// A number that two entries of one pack share when they list the same blobs, sorted by offset.
pub(super) fn fingerprint(blobs: &[PackedBlob]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for blob in blobs {
        let is_tree = blob.kind == BlobKind::Tree;
        (blob.id, is_tree, blob.offset, blob.length, blob.plain_bytes).hash(&mut hasher);
    }
    hasher.finish()
}

/// What the listing says of a pack that an index lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// There, with the right size.
    Whole,
    /// There, with another size.
    OtherSize(u64),
    /// Not there.
    Missing,
}

/// The presence of each pack of the index, in its order, and what is stored beside them.
pub(super) struct Presences {
    pub(super) of_packs: Vec<Presence>,
    pub(super) unlisted: Vec<(PackId, u64)>,
}

/// Compares the index with what the store lists.
pub(super) fn presences(repository: &Repository, index: &Index) -> Result<Presences> {
    let mut listed: HashMap<PackId, u64> = repository.list::<PackId>()?.into_iter().collect();
    let presence = |(id, expected): (PackId, u64)| match listed.remove(&id) {
        Some(bytes) if bytes == expected => Presence::Whole,
        Some(bytes) => Presence::OtherSize(bytes),
        None => Presence::Missing,
    };
    let of_packs = index.packs().iter().map(|info| (info.id, info.bytes)).map(presence).collect();
    let mut unlisted: Vec<_> = listed.into_iter().collect();
    unlisted.sort_unstable();
    Ok(Presences { of_packs, unlisted })
}
