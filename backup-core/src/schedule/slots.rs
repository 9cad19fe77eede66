//! The slots of a schedule, one after the other.
//!
//! Croner finds the days and hours of the calendar; what becomes of them where the zone's clock changes is decided here
//! for schedules that name hours, because it would give up `0 2,14 * * *` on the day that has no 2 o'clock.

use croner::Cron;
use jiff::civil::DateTime;
use jiff::tz::AmbiguousOffset;
use jiff::{SignedDuration, Timestamp};

use super::Schedule;

impl Schedule {
    /// Its slots after `after` up to `until`, in order.
    pub fn slots(&self, after: Timestamp, until: Timestamp) -> Slots<'_> {
        Slots { schedule: self, cron: self.cron(), last: after, until }
    }

    /// Its newest slot at `instant` or before.
    pub fn previous(&self, instant: Timestamp) -> Option<Timestamp> {
        self.newest(&self.cron(), instant)
    }

    /// The newest slot at an instant or before.
    pub(super) fn newest(&self, cron: &Cron, instant: Timestamp) -> Option<Timestamp> {
        if self.every_hour {
            let from = instant.to_zoned(self.zone().clone());
            return cron.find_previous_occurrence(&from, true).ok().map(|slot| slot.timestamp());
        }
        let local = self.zone().to_datetime(instant);
        let mut newest = cron.find_previous_occurrence(&local, true).ok().and_then(|slot| self.instant_of(slot));
        // In the second pass of a doubled hour, later ones were shown already.
        let mut after = local;
        while let Ok(next) = cron.find_next_occurrence(&after, false)
            && let Some(slot) = self.instant_of(next).filter(|slot| *slot <= instant)
        {
            newest = Some(slot);
            after = next;
        }
        newest
    }

    /// The first slot after an instant.
    pub(super) fn after(&self, cron: &Cron, instant: Timestamp) -> Option<Timestamp> {
        if self.every_hour {
            let from = instant.to_zoned(self.zone().clone());
            return cron.find_next_occurrence(&from, false).ok().map(|slot| slot.timestamp());
        }
        let mut local = self.zone().to_datetime(instant);
        loop {
            local = cron.find_next_occurrence(&local, false).ok()?;
            let slot = self.instant_of(local)?;
            // In the second pass of a doubled hour, and at the end of a skipped one, several are one, or past.
            if slot > instant {
                return Some(slot);
            }
        }
    }

    /// When the zone's clock shows `local` first; when it never does, when it has skipped it.
    fn instant_of(&self, local: DateTime) -> Option<Timestamp> {
        match self.zone().to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(local).ok()
            }
            AmbiguousOffset::Gap { before, after } => {
                // The clock is set forward somewhere between what `local` would be in the old time and in the new.
                let (early, late) = (after.to_timestamp(local).ok()?, before.to_timestamp(local).ok()?);
                let change = self.zone().following(just_before(early)).next();
                Some(change.map_or(late, |change| change.timestamp().min(late)))
            }
        }
    }
}

pub(super) fn just_before(instant: Timestamp) -> Timestamp {
    instant.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(instant)
}

/// The slots of a schedule; see [`Schedule::slots`].
#[derive(Debug)]
pub struct Slots<'a> {
    schedule: &'a Schedule,
    cron: Cron,
    last: Timestamp,
    until: Timestamp,
}

