//! The folder of a dump in a snapshot: what is in it, and what has to be known of it before the rest is read.

use std::io::Read as _;

use backup_core::limits::MONGODB_METADATA_BYTES_MAX;
use backup_core::model::{Node, NodeKind, Snapshot, SnapshotPath};
use backup_core::pipeline::{FileReader, TreeReader, find_node};
use backup_core::repository::{Index, Repository};
use backup_core::{Error, ErrorKind};
use backup_sources::databases::manifest::{MANIFEST, Manifest};
use backup_sources::databases::url::Engine;

use super::{Known, is_needed_beforehand};

/// The folder of a dump.
#[derive(Debug)]
pub(crate) struct DumpFolder<'a> {
    repository: &'a Repository,
    index: &'a Index,
    path: SnapshotPath,
    nodes: Vec<Node>,
}

impl<'a> DumpFolder<'a> {
    /// Opens the folder at `path`.
    pub(crate) fn open(
        repository: &'a Repository,
        index: &'a Index,
        snapshot: &Snapshot,
        path: &SnapshotPath,
    ) -> backup_core::Result<Self> {
        let reader = TreeReader::new(repository, index);
        let tree = match find_node(&reader, &snapshot.tree, path)? {
            None => Some(snapshot.tree),
            Some(node) => node.subtree(),
        };
        let tree = tree.ok_or_else(|| {
            Error::invalid(path.to_string(), "not a folder").with_hint("name the folder with a manifest.json")
        })?;
        Ok(Self { repository, index, path: path.clone(), nodes: reader.read(&tree)? })
    }

    /// What has to be known of a dump of `engine` before it is restored.
    pub(crate) fn known(&self, engine: Engine) -> backup_core::Result<Known> {
        let files = self.beforehand(engine)?;
        Ok(Known { manifest: self.manifest(engine, &files)?, files })
    }

    /// The names and texts of the files that [`is_needed_beforehand`] names.
    pub(crate) fn beforehand(&self, engine: Engine) -> backup_core::Result<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        for (name, node) in self.named().filter(|(name, _)| is_needed_beforehand(engine, name)) {
            let (mut text, limit) = (Vec::new(), MONGODB_METADATA_BYTES_MAX);
            let reader = FileReader::of_node(self.repository, self.index, &self.path.join(name.as_bytes()), node)?;
            let read = reader.take(limit + 1).read_to_end(&mut text);
            read.map_err(|error| Error::of_read(name, error))?;
            if text.len() as u64 > limit {
                return Err(Error::new(ErrorKind::Limit("the size of a file that describes a collection"), name));
            }
            files.push((name.to_owned(), text));
        }
        Ok(files)
    }

    /// The manifest. What an engine's own program has written has none, and is told by what it has.
    fn manifest(&self, engine: Engine, files: &[(String, Vec<u8>)]) -> backup_core::Result<Manifest> {
        match self.file(MANIFEST) {
            Err(error) if files.is_empty() => Err(error),
            Err(_) => {
                let name = String::from_utf8_lossy(self.path.name()).into_owned();
                let report = backup_core::contracts::Report {
                    consistency: backup_core::contracts::Consistency::None,
                    ..Default::default()
                };
                Ok(Manifest::new(engine, &name, report))
            }
            Ok(reader) => Manifest::read(reader),
        }
    }

    /// A file of it.
    pub(crate) fn file(&self, name: &str) -> backup_core::Result<FileReader<'a>> {
        let path = self.path.join(name.as_bytes());
        let missing = || Error::new(ErrorKind::NotFound("there is no such file".to_owned()), path.to_string());
        let (_, node) = self.named().find(|(known, _)| *known == name).ok_or_else(missing)?;
        FileReader::of_node(self.repository, self.index, &path, node)
    }

    /// The names and sizes in bytes of its files.
    #[cfg(feature = "mongodb")]
    pub(crate) fn sizes(&self) -> Vec<(String, u64)> {
        let size = |node: &Node| match node.kind {
            NodeKind::File { size, .. } => Some(size),
            _ => None,
        };
        self.named().filter_map(|(name, node)| Some((name.to_owned(), size(node)?))).collect()
    }

    fn named(&self) -> impl Iterator<Item = (&str, &Node)> {
        let files = self.nodes.iter().filter(|node| matches!(node.kind, NodeKind::File { .. }));
        files.filter_map(|node| Some((str::from_utf8(&node.name).ok()?, node)))
    }
}
