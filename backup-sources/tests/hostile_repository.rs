//! A repository of somebody who has the key and means harm: whatever its trees, its index and its packs say, a restore
//! changes nothing outside of its target, does not panic, and brings back what is good beside what is not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use backup_core::cancel::Cancel;
use backup_core::clock::SystemClock;
use backup_core::codec::Proof;
use backup_core::contracts::Codec;
use backup_core::limits::TREE_DEPTH_MAX;
use backup_core::model::{BlobId, BlobKind, Metadata, Node, NodeKind, PackId, Snapshot, Xattr, encode_node};
use backup_core::observe::Silent;
use backup_core::pack::{PackWriter, PackedBlob};
use backup_core::pipeline::{self, RestoreOutcome, restore};
use backup_core::repository::layout::Named;
use backup_core::repository::{
    CreateOptions, Identity, IndexFile, IndexPack, LockMode, Passphrase, Repository, ScryptCost,
};
use backup_core::testing::MemorySink;
use backup_sources::files::{Extra, FilesTarget, Owner, RestoreOptions, SpaceCheck};
use jiff::Timestamp;
use proptest::prelude::*;
use tempfile::TempDir;

/// Every case lies below this folder, so that names and links can point at what must not be touched.
static WORK: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

/// What a hostile tree holds.
#[derive(Clone, Debug)]
enum Entry {
    File {
        content: Vec<Piece>,
        size: u64,
    },
    Folder(Vec<NamedEntry>),
    /// A folder whose tree is not there.
    Hollow,
    /// A folder whose tree is no tree.
    Garbage,
    /// A folder with no tree at all.
    Bare,
    Link(Vec<u8>),
    Fifo,
    Socket,
    Other(String),
}

type NamedEntry = (Vec<u8>, Metadata, Entry);

/// What a hostile file is made of.
#[derive(Clone, Copy, Debug)]
enum Piece {
    Good,
    /// No index lists it.
    Missing,
    /// The index lists it where there is something else.
    OtherContent,
    /// The index promises 4 GiB of it.
    Inflated,
    /// The index says that it lies beyond the end of its pack, at the end of 32 bits.
    BeyondTheEnd,
    /// The index says that it is in a pack that is not there.
    NoPack,
}

const GOOD: &[u8] = b"what is good comes back";

/// A repository in the making.
struct Forge {
    repository: Repository,
    sink: Arc<MemorySink>,
    trees: PackWriter,
}

impl Forge {
    fn new() -> Self {
        let sink = Arc::new(MemorySink::new());
        let options = CreateOptions { cost: Some(ScryptCost { n: 2, r: 1, p: 1 }), ..CreateOptions::default() };
        let identity = Identity { hostname: "host".into(), username: "user".into(), uid: 1, gid: 1, pid: 1 };
        let passphrase = Passphrase::new("x");
        let repository =
            Repository::create(Arc::clone(&sink) as _, &passphrase, &options, identity, Arc::new(SystemClock)).unwrap();
        Self { repository, sink, trees: PackWriter::new(BlobKind::Tree) }
    }

    fn seal(&self, kind: BlobKind, plain: &[u8]) -> (Vec<u8>, Option<u32>) {
        let mut sealed = Vec::new();
        let is_compressed = self.repository.codec(kind, 1, Proof::Off).seal(plain, &mut sealed).unwrap().is_compressed;
        (sealed, is_compressed.then(|| u32::try_from(plain.len()).unwrap()))
    }

    fn tree_of(&mut self, bytes: &[u8]) -> BlobId {
        let (sealed, plain_bytes) = self.seal(BlobKind::Tree, bytes);
        let id = BlobId::of(bytes);
        self.trees.append(id, &sealed, plain_bytes).unwrap();
        id
    }

    fn tree(&mut self, entries: &[NamedEntry]) -> BlobId {
        let nodes: Vec<Node> = entries.iter().map(|entry| self.node(entry)).collect();
        let mut bytes = b"{\"nodes\":[".to_vec();
        for (number, node) in nodes.iter().enumerate() {
            if number > 0 {
                bytes.push(b',');
            }
            encode_node(node, &mut bytes);
        }
        bytes.extend_from_slice(b"]}\n");
        self.tree_of(&bytes)
    }

