//! `backup ls`: what is in a snapshot.

use std::ffi::OsString;
use std::io::{BufWriter, StdoutLock, Write as _};
use std::ops::ControlFlow;

use backup_core::model::{Node, NodeKind, SnapshotPath};
use backup_core::pipeline::{TreeReader, WalkStep, find_node, walk};
use serde_json::{Value, json};

use crate::args::Which;
use crate::console::{amounts, json, say};
use crate::exit::{Exit, Failure};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A snapshot: the beginning of its id, or `latest`
    #[arg(value_name = "SNAP")]
    snapshot: String,
    /// A folder or file in it; everything when not given
    #[arg(value_name = "PATH")]
    path: Option<OsString>,
    /// Show permissions, owner, size and time
    #[arg(short, long)]
    long: bool,
    /// Show what is in folders below PATH too; without PATH this is what happens
    #[arg(short = 'R', long)]
    recursive: bool,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let repository = session.open()?;
    let reporter = session.console.reporter();
    let _lock = session.lock(&repository, &*reporter)?;
    let (id, snapshot) = session.find(&repository, &args.snapshot, &args.which)?;
    let index = repository.load_index(&*reporter)?;
    reporter.finish();
    let reader = TreeReader::new(&repository, &index);
    let path = SnapshotPath::parse(args.path.as_deref().unwrap_or_default().as_encoded_bytes());
    let is_deep = args.recursive || args.path.is_none();
    let mut shown = Shown { args, session, out: BufWriter::new(std::io::stdout().lock()), entries: Vec::new() };
    let mut losses = 0;
    let start = find_node(&reader, &snapshot.tree, &path)?;
    let tree = match &start {
        None => Some(snapshot.tree),
        Some(node) => node.subtree(),
    };
    match (tree, &start) {
        (Some(tree), _) => walk(&reader, &tree, &path, |path, step| {
            session.cancel.check()?;
            match step {
                WalkStep::Node(node) => shown.entry(path, node),
                WalkStep::Leave(_) => Ok(()),
                WalkStep::Unreadable(_, error) => {
                    losses += 1;
                    say(&format!("loss: {path}: {error}"));
                    Ok(())
                }
            }
            .map_err(Failure::into_error)?;
            Ok(if is_deep { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?,
        (None, Some(node)) => shown.entry(&path, node)?,
        (None, None) => {}
    }
    shown.out.flush()?;
    if session.console.is_json() {
        session.console.document(&json!({"snapshot": id, "entries": shown.entries}))?;
    }
    Ok(Exit::with_losses(losses))
}

struct Shown<'a> {
    args: &'a Args,
    session: &'a Session,
    out: BufWriter<StdoutLock<'static>>,
    entries: Vec<Value>,
}

impl Shown<'_> {
    fn entry(&mut self, path: &SnapshotPath, node: &Node) -> Result<(), Failure> {
        if self.session.console.is_json() {
            self.entries.push(json::entry(path, node).into());
        } else if self.args.long {
            writeln!(self.out, "{}", long(path, node))?;
        } else {
            writeln!(self.out, "{path}")?;
        }
        Ok(())
    }
}

/// An entry as `ls -l` shows it.
fn long(path: &SnapshotPath, node: &Node) -> String {
    let metadata = &node.metadata;
    let name = |name: &str, number: u32| if name.is_empty() { number.to_string() } else { name.to_owned() };
    let (user, group) = (name(&metadata.user, metadata.uid), name(&metadata.group, metadata.gid));
    let target = match &node.kind {
        NodeKind::Symlink { target } => format!(" -> {}", String::from_utf8_lossy(target).escape_debug()),
        _ => String::new(),
    };
    let (mode, size, time) = (mode(node), node.size(), metadata.mtime.map(amounts::local_time).unwrap_or_default());
    format!("{mode} {user:<8} {group:<8} {size:>12} {time} {path}{target}")
}

/// The kind and permissions as ten characters.
fn mode(node: &Node) -> String {
    let bits = node.metadata.mode;
    let mut text = String::with_capacity(10);
    text.push(match node.kind {
        NodeKind::File { .. } => '-',
        NodeKind::Dir { .. } => 'd',
        NodeKind::Symlink { .. } => 'l',
        NodeKind::BlockDevice { .. } => 'b',
        NodeKind::CharDevice { .. } => 'c',
        NodeKind::Fifo => 'p',
        NodeKind::Socket => 's',
        NodeKind::Other(_) => '?',
    });
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bit = |bit: u32, letter: char| if bits >> shift & bit != 0 { letter } else { '-' };
        text.push(bit(4, 'r'));
        text.push(bit(2, 'w'));
        text.push(match (bits & special != 0, bit(1, 'x')) {
            (false, executable) => executable,
            (true, '-') => letter.to_ascii_uppercase(),
            (true, _) => letter,
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use backup_core::model::Metadata;

    use super::*;

    #[test]
    fn permissions_are_shown_as_everywhere() {
        for (bits, shown) in
            [(0o755, "drwxr-xr-x"), (0o1777, "drwxrwxrwt"), (0o4640, "drwSr-----"), (0o2711, "drwx--s--x")]
        {
            let metadata = Metadata { mode: bits, ..Metadata::default() };
            let node = Node { name: b"a".to_vec(), kind: NodeKind::Dir { subtree: None }, metadata };
            assert_eq!(mode(&node), shown);
        }
    }
}
