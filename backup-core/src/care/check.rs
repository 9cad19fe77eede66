//! Is everything there that the snapshots need, and is it what it was?
//!
//! A check goes on after whatever it finds. It needs nobody to stay away: under its lock others may add, and what they
//! add is not looked at. Without a lock (read-only credentials) a prune at the same time makes it report packs as
//! missing that were removed rightly.
//!
//! The order is the writers' turned round: snapshots are listed before indexes, indexes before packs, so that what is
//! being added meanwhile is never taken for missing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use super::affected::{Lost, attribute};
use super::check_objects::{self, Presence, Presences};
use super::findings::{Finding, Severity};
use super::proofs::proofs;
use super::read_packs::read_packs;
use super::used::{Absent, Used};
use crate::cancel::Cancel;
use crate::contracts::{ObjectKey, Proof};
use crate::model::{BlobId, BlobKind, Node, NodeKind, PackId, Snapshot, SnapshotId};
use crate::observe::{Event, Observer, Phase};
use crate::repository::layout::{self, Named};
use crate::repository::{Index, LockMode, RecordBody, Repository};
use crate::{Error, Result};

/// How a check is made.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// How much of the packs is read.
    pub read_data: ReadData,
    /// The lock to take: [`LockMode::Shared`], or none for credentials that cannot delete.
    pub lock: LockMode,
}

/// How much of the packs is read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ReadData {
    /// Only the trees, and packs whose size is wrong. Finds what is missing, not what has rotted.
    #[default]
    None,
    /// Everything.
    All,
    /// So many percent of the packs, drawn anew each time.
    Subset(f64),
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { read_data: ReadData::None, lock: LockMode::Shared }
    }
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// What is not as it should be, in the order in which it was found.
    pub findings: Vec<Finding>,
    /// Snapshots that could be read.
    pub snapshots: u64,
    /// Trees that they need.
    pub trees: u64,
    /// Data blobs that they need.
    pub data_blobs: u64,
    /// Packs that the index lists.
    pub packs: u64,
    /// What those packs take, as the index says.
    pub pack_bytes: u64,
    /// Packs that were read as a whole.
    pub packs_read: u64,
    /// Bytes of the packs that were read as a whole.
    pub bytes_read: u64,
    /// Packs that are missing or damaged: what a repair of the index looks at.
    pub damaged_packs: Vec<PackId>,
    /// Snapshots of which something cannot be restored.
    pub broken_snapshots: Vec<SnapshotId>,
    /// The step of proof that the other snapshots have reached by this check.
    pub reached: Option<Proof>,
}

impl CheckReport {
    /// Whether nothing is damaged. Notes do not count.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity == Severity::Note)
    }
}

