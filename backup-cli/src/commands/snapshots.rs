//! `backup snapshots`: which there are, and what each cost.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr as _;

use backup_core::care::forget::facts;
use backup_core::contracts::{Proof, SnapshotFacts};
use backup_core::model::{Snapshot, SnapshotId};
use backup_core::repository::{FirstLook, Record, RecordBody};
use backup_core::retention::{GroupBy, GroupKey, Hold};
use serde_json::{Value, json};

use crate::args::Which;
use crate::console::{amounts, json, say, table::Table};
use crate::exit::{Exit, Failure};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Beginnings of ids, or `latest`; all that the filters let through when not given
    #[arg(value_name = "SNAP")]
    snapshots: Vec<String>,
    /// Show the newest N of each group only
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
    /// Group by these: job, host, paths, tags, with commas between them
    #[arg(long, value_name = "FIELDS", value_parser = GroupBy::from_str)]
    group_by: Option<GroupBy>,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let repository = session.open_to(&[FirstLook::Snapshots, FirstLook::Records])?;
    let query = args.which.query();
    let mut damaged = 0;
    let mut snapshots = repository.readable_snapshots(|id, error| {
        damaged += 1;
        say(&format!("loss: snapshot {id:.8}: {error}"));
        Ok(())
    })?;
    let records = repository.records()?;
    let facts = facts(&snapshots, &records);
    let read = bytes_read(&records);
    if args.snapshots.is_empty() {
        snapshots.retain(|(_, snapshot)| query.matches(snapshot));
    } else {
        let named = args.snapshots.iter().map(|text| session.find(&repository, text, &args.which));
        snapshots = named.collect::<Result<_, _>>()?;
    }
    let rows = snapshots.iter().map(|(id, snapshot)| Row {
        id: *id,
        snapshot,
        facts: facts.iter().find(|facts| facts.id == *id),
        read: read.get(id).or_else(|| read.get(&snapshot.original?)).copied(),
    });
    let group_by = args.group_by.clone().unwrap_or_default();
    let mut groups: BTreeMap<GroupKey, Vec<Row<'_>>> = BTreeMap::new();
    for row in rows {
        let key = row.facts.map(|facts| group_by.key(facts)).unwrap_or_default();
        groups.entry(key).or_default().push(row);
    }
    if let Some(count) = args.latest {
        for rows in groups.values_mut() {
            rows.drain(..rows.len().saturating_sub(count));
        }
    }
    session.console.either(&document(&groups), || text(&groups))?;
    Ok(Exit::with_losses(damaged))
}

/// A snapshot with what is known of it besides.
struct Row<'a> {
    id: SnapshotId,
    snapshot: &'a Snapshot,
    facts: Option<&'a SnapshotFacts>,
    read: Option<u64>,
}

impl Row<'_> {
    fn proof(&self) -> Proof {
        self.facts.map_or(Proof::Uploaded, |facts| facts.proof)
    }
}

/// How many bytes the runs that made snapshots read, from their records.
fn bytes_read(records: &[(backup_core::model::RecordId, Record)]) -> HashMap<SnapshotId, u64> {
    let read = records.iter().filter_map(|(_, record)| match &record.body {
        RecordBody::Run { snapshot: Some(snapshot), figures, .. } => {
            Some((*snapshot, figures.get("bytes_read")?.as_u64()?))
        }
        _ => None,
    });
    read.collect()
}

fn document(groups: &BTreeMap<GroupKey, Vec<Row<'_>>>) -> Value {
    let rows = groups.iter().flat_map(|(key, rows)| rows.iter().map(move |row| (key, row)));
    let snapshots = rows.map(|(key, row)| {
        let mut object = json::snapshot(row.id, row.snapshot);
        object.insert("bytes_read".to_owned(), row.read.into());
        object.insert("proof".to_owned(), row.proof().to_string().into());
        object.insert("group".to_owned(), json!(key));
        Value::from(object)
    });
    json!({"snapshots": snapshots.collect::<Vec<_>>()})
}

fn text(groups: &BTreeMap<GroupKey, Vec<Row<'_>>>) -> String {
    if groups.is_empty() {
        return "no snapshots\n".to_owned();
    }
    let mut parts = Vec::new();
    for (key, rows) in groups {
        let titles = ["ID", "Time", "Host", "Tags", ">Read", ">New", ">Stored", ">Restored", "Proof", "Paths"];
        let mut table = Table::new(&titles);
        for row in rows {
            let Row { id, snapshot, read, .. } = row;
            let summary = snapshot.summary.as_ref();
            let held = Hold::of(&snapshot.tags).map(|_| "held".to_owned());
            let tags = snapshot.tags.iter().filter(|tag| !Hold::spells(tag)).cloned().chain(held);
            table.row([
                format!("{id:.8}"),
                amounts::local_time(snapshot.time),
                snapshot.hostname.clone(),
                tags.collect::<Vec<_>>().join(","),
                amounts::size_or_dash(*read),
                amounts::size_or_dash(summary.map(|summary| summary.data_added)),
                amounts::size_or_dash(summary.map(|summary| summary.data_added_packed)),
                amounts::size_or_dash(summary.map(|summary| summary.total_bytes_processed)),
                row.proof().to_string(),
                snapshot.paths.join(" "),
            ]);
        }
        parts.push(format!("{key}\n{}{}\n", table.text(), amounts::counted(rows.len() as u64, "snapshot")));
    }
    parts.join("\n")
}
