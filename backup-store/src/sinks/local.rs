//! A folder of this machine, or one that is mounted here.
//!
//! What is always true:
//!
//! * An object is written under a temporary name in its own folder and gets its name in one step. A writer that is
//!   killed leaves at most a temporary file, which no listing shows and a later run removes.
//! * An object that replaces another is on the disk before it takes the other's name.
//! * What was put is pushed towards the disk at once and waited for by `sync`, which asks for every file and folder
//!   that was touched. At most [`unsynced::OBJECTS_MAX`] objects wait at a time.
//! * A sink that could not make an object durable takes that object away, and neither takes nor promises anything
//!   from then on.
//!
//! Why it is so, and what a power failure leaves at each point, stands in `docs/decisions/durability.md`.

mod failure;
mod folder;
mod gate;
mod listing;
mod naming;
mod temporary;
mod unsynced;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::panic;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backup_core::contracts::{ObjectInfo, ObjectKey, PutMode, Sink, SinkError, SinkErrorKind, SinkFuture, SinkStream};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use folder::Folder;
use gate::Gate;
use listing::Listing;

/// Keeps objects as files below a folder, as restic does: an object's key is its path.
///
/// Any number of processes, on any number of machines, may use one folder at a time. The folder may be a symlink, and
/// so may the folders directly in it; it stays the same folder for the life of the sink, whatever is renamed or
/// mounted over it.
pub struct LocalSink {
    folder: Arc<Folder>,
}

impl LocalSink {
    /// Opens the folder at `path`. Blocks for as long as the file system needs.
    ///
    /// # Errors
    ///
    /// [`SinkErrorKind::NotFound`] when there is none; [`SinkErrorKind::Other`] when it is no folder.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SinkError> {
        Ok(Self { folder: Arc::new(Folder::open(path.as_ref())?) })
    }

    /// Makes the folder at `path`, and those above it, with access for their owner alone, and opens it. A folder that
    /// is there already, such as a disk's mount point, is opened as it is. Blocks for as long as the file system needs.
    ///
    /// # Errors
    ///
    /// [`SinkErrorKind::AlreadyExists`] when something else is there; what the file system says when it cannot be made.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, SinkError> {
        Ok(Self { folder: Arc::new(Folder::create(path.as_ref())?) })
    }

    /// Does `work` where it may block. Once the returned future is dropped, `work` passes its gate no more.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Folder>, &Gate) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        let gate = Gate::default();
        let _closed_when_dropped = gate.close_on_drop();
        let folder = Arc::clone(&self.folder);
        match tokio::task::spawn_blocking(move || work(&folder, &gate)).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(payload) => panic::resume_unwind(payload),
                Err(cancelled) => Err(SinkError::new(SinkErrorKind::Unavailable, self.location()).caused_by(cancelled)),
            },
        }
    }
}

impl Sink for LocalSink {
    fn location(&self) -> String {
        self.folder.location()
    }

    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()> {
        let key = key.clone();
        Box::pin(self.blocking(move |folder, gate| folder.put(&key, &bytes, mode, gate)))
    }

    fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes> {
        let key = key.clone();
        Box::pin(self.blocking(move |folder, _| folder.get(&key, range)))
    }

    fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo> {
        let key = key.clone();
        Box::pin(self.blocking(move |folder, _| folder.stat(&key)))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        let listing = Listing::new(Arc::clone(&self.folder), prefix);
        stream::try_unfold(listing, move |mut listing| {
            self.blocking(move |_, _| {
                let page = listing.next_page()?;
                Ok(page.map(|page| (stream::iter(page).map(Ok), listing)))
            })
        })
        .try_flatten()
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        let key = key.clone();
        Box::pin(self.blocking(move |folder, gate| folder.delete(&key, gate)))
    }

    fn sync(&self) -> SinkFuture<'_, ()> {
        Box::pin(self.blocking(|folder, _| folder.sync()))
    }

    fn parallelism(&self) -> usize {
        2
    }

    fn listing_lag(&self) -> Duration {
        self.folder.listing_lag()
    }
}

impl fmt::Debug for LocalSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalSink").field(&self.location()).finish()
    }
}
