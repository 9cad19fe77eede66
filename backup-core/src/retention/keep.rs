//! The policy that restic's users know: keep by count, by period, by age and by tag.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Count, Period, Rules};
use crate::contracts::{Decision, KeepReason, Proof, RetentionPolicy, SnapshotFacts};

/// [`Rules`] that keep something, and the time zone whose calendar they follow.
///
/// It follows restic's `forget` ([its manual], "Removing snapshots according to a policy"):
///
/// * A snapshot stays when any rule keeps it. Rules do not share their counts: one snapshot can be the newest of its
///   day and of its month, and counts for both.
/// * `last` keeps the newest. `hourly` to `yearly` keep the newest of each period of the calendar, and count only
///   periods that have a snapshot. Weeks are ISO weeks.
/// * While a rule by period has counts left, the oldest snapshot of the group fills one more: a history of eight
///   days under `monthly = 12` keeps its first day until twelve months have snapshots.
/// * `within` reaches back from the group's newest snapshot, not from `now`: where backups stop, nothing expires.
///   What is exactly that old is out. `within_hourly` to `within_yearly` keep the newest of each period in that
///   stretch, and the group's oldest snapshot, where the stretch includes it.
/// * `tags` keeps what has all tags of one set; the empty set keeps what has no tag.
/// * No rule at all is an error, and not a wish to remove everything.
///
/// It differs where following would lose a backup or depend on where one stands:
///
/// * Days begin at midnight of the named zone. restic takes each snapshot's own offset from UTC, so that two machines,
///   or summer and winter, have different days.
/// * The hour that a clock shows twice when it is set back is two hours ([`Period::Hour`]).
/// * A month or year before a day that does not exist ends on the month's last day ([`super::Span::before`]).
/// * Snapshots later than `now` stay and count for nothing. In restic they use up counts, so that `last = 1` and one
///   machine whose clock is ahead cost every other snapshot.
///
/// [its manual]: https://restic.readthedocs.io/en/stable/060_forget.html
#[derive(Clone, Debug)]
pub struct KeepRules {
    rules: Rules,
    time_zone: TimeZone,
}

/// Why rules cannot be a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// There is no rule, or each is switched off by a count of zero.
    #[error(
        "no retention rule keeps anything: give one, such as `within = \"30d\"`; without a rule nothing is removed"
    )]
    Empty,
    /// Less proof is required than nothing can be removed without.
    #[error("retention cannot require less than `present`: an upload that nobody has looked at replaces nothing")]
    RequireTooLow,
}

