//! Your own retention: which snapshots stay is a decision that fits into one function.
//!
//! Here all snapshots of releases (tagged `release:…`) stay, and of the others the newest few. The policy only says
//! what it wishes. What is removed, the planner decides: never the last good snapshot, nothing that is held, nothing
//! without a newer and proven one. A policy with a mistake in it can therefore keep too much, not lose a backup.
#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::error::Error;

use backup_core::contracts::{Decision, KeepReason, Proof, RetentionPolicy, SnapshotFacts};
use backup_core::model::SnapshotId;
use backup_core::retention::{PlanOptions, plan};
use backup_core::testing::assert_retention_laws;
use jiff::{SignedDuration, Timestamp};

/// Releases for ever, and the newest of the rest.
#[derive(Debug)]
struct Releases {
    others_kept: usize,
}

impl RetentionPolicy for Releases {
    fn decide(&self, newest_first: &[&SnapshotFacts], _now: Timestamp) -> Vec<Decision> {
        // The snapshots are of one group, the newest first; one decision is owed for each of them, in the same order.
        let mut others_left = self.others_kept;
        let decide = |facts: &&SnapshotFacts| {
            if let Some(release) = facts.tags.iter().find_map(|tag| tag.strip_prefix("release:")) {
                return Decision::Keep(vec![KeepReason::new("release", format!("release {release}"))]);
            }
            if others_left == 0 {
                return Decision::Remove;
            }
            others_left -= 1;
            Decision::Keep(vec![KeepReason::new("newest", "one of the newest without a release")])
        };
        newest_first.iter().map(decide).collect()
    }

    fn required_proof(&self) -> Proof {
        // An older snapshot may go only for a newer one of which every byte was read back.
        Proof::Verified
    }
}

/// A snapshot a day, a release every fourth day, the newest not verified yet.
fn history(now: Timestamp) -> Result<Vec<SnapshotFacts>, Box<dyn Error>> {
    let day = |age: i64| -> Result<SnapshotFacts, Box<dyn Error>> {
        let release = (age % 4 == 3).then(|| format!("release:1.{}", 20 - age));
        Ok(SnapshotFacts {
            id: SnapshotId::of(&age.to_le_bytes()),
            time: now.checked_sub(SignedDuration::from_hours(24 * age))?,
            host: "shop-1".to_owned(),
            paths: vec!["/srv/shop".to_owned()],
            tags: release.into_iter().collect(),
            proof: if age == 0 { Proof::Uploaded } else { Proof::Verified },
        })
    };
    (0..12).map(day).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    // `now` is an argument everywhere: the same question has the same answer in a test and at night.
    let now: Timestamp = "2026-01-31T02:00:00Z".parse()?;
    let snapshots = history(now)?;
    let policy = Releases { others_kept: 2 };

    // First question: is the contract kept, with snapshots that this policy finds hard? This panics if not.
    assert_retention_laws(&policy, &snapshots, now, &PlanOptions::default());
    println!("the policy keeps its contract");

    // A plan removes nothing. It is printed, and applied by whoever agrees with it.
    let made = plan(&snapshots, &policy, now, &PlanOptions::default())?;
    for planned in made.snapshots() {
        println!("{} {:?}", planned.time, planned.verdict);
    }
    assert_eq!(made.removals().count(), 6);
    Ok(())
}
