//! What a prune would do with each pack: a pure function of the facts.

use std::collections::HashMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::prune_facts::{PackFacts, PackState};
use crate::limits::{PACK_BYTES_TARGET, PRUNE_DELAY_SECONDS};
use crate::model::{BlobKind, PackId};

/// How a prune is made. Why the defaults are what they are: `docs/decisions/prune.md`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PruneOptions {
    /// Whether packs are deleted at once.
    pub mode: PruneMode,
    /// How much that nobody needs may stay in packs of which something is needed.
    pub max_unused: MaxUnused,
    /// At most this many bytes are written anew; `None` for as many as it takes. What is left is the next prune's.
    pub max_repack_bytes: Option<u64>,
    /// Whether small packs are put together.
    pub small_packs: SmallPacks,
    /// Whether data that is stored plain is compressed.
    pub uncompressed_data: UncompressedData,
    /// Whether packs with content of files may be written anew.
    pub data_packs: DataPacks,
}

/// Whether packs are deleted at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PruneMode {
    /// What is unneeded is marked, and deleted by a prune at least a day later that finds it unneeded again. Nobody has
    /// to stay away but for the moment in which the index is written.
    #[default]
    TwoPhase,
    /// What is unneeded is deleted now. Everybody has to stay away until it is done, also those who take no locks.
    Instant,
}

/// How much that nobody needs may stay in packs of which something is needed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxUnused {
    /// So many percent of what is stored.
    Percent(f64),
    /// So many bytes.
    Bytes(u64),
    /// All of it: nothing is written anew for its sake.
    Unlimited,
}

impl Default for MaxUnused {
    fn default() -> Self {
        Self::Percent(5.0)
    }
}

/// Whether small packs are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SmallPacks {
    /// Yes, once there are ten of a kind, as restic counts.
    #[default]
    Merge,
    /// No.
    Leave,
}

/// Whether data that is stored plain is compressed. Trees always are, because restic's prune rewrites plain ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UncompressedData {
    /// No.
    #[default]
    Leave,
    /// Yes; what does not shrink stays plain.
    Compress,
}

/// Whether packs with content of files may be written anew, for which they have to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataPacks {
    /// Yes.
    #[default]
    Rewrite,
    /// No: they lie where reading costs money or hours. One of which something is needed stays as it is; one of which
    /// nothing is needed goes like any other.
    Leave,
}

/// Packs below a quarter of the usual size are small.
pub(super) const SMALL_PACK_BYTES: u64 = PACK_BYTES_TARGET as u64 / 4;
/// So many small packs of a kind are worth the work of putting them together (restic's number).
pub(super) const SMALL_PACKS_MIN: usize = 10;

/// What happens to a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It stays as it is.
    Keep,
    /// What is needed of it is written into new packs; then it is marked, or deleted at once.
    Repack,
    /// It is marked for deletion.
    Mark,
    /// It is marked and needed again: the mark is taken away.
    Recover,
    /// It is marked and not to be deleted before this instant.
    Wait(Timestamp),
    /// It is deleted.
    Delete,
    /// It is gone already, and so its entry in the index goes.
    Drop,
}

/// Why that happens to a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Snapshots need all or enough of it.
    Needed,
    /// No snapshot needs any of it.
    Unneeded,
    /// Too much of it is not needed.
    PartlyUnneeded,
    /// It is small.
    Small,
    /// It holds data and trees, which do not belong together.
    Mixed,
    /// It holds what could be compressed.
    Uncompressed,
    /// No index lists it.
    Unlisted,
    /// The index lists it, and it is not there.
    Missing,
}

/// A pack and what happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedPack {
    /// The pack.
    pub id: PackId,
    /// Its size in the store.
    pub bytes: u64,
    /// What the needed part of it takes.
    pub needed_bytes: u64,
    /// What the other part of it takes; its header counts only where there is one.
    pub unneeded_bytes: u64,
    /// What the indexes said of it.
    pub state: PackState,
    /// What happens.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

