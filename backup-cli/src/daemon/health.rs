//! Whether the daemon's own thread goes on.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// When the daemon's thread was last seen, and when figures were last fetched.
///
/// Times are those of the wall clock: one that is set forward makes it look stuck until the thread is seen again, which
/// takes no longer than [`BEAT_SECONDS`].
#[derive(Debug)]
pub(super) struct Health {
    seen: AtomicI64,
    /// 0 for never.
    fetched: AtomicI64,
}

/// The thread is seen at least this often: it never waits for anything longer.
pub(super) const BEAT_SECONDS: u32 = 30;

impl Health {
    /// Seen now.
    pub(super) fn new(now: Timestamp) -> Self {
        Self { seen: AtomicI64::new(now.as_second()), fetched: AtomicI64::new(0) }
    }

    /// Figures are fetched.
    pub(super) fn fetch(&self, now: Timestamp) {
        self.fetched.store(now.as_second(), Ordering::Relaxed);
    }

    /// When they were last fetched, if they were at all.
    pub(super) fn fetched(&self) -> Option<Timestamp> {
        match self.fetched.load(Ordering::Relaxed) {
            0 => None,
            second => Timestamp::from_second(second).ok(),
        }
    }

    /// The thread is seen.
    pub(super) fn beat(&self, now: Timestamp) {
        self.seen.store(now.as_second(), Ordering::Relaxed);
    }

    /// Whether it goes on.
    pub(super) fn is_alive(&self, now: Timestamp) -> bool {
        now.as_second().saturating_sub(self.seen.load(Ordering::Relaxed)) <= 4 * i64::from(BEAT_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_was_not_seen_for_long_is_stuck() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let health = Health::new(at(1_000));
        assert!(health.is_alive(at(1_120)) && !health.is_alive(at(1_121)));
        health.beat(at(99_000));
        assert!(health.is_alive(at(99_001)));
        // A clock that was set back.
        assert!(health.is_alive(at(5)));
    }
}
