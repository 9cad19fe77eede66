//! `backup repair undelete`: brings back what a bucket with versions still has of the past.
//!
//! It works on the store alone, without a passphrase: what was deleted may be the keys.

use std::sync::Arc;

use backup_core::bridge::Store;
use backup_store::Place;
use backup_store::sinks::{Lost, LostKind, Versions};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::console::amounts;
use crate::exit::{Exit, Failure};
use crate::located::Need;
use crate::network::patience;
use crate::session::Session;

pub(crate) fn run(at: Timestamp, dry_run: bool, session: &Session) -> Result<Exit, Failure> {
    let located = session.locate(session.place()?)?;
    let buckets = located.buckets(Need::Versions)?;
    let access = located.access(session)?;
    let mut halves = Vec::new();
    // Both are looked at before anything is done: one without versions is told while nothing is changed.
    for bucket in buckets {
        let store = Store::new(Place::Bucket(bucket.clone()).open(&access)?)?;
        let versions = Arc::new(bucket.versions(&access, patience(session))?);
        let looking = Arc::clone(&versions);
        let lost = store.start(async move { looking.lost_since(at).await }).wait()?;
        session.cancel.check()?;
        halves.push(Half { place: bucket.short(), store, versions, lost });
    }
    let all = || halves.iter().flat_map(|half| half.lost.iter().map(|lost| (half.place.as_str(), lost)));
    let document_of = |(place, lost): (&str, &Lost)| json!({"place": place, "key": lost.key.as_str(), "was": word(lost.kind), "bytes": lost.bytes});
    let objects: Vec<Value> = all().map(document_of).collect();
    let lines: String = all().map(|(_, lost)| format!("{} was {}\n", lost.key, word(lost.kind))).collect();
    let count = objects.len();
    let mut document = json!({"event": "summary", "dry_run": dry_run, "objects": objects, "done": null});
    if dry_run || count == 0 {
        session.console.either(&document, || {
            if count == 0 { String::from("nothing was deleted or replaced since\n") } else { lines }
        })?;
        return Ok(Exit::Done);
    }
    for Half { store, versions, lost, .. } in halves {
        store.start(async move { versions.bring_back(&lost).await }).wait()?;
        session.cancel.check()?;
    }
    document["done"] = json!({"brought_back": count});
    session
        .console
        .either(&document, || format!("{lines}{} brought back\n", amounts::counted(count as u64, "object")))?;
    session.console.note("`check --read-data` now says whether the repository is whole.");
    Ok(Exit::Done)
}

/// A bucket of the repository: the only one, or one of a pair.
struct Half {
    place: String,
    store: Store,
    versions: Arc<Versions>,
    lost: Vec<Lost>,
}

fn word(kind: LostKind) -> &'static str {
    match kind {
        LostKind::Deleted => "deleted",
        LostKind::Replaced => "replaced",
    }
}
