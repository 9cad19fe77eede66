//! How far each snapshot is proven, and since when, from the records.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::contracts::Proof;
use crate::model::{Snapshot, SnapshotId};
use crate::repository::{Record, RecordBody};

/// The tag of a snapshot that a repair wrote in place of a damaged one.
pub(super) const REPAIRED_TAG: &str = "repaired";

/// The highest step of proof that still holds for each of `snapshots`.
///
/// A record that something is broken takes a snapshot back to [`Proof::Uploaded`], until a proof of at least the step
/// that was tried then. Records are taken in the order of their times.
///
/// Snapshots that were rewritten, to change a tag, have what their `original` had as well: they hold the same tree. Not
/// so those that a repair rewrote, which hold another one.
pub fn proofs<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    snapshots: &[(SnapshotId, Snapshot)],
) -> HashMap<SnapshotId, Proof> {
    standings(records, snapshots).into_iter().map(|(id, standing)| (id, standing.proof)).collect()
}

/// How far a snapshot is proven, and when that was last shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The highest step of proof that still holds.
    pub proof: Proof,
    /// When all its blobs were last read and hashed, by a check or a drill; `None` when that no longer holds.
    pub verified: Option<Timestamp>,
    /// When a drill last restored it; likewise.
    pub restored: Option<Timestamp>,
}

/// As [`proofs`], with when each was shown.
pub fn standings<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    snapshots: &[(SnapshotId, Snapshot)],
) -> HashMap<SnapshotId, Standing> {
    let mut sorted: Vec<&Record> = records.into_iter().collect();
    sorted.sort_by_key(|record| record.time);
    let mut told: HashMap<SnapshotId, Told> = HashMap::new();
    for record in sorted {
        match &record.body {
            RecordBody::Proof { snapshots, proof } => {
                snapshots.iter().for_each(|id| told.entry(*id).or_default().prove(*proof, record.time));
            }
            RecordBody::Broken { snapshots, tried } => {
                snapshots.iter().for_each(|id| told.entry(*id).or_default().refute(*tried));
            }
            _ => {}
        }
    }
    let of = |id: &SnapshotId| told.get(id).copied().unwrap_or_default();
    let standing = |(id, snapshot): &(SnapshotId, Snapshot)| {
        let repaired = snapshot.tags.iter().any(|tag| tag == REPAIRED_TAG);
        let own = of(id);
        let told = match snapshot.original {
            Some(original) if !repaired => own.with(of(&original)),
            _ => own,
        };
        (*id, told.standing())
    };
    snapshots.iter().map(standing).collect()
}

/// What the records so far tell of one snapshot.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    proof: Option<Proof>,
    verified: Option<Timestamp>,
    restored: Option<Timestamp>,
    /// What it takes to outweigh that it was found broken.
    broken: Option<Proof>,
}

impl Told {
    fn prove(&mut self, proof: Proof, when: Timestamp) {
        if self.broken.is_none_or(|tried| proof >= tried) {
            let reached = |step| (proof >= step).then_some(when);
            self.broken = None;
            self.proof = self.proof.max(Some(proof));
            self.verified = self.verified.max(reached(Proof::Verified));
            self.restored = self.restored.max(reached(Proof::Restored));
        }
    }

    fn refute(&mut self, tried: Proof) {
        *self = Self { broken: self.broken.max(Some(tried)), ..Self::default() };
    }

    /// Two names of one tree: what was proven of either holds, and so does what was refuted, unless the proof of the
    /// newer name is as good as what was tried on the older.
    fn with(self, original: Self) -> Self {
        match (original.broken, self.proof) {
            (Some(tried), proof) if proof.is_none_or(|proof| proof < tried) => original,
            _ if self.broken.is_some() => self,
            _ => Self {
                proof: self.proof.max(original.proof),
                verified: self.verified.max(original.verified),
                restored: self.restored.max(original.restored),
                broken: None,
            },
        }
    }

