//! Which slot a job owes.

use jiff::{SignedDuration, Timestamp};

use super::Schedule;
use crate::limits::SCHEDULE_MISSED_COUNTED_MAX;

/// What a job owes at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A run for this slot, now.
    Now {
        /// The newest slot that has come. Its name is the name of the run's lease.
        slot: Timestamp,
        /// Slots before it that had no run and get none: they are made up for by this one. No more are counted than
        /// [`SCHEDULE_MISSED_COUNTED_MAX`].
        missed: u64,
    },
    /// Nothing before this instant: the next slot, and the delay.
    Not {
        /// When to ask again.
        before: Timestamp,
    },
    /// Nothing ever: the schedule has no slots left.
    Never,
}

/// What a job owes at `now`, whose last run was for the slot `last`, and each of whose runs begins `delay` after its
/// slot ([`Jitter`](super::Jitter)).
///
/// `last` may also be when a run without a slot began, or when the job was first seen: what lies before it is nobody's
/// debt. Slots that were missed are made up for once, however many there are: a machine that was off for a week takes
/// one backup and not seven.
///
/// A clock that was set back by less than a slot changes nothing: the slot that had its run does not come again. One
/// that goes back further is not waited for, which could take years: the newest slot by the new time is due at once, and
/// whether it has had its run, its lease knows.
pub fn due(schedule: &Schedule, last: Timestamp, delay: SignedDuration, now: Timestamp) -> Due {
    let reached = now.checked_sub(delay).unwrap_or(Timestamp::MIN);
    let is_from_the_future = last > reached && schedule.next(reached).is_some_and(|next| last > next);
    if let Some(slot) = schedule.previous(reached).filter(|slot| *slot > last || is_from_the_future) {
        let missed = schedule.slots(last, slot).take(SCHEDULE_MISSED_COUNTED_MAX).count().saturating_sub(1);
        return Due::Now { slot, missed: missed as u64 };
    }
    match schedule.next(reached.max(last)).and_then(|next| next.checked_add(delay).ok()) {
        Some(before) => Due::Not { before },
        None => Due::Never,
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn daily(last: &str, now: &str) -> Due {
        let schedule = Schedule::parse("0 2 * * *", TimeZone::UTC).unwrap();
        due(&schedule, at(last), SignedDuration::from_mins(5), at(now))
    }

    fn now(slot: &str, missed: u64) -> Due {
        Due::Now { slot: at(slot), missed }
    }

    fn not_before(before: &str) -> Due {
        Due::Not { before: at(before) }
    }

    #[test]
    fn a_slot_is_owed_when_it_and_the_delay_have_come_and_once() {
        let last = "2026-11-21T02:00:00Z";
        assert_eq!(daily(last, "2026-11-22T01:59:59Z"), not_before("2026-11-22T02:05:00Z"));
        assert_eq!(daily(last, "2026-11-22T02:04:59Z"), not_before("2026-11-22T02:05:00Z"));
        assert_eq!(daily(last, "2026-11-22T02:05:00Z"), now("2026-11-22T02:00:00Z", 0));
        assert_eq!(daily("2026-11-22T02:00:00Z", "2026-11-22T02:05:00Z"), not_before("2026-11-23T02:05:00Z"));
    }

    #[test]
    fn what_was_missed_is_made_up_for_once() {
        assert_eq!(daily("2026-11-15T02:00:00Z", "2026-11-22T15:00:00Z"), now("2026-11-22T02:00:00Z", 6));
        // A run by hand in between: what lies before it is not owed.
        assert_eq!(daily("2026-11-22T02:30:00Z", "2026-11-22T15:00:00Z"), not_before("2026-11-23T02:05:00Z"));
    }

    #[test]
    fn a_job_of_every_minute_that_slept_for_years_is_counted_in_a_blink() {
        let schedule = Schedule::parse("* * * * *", TimeZone::UTC).unwrap();
        let owed = due(&schedule, at("2010-01-01T00:00:00Z"), SignedDuration::ZERO, at("2026-01-01T00:00:30Z"));
        let missed = SCHEDULE_MISSED_COUNTED_MAX as u64 - 1;
        assert_eq!(owed, Due::Now { slot: at("2026-01-01T00:00:00Z"), missed });
    }

    #[test]
    fn a_clock_that_goes_back_a_little_brings_no_slot_again() {
        let last = "2026-11-22T02:00:00Z";
        assert_eq!(daily(last, "2026-11-22T01:59:00Z"), not_before("2026-11-23T02:05:00Z"));
        assert_eq!(daily(last, "2026-11-21T02:06:00Z"), not_before("2026-11-23T02:05:00Z"));
    }

    #[test]
    fn a_clock_that_was_far_ahead_is_not_waited_for() {
        let last = "2099-01-01T02:00:00Z";
        assert_eq!(daily(last, "2026-11-22T15:00:00Z"), now("2026-11-22T02:00:00Z", 0));
        // Once that slot has had its run, all is as ever.
        assert_eq!(daily("2026-11-22T02:00:00Z", "2026-11-22T15:00:00Z"), not_before("2026-11-23T02:05:00Z"));
    }
}
