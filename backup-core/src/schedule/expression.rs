//! A cron expression, and what is wrong with one.

use std::fmt;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::limits::SCHEDULE_BYTES_MAX;

/// When something is to be done: a cron expression of five fields, in a time zone.
///
/// Minutes, hours, days of the month, months, days of the week, as Vixie cron reads them: `*`, numbers, names, ranges,
/// steps and lists; where both sorts of days are given, one of them is enough. Besides them `@hourly`, `@daily`,
/// `@weekly`, `@monthly`, `@yearly`, and for days `L` (the last), `15W` (the nearest weekday), `MON#2`, `FRI#L`, and a `+`
/// before the days of the week where both must hold.
///
/// It is kept as text, because croner's form of it takes five kilobytes, and a daemon has a thousand of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    zone: TimeZone,
    /// Whether it has slots in every hour of its days, and so follows real time where the clock changes.
    pub(super) every_hour: bool,
}

impl Schedule {
    /// Reads an expression.
    ///
    /// # Errors
    ///
    /// [`ScheduleError`], which names the field; also for a date that never comes, as 30 February.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, ScheduleError> {
        let text = text.trim();
        if text.len() > SCHEDULE_BYTES_MAX {
            return Err(ScheduleError::TooLong);
        }
        let cron = read(text).map_err(|why| why_not(text, why))?;
        // The search ends at the year 5000, which takes a blink for what never comes.
        if cron.find_next_occurrence(&DateTime::constant(2000, 1, 1, 0, 0, 0, 0), true).is_err() {
            return Err(ScheduleError::Never { text: text.to_owned() });
        }
        let every_hour = matches!(fields(text)[..], [_, "*" | "*/1" | "0-23", ..]);
        Ok(Self { text: text.to_owned(), zone, every_hour })
    }

    /// The expression, as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The zone that its hours are of.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Croner's form.
    #[expect(clippy::expect_used, reason = "the same text was read when this was made")]
    pub(super) fn cron(&self) -> Cron {
        read(&self.text).expect("a schedule holds an expression that could be read")
    }

    /// Its first slot after `instant`.
    pub fn next(&self, instant: Timestamp) -> Option<Timestamp> {
        self.slots(instant, Timestamp::MAX).next()
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({self})")
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.zone.iana_name() {
            Some(zone) => write!(f, "{} {zone}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It has another number of fields than five.
    #[error("`{text}` has {count} fields: a cron expression has five, minute hour day month weekday, as `0 2 * * *`")]
    Fields {
        /// The text.
        text: String,
        /// How many it has.
        count: usize,
    },
    /// One of its fields cannot be read.
    #[error("`{field}` is no {name} of a cron expression, which are {allowed}")]
    Field {
        /// The field.
        field: String,
        /// What stands in its place.
        name: &'static str,
        /// What may stand there.
        allowed: &'static str,
    },
    /// It can be read, and no day is such a day.
    #[error("`{text}` never comes: no year has that day")]
    Never {
        /// The text.
        text: String,
    },
    /// It is longer than any that a person writes.
    #[error("a schedule of more than {SCHEDULE_BYTES_MAX} bytes")]
    TooLong,
}

/// What stands in each field.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0 to 59, `*`, lists, ranges and steps as `*/15`"),
    ("hour", "0 to 23, `*`, lists, ranges and steps as `*/6`"),
    ("day of the month", "1 to 31, `L` for the last, `15W` for the nearest weekday, `*`"),
    ("month", "1 to 12, JAN to DEC, `*`"),
    ("day of the week", "0 to 7 from Sunday to Sunday, SUN to SAT, `MON#2` for the second Monday, `*`"),
];

/// The five fields of an expression; of a nickname, those it stands for.
pub(super) fn fields(text: &str) -> Vec<&str> {
    let stands_for = match text.to_ascii_lowercase().as_str() {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        _ => text,
    };
    stands_for.split_whitespace().collect()
}

/// What croner makes of it, with the seconds and years left out that it would know besides.
fn read(text: &str) -> Result<Cron, Unread> {
    let fields = fields(text);
    if fields.len() != FIELDS.len() {
        return Err(Unread::Fields(fields.len()));
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(&fields.join(" ")).map_err(|_| Unread::Somewhere)
}

#[derive(Clone, Copy, Debug)]
enum Unread {
    Fields(usize),
    Somewhere,
}

/// Which field it is: the one that cannot be read where all others are `*`.
fn why_not(text: &str, why: Unread) -> ScheduleError {
    if let Unread::Fields(count) = why {
        return ScheduleError::Fields { text: text.to_owned(), count };
    }
    let fields = fields(text);
    let is_wrong = |at: usize| {
        let mut alone = ["*"; FIELDS.len()];
        alone[at] = fields[at];
        read(&alone.join(" ")).is_err()
    };
    // Each field can be read alone and all together cannot: the days, which are the only ones that know each other.
    let at = (0..FIELDS.len()).find(|at| is_wrong(*at)).unwrap_or(FIELDS.len() - 1);
    ScheduleError::Field { field: fields[at].to_owned(), name: FIELDS[at].0, allowed: FIELDS[at].1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Schedule::parse(text, TimeZone::UTC).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_read_is_named_with_what_may_stand_there() {
        for (text, begins) in [
            ("", "`` has 0 fields"),
            ("0 2 * *", "`0 2 * *` has 4 fields"),
            ("0 0 2 * * *", "`0 0 2 * * *` has 6 fields"),
            ("@reboot", "`@reboot` has 1 fields"),
            ("60 2 * * *", "`60` is no minute"),
            ("0 24 * * *", "`24` is no hour"),
            ("0 2 32 * *", "`32` is no day of the month"),
            ("0 2 * 13 *", "`13` is no month"),
            ("0 2 * FOO *", "`FOO` is no month"),
            ("0 2 * * 8", "`8` is no day of the week"),
            ("0 2 * * MON#6", "`MON#6` is no day of the week"),
            ("a b c d e", "`a` is no minute"),
            ("0 */0 * * *", "`*/0` is no hour"),
            ("0 5-2 * * *", "`5-2` is no hour"),
        ] {
            assert!(refused(text).starts_with(begins), "{text}: {}", refused(text));
        }
        assert_eq!(refused(&"*".repeat(SCHEDULE_BYTES_MAX + 1)), "a schedule of more than 256 bytes");
    }

    #[test]
    fn a_day_that_never_comes_is_refused_when_it_is_read() {
        for text in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30 FEB *"] {
            assert_eq!(refused(text), format!("`{text}` never comes: no year has that day"));
        }
        // With a weekday, one of the two is enough.
        assert!(Schedule::parse("0 0 30 2 MON", TimeZone::UTC).is_ok());
    }

    #[test]
    fn what_people_write_is_read() {
        for text in [
            "0 2 * * *",
            " 0 2 * * * ",
            "*/5 * * * *",
            "@daily",
            "@Weekly",
            "0 2 L * *",
            "0 2 15W * *",
            "0 2 * * fri#L",
            "0 2 1 * +MON",
            "15,45 8-18/2 * jan-mar mon-fri",
            "0 2 ? * 7",
        ] {
            let schedule = Schedule::parse(text, TimeZone::UTC).unwrap();
            assert_eq!(schedule.text(), text.trim());
        }
    }
}
