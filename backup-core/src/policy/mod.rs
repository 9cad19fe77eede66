//! The room that thinks about how well something is backed up, and only thinks: facts in, values out, `now` an argument.
//!
//! [`JobFacts`] is all that is known of a job and its copies; whoever has read the repositories fills it in
//! ([`look::histories`](crate::look::histories)). Of it these are computed: which copies count ([`three_two_one`]), what would be lost now and
//! what was at worst ([`exposure`], [`worst`]), what a schedule will lose ([`predicted`]), whether a run looks wrong
//! ([`suspicion`]), what a sound backup still lacks ([`checklist`]), and all of it together ([`JobStanding`]).
//!
//! Always true:
//!
//! * What is not known is [`Answer::Unknown`], never `Yes`: a repository that could not be read, facts that are too old,
//!   a site that nobody has named.
//! * An answer does not get better by knowing less: without a copy, or with one that cannot be reached, it is the same
//!   or worse.
//! * Each finding says what is missing and the shortest way to mend it.

mod checklist;
mod copies;
mod exposure;
mod facts;
mod notices;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod sample;
mod standing;
mod suspicion;
mod words;
mod worst;

pub use checklist::{Item, Line, Monitoring, Practice, checklist};
pub use copies::{CopyVerdict, ThreeTwoOne, three_two_one};
pub use exposure::{Exposure, Scenario, exposure, exposure_of, survives};
pub use facts::{
    Amounts, Answer, Backup, CopyFacts, Drill, DrillVerdict, Finding, FindingKind, History, JobFacts, Objectives,
    Offsite, Outcome, Place, Run, Standards, Trigger,
};
pub use notices::{LastTold, Notice, notice};
pub use standing::JobStanding;
pub use suspicion::{Size, Suspicion, suspicion};
pub use words::in_words;
pub use worst::{Predicted, Worst, durations, predicted, worst};

use jiff::SignedDuration;
use serde::Serializer;

/// Durations are whole seconds wherever they are printed for programs.
pub(crate) fn as_seconds<S: Serializer>(duration: &SignedDuration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(duration.as_secs())
}

/// As [`as_seconds`]; nothing for no duration.
#[expect(clippy::ref_option, reason = "the signature that `serialize_with` calls")]
pub(crate) fn as_seconds_or_none<S: Serializer>(
    duration: &Option<SignedDuration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_i64(duration.as_secs()),
        None => serializer.serialize_none(),
    }
}
