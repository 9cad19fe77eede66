//! Drills: a snapshot is restored into a sandbox, asked whether it is what it was, timed, and removed again.
//!
//! ```text
//! open → (thaw) → index → present (0) → provision → restore (1) → ready (3) → examine (4) → ask (5) → remove → write down
//! ```
//!
//! What is always true:
//!
//! * A drill has one of three verdicts. Whatever kept it from finding out is `not_run` with its reason, and never
//!   counts as passed; whatever was found wrong with the backup is `failed`.
//! * The level that was reached is that below the first check that failed. [`Level::PROVEN`] is the least that proves a
//!   backup; a drill that compared nothing has not run.
//! * A drill writes into its sandbox and nowhere else, and removes it on every path. One that was killed leaves a folder
//!   which the next one recognises.
//! * Durations are of a clock that only goes forward. The result holds counts, digests and names, no value of the data.
//!
//! [`drill()`] does it; [`write_down`] tells the repository what was proven, for `status` and retention;
//! [`crate::evidence`] makes the record for auditors; [`estimate()`] says from past drills how long a restore would take.
//!
//! [`Level::PROVEN`]: crate::contracts::Level::PROVEN

mod answers;
mod choose;
mod entries;
mod estimate;
mod limit;
mod outcome;
mod past;
mod run;
mod stages;
mod stop;
mod write_down;

pub use answers::{Must, UserCheck};
pub use choose::{Choice, choose, newest_in_turn};
pub use estimate::{Confidence, Estimate, Sample, estimate};
pub use limit::within;
pub use outcome::{DrillOutcome, PointSource, Verdict};
pub use past::{PastDrill, samples};
pub use run::{DrillTask, Restored, Restorer, drill, drill_by};
pub use stages::{Stage, StageName, Stopwatch};
pub use write_down::{DrillFigures, Extent, write_down};
