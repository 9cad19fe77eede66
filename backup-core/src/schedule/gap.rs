//! How far apart the slots of a schedule lie at most.
//!
//! The law is a walk from day to day, by croner. Most schedules have the same hours every day, or every week, and the walk
//! finds nothing new between two changes of the zone's clock: it steps over such stretches, which makes it thirty times
//! shorter and changes nothing else. A thousand jobs are asked each time that somebody wants to know how they stand.

use croner::Cron;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use super::Schedule;
use super::expression::fields;
use super::slots::just_before;
use crate::limits::{SCHEDULE_GAP_DAYS, SCHEDULE_GAP_YEARS};

impl Schedule {
    /// The longest time between two slots that follow each other, in what is to come after `from`: thirteen months of
    /// days that have slots, or ten years where such days are rarer than that.
    ///
    /// A schedule's loss at worst begins with this; it is an hour more than it seems for one that runs daily in a zone
    /// whose clock goes back.
    pub fn longest_gap(&self, from: Timestamp) -> SignedDuration {
        self.walk(from, self.period_days())
    }

    /// The walk; with a period, it steps over what would repeat.
    pub(super) fn walk(&self, from: Timestamp, period_days: Option<i32>) -> SignedDuration {
        let cron = self.cron();
        let latest = self.zone().to_datetime(from).saturating_add(SCHEDULE_GAP_YEARS.years());
        let mut longest = SignedDuration::ZERO;
        let mut before = self.newest(&cron, from).or_else(|| self.after(&cron, from));
        let mut usual = None;
        // Days that have slots, since the last stretch that was stepped over.
        let mut seen = Vec::new();
        let mut left = SCHEDULE_GAP_DAYS;
        while left > 0 {
            let Some(last) = before else { break };
            let Some(first) = self.after(&cron, last).filter(|first| self.zone().to_datetime(*first) <= latest) else {
                break;
            };
            let day = self.day(&cron, first, usual);
            longest = longest.max(first.duration_since(last)).max(day.gap);
            before = Some(day.last);
            usual = Some(day);
            left -= 1;
            seen.push(self.zone().to_datetime(first).date());
            let stretch = period_days.and_then(|period| self.stretch(&seen, day.last, period, left, latest.date()));
            if let Some(stretch) = stretch {
                before = Some(stretch.last);
                left -= stretch.days_with_slots;
                seen.clear();
            }
        }
        longest
    }

    /// After how many days its slots are the same again, where no clock changes.
    fn period_days(&self) -> Option<i32> {
        let [_, _, day, "*", weekday] = fields(self.text())[..] else { return None };
        let is_any = |field: &str| matches!(field, "*" | "?");
        // The last Friday and the second Monday are of a month.
        let is_weekly = weekday.bytes().all(|byte| byte.is_ascii_alphanumeric() || b",-/*".contains(&byte))
            && !weekday.contains(['l', 'L']);
        match (is_any(day), is_any(weekday)) {
            (true, true) => Some(1),
            (true, false) => is_weekly.then_some(7),
            (false, _) => None,
        }
    }

    /// The longest stretch of whole periods after the last of the days `seen` that is like the period before it, if there
    /// is one: no clock changes in either, with two days between, and it ends before `latest` and before the walk does.
    fn stretch(&self, seen: &[Date], last: Timestamp, period: i32, left: u32, latest: Date) -> Option<Stretch> {
        let today = *seen.last()?;
        let back = today.checked_sub(period.days()).ok()?;
        let in_period = u32::try_from(seen.iter().rev().position(|day| *day == back)?).ok()?;
        let since = last.checked_sub(SignedDuration::from_hours(24 * (i64::from(period) + 2))).ok()?;
        let change = self.zone().following(since).next();
        let end = match change.map(|change| self.zone().to_datetime(change.timestamp()).date()) {
            Some(change) => latest.min(change.checked_sub(1.day()).ok()?),
            None => latest,
        };
        let days = i64::from(end.checked_sub(1.day()).ok()?.since(today).ok()?.get_days());
        let periods = (days / i64::from(period)).min(i64::from(left / in_period.max(1)));
        if periods < 1 {
            return None;
        }
        let ahead = (periods * i64::from(period)).days();
        let last = self.zone().to_datetime(last).checked_add(ahead).ok()?;
        Some(Stretch {
            last: self.zone().to_timestamp(last).ok()?,
            days_with_slots: u32::try_from(periods).ok()? * in_period,
        })
    }

