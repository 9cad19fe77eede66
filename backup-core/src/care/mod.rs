//! Verbs on a repository as a whole: is it sound, what of it is still needed, can it be mended.
//!
//! * [`check`] looks and changes nothing but records of what was proven.
//! * [`Prune`] finds what no snapshot needs, and removes it in two steps a day apart.
//! * [`SnapshotCopy`] brings snapshots into another repository.
//! * [`thaw()`] brings packs out of the archive that a restore reads from.
//! * [`IndexRepair`] and [`SnapshotRepair`] mend what can be mended, and say what cannot.
//!
//! What destroys is a plan first. A plan is made under a lock and keeps it until it is applied or dropped; dropping it
//! is the dry run.
//!
//! What is always true, also after a crash between any two requests: an index lists a pack only while the pack is
//! there, a snapshot's blobs are listed, and nothing is deleted before what replaces it is durable. Who may run beside
//! whom stands in `docs/operations.md`, cell by cell.

mod affected;
mod bitmap;
mod check;
mod check_objects;
mod copy;
mod copy_apply;
mod copy_blobs;
mod copy_plan;
mod findings;
pub mod forget;
mod in_use;
pub mod migrate;
mod new_packs;
mod presence;
mod proofs;
mod prune;
mod prune_apply;
mod prune_due;
mod prune_facts;
mod prune_plan;
mod read_each;
mod read_packs;
mod repack;
mod repair_index;
mod repair_snapshots;
mod rewrite_index;
mod thaw;
mod used;

pub use check::{CheckOptions, CheckReport, ReadData, check};
pub use copy::{CopyFate, CopyOptions, CopyOutcome, CopyPlan, PlannedCopy, SnapshotCopy};
pub use findings::{Affected, AffectedPath, Finding, Severity};
pub use in_use::{ObjectInUse, objects_in_use};
pub use presence::{SnapshotPresence, snapshot_presence};
pub use proofs::{Standing, proofs, standings};
pub use prune::{Prune, PruneOutcome};
pub use prune_due::{NEXT_DELETION, PRUNE, prune_is_due};
pub use prune_facts::{PackFacts, PackState, PruneFacts};
pub use prune_plan::{
    Action, DataPacks, MaxUnused, PackCount, PlannedPack, PruneFigures, PruneMode, PruneOptions, PrunePlan, Reason,
    SmallPacks, UncompressedData, plan_prune,
};
pub use repair_index::{IndexRepair, IndexRepairOutcome, ReadPacks, RepairedPack};
pub use repair_snapshots::{Originals, SnapshotRepair, SnapshotRepairOptions, SnapshotRepairOutcome, SnapshotVerdict};
pub use thaw::{ThawOptions, ThawOutcome, thaw};
