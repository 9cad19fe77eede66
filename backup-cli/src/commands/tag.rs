//! `backup tag`: other tags for snapshots that are there already.

use backup_core::model::{Snapshot, SnapshotId};
use backup_core::repository::Repository;
use backup_core::retention::Hold;
use serde_json::json;

use crate::args::Which;
use crate::exit::{Exit, Failure};
use crate::session::Session;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("change").args(["add", "remove", "set"]).required(true).multiple(true))]
pub(crate) struct Args {
    /// Snapshots: beginnings of ids, or `latest`
    #[arg(value_name = "SNAP", required = true)]
    snapshots: Vec<String>,
    /// Add this tag
    #[arg(long, value_name = "TAG")]
    add: Vec<String>,
    /// Remove this tag
    #[arg(long, value_name = "TAG")]
    remove: Vec<String>,
    /// Give it these tags and no others; holds stay
    #[arg(long, value_name = "TAG", conflicts_with_all = ["add", "remove"])]
    set: Vec<String>,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let tags = || args.add.iter().chain(&args.remove).chain(&args.set);
    if let Some(tag) = tags().find(|tag| tag.contains(',') || tag.trim().is_empty()) {
        return Err(Failure::usage(
            format!("{tag:?} cannot be a tag"),
            "tags are words without commas; repeat the option",
        ));
    }
    if tags().any(|tag| Hold::spells(tag)) {
        return Err(Failure::usage("a tag that begins so protects a snapshot", "`hold` places and releases it"));
    }
    change(&args.snapshots, &args.which, session, |tags| {
        if !args.set.is_empty() {
            let holds: Vec<String> = tags.iter().filter(|tag| Hold::spells(tag)).cloned().collect();
            return args.set.iter().cloned().chain(holds).collect();
        }
        let mut changed: Vec<String> = tags.iter().filter(|tag| !args.remove.contains(tag)).cloned().collect();
        for tag in &args.add {
            if !changed.contains(tag) {
                changed.push(tag.clone());
            }
        }
        changed
    })
}

/// Changes the tags of snapshots, each of which gets a new id by that.
pub(super) fn change(
    names: &[String],
    which: &Which,
    session: &Session,
    new_tags: impl Fn(&[String]) -> Vec<String>,
) -> Result<Exit, Failure> {
    session.require_locks()?;
    let repository = session.open()?;
    let changed = changes(names, which, session, &repository, new_tags)?;
    let reporter = session.console.reporter();
    let silent = backup_core::observe::Silent;
    let observer: &dyn backup_core::observe::Observer = if session.console.is_json() { &silent } else { &*reporter };
    let ids = if changed.is_empty() { Vec::new() } else { repository.rewrite_snapshots(&changed, observer)? };
    let document: Vec<_> = changed
        .iter()
        .zip(&ids)
        .map(|((old, snapshot), new)| json!({"old": old, "new": new, "tags": snapshot.tags}))
        .collect();
    session.console.either(&json!({"changed": document}), || match ids.len() {
        0 => "nothing to change\n".to_owned(),
        _ => changed
            .iter()
            .zip(&ids)
            .map(|((old, snapshot), new)| format!("{old:.8} is now {new:.8}, tags: {}\n", snapshot.tags.join(", ")))
            .collect(),
    })?;
    Ok(Exit::Done)
}

fn changes(
    names: &[String],
    which: &Which,
    session: &Session,
    repository: &Repository,
    new_tags: impl Fn(&[String]) -> Vec<String>,
) -> Result<Vec<(SnapshotId, Snapshot)>, Failure> {
    let mut changed: Vec<(SnapshotId, Snapshot)> = Vec::new();
    for name in names {
        let (id, snapshot) = session.find(repository, name, which)?;
        let tags = new_tags(&snapshot.tags);
        if tags != snapshot.tags && changed.iter().all(|(other, _)| *other != id) {
            changed.push((id, Snapshot { tags, ..snapshot }));
        }
    }
    Ok(changed)
}
