//! Your own sink: another kind of place to keep repositories in.
//!
//! Here it is a part of another sink, below a name: several repositories then share one bucket and one account, and
//! none sees the other's objects.
#![expect(clippy::print_stdout, reason = "an example shows what it did")]
// A method that is added to the contract later must be decided on here, not inherited in silence.
#![deny(clippy::missing_trait_methods)]

use std::error::Error;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::contracts::{ObjectInfo, ObjectKey, PutMode, Sink, SinkFuture, SinkStream};
use backup_core::observe::Silent;
use backup_core::pipeline::{BackupOptions, RestoreOptions, backup, restore};
use backup_core::repository::{CreateOptions, Identity, Passphrase, Repository, SnapshotQuery};
use backup_core::testing::{MemorySink, MemoryTarget, MemoryTree, sink_suite};
use bytes::Bytes;
use futures::stream::{self, StreamExt};

/// The part of a sink whose keys begin with a name.
#[derive(Debug)]
struct Part {
    whole: Arc<dyn Sink>,
    name: &'static str,
}

impl Part {
    /// The key by which the whole knows an object.
    fn outer(&self, key: &ObjectKey) -> ObjectKey {
        ObjectKey::new(format!("{}/{key}", self.name))
    }

    /// The key by which this part knows an object of the whole.
    fn inner(&self, key: &ObjectKey) -> Option<ObjectKey> {
        let inner = key.as_str().strip_prefix(self.name)?.strip_prefix('/')?;
        Some(ObjectKey::new(inner.to_owned()))
    }
}

// Every method returns a boxed future, so that a program can choose its sink while it runs. Errors are passed on as
// they are: their kind is what the engine acts on.
impl Sink for Part {
    fn location(&self) -> String {
        format!("{}/{}", self.whole.location(), self.name)
    }

    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()> {
        Box::pin(async move { self.whole.put(&self.outer(key), bytes, mode).await })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes> {
        Box::pin(async move { self.whole.get(&self.outer(key), range).await })
    }

    fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo> {
        Box::pin(async move {
            let info = self.whole.stat(&self.outer(key)).await?;
            Ok(ObjectInfo { key: key.clone(), ..info })
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        let listing = async move {
            // The empty prefix means all, and has no slash to be put before it.
            let outer =
                [self.name, prefix].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/");
            // The whole's listing borrows this text, so it is read to its end here.
            self.whole.list(&outer).collect::<Vec<_>>().await
        };
        let renamed = stream::once(listing).flat_map(stream::iter).filter_map(move |info| async move {
            match info {
                Ok(info) => self.inner(&info.key).map(|key| Ok(ObjectInfo { key, ..info })),
                Err(error) => Some(Err(error)),
            }
        });
        renamed.boxed()
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(async move { self.whole.delete(&self.outer(key)).await })
    }

    fn sync(&self) -> SinkFuture<'_, ()> {
        self.whole.sync()
    }

    fn parallelism(&self) -> usize {
        self.whole.parallelism()
    }

    fn listing_lag(&self) -> Duration {
        self.whole.listing_lag()
    }

    fn bring_near<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(async move { self.whole.bring_near(&self.outer(key)).await })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // First question: is the contract kept? The suite asks for an empty store many times over, and puts objects of
    // all sizes into it from many tasks at once. It panics with the promise that is broken.
    sink_suite(|| Arc::new(Part { whole: Arc::new(MemorySink::new()), name: "shop" }));
    println!("the sink keeps its contract");

    // Then two repositories can share a store.
    let whole: Arc<dyn Sink> = Arc::new(MemorySink::new());
    for (name, text) in [("shop", "orders"), ("blog", "posts")] {
        let part = Arc::new(Part { whole: Arc::clone(&whole), name });
        let identity = Identity { hostname: name.into(), username: "me".into(), uid: 0, gid: 0, pid: 1 };
        let (passphrase, options) = (Passphrase::new(name), CreateOptions::default());
        let repository = Repository::create(part, &passphrase, &options, identity, Arc::new(SystemClock))?;
        let tree = MemoryTree::new().with_file("/data", text);
        backup(&repository, &mut tree.source(1024), &BackupOptions::default(), &Cancel::new(), &Silent)?;

        let (id, snapshot) = repository.find_snapshot("latest", &SnapshotQuery::default())?;
        let target = MemoryTarget::default();
        restore(&repository, &snapshot, &target, &RestoreOptions::default(), &Cancel::new(), &Silent)?;
        assert_eq!(target.tree(), tree);
        println!("{}: snapshot {id:.8} came back", repository.store().location());
    }
    Ok(())
}