    fn node(&mut self, (name, metadata, entry): &NamedEntry) -> Node {
        let kind = match entry {
            Entry::File { content, size } => {
                NodeKind::File { size: *size, content: content.iter().map(|piece| piece.id()).collect() }
            }
            Entry::Folder(entries) => NodeKind::Dir { subtree: Some(self.tree(entries)) },
            Entry::Hollow => NodeKind::Dir { subtree: Some(BlobId::of(b"no such tree")) },
            Entry::Garbage => NodeKind::Dir { subtree: Some(self.tree_of(b"{\"nodes\":[{\"name\":7}]}")) },
            Entry::Bare => NodeKind::Dir { subtree: None },
            Entry::Link(target) => NodeKind::Symlink { target: target.clone() },
            Entry::Fifo => NodeKind::Fifo,
            Entry::Socket => NodeKind::Socket,
            Entry::Other(word) => NodeKind::Other(word.clone()),
        };
        Node { name: name.clone(), kind, metadata: metadata.clone() }
    }

    /// Stores everything and gives the snapshot.
    fn finish(mut self, root: BlobId) -> (Repository, Snapshot) {
        let key = self.repository.master_key();
        let mut data = PackWriter::new(BlobKind::Data);
        let (sealed, plain_bytes) = self.seal(BlobKind::Data, GOOD);
        data.append(Piece::Good.id(), &sealed, plain_bytes).unwrap();
        let data = data.finish(key).unwrap();
        let trees = std::mem::replace(&mut self.trees, PackWriter::new(BlobKind::Tree)).finish(key).unwrap();
        let good = data.blobs[0];
        let lies = [
            PackedBlob { id: Piece::OtherContent.id(), ..good },
            PackedBlob { id: Piece::Inflated.id(), plain_bytes: Some(u32::MAX), ..good },
            PackedBlob { id: Piece::BeyondTheEnd.id(), offset: u32::MAX, length: u32::MAX, ..good },
        ];
        let absent = PackedBlob { id: Piece::NoPack.id(), ..good };
        let blobs: Vec<_> = data.blobs.iter().copied().chain(lies).collect();
        let packs = vec![
            IndexPack::new(data.id, &blobs),
            IndexPack::new(trees.id, &trees.blobs),
            IndexPack::new(PackId::of(b"no such pack"), &[absent]),
        ];
        for pack in [data, trees] {
            self.sink.replace(pack.id.key(), pack.bytes);
        }
        self.repository.save_index(&IndexFile { packs, ..IndexFile::default() }).unwrap();
        let snapshot = format!(r#"{{"time":"2026-01-02T03:04:05Z","tree":"{root}","paths":["/"]}}"#);
        (self.repository, serde_json::from_str(&snapshot).unwrap())
    }
}

impl Piece {
    fn id(self) -> BlobId {
        match self {
            Self::Good => BlobId::of(GOOD),
            other => BlobId::of(format!("{other:?}").as_bytes()),
        }
    }
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let times = prop_oneof![Just(Timestamp::MIN), Just(Timestamp::MAX), Just(Timestamp::UNIX_EPOCH)];
    let xattr = prop_oneof![Just("user.a"), Just(""), Just("user.a\0b"), Just("nonsense")];
    // Few inodes, so that second names are frequent; as much of them as may be among different kinds.
    (0..0o10000_u32, times, any::<u32>(), proptest::option::weighted(0.2, xattr), 0..3_u64, 0..3_u64).prop_map(
        |(mode, mtime, uid, xattr, inode, links)| {
            let xattr = xattr.map(|name| Xattr { name: name.as_bytes().to_vec(), value: vec![1; 10] });
            let xattrs = xattr.into_iter().collect();
            Metadata {
                mode,
                mtime: Some(mtime),
                atime: Some(mtime),
                uid,
                gid: uid,
                xattrs,
                inode,
                links,
                ..Metadata::default()
            }
        },
    )
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    let outside = WORK.path().to_str().unwrap().as_bytes().to_vec();
    let hostile =
        [&b".."[..], b".", b"", b"/", b"a/b", b"../outside", b"../outside/file", b"a\0b", b"\xff", &[b'x'; 300]];
    let hostile: Vec<Vec<u8>> = hostile.iter().map(|name| name.to_vec()).chain([outside]).collect();
    prop_oneof![
        3 => prop::sample::select(vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec(), b"d".to_vec()]),
        1 => prop::sample::select(hostile),
    ]
}

