//! The rules as the configuration and the command line spell them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Period, Span, TagSet};
use crate::contracts::Proof;

/// What to keep: the table `retention` of a configuration, and the `--keep-*` options of `forget`. A snapshot stays
/// when any rule keeps it. The names are restic's; [`super::KeepRules`] says exactly what each means.
///
/// ```
/// # use backup_core::retention::{Count, Rules};
/// let rules = Rules { within: Some("90d".parse()?), monthly: Some(Count::AtMost(12)), ..Rules::default() };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// The newest snapshots, this many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Count>,
    /// The newest of each hour that has any, for this many such hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hourly: Option<Count>,
    /// The newest of each day that has any, for this many such days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily: Option<Count>,
    /// The newest of each week that has any, for this many such weeks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekly: Option<Count>,
    /// The newest of each month that has any, for this many such months.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly: Option<Count>,
    /// The newest of each year that has any, for this many such years.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yearly: Option<Count>,
    /// All that are less than this older than the group's newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
    /// The newest of each hour, among those less than this older than the group's newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_hourly: Option<Span>,
    /// The newest of each day, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_daily: Option<Span>,
    /// The newest of each week, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_weekly: Option<Span>,
    /// The newest of each month, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_monthly: Option<Span>,
    /// The newest of each year, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_yearly: Option<Span>,
    /// All that have every tag of one of these sets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<TagSet>,
    /// How well a newer snapshot must be proven before an older one may go for it; no rule, but a condition on all.
    pub require: Proof,
}

/// How many a rule keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Count {
    /// At most this many. None is as good as no rule: `hourly = 0` switches a rule off.
    AtMost(u32),
    /// As many as there are; spelled `unlimited`.
    Unlimited,
}

/// A text or number that is no [`Count`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a number of snapshots: write 0, 1, 2, … or `unlimited`")]
pub struct NotACount(String);

impl Rules {
    /// Whether no rule could keep anything.
    pub fn is_empty(&self) -> bool {
        let counts = self.counts().into_iter().filter_map(|(_, _, count)| count).chain(self.last);
        let spans = self.spans().into_iter().filter_map(|(_, _, span)| span).chain(self.within);
        counts.filter(|count| *count != Count::AtMost(0)).count() + spans.count() + self.tags.len() == 0
    }

    /// The rules that count periods, with the words that the configuration has for them.
    pub(super) fn counts(&self) -> [(&'static str, Period, Option<Count>); 5] {
        [
            ("hourly", Period::Hour, self.hourly),
            ("daily", Period::Day, self.daily),
            ("weekly", Period::Week, self.weekly),
            ("monthly", Period::Month, self.monthly),
            ("yearly", Period::Year, self.yearly),
        ]
    }

    /// The rules that thin out a stretch of time by period.
    pub(super) fn spans(&self) -> [(&'static str, Period, Option<Span>); 5] {
        [
            ("within_hourly", Period::Hour, self.within_hourly),
            ("within_daily", Period::Day, self.within_daily),
            ("within_weekly", Period::Week, self.within_weekly),
            ("within_monthly", Period::Month, self.within_monthly),
            ("within_yearly", Period::Year, self.within_yearly),
        ]
    }
}

impl Count {
    /// The number of snapshots that it is at most.
    pub(super) fn limit(self) -> usize {
        match self {
            Self::AtMost(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
            Self::Unlimited => usize::MAX,
        }
    }
}

impl Default for Rules {
    /// No rule, and [`Proof::Present`] required.
    fn default() -> Self {
        Self {
            last: None,
            hourly: None,
            daily: None,
            weekly: None,
            monthly: None,
            yearly: None,
            within: None,
            within_hourly: None,
            within_daily: None,
            within_weekly: None,
            within_monthly: None,
            within_yearly: None,
            tags: Vec::new(),
            require: Proof::Present,
        }
    }
}

impl FromStr for Count {
    type Err = NotACount;

    fn from_str(text: &str) -> Result<Self, NotACount> {
        match text {
            "unlimited" => Ok(Self::Unlimited),
            _ => text.parse().map(Self::AtMost).map_err(|_| NotACount(text.to_owned())),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(count) => count.fmt(f),
            Self::Unlimited => f.pad("unlimited"),
        }
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::AtMost(count) => serializer.serialize_u32(*count),
            Self::Unlimited => serializer.serialize_str("unlimited"),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of snapshots or `unlimited`")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Count, E> {
                u32::try_from(number).map(Count::AtMost).map_err(|_| E::custom(NotACount(number.to_string())))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Count, E> {
                u32::try_from(number).map(Count::AtMost).map_err(|_| E::custom(NotACount(number.to_string())))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Count, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Rules, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn rules_are_read_from_a_configuration_and_written_back() {
        let rules = read(r#"{"within": "90d", "monthly": 12, "yearly": "unlimited", "tags": ["legal,2024"]}"#).unwrap();
        assert_eq!(rules.within, Some("90d".parse().unwrap()));
        assert_eq!((rules.monthly, rules.yearly), (Some(Count::AtMost(12)), Some(Count::Unlimited)));
        assert_eq!(rules.require, Proof::Present);
        assert!(!rules.is_empty());
        let json = serde_json::to_string(&rules).unwrap();
        assert_eq!(
            json,
            r#"{"monthly":12,"yearly":"unlimited","within":"90d","tags":["2024,legal"],"require":"present"}"#
        );
        assert_eq!(read(&json), Ok(rules));
    }

    #[test]
    fn what_is_wrong_in_a_configuration_is_named() {
        for (json, part) in [
            (r#"{"within": "90x"}"#, "unknown unit `x` after `90`"),
            (r#"{"daily": -1}"#, "`-1` is not a number of snapshots"),
            (r#"{"daily": "all"}"#, "`all` is not a number of snapshots"),
            (r#"{"dayly": 1}"#, "unknown field `dayly`"),
            (r#"{"require": "tested"}"#, "unknown variant `tested`"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
    }

    #[test]
    fn rules_that_are_all_switched_off_are_empty() {
        assert!(read("{}").unwrap().is_empty());
        assert!(read(r#"{"last": 0, "hourly": 0, "require": "verified"}"#).unwrap().is_empty());
        for json in [
            r#"{"last": 1}"#,
            r#"{"yearly": 1}"#,
            r#"{"within": "1h"}"#,
            r#"{"within_daily": "1d"}"#,
            r#"{"tags": [""]}"#,
        ] {
            assert!(!read(json).unwrap().is_empty(), "{json}");
        }
    }
}
