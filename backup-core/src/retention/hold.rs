//! Holds: what a person protects by hand.
//!
//! A hold is two tags of the snapshot: [`Hold::TAG`], and for a hold that ends also `hold-until:` with an RFC 3339
//! instant, for example `hold-until:2027-01-31T00:00:00Z`. Tags, because restic shows them with every snapshot,
//! copies them, and respects them when it is run with `--keep-tag hold`. `--keep-tag` compares whole tags, so the
//! first tag is the same for every hold and the instant stands in a second one. restic knows no instant: for it the
//! snapshot is held until the tag is taken away.
//!
//! What cannot be read is a hold without an end: a slip in a tag never opens a snapshot to removal.
//!
//! Changing tags writes the snapshot again under another id (its `original` names the first). Whoever keeps facts by
//! snapshot id, such as its proof, must follow that.

use jiff::Timestamp;
use serde::Serialize;

use super::as_text_or_none;

/// A hold as the tags of a snapshot spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Hold {
    /// The first instant at which it holds no longer; `None` for a hold without an end.
    #[serde(serialize_with = "as_text_or_none")]
    pub until: Option<Timestamp>,
}

impl Hold {
    /// The tag of every held snapshot; what `restic forget --keep-tag` is given.
    pub const TAG: &str = "hold";
    const UNTIL: &str = "hold-until:";

    /// The hold that `tags` spell, also one that has ended; `None` when they spell none.
    ///
    /// Of several instants the latest counts, and one that cannot be read has no end. An instant without
    /// [`Hold::TAG`] is a hold too: taking one tag away is not enough to lose the snapshot.
    pub fn of(tags: &[String]) -> Option<Self> {
        let mut hold = tags.iter().any(|tag| tag == Self::TAG).then_some(Self { until: None });
        let instants = tags.iter().filter_map(|tag| tag.strip_prefix(Self::UNTIL)).map(|text| text.trim().parse().ok());
        for (index, until) in instants.enumerate() {
            let latest = match hold {
                Some(Self { until: before }) if index > 0 => before.zip(until).map(|(before, until)| before.max(until)),
                _ => until,
            };
            hold = Some(Self { until: latest });
        }
        hold
    }

    /// Whether it holds at `now`.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// `tags` with this hold and no other.
    pub fn placed_on(&self, tags: &[String]) -> Vec<String> {
        let until = self.until.map(|until| format!("{}{until}", Self::UNTIL));
        Self::released_from(tags).into_iter().chain([Self::TAG.to_owned()]).chain(until).collect()
    }

    /// `tags` without any hold.
    pub fn released_from(tags: &[String]) -> Vec<String> {
        tags.iter().filter(|tag| !Self::spells(tag)).cloned().collect()
    }

    /// Whether `tag` is a part of a hold.
    pub fn spells(tag: &str) -> bool {
        tag == Self::TAG || tag.starts_with(Self::UNTIL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(tags: &[&str]) -> Vec<String> {
        tags.iter().map(ToString::to_string).collect()
    }

    fn until(text: &str) -> Option<Hold> {
        Some(Hold { until: Some(text.parse().unwrap()) })
    }

    const FOREVER: Option<Hold> = Some(Hold { until: None });

    #[test]
    fn holds_are_read_from_tags_and_doubt_holds() {
        for (spelled, hold) in [
            (&["daily", "job:hold", "on-hold", "holding"][..], None),
            (&["hold"], FOREVER),
            (&["hold", "hold-until:2027-01-31T00:00:00Z"], until("2027-01-31T00:00:00Z")),
            (&["hold-until:2027-01-31T00:00:00+01:00"], until("2027-01-30T23:00:00Z")),
            (
                &["hold-until:2028-01-01T00:00:00Z", "hold", "hold-until:2027-01-01T00:00:00Z"],
                until("2028-01-01T00:00:00Z"),
            ),
            (&["hold-until:2027-01-01T00:00:00Z", "hold-until:2028-01-01T00:00:00Z"], until("2028-01-01T00:00:00Z")),
            (&["hold", "hold-until:next year"], FOREVER),
            (&["hold-until:2027-01-01T00:00:00Z", "hold-until:soon"], FOREVER),
            (&["hold-until:soon", "hold-until:2027-01-01T00:00:00Z"], FOREVER),
            (&["hold-until:"], FOREVER),
        ] {
            assert_eq!(Hold::of(&tags(spelled)), hold, "{spelled:?}");
        }
    }

    #[test]
    fn what_is_placed_is_read_again_and_can_be_released() {
        let before = tags(&["job:db", "hold", "hold-until:2020-01-01T00:00:00Z"]);
        for hold in [until("2027-01-31T00:00:00Z").unwrap(), FOREVER.unwrap()] {
            let held = hold.placed_on(&before);
            assert_eq!(Hold::of(&held), Some(hold));
            assert!(held.contains(&Hold::TAG.to_owned()));
            assert_eq!(Hold::released_from(&held), tags(&["job:db"]));
        }
    }

    #[test]
    fn a_hold_ends_at_its_instant() {
        let hold = until("2027-01-31T00:00:00Z").unwrap();
        assert!(hold.holds_at("2027-01-30T23:59:59.999999999Z".parse().unwrap()));
        assert!(!hold.holds_at("2027-01-31T00:00:00Z".parse().unwrap()));
    }
}