/// What a prune would do.
#[derive(Clone, Debug, PartialEq)]
pub struct PrunePlan {
    /// Every pack, in the order of the facts.
    pub packs: Vec<PlannedPack>,
    /// When it was made: the time of new marks.
    pub now: Timestamp,
    /// The options that it was made with.
    pub options: PruneOptions,
}

/// A number of packs and what they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackCount {
    /// How many.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A plan in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneFigures {
    /// Packs that stay, those that are recovered among them.
    pub keep: PackCount,
    /// Packs that are written anew.
    pub repack: PackCount,
    /// What is written for them.
    pub repack_needed_bytes: u64,
    /// Packs that are marked, apart from those that are written anew.
    pub mark: PackCount,
    /// Packs whose mark is taken away.
    pub recover: PackCount,
    /// Packs whose mark is not old enough.
    pub wait: PackCount,
    /// Packs that are deleted, apart from those that are written anew.
    pub delete: PackCount,
    /// Entries of packs that are gone.
    pub dropped: u64,
    /// What of the packs that stay nobody needs.
    pub unneeded_bytes_kept: u64,
}

/// Decides what happens to each pack. `version` is the repository's.
pub fn plan_prune(packs: &[PackFacts], version: u64, options: &PruneOptions, now: Timestamp) -> PrunePlan {
    let mut planned: Vec<_> = packs
        .iter()
        .map(|pack| {
            let (action, reason) = first_decision(pack, options.mode, now);
            PlannedPack {
                id: pack.id,
                bytes: pack.stored_bytes.unwrap_or(0),
                needed_bytes: pack.needed_bytes,
                unneeded_bytes: unneeded_bytes_of(pack),
                state: pack.state,
                action,
                reason,
            }
        })
        .collect();
    choose_repacks(packs, &mut planned, version, options);
    PrunePlan { packs: planned, now, options: options.clone() }
}

fn first_decision(pack: &PackFacts, mode: PruneMode, now: Timestamp) -> (Action, Reason) {
    let is_instant = mode == PruneMode::Instant;
    if pack.needed_blobs > 0 {
        let action = if matches!(pack.state, PackState::Marked(_)) { Action::Recover } else { Action::Keep };
        return (action, Reason::Needed);
    }
    if pack.stored_bytes.is_none() {
        return (Action::Drop, Reason::Missing);
    }
    match pack.state {
        PackState::Unlisted => (if is_instant { Action::Delete } else { Action::Mark }, Reason::Unlisted),
        _ if is_instant => (Action::Delete, Reason::Unneeded),
        PackState::InUse => (Action::Mark, Reason::Unneeded),
        // A clock that was ahead, or a mark without a time: the waiting begins now.
        PackState::Marked(since) if since > now => (Action::Mark, Reason::Unneeded),
        PackState::Marked(since) => {
            let until = since.saturating_add(SignedDuration::from_secs(PRUNE_DELAY_SECONDS)).unwrap_or(Timestamp::MAX);
            (if until <= now { Action::Delete } else { Action::Wait(until) }, Reason::Unneeded)
        }
    }
}