/// Checks a repository. Fails only when it cannot check: what is wrong with the repository stands in the report.
///
/// Afterwards it records what it proved of which snapshots, where that is new. A store that takes no records is told
/// of as a notice.
pub fn check(
    repository: &Repository,
    options: &CheckOptions,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<CheckReport> {
    if let ReadData::Subset(percent) = options.read_data
        && !(percent > 0.0 && percent <= 100.0)
    {
        return Err(Error::invalid("read-data subset", "must be more than 0 and at most 100 percent"));
    }
    let lock = repository.lock(options.lock, observer)?;
    let mut findings = Vec::new();
    check_objects::config(repository, &mut findings)?;
    check_objects::keys(repository, &mut findings)?;
    check_objects::locks(repository, &mut findings)?;
    let snapshots = check_objects::snapshots(repository, &mut findings)?;
    let records = check_objects::records(repository, &mut findings);
    let index = check_objects::index(repository, &mut findings, observer)?;
    let presences = check_objects::presences(repository, &index)?;
    let mut check =
        Check { repository, index: &index, findings, lost: Lost::default(), damaged_packs: BTreeSet::new() };

    observer.event(Event::Phase { phase: Phase::Check, total: None });
    let used = Used::new(&index);
    check.trees(&used, &snapshots, cancel, observer)?;
    check.packs(&used, &presences);
    let to_read = packs_to_read(&index, &used, &presences, options.read_data)?;
    let tried = match options.read_data {
        ReadData::All => Proof::Verified,
        ReadData::None | ReadData::Subset(_) => Proof::Present,
    };
    let first_of_reading = check.findings.len();
    if !to_read.is_empty() {
        check.read(&to_read, &presences, cancel, observer)?;
    }
    let Check { mut findings, lost, damaged_packs, .. } = check;
    let affected = if lost.blobs.is_empty() {
        HashMap::new()
    } else {
        attribute(repository, &index, &snapshots, &lost, &mut findings, cancel)?
    };
    lock.check()?;
    let broken = |found_by_reading: bool| -> Vec<SnapshotId> {
        let is_by_reading = |hits: &BTreeSet<usize>| hits.iter().any(|finding| *finding >= first_of_reading);
        let ids = affected.iter().filter(|(_, hits)| is_by_reading(hits) == found_by_reading).map(|(id, _)| *id);
        let mut ids: Vec<_> = ids.collect();
        ids.sort_unstable();
        ids
    };
    let (missing, rotten) = (broken(false), broken(true));
    let known = records.map(|records| proofs(records.iter().map(|(_, record)| record), &snapshots));
    record(repository, known, &snapshots, &missing, &rotten, tried, observer);
    Ok(CheckReport {
        findings,
        snapshots: snapshots.len() as u64,
        trees: used.of(BlobKind::Tree).count(),
        data_blobs: used.of(BlobKind::Data).count(),
        packs: index.packs().len() as u64,
        pack_bytes: index.packs().iter().map(|pack| pack.bytes).sum(),
        packs_read: to_read.len() as u64,
        bytes_read: to_read.iter().map(|(_, bytes)| bytes).sum(),
        damaged_packs: damaged_packs.into_iter().collect(),
        broken_snapshots: missing.into_iter().chain(rotten).collect(),
        reached: (affected.len() < snapshots.len()).then_some(tried),
    })
}

struct Check<'a> {
    repository: &'a Repository,
    index: &'a Index,
    findings: Vec<Finding>,
    lost: Lost,
    damaged_packs: BTreeSet<PackId>,
}

