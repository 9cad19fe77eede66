//! Which snapshots are to be copied, what of their data the other repository lacks, and in which batches.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use super::affected::{Lost, attribute};
use super::bitmap::Bitmap;
use super::check_objects::reason;
use super::copy::{CopyFate, CopyPlan, PlannedCopy};
use super::findings::{Finding, Severity};
use super::used::{Absent, Used};
use crate::cancel::Cancel;
use crate::contracts::ObjectKey;
use crate::limits::COPY_SNAPSHOTS_AT_ONCE_MAX;
use crate::model::{BlobId, BlobKind, Snapshot, SnapshotId};
use crate::observe::{Event, Observer, Phase};
use crate::repository::layout::{self, Named};
use crate::repository::{Index, Repository};
use crate::{Error, ErrorKind, Result};

/// The kinds of blobs, in the order in which a batch holds what it wants of them.
pub(super) const KINDS: [BlobKind; 2] = [BlobKind::Data, BlobKind::Tree];

/// Snapshots that become visible in the other repository together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The snapshots.
    pub(super) snapshots: Vec<(SnapshotId, Snapshot)>,
    /// The blobs that they need and that neither the other repository nor an earlier batch has: positions in the index
    /// that is read from, data and trees.
    pub(super) wanted: [Vec<u32>; 2],
    /// The bytes that these take.
    pub(super) bytes: u64,
}

/// A snapshot that was asked for, as far as it can be read.
pub(super) type Asked = (SnapshotId, std::result::Result<Snapshot, String>);

/// Reads the snapshots that were asked for.
pub(super) fn load(from: &Repository, ids: &[SnapshotId], observer: &dyn Observer) -> Result<Vec<Asked>> {
    let unique: BTreeSet<SnapshotId> = ids.iter().copied().collect();
    let mut asked: Vec<Asked> = Vec::with_capacity(unique.len());
    from.store().get_each(unique.iter().map(|id| id.key()), |key, stored| {
        let Some(id) = SnapshotId::from_key(&key) else { return Ok(()) };
        match stored.and_then(|stored| from.open_object(id, &stored)) {
            Err(error) if *error.kind() == ErrorKind::Missing => {
                observer.event(Event::Notice(&format!("snapshot {id:.8} was removed meanwhile and is not copied")));
            }
            Err(error) => asked.push((id, Err(reason(error)?))),
            Ok(snapshot) => asked.push((id, Ok(snapshot))),
        }
        Ok(())
    })?;
    asked.sort_by_key(|(id, read)| (read.is_err(), read.as_ref().ok().map(|snapshot| snapshot.time), *id));
    Ok(asked)
}

/// Decides what is to become of the snapshots that were asked for, when the other repository has the snapshots `there`.
/// Returns with that those that are to be copied, oldest first.
pub(super) fn choose(there: &[(SnapshotId, Snapshot)], asked: Vec<Asked>) -> (CopyPlan, Vec<(SnapshotId, Snapshot)>) {
    let copies = Copies::of(there);
    let mut plan = CopyPlan::default();
    let mut to_copy = Vec::new();
    for (id, read) in asked {
        let time = read.as_ref().ok().map(|snapshot| snapshot.time);
        let fate = match read {
            Err(why) => CopyFate::Impossible(why),
            Ok(snapshot) => match copies.find(id, &snapshot) {
                Some(copy) => CopyFate::There(copy),
                None => {
                    to_copy.push((id, snapshot));
                    CopyFate::ToCopy
                }
            },
        };
        plan.snapshots.push(PlannedCopy { id, time, fate });
    }
    (plan, to_copy)
}

