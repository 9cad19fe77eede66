//! The room that thinks about what to keep, and only thinks: `now` is an argument, and nothing is read or written.
//!
//! [`Rules`] is what the configuration says; [`KeepRules`] makes a policy of it; [`plan()`] groups the snapshots, asks the
//! policy, and lets its guards have the last word. What comes out is data, to be printed or applied.
//!
//! Always true, for every policy, right or wrong:
//!
//! * A snapshot is removed only when a strictly newer snapshot of its group exists that is proven at least as the
//!   policy requires, and never less than [`Proof::Present`](crate::contracts::Proof::Present). So no group loses its
//!   last good snapshot, and nothing is removed for the sake of a backup that nobody has looked at.
//! * A snapshot that is not proven so far never takes the place of one that is.
//! * Held snapshots, frozen groups, and snapshots from the future lose nothing.
//! * Which group a snapshot belongs to for these guards is a matter of its tags, host and paths alone; another
//!   `--group-by` changes what the rules count, not what the guards protect.
//! * The plan does not depend on the order of its input, and planning again after it was applied, with the same `now`,
//!   removes nothing more.
//!
//! A plan is true of the facts that it was made from. Whoever applies one takes the repository's exclusive lock first
//! and plans again under it, or two of them together could remove what each alone would have kept. A crash while it is
//! applied leaves some of its removals undone; the next plan finds them.

mod group;
mod hold;
mod keep;
#[cfg(any(test, feature = "testing"))]
pub mod laws;
mod period;
mod plan;
#[cfg(test)]
mod properties;
mod rules;
#[cfg(test)]
mod sample;
mod span;
mod tags;

use jiff::Timestamp;
use serde::Serializer;

pub use group::{GroupBy, GroupField, GroupKey, UnknownGroupField};
pub use hold::Hold;
pub use keep::{KeepRules, RulesError};
pub use period::Period;
pub use plan::{GroupPlan, Guard, PlanError, PlanOptions, PlannedSnapshot, RetentionPlan, Verdict, plan};
pub use rules::{Count, NotACount, Rules};
pub use span::{Span, SpanError};
pub use tags::{EmptyTag, TagSet};

/// Instants are RFC 3339 in UTC wherever they are printed.
fn as_text<S: Serializer>(instant: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(instant)
}

/// As [`as_text`]; nothing for no instant.
#[expect(clippy::ref_option, reason = "the signature that `serialize_with` calls")]
fn as_text_or_none<S: Serializer>(instant: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match instant {
        Some(instant) => serializer.collect_str(instant),
        None => serializer.serialize_none(),
    }
}