    fn standing(self) -> Standing {
        let proof = match self.broken {
            Some(_) => Proof::Uploaded,
            None => self.proof.unwrap_or(Proof::Uploaded),
        };
        Standing { proof, verified: self.verified, restored: self.restored }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BlobId;

    fn id(name: &str) -> SnapshotId {
        SnapshotId::of(name.as_bytes())
    }

    fn snapshot(name: &str, original: Option<&str>, tags: &[&str]) -> (SnapshotId, Snapshot) {
        let text = format!(r#"{{"time":"2024-01-02T03:04:05Z","tree":"{}"}}"#, BlobId::of(b"t"));
        let mut snapshot: Snapshot = serde_json::from_str(&text).unwrap();
        snapshot.original = original.map(id);
        snapshot.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        (id(name), snapshot)
    }

    fn records(bodies: &[RecordBody]) -> Vec<Record> {
        let record = |(second, body): (i64, &RecordBody)| Record {
            time: Timestamp::from_second(second).unwrap(),
            hostname: String::new(),
            body: body.clone(),
        };
        (0..).zip(bodies).map(record).collect()
    }

    fn proven(name: &str, proof: Proof) -> RecordBody {
        RecordBody::Proof { snapshots: vec![id(name)], proof }
    }

    fn broken(name: &str, tried: Proof) -> RecordBody {
        RecordBody::Broken { snapshots: vec![id(name)], tried }
    }

    fn proof_of(bodies: &[RecordBody]) -> Proof {
        proofs(&records(bodies), &[snapshot("a", None, &[])])[&id("a")]
    }

    #[test]
    fn proof_rises_and_falls_with_what_was_found() {
        use Proof::{Present, Restored, Uploaded, Verified};
        assert_eq!(proof_of(&[]), Uploaded);
        assert_eq!(proof_of(&[proven("a", Verified), proven("a", Present)]), Verified);
        assert_eq!(proof_of(&[proven("b", Verified)]), Uploaded);
        assert_eq!(proof_of(&[proven("a", Verified), broken("a", Present)]), Uploaded);
        assert_eq!(proof_of(&[broken("a", Present), proven("a", Present)]), Present);
        // Reading found it broken: that all is listed proves nothing then.
        assert_eq!(proof_of(&[broken("a", Verified), proven("a", Present)]), Uploaded);
        assert_eq!(proof_of(&[broken("a", Verified), proven("a", Restored)]), Restored);
    }

    #[test]
    fn the_order_of_records_is_that_of_their_times() {
        let mut records = records(&[proven("a", Proof::Present), broken("a", Proof::Present)]);
        records.reverse();
        assert_eq!(proofs(&records, &[snapshot("a", None, &[])])[&id("a")], Proof::Uploaded);
    }

    #[test]
    fn a_retagged_snapshot_has_the_proof_of_its_original_and_a_repaired_one_has_not() {
        let bodies = [proven("o", Proof::Verified), broken("x", Proof::Verified)];
        let snapshots = [
            snapshot("tagged", Some("o"), &["hold"]),
            snapshot("repaired", Some("o"), &["repaired"]),
            snapshot("broken", Some("x"), &[]),
        ];
        let proofs = proofs(&records(&bodies), &snapshots);
        assert_eq!(proofs[&id("tagged")], Proof::Verified);
        assert_eq!(proofs[&id("repaired")], Proof::Uploaded);
        assert_eq!(proofs[&id("broken")], Proof::Uploaded);
    }

    #[test]
    fn when_a_step_was_last_shown_is_known_until_it_is_refuted() {
        use Proof::{Present, Restored, Verified};
        let second = |second| Timestamp::from_second(second).ok();
        let times = |bodies: &[RecordBody]| {
            let standing = standings(&records(bodies), &[snapshot("a", None, &[])])[&id("a")];
            (standing.verified, standing.restored)
        };
        assert_eq!(times(&[proven("a", Present)]), (None, None));
        assert_eq!(times(&[proven("a", Verified), proven("a", Present)]), (second(0), None));
        // A drill has read all of it too.
        assert_eq!(times(&[proven("a", Restored), proven("a", Verified)]), (second(1), second(0)));
        assert_eq!(times(&[proven("a", Restored), broken("a", Present)]), (None, None));
        assert_eq!(times(&[broken("a", Verified), proven("a", Present), proven("a", Verified)]), (second(2), None));
        let bodies = records(&[proven("o", Restored), proven("tagged", Verified)]);
        let standing = standings(&bodies, &[snapshot("tagged", Some("o"), &["hold"])])[&id("tagged")];
        assert_eq!((standing.proof, standing.verified, standing.restored), (Restored, second(1), second(0)));
    }
}