impl Iterator for Slots<'_> {
    type Item = Timestamp;

    fn next(&mut self) -> Option<Timestamp> {
        let slot = self.schedule.after(&self.cron, self.last).filter(|slot| *slot <= self.until)?;
        self.last = slot;
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    /// The rules of Europe/Paris since 1996, spelled out, so that the tests need no time zone database.
    fn paris() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn slots(text: &str, zone: TimeZone, after: &str, until: &str) -> Vec<String> {
        let schedule = Schedule::parse(text, zone).unwrap();
        let slots = schedule.slots(after.parse().unwrap(), until.parse().unwrap());
        slots.map(|slot| slot.to_string()).collect()
    }

    #[test]
    fn slots_are_after_the_first_instant_and_up_to_the_last() {
        let slots = |after, until| slots("0 */6 * * *", TimeZone::UTC, after, until);
        assert_eq!(
            slots("2026-01-01T00:00:00Z", "2026-01-01T12:00:00Z"),
            ["2026-01-01T06:00:00Z", "2026-01-01T12:00:00Z"]
        );
        assert_eq!(slots("2025-12-31T23:59:59.5Z", "2026-01-01T05:59:59Z"), ["2026-01-01T00:00:00Z"]);
        assert_eq!(slots("2026-01-01T00:00:00.000000001Z", "2026-01-01T05:00:00Z"), [""; 0]);
        assert_eq!(slots("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"), [""; 0]);
    }

    #[test]
    fn a_slot_in_the_hour_that_is_skipped_comes_at_its_end() {
        // 29 March 2026: 02:00 becomes 03:00 in Paris, which is 01:00 in UTC.
        let spring = |text| slots(text, paris(), "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z");
        assert_eq!(spring("30 2 * * *"), ["2026-03-29T01:00:00Z"]);
        // Croner alone gives this one up, because it names two hours.
        assert_eq!(spring("30 2,13 * * *"), ["2026-03-28T12:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T11:30:00Z"]);
        // Several of that hour, and the one at its end, are one.
        assert_eq!(spring("*/15 2 * * *"), ["2026-03-29T01:00:00Z"]);
        assert_eq!(spring("0 2,3 * * *"), ["2026-03-29T01:00:00Z"]);
        // Of every hour: there is one hour less.
        assert_eq!(
            slots("30 * * * *", paris(), "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z"),
            ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"]
        );
    }

    #[test]
    fn a_slot_in_the_hour_that_is_shown_twice_comes_the_first_time() {
        // 25 October 2026: 03:00 becomes 02:00 in Paris at 01:00 in UTC.
        let autumn = |text| slots(text, paris(), "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z");
        assert_eq!(autumn("30 2 * * *"), ["2026-10-25T00:30:00Z"]);
        assert_eq!(autumn("*/30 2 * * *"), ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z"]);
        // Of every hour: there is one hour more.
        let hourly = slots("15 * * * *", paris(), "2026-10-24T23:30:00Z", "2026-10-25T02:30:00Z");
        assert_eq!(hourly, ["2026-10-25T00:15:00Z", "2026-10-25T01:15:00Z", "2026-10-25T02:15:00Z"]);
    }

    #[test]
    fn the_newest_slot_is_found_in_the_second_pass_of_the_doubled_hour_too() {
        let schedule = Schedule::parse("45 2 * * *", paris()).unwrap();
        // 02:10 the second time: 02:45 was shown already.
        let newest = schedule.previous("2026-10-25T01:10:00Z".parse().unwrap());
        assert_eq!(newest.unwrap().to_string(), "2026-10-25T00:45:00Z");
        assert_eq!(schedule.next("2026-10-25T01:10:00Z".parse().unwrap()).unwrap().to_string(), "2026-10-26T01:45:00Z");
    }

    #[test]
    fn days_of_the_calendar_are_found() {
        for (text, after, first) in [
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"),
            ("0 0 31 * *", "2026-01-31T00:00:00Z", "2026-03-31T00:00:00Z"),
            ("0 0 L * *", "2028-02-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 3 * * SUN", "2026-11-22T03:00:00Z", "2026-11-29T03:00:00Z"),
            ("0 3 13 * FRI", "2026-11-14T00:00:00Z", "2026-11-20T03:00:00Z"),
            ("0 3 13 * +FRI", "2026-11-14T00:00:00Z", "2027-08-13T03:00:00Z"),
            ("59 23 31 12 *", "2026-12-31T23:59:00Z", "2027-12-31T23:59:00Z"),
        ] {
            let schedule = Schedule::parse(text, TimeZone::UTC).unwrap();
            assert_eq!(schedule.next(after.parse().unwrap()).unwrap().to_string(), first, "{text}");
        }
    }
}