/// Finds what of the snapshots `to_copy` the other repository lacks. Notes in `plan` those of which something is lost.
pub(super) fn find(
    from: &Repository,
    [from_index, to_index]: [&Index; 2],
    plan: &mut CopyPlan,
    mut to_copy: Vec<(SnapshotId, Snapshot)>,
    batch_bytes: u64,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<(Used, Vec<Batch>)> {
    observer.event(Event::Phase { phase: Phase::FindUsed, total: None });
    let (used, batches) = loop {
        let (used, batches, absent) = batches(from, [from_index, to_index], &to_copy, batch_bytes, cancel, observer)?;
        let lost = lost_in(absent);
        if lost.is_empty() {
            break (used, batches);
        }
        // What a snapshot lacks is nobody else's loss: the others are planned again without it.
        let affected = affected(from, from_index, &to_copy, &lost, cancel)?;
        to_copy.retain(|(id, _)| !affected.contains_key(id));
        plan.give_up(&affected);
    };
    plan.blobs = batches.iter().map(|batch| batch.wanted.iter().map(Vec::len).sum::<usize>() as u64).sum();
    plan.bytes = batches.iter().map(|batch| batch.bytes).sum();
    Ok((used, batches))
}

impl CopyPlan {
    /// Notes that snapshots cannot be copied, and why.
    fn give_up(&mut self, why: &HashMap<SnapshotId, String>) {
        for planned in &mut self.snapshots {
            if let Some(why) = why.get(&planned.id) {
                planned.fate = CopyFate::Impossible(why.clone());
            }
        }
    }
}

/// The snapshots of the repository that is copied to, by where they come from.
pub(super) struct Copies<'a>(HashMap<SnapshotId, Vec<&'a (SnapshotId, Snapshot)>>);

impl<'a> Copies<'a> {
    pub(super) fn of(snapshots: &'a [(SnapshotId, Snapshot)]) -> Self {
        let mut by_origin: HashMap<SnapshotId, Vec<_>> = HashMap::new();
        for entry in snapshots {
            let (id, snapshot) = entry;
            by_origin.entry(*id).or_default().push(entry);
            if let Some(original) = snapshot.original.filter(|original| original != id) {
                by_origin.entry(original).or_default().push(entry);
            }
        }
        Self(by_origin)
    }

    /// The copy of a snapshot, if there is one. As restic decides it, but that tags may differ: a hold here, a label
    /// there do not make it another backup.
    pub(super) fn find(&self, id: SnapshotId, snapshot: &Snapshot) -> Option<SnapshotId> {
        let paths = |snapshot: &Snapshot| snapshot.paths.iter().cloned().collect::<BTreeSet<_>>();
        let is_copy = |other: &Snapshot| {
            other.tree == snapshot.tree
                && other.time == snapshot.time
                && other.hostname == snapshot.hostname
                && paths(other) == paths(snapshot)
        };
        let same_origin = self.0.get(&snapshot.original.unwrap_or(id))?;
        same_origin.iter().find(|(_, other)| is_copy(other)).map(|(copy, _)| *copy)
    }
}

