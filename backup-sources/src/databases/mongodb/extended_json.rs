//! MongoDB's extended JSON, version 2, in its canonical form: what the metadata of a collection is written in.
//!
//! The order of fields means something (in the keys of an index, in a pipeline), so it is kept in both directions; that
//! and the exact types are why no general JSON value lies in between. The forms are those of the specification
//! (mongodb/specifications, `extended-json`); on the way in the relaxed forms are understood as well.

mod read;
mod write;

pub(super) use read::parse;
pub(super) use write::write;

#[cfg(test)]
mod tests;
