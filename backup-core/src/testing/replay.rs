//! What a recorded run would have left behind, had it ended earlier than it did.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Call, MemorySink, Outcome, Record};
use crate::contracts::{ObjectKey, PutMode, SinkErrorKind};

/// Recorded calls, ready to be replayed up to any moment.
///
/// [`Recording::left_behind`] is a model of the least that [`Sink`](crate::contracts::Sink) promises, so it is harsher
/// than any one store: what passes under it passes on all of them.
#[derive(Clone, Debug)]
pub struct Recording {
    records: Vec<Record>,
    ticks: u64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The process was killed. What had returned is in place; of what was running, each call is done or not done.
    Killed,
    /// The power failed. What a later, finished `sync` covers is in place. Of the rest each change is, independently
    /// of the others and so in any order, made or not made; an object that was new and put in bulk is whole, short,
    /// empty, or has zeros for content. An object that replaced another is the old one or the new one, whole.
    PowerLost,
}

impl Recording {
    pub(super) fn new(records: Vec<Record>, ticks: u64) -> Self {
        Self { records, ticks }
    }

    /// The last moment that can be replayed: moments are ticks, 0 is before the first call.
    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    /// The recorded calls.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The store as a run leaves it that ended at `tick`, having begun with the objects of `before`, all of them
    /// durable. Where the contract leaves several outcomes open `seed` decides, the same for the same seed.
    pub fn left_behind(&self, before: &MemorySink, tick: u64, ending: Ending, seed: u64) -> MemorySink {
        let mut dice = Dice(seed ^ tick.rotate_left(32));
        let mut left = before.objects();
        for (key, history) in self.histories(tick) {
            let old = left.remove(&key);
            if let Some(content) = end_state(old, &history, self.last_sync(tick), tick, ending, &mut dice) {
                left.insert(key, content);
            }
        }
        left.into_iter().collect()
    }

    /// The changes that had begun by `tick`, per object, in the order in which they ended; running ones last.
    fn histories(&self, tick: u64) -> BTreeMap<ObjectKey, Vec<Change>> {
        let mut histories: BTreeMap<ObjectKey, Vec<Change>> = BTreeMap::new();
        for record in self.records.iter().filter(|record| record.began <= tick) {
            let (key, content, is_bulk) = match &record.call {
                Call::Put { key, bytes, mode } => (key, Some(bytes.clone()), matches!(mode, PutMode::Bulk(_))),
                Call::Delete { key } => (key, None, false),
                _ => continue,
            };
            // These kinds say for certain that nothing was changed.
            let refused = matches!(
                record.outcome,
                Outcome::Failed(SinkErrorKind::AlreadyExists | SinkErrorKind::NotFound | SinkErrorKind::ReadOnly)
            );
            if !refused {
                let is_certain = record.outcome == Outcome::Done;
                let ended = record.ended.unwrap_or(u64::MAX);
                histories.entry(key.clone()).or_default().push(Change { content, is_bulk, ended, is_certain });
            }
        }
        for history in histories.values_mut() {
            history.sort_by_key(|change| change.ended);
        }
        histories
    }

    /// When the last `sync` began that had succeeded by `tick`: it covers what had ended before.
    fn last_sync(&self, tick: u64) -> u64 {
        let done = |record: &&Record| {
            record.call == Call::Sync
                && record.outcome == Outcome::Done
                && record.ended.is_some_and(|ended| ended <= tick)
        };
        self.records.iter().filter(done).map(|record| record.began).max().unwrap_or(0)
    }
}

/// One change of one object.
struct Change {
    /// What the object becomes; `None` is deleted.
    content: Option<Bytes>,
    /// Whether it may be found damaged until it is synced.
    is_bulk: bool,
    /// When the call had returned, or its future was gone.
    ended: u64,
    /// Whether the change was then made for certain: not if the call failed.
    is_certain: bool,
}

