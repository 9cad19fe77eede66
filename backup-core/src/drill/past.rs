//! Drills that were, as their records in a repository tell of them.

use jiff::Timestamp;

use super::estimate::Sample;
use super::outcome::Verdict;
use super::write_down::DrillFigures;
use crate::model::SnapshotId;
use crate::repository::Record;

/// A drill that was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastDrill {
    /// When it ended.
    pub ended: Timestamp,
    /// The copy that it restored from, by the name that the caller has for it.
    pub repository: String,
    /// The snapshot that it restored.
    pub snapshot: Option<SnapshotId>,
    /// How it ended. A word that a newer version wrote is no success.
    pub verdict: Verdict,
    /// Its figures.
    pub figures: DrillFigures,
}

impl PastDrill {
    /// What a record of `repository` tells, when it is a drill's.
    pub fn from_record(record: &Record, repository: &str) -> Option<Self> {
        let (word, snapshot, figures) = DrillFigures::from_record(record)?;
        let reason = figures.reason.clone().unwrap_or_else(|| word.to_owned());
        let verdict = match word {
            "passed" => Verdict::Passed,
            "failed" => Verdict::Failed { reason },
            _ => Verdict::NotRun { reason },
        };
        Some(Self { ended: record.time, repository: repository.to_owned(), snapshot, verdict, figures })
    }
}

/// What estimates are made from: the drills that passed, and said how much they restored.
pub fn samples(drills: &[PastDrill]) -> Vec<Sample> {
    let passed = drills.iter().filter(|drill| drill.verdict == Verdict::Passed);
    passed
        .filter_map(|drill| Some(Sample { bytes: drill.figures.bytes?, stages: drill.figures.stages.clone() }))
        .collect()
}
