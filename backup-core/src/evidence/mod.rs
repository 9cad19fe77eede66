//! Evidence: one record for each drill, chained by hashes, signed, and readable without this program.
//!
//! A record is a text: JSON in the canonical form of RFC 8785, so that there is one spelling and a signature of it. It
//! holds its number in its chain and the SHA-256 of the record before it. A chain belongs to a signing key (Ed25519);
//! drills without a key make the chain [`UNSIGNED`], which shows what was done and proves nothing.
//!
//! What is always true:
//!
//! * A record is never changed, and its name in the store (`ext/evidence/CHAIN/NUMBER-HASH`) says its place and its hash,
//!   so that a listing shows what is missing.
//! * The private key lies outside of every repository. Whoever has it can write a new chain; whoever has only the
//!   repository can take records away, and nothing else that [`verify()`] would not find.
//! * Each record is in the [`Journal`] on this machine before it goes to any store. What could not be delivered is
//!   delivered by a later drill. The journal may be deleted; the chain then goes on from what the stores have.
//! * Two drills of one machine append one after the other; of two machines with one key they may fork the chain, which
//!   is found. Each machine should have a key of its own.
//! * A record holds no value of the data and no secret.

mod canonical;
mod chain;
mod controls;
mod export;
mod journal;
mod key;
mod record;
mod stored;

pub use canonical::canonical;
pub use chain::{ChainReport, Expectations, Fault, FaultKind, Head, Stored, verify};
pub use controls::{CONTROLS, Control};
pub use export::{Export, ExportedFile, export};
pub use journal::{Delivery, Journal, journal_heads, journal_records};
pub use key::{PublicKey, SigningKey};
pub use record::{
    ChecksSummary, Context, CopyUnderTest, EvidenceRecord, Host, Objectives, RecoveryTime, Signer, SnapshotFigures,
    Times,
};
pub use stored::{EvidenceName, SealedRecord};

/// The chain of drills without a key.
pub const UNSIGNED: &str = "unsigned";