/// What became of an object that was `old` before `history`.
fn end_state(
    old: Option<Bytes>,
    history: &[Change],
    synced: u64,
    tick: u64,
    ending: Ending,
    dice: &mut Dice,
) -> Option<Bytes> {
    let certain_by = match ending {
        Ending::Killed => tick,
        Ending::PowerLost => synced,
    };
    let certain = history.iter().rposition(|change| change.is_certain && change.ended <= certain_by);
    let certain = certain.map_or(0, |index| index + 1);
    let chosen = certain + dice.below(history.len() - certain + 1);
    let Some(last) = chosen.checked_sub(1) else { return old };
    let content = history[last].content.clone()?;
    let replaced = if last == 0 { &old } else { &history[last - 1].content };
    let may_be_damaged = ending == Ending::PowerLost && chosen > certain && history[last].is_bulk && replaced.is_none();
    Some(if may_be_damaged { dice.damage(content) } else { content })
}

/// A small generator of numbers that look random and are the same for the same seed (SplitMix64, Steele et al. 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number less than `bound`, which is not 0. The bias of the remainder does not matter here.
    fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    /// A new object as a power failure may leave it: whole, short, empty, or with zeros from some place on.
    fn damage(&mut self, content: Bytes) -> Bytes {
        let place = self.below(content.len() + 1);
        match self.below(5) {
            0 => content,
            1 => content.slice(..place),
            2 => Bytes::new(),
            3 => vec![0; content.len()].into(),
            _ => {
                let mut bytes = content.to_vec();
                bytes[place..].fill(0);
                bytes.into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use futures::future::FutureExt;

    use super::*;
    use crate::contracts::{Placement, Sink};
    use crate::testing::{Fault, FaultySink, RecordingSink, block_on};

    fn key(name: &'static str) -> ObjectKey {
        ObjectKey::new(name)
    }

    fn outcomes(
        recording: &Recording,
        before: &MemorySink,
        tick: u64,
        ending: Ending,
        of: &ObjectKey,
    ) -> BTreeSet<Option<Bytes>> {
        (0..500).map(|seed| recording.left_behind(before, tick, ending, seed).content(of)).collect()
    }

    fn record(run: impl AsyncFnOnce(&RecordingSink)) -> Recording {
        let sink = RecordingSink::new(Arc::new(MemorySink::new()));
        block_on(run(&sink));
        sink.recording()
    }

    #[test]
    fn what_a_sync_covers_survives_and_the_rest_may_be_lost_or_damaged() {
        let recording = record(async |sink| {
            sink.put(&key("data/a"), Bytes::from("aaaa"), PutMode::Bulk(Placement::Cold)).await.unwrap();
            sink.sync().await.unwrap();
            sink.put(&key("data/b"), Bytes::from("bbbb"), PutMode::Bulk(Placement::Cold)).await.unwrap();
        });
        let none = MemorySink::new();
        let end = recording.ticks();
        let whole = |text: &'static str| Some(Bytes::from(text));
        assert_eq!(
            outcomes(&recording, &none, end, Ending::PowerLost, &key("data/a")),
            BTreeSet::from([whole("aaaa")])
        );
        let b = outcomes(&recording, &none, end, Ending::PowerLost, &key("data/b"));
        for expected in [None, whole("bbbb"), whole(""), whole("bb"), whole("\0\0\0\0"), whole("bb\0\0")] {
            assert!(b.contains(&expected), "{expected:?} is not among {b:?}");
        }
        assert_eq!(outcomes(&recording, &none, end, Ending::Killed, &key("data/b")), BTreeSet::from([whole("bbbb")]));
        // Before the sync has returned it has covered nothing.
        assert!(outcomes(&recording, &none, 3, Ending::PowerLost, &key("data/a")).contains(&None));
    }

    #[test]
    fn later_changes_may_survive_where_earlier_ones_do_not() {
        let recording = record(async |sink| {
            sink.put(&key("data/a"), Bytes::from("a"), PutMode::Create).await.unwrap();
            sink.put(&key("index/a"), Bytes::from("i"), PutMode::Create).await.unwrap();
        });
        let reordered = (0..500).any(|seed| {
            let left = recording.left_behind(&MemorySink::new(), recording.ticks(), Ending::PowerLost, seed);
            left.content(&key("data/a")).is_none() && left.content(&key("index/a")) == Some(Bytes::from("i"))
        });
        assert!(reordered);
    }

    #[test]
    fn a_replaced_object_is_the_old_or_the_new_one_whole() {
        let before = MemorySink::from_iter([(key("config"), Bytes::from("old"))]);
        let recording = record(async |sink| {
            sink.put(&key("config"), Bytes::from("new"), PutMode::Overwrite).await.unwrap();
        });
        let seen = outcomes(&recording, &before, recording.ticks(), Ending::PowerLost, &key("config"));
        assert_eq!(seen, BTreeSet::from([Some(Bytes::from("old")), Some(Bytes::from("new"))]));
    }

    #[test]
    fn a_delete_that_was_not_synced_may_not_have_happened() {
        let before = MemorySink::from_iter([(key("locks/a"), Bytes::from("lock"))]);
        let recording = record(async |sink| sink.delete(&key("locks/a")).await.unwrap());
        let seen = outcomes(&recording, &before, recording.ticks(), Ending::PowerLost, &key("locks/a"));
        assert_eq!(seen, BTreeSet::from([None, Some(Bytes::from("lock"))]));
        assert_eq!(
            outcomes(&recording, &before, recording.ticks(), Ending::Killed, &key("locks/a")),
            BTreeSet::from([None])
        );
    }

    #[test]
    fn a_call_that_was_running_is_done_or_not_done_after_a_kill() {
        let recording = record(async |sink| {
            sink.put(&key("data/a"), Bytes::from("aaaa"), PutMode::Bulk(Placement::Cold))
                .now_or_never()
                .unwrap()
                .unwrap();
        });
        let seen = outcomes(&recording, &MemorySink::new(), 1, Ending::Killed, &key("data/a"));
        assert_eq!(seen, BTreeSet::from([None, Some(Bytes::from("aaaa"))]));
    }

    #[test]
    fn a_failed_call_may_have_worked_but_does_not_undo_a_later_one() {
        let before = MemorySink::from_iter([(key("index/a"), Bytes::from("old"))]);
        let store: Arc<dyn Sink> = Arc::new(before.fork());
        let faulty = FaultySink::new(store).on_nth(0, Fault::DoneButFailed(SinkErrorKind::Unavailable));
        let sink = RecordingSink::new(Arc::new(faulty));
        block_on(sink.delete(&key("index/a"))).unwrap_err();
        let recording = sink.recording();
        let seen = outcomes(&recording, &before, recording.ticks(), Ending::Killed, &key("index/a"));
        assert_eq!(seen, BTreeSet::from([None, Some(Bytes::from("old"))]));

        block_on(sink.put(&key("index/a"), Bytes::from("new"), PutMode::Overwrite)).unwrap();
        let recording = sink.recording();
        let seen = outcomes(&recording, &before, recording.ticks(), Ending::Killed, &key("index/a"));
        assert_eq!(seen, BTreeSet::from([Some(Bytes::from("new"))]));
    }

    #[test]
    fn a_put_that_was_refused_changed_nothing() {
        let before = MemorySink::from_iter([(key("config"), Bytes::from("old"))]);
        let sink = RecordingSink::new(Arc::new(before.fork()));
        block_on(sink.put(&key("config"), Bytes::from("new"), PutMode::Create)).unwrap_err();
        let recording = sink.recording();
        let seen = outcomes(&recording, &before, recording.ticks(), Ending::PowerLost, &key("config"));
        assert_eq!(seen, BTreeSet::from([Some(Bytes::from("old"))]));
    }
}
