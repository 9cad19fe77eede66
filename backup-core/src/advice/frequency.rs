//! How often: the rarest schedule that keeps to what may be lost, with a margin.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::calendar::Slot;
use super::given::{Bearable, Criticality};
use super::{as_seconds, as_seconds_or_none};
use crate::policy::{Objectives, Trigger, in_words, predicted};
use crate::schedule::Schedule;

/// When something runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Frequency {
    /// A cron expression.
    pub schedule: String,
    /// The longest time between two runs.
    #[serde(rename = "gap_seconds", serialize_with = "as_seconds")]
    pub gap: SignedDuration,
    /// What is lost at worst.
    #[serde(rename = "lost_seconds", serialize_with = "as_seconds")]
    pub lost: SignedDuration,
    /// What is lost at worst when one run fails for good and the next does not.
    #[serde(rename = "lost_with_one_failure_seconds", serialize_with = "as_seconds")]
    pub lost_with_one_failure: SignedDuration,
    /// What a run is thought to take; `None` where the size is not known.
    #[serde(rename = "run_seconds", serialize_with = "as_seconds_or_none")]
    pub run: Option<SignedDuration>,
    /// Why so often.
    pub because: String,
}

/// How far two runs lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interval {
    Week,
    HalfWeek,
    Day,
    Hours(u8),
    Minutes(u8),
}

/// From the rarest. Hours divide a day and minutes an hour, so that two runs lie equally far apart.
const INTERVALS: [Interval; 15] = [
    Interval::Week,
    Interval::HalfWeek,
    Interval::Day,
    Interval::Hours(12),
    Interval::Hours(8),
    Interval::Hours(6),
    Interval::Hours(4),
    Interval::Hours(3),
    Interval::Hours(2),
    Interval::Hours(1),
    Interval::Minutes(30),
    Interval::Minutes(20),
    Interval::Minutes(15),
    Interval::Minutes(10),
    Interval::Minutes(5),
];

/// One part of this many of what may be lost stays free: half an hour of a day and two hours, a minute of an hour. It is
/// for a store that is slow today, and for the first retry of a run.
const MARGIN_PART: i32 = 50;

/// The rarest schedule for what can be borne, whose runs take so long; `None` where there is none.
pub(super) fn frequency(
    bearable: Bearable,
    run: Option<SignedDuration>,
    slot: Slot,
    zone: &TimeZone,
    now: Timestamp,
) -> Option<Frequency> {
    let takes = run.unwrap_or_default();
    let margin = bearable.loss / MARGIN_PART;
    let allowed = bearable.loss.saturating_sub(margin).saturating_sub(takes);
    for interval in INTERVALS {
        let apart = interval.apart();
        // A run that takes most of the time until the next leaves none for its failure.
        if apart > allowed || takes.saturating_mul(4) > apart.saturating_mul(3) {
            continue;
        }
        let text = interval.text(slot);
        let gap = Schedule::parse(&text, zone.clone()).ok()?.longest_gap(now);
        if gap > allowed {
            continue;
        }
        let objectives = Objectives { rpo: Some(bearable.loss), rto: Some(bearable.outage) };
        let told = predicted(Trigger::Schedule { longest_gap: gap }, run.as_slice(), objectives)?;
        if told.missed_by.is_some() {
            continue;
        }
        let takes = match run {
            Some(run) => format!("and {} for a run", in_words(run)),
            None => "and what a run takes, which is not known".to_owned(),
        };
        let because = format!(
            "{} may be lost, and the rarest schedule that keeps to it loses {} at worst: {} between two runs, clocks that \
             change among them, {takes}",
            in_words(bearable.loss),
            in_words(told.lost),
            in_words(gap),
        );
        return Some(Frequency {
            schedule: text,
            gap,
            lost: told.lost,
            lost_with_one_failure: told.with_one_failure,
            run,
            because,
        });
    }
    None
}

