//! Copies on this machine of what is looked at often: indexes, snapshots, and the packs of trees that this machine wrote,
//! or reads more of than a stretch.
//!
//! What is always true:
//!
//! * Only objects whose name is the hash of their content are kept, and a copy is compared with its name before it is
//!   believed. A damaged one is thrown away and the store is asked.
//! * An object is put into the store first and kept here afterwards; it is deleted here first. What a complete listing of
//!   the store does not name is thrown away.
//! * No failure of this folder fails an operation, and the folder may be deleted at any time. Any number of processes use
//!   it at once: a copy appears whole or not at all.
//!
//! The engine sees the store's content through it, so it is not for verbs that verify the store itself. The binary says
//! where the folder is. A crash leaves at most a temporary file, which is thrown away like any old copy.

#![deny(clippy::missing_trait_methods)]

mod folder;

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backup_core::contracts::{
    ObjectInfo, ObjectKey, Placement, PutMode, Sink, SinkError, SinkErrorKind, SinkFuture, SinkStream,
};
use backup_core::model::Id;
use backup_core::repository::layout::{DATA, INDEX, SNAPSHOTS};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use folder::Folder;

/// What copies take at most by default: the indexes of a few million files, and the folders of some hundred thousand.
pub const CACHE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// Answers from a folder of this machine what it can.
#[derive(Debug)]
pub struct CacheSink {
    inner: Arc<dyn Sink>,
    folder: Arc<Folder>,
    /// A copy could not be written: whole packs are no longer fetched for nothing.
    takes_no_more: AtomicBool,
}

impl CacheSink {
    /// A layer around `inner` that keeps copies below `root`, which may hold those of any number of stores and is made if
    /// it is missing. All together take no more than about `bytes_max`; the longest unused go first.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made, belongs to somebody else, or can be written by others.
    pub fn open(inner: Arc<dyn Sink>, root: &Path, bytes_max: u64) -> std::io::Result<Self> {
        let folder = Folder::open(root, &inner.location(), bytes_max)?;
        Ok(Self { inner, folder: Arc::new(folder), takes_no_more: AtomicBool::new(false) })
    }

    /// Does `work` with the folder where it may block. A panic in it is as good as nothing found.
    async fn with_folder<T: Send + Default + 'static>(&self, work: impl FnOnce(&Folder) -> T + Send + 'static) -> T {
        let folder = Arc::clone(&self.folder);
        tokio::task::spawn_blocking(move || work(&folder)).await.unwrap_or_default()
    }

    async fn keep(&self, object: Object, content: Bytes) -> bool {
        self.with_folder(move |folder| folder.keep(object, &content)).await
    }

    async fn bring_one_near(&self, key: &ObjectKey) -> Result<(), SinkError> {
        let Some(object) = Object::of(key) else { return Ok(()) };
        if self.takes_no_more.load(Ordering::Relaxed) || self.with_folder(move |folder| folder.has(object)).await {
            return Ok(());
        }
        let content = self.inner.get(key, None).await?;
        // What is not what its name says is for the one who reads it to complain about.
        let is_kept =
            self.with_folder(move |folder| Id::of(&content) != object.id || folder.keep(object, &content)).await;
        self.takes_no_more.fetch_or(!is_kept, Ordering::Relaxed);
        Ok(())
    }

    async fn get_or_keep(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes, SinkError> {
        let Some(object) = Object::of(key) else { return self.inner.get(key, range).await };
        let wanted = range.clone();
        if let Some(found) = self.with_folder(move |folder| folder.read(object, wanted)).await {
            return found.ok_or_else(|| SinkError::new(SinkErrorKind::Truncated, key.as_str()));
        }
        let is_whole = range.is_none();
        let content = self.inner.get(key, range).await?;
        // Packs are seldom read whole, and then by those who read them once.
        if is_whole && object.kind != DATA {
            self.keep(object, content.clone()).await;
        }
        Ok(content)
    }
}

/// An object that may be kept: its folder and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Object {
    kind: &'static str,
    id: Id,
}

impl Object {
    fn of(key: &ObjectKey) -> Option<Self> {
        let (folder, _) = key.as_str().split_once('/')?;
        let kind = kind_of(folder)?;
        Some(Self { kind, id: key.name().parse().ok()? })
    }
}

/// The folders whose objects may be kept.
fn kind_of(folder: &str) -> Option<&'static str> {
    [INDEX, SNAPSHOTS, DATA].into_iter().find(|kind| *kind == folder)
}

impl Sink for CacheSink {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()> {
        Box::pin(async move {
            self.inner.put(key, bytes.clone(), mode).await?;
            let is_wanted = |object: &Object| object.kind != DATA || mode == PutMode::Bulk(Placement::Hot);
            if let Some(object) = Object::of(key).filter(is_wanted) {
                self.keep(object, bytes).await;
            }
            Ok(())
        })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes> {
        Box::pin(self.get_or_keep(key, range))
    }

    fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo> {
        self.inner.stat(key)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        let Some(kind) = kind_of(prefix) else { return self.inner.list(prefix) };
        stream::once(async move {
            // Looked at first: what others keep from now on is newer than the listing.
            let mut unlisted: HashSet<Id> = self.with_folder(move |folder| folder.ids(kind)).await;
            let entries = self.inner.list(prefix).map_ok(Some).chain(stream::once(async { Ok(None) }));
            entries.try_filter_map(move |entry| {
                let gone = match &entry {
                    Some(info) => {
                        if let Some(object) = Object::of(&info.key) {
                            unlisted.remove(&object.id);
                        }
                        HashSet::new()
                    }
                    None => std::mem::take(&mut unlisted),
                };
                async move {
                    if !gone.is_empty() {
                        self.with_folder(move |folder| folder.drop_all(kind, gone)).await;
                    }
                    Ok(entry)
                }
            })
        })
        .flatten()
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(async move {
            if let Some(object) = Object::of(key) {
                self.with_folder(move |folder| folder.drop_all(object.kind, [object.id])).await;
            }
            self.inner.delete(key).await
        })
    }

    fn sync(&self) -> SinkFuture<'_, ()> {
        self.inner.sync()
    }

    fn parallelism(&self) -> usize {
        self.inner.parallelism()
    }

    fn listing_lag(&self) -> Duration {
        self.inner.listing_lag()
    }

    fn bring_near<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(self.bring_one_near(key))
    }
}

#[cfg(test)]
mod tests;
