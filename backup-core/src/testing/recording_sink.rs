//! A sink that remembers every call.

#![deny(clippy::missing_trait_methods)]

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::{Call, Recording, Verb};
use crate::contracts::{ObjectInfo, ObjectKey, PutMode, Sink, SinkError, SinkErrorKind, SinkFuture, SinkStream};

/// Passes every call on to another sink and remembers it, with when it began, when it ended, and how.
///
/// "When" is a count of events: every beginning and every end is one tick. That is enough to tell which calls ran at
/// the same time, and [`RecordingSink::recording`] makes of it every state that the store could have been left in.
#[derive(Debug)]
pub struct RecordingSink {
    inner: Arc<dyn Sink>,
    journal: Mutex<Journal>,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Record {
    /// What was called. A `put` keeps a reference to its content.
    pub call: Call,
    /// The tick at which it began: for a listing, when it was first asked for an entry.
    pub began: u64,
    /// The tick at which it ended, or its future was dropped; `None` while it runs. A listing that is not read to its
    /// end does not end.
    pub ended: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was asked to.
    Done,
    /// It failed with this kind of error. The change that was asked for may have been made all the same.
    Failed(SinkErrorKind),
    /// It has not ended, or its future was dropped: what was asked for is done or not done.
    Unknown,
}

impl RecordingSink {
    /// Records what `inner` is asked to do.
    pub fn new(inner: Arc<dyn Sink>) -> Self {
        Self { inner, journal: Mutex::default() }
    }

    /// All calls so far, in the order in which they began.
    pub fn records(&self) -> Vec<Record> {
        self.journal().records.clone()
    }

    /// The calls so far, as material to replay.
    pub fn recording(&self) -> Recording {
        let journal = self.journal();
        Recording::new(journal.records.clone(), journal.ticks)
    }

    /// How many calls of `verb` there were, of any outcome, that concern `folder` or something below it: with the
    /// empty folder, all. A listing concerns the folder that it lists.
    pub fn count(&self, verb: Verb, folder: &str) -> usize {
        self.journal()
            .records
            .iter()
            .filter(|record| record.call.verb() == verb && record.call.is_below(folder))
            .count()
    }

    /// Forgets all calls so far: what follows is counted from zero. Calls that are running are forgotten too.
    pub fn clear(&self) {
        let mut journal = self.journal();
        journal.forgotten += journal.records.len();
        journal.records.clear();
        journal.ticks = 0;
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn record<T>(&self, call: Call, work: SinkFuture<'_, T>) -> Result<T, SinkError> {
        let mut ending = RecordEnd { sink: self, number: self.journal().begin(call), outcome: Outcome::Unknown };
        let result = work.await;
        ending.outcome = Outcome::of(result.as_ref().err());
        result
    }
}

impl Outcome {
    fn of(error: Option<&SinkError>) -> Self {
        error.map_or(Self::Done, |error| Self::Failed(error.kind))
    }
}

/// Records the end of a call when it goes: also when it goes because the call's future was dropped.
struct RecordEnd<'a> {
    sink: &'a RecordingSink,
    number: usize,
    outcome: Outcome,
}

impl Drop for RecordEnd<'_> {
    fn drop(&mut self) {
        self.sink.journal().end(self.number, self.outcome);
    }
}

#[derive(Debug, Default)]
struct Journal {
    records: Vec<Record>,
    /// How many records were cleared: numbers given out before stay unambiguous.
    forgotten: usize,
    ticks: u64,
}

impl Journal {
    fn begin(&mut self, call: Call) -> usize {
        let began = self.tick();
        self.records.push(Record { call, began, ended: None, outcome: Outcome::Unknown });
        self.forgotten + self.records.len() - 1
    }

    fn end(&mut self, number: usize, outcome: Outcome) {
        let Some(index) = number.checked_sub(self.forgotten) else { return };
        let ended = self.tick();
        let record = &mut self.records[index];
        record.ended = Some(ended);
        record.outcome = outcome;
    }

    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }
}

impl Sink for RecordingSink {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()> {
        let call = Call::Put { key: key.clone(), bytes: bytes.clone(), mode };
        Box::pin(self.record(call, self.inner.put(key, bytes, mode)))
    }

    fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes> {
        let call = Call::Get { key: key.clone(), range: range.clone() };
        Box::pin(self.record(call, self.inner.get(key, range)))
    }

    fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo> {
        Box::pin(self.record(Call::Stat { key: key.clone() }, self.inner.stat(key)))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        stream::once(async move {
            let number = self.journal().begin(Call::List { prefix: prefix.to_owned() });
            let ending = stream::once(async move {
                self.journal().end(number, Outcome::Done);
                Ok(None)
            });
            let entries = self.inner.list(prefix);
            let entries = entries.inspect_err(move |error| self.journal().end(number, Outcome::of(Some(error))));
            Ok(entries.map_ok(Some).chain(ending).try_filter_map(|entry| future::ready(Ok(entry))))
        })
        .try_flatten()
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(self.record(Call::Delete { key: key.clone() }, self.inner.delete(key)))
    }

    fn sync(&self) -> SinkFuture<'_, ()> {
        Box::pin(self.record(Call::Sync, self.inner.sync()))
    }

    fn parallelism(&self) -> usize {
        self.inner.parallelism()
    }

    fn listing_lag(&self) -> Duration {
        self.inner.listing_lag()
    }

    fn bring_near<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        self.inner.bring_near(key)
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::testing::{MemorySink, block_on, sink_suite};

    #[test]
    fn the_recording_sink_keeps_the_contract() {
        sink_suite(|| Arc::new(RecordingSink::new(Arc::new(MemorySink::new()))));
    }

    #[test]
    fn calls_are_counted_by_verb_and_folder() {
        let sink = RecordingSink::new(Arc::new(MemorySink::new()));
        let key = ObjectKey::new("index/a");
        block_on(async {
            sink.put(&key, Bytes::from("x"), PutMode::Create).await.unwrap();
            sink.put(&key, Bytes::from("x"), PutMode::Create).await.unwrap_err();
            sink.list("index").try_collect::<Vec<_>>().await.unwrap();
            sink.list("in").try_collect::<Vec<_>>().await.unwrap();
            drop(sink.list("index"));
        });
        assert_eq!(sink.count(Verb::Put, ""), 2);
        assert_eq!(sink.count(Verb::Put, "index"), 2);
        assert_eq!(sink.count(Verb::Put, "ind"), 0);
        assert_eq!(sink.count(Verb::List, "index"), 1, "a listing that nobody asked for an entry did not happen");
        let outcomes: Vec<_> = sink.records().iter().map(|record| record.outcome).collect();
        use Outcome::{Done, Failed};
        assert_eq!(outcomes, [Done, Failed(SinkErrorKind::AlreadyExists), Done, Done]);
        sink.clear();
        assert_eq!(sink.count(Verb::Put, ""), 0);
    }
}
