//! A sink that repeats a write that may succeed later, for a server that stumbles when many folders are made at once.

use std::ops::Range;
use std::sync::Arc;

use backup_core::contracts::{ObjectInfo, ObjectKey, PutMode, Sink, SinkErrorKind, SinkFuture, SinkStream};
use bytes::Bytes;

/// How often a write is tried.
const TRIES: usize = 5;

#[derive(Debug)]
pub(crate) struct Patient(pub(crate) Arc<dyn Sink>);

impl Sink for Patient {
    fn location(&self) -> String {
        self.0.location()
    }

    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()> {
        Box::pin(async move {
            for number in 1..TRIES {
                match self.0.put(key, bytes.clone(), mode).await {
                    Err(error) if error.kind == SinkErrorKind::Unavailable => {}
                    // The write before was carried out after all.
                    Err(error) if error.kind == SinkErrorKind::AlreadyExists && number > 1 => {
                        return if self.0.get(key, None).await? == bytes { Ok(()) } else { Err(error) };
                    }
                    result => return result,
                }
            }
            self.0.put(key, bytes, mode).await
        })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes> {
        self.0.get(key, range)
    }

    fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo> {
        self.0.stat(key)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        self.0.list(prefix)
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        self.0.delete(key)
    }

    fn sync(&self) -> SinkFuture<'_, ()> {
        self.0.sync()
    }
}