/// Turns some of the packs that are kept into packs that are written anew: first what has to be, then small ones, then
/// those with the greatest part that nobody needs, until the rest may stay.
fn choose_repacks(packs: &[PackFacts], planned: &mut [PlannedPack], version: u64, options: &PruneOptions) {
    let mut small: HashMap<Option<BlobKind>, Vec<usize>> = HashMap::new();
    let mut chosen = Vec::new();
    let mut partly = Vec::new();
    let (mut needed_bytes, mut unneeded_bytes) = (0, 0);
    for (at, (pack, plan)) in packs.iter().zip(&*planned).enumerate() {
        needed_bytes += pack.needed_bytes;
        if plan.action != Action::Keep {
            continue;
        }
        if options.data_packs == DataPacks::Leave && pack.kind != Some(BlobKind::Tree) {
            continue;
        }
        let unneeded = plan.unneeded_bytes;
        unneeded_bytes += unneeded;
        let compresses = options.uncompressed_data == UncompressedData::Compress;
        if pack.kind.is_none() {
            chosen.push((at, Reason::Mixed));
        } else if version > 1 && (pack.has_plain_trees || pack.has_plain_data && compresses) {
            chosen.push((at, Reason::Uncompressed));
        } else if options.small_packs == SmallPacks::Merge && plan.bytes < SMALL_PACK_BYTES {
            small.entry(pack.kind).or_default().push(at);
            if unneeded > 0 {
                partly.push(at);
            }
        } else if unneeded > 0 {
            partly.push(at);
        }
    }
    let enough = small.into_values().filter(|packs| packs.len() >= SMALL_PACKS_MIN);
    chosen.extend(enough.flatten().map(|at| (at, Reason::Small)));
    // By the share that nobody needs, compared without rounding: a/b > c/d where a·d > c·b.
    partly.sort_by(|one, other| {
        let (one, other) = (&packs[*one], &packs[*other]);
        let share = |pack: &PackFacts, by: &PackFacts| {
            u128::from(unneeded_bytes_of(pack)) * u128::from(by.stored_bytes.unwrap_or(1))
        };
        share(other, one).cmp(&share(one, other)).then(one.id.cmp(&other.id))
    });

    let unneeded_bytes_max = match options.max_unused {
        MaxUnused::Unlimited => u64::MAX,
        MaxUnused::Bytes(bytes) => bytes,
        MaxUnused::Percent(percent) => percent_of(needed_bytes, percent),
    };
    let mut budget = options.max_repack_bytes.unwrap_or(u64::MAX);
    let mut repack = |at: usize, reason: Reason, unneeded_bytes: &mut u64| {
        let plan = &mut planned[at];
        if plan.action == Action::Keep && plan.needed_bytes <= budget {
            budget -= plan.needed_bytes;
            *unneeded_bytes = unneeded_bytes.saturating_sub(plan.unneeded_bytes);
            (plan.action, plan.reason) = (Action::Repack, reason);
        }
    };
    chosen.sort_by_key(|(at, reason)| (*reason == Reason::Small, *at));
    for (at, reason) in chosen {
        repack(at, reason, &mut unneeded_bytes);
    }
    for at in partly {
        if unneeded_bytes > unneeded_bytes_max {
            repack(at, Reason::PartlyUnneeded, &mut unneeded_bytes);
        }
    }
}

/// What of a pack nobody needs; its header is needed by nobody but counts for nothing when all blobs are needed.
fn unneeded_bytes_of(pack: &PackFacts) -> u64 {
    if pack.needed_blobs == pack.blobs {
        return 0;
    }
    pack.stored_bytes.unwrap_or(0).saturating_sub(pack.needed_bytes)
}

/// How much may be unneeded so that it is `percent` of all, when `needed_bytes` are not.
fn percent_of(needed_bytes: u64, percent: f64) -> u64 {
    if percent >= 100.0 {
        return u64::MAX;
    }
    let share = percent.max(0.0) / (100.0 - percent.max(0.0));
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a threshold; neither factor is negative"
    )]
    let bytes = (needed_bytes as f64 * share) as u64;
    bytes
}

impl PrunePlan {
    /// Whether nothing would be changed.
    pub fn is_empty(&self) -> bool {
        self.packs.iter().all(|pack| matches!(pack.action, Action::Keep | Action::Wait(_)))
    }

    /// The plan in numbers.
    pub fn figures(&self) -> PruneFigures {
        let mut figures = PruneFigures::default();
        for pack in &self.packs {
            let count = match pack.action {
                Action::Keep => &mut figures.keep,
                Action::Repack => &mut figures.repack,
                Action::Mark => &mut figures.mark,
                Action::Recover => &mut figures.recover,
                Action::Wait(_) => &mut figures.wait,
                Action::Delete => &mut figures.delete,
                Action::Drop => {
                    figures.dropped += 1;
                    continue;
                }
            };
            count.packs += 1;
            count.bytes += pack.bytes;
            match pack.action {
                Action::Keep | Action::Recover => {
                    figures.unneeded_bytes_kept += pack.unneeded_bytes;
                }
                Action::Repack => figures.repack_needed_bytes += pack.needed_bytes,
                _ => {}
            }
        }
        figures.keep.packs += figures.recover.packs;
        figures.keep.bytes += figures.recover.bytes;
        figures
    }

