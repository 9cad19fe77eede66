//! How often, and for how long, what a store could not do for now is tried again.
//!
//! What is always true: only [`SinkErrorKind::Unavailable`] and [`SinkErrorKind::Garbled`] are tried again, everything
//! else is an answer; and no operation is tried without an end. A request to stop is heeded at once as long as the store
//! has not answered anything: nothing was begun there that would have to be ended in order. Used by [`RetrySink`](super::RetrySink), and by those
//! requests that are none of a sink's. It holds nothing that a crash could lose.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use backup_core::cancel::Cancel;
use backup_core::contracts::{SinkError, SinkErrorKind};
use futures::future::{self, Either};
use tokio::time::Instant;

/// How patient one is with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait after the first failure; each further one is twice as long, and up to as much again is added at random
    /// so that many machines do not come back at once.
    pub wait_first: Duration,
    /// No wait is longer, unless the store asks for more.
    pub wait_max: Duration,
    /// How long a failing operation is tried again, once the store has answered anything.
    pub patience: Duration,
    /// The same until the store has answered for the first time: a place that was never there is most often misspelt.
    pub patience_at_first: Duration,
    /// What every attempt may take, whatever its size. Between two entries of a listing no more may pass either.
    pub attempt_base: Duration,
    /// What a listing may take until its first entry: some servers look at every object before they begin to answer.
    pub listing_begins: Duration,
    /// A line that moves fewer bytes a second is as good as none: it sets how much longer an attempt may take.
    pub bytes_per_second_min: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            wait_first: Duration::from_millis(500),
            wait_max: Duration::from_secs(30),
            patience: Duration::from_secs(10 * 60),
            patience_at_first: Duration::from_secs(20),
            attempt_base: Duration::from_secs(60),
            listing_begins: Duration::from_secs(LISTING_SECONDS_MAX + 10),
            bytes_per_second_min: 16 * 1024,
        }
    }
}

/// For how long a server may be silent before it begins to answer with a listing.
pub(crate) const LISTING_SECONDS_MAX: u64 = 5 * 60;

/// How often is looked whether a stop was asked for: to a person that is at once.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl RetryPolicy {
    pub(super) fn attempt_time(&self, bytes: u64) -> Duration {
        self.attempt_base + Duration::from_secs(bytes / self.bytes_per_second_min.max(1))
    }

    fn waits(&self) -> ExponentialBackoff {
        ExponentialBuilder::new()
            .with_min_delay(self.wait_first)
            .with_max_delay(self.wait_max)
            .with_jitter()
            .without_max_times()
            .build()
    }
}

/// A failure that is not the end: it will be tried again.
#[derive(Debug)]
pub struct Setback<'a> {
    /// What the store said.
    pub error: &'a SinkError,
    /// How long is waited now.
    pub wait: Duration,
    /// How often this operation has failed.
    pub failures: u32,
    /// How many bytes the next attempt sends once more, if it comes to that.
    pub bytes_to_send: u64,
}

/// Hears of setbacks. Called from the threads of the store's runtime: be quick.
type Watcher = dyn Fn(&Setback<'_>) + Send + Sync;

/// A policy, who hears of what it passes over, who may ask it to stop, and whether the store was ever there.
pub struct Patience {
    policy: RetryPolicy,
    cancel: Cancel,
    watcher: Box<Watcher>,
    has_answered: AtomicBool,
}

impl Patience {
    /// Patience with a store that has not answered yet.
    pub fn new(policy: RetryPolicy) -> Self {
        Self { policy, cancel: Cancel::new(), watcher: Box::new(|_| {}), has_answered: AtomicBool::new(false) }
    }

    /// Tells `watcher` of every failure that is followed by a wait, so that nobody has to guess why nothing moves.
    #[must_use]
    pub fn watched_by(mut self, watcher: impl Fn(&Setback<'_>) + Send + Sync + 'static) -> Self {
        self.watcher = Box::new(watcher);
        self
    }

    /// Ends with [`SinkErrorKind::Cancelled`] when a stop is asked for before the store has answered anything. Later it
    /// goes on: what is under way then is for who asked it to end in order.
    #[must_use]
    pub fn stopped_by(self, cancel: Cancel) -> Self {
        Self { cancel, ..self }
    }

    pub(crate) fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    /// Runs `attempt`, which is told how often it has failed and may send `bytes_to_send`, until it has an answer or
    /// patience ends.
    ///
    /// # Errors
    ///
    /// What the last attempt failed with.
    pub(crate) async fn persist<T, F>(&self, bytes_to_send: u64, attempt: impl FnMut(u32) -> F) -> Result<T, SinkError>
    where
        F: Future<Output = Result<T, SinkError>>,
    {
        self.persist_until(bytes_to_send, attempt, |_| true).await
    }

    /// The same, where a success may come without the store: `is_evidence` says which shows that it is there.
    pub(crate) async fn persist_until<T, F>(
        &self,
        bytes_to_send: u64,
        attempt: impl FnMut(u32) -> F,
        is_evidence: impl Fn(&T) -> bool,
    ) -> Result<T, SinkError>
    where
        F: Future<Output = Result<T, SinkError>>,
    {
        let cancelled = || Err(SinkError::new(SinkErrorKind::Cancelled, "store"));
        let (mut work, stop) =
            (pin!(self.try_until(bytes_to_send, attempt, is_evidence)), pin!(self.stopped_unheard()));
        // Whoever waited for the connection that another gives up must not begin one in its place.
        let work = future::poll_fn(|context| match self.is_stopped_unheard() {
            true => Poll::Ready(cancelled()),
            false => work.as_mut().poll(context),
        });
        match future::select(work, stop).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => cancelled(),
        }
    }

    /// Whether a stop was asked for and the store has never answered.
    fn is_stopped_unheard(&self) -> bool {
        self.cancel.requested() && !self.has_answered.load(Ordering::Relaxed)
    }

    /// Waits for a request to stop, for ever once the store has answered.
    async fn stopped_unheard(&self) {
        while !self.has_answered.load(Ordering::Relaxed) {
            if self.is_stopped_unheard() {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        future::pending::<()>().await;
    }

    async fn try_until<T, F>(
        &self,
        bytes_to_send: u64,
        mut attempt: impl FnMut(u32) -> F,
        is_evidence: impl Fn(&T) -> bool,
    ) -> Result<T, SinkError>
    where
        F: Future<Output = Result<T, SinkError>>,
    {
        let started = Instant::now();
        let mut waits = self.policy.waits();
        let mut failures = 0;
        loop {
            let error = match attempt(failures).await {
                Err(error) if matches!(error.kind, SinkErrorKind::Unavailable | SinkErrorKind::Garbled) => error,
                answer => {
                    if answer.as_ref().map_or(true, &is_evidence) {
                        self.has_answered.store(true, Ordering::Relaxed);
                    }
                    return answer;
                }
            };
            failures += 1;
            let wait = waits.next().unwrap_or(self.policy.wait_max).max(error.retry_after.unwrap_or_default());
            let patience = if self.has_answered.load(Ordering::Relaxed) {
                self.policy.patience
            } else {
                self.policy.patience_at_first
            };
            if started.elapsed().saturating_add(wait) > patience {
                return Err(error);
            }
            (self.watcher)(&Setback { error: &error, wait, failures, bytes_to_send });
            tokio::time::sleep(wait).await;
        }
    }
}

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patience").field("policy", &self.policy).finish_non_exhaustive()
    }
}
