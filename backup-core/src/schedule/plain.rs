//! A schedule in the words of other schedulers.

use jiff::tz::TimeZone;

use super::Schedule;
use super::expression::fields;

/// A schedule that says no more than what cron, systemd and Kubernetes all understand: numbers, names, ranges, steps and
/// lists, without the `L`, `W`, `#` and `+` of the days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
    zone: TimeZone,
}

/// That a schedule has a word that is ours alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` has a day that only this program's own scheduler knows: `{field}`")]
pub struct NotPlain {
    /// The expression.
    pub text: String,
    /// The field.
    pub field: String,
}

/// The values of a field, in order, and whether it said `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    values: Vec<u8>,
    is_star: bool,
}

impl Schedule {
    /// The same in plain words.
    ///
    /// # Errors
    ///
    /// [`NotPlain`], where it takes a word that others do not know.
    pub fn plain(&self) -> Result<Plain, NotPlain> {
        let refused = |field: &str| NotPlain { text: self.text().to_owned(), field: field.to_owned() };
        let fields = fields(self.text());
        let read = |at: usize, first: u8, last: u8, names: &[&str]| {
            let text = fields.get(at).copied().unwrap_or_default();
            Field::read(text, first, last, names).ok_or_else(|| refused(text))
        };
        let mut weekdays = read(4, 0, 7, &WEEKDAYS)?;
        // Sunday has two numbers.
        if weekdays.values.last() == Some(&7) {
            weekdays.values.pop();
            if weekdays.values.first() != Some(&0) {
                weekdays.values.insert(0, 0);
            }
        }
        Ok(Plain {
            minutes: read(0, 0, 59, &[])?,
            hours: read(1, 0, 23, &[])?,
            days: read(2, 1, 31, &[])?,
            months: read(3, 1, 12, &MONTHS)?,
            weekdays,
            zone: self.zone().clone(),
        })
    }
}

impl Plain {
    /// Five fields of numbers, as any cron reads them, and Kubernetes. The zone is not among them.
    pub fn cron(&self) -> String {
        let fields = [&self.minutes, &self.hours, &self.days, &self.months, &self.weekdays];
        fields.map(Field::text).join(" ")
    }

    /// The name of the zone, where it has one.
    pub fn zone(&self) -> Option<&str> {
        self.zone.iana_name()
    }

    /// systemd's `OnCalendar=`, with the zone: two of them where cron takes either sort of days, because systemd wants
    /// both.
    pub fn on_calendar(&self) -> Vec<String> {
        let weekdays = self.weekdays.values.iter().map(|day| NAMES[usize::from(*day)]).collect::<Vec<_>>().join(",");
        let calendar = |weekdays: &str, days: &str| {
            let date = format!("*-{}-{days}", self.months.padded());
            let time = format!("{}:{}:00", self.hours.padded(), self.minutes.padded());
            [weekdays, &date, &time, self.zone().unwrap_or_default()]
                .into_iter()
                .filter(|word| !word.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
        };
        match (self.days.is_star, self.weekdays.is_star) {
            (true, true) => vec![calendar("", "*")],
            (false, true) => vec![calendar("", &self.days.padded())],
            (true, false) => vec![calendar(&weekdays, "*")],
            (false, false) => vec![calendar(&weekdays, "*"), calendar("", &self.days.padded())],
        }
    }
}

const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
/// The same as systemd writes them.
const NAMES: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

impl Field {
    /// The values of a field that croner could read; nothing where it has a word that is no number, name, range, step or
    /// list of them.
    fn read(text: &str, first: u8, last: u8, names: &[&str]) -> Option<Self> {
        let number = |word: &str| match names.iter().position(|name| name.eq_ignore_ascii_case(word)) {
            Some(at) => u8::try_from(at).ok().map(|at| at + first),
            None => word.parse().ok(),
        };
        let mut values = Vec::new();
        for part in text.split(',') {
            let (range, step) =
                part.split_once('/').map_or((part, Some(1)), |(range, step)| (range, step.parse().ok()));
            let (from, to) = match range.split_once('-') {
                _ if matches!(range, "*" | "?") => (first, last),
                Some((from, to)) => (number(from)?, number(to)?),
                None => (number(range)?, number(range)?),
            };
            values.extend((from..=to).step_by(usize::from(step.filter(|step: &u8| *step > 0)?)));
        }
        values.sort_unstable();
        values.dedup();
        Some(Self { values, is_star: matches!(text, "*" | "?") })
    }

    fn text(&self) -> String {
        if self.is_star { "*".to_owned() } else { self.joined(|value| value.to_string()) }
    }

    fn padded(&self) -> String {
        if self.is_star { "*".to_owned() } else { self.joined(|value| format!("{value:02}")) }
    }

    fn joined(&self, each: impl Fn(&u8) -> String) -> String {
        self.values.iter().map(each).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Result<Plain, NotPlain> {
        Schedule::parse(text, TimeZone::UTC).unwrap().plain()
    }

    #[test]
    fn a_schedule_is_said_in_the_words_of_others() {
        for (text, cron, on_calendar) in [
            ("0 2 * * *", "0 2 * * *", &["*-*-* 02:00:00 UTC"][..]),
            ("@hourly", "0 * * * *", &["*-*-* *:00:00 UTC"]),
            (
                "*/15 8-18/5 * * mon-fri",
                "0,15,30,45 8,13,18 * * 1,2,3,4,5",
                &["Mon,Tue,Wed,Thu,Fri *-*-* 08,13,18:00,15,30,45:00 UTC"],
            ),
            ("0 3 * * 7", "0 3 * * 0", &["Sun *-*-* 03:00:00 UTC"]),
            ("0 3 1 jan,jul *", "0 3 1 1,7 *", &["*-01,07-01 03:00:00 UTC"]),
            ("0 3 13 * FRI", "0 3 13 * 5", &["Fri *-*-* 03:00:00 UTC", "*-*-13 03:00:00 UTC"]),
            ("0 3 ? * 5-7", "0 3 * * 0,5,6", &["Sun,Fri,Sat *-*-* 03:00:00 UTC"]),
        ] {
            let plain = plain(text).unwrap();
            assert_eq!(plain.cron(), cron, "{text}");
            assert_eq!(plain.on_calendar(), on_calendar, "{text}");
        }
    }

    #[test]
    fn what_others_do_not_know_is_refused_with_its_name() {
        for (text, field) in
            [("0 2 L * *", "L"), ("0 2 15W * *", "15W"), ("0 2 * * MON#2", "MON#2"), ("0 2 1 * +MON", "+MON")]
        {
            assert_eq!(plain(text), Err(NotPlain { text: text.to_owned(), field: field.to_owned() }));
        }
    }
}
