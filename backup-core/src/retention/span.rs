//! A length of time as people write it in a policy: `30d`, `1y5m7d2h`.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// Years, months, days and hours, never zero. The spelling is restic's: numbers, each followed by `y`, `m`, `d` or
/// `h`, in any order. `m` is **months**; there are no minutes.
///
/// Two things restic accepts are errors here, because each is a slip of the pen that would change what is removed: a
/// unit given twice (restic takes the last), and a length of zero (restic takes the rule as not given).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span {
    years: u32,
    months: u32,
    days: u32,
    hours: u32,
}

/// Why a text is not a [`Span`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// There is no text.
    #[error("the duration is empty: write it like `30d` or `1y6m`")]
    Empty,
    /// A number was expected.
    #[error("duration `{text}`: expected a number before `{found}`")]
    NoNumber {
        /// The whole text.
        text: String,
        /// What stands where the number should.
        found: String,
    },
    /// The text ends after a number.
    #[error("duration `{text}`: no unit after `{number}` (y, m for months, d, h)")]
    NoUnit {
        /// The whole text.
        text: String,
        /// The number without a unit.
        number: String,
    },
    /// A unit that does not exist.
    #[error("duration `{text}`: unknown unit `{unit}` after `{number}` (y, m for months, d, h)")]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// The number before it.
        number: String,
        /// The unknown unit.
        unit: char,
    },
    /// A unit stands twice.
    #[error("duration `{text}`: unit `{unit}` is given twice")]
    Repeated {
        /// The whole text.
        text: String,
        /// The repeated unit.
        unit: char,
    },
    /// A number that is too large.
    #[error("duration `{text}`: `{number}` is too large")]
    TooLarge {
        /// The whole text.
        text: String,
        /// The number.
        number: String,
    },
    /// All numbers are zero.
    #[error("duration `{text}` is zero: leave the rule out instead")]
    Zero {
        /// The whole text.
        text: String,
    },
}

impl Span {
    /// The instant this long before `instant`, by the calendar of `zone`: years, months and days first, at the same
    /// time of the day, then hours of 60 minutes.
    ///
    /// A day that a month does not have becomes the month's last (one month before 31 March is 28 or 29 February;
    /// restic goes on counting into March, so that we keep up to three days more). Before the calendar's beginning the
    /// answer is its beginning: a policy of a million years keeps everything.
    pub fn before(&self, instant: Timestamp, zone: &TimeZone) -> Timestamp {
        let span = jiff::Span::new()
            .try_years(self.years)
            .and_then(|span| span.try_months(self.months))
            .and_then(|span| span.try_days(self.days))
            .and_then(|span| span.try_hours(self.hours));
        span.and_then(|span| instant.to_zoned(zone.clone()).checked_sub(span))
            .map_or(Timestamp::MIN, |zoned| zoned.timestamp())
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SpanError::Empty);
        }
        let whole = || text.to_owned();
        let mut parts: [Option<u32>; 4] = [None; 4];
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            if number.is_empty() {
                return Err(SpanError::NoNumber { text: whole(), found: after.to_owned() });
            }
            let number = || number.to_owned();
            let mut chars = after.chars();
            let unit = chars.next().ok_or_else(|| SpanError::NoUnit { text: whole(), number: number() })?;
            let index =
                "ymdh".find(unit).ok_or_else(|| SpanError::UnknownUnit { text: whole(), number: number(), unit })?;
            let value = number().parse().map_err(|_| SpanError::TooLarge { text: whole(), number: number() })?;
            if parts[index].replace(value).is_some() {
                return Err(SpanError::Repeated { text: whole(), unit });
            }
            rest = chars.as_str();
        }
        let [years, months, days, hours] = parts.map(Option::unwrap_or_default);
        if [years, months, days, hours] == [0; 4] {
            return Err(SpanError::Zero { text: whole() });
        }
        Ok(Self { years, months, days, hours })
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;

    fn try_from(text: String) -> Result<Self, SpanError> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(self.years, 'y'), (self.months, 'm'), (self.days, 'd'), (self.hours, 'h')];
        for (number, unit) in parts.into_iter().filter(|(number, _)| *number != 0) {
            write!(f, "{number}{unit}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(span: &str, instant: &str, zone: &TimeZone) -> String {
        let span: Span = span.parse().unwrap();
        span.before(instant.parse().unwrap(), zone).to_string()
    }

    #[test]
    fn spans_are_spelled_as_restic_spells_them() {
        for (text, spelled) in [
            ("30d", "30d"),
            ("1y5m7d2h", "1y5m7d2h"),
            ("26h", "26h"),
            (" 90d ", "90d"),
            ("2h1y", "1y2h"),
            ("0y7d", "7d"),
            ("007d", "7d"),
        ] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), spelled);
        }
    }

    #[test]
    fn errors_name_the_bad_part() {
        for (text, error) in [
            ("", "the duration is empty: write it like `30d` or `1y6m`"),
            ("30", "duration `30`: no unit after `30` (y, m for months, d, h)"),
            ("1y30", "duration `1y30`: no unit after `30` (y, m for months, d, h)"),
            ("2w", "duration `2w`: unknown unit `w` after `2` (y, m for months, d, h)"),
            ("1y2é", "duration `1y2é`: unknown unit `é` after `2` (y, m for months, d, h)"),
            ("3D", "duration `3D`: unknown unit `D` after `3` (y, m for months, d, h)"),
            ("-3d", "duration `-3d`: expected a number before `-3d`"),
            ("3d h", "duration `3d h`: expected a number before ` h`"),
            ("d", "duration `d`: expected a number before `d`"),
            ("1d2d", "duration `1d2d`: unit `d` is given twice"),
            ("99999999999d", "duration `99999999999d`: `99999999999` is too large"),
            ("0d0h", "duration `0d0h` is zero: leave the rule out instead"),
        ] {
            assert_eq!(text.parse::<Span>().unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn a_day_that_the_month_lacks_becomes_its_last() {
        let utc = &TimeZone::UTC;
        assert_eq!(before("1m", "2023-03-31T12:00:00Z", utc), "2023-02-28T12:00:00Z");
        assert_eq!(before("1m", "2024-03-31T12:00:00Z", utc), "2024-02-29T12:00:00Z");
        assert_eq!(before("1y", "2024-02-29T12:00:00Z", utc), "2023-02-28T12:00:00Z");
        assert_eq!(before("4y", "2024-02-29T12:00:00Z", utc), "2020-02-29T12:00:00Z");
    }

    #[test]
    fn a_day_is_not_24_hours_where_the_clock_changes() {
        let paris = &TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        // Paris went from +01:00 to +02:00 in the night to 31 March 2024.
        assert_eq!(before("1d", "2024-03-31T10:00:00Z", paris), "2024-03-30T11:00:00Z");
        assert_eq!(before("24h", "2024-03-31T10:00:00Z", paris), "2024-03-30T10:00:00Z");
    }

    #[test]
    fn a_span_beyond_the_calendar_reaches_its_beginning() {
        for text in ["9999y", "4294967295y", "4294967295h"] {
            assert_eq!(
                text.parse::<Span>().unwrap().before("2024-01-01T00:00:00Z".parse().unwrap(), &TimeZone::UTC),
                if text == "9999y" { "-007975-01-01T00:00:00Z".parse().unwrap() } else { Timestamp::MIN }
            );
        }
    }
}
