//! Walks a source into memory and restores that to a target: a pipeline as small as can be.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use backup_core::contracts::{Source, SourceEvent, Target};
use backup_core::model::{Node, NodeKind, SnapshotPath};
use backup_core::observe::{Amount, Problem, Severity};
use backup_sources::files::{FilesOptions, FilesSource, FilesTarget, LeftOut, RestoreOptions};

/// A snapshot in memory.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) root: Vec<Stored>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<String>,
    pub(crate) left_out: LeftOut,
}

#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) node: Node,
    pub(crate) bytes: Vec<u8>,
    pub(crate) entries: Vec<Self>,
}

/// Everything that a restore had to say.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) errors: Vec<String>,
    pub(crate) removed: Vec<String>,
    pub(crate) written_bytes: u64,
}

impl Memory {
    pub(crate) fn of(path: &Path, options: &FilesOptions) -> Self {
        Self::of_all(&[path], options)
    }

    pub(crate) fn of_all(paths: &[&Path], options: &FilesOptions) -> Self {
        let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
        Self::read(FilesSource::new(paths, options).unwrap(), |_| {})
    }

    /// Reads a source; `before_open` is called with the path of each file that is about to be opened.
    pub(crate) fn read(mut source: FilesSource, mut before_open: impl FnMut(&SnapshotPath)) -> Self {
        let mut memory = Self::default();
        let mut folders: Vec<Stored> = Vec::new();
        let mut path = SnapshotPath::root();
        while let Some(event) = source.next().unwrap() {
            let done = match event {
                SourceEvent::Enter(node) => {
                    path.push(&node.name);
                    folders.push(Stored { node, bytes: Vec::new(), entries: Vec::new() });
                    continue;
                }
                SourceEvent::Leave => {
                    path.pop();
                    folders.pop().unwrap()
                }
                SourceEvent::Problem(problem) => {
                    memory.problems.push(problem);
                    continue;
                }
                SourceEvent::Entry(mut entry) => {
                    let mut bytes = Vec::new();
                    if let Some(content) = entry.content {
                        before_open(&path.join(&entry.node.name));
                        let read = content.open(&mut entry.node).and_then(|mut reader| {
                            let mut buffer = vec![0; 100_000];
                            loop {
                                match reader.read(&mut buffer).unwrap() {
                                    0 => break,
                                    length => bytes.extend_from_slice(&buffer[..length]),
                                }
                            }
                            reader.finish(&mut entry.node)
                        });
                        match read {
                            Ok(note) => memory.notes.extend(note),
                            Err(error) => {
                                let severity = if error.vanished { Severity::Note } else { Severity::Loss };
                                let (path, action) = (error.path, error.action);
                                memory.problems.push(Problem { path, action, reason: error.reason, severity });
                                continue;
                            }
                        }
                        assert!(entry.node.content().is_empty());
                        entry.node.kind = NodeKind::File { size: bytes.len() as u64, content: Vec::new() };
                    }
                    Stored { node: entry.node, bytes, entries: Vec::new() }
                }
            };
            let siblings = folders.last_mut().map_or(&mut memory.root, |folder| &mut folder.entries);
            if let Some(last) = siblings.last() {
                assert!(last.node.name < done.node.name, "{:?} before {:?}", last.node.name, done.node.name);
            }
            siblings.push(done);
        }
        assert!(folders.is_empty());
        source.finish().unwrap();
        memory.left_out = source.left_out();
        memory
    }

    /// The entries of the folder at `path`.
    pub(crate) fn entries(&self, path: &Path) -> &[Stored] {
        let mut entries = &self.root;
        for component in SnapshotPath::of_file(path).components() {
            entries = &entries.iter().find(|entry| entry.node.name == component).unwrap().entries;
        }
        entries
    }

    /// The names in the folder at `path`, as text.
    pub(crate) fn names(&self, path: &Path) -> Vec<String> {
        self.entries(path).iter().map(|entry| String::from_utf8_lossy(&entry.node.name).into_owned()).collect()
    }

    /// All paths below `path`, relative to it.
    pub(crate) fn paths_below(&self, path: &Path) -> Vec<String> {
        fn collect(entries: &[Stored], prefix: &str, all: &mut Vec<String>) {
            for entry in entries {
                let path = format!("{prefix}{}", String::from_utf8_lossy(&entry.node.name));
                all.push(path.clone());
                collect(&entry.entries, &format!("{path}/"), all);
            }
        }
        let mut all = Vec::new();
        collect(self.entries(path), "", &mut all);
        all
    }

    /// The severe problems.
    pub(crate) fn losses(&self) -> Vec<&Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Loss).collect()
    }
}

