//! How long: the rules of each store for each thing.

use jiff::SignedDuration;
use serde::Serialize;

use super::given::Criticality;
use crate::retention::{Count, Rules, Span};

/// How long snapshots of something stay in a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Keeping {
    /// The rules.
    pub rules: Rules,
    /// For how many days what changed is kept day by day.
    pub days: u32,
    /// The least number of days that anything stays.
    pub days_least: u32,
    /// For how many months one of each is kept.
    pub months: u32,
    /// Why so long.
    pub because: String,
}

/// Whether a store is the one for every day, or the one for what nobody noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distance {
    /// The first of several.
    Near,
    /// Any other, and the only one.
    Far,
}

/// Days in the near store: a month covers what is noticed at its end.
const DAYS_NEAR: u32 = 30;
/// Days in the far one: a quarter covers what an audit of the quarter finds.
const DAYS_FAR: u32 = 90;
/// Months in the far one: a year covers what comes once a year.
const MONTHS_FAR: u32 = 12;
/// Days for which every run is kept, where there are several a day: within these one still knows which hour was good.
const DAYS_EACH: u32 = 3;
/// Several a day are runs that lie less than this apart.
const SEVERAL: SignedDuration = SignedDuration::from_hours(6);

/// How long what runs so often stays.
pub(super) fn keeping(distance: Distance, criticality: Criticality, gap: SignedDuration) -> Keeping {
    let days = if distance == Distance::Near { DAYS_NEAR } else { DAYS_FAR };
    let months = match (distance, criticality) {
        (Distance::Near, _) | (_, Criticality::Ordinary) => 0,
        (Distance::Far, _) => MONTHS_FAR,
    };
    let span = |days: u32| format!("{days}d").parse::<Span>().ok();
    let is_dense = gap < SEVERAL;
    let rules = Rules {
        within: span(if is_dense { DAYS_EACH } else { days }),
        within_daily: if is_dense { span(days) } else { None },
        monthly: (months > 0).then_some(Count::AtMost(months)),
        ..Rules::default()
    };
    let why = match distance {
        Distance::Near => "most of what goes wrong is noticed within a month",
        Distance::Far => "what was deleted or broken unnoticed is found at the end of a quarter",
    };
    let year = if months > 0 { ", and what comes once a year is found in one of each month" } else { "" };
    let dense = match is_dense {
        true => format!("; every run for {DAYS_EACH} days and then one a day, because each hour matters only at first"),
        false => String::new(),
    };
    let because = format!("{why}{year}{dense}");
    Keeping { rules, days, days_least: if is_dense { DAYS_EACH } else { days }, months, because }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_often_is_thinned_out_and_what_is_ordinary_is_not_kept_for_a_year() {
        let hours = SignedDuration::from_hours;
        let daily = keeping(Distance::Far, Criticality::Critical, hours(24));
        assert_eq!((daily.days_least, daily.months, daily.rules.within_daily), (90, 12, None));
        let hourly = keeping(Distance::Near, Criticality::Critical, hours(1));
        assert_eq!((hourly.days, hourly.days_least, hourly.months), (30, 3, 0));
        assert_eq!(hourly.rules.within_daily, "30d".parse().ok());
        assert_eq!(keeping(Distance::Far, Criticality::Ordinary, hours(168)).months, 0);
    }
}