fn entries() -> impl Strategy<Value = Vec<NamedEntry>> {
    let piece = prop_oneof![
        4 => Just(Piece::Good), 1 => Just(Piece::Missing), 1 => Just(Piece::OtherContent), 1 => Just(Piece::Inflated),
        1 => Just(Piece::BeyondTheEnd), 1 => Just(Piece::NoPack)
    ];
    let size = prop_oneof![Just(23), Just(0), Just(u64::MAX), Just(1 << 40)];
    let links =
        ["..", "../outside", "../outside/file", "/", ".", "a", "", "\0"].map(|target| target.as_bytes().to_vec());
    let links: Vec<Vec<u8>> = links.into_iter().chain([WORK.path().to_str().unwrap().into()]).collect();
    let leaf = prop_oneof![
        6 => (proptest::collection::vec(piece, 0..4), size).prop_map(|(content, size)| Entry::File { content, size }),
        4 => prop::sample::select(links).prop_map(Entry::Link),
        1 => Just(Entry::Hollow),
        1 => Just(Entry::Garbage),
        1 => Just(Entry::Bare),
        1 => Just(Entry::Fifo),
        1 => Just(Entry::Socket),
        1 => "[a-z\"\n]{0,8}".prop_map(Entry::Other),
    ];
    let entry = leaf.prop_recursive(3, 24, 5, |inner| {
        proptest::collection::vec((names(), metadata(), inner), 0..5).prop_map(Entry::Folder)
    });
    proptest::collection::vec((names(), metadata(), entry), 0..8)
}

/// Everything below `folder`: paths, kinds, permissions, owners, times, contents.
fn described(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        let content = if stat.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let (mode, uid, mtime, links) = (stat.mode(), stat.uid(), stat.mtime_nsec(), stat.nlink());
        found.push(format!("{} {mode:o} {uid} {} {mtime} {links} {content:?}", path.display(), stat.mtime()));
        if stat.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}

/// A folder with something precious, and a target beside it in which links to it lie already.
struct Scene {
    above: TempDir,
}

impl Scene {
    fn new() -> Self {
        let above = tempfile::tempdir_in(WORK.path()).unwrap();
        fs::create_dir_all(above.path().join("outside/folder")).unwrap();
        for name in ["outside/file", "outside/folder/a", "outside/linked"] {
            fs::write(above.path().join(name), "precious").unwrap();
        }
        let scene = Self { above };
        fs::create_dir(scene.target()).unwrap();
        symlink("../outside", scene.target().join("a")).unwrap();
        symlink("../outside/file", scene.target().join("b")).unwrap();
        // The same inode: what is written to it would be written outside.
        fs::hard_link(scene.outside().join("linked"), scene.target().join("c")).unwrap();
        scene
    }

    fn outside(&self) -> PathBuf {
        self.above.path().join("outside")
    }

    fn target(&self) -> PathBuf {
        self.above.path().join("target")
    }
}

