//! What decides which snapshots stay.
//!
//! A policy sees the snapshots of one group and says of each whether it stays and why. It only says: what it gives up
//! is removed when [`plan()`](crate::retention::plan()) agrees, whose guards no policy can override, and after a person or a
//! program has seen that plan. A policy therefore cannot lose the last good backup, however wrong it is.
//!
//! [`crate::retention::KeepRules`] is the policy of the configuration and of `forget`. Another one is a type with two
//! methods.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::SnapshotId;

/// Decides which snapshots of a group stay.
///
/// An implementation is a pure function: the same arguments give the same answer, and it does no input or output. It
/// is asked more than once about one group, also about a part of it.
pub trait RetentionPolicy: Send + Sync {
    /// One decision for each of `newest_first`, in the same order.
    ///
    /// The snapshots are of one group and ordered by falling time; those of one time by rising id. Some may lie after
    /// `now`, because clocks differ. The planner keeps those whatever the policy says of them.
    fn decide(&self, newest_first: &[&SnapshotFacts], now: Timestamp) -> Vec<Decision>;

    /// How well a newer snapshot must be proven before an older one may go for it.
    ///
    /// A policy can raise this, not lower it: the planner asks for [`Proof::Present`] at least.
    fn required_proof(&self) -> Proof;
}

/// What retention knows of a snapshot. Where a snapshot is held is a fact of its tags, see
/// [`crate::retention::Hold`]; no second field could disagree with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// Its name in this repository.
    pub id: SnapshotId,
    /// When it was taken, as the snapshot says.
    pub time: Timestamp,
    /// The machine it says it is of.
    pub host: String,
    /// The paths it says it holds, in any order.
    pub paths: Vec<String>,
    /// Its tags, in any order.
    pub tags: Vec<String>,
    /// The highest step of proof that still holds.
    pub proof: Proof,
}

/// How far it is proven that a snapshot can be restored. Each step includes those before it.
///
/// A step can be lost again: when a later check finds an object of a snapshot missing or damaged, its proof is
/// [`Proof::Uploaded`], whatever it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// The snapshot was written; nobody has looked whether what it needs is there. What another program wrote is here
    /// until this one has checked it.
    Uploaded,
    /// After the snapshot was written, every object that it needs was listed with its size.
    Present,
    /// All its blobs were read, opened and hashed.
    Verified,
    /// A drill restored it.
    Restored,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Uploaded => "uploaded",
            Self::Present => "present",
            Self::Verified => "verified",
            Self::Restored => "restored",
        })
    }
}

/// What a policy says of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It stays, for all of these reasons. An empty list keeps it as well.
    Keep(Vec<KeepReason>),
    /// No reason to keep it is known to the policy.
    Remove,
}

impl Decision {
    /// Whether the snapshot stays.
    pub fn keeps(&self) -> bool {
        matches!(self, Self::Keep(_))
    }
}

/// Why a snapshot stays: a word for programs and a text for people. A pair and not a closed list of cases, because
/// policies that this crate has never seen have reasons as well.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct KeepReason {
    /// The rule, as the configuration spells it, for example `daily` or `within_weekly`. It is stable.
    pub rule: Cow<'static, str>,
    /// The same for people, for example `oldest daily snapshot`. It may change.
    pub text: String,
}

impl KeepReason {
    /// A reason of `rule` that reads as `text`.
    pub fn new(rule: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Self {
        Self { rule: rule.into(), text: text.into() }
    }
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}
