//! Where the two colours meet: blocking verbs above, asynchronous sinks below, asynchronous callers beside.
//!
//! Sinks run on a small tokio runtime that belongs to the repository. A verb's thread hands a future to it and waits
//! on an ordinary channel, which works on any thread: inside a caller's runtime, inside a current-thread one (which
//! then stands still meanwhile), and without any. Callers that must not stand still use [`run`].

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::channel::oneshot;
use futures::{StreamExt, stream};
use tokio::runtime::{Builder, Runtime};

use crate::cancel::Cancel;
use crate::contracts::{ObjectInfo, ObjectKey, PutMode, Sink, SinkError};
use crate::limits::{FORESEEN_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX, RUNTIME_BLOCKING_THREADS_MAX};
use crate::{Error, ErrorKind, Result};

/// Runs a blocking verb on a thread of its own and gives its result as a future, for callers on any runtime.
///
/// Dropping the future asks the verb to stop; it then ends at its next safe point, on its own thread.
///
/// ```
/// # async fn caller() -> backup_core::Result<()> {
/// let answer = backup_core::bridge::run(|cancel| {
///     cancel.check()?;
///     Ok(42)
/// })
/// .await?;
/// # assert_eq!(answer, 42);
/// # Ok(())
/// # }
/// ```
pub fn run<T: Send + 'static>(verb: impl FnOnce(&Cancel) -> Result<T> + Send + 'static) -> Run<T> {
    let cancel = Cancel::new();
    let (sender, receiver) = oneshot::channel();
    let token = cancel.clone();
    let spawned = std::thread::Builder::new().name("backup-verb".to_owned()).spawn(move || {
        // Nobody waits any more when the future was dropped.
        let _ = sender.send(verb(&token));
    });
    Run { cancel, receiver, refused: spawned.err() }
}

/// A verb that runs on its own thread; see [`run`].
#[derive(Debug)]
pub struct Run<T> {
    cancel: Cancel,
    receiver: oneshot::Receiver<Result<T>>,
    refused: Option<std::io::Error>,
}

impl<T> Run<T> {
    /// The token that stops the verb without dropping the future, so that its last word is still heard.
    pub fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }
}

impl<T> Future for Run<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        if let Some(error) = self.refused.take() {
            return Poll::Ready(Err(
                Error::new(ErrorKind::Broken("no thread could be started"), "run").caused_by(error)
            ));
        }
        Pin::new(&mut self.receiver)
            .poll(context)
            .map(|result| result.unwrap_or_else(|_| Err(Error::new(ErrorKind::Broken("the verb panicked"), "run"))))
    }
}

impl<T> Drop for Run<T> {
    fn drop(&mut self) {
        self.cancel.request();
    }
}

/// A sink as blocking code sees it. Clones share the sink and its runtime.
#[derive(Clone)]
pub struct Store {
    sink: Arc<dyn Sink>,
    runtime: Arc<OwnRuntime>,
    foreseen: Arc<Mutex<Foreseen>>,
}

/// A listing that is under way.
pub(crate) type PendingListing = Pending<Result<Vec<ObjectInfo>, SinkError>>;
type PendingObject = Pending<Result<Bytes, SinkError>>;

/// What was begun before anybody asked for it. Each is given once, to the first who asks.
#[derive(Default)]
struct Foreseen {
    listings: HashMap<&'static str, PendingListing>,
    objects: HashMap<ObjectKey, PendingObject>,
}

/// How much of a folder is foreseen; see [`Store::foresee`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foresight {
    /// The listing.
    Names,
    /// The listing, and what the objects hold.
    Contents,
}

/// A request that is under way.
#[derive(Debug)]
pub struct Pending<T>(mpsc::Receiver<T>);

/// Requests for many objects that are under way; see [`Store::start_get_many`].
#[derive(Debug)]
pub struct PendingMany {
    /// What was begun before, and at which places.
    foreseen: Vec<(usize, PendingObject)>,
    /// All others, in their order.
    others: Pending<Vec<Result<Bytes, SinkError>>>,
    /// How many those are.
    count: usize,
}

impl PendingMany {
    /// Waits for all answers, which come in the order in which they were asked for.
    pub fn wait(self) -> Vec<Result<Bytes>> {
        let panicked = || Err(Error::new(ErrorKind::Broken("a request to the store panicked"), "store"));
        let mut answers: Vec<_> = match self.others.join() {
            Some(answers) => answers.into_iter().map(|answer| answer.map_err(Error::from)).collect(),
            None => (0..self.count).map(|_| panicked()).collect(),
        };
        // Their places rise, so each is put where it belongs.
        for (at, pending) in self.foreseen {
            answers.insert(at.min(answers.len()), pending.wait());
        }
        answers
    }
}