    /// The first instant at which another prune can delete what is marked now, if something is.
    pub fn next_deletion(&self) -> Option<Timestamp> {
        let after = self.now.saturating_add(SignedDuration::from_secs(PRUNE_DELAY_SECONDS)).unwrap_or(Timestamp::MAX);
        let is_two_phase = self.options.mode == PruneMode::TwoPhase;
        self.packs
            .iter()
            .filter_map(|pack| match pack.action {
                Action::Wait(until) => Some(until),
                Action::Mark | Action::Repack if is_two_phase => Some(after),
                _ => None,
            })
            .min()
    }
}

impl fmt::Display for PrunePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = self.figures();
        let lines = [
            ("keep", figures.keep),
            ("recover", figures.recover),
            ("repack", figures.repack),
            ("mark", figures.mark),
            ("wait", figures.wait),
            ("delete", figures.delete),
        ];
        for (word, PackCount { packs, bytes }) in lines.into_iter().filter(|(_, count)| count.packs > 0) {
            writeln!(f, "{word}: {packs} packs, {bytes} bytes")?;
        }
        if figures.dropped > 0 {
            writeln!(f, "forget: {} packs that are gone", figures.dropped)?;
        }
        match self.next_deletion() {
            Some(until) => writeln!(f, "marked packs can be deleted from {until:.0}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    /// A pack of ten blobs of a mebibyte each, of which some are needed.
    fn pack(name: &[u8], state: PackState, needed_blobs: u32) -> PackFacts {
        PackFacts {
            id: PackId::of(name),
            state,
            stored_bytes: Some(10 << 20),
            kind: Some(BlobKind::Data),
            blobs: 10,
            needed_blobs,
            needed_bytes: u64::from(needed_blobs) << 20,
            has_plain_trees: false,
            has_plain_data: false,
        }
    }

    fn decisions(packs: &[PackFacts], options: &PruneOptions) -> Vec<(Action, Reason)> {
        plan_prune(packs, 2, options, now()).packs.iter().map(|pack| (pack.action, pack.reason)).collect()
    }

    #[test]
    fn what_happens_to_a_pack_depends_on_its_state_its_age_and_the_mode() {
        let at = |seconds: i64| PackState::Marked(Timestamp::from_second(NOW + seconds).unwrap());
        let day = PRUNE_DELAY_SECONDS;
        let until = |seconds: i64| Action::Wait(Timestamp::from_second(NOW + seconds).unwrap());
        let gone = PackFacts { stored_bytes: None, ..pack(b"g", PackState::InUse, 0) };
        let table = [
            (pack(b"1", PackState::InUse, 10), Action::Keep, Action::Keep),
            (pack(b"2", PackState::InUse, 0), Action::Mark, Action::Delete),
            (pack(b"3", PackState::Unlisted, 0), Action::Mark, Action::Delete),
            (pack(b"4", at(-day), 0), Action::Delete, Action::Delete),
            (pack(b"5", at(1 - day), 0), until(1), Action::Delete),
            (pack(b"6", at(0), 0), until(day), Action::Delete),
            (pack(b"7", at(-2 * day), 1), Action::Recover, Action::Recover),
            // Marks from the future, or without a time: the waiting begins now.
            (pack(b"8", at(1), 0), Action::Mark, Action::Delete),
            (pack(b"9", PackState::Marked(Timestamp::MAX), 0), Action::Mark, Action::Delete),
            (gone, Action::Drop, Action::Drop),
        ];
        for (pack, two_phase, instant) in table {
            for (mode, expected) in [(PruneMode::TwoPhase, two_phase), (PruneMode::Instant, instant)] {
                let options = PruneOptions { mode, ..PruneOptions::default() };
                assert_eq!(decisions(std::slice::from_ref(&pack), &options)[0].0, expected, "{mode:?} {pack:?}");
            }
        }
    }

    #[test]
    fn the_emptiest_packs_are_written_anew_until_the_rest_may_stay() {
        let packs = [9, 5, 1, 10].map(|needed| pack(&[needed], PackState::InUse, needed.into()));
        let actions = |max_unused, max_repack_bytes| {
            let options = PruneOptions { max_unused, max_repack_bytes, ..PruneOptions::default() };
            decisions(&packs, &options).iter().map(|(action, _)| *action == Action::Repack).collect::<Vec<_>>()
        };
        assert_eq!(actions(MaxUnused::Unlimited, None), [false, false, false, false]);
        assert_eq!(actions(MaxUnused::Bytes(0), None), [true, true, true, false]);
        assert_eq!(actions(MaxUnused::Bytes(6 << 20), None), [false, false, true, false]);
        // 25 of 40 are needed: a twentieth of what stays may be unneeded, which is one of 26.
        assert_eq!(actions(MaxUnused::Percent(5.0), None), [false, true, true, false]);
        assert_eq!(actions(MaxUnused::Percent(0.0), Some(2 << 20)), [false, false, true, false]);
    }

    #[test]
    fn packs_that_lie_where_reading_is_dear_are_removed_and_never_read() {
        let trees =
            |needed: u32| PackFacts { kind: Some(BlobKind::Tree), ..pack(&[needed as u8], PackState::InUse, needed) };
        let mixed = PackFacts { kind: None, ..pack(b"m", PackState::InUse, 5) };
        let plain = PackFacts { has_plain_data: true, ..pack(b"p", PackState::InUse, 5) };
        let packs = [pack(b"d", PackState::InUse, 1), mixed, plain, pack(b"e", PackState::InUse, 0), trees(1)];
        let options = PruneOptions {
            max_unused: MaxUnused::Bytes(0),
            uncompressed_data: UncompressedData::Compress,
            data_packs: DataPacks::Leave,
            ..PruneOptions::default()
        };
        let actions: Vec<_> = decisions(&packs, &options).into_iter().map(|(action, _)| action).collect();
        assert_eq!(actions, [Action::Keep, Action::Keep, Action::Keep, Action::Mark, Action::Repack]);
    }

    #[test]
    fn what_must_be_written_anew_is_and_small_packs_are_when_there_are_enough() {
        let options = PruneOptions::default();
        let mixed = PackFacts { kind: None, ..pack(b"m", PackState::InUse, 10) };
        let trees = PackFacts { has_plain_trees: true, ..pack(b"t", PackState::InUse, 10) };
        let data = PackFacts { has_plain_data: true, ..pack(b"d", PackState::InUse, 10) };
        let all = [mixed, trees, data];
        let reasons = |options: &PruneOptions, version| {
            let plan = plan_prune(&all, version, options, now());
            plan.packs.iter().map(|pack| pack.reason).collect::<Vec<_>>()
        };
        assert_eq!(reasons(&options, 2), [Reason::Mixed, Reason::Uncompressed, Reason::Needed]);
        assert_eq!(reasons(&options, 1), [Reason::Mixed, Reason::Needed, Reason::Needed]);
        let compress = PruneOptions { uncompressed_data: UncompressedData::Compress, ..options.clone() };
        assert_eq!(reasons(&compress, 2), [Reason::Mixed, Reason::Uncompressed, Reason::Uncompressed]);

        let small = |number: u8| PackFacts { stored_bytes: Some(1 << 20), ..pack(&[number], PackState::InUse, 10) };
        let nine: Vec<_> = (0..9).map(small).collect();
        assert!(decisions(&nine, &options).iter().all(|(action, _)| *action == Action::Keep));
        let ten: Vec<_> = (0..10).map(small).collect();
        assert!(decisions(&ten, &options).iter().all(|decision| *decision == (Action::Repack, Reason::Small)));
        let leave = PruneOptions { small_packs: SmallPacks::Leave, ..options };
        assert!(decisions(&ten, &leave).iter().all(|(action, _)| *action == Action::Keep));
    }
}
