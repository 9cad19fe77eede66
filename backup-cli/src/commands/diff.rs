//! `backup diff`: what changed between two snapshots.

use std::collections::BTreeMap;
use std::io::{BufWriter, StdoutLock, Write as _};

use backup_core::model::{BlobId, Node, SnapshotPath};
use backup_core::pipeline::{TreeReader, find_node};
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
    let tree = |root: BlobId| -> Result<Option<BlobId>, Failure> {
        match find_node(&reader, &root, &path)? {
            None => Ok(Some(root)),
            Some(node) if node.is_dir() => Ok(node.subtree()),
            Some(_) => Err(Failure::usage(format!("{path} is not a folder"), "compare the folder that it is in")),
        }
    };
    let (old_tree, new_tree) = (tree(old.tree)?, tree(new.tree)?);
    let mut told = Told::new(args, session);
    told.compare(&reader, path, old_tree, new_tree)?;
    told.finish(&json!({"old": old_id, "new": new_id}))?;
    Ok(Exit::Done)
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Added,
    Removed,
    /// Its content, its kind, or where it points.
    Content,
    /// Permissions, owner, times or attributes alone.
    Metadata,
}

impl Change {
    fn sign(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Content => 'M',
            Self::Metadata => 'U',
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Content => "changed",
            Self::Metadata => "metadata",
        }
    }

    /// How two entries of one name differ, if they do.
    fn between(old: &Node, new: &Node) -> Option<Self> {
        // What is below two folders is compared entry by entry.
        let same_content = old.kind == new.kind || old.is_dir() && new.is_dir();
        let metadata = |node: &Node| backup_core::model::Metadata {
            // These change without anybody having touched the entry.
            atime: jiff::Timestamp::UNIX_EPOCH,
            ctime: jiff::Timestamp::UNIX_EPOCH,
            inode: 0,
            device_id: 0,
            ..node.metadata.clone()
        };
        match same_content {
            false => Some(Self::Content),
            true if metadata(old) != metadata(new) => Some(Self::Metadata),
            true => None,
        }
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

    /// Compares two trees and what is below them. Equal trees are not read: their names say that they are equal.
    fn compare(
        &mut self,
        reader: &TreeReader<'_>,
        path: SnapshotPath,
        old: Option<BlobId>,
        new: Option<BlobId>,
    ) -> Result<(), Failure> {
        let mut waiting = vec![(path, old, new)];
        while let Some((path, old, new)) = waiting.pop() {
            self.session.cancel.check()?;
            if old == new {
                continue;
            }
            let nodes = |tree: Option<BlobId>| -> Result<BTreeMap<Vec<u8>, Node>, Failure> {
                let nodes = tree.map(|tree| reader.read(&tree)).transpose()?.unwrap_or_default();
                Ok(nodes.into_iter().map(|node| (node.name.clone(), node)).collect())
            };
            let (mut old, new) = (nodes(old)?, nodes(new)?);
            let mut below = Vec::new();
            for (name, new) in &new {
                let path = path.join(name);
                let old = old.remove(name);
                match &old {
                    None => self.tell(Change::Added, &path, None, Some(new))?,
                    Some(old) => match Change::between(old, new) {
                        Some(Change::Metadata) if !self.args.metadata => {}
                        Some(change) => self.tell(change, &path, Some(old), Some(new))?,
                        None => {}
                    },
                }
                below.push((path, old.as_ref().and_then(Node::subtree), new.subtree()));
            }
            for (name, old) in &old {
                let path = path.join(name);
                self.tell(Change::Removed, &path, Some(old), None)?;
                below.push((path, old.subtree(), None));
            }
            waiting.extend(below.into_iter().rev());
        }
        Ok(())
    }

    fn tell(
        &mut self,
        change: Change,
        path: &SnapshotPath,
        old: Option<&Node>,
        new: Option<&Node>,
    ) -> Result<(), Failure> {
        *self.counts.entry(change.word()).or_default() += 1;
        self.bytes_removed += old.filter(|_| change != Change::Metadata).map_or(0, Node::size);
        self.bytes_added += new.filter(|_| change != Change::Metadata).map_or(0, Node::size);
        if self.session.console.is_json() {
            let mut object = Map::new();
            object.insert("change".to_owned(), change.word().into());
            json::put_path(&mut object, path);
            object.insert("bytes_old".to_owned(), old.map(Node::size).into());
            object.insert("bytes_new".to_owned(), new.map(Node::size).into());
            self.changes.push(object.into());
        } else {
            let slash = if old.or(new).is_some_and(Node::is_dir) { "/" } else { "" };
            writeln!(self.out, "{}  {path}{slash}", change.sign())?;
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