struct OwnRuntime(Option<Runtime>);

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        // An ordinary drop would wait, and panics when it happens inside another runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl<T> Pending<T> {
    /// Waits for the end, but not past `instant`.
    pub(crate) fn wait_until(self, instant: std::time::Instant) -> Option<T> {
        self.0.recv_timeout(instant.saturating_duration_since(std::time::Instant::now())).ok()
    }

    /// Waits for the end, whatever comes of it.
    pub fn join(self) -> Option<T> {
        self.0.recv().ok()
    }
}

impl<T> Pending<Result<T, SinkError>> {
    /// Waits for the answer.
    pub fn wait(self) -> Result<T> {
        match self.0.recv() {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Error::new(ErrorKind::Broken("a request to the store panicked"), "store")),
        }
    }
}

impl Store {
    /// A store over `sink`, with a runtime of its own.
    pub fn new(sink: Arc<dyn Sink>) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(RUNTIME_BLOCKING_THREADS_MAX)
            .thread_name("backup-io")
            .enable_all()
            .build()
            .map_err(|error| Error::new(ErrorKind::Broken("no runtime could be started"), "store").caused_by(error))?;
        Ok(Self { sink, runtime: Arc::new(OwnRuntime(Some(runtime))), foreseen: Arc::default() })
    }

    /// Where the sink is, for people.
    pub fn location(&self) -> String {
        self.sink.location()
    }

    /// The sink itself.
    pub fn sink(&self) -> &Arc<dyn Sink> {
        &self.sink
    }

    /// Starts a future on the store's runtime.
    pub fn start<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Pending<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        if let Some(runtime) = &self.runtime.0 {
            runtime.spawn(async move {
                // Nobody waits any more when the verb has failed meanwhile.
                let _ = sender.send(future.await);
            });
        }
        Pending(receiver)
    }

    /// Begins to list the objects below `prefix`, and to read them, because they will be asked for soon. The next listing
    /// of `prefix` then gives what was found from now on; who needs one that is newer must not have this called before.
    ///
    /// Of contents no more is read than [`FORESEEN_BYTES_MAX`]; what is not is read when it is asked for.
    pub fn foresee(&self, prefix: &'static str, foresight: Foresight) {
        let (sink, foreseen) = (Arc::clone(&self.sink), Arc::clone(&self.foreseen));
        let (sender, receiver) = mpsc::sync_channel(1);
        guard(&self.foreseen).listings.insert(prefix, Pending(receiver));
        drop(self.start(async move {
            let listed = list_sorted(&*sink, prefix).await;
            let mut wanted = Vec::new();
            if let (Ok(listed), Foresight::Contents) = (&listed, foresight) {
                let mut foreseen = guard(&foreseen);
                let mut bytes = 0;
                for info in listed {
                    bytes += info.bytes;
                    if bytes > FORESEEN_BYTES_MAX {
                        break;
                    }
                    let (sender, receiver) = mpsc::sync_channel(1);
                    foreseen.objects.insert(info.key.clone(), Pending(receiver));
                    wanted.push((info.key.clone(), sender));
                }
            }
            // Nobody waits any more when the verb has ended.
            let _ = sender.send(listed);
            let reads = wanted.into_iter().map(|(key, sender)| {
                let sink = Arc::clone(&sink);
                async move {
                    let _ = sender.send(sink.get(&key, None).await);
                }
            });
            stream::iter(reads).buffer_unordered(REQUESTS_IN_FLIGHT_MAX).collect::<()>().await;
        }));
    }

    /// Reads an object, or a part of it.
    pub fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes> {
        self.start_get(key, range).wait()
    }

    /// Begins to read an object, or a part of it.
    pub fn start_get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Pending<Result<Bytes, SinkError>> {
        if range.is_none()
            && let Some(foreseen) = guard(&self.foreseen).objects.remove(key)
        {
            return foreseen;
        }
        let (sink, key) = (Arc::clone(&self.sink), key.clone());
        self.start(async move { sink.get(&key, range).await })
    }

    /// Begins to read many objects, `at_once` of them at a time: one answer for each, in their order.
    pub fn start_get_many(&self, keys: Vec<ObjectKey>, at_once: usize) -> PendingMany {
        let (mut foreseen, mut others) = (Vec::new(), Vec::new());
        {
            let mut known = guard(&self.foreseen);
            for (at, key) in keys.into_iter().enumerate() {
                match known.objects.remove(&key) {
                    Some(pending) => foreseen.push((at, pending)),
                    None => others.push(key),
                }
            }
        }
        let (sink, count) = (Arc::clone(&self.sink), others.len());
        let read = self.start(async move {
            let mut reads = Vec::with_capacity(others.len());
            reads.extend(others.iter().map(|key| sink.get(key, None)));
            stream::iter(reads).buffered(at_once.max(1)).collect().await
        });
        PendingMany { foreseen, others: read, count }
    }

    /// Stores an object.
    pub fn put(&self, key: &ObjectKey, bytes: Bytes, mode: PutMode) -> Result<()> {
        self.start_put(key, bytes, mode).wait()
    }

    /// Begins to store an object.
    pub fn start_put(&self, key: &ObjectKey, bytes: Bytes, mode: PutMode) -> Pending<Result<(), SinkError>> {
        let (sink, key) = (Arc::clone(&self.sink), key.clone());
        self.start(async move { sink.put(&key, bytes, mode).await })
    }

    /// How many requests it is worth having under way at once.
    pub fn parallelism(&self) -> usize {
        self.sink.parallelism()
    }

    /// See [`Sink::bring_near`].
    pub fn bring_near(&self, key: &ObjectKey) -> Result<()> {
        let (sink, key) = (Arc::clone(&self.sink), key.clone());
        self.start(async move { sink.bring_near(&key).await }).wait()
    }

    /// Tells an object's size.
    pub fn stat(&self, key: &ObjectKey) -> Result<ObjectInfo> {
        let (sink, key) = (Arc::clone(&self.sink), key.clone());
        self.start(async move { sink.stat(&key).await }).wait()
    }

    /// Lists the objects below `prefix`, sorted by key.
    pub fn list(&self, prefix: &'static str) -> Result<Vec<ObjectInfo>> {
        self.start_list(prefix).wait()
    }

    /// Begins to list the objects below `prefix`.
    pub fn start_list(&self, prefix: &'static str) -> Pending<Result<Vec<ObjectInfo>, SinkError>> {
        if let Some(foreseen) = guard(&self.foreseen).listings.remove(prefix) {
            return foreseen;
        }
        let sink = Arc::clone(&self.sink);
        self.start(async move { list_sorted(&*sink, prefix).await })
    }

    /// Deletes an object.
    pub fn delete(&self, key: &ObjectKey) -> Result<()> {
        let (sink, key) = (Arc::clone(&self.sink), key.clone());
        self.start(async move { sink.delete(&key).await }).wait()
    }

    /// Waits until all that was put or deleted before survives a power failure.
    pub fn sync(&self) -> Result<()> {
        let sink = Arc::clone(&self.sink);
        self.start(async move { sink.sync().await }).wait()
    }

    /// Reads many objects, several at once, and hands them over in their order. `each` decides what an unreadable
    /// one means.
    pub fn get_each(
        &self,
        keys: impl IntoIterator<Item = ObjectKey>,
        mut each: impl FnMut(ObjectKey, Result<Bytes>) -> Result<()>,
    ) -> Result<()> {
        self.for_each(keys, |store, key| store.start_get(key, None), |key, pending| each(key, pending.wait()))
    }

    /// Deletes many objects, several at once.
    pub fn delete_each(&self, keys: impl IntoIterator<Item = ObjectKey>) -> Result<()> {
        let start = |store: &Self, key: &ObjectKey| {
            let (sink, key) = (Arc::clone(&store.sink), key.clone());
            store.start(async move { sink.delete(&key).await })
        };
        self.for_each(keys, start, |_, pending| pending.wait())
    }

    fn for_each<T>(
        &self,
        keys: impl IntoIterator<Item = ObjectKey>,
        start: impl Fn(&Self, &ObjectKey) -> Pending<T>,
        mut end: impl FnMut(ObjectKey, Pending<T>) -> Result<()>,
    ) -> Result<()> {
        let mut in_flight = VecDeque::with_capacity(REQUESTS_IN_FLIGHT_MAX);
        for key in keys {
            if in_flight.len() == REQUESTS_IN_FLIGHT_MAX
                && let Some((key, pending)) = in_flight.pop_front()
            {
                end(key, pending)?;
            }
            let pending = start(self, &key);
            in_flight.push_back((key, pending));
        }
        in_flight.into_iter().try_for_each(|(key, pending)| end(key, pending))
    }
}

async fn list_sorted(sink: &dyn Sink, prefix: &str) -> Result<Vec<ObjectInfo>, SinkError> {
    let mut listed = Vec::new();
    let mut entries = sink.list(prefix);
    while let Some(info) = entries.next().await {
        listed.push(info?);
    }
    listed.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    Ok(listed)
}

fn guard(foreseen: &Mutex<Foreseen>) -> MutexGuard<'_, Foreseen> {
    foreseen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.location())
    }
}
