//! A sink that keeps its objects in memory.

#![deny(clippy::missing_trait_methods)]

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future;
use futures::stream::{self, StreamExt};

use crate::contracts::{ObjectInfo, ObjectKey, PutMode, Sink, SinkError, SinkErrorKind, SinkFuture, SinkStream};

/// Keeps objects in memory for as long as it lives.
///
/// What is put is durable at once, as far as memory is; [`RecordingSink`](super::RecordingSink) knows what a power
/// failure would have done.
#[derive(Default)]
pub struct MemorySink(Mutex<BTreeMap<ObjectKey, Bytes>>);

impl MemorySink {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A second store with the same objects, independent of this one from now on. Contents are shared, not copied.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::from_iter(self.objects())
    }

    /// All objects.
    pub fn objects(&self) -> BTreeMap<ObjectKey, Bytes> {
        self.lock().clone()
    }

    /// The content of an object.
    pub fn content(&self, key: &ObjectKey) -> Option<Bytes> {
        self.lock().get(key).cloned()
    }

    /// Puts an object in place behind the back of whoever uses the sink: the way to damage a store. Returns what was
    /// there before.
    pub fn replace(&self, key: ObjectKey, content: impl Into<Bytes>) -> Option<Bytes> {
        self.lock().insert(key, content.into())
    }

    /// Takes an object away behind the back of whoever uses the sink. Returns what was there before.
    pub fn remove(&self, key: &ObjectKey) -> Option<Bytes> {
        self.lock().remove(key)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes, SinkError> {
        let content = self.content(key).ok_or_else(|| not_found(key))?;
        let Some(range) = range else { return Ok(content) };
        let truncated = || SinkError::new(SinkErrorKind::Truncated, key.as_str());
        let end = usize::try_from(range.end).map_err(|_| truncated())?;
        // A range that ends before it begins names no bytes.
        let start = usize::try_from(range.start).map_err(|_| truncated())?.min(end);
        if end > content.len() { Err(truncated()) } else { Ok(content.slice(start..end)) }
    }
}

impl Sink for MemorySink {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()> {
        Box::pin(async move {
            let mut objects = self.lock();
            if mode == PutMode::Create && objects.contains_key(key) {
                return Err(SinkError::new(SinkErrorKind::AlreadyExists, key.as_str()));
            }
            objects.insert(key.clone(), bytes);
            Ok(())
        })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes> {
        Box::pin(async move { self.read(key, range) })
    }

    fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo> {
        Box::pin(async move {
            let content = self.content(key).ok_or_else(|| not_found(key))?;
            Ok(ObjectInfo { key: key.clone(), bytes: content.len() as u64 })
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        let below = |key: &ObjectKey| {
            prefix.is_empty() || key.as_str().strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
        };
        let found: Vec<_> = self
            .lock()
            .iter()
            .filter(|(key, _)| below(key))
            .map(|(key, content)| Ok(ObjectInfo { key: key.clone(), bytes: content.len() as u64 }))
            .collect();
        stream::iter(found).boxed()
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(async move {
            self.remove(key);
            Ok(())
        })
    }

    fn sync(&self) -> SinkFuture<'_, ()> {
        Box::pin(future::ready(Ok(())))
    }

    fn parallelism(&self) -> usize {
        2
    }

    fn listing_lag(&self) -> Duration {
        Duration::ZERO
    }

    fn bring_near<'a>(&'a self, _key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(future::ready(Ok(())))
    }
}

impl FromIterator<(ObjectKey, Bytes)> for MemorySink {
    fn from_iter<I: IntoIterator<Item = (ObjectKey, Bytes)>>(objects: I) -> Self {
        Self(Mutex::new(objects.into_iter().collect()))
    }
}

impl fmt::Debug for MemorySink {
    /// Keys and sizes: contents would fill the screen.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.lock().iter().map(|(key, content)| (key, content.len()))).finish()
    }
}

fn not_found(key: &ObjectKey) -> SinkError {
    SinkError::new(SinkErrorKind::NotFound, key.as_str())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::sink_suite;

    #[test]
    fn the_memory_sink_keeps_the_contract() {
        sink_suite(|| Arc::new(MemorySink::new()));
    }

    #[test]
    fn a_fork_does_not_follow_its_origin() {
        let key = ObjectKey::new("snapshots/a");
        let origin = MemorySink::new();
        origin.replace(key.clone(), "one");
        let fork = origin.fork();
        origin.replace(key.clone(), "two");
        assert_eq!(fork.content(&key), Some(Bytes::from("one")));
    }
}