/// When a drill restores something, and why so often.
pub(super) fn drill(criticality: Criticality, slot: Slot) -> (String, String) {
    let Slot { weekday, day, hour, minute } = slot;
    match criticality {
        Criticality::Critical => (
            format!("{minute} {hour} * * {weekday}"),
            "what is critical is restored every week: a week of backups that do not come back is the most that one can \
             have"
                .to_owned(),
        ),
        Criticality::Important | Criticality::Ordinary => (
            format!("{minute} {hour} {day} * *"),
            "a month between two drills is the longest for which a copy counts as restored lately".to_owned(),
        ),
    }
}

/// When a store is read back in full.
pub(super) fn read_back(slot: Slot) -> String {
    format!("{} {} {} * *", slot.minute, slot.hour, slot.day)
}

impl Interval {
    fn apart(self) -> SignedDuration {
        match self {
            Self::Week => SignedDuration::from_hours(7 * 24),
            Self::HalfWeek => SignedDuration::from_hours(4 * 24),
            Self::Day => SignedDuration::from_hours(24),
            Self::Hours(hours) => SignedDuration::from_hours(i64::from(hours)),
            Self::Minutes(minutes) => SignedDuration::from_mins(i64::from(minutes)),
        }
    }

    fn text(self, slot: Slot) -> String {
        let Slot { weekday, hour, minute, .. } = slot;
        match self {
            Self::Week => format!("{minute} {hour} * * {weekday}"),
            Self::HalfWeek => {
                let (first, second) = (weekday.min((weekday + 3) % 7), weekday.max((weekday + 3) % 7));
                format!("{minute} {hour} * * {first},{second}")
            }
            Self::Day => format!("{minute} {hour} * * *"),
            Self::Hours(1) => format!("{minute} * * * *"),
            Self::Hours(every) => match hour % every {
                0 => format!("{minute} */{every} * * *"),
                first => format!("{minute} {first}-23/{every} * * *"),
            },
            Self::Minutes(every) => match minute % every {
                0 => format!("*/{every} * * * *"),
                first => format!("{first}-59/{every} * * * *"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot { weekday: 2, day: 6, hour: 3, minute: 25 };

    fn chosen(loss: SignedDuration, run_minutes: i64, zone: &str) -> Option<String> {
        let bearable = Bearable { loss, outage: SignedDuration::from_hours(2) };
        let run = Some(SignedDuration::from_mins(run_minutes));
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        frequency(bearable, run, SLOT, &TimeZone::get(zone).unwrap(), now).map(|frequency| frequency.schedule)
    }

    #[test]
    fn the_rarest_schedule_that_keeps_to_the_loss_is_chosen() {
        let hours = SignedDuration::from_hours;
        for (loss, run, schedule) in [
            (hours(26), 10, "25 3 * * *"),
            (hours(24), 0, "25 3-23/12 * * *"),
            (hours(8 * 24), 10, "25 3 * * 2"),
            (hours(5 * 24), 10, "25 3 * * 2,5"),
            (hours(7), 10, "25 3-23/6 * * *"),
            (hours(2), 5, "25 * * * *"),
            (SignedDuration::from_mins(30), 1, "5-59/20 * * * *"),
        ] {
            assert_eq!(chosen(loss, run, "UTC").as_deref(), Some(schedule), "{loss:?}");
        }
    }

    #[test]
    fn an_hour_that_comes_twice_is_reckoned_with() {
        // Daily is 25 hours apart once a year.
        assert_eq!(chosen(SignedDuration::from_hours(25), 0, "UTC").as_deref(), Some("25 3 * * *"));
        assert_eq!(chosen(SignedDuration::from_hours(25), 0, "Europe/Paris").as_deref(), Some("25 3-23/12 * * *"));
    }

    #[test]
    fn what_no_schedule_can_keep_to_has_none() {
        assert_eq!(chosen(SignedDuration::from_mins(5), 1, "UTC"), None);
        assert_eq!(chosen(SignedDuration::from_hours(1), 55, "UTC"), None);
    }
}
