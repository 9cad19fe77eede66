//! Snapshots: listed, found by what people type, written, removed.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::layout::Named;
use super::{LockMode, Repository};
use crate::bridge::Store;
use crate::model::{Snapshot, SnapshotId};
use crate::observe::{Event, Observer};
use crate::{Error, ErrorKind, Result};

/// Which snapshots are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotQuery {
    /// Only those of this machine.
    pub host: Option<String>,
    /// Only those that have all of these tags.
    pub tags: Vec<String>,
    /// Only those that cover this path.
    pub path: Option<String>,
    /// Only those taken at this instant or before.
    pub at: Option<Timestamp>,
}

impl SnapshotQuery {
    /// Whether `snapshot` is among those meant.
    pub fn matches(&self, snapshot: &Snapshot) -> bool {
        self.host.as_ref().is_none_or(|host| *host == snapshot.hostname)
            && self.tags.iter().all(|tag| snapshot.tags.contains(tag))
            && self.path.as_ref().is_none_or(|path| snapshot.paths.contains(path))
            && self.at.is_none_or(|at| snapshot.time <= at)
    }
}

impl Repository {
    /// All snapshots, oldest first. One that cannot be read is an error.
    pub fn snapshots(&self) -> Result<Vec<(SnapshotId, Snapshot)>> {
        self.readable_snapshots(|_, error| Err(error))
    }

    /// All snapshots that can be read, oldest first; `damaged` decides about the others.
    pub fn readable_snapshots(
        &self,
        mut damaged: impl FnMut(SnapshotId, Error) -> Result<()>,
    ) -> Result<Vec<(SnapshotId, Snapshot)>> {
        let listed = self.list::<SnapshotId>()?;
        let mut snapshots = Vec::with_capacity(listed.len());
        for (id, opened) in self.open_each(&listed) {
            match opened {
                Ok(snapshot) => snapshots.push((id, snapshot)),
                // Forgotten between listing and reading.
                Err(error) if *error.kind() == ErrorKind::Missing => {}
                Err(error) => damaged(id, error)?,
            }
        }
        snapshots.sort_by_key(|(id, snapshot): &(SnapshotId, Snapshot)| (snapshot.time, *id));
        Ok(snapshots)
    }

    /// The snapshot that `text` names among those that `query` means: the beginning of an id, or `latest`.
    ///
    /// `latest` among snapshots of several groups (job, or host and paths) is ambiguous, and the error lists them.
    pub fn find_snapshot(&self, text: &str, query: &SnapshotQuery) -> Result<(SnapshotId, Snapshot)> {
        if text != "latest" {
            return self.find_by_prefix(text);
        }
        let mut snapshots = self.snapshots()?;
        snapshots.retain(|(_, snapshot)| query.matches(snapshot));
        let groups: BTreeSet<String> = snapshots.iter().map(|(_, snapshot)| group_name(snapshot)).collect();
        if groups.len() > 1 && query.host.is_none() && query.tags.is_empty() && query.path.is_none() {
            let listed = groups.into_iter().collect::<Vec<_>>().join("; ");
            return Err(Error::invalid(
                "latest",
                format!("the repository holds several groups of snapshots: {listed}"),
            )
            .with_hint("say which with --job, --source, --host or --tag, or give an id"));
        }
        snapshots.pop().ok_or_else(|| {
            Error::new(ErrorKind::NotFound("no snapshot matches".to_owned()), "latest")
                .with_hint("`snapshots` lists those that there are")
        })
    }

    fn find_by_prefix(&self, text: &str) -> Result<(SnapshotId, Snapshot)> {
        let is_prefix =
            !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_prefix {
            return Err(Error::invalid(text, "neither `latest` nor the beginning of a snapshot's id"));
        }
        let mut ids = self.list::<SnapshotId>()?;
        ids.retain(|(id, _)| id.to_string().starts_with(text));
        match ids.as_slice() {
            [(id, _)] => Ok((*id, self.load(*id)?)),
            [] => Err(Error::new(ErrorKind::NotFound("no snapshot has an id that begins so".to_owned()), text)
                .with_hint("`snapshots` lists those that there are")),
            several => {
                let listed = several.iter().map(|(id, _)| format!("{id:.16}")).collect::<Vec<_>>().join(", ");
                Err(Error::invalid(text, format!("several snapshots have an id that begins so: {listed}")))
            }
        }
    }

    /// Writes a snapshot and waits until it is durable. All that it needs must be.
    pub fn save_snapshot(&self, snapshot: &Snapshot) -> Result<SnapshotId> {
        let id = self.save(snapshot)?;
        self.store().sync()?;
        Ok(id)
    }

    /// Removes snapshots, under an exclusive lock. Their data stays until a prune.
    pub fn remove_snapshots(&self, ids: &[SnapshotId], observer: &dyn Observer) -> Result<()> {
        let lock = self.lock(LockMode::Exclusive, observer)?;
        lock.confirm(observer)?;
        let store: &Store = self.store();
        store.delete_each(ids.iter().map(|id| id.key()))?;
        store.sync()
    }

    /// Replaces snapshots by changed versions (other tags), under an exclusive lock: the new one is durable before the
    /// old one goes. Returns the new ids in the same order.
    pub fn rewrite_snapshots(
        &self,
        changed: &[(SnapshotId, Snapshot)],
        observer: &dyn Observer,
    ) -> Result<Vec<SnapshotId>> {
        let lock = self.lock(LockMode::Exclusive, observer)?;
        lock.confirm(observer)?;
        let mut ids = Vec::with_capacity(changed.len());
        for (old, snapshot) in changed {
            let snapshot = Snapshot { original: snapshot.original.or(Some(*old)), ..snapshot.clone() };
            let new = self.save_snapshot(&snapshot)?;
            if new != *old {
                self.store().delete(&old.key()).map_err(|error| {
                    error.with_hint(format!(
                        "changed it is there as {new:.8}, and as it was as well: `forget {old:.8}` with credentials that may delete"
                    ))
                })?;
            }
            observer.event(Event::Notice(&format!("snapshot {old:.8} is now {new:.8}")));
            ids.push(new);
        }
        self.store().sync()?;
        Ok(ids)
    }
}

/// What people call the group that a snapshot belongs to.
fn group_name(snapshot: &Snapshot) -> String {
    match snapshot.tags.iter().find_map(|tag| tag.strip_prefix("job:")) {
        Some(job) => format!("job {job}"),
        None => {
            let mut paths = snapshot.paths.clone();
            paths.sort();
            format!("{} of {}", paths.join(" "), snapshot.hostname)
        }
    }
}