impl Check<'_> {
    /// Adds a finding and says its number.
    fn find(&mut self, severity: Severity, object: ObjectKey, what: impl Into<String>) -> usize {
        self.findings.push(Finding::new(severity, object, what));
        self.findings.len() - 1
    }

    /// Every tree below every snapshot parses, and what it refers to is listed.
    fn trees(
        &mut self,
        used: &Used,
        snapshots: &[(SnapshotId, Snapshot)],
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<()> {
        let odd = Mutex::new(Vec::new());
        let inspect = |tree: &BlobId, node: &Node, content_bytes: Option<u64>| {
            if let Some((severity, what)) = oddity(node, content_bytes) {
                odd.lock().unwrap_or_else(PoisonError::into_inner).push((*tree, severity, what));
            }
        };
        let roots = snapshots.iter().map(|(_, snapshot)| snapshot.tree);
        let Absent { unlisted, unreadable } =
            used.add(self.repository, self.index, roots, &inspect, cancel, observer)?;
        if !unlisted.is_empty() {
            let what = format!("{} blobs that snapshots need are in no index", unlisted.len());
            let finding = self.find(Severity::Damage, ObjectKey::new(layout::INDEX), what);
            unlisted.into_iter().for_each(|(kind, id)| self.lost.add(kind, id, finding));
        }
        for (tree, what) in unreadable {
            let finding = self.find(Severity::Damage, self.object_of(&tree), format!("tree {tree}: {what}"));
            self.lost.add(BlobKind::Tree, tree, finding);
        }
        let mut odd = odd.into_inner().unwrap_or_else(PoisonError::into_inner);
        odd.sort_unstable();
        for (tree, severity, what) in odd {
            let finding = self.find(severity, self.object_of(&tree), format!("tree {tree}: {what}"));
            if severity == Severity::Damage {
                self.lost.add(BlobKind::Tree, tree, finding);
            }
        }
        Ok(())
    }

    fn object_of(&self, tree: &BlobId) -> ObjectKey {
        self.index.find(BlobKind::Tree, tree).map_or(ObjectKey::new(layout::INDEX), |place| place.pack.key())
    }

    /// Every pack of the index is there with its size, and nothing that is needed is about to be deleted.
    fn packs(&mut self, used: &Used, presences: &Presences) {
        let index = self.index;
        let mut missing = HashMap::new();
        for (number, (info, presence)) in (0_u32..).zip(index.packs().iter().zip(&presences.of_packs)) {
            if *presence != Presence::Missing {
                continue;
            }
            if info.marked.is_some() {
                let what = "is marked for deletion and gone already; the next prune drops the mark";
                missing.insert(number, self.find(Severity::Note, info.id.key(), what));
            } else {
                self.damaged_packs.insert(info.id);
                missing.insert(number, self.find(Severity::Damage, info.id.key(), "is missing"));
            }
        }
        let mut rescued = 0_u64;
        for kind in [BlobKind::Data, BlobKind::Tree] {
            for place in used.of(kind).iter().filter_map(|position| index.at(kind, position)) {
                if let Some(finding) = missing.get(&place.pack_number)
                    && index.find_all(kind, &place.blob.id).all(|place| missing.contains_key(&place.pack_number))
                {
                    self.findings[*finding].severity = Severity::Damage;
                    self.lost.add(kind, place.blob.id, *finding);
                } else if index.packs()[place.pack_number as usize].marked.is_some() {
                    rescued += 1;
                }
            }
        }
        if rescued > 0 {
            let what = format!(
                "{rescued} blobs that snapshots need lie in packs marked for deletion; the next prune takes the marks away"
            );
            self.find(Severity::Note, ObjectKey::new(layout::INDEX), what);
        }
        if !presences.unlisted.is_empty() {
            let bytes: u64 = presences.unlisted.iter().map(|(_, bytes)| bytes).sum();
            let count = presences.unlisted.len();
            let what = format!(
                "{count} packs of {bytes} bytes are in no index, as after an interrupted backup; a prune removes them"
            );
            self.find(Severity::Note, ObjectKey::new(layout::DATA), what);
        }
    }

    /// Packs are what their names, their headers and the index say.
    fn read(
        &mut self,
        to_read: &[(u32, u64)],
        presences: &Presences,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<()> {
        let index = self.index;
        let mut lost = HashMap::new();
        for verdict in read_packs(self.repository, index, to_read, cancel, observer)? {
            let info = &index.packs()[verdict.number as usize];
            let what = match presences.of_packs[verdict.number as usize] {
                Presence::OtherSize(bytes) => {
                    format!("has {bytes} bytes and should have {}; {}", info.bytes, verdict.what)
                }
                Presence::Whole | Presence::Missing => verdict.what,
            };
            let finding = self.find(Severity::Damage, info.id.key(), what);
            self.damaged_packs.insert(info.id);
            lost.extend(verdict.lost.into_iter().map(|blob| ((verdict.number, blob), finding)));
        }
        // A blob that lies in several packs is lost with the last of them.
        for ((_, (kind, id)), finding) in &lost {
            let is_gone = |number: u32| {
                lost.contains_key(&(number, (*kind, *id))) || presences.of_packs[number as usize] == Presence::Missing
            };
            if index.find_all(*kind, id).all(|place| is_gone(place.pack_number)) {
                self.lost.add(*kind, *id, *finding);
            }
        }
        Ok(())
    }
}

/// What is wrong with an entry, apart from what it refers to.
fn oddity(node: &Node, content_bytes: Option<u64>) -> Option<(Severity, String)> {
    let name = crate::model::SnapshotPath::root().join(&node.name);
    if !node.has_safe_name() {
        return Some((Severity::Damage, format!("entry {name} has a name that cannot be restored")));
    }
    match &node.kind {
        NodeKind::Dir { subtree: None } => Some((Severity::Damage, format!("folder {name} has no tree"))),
        NodeKind::File { size, .. } => content_bytes.filter(|bytes| bytes != size).map(|bytes| {
            (Severity::Note, format!("file {name} is said to have {size} bytes, and its blobs have {bytes}"))
        }),
        NodeKind::Other(word) => {
            Some((Severity::Note, format!("entry {name} is of the unknown kind {word:?} and is not restored")))
        }
        _ => None,
    }
}

/// The packs to read as a whole, with their sizes in the store: those that were asked for, and always those whose size
/// is wrong, because only reading tells what is left of them. Packs that are marked and not needed are not worth it.
fn packs_to_read(index: &Index, used: &Used, presences: &Presences, read_data: ReadData) -> Result<Vec<(u32, u64)>> {
    let mut needed_marked = HashSet::new();
    for kind in [BlobKind::Data, BlobKind::Tree] {
        let places = used.of(kind).iter().filter_map(|position| index.at(kind, position));
        needed_marked.extend(
            places.map(|place| place.pack_number).filter(|number| index.packs()[*number as usize].marked.is_some()),
        );
    }
    let mut whole = Vec::new();
    let mut others = Vec::new();
    for (number, (info, presence)) in (0_u32..).zip(index.packs().iter().zip(&presences.of_packs)) {
        match presence {
            _ if info.marked.is_some() && !needed_marked.contains(&number) => {}
            Presence::Whole => whole.push((number, info.bytes)),
            Presence::OtherSize(bytes) => others.push((number, *bytes)),
            Presence::Missing => {}
        }
    }
    match read_data {
        ReadData::None => whole.clear(),
        ReadData::All => {}
        ReadData::Subset(percent) => draw(&mut whole, percent)?,
    }
    whole.extend(others);
    Ok(whole)
}

/// Keeps so many percent of `packs`, at least one, each choice as likely as the others.
fn draw(packs: &mut Vec<(u32, u64)>, percent: f64) -> Result<()> {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a length, rounded up; `truncate` bears any number"
    )]
    let count = (packs.len() as f64 * percent / 100.0).ceil() as usize;
    for at in 0..count.min(packs.len()) {
        let random = getrandom::u64().map_err(|error| {
            Error::new(crate::ErrorKind::Broken("no random numbers from the system"), "check").caused_by(error)
        })?;
        let rest = (packs.len() - at) as u64;
        // The remainder of a 64-bit number by a number of packs is even enough.
        let other = at + usize::try_from(random % rest).unwrap_or_default();
        packs.swap(at, other);
    }
    packs.truncate(count);
    packs.sort_unstable();
    Ok(())
}

