//! Sets of tags that a rule asks for.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Tags that a snapshot must all have. Spelled as restic's `--keep-tag`: `a,b` asks for both, an empty text for a
/// snapshot without any tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TagSet(BTreeSet<String>);

/// A comma with nothing before or after it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tags `{0}`: a tag between commas is empty")]
pub struct EmptyTag(String);

impl TagSet {
    /// Whether a snapshot with `tags` has all tags of the set; of the empty set, whether it has none.
    pub fn matches(&self, tags: &[String]) -> bool {
        if self.0.is_empty() { tags.is_empty() } else { self.0.iter().all(|tag| tags.contains(tag)) }
    }
}

impl FromStr for TagSet {
    type Err = EmptyTag;

    fn from_str(text: &str) -> Result<Self, EmptyTag> {
        if text.trim().is_empty() {
            return Ok(Self(BTreeSet::new()));
        }
        let tags: BTreeSet<_> = text.split(',').map(|tag| tag.trim().to_owned()).collect();
        if tags.contains("") { Err(EmptyTag(text.to_owned())) } else { Ok(Self(tags)) }
    }
}

impl TryFrom<String> for TagSet {
    type Error = EmptyTag;

    fn try_from(text: String) -> Result<Self, EmptyTag> {
        text.parse()
    }
}

impl From<TagSet> for String {
    fn from(tags: TagSet) -> Self {
        tags.to_string()
    }
}

impl fmt::Display for TagSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, tag) in self.0.iter().enumerate() {
            write!(f, "{}{tag}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_asks_for_all_its_tags_and_the_empty_set_for_none() {
        let tags = ["legal".to_owned(), "job:db".to_owned()];
        for (set, matches) in [("legal", true), ("legal, job:db", true), ("legal,other", false), ("", false)] {
            assert_eq!(set.parse::<TagSet>().unwrap().matches(&tags), matches, "{set}");
        }
        assert!("".parse::<TagSet>().unwrap().matches(&[]));
        assert!("a,,b".parse::<TagSet>().is_err());
    }
}
