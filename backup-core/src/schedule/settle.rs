//! When something that keeps changing is quiet enough to be backed up.

use jiff::{SignedDuration, Timestamp};

/// How long a job that runs on change waits after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settle {
    /// After the last change: a save is several changes, and an unpacked archive thousands.
    pub quiet: SignedDuration,
    /// After the first change, however often there are others: a log that is written each second is backed up too.
    pub at_most: SignedDuration,
}

impl Settle {
    /// Ten times the quiet time at most.
    pub fn new(quiet: SignedDuration) -> Self {
        Self { quiet, at_most: quiet.checked_mul(10).unwrap_or(SignedDuration::MAX) }
    }

    /// When to run, after changes of which these were the first and the last since the run before. Never later than
    /// that after `now`: a change that is dated in the future is a clock that was set back.
    pub fn due(&self, first: Timestamp, last: Timestamp, now: Timestamp) -> Timestamp {
        let after = |instant: Timestamp, wait: SignedDuration| instant.checked_add(wait).unwrap_or(Timestamp::MAX);
        after(last.min(now), self.quiet).min(after(first.min(now), self.at_most))
    }
}

impl Default for Settle {
    /// Thirty seconds, and five minutes at most (`docs/decisions/schedule.md`).
    fn default() -> Self {
        Self::new(SignedDuration::from_secs(30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn it_waits_for_quiet_but_not_for_ever() {
        let settle = Settle::default();
        assert_eq!(settle.due(at(0), at(0), at(0)), at(30));
        assert_eq!(settle.due(at(0), at(20), at(21)), at(50));
        // It changes each second: five minutes after the first change it is enough.
        assert_eq!(settle.due(at(0), at(299), at(299)), at(300));
        assert_eq!(settle.due(at(0), at(400), at(400)), at(300));
    }

    #[test]
    fn a_clock_that_was_set_back_costs_no_more_than_the_quiet_time() {
        assert_eq!(Settle::default().due(at(90_000), at(90_010), at(5)), at(35));
    }
}
