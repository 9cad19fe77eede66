//! The calendar periods that rules count in.

use std::fmt;

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

/// A natural period of the calendar: hours begin at :00, days at midnight, weeks on Monday (ISO 8601), all in a named
/// time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// An hour of the clock. The hour that a clock set back shows twice is two hours; restic takes it as one, and so
    /// gives up one of the two snapshots of an hourly rule.
    Hour,
    /// A day of the calendar, of 23 or 25 hours where the clock changes.
    Day,
    /// A week from Monday to Sunday; the first days of January can be in the last week of the year before.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// One particular hour, day, week, month or year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bucket {
    Hour(DateTime, Offset),
    Day(Date),
    Week(i16, i8),
    Month(i16, i8),
    Year(i16),
}

impl Period {
    /// The period of this kind that `instant` lies in.
    pub(super) fn bucket(self, instant: Timestamp, zone: &TimeZone) -> Bucket {
        let local: Zoned = instant.to_zoned(zone.clone());
        match self {
            Self::Hour => Bucket::Hour(local.date().at(local.hour(), 0, 0, 0), local.offset()),
            Self::Day => Bucket::Day(local.date()),
            Self::Week => {
                let week = local.iso_week_date();
                Bucket::Week(week.year(), week.week())
            }
            Self::Month => Bucket::Month(local.year(), local.month()),
            Self::Year => Bucket::Year(local.year()),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(period: Period, zone: &TimeZone, one: &str, other: &str) -> bool {
        let bucket = |text: &str| period.bucket(text.parse().unwrap(), zone);
        bucket(one) == bucket(other)
    }

    /// The rules of Europe/Paris since 1996, spelled out, so that the tests need no time zone database.
    fn paris() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    #[test]
    fn midnight_is_where_the_zone_says() {
        let (one, other) = ("2024-06-10T21:30:00Z", "2024-06-10T22:30:00Z");
        assert!(same(Period::Day, &TimeZone::UTC, one, other));
        assert!(!same(Period::Day, &paris(), one, other));
    }

    #[test]
    fn the_long_and_the_short_day_are_each_one_day() {
        // 27 October 2024 had 25 hours in Paris, 31 March 2024 had 23.
        assert!(same(Period::Day, &paris(), "2024-10-26T22:00:00Z", "2024-10-27T22:59:59Z"));
        assert!(!same(Period::Day, &paris(), "2024-10-27T22:59:59Z", "2024-10-27T23:00:00Z"));
        assert!(same(Period::Day, &paris(), "2024-03-30T23:00:00Z", "2024-03-31T21:59:59Z"));
        assert!(!same(Period::Day, &paris(), "2024-03-31T21:59:59Z", "2024-03-31T22:00:00Z"));
    }

    #[test]
    fn the_hour_shown_twice_is_two_hours() {
        // 02:30 in summer time, and 02:30 again an hour later.
        assert!(!same(Period::Hour, &paris(), "2024-10-27T00:30:00Z", "2024-10-27T01:30:00Z"));
        assert!(same(Period::Hour, &paris(), "2024-10-27T00:00:00Z", "2024-10-27T00:59:59Z"));
    }

    #[test]
    fn weeks_of_the_new_year_are_iso_weeks() {
        let utc = &TimeZone::UTC;
        // Sunday 3 January 2021 is in week 53 of 2020, with Monday 28 December 2020.
        assert!(same(Period::Week, utc, "2020-12-28T00:00:00Z", "2021-01-03T23:59:59Z"));
        assert!(!same(Period::Week, utc, "2021-01-03T23:59:59Z", "2021-01-04T00:00:00Z"));
        // Monday 30 December 2024 is in week 1 of 2025; week 1 of 2024 is another one.
        assert!(same(Period::Week, utc, "2024-12-30T00:00:00Z", "2025-01-05T12:00:00Z"));
        assert!(!same(Period::Week, utc, "2024-01-02T00:00:00Z", "2024-12-31T00:00:00Z"));
    }

    #[test]
    fn the_leap_day_is_a_day_of_february() {
        let utc = &TimeZone::UTC;
        assert!(same(Period::Month, utc, "2024-02-01T00:00:00Z", "2024-02-29T23:59:59Z"));
        assert!(!same(Period::Day, utc, "2024-02-29T23:59:59Z", "2024-03-01T00:00:00Z"));
        assert!(!same(Period::Month, utc, "2023-02-10T00:00:00Z", "2024-02-10T00:00:00Z"));
    }
}
