//! `backup diff`: what changed between two snapshots.

use std::collections::BTreeMap;
use std::io::{BufWriter, StdoutLock, Write as _};

use backup_core::look::{Change, Difference, diff, folder_at};
use backup_core::model::{Node, SnapshotPath};
use backup_core::pipeline::TreeReader;
use serde_json::{Map, Value, json};

use crate::args::Which;
use crate::console::{amounts, json};
use crate::exit::{Exit, Failure};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The older snapshot: the beginning of its id, or `latest`
    #[arg(value_name = "A")]
    old: String,
    /// The newer one
    #[arg(value_name = "B")]
    new: String,
    /// Compare this folder only
    #[arg(long, value_name = "PATH")]
    path: Option<std::ffi::OsString>,
    /// Report changes of permissions, owner and times too
    #[arg(long)]
    metadata: bool,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let repository = session.open()?;
    let reporter = session.console.reporter();
    let _lock = session.lock(&repository, &*reporter)?;
    let which = Which::default();
    let (old_id, old) = session.find(&repository, &args.old, &which)?;
    let (new_id, new) = session.find(&repository, &args.new, &which)?;
    let index = repository.load_index(&*reporter)?;
    reporter.finish();
    let reader = TreeReader::new(&repository, &index);
    let path = SnapshotPath::parse(args.path.as_deref().unwrap_or_default().as_encoded_bytes());
    let (old_tree, new_tree) = (folder_at(&reader, &old.tree, &path)?, folder_at(&reader, &new.tree, &path)?);
    let mut told = Told::new(args, session);
    diff(&reader, &path, &old_tree, &new_tree, &session.cancel, |difference| told.tell(&difference))?;
    told.finish(&json!({"old": old_id, "new": new_id}))?;
    Ok(Exit::Done)
}

fn sign(change: Change) -> char {
    match change {
        Change::Added => '+',
        Change::Removed => '-',
        Change::Metadata => 'U',
        _ => 'M',
    }
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Added => "added",
        Change::Removed => "removed",
        Change::Metadata => "metadata",
        _ => "changed",
    }
}

struct Told<'a> {
    args: &'a Args,
    session: &'a Session,
    out: BufWriter<StdoutLock<'static>>,
    changes: Vec<Value>,
    counts: BTreeMap<&'static str, u64>,
    bytes_added: u64,
    bytes_removed: u64,
}

impl<'a> Told<'a> {
    fn new(args: &'a Args, session: &'a Session) -> Self {
        let out = BufWriter::new(std::io::stdout().lock());
        let counts = ["added", "removed", "changed", "metadata"].into_iter().map(|word| (word, 0)).collect();
        Self { args, session, out, changes: Vec::new(), counts, bytes_added: 0, bytes_removed: 0 }
    }

    fn tell(&mut self, difference: &Difference<'_>) -> Result<(), Failure> {
        let &Difference { change, path, old, new } = difference;
        if change == Change::Metadata && !self.args.metadata {
            return Ok(());
        }
        *self.counts.entry(word(change)).or_default() += 1;
        self.bytes_removed += old.filter(|_| change != Change::Metadata).map_or(0, Node::size);
        self.bytes_added += new.filter(|_| change != Change::Metadata).map_or(0, Node::size);
        if self.session.console.is_json() {
            let mut object = Map::new();
            object.insert("change".to_owned(), word(change).into());
            json::put_path(&mut object, path);
            object.insert("bytes_old".to_owned(), old.map(Node::size).into());
            object.insert("bytes_new".to_owned(), new.map(Node::size).into());
            self.changes.push(object.into());
        } else {
            let slash = if old.or(new).is_some_and(Node::is_dir) { "/" } else { "" };
            writeln!(self.out, "{}  {path}{slash}", sign(change))?;
        }
        Ok(())
    }

    fn finish(self, head: &Value) -> Result<(), Failure> {
        let Self { session, mut out, counts, bytes_added, bytes_removed, changes, .. } = self;
        if session.console.is_json() {
            let mut document = head.clone();
            let more = json!({
                "changes": changes, "counts": counts, "bytes_added": bytes_added, "bytes_removed": bytes_removed,
            });
            if let (Value::Object(document), Value::Object(more)) = (&mut document, more) {
                document.extend(more);
            }
            return session.console.document(&document);
        }
        let counts: Vec<_> = counts.iter().map(|(word, count)| format!("{} {word}", amounts::count(*count))).collect();
        writeln!(out, "\n{}", counts.join(", "))?;
        let (added, removed) = (amounts::size(bytes_added), amounts::size(bytes_removed));
        writeln!(out, "{added} added, {removed} removed")?;
        Ok(out.flush()?)
    }
}