/// Walks the snapshots' trees, oldest snapshot first, and gathers what the other repository lacks.
///
/// The first snapshot is walked alone, the next two together, and so on: the first brings most of the data and should
/// be finished soon, the later ones differ little, and waves of many cost no more requests than waves of one.
fn batches(
    from: &Repository,
    [from_index, to_index]: [&Index; 2],
    snapshots: &[(SnapshotId, Snapshot)],
    batch_bytes: u64,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<(Used, Vec<Batch>, Absent)> {
    let used = Used::new(from_index);
    let assigned = KINDS.map(|kind| Bitmap::new(from_index.len(kind)));
    let mut absent = Absent::default();
    let mut batches = vec![Batch::default()];
    for group in groups(snapshots.len()) {
        let group = &snapshots[group];
        let roots = group.iter().map(|(_, snapshot)| snapshot.tree);
        let more = used.add(from, from_index, roots, &|_, _, _| {}, cancel, observer)?;
        absent.unlisted.extend(more.unlisted);
        absent.unreadable.extend(more.unreadable);
        if batches.last().is_none_or(|batch| batch.bytes >= batch_bytes) {
            batches.push(Batch::default());
        }
        let Some(batch) = batches.last_mut() else { continue };
        batch.snapshots.extend_from_slice(group);
        for ((kind, assigned), wanted) in KINDS.into_iter().zip(&assigned).zip(&mut batch.wanted) {
            for position in used.of(kind).iter().filter(|position| assigned.insert(*position)) {
                let Some(place) = from_index.at(kind, position) else { continue };
                if to_index.known(kind, &place.blob.id).is_none()
                    && let Ok(position) = u32::try_from(position)
                {
                    wanted.push(position);
                    batch.bytes += u64::from(place.blob.length);
                }
            }
        }
    }
    batches.retain(|batch| !batch.snapshots.is_empty());
    Ok((used, batches, absent))
}

/// Cuts `count` into groups of 1, 2, 4, … at most [`COPY_SNAPSHOTS_AT_ONCE_MAX`].
fn groups(count: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    let mut size = 1;
    std::iter::from_fn(move || {
        let group = start..(start + size).min(count);
        start = group.end;
        size = (size * 2).min(COPY_SNAPSHOTS_AT_ONCE_MAX);
        (!group.is_empty()).then_some(group)
    })
}

/// A blob that cannot be had, and why.
pub(super) type LostBlob = (BlobKind, BlobId, String);

fn lost_in(absent: Absent) -> Vec<LostBlob> {
    let unlisted = absent.unlisted.into_iter().map(|(kind, id)| (kind, id, "no index lists it".to_owned()));
    let unreadable = absent.unreadable.into_iter().map(|(id, why)| (BlobKind::Tree, id, why));
    unlisted.chain(unreadable).collect()
}

/// Which of `snapshots` need something that is `lost`, each with why it cannot be copied. At least one does, or the
/// first loss is an error.
pub(super) fn affected(
    from: &Repository,
    index: &Index,
    snapshots: &[(SnapshotId, Snapshot)],
    lost: &[LostBlob],
    cancel: &Cancel,
) -> Result<HashMap<SnapshotId, String>> {
    let mut by_finding = Lost::default();
    let mut findings = Vec::with_capacity(lost.len());
    for (number, (kind, id, why)) in lost.iter().enumerate() {
        by_finding.add(*kind, *id, number);
        let what = format!("{kind} blob {id:.16}: {why}");
        findings.push(Finding::new(Severity::Damage, ObjectKey::new(layout::DATA), what));
    }
    let affected = attribute(from, index, snapshots, &by_finding, &mut findings, cancel)?;
    if let (true, Some((kind, id, why))) = (affected.is_empty(), lost.first()) {
        return Err(Error::damaged(format!("{kind} blob {id}"), why.clone()));
    }
    let why = |numbers: &BTreeSet<usize>| {
        let first = numbers.first().map_or_else(String::new, |number| findings[*number].what.clone());
        match numbers.len() {
            0 | 1 => first,
            count => format!("{first}, and {} more", count - 1),
        }
    };
    Ok(affected.iter().map(|(id, numbers)| (*id, why(numbers))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(tree: &str, original: Option<&str>) -> Snapshot {
        let tree = BlobId::of(tree.as_bytes());
        let text = format!(r#"{{"time":"2024-01-02T03:04:05Z","tree":"{tree}","paths":["/a","/b"],"hostname":"h"}}"#);
        let original = original.map(id);
        Snapshot { original, ..serde_json::from_str(&text).unwrap() }
    }

    fn id(name: &str) -> SnapshotId {
        SnapshotId::of(name.as_bytes())
    }

    #[test]
    fn a_copy_is_known_by_its_origin_and_by_what_it_holds() {
        let copied = (id("copy"), snapshot("t", Some("a")));
        let there = [copied, (id("own"), snapshot("t", None))];
        let copies = Copies::of(&there);
        assert_eq!(copies.find(id("a"), &snapshot("t", None)), Some(id("copy")));
        // A tag was changed where it comes from: another id, the same origin.
        assert_eq!(copies.find(id("a2"), &snapshot("t", Some("a"))), Some(id("copy")));
        // It goes back to where it came from.
        assert_eq!(copies.find(id("x"), &snapshot("t", Some("own"))), Some(id("own")));
        let labelled = Snapshot { tags: vec!["kept".into()], ..snapshot("t", None) };
        assert_eq!(copies.find(id("a"), &labelled), Some(id("copy")));
        let turned = Snapshot { paths: vec!["/b".into(), "/a".into()], ..snapshot("t", None) };
        assert_eq!(copies.find(id("a"), &turned), Some(id("copy")));

        assert_eq!(copies.find(id("b"), &snapshot("t", None)), None);
        assert_eq!(copies.find(id("a"), &snapshot("repaired", None)), None);
        assert_eq!(copies.find(id("a"), &Snapshot { hostname: "g".into(), ..snapshot("t", None) }), None);
    }

    #[test]
    fn groups_begin_with_one_and_leave_nothing_out() {
        assert_eq!(groups(0).count(), 0);
        assert_eq!(groups(6).collect::<Vec<_>>(), [0..1, 1..3, 3..6]);
        let all: Vec<usize> = groups(1_000).flatten().collect();
        assert_eq!(all, (0..1_000).collect::<Vec<_>>());
        assert!(groups(1_000).all(|group| group.len() <= COPY_SNAPSHOTS_AT_ONCE_MAX));
    }
}
