//! The room that proposes a strategy, and only thinks: what there is and what may be lost in, a strategy out.
//!
//! [`Answers`] is what somebody has said or a look at the machine has found; [`advise`] makes a [`Strategy`] of it: for
//! each thing how it is backed up, how often, how long it stays in which store, in which class, when a drill restores it;
//! for each store what it will hold and cost; what is lost and how long it takes when something goes wrong; and what of
//! three copies, two media and one other site is still missing, by [`policy`](crate::policy) itself.
//!
//! Always true:
//!
//! * Every choice has its reason, as a sentence for people.
//! * A schedule keeps to what may be lost, with a margin, by [`predicted`](crate::policy::predicted), whatever the
//!   clocks of the zone do. Where none can, that is said ([`Impossible`]) and nothing is proposed.
//! * No store gets a class that is slower than an outage may be, or that nobody can read without asking first.
//! * No price is invented: without prices there is no cost. What was assumed is listed ([`Strategy::assumptions`]).
//!
//! The binary asks and writes; nothing is kept here. The numbers and their reasons: `docs/decisions/advice.md`.

mod calendar;
mod class;
mod cost;
mod frequency;
mod given;
mod keeping;
mod kind;
mod matrix;
#[cfg(test)]
mod properties;
mod strategy;
mod terms;
mod volume;

pub use class::{Class, ClassChoice};
pub use cost::{Cost, Price, Prices};
pub use frequency::Frequency;
pub use given::{Answers, Bearable, Criticality, Item, Store, StoreKind};
pub use keeping::Keeping;
pub use kind::{Kind, classify, kind_of_path};
pub use matrix::{Event, Recovery};
pub use strategy::{Impossible, JobPlan, StorePlan, Strategy, advise};
pub use terms::{TERMS, Term};
pub use volume::Volume;

use crate::policy::{as_seconds, as_seconds_or_none};
