//! The room that thinks about when, and only thinks: `now` is an argument, and nobody waits here.
//!
//! [`Schedule`] is a cron expression in a time zone: which slots it has, and how far apart they lie. [`due`] says which
//! slot a job owes now, so that missed ones are made up for once. [`Jitter`] spreads jobs of one slot. [`Settle`] says
//! when something that keeps changing is quiet enough. [`Plain`] is a schedule in the words of other schedulers.
//!
//! Always true, whatever the clocks of the zone do:
//!
//! * Slots rise strictly: an instant is a slot once.
//! * A schedule that names its hours has each of its slots once a day: one in the hour that is skipped comes at its end,
//!   one in the hour that is shown twice comes the first time.
//! * A schedule of every hour follows real time: it has no slots in the hour that is not there, and those of the doubled
//!   hour twice.
//!
//! Nothing is kept here, so a crash loses nothing: what a job owes follows from when it last ran.

mod due;
mod expression;
mod gap;
mod jitter;
mod plain;
#[cfg(test)]
mod properties;
mod settle;
mod slots;

pub use due::{Due, due};
pub use expression::{Schedule, ScheduleError};
pub use jitter::Jitter;
pub use plain::{NotPlain, Plain};
pub use settle::Settle;
pub use slots::Slots;