    /// The day of the slot `on`. Days of one length have their slots at the same distances: what was found of the one
    /// `before` need not be looked for again, so that a schedule of every minute is not walked for a year.
    fn day(&self, cron: &Cron, on: Timestamp, before: Option<Day>) -> Day {
        let of = on.to_zoned(self.zone().clone());
        let bounds =
            of.start_of_day().and_then(|start| Ok((start.timestamp(), of.tomorrow()?.start_of_day()?.timestamp())));
        // The last day of the calendar.
        let Ok((start, end)) = bounds else {
            return Day { last: on, gap: SignedDuration::ZERO, length: SignedDuration::ZERO };
        };
        let length = end.duration_since(start);
        let last = self.newest(cron, just_before(end)).map_or(on, |last| last.max(on));
        let gap = match before {
            Some(day) if day.length == length => day.gap,
            _ => {
                let mut slot = self.after(cron, just_before(start)).unwrap_or(on);
                let mut gap = SignedDuration::ZERO;
                while let Some(next) = self.after(cron, slot).filter(|next| *next <= last) {
                    gap = gap.max(next.duration_since(slot));
                    slot = next;
                }
                gap
            }
        };
        Day { last, gap, length }
    }
}

/// The slots of one day.
#[derive(Clone, Copy)]
struct Day {
    /// The last of them.
    last: Timestamp,
    /// The longest time between two of them.
    gap: SignedDuration,
    /// How long the day is.
    length: SignedDuration,
}

/// Days that are like those before them.
struct Stretch {
    /// Their last slot.
    last: Timestamp,
    /// How many of them have slots.
    days_with_slots: u32,
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    /// The rules of Europe/Paris since 1996, spelled out, so that the tests need no time zone database.
    fn paris() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn gap_hours(text: &str, zone: TimeZone, from: &str) -> i64 {
        let gap = Schedule::parse(text, zone).unwrap().longest_gap(from.parse().unwrap());
        assert_eq!(gap.as_secs() % 3600, 0, "{text}: {gap}");
        gap.as_hours()
    }

    #[test]
    fn the_longest_gap_knows_weekends_leap_years_and_clocks_that_go_back() {
        let from = "2026-11-22T15:00:00Z";
        for (text, hours) in [
            ("0 * * * *", 1),
            ("0 */6 * * *", 6),
            ("0 2,14,16 * * *", 12),
            ("0 2 * * *", 24),
            ("0 2 * * MON-FRI", 72),
            ("0 2 1 * *", 31 * 24),
            ("0 2 31 * *", 61 * 24),
            ("0 0 29 2 *", 1461 * 24),
        ] {
            assert_eq!(gap_hours(text, TimeZone::UTC, from), hours, "{text}");
        }
        assert_eq!(gap_hours("0 2 * * *", paris(), from), 25);
        assert_eq!(gap_hours("0 * * * *", paris(), from), 1);
        // Eight to six, from Friday evening to Monday morning, in the night that is an hour longer.
        assert_eq!(gap_hours("0 8-18 * * MON-FRI", paris(), from), 63);
        // Minutes apart, and then a month.
        let dense = Schedule::parse("*/5 * 1 * *", TimeZone::UTC).unwrap().longest_gap(from.parse().unwrap());
        assert_eq!(dense.as_mins(), 30 * 24 * 60 + 5);
    }

    #[test]
    fn a_gap_is_not_shorter_for_being_asked_in_the_middle_of_a_day() {
        for hour in 0..24 {
            let from = format!("2026-11-22T{hour:02}:30:00Z");
            assert_eq!(gap_hours("0 1,3,15 * * *", TimeZone::UTC, &from), 12, "{from}");
        }
    }

    #[test]
    fn what_repeats_is_known_by_its_fields() {
        for (text, period) in [
            ("0 2 * * *", Some(1)),
            ("@hourly", Some(1)),
            ("*/5 8-18 ? * *", Some(1)),
            ("0 2 * * MON-FRI", Some(7)),
            ("@weekly", Some(7)),
            ("0 2 * * */2", Some(7)),
            ("0 2 * * FRI#L", None),
            ("0 2 * * MON#2", None),
            ("0 2 1 * *", None),
            ("0 2 1 * +MON", None),
            ("0 2 * 3 *", None),
            ("0 2 */9 * *", None),
        ] {
            assert_eq!(Schedule::parse(text, TimeZone::UTC).unwrap().period_days(), period, "{text}");
        }
    }
}
