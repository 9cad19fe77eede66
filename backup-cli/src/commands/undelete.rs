//! `backup repair undelete`: brings back what a bucket with versions still has of the past.
//!
//! It works on the store alone, without a passphrase: what was deleted may be the keys.

use std::sync::Arc;

use backup_core::bridge::Store;
use backup_store::Place;
use backup_store::sinks::{LostKind, S3Versions};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::console::amounts;
use crate::exit::{Exit, Failure};
use crate::session::Session;

pub(crate) fn run(at: Timestamp, dry_run: bool, session: &Session) -> Result<Exit, Failure> {
    let located = session.locate(session.place()?)?;
    located.require_one_place("call it for each of them by its place: it needs no passphrase")?;
    let place = &located.place;
    let Place::Bucket(bucket) = place else {
        return Err(Failure::usage(
            format!("{place} keeps no versions that could be brought back"),
            "this is for s3:// with versioning switched on",
        ));
    };
    let access = located.access(session)?;
    let versions = Arc::new(S3Versions::open(bucket, &access)?);
    let store = Store::new(place.open(&access)?)?;
    let looking = Arc::clone(&versions);
    let lost = store.start(async move { looking.lost_since(at).await }).wait()?;
    session.cancel.check()?;
    let objects: Vec<Value> = lost
        .iter()
        .map(|lost| json!({"key": lost.key.as_str(), "was": word(lost.kind), "bytes": lost.bytes}))
        .collect();
    let lines: String = lost.iter().map(|lost| format!("{} was {}\n", lost.key, word(lost.kind))).collect();
    let count = lost.len();
    let mut document = json!({"event": "summary", "dry_run": dry_run, "objects": objects, "done": null});
    if dry_run || count == 0 {
        session.console.either(&document, || {
            if count == 0 { String::from("nothing was deleted or replaced since\n") } else { lines }
        })?;
        return Ok(Exit::Done);
    }
    store.start(async move { versions.bring_back(&lost).await }).wait()?;
    document["done"] = json!({"brought_back": count});
    session
        .console
        .either(&document, || format!("{lines}{} brought back\n", amounts::counted(count as u64, "object")))?;
    session.console.note("`check --read-data` now says whether the repository is whole.");
    Ok(Exit::Done)
}

fn word(kind: LostKind) -> &'static str {
    match kind {
        LostKind::Deleted => "deleted",
        LostKind::Replaced => "replaced",
    }
}