/// Writes down what was proven, where that is new. Reading everything is news each time: it has a date.
fn record(
    repository: &Repository,
    before: Result<HashMap<SnapshotId, Proof>>,
    snapshots: &[(SnapshotId, Snapshot)],
    missing: &[SnapshotId],
    rotten: &[SnapshotId],
    tried: Proof,
    observer: &dyn Observer,
) {
    let write = || -> Result<()> {
        let before = before?;
        let is_broken = |id: &SnapshotId| missing.contains(id) || rotten.contains(id);
        let sound: Vec<_> = snapshots.iter().map(|(id, _)| *id).filter(|id| !is_broken(id)).collect();
        let is_news =
            tried == Proof::Verified || sound.iter().any(|id| before.get(id).is_none_or(|proof| *proof < tried));
        if !sound.is_empty() && is_news {
            repository.save_record(RecordBody::Proof { snapshots: sound, proof: tried })?;
        }
        for (snapshots, tried) in [(missing, Proof::Present), (rotten, Proof::Verified)] {
            if !snapshots.is_empty() {
                repository.save_record(RecordBody::Broken { snapshots: snapshots.to_vec(), tried })?;
            }
        }
        repository.store().sync()
    };
    if let Err(error) = write() {
        observer.event(Event::Notice(&format!("what was proven could not be recorded: {error}")));
    }
}
