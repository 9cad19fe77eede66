//! Which snapshot a drill restores. The newest is what one would want back; the others show that what is kept is worth
//! keeping.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::model::{Snapshot, SnapshotId};
use crate::{Error, ErrorKind, Result};

/// Which snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The newest.
    Latest,
    /// The oldest that is still kept.
    Oldest,
    /// Each as likely as the others; the number is drawn by the caller from all 64-bit numbers.
    Random(u64),
    /// The one whose id begins so.
    Id(String),
}

impl Choice {
    /// The word for it in a record.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Oldest => "oldest",
            Self::Random(_) => "random",
            Self::Id(_) => "id",
        }
    }
}

/// The snapshot among `snapshots`, oldest first, that is meant.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] when there is none, [`ErrorKind::Invalid`] when the beginning of an id fits several.
pub fn choose<'a>(snapshots: &'a [(SnapshotId, Snapshot)], choice: &Choice) -> Result<&'a (SnapshotId, Snapshot)> {
    let none = || {
        Error::new(ErrorKind::NotFound("no snapshot matches".to_owned()), choice.word())
            .with_hint("`snapshots` lists those that there are")
    };
    match choice {
        Choice::Latest => snapshots.last().ok_or_else(none),
        Choice::Oldest => snapshots.first().ok_or_else(none),
        Choice::Random(number) => {
            let count = snapshots.len() as u64;
            // The remainder of a 64-bit number by a number of snapshots is even enough.
            let index = number.checked_rem(count).and_then(|index| usize::try_from(index).ok());
            index.and_then(|index| snapshots.get(index)).ok_or_else(none)
        }
        Choice::Id(prefix) => {
            let mut found = snapshots.iter().filter(|(id, _)| !prefix.is_empty() && id.to_string().starts_with(prefix));
            match (found.next(), found.next()) {
                (Some(one), None) => Ok(one),
                (None, _) => Err(none()),
                (Some(_), Some(_)) => {
                    Err(Error::invalid(prefix.clone(), "several snapshots have an id that begins so"))
                }
            }
        }
    }
}

/// Of a job with several parts, each with snapshots of its own (the databases of a server), the newest snapshot of the
/// part whose turn it is: the one whose last drill lies furthest back; one that never had any comes before.
///
/// `snapshots` are the job's, oldest first; `part` says which part one is of, and `last` when each part was drilled last.
/// `None` when there is no snapshot.
pub fn newest_in_turn<'a>(
    snapshots: &'a [(SnapshotId, Snapshot)],
    part: impl Fn(&Snapshot) -> Vec<String>,
    last: &BTreeMap<Vec<String>, Timestamp>,
) -> Option<&'a (SnapshotId, Snapshot)> {
    // Oldest first: the newest of each part stays.
    let newest: BTreeMap<_, _> = snapshots.iter().map(|found| (part(&found.1), found)).collect();
    newest.into_iter().min_by_key(|(part, _)| last.get(part).copied()).map(|(_, found)| found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BlobId;

    fn snapshots(count: usize) -> Vec<(SnapshotId, Snapshot)> {
        let snapshot = |number: usize| {
            let text = format!(r#"{{"time":"2024-01-0{}T00:00:00Z","tree":"{}"}}"#, number + 1, BlobId::of(b"t"));
            (SnapshotId::of(&[u8::try_from(number).unwrap()]), serde_json::from_str(&text).unwrap())
        };
        (0..count).map(snapshot).collect()
    }

    #[test]
    fn each_choice_finds_its_snapshot() {
        let all = snapshots(5);
        assert_eq!(choose(&all, &Choice::Latest).unwrap(), &all[4]);
        assert_eq!(choose(&all, &Choice::Oldest).unwrap(), &all[0]);
        assert_eq!(choose(&all, &Choice::Random(13)).unwrap(), &all[3]);
        let prefix = format!("{:.12}", all[2].0);
        assert_eq!(choose(&all, &Choice::Id(prefix)).unwrap(), &all[2]);
    }

    #[test]
    fn each_part_of_a_job_has_its_turn() {
        let mut all = snapshots(4);
        for (number, (_, snapshot)) in all.iter_mut().enumerate() {
            snapshot.paths = vec![format!("/postgres/{}", ["one", "two"][number % 2])];
        }
        let part = |snapshot: &Snapshot| snapshot.paths.clone();
        let mut last = BTreeMap::new();
        let mut chosen = Vec::new();
        for minute in 0..4 {
            let (_, snapshot) = newest_in_turn(&all, part, &last).unwrap();
            chosen.push(snapshot.paths[0].clone());
            last.insert(snapshot.paths.clone(), Timestamp::from_second(minute * 60).unwrap());
        }
        assert_eq!(chosen, ["/postgres/one", "/postgres/two", "/postgres/one", "/postgres/two"]);
        assert_eq!(newest_in_turn(&all, part, &last), Some(&all[2]), "the newest of its part");
        assert_eq!(newest_in_turn(&all, |_| Vec::new(), &last), Some(&all[3]), "a job of one part");
        assert_eq!(newest_in_turn(&[], part, &last), None);
    }

    #[test]
    fn what_is_not_there_or_means_several_is_an_error() {
        let none = snapshots(0);
        for choice in [Choice::Latest, Choice::Oldest, Choice::Random(7), Choice::Id("ab".to_owned())] {
            assert!(matches!(choose(&none, &choice).unwrap_err().kind(), ErrorKind::NotFound(_)));
        }
        let all = snapshots(5);
        assert!(matches!(choose(&all, &Choice::Id(String::new())).unwrap_err().kind(), ErrorKind::NotFound(_)));
        let two = [all[0].clone(), all[0].clone()];
        let prefix = format!("{:.4}", all[0].0);
        assert!(matches!(choose(&two, &Choice::Id(prefix)).unwrap_err().kind(), ErrorKind::Invalid(_)));
    }
}