impl KeepRules {
    /// The policy that `rules` are by the calendar of `time_zone`.
    ///
    /// # Errors
    ///
    /// [`RulesError`], when no rule keeps anything or less than [`Proof::Present`] is required.
    pub fn new(rules: Rules, time_zone: TimeZone) -> Result<Self, RulesError> {
        if rules.is_empty() {
            return Err(RulesError::Empty);
        }
        if rules.require < Proof::Present {
            return Err(RulesError::RequireTooLow);
        }
        Ok(Self { rules, time_zone })
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The newest of each period in `newest_first`, with whether it is there for being the oldest of all; at most
    /// `count`, and none at or before `since`.
    fn newest_of_each(
        &self,
        period: Period,
        newest_first: &[&SnapshotFacts],
        count: Count,
        since: Option<Timestamp>,
    ) -> Vec<(usize, Place)> {
        let mut kept = Vec::new();
        let mut before = None;
        for (index, facts) in newest_first.iter().enumerate() {
            if kept.len() == count.limit() || since.is_some_and(|since| facts.time <= since) {
                break;
            }
            let bucket = Some(period.bucket(facts.time, &self.time_zone));
            if bucket != before {
                kept.push((index, Place::NewestOfPeriod));
            } else if index + 1 == newest_first.len() {
                kept.push((index, Place::OldestOfGroup));
            }
            before = bucket;
        }
        kept
    }
}

impl RetentionPolicy for KeepRules {
    fn decide(&self, newest_first: &[&SnapshotFacts], now: Timestamp) -> Vec<Decision> {
        let future = newest_first.iter().take_while(|facts| facts.time > now).count();
        let (_, past) = newest_first.split_at(future);
        let mut reasons: Vec<Vec<KeepReason>> = vec![Vec::new(); past.len()];

        if let Some(count) = self.rules.last {
            for reasons in reasons.iter_mut().take(count.limit()) {
                reasons.push(KeepReason::new("last", "last snapshot"));
            }
        }
        for (rule, period, count) in self.rules.counts() {
            let Some(count) = count else { continue };
            for (index, place) in self.newest_of_each(period, past, count, None) {
                reasons[index].push(KeepReason::new(rule, format!("{}{period} snapshot", place.prefix())));
            }
        }
        if let Some(newest) = past.first() {
            if let Some(span) = self.rules.within {
                let since = span.before(newest.time, &self.time_zone);
                for (_, reasons) in past.iter().zip(&mut reasons).take_while(|(facts, _)| facts.time > since) {
                    reasons.push(KeepReason::new("within", format!("within {span}")));
                }
            }
            for (rule, period, span) in self.rules.spans() {
                let Some(span) = span else { continue };
                let since = span.before(newest.time, &self.time_zone);
                for (index, place) in self.newest_of_each(period, past, Count::Unlimited, Some(since)) {
                    reasons[index].push(KeepReason::new(rule, format!("{}{period} within {span}", place.prefix())));
                }
            }
        }
        for set in &self.rules.tags {
            for (facts, reasons) in past.iter().zip(&mut reasons).filter(|(facts, _)| set.matches(&facts.tags)) {
                let text = if facts.tags.is_empty() { "has no tags".to_owned() } else { format!("has tags {set}") };
                reasons.push(KeepReason::new("tags", text));
            }
        }

        let decide = |reasons: Vec<_>| if reasons.is_empty() { Decision::Remove } else { Decision::Keep(reasons) };
        let ahead = || Decision::Keep(vec![KeepReason::new("future", "later than now: a clock is wrong")]);
        std::iter::repeat_with(ahead).take(future).chain(reasons.into_iter().map(decide)).collect()
    }

