//! Snapshots for this room's tests.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::tz::TimeZone;

use crate::contracts::{Decision, Proof, RetentionPolicy, SnapshotFacts};
use crate::model::SnapshotId;

/// A present snapshot of host `h` and path `/p` with an id of its own.
pub(super) fn facts(time: &str) -> SnapshotFacts {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    SnapshotFacts {
        id: SnapshotId::of(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes()),
        time: time.parse().unwrap(),
        host: "h".to_owned(),
        paths: vec!["/p".to_owned()],
        tags: Vec::new(),
        proof: Proof::Present,
    }
}

impl SnapshotFacts {
    pub(super) fn tagged(self, tags: &[&str]) -> Self {
        Self { tags: tags.iter().map(ToString::to_string).collect(), ..self }
    }

    pub(super) fn of_paths(self, paths: &[&str]) -> Self {
        Self { paths: paths.iter().map(ToString::to_string).collect(), ..self }
    }

    pub(super) fn proven(self, proof: Proof) -> Self {
        Self { proof, ..self }
    }
}

/// What `policy` keeps of `facts`, newest first: the times, with the reasons.
pub(super) fn decide(policy: &dyn RetentionPolicy, facts: &[SnapshotFacts], now: &str) -> Vec<(String, String)> {
    let mut sorted: Vec<_> = facts.iter().collect();
    sorted.sort_by_key(|facts| std::cmp::Reverse(facts.time));
    let decisions = policy.decide(&sorted, now.parse().unwrap());
    let kept = sorted.iter().zip(decisions).filter_map(|(facts, decision)| match decision {
        Decision::Keep(reasons) => {
            let reasons: Vec<_> = reasons.into_iter().map(|reason| reason.text).collect();
            Some((facts.time.to_string(), reasons.join(", ")))
        }
        Decision::Remove => None,
    });
    kept.collect()
}

/// The rules of Europe/Paris since 1996, spelled out, so that the tests need no time zone database.
pub(super) fn paris() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}