/// Restores `entries` into `dir`.
pub(crate) fn restore(entries: &[Stored], dir: &Path, options: RestoreOptions) -> Told {
    let target = FilesTarget::new(dir.to_owned(), options);
    target.begin(Amount::default()).unwrap();
    let mut told = Told::default();
    let mut firsts = HashMap::new();
    restore_entries(&target, entries, &SnapshotPath::root(), &mut firsts, &mut told);
    told
}

pub(crate) fn restore_entries(
    target: &FilesTarget,
    entries: &[Stored],
    folder: &SnapshotPath,
    firsts: &mut HashMap<(u64, u64), SnapshotPath>,
    told: &mut Told,
) {
    for entry in entries {
        let path = folder.join(&entry.node.name);
        let outcome = match entry.node.kind {
            NodeKind::Dir { .. } => target.enter(&path, &entry.node).and_then(|()| {
                restore_entries(target, &entry.entries, &path, firsts, told);
                let names: Vec<_> = entry.entries.iter().map(|entry| entry.node.name.clone()).collect();
                let left = target.leave(&path, &entry.node, Some(&names))?;
                told.removed.extend(left.deleted.iter().map(ToString::to_string));
                told.errors.extend(left.kept.iter().chain(&left.problems).map(ToString::to_string));
                Ok(())
            }),
            NodeKind::File { .. } => {
                let metadata = &entry.node.metadata;
                let inode = (metadata.device_id, metadata.inode);
                match firsts.get(&inode) {
                    Some(first) if metadata.links > 1 => target.hard_link(&path, first, &entry.node),
                    _ => {
                        firsts.insert(inode, path.clone());
                        restore_file(target, entry, &path, told)
                    }
                }
            }
            _ => target.special(&path, &entry.node).map(|problems| {
                told.errors.extend(problems.iter().map(ToString::to_string));
            }),
        };
        told.errors.extend(outcome.err().map(|error| error.to_string()));
    }
}

fn restore_file(
    target: &FilesTarget,
    entry: &Stored,
    path: &SnapshotPath,
    told: &mut Told,
) -> Result<(), backup_core::contracts::TargetError> {
    let file = target.file(path, &entry.node)?;
    if file.is_kept() {
        return Ok(());
    }
    let existing = file.existing_bytes();
    for (index, bytes) in entry.bytes.chunks(150_000).enumerate() {
        let offset = index as u64 * 150_000;
        let mut there = vec![0; bytes.len()];
        let is_equal =
            offset + bytes.len() as u64 <= existing && file.read_at(offset, &mut there).is_ok() && there == bytes;
        if !is_equal {
            file.write_at(offset, bytes).unwrap();
            told.written_bytes += bytes.len() as u64;
        }
    }
    let problems = file.finish(&entry.node, entry.bytes.len() as u64)?;
    told.errors.extend(problems.iter().map(ToString::to_string));
    Ok(())
}

/// Everything below `path` that a restore must bring back, as lines that can be compared.
pub(crate) fn describe(path: &Path) -> Vec<String> {
    fn lines(entries: &[Stored], prefix: &str, inodes: &mut HashMap<u64, String>, all: &mut Vec<String>) {
        for Stored { node, bytes, entries } in entries {
            let path = format!("{prefix}/{}", node.name.escape_ascii());
            let m = &node.metadata;
            let first = inodes.entry(m.inode).or_insert_with(|| path.clone()).clone();
            let kind = match &node.kind {
                NodeKind::File { .. } => {
                    format!("file of {} with hash {:x}", bytes.len(), hash(bytes))
                }
                other => format!("{other:?}"),
            };
            let xattrs: std::collections::BTreeMap<_, _> =
                m.xattrs.iter().map(|xattr| (xattr.name.escape_ascii().to_string(), &xattr.value)).collect();
            let owner = (m.uid, m.gid);
            all.push(format!(
                "{path} {kind} {:o} {} {owner:?} {xattrs:?} = {first}",
                m.mode,
                m.mtime.unwrap_or_default()
            ));
            lines(entries, &path, inodes, all);
        }
    }
    let memory = Memory::of(path, &FilesOptions::default());
    assert!(memory.problems.is_empty(), "{:?}", memory.problems);
    let mut all = Vec::new();
    lines(memory.entries(path), "", &mut HashMap::new(), &mut all);
    all
}

fn hash(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// A path of raw bytes below `dir`.
pub(crate) fn below(dir: &Path, name: &[u8]) -> PathBuf {
    dir.join(std::ffi::OsStr::from_bytes(name))
}

/// Whether root runs the tests.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