    fn required_proof(&self) -> Proof {
        self.rules.require
    }
}

/// Why a rule by period kept a snapshot.
#[derive(Clone, Copy)]
enum Place {
    NewestOfPeriod,
    OldestOfGroup,
}

impl Place {
    fn prefix(self) -> &'static str {
        match self {
            Self::NewestOfPeriod => "",
            Self::OldestOfGroup => "oldest ",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retention::sample::{decide, facts, paris};

    /// The policy of `json` in `zone`.
    fn policy(json: &str, zone: TimeZone) -> KeepRules {
        KeepRules::new(serde_json::from_str(json).unwrap(), zone).unwrap()
    }

    /// What `json` keeps of snapshots at `times`: the times, with the reasons.
    fn kept(json: &str, zone: TimeZone, times: &[&str]) -> Vec<(String, String)> {
        let facts: Vec<_> = times.iter().map(|time| facts(time)).collect();
        decide(&policy(json, zone), &facts, "2030-01-01T00:00:00Z")
    }

    fn kept_times(json: &str, zone: TimeZone, times: &[&str]) -> Vec<String> {
        kept(json, zone, times).into_iter().map(|(time, _)| time).collect()
    }

    const UTC: TimeZone = TimeZone::UTC;

    /// The example of restic's manual: working days, Fridays twice, one Wednesday missed.
    const WORKING_DAYS: [&str; 11] = [
        "2025-04-21T11:00:00Z",
        "2025-04-22T11:00:00Z",
        "2025-04-23T11:00:00Z",
        "2025-04-24T11:00:00Z",
        "2025-04-25T11:00:00Z",
        "2025-04-25T23:00:00Z",
        "2025-04-28T11:00:00Z",
        "2025-04-29T11:00:00Z",
        "2025-05-01T11:00:00Z",
        "2025-05-02T11:00:00Z",
        "2025-05-02T23:00:00Z",
    ];

    #[test]
    fn the_examples_of_restics_manual_come_out_as_printed_there() {
        let week = ["2025-05-02T23:00:00Z", "2025-05-01T11:00:00Z", "2025-04-29T11:00:00Z", "2025-04-28T11:00:00Z"];
        assert_eq!(kept_times(r#"{"within_daily": "7d"}"#, UTC, &WORKING_DAYS), week);
        let with_friday: Vec<_> = week.into_iter().chain(["2025-04-25T23:00:00Z"]).collect();
        assert_eq!(kept_times(r#"{"daily": 5}"#, UTC, &WORKING_DAYS), with_friday);
    }

    #[test]
    fn a_hundred_years_of_days_are_thinned_out_as_restics_manual_counts() {
        let first: jiff::civil::Date = "1920-01-01".parse().unwrap();
        let days: Vec<_> = first.series(jiff::Span::new().days(1)).take_while(|day| day.year() < 2020).collect();
        let times: Vec<_> = days.iter().map(|day| format!("{day}T12:00:00Z")).collect();
        let times: Vec<_> = times.iter().map(String::as_str).collect();
        let kept = kept(r#"{"daily": 7, "weekly": 5, "monthly": 12, "yearly": 75}"#, UTC, &times);
        let count = |part: &str| kept.iter().filter(|(_, why)| why.split(", ").any(|one| one == part)).count();
        assert_eq!(
            ["daily snapshot", "weekly snapshot", "monthly snapshot", "yearly snapshot"].map(count),
            [7, 5, 12, 75]
        );
        // One week ends among the seven days, one month is the last day, one year is a last month.
        assert_eq!(kept[0].1, "daily snapshot, weekly snapshot, monthly snapshot, yearly snapshot");
    }

    #[test]
    fn the_oldest_snapshot_fills_a_period_rule_that_is_not_full() {
        let times = ["2024-01-01T10:00:00Z", "2024-01-01T11:00:00Z", "2024-01-02T10:00:00Z"];
        let kept = |json: &str| kept(json, UTC, &times);
        let day = |time: &str, why: &str| (time.to_owned(), why.to_owned());
        let two = [day(times[2], "daily snapshot"), day(times[1], "daily snapshot")];
        assert_eq!(kept(r#"{"daily": 2}"#), two);
        let three: Vec<_> = two.into_iter().chain([day(times[0], "oldest daily snapshot")]).collect();
        assert_eq!(kept(r#"{"daily": 3}"#), three);
        assert_eq!(kept(r#"{"daily": "unlimited"}"#), three);
        assert_eq!(kept(r#"{"within_daily": "9d"}"#)[2].1, "oldest daily within 9d");
        assert_eq!(kept(r#"{"within_daily": "1d"}"#).len(), 2, "the oldest is out of the stretch");
        assert_eq!(kept(r#"{"last": 2}"#).len(), 2, "`last` has no period to fill");
    }

    #[test]
    fn within_reaches_back_from_the_newest_and_leaves_out_its_very_edge() {
        let times = ["2020-03-31T12:00:00Z", "2020-03-01T12:00:00.000000001Z", "2020-03-01T12:00:00Z"];
        assert_eq!(kept_times(r#"{"within": "30d"}"#, UTC, &times), times[..2]);
        assert_eq!(kept_times(r#"{"within": "720h"}"#, UTC, &times), times[..2]);
    }

    #[test]
    fn the_zone_decides_which_day_a_snapshot_is_of() {
        let times = ["2024-06-10T22:30:00Z", "2024-06-10T21:30:00Z", "2024-06-09T23:00:00Z"];
        assert_eq!(kept_times(r#"{"daily": 2}"#, UTC, &times), [times[0], times[2]]);
        assert_eq!(kept_times(r#"{"daily": 2}"#, paris(), &times), [times[0], times[1]]);
        let tokyo = TimeZone::posix("JST-9").unwrap();
        assert_eq!(kept_times(r#"{"daily": 1}"#, tokyo, &times), [times[0]]);
    }

    #[test]
    fn no_hour_is_lost_in_the_night_when_the_clock_goes_back() {
        let times = ["2024-10-27T02:30:00Z", "2024-10-27T01:30:00Z", "2024-10-27T00:30:00Z", "2024-10-26T23:30:00Z"];
        assert_eq!(kept_times(r#"{"hourly": 4}"#, paris(), &times), times);
        assert_eq!(kept_times(r#"{"daily": 1}"#, paris(), &times), times[..1]);
    }

    #[test]
    fn the_last_week_of_the_year_is_one_week() {
        let times = ["2021-01-04T09:00:00Z", "2021-01-03T09:00:00Z", "2020-12-28T09:00:00Z", "2020-12-27T09:00:00Z"];
        assert_eq!(kept_times(r#"{"weekly": 3}"#, UTC, &times), [times[0], times[1], times[3]]);
        assert_eq!(kept_times(r#"{"yearly": 2}"#, UTC, &times), [times[0], times[2]]);
    }

    #[test]
    fn a_year_back_from_the_leap_day_is_the_end_of_february() {
        let times = ["2024-02-29T12:00:00Z", "2023-03-01T12:00:00Z", "2023-02-28T12:00:01Z", "2023-02-28T12:00:00Z"];
        assert_eq!(kept_times(r#"{"within": "1y"}"#, UTC, &times), times[..3]);
    }

    #[test]
    fn tags_keep_what_has_every_tag_of_a_set() {
        let times = ["2024-01-03T00:00:00Z", "2024-01-02T00:00:00Z", "2024-01-01T00:00:00Z"];
        let tags: [&[&str]; 3] = [&["legal", "2024"], &["legal"], &[]];
        let facts: Vec<_> = times.iter().zip(tags).map(|(time, tags)| facts(time).tagged(tags)).collect();
        let kept = |json: &str| decide(&policy(json, UTC), &facts, "2030-01-01T00:00:00Z");
        let one = |index: usize, why: &str| (times[index].to_owned(), why.to_owned());
        assert_eq!(kept(r#"{"tags": ["legal,2024"]}"#), [one(0, "has tags 2024,legal")]);
        assert_eq!(kept(r#"{"tags": ["2024", ""]}"#), [one(0, "has tags 2024"), one(2, "has no tags")]);
    }

    #[test]
    fn a_clock_that_is_ahead_costs_no_snapshot() {
        let facts = ["2024-01-03T00:00:00Z", "2024-01-02T00:00:00Z", "2024-01-01T00:00:00Z"].map(facts);
        let kept = |json| decide(&policy(json, UTC), &facts, "2024-01-02T12:00:00Z");
        for json in [r#"{"last": 1}"#, r#"{"daily": 1}"#, r#"{"within": "1d"}"#] {
            let kept = kept(json);
            assert_eq!(kept.len(), 2, "{json}");
            assert_eq!(kept[0].1, "later than now: a clock is wrong");
            assert_eq!(kept[1].0, "2024-01-02T00:00:00Z");
        }
    }

    #[test]
    fn rules_that_keep_nothing_or_require_too_little_are_no_policy() {
        let refused = |json: &str| KeepRules::new(serde_json::from_str(json).unwrap(), UTC).unwrap_err();
        assert_eq!(refused("{}"), RulesError::Empty);
        assert_eq!(refused(r#"{"last": 0}"#), RulesError::Empty);
        assert_eq!(refused(r#"{"last": 1, "require": "uploaded"}"#), RulesError::RequireTooLow);
    }
}