fn restored(repository: &Repository, snapshot: &Snapshot, to: &Path, options: RestoreOptions) -> RestoreOutcome {
    let target = FilesTarget::new(to.to_owned(), options);
    // Locks wait for others to be seen, which is tested elsewhere.
    let options = pipeline::RestoreOptions { lock: LockMode::None, verify: true, ..Default::default() };
    restore(repository, snapshot, &target, &options, &Cancel::new(), &Silent).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nothing_outside_of_the_target_changes_and_what_is_good_comes_back(
        mut entries in entries(), deletes: bool
    ) {
        let good = Entry::File { content: vec![Piece::Good, Piece::Good], size: 46 };
        entries.push((b"zz-good".to_vec(), Metadata { mode: 0o600, links: 1, ..Metadata::default() }, good));
        let mut forge = Forge::new();
        let root = forge.tree(&entries);
        let (repository, snapshot) = forge.finish(root);

        let scene = Scene::new();
        let mut before = described(&scene.outside());
        let options = RestoreOptions {
            extra: if deletes { Extra::Delete } else { Extra::Keep },
            owner: Owner::Restorer,
            space: SpaceCheck::Skip,
            ..RestoreOptions::default()
        };
        for _ in 0..2 {
            restored(&repository, &snapshot, &scene.target(), options);
            let mut after = described(&scene.outside());
            // That a name of it in the target is replaced is no change to the file.
            for lines in [&mut before, &mut after] {
                for line in lines.iter_mut().filter(|line| line.contains("/linked ")) {
                    *line = line.replace(" 2 [", " 1 [");
                }
            }
            prop_assert_eq!(&after, &before);
            prop_assert_eq!(fs::read_dir(scene.above.path()).unwrap().count(), 2);
            prop_assert_eq!(fs::read(scene.target().join("zz-good")).unwrap(), [GOOD, GOOD].concat());
        }
        prop_assert_eq!(fs::read_dir(WORK.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_name_with_slashes_does_not_displace_its_neighbours() {
    let mut forge = Forge::new();
    let file = |name: &[u8]| {
        let entry = Entry::File { content: vec![Piece::Good], size: 23 };
        (name.to_vec(), Metadata { mode: 0o600, ..Metadata::default() }, entry)
    };
    let folder = (b"b/c/d".to_vec(), Metadata::default(), Entry::Folder(vec![file(b"lost")]));
    let root = forge.tree(&[file(b"a/b"), folder, file(b"/"), file(b"z")]);
    let (repository, snapshot) = forge.finish(root);
    let target = tempfile::tempdir().unwrap();
    let outcome = restored(&repository, &snapshot, target.path(), RestoreOptions::default());
    assert_eq!(outcome.losses, 3);
    let names: Vec<_> = fs::read_dir(target.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["z"]);
}

#[test]
fn folders_deeper_than_any_system_takes_are_reported_and_not_followed() {
    let mut forge = Forge::new();
    let mut tree = forge.tree(&[]);
    for _ in 0..10_000 {
        let kind = NodeKind::Dir { subtree: Some(tree) };
        let mut bytes = b"{\"nodes\":[".to_vec();
        encode_node(&Node { name: b"d".to_vec(), kind, metadata: Metadata::default() }, &mut bytes);
        bytes.extend_from_slice(b"]}\n");
        tree = forge.tree_of(&bytes);
    }
    let (repository, snapshot) = forge.finish(tree);
    let target = FilesTarget::new(WORK.path().join("never made"), RestoreOptions::default());
    let options = pipeline::RestoreOptions { dry_run: true, ..Default::default() };
    let outcome = restore(&repository, &snapshot, &target, &options, &Cancel::new(), &Silent).unwrap();
    assert_eq!(outcome.losses, 1);
    assert_eq!(outcome.dirs, TREE_DEPTH_MAX as u64 + 1);
}

#[test]
fn sizes_that_nobody_can_add_up_are_refused_before_anything_is_written() {
    let mut forge = Forge::new();
    let huge = |name: &[u8]| {
        let entry = Entry::File { content: vec![Piece::Good], size: u64::MAX };
        (name.to_vec(), Metadata::default(), entry)
    };
    let root = forge.tree(&[huge(b"a"), huge(b"b")]);
    let (repository, snapshot) = forge.finish(root);
    let folder = tempfile::tempdir().unwrap();
    let target = FilesTarget::new(folder.path().join("target"), RestoreOptions::default());
    let outcome =
        restore(&repository, &snapshot, &target, &pipeline::RestoreOptions::default(), &Cancel::new(), &Silent);
    assert!(outcome.unwrap_err().to_string().contains("are left"));
}
