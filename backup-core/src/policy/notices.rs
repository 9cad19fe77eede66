//! Whether somebody is told of something: when it goes bad, now and then while it is, and when it is good again.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// What was last told of a matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastTold {
    /// When.
    pub time: Timestamp,
    /// Whether it was that it is bad.
    pub was_bad: bool,
}

/// What is to be told now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Notice {
    /// It has gone bad.
    Bad,
    /// It is still bad.
    Still,
    /// It is good again.
    Recovered,
}

/// What is to be told of a matter that is, or is not, bad at `now`, when `last` was told of it, and what lasts is told
/// again after `repeat`.
///
/// Once for each change, however often it is asked. What was told by a clock that was ahead counts as of now.
pub fn notice(is_bad: bool, last: Option<LastTold>, repeat: SignedDuration, now: Timestamp) -> Option<Notice> {
    match (is_bad, last) {
        (true, Some(LastTold { was_bad: true, time })) => (now.duration_since(time) >= repeat).then_some(Notice::Still),
        (true, _) => Some(Notice::Bad),
        (false, Some(LastTold { was_bad: true, .. })) => Some(Notice::Recovered),
        (false, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_told_once_and_what_lasts_once_a_while() {
        let at = |hour: i64| Timestamp::from_second(hour * 3_600).unwrap();
        let last = |hour, was_bad| Some(LastTold { time: at(hour), was_bad });
        let day = SignedDuration::from_hours(24);
        for (is_bad, last, now, expected) in [
            (false, None, 0, None),
            (true, None, 0, Some(Notice::Bad)),
            (true, last(0, true), 23, None),
            (true, last(0, true), 24, Some(Notice::Still)),
            (false, last(0, true), 1, Some(Notice::Recovered)),
            (false, last(0, false), 99, None),
            (true, last(0, false), 1, Some(Notice::Bad)),
            (true, last(50, true), 0, None),
        ] {
            assert_eq!(notice(is_bad, last, day, at(now)), expected, "{is_bad} {last:?} {now}");
        }
    }
}
