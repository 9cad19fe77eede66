//! A sink that fails when it is told to.

#![deny(clippy::missing_trait_methods)]

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::Call;
use crate::contracts::{ObjectInfo, ObjectKey, PutMode, Sink, SinkError, SinkErrorKind, SinkFuture, SinkStream};

/// Passes calls on to another sink, except for the faults it was given.
///
/// Calls are numbered from 0 in the order in which they are made, whatever they are; a listing is made when it is
/// first asked for an entry. For each call the first fault that was added and applies is the one that happens. Without
/// faults the sink is transparent.
pub struct FaultySink {
    inner: Arc<dyn Sink>,
    rules: Vec<Rule>,
    state: Mutex<State>,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not carried out and fails.
    Failed(SinkErrorKind),
    /// It is carried out, and reported as failed. A listing gives all its entries before it fails.
    DoneButFailed(SinkErrorKind),
    /// A `get` answers with this bit of the content inverted, counted from the content's first byte and that byte's
    /// lowest bit, modulo the content's length. Other calls, and empty contents, are not touched.
    FlippedBit(u64),
    /// A `get` answers with no more than this many bytes of what was asked for, and no error. Other calls are not
    /// touched.
    CutShort(usize),
}

impl FaultySink {
    /// Passes every call on to `inner`.
    pub fn new(inner: Arc<dyn Sink>) -> Self {
        Self { inner, rules: Vec::new(), state: Mutex::default() }
    }

    /// `fault` happens to the call of this number.
    #[must_use]
    pub fn on_nth(self, number: u64, fault: Fault) -> Self {
        self.with_rule(move |at, _| at == number, fault)
    }

    /// `fault` happens to every call that `applies` to.
    #[must_use]
    pub fn when(self, applies: impl Fn(&Call) -> bool + Send + Sync + 'static, fault: Fault) -> Self {
        self.with_rule(move |_, call| applies(call), fault)
    }

    /// Every call from this number on fails as [`SinkErrorKind::Unavailable`], like a store that has gone away.
    #[must_use]
    pub fn dark_after(self, number: u64) -> Self {
        self.with_rule(move |at, _| at >= number, Fault::Failed(SinkErrorKind::Unavailable))
    }

    /// A `put` that would make the contents put through this sink more than `bytes` fails as
    /// [`SinkErrorKind::NoSpace`]. A smaller one may still fit. Deleting gives nothing back, and what failed counts,
    /// if it was carried out as far as this sink knows.
    #[must_use]
    pub fn full_after(self, bytes: u64) -> Self {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).space_left = Some(bytes);
        self
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).calls
    }

    fn with_rule(mut self, applies: impl Fn(u64, &Call) -> bool + Send + Sync + 'static, fault: Fault) -> Self {
        self.rules.push(Rule { applies: Box::new(applies), fault });
        self
    }

    /// Counts a call. `Err` when it is not to be carried out, else what is to be done to its answer.
    fn admit(&self, call: &Call) -> Result<Option<Fault>, SinkError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let number = state.calls;
        state.calls += 1;
        let fault = self.rules.iter().find(|rule| (rule.applies)(number, call)).map(|rule| rule.fault);
        if let Some(Fault::Failed(kind)) = fault {
            return Err(refusal(kind, call));
        }
        if let (Call::Put { bytes, .. }, Some(space_left)) = (call, &mut state.space_left) {
            let left = space_left.checked_sub(bytes.len() as u64);
            *space_left = left.ok_or_else(|| refusal(SinkErrorKind::NoSpace, call))?;
        }
        Ok(fault)
    }

    async fn pass<T>(&self, call: Call, work: SinkFuture<'_, T>) -> Result<T, SinkError> {
        let fault = self.admit(&call)?;
        let answer = work.await?;
        if let Some(Fault::DoneButFailed(kind)) = fault { Err(refusal(kind, &call)) } else { Ok(answer) }
    }
}

/// Whether a fault happens to the call of this number.
type Predicate = dyn Fn(u64, &Call) -> bool + Send + Sync;

struct Rule {
    applies: Box<Predicate>,
    fault: Fault,
}

#[derive(Debug, Default)]
struct State {
    calls: u64,
    space_left: Option<u64>,
}

impl Sink for FaultySink {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()> {
        let call = Call::Put { key: key.clone(), bytes: bytes.clone(), mode };
        Box::pin(self.pass(call, self.inner.put(key, bytes, mode)))
    }

    fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes> {
        let call = Call::Get { key: key.clone(), range: range.clone() };
        Box::pin(async move {
            let fault = self.admit(&call)?;
            let offset = range.as_ref().map_or(0, |range| range.start);
            let content = self.inner.get(key, range).await?;
            match fault {
                Some(Fault::DoneButFailed(kind)) => Err(refusal(kind, &call)),
                Some(Fault::CutShort(bytes)) => Ok(content.slice(..bytes.min(content.len()))),
                Some(Fault::FlippedBit(bit)) => {
                    let size = self.inner.stat(key).await?.bytes;
                    Ok(flip(content, offset, bit.checked_rem(size.saturating_mul(8)).unwrap_or(u64::MAX)))
                }
                Some(Fault::Failed(_)) | None => Ok(content),
            }
        })
    }

    fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo> {
        Box::pin(self.pass(Call::Stat { key: key.clone() }, self.inner.stat(key)))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        stream::once(async move {
            let call = Call::List { prefix: prefix.to_owned() };
            let ending = match self.admit(&call)? {
                Some(Fault::DoneButFailed(kind)) => stream::once(future::ready(Err(refusal(kind, &call)))).boxed(),
                _ => stream::empty().boxed(),
            };
            Ok(self.inner.list(prefix).chain(ending))
        })
        .try_flatten()
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(self.pass(Call::Delete { key: key.clone() }, self.inner.delete(key)))
    }

    fn sync(&self) -> SinkFuture<'_, ()> {
        Box::pin(self.pass(Call::Sync, self.inner.sync()))
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

impl fmt::Debug for FaultySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<_> = self.rules.iter().map(|rule| rule.fault).collect();
        let Self { inner, state, .. } = self;
        f.debug_struct("FaultySink").field("inner", inner).field("faults", &faults).field("state", state).finish()
    }
}

fn refusal(kind: SinkErrorKind, call: &Call) -> SinkError {
    SinkError::new(kind, call.subject()).caused_by("a fault that was asked for")
}

/// `content`, which begins at `offset` of its object, with the object's bit of this number inverted if it is part of it.
fn flip(content: Bytes, offset: u64, bit: u64) -> Bytes {
    let index = (bit / 8).checked_sub(offset).and_then(|index| usize::try_from(index).ok());
    match index {
        Some(index) if index < content.len() => {
            let mut bytes = content.to_vec();
            bytes[index] ^= 1 << (bit % 8);
            bytes.into()
        }
        _ => content,
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::testing::{MemorySink, Verb, block_on, sink_suite};

    fn key() -> ObjectKey {
        ObjectKey::new("data/ab/abc")
    }

    fn memory(content: &'static str) -> Arc<MemorySink> {
        Arc::new(MemorySink::from_iter([(key(), Bytes::from(content))]))
    }

    fn put(sink: &FaultySink, bytes: &'static str) -> Result<(), SinkErrorKind> {
        block_on(sink.put(&key(), Bytes::from(bytes), PutMode::Overwrite)).map_err(|error| error.kind)
    }

    #[test]
    fn the_faulty_sink_without_faults_keeps_the_contract() {
        sink_suite(|| Arc::new(FaultySink::new(Arc::new(MemorySink::new()))));
    }

    #[test]
    fn the_nth_call_fails_and_changes_nothing() {
        let store = memory("old");
        let sink = FaultySink::new(store.clone()).on_nth(1, Fault::Failed(SinkErrorKind::Other));
        assert_eq!(put(&sink, "one"), Ok(()));
        assert_eq!(put(&sink, "two"), Err(SinkErrorKind::Other));
        assert_eq!(store.content(&key()), Some(Bytes::from("one")));
        assert_eq!(put(&sink, "three"), Ok(()));
        assert_eq!(sink.calls(), 3);
    }

    #[test]
    fn a_call_can_be_carried_out_and_reported_as_failed() {
        let store = memory("old");
        let is_put = |call: &Call| call.verb() == Verb::Put;
        let sink = FaultySink::new(store.clone()).when(is_put, Fault::DoneButFailed(SinkErrorKind::Unavailable));
        assert_eq!(put(&sink, "new"), Err(SinkErrorKind::Unavailable));
        assert_eq!(store.content(&key()), Some(Bytes::from("new")));
    }

    #[test]
    fn a_listing_can_break_after_its_entries() {
        let is_list = |call: &Call| call.verb() == Verb::List;
        let sink = FaultySink::new(memory("x")).when(is_list, Fault::DoneButFailed(SinkErrorKind::Unavailable));
        let entries: Vec<_> = block_on(sink.list("data").map(|entry| entry.is_ok()).collect());
        assert_eq!(entries, [true, false]);
    }

    #[test]
    fn a_dark_store_never_answers_again() {
        let sink = FaultySink::new(memory("x")).dark_after(1);
        assert_eq!(put(&sink, "one"), Ok(()));
        assert_eq!(put(&sink, "two"), Err(SinkErrorKind::Unavailable));
        assert_eq!(block_on(sink.sync()).unwrap_err().kind, SinkErrorKind::Unavailable);
        assert!(block_on(sink.list("").try_collect::<Vec<_>>()).is_err());
    }

    #[test]
    fn a_full_store_takes_only_what_still_fits() {
        let store = memory("old");
        let sink = FaultySink::new(store.clone()).full_after(5);
        assert_eq!(put(&sink, "abcd"), Ok(()));
        assert_eq!(put(&sink, "ab"), Err(SinkErrorKind::NoSpace));
        assert_eq!(put(&sink, "a"), Ok(()));
        assert_eq!(put(&sink, "a"), Err(SinkErrorKind::NoSpace));
    }

    #[test]
    fn a_read_can_be_damaged_in_one_bit_of_the_object_or_cut_short() {
        let store = memory("abcd");
        let get = |fault, range| {
            let sink = FaultySink::new(store.clone()).when(|call| call.is_below("data"), fault);
            block_on(sink.get(&key(), range)).unwrap()
        };
        assert_eq!(get(Fault::FlippedBit(9), None), "a`cd");
        assert_eq!(get(Fault::FlippedBit(9), Some(1..3)), "`c");
        assert_eq!(get(Fault::FlippedBit(9), Some(2..4)), "cd");
        assert_eq!(get(Fault::FlippedBit(32 + 9), None), "a`cd");
        assert_eq!(get(Fault::CutShort(3), None), "abc");
        assert_eq!(get(Fault::CutShort(3), Some(3..4)), "d");
    }
}
