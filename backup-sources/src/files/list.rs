//! Looks at one part of a folder: lists it, decides what is left out, asks the system about the rest.
//!
//! Runs on any thread, keeps no state but what it is given, and opens no more than two files at a time.

use std::collections::HashSet;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, PoisonError, RwLock};

use backup_core::contracts::SourceError;
use backup_core::limits;
use backup_core::model::{Node, NodeKind, SnapshotPath, Xattr};
use backup_core::observe::{Problem, Severity};
use rustix::fs::{AtFlags, FileType, Statx, readlinkat, statx};
use rustix::io::Errno;

use super::ahead::Slot;
use super::filter::{Count, Filter};
use super::gitignore::Ignores;
use super::metadata::{FIELDS, Nodes, device_number_of, device_of};
use super::names::{self, Names};
use super::options::{FileSystems, Gitignore};
use super::place::{Base, PATH_BYTES_END, Place};
use super::plan::Plan;
use super::read::FileContent;
use super::xattrs;

/// What every part of a walk needs.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) filter: Filter,
    pub(super) nodes: Nodes,
    /// Devices whose file system has no extended attributes.
    pub(super) without_xattrs: RwLock<HashSet<u64>>,
}

/// A part of a folder that is to be looked at.
#[derive(Debug)]
pub(super) enum Part {
    /// A folder on the way to a source: only what the plan names is taken from it. The path is empty for the root.
    Planned { path: Vec<u8>, plan: Arc<Plan>, depth: usize },
    /// A folder from its beginning.
    Whole(Whole),
    /// The entries of a listed folder from this index on.
    More { listed: Arc<Listed>, from: usize },
}

/// A folder of which everything is taken that is not left out.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) place: Place,
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) depth: usize,
    /// The only device that is not left out, when one was asked for.
    pub(super) device: Option<u64>,
    pub(super) ignores: Option<Arc<Ignores>>,
}

/// A folder whose names are known.
#[derive(Debug)]
pub(super) struct Listed {
    folder: Whole,
    names: Names,
    is_whole: bool,
}

/// What was found in a part.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) found: Vec<Found>,
    /// The next part of the same folder.
    pub(super) next: Option<Arc<Slot>>,
    /// What is wrong with the folder itself.
    pub(super) problems: Vec<Problem>,
    /// The folder is no longer there.
    pub(super) vanished: bool,
}

/// An entry, or what happened instead.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are nodes, and a box for each would cost more")]
pub(super) enum Found {
    /// An entry.
    Node(Node, What),
    /// Something that could not be read.
    Problem(Problem),
    /// A source is not there any more.
    Failed(SourceError),
}

/// What is to be done with an entry.
#[derive(Debug)]
pub(super) enum What {
    /// Enter it; with nothing to be looked at in it, leave it empty.
    Folder(Option<Arc<Slot>>),
    /// Its bytes are to be read.
    File(FileContent),
    /// Nothing.
    Plain,
}

/// Looks at `part`. `announce` hears of further parts that will be wanted, in the order in which they will be, except
/// that the next part of the same folder is announced before the folders in this one.
pub(super) fn read(walk: &Arc<Walk>, part: Part, announce: &mut dyn FnMut(Vec<Arc<Slot>>)) -> Listing {
    let mut listing = Listing::default();
    let (listed, folder, from) = match part {
        Part::More { listed, from } => match listed.folder.place.open_folder() {
            Ok(folder) => (listed, folder, from),
            Err(error) => {
                listing.problems.push(problem("list", listed.folder.place.snapshot_path(), error));
                return listing;
            }
        },
        Part::Whole(whole) => match walk.list(whole, &mut listing) {
            Some((listed, folder)) => (Arc::new(listed), folder, 0),
            None => return listing,
        },
        Part::Planned { path, plan, depth } => {
            let base = match Base::open(&path) {
                Ok(base) => base,
                Err(error) => {
                    let path = SnapshotPath::parse(&path);
                    listing.found.push(Found::Failed(SourceError::of_io("open", path, &error.into())));
                    return listing;
                }
            };
            let Ok(folder) = base.fd.try_clone() else {
                let error = SourceError::new("open", SnapshotPath::parse(&path), "too many open files");
                listing.found.push(Found::Failed(error));
                return listing;
            };
            let mut names = Names::default();
            plan.children.keys().for_each(|name| names.push(name, FileType::Unknown));
            let place = Place::of(base);
            let whole = Whole { place, plan: Some(plan), depth, device: None, ignores: None };
            (Arc::new(Listed { folder: whole, names, is_whole: false }), folder, 0)
        }
    };
    let end = listed.names.count().min(from + limits::WALK_BATCH_ENTRIES);
    if end < listed.names.count() {
        let next = Slot::new(Part::More { listed: Arc::clone(&listed), from: end });
        announce(vec![Arc::clone(&next)]);
        listing.next = Some(next);
    }
    listing.found.reserve(end - from);
    let mut part = PartReader::new(walk, &listed, &folder);
    for index in from..end {
        part.look_at(index, &mut listing.found);
    }
    let folders = listing.found.iter().filter_map(|found| match found {
        Found::Node(_, What::Folder(slot)) => slot.clone(),
        _ => None,
    });
    announce(folders.collect());
    listing
}

/// The problem that an error of the system is. Something that is no longer there is worth knowing, but no loss: it
/// would not be there either had the walk come by a moment later.
pub(super) fn problem(action: &'static str, path: SnapshotPath, error: Errno) -> Problem {
    let severity = if error == Errno::NOENT { Severity::Note } else { Severity::Loss };
    Problem { path, action, reason: std::io::Error::from(error).to_string(), severity }
}

impl Walk {
    /// The attributes of something on `device`.
    pub(super) fn xattrs(
        &self,
        device: u64,
        read: impl FnOnce() -> Result<Vec<Xattr>, Errno>,
    ) -> Result<Vec<Xattr>, Errno> {
        if self.without_xattrs.read().unwrap_or_else(PoisonError::into_inner).contains(&device) {
            return Ok(Vec::new());
        }
        match read() {
            Err(Errno::NOTSUP) => {
                self.without_xattrs.write().unwrap_or_else(PoisonError::into_inner).insert(device);
                Ok(Vec::new())
            }
            outcome => outcome,
        }
    }

    fn list(&self, mut whole: Whole, listing: &mut Listing) -> Option<(Listed, OwnedFd)> {
        let folder = match whole.place.open_folder() {
            Ok(folder) => folder,
            Err(error) => {
                listing.vanished = error == Errno::NOENT;
                listing.problems.push(problem("list", whole.place.snapshot_path(), error));
                return None;
            }
        };
        let (mut names, outcome) = names::list(&folder);
        if let Err(error) = outcome {
            listing.problems.push(problem("list", whole.place.snapshot_path(), error));
        }
        let marker = self.filter.markers.iter().find(|marker| {
            names.find(&marker.name).is_some() && begins_with(&whole.place, &marker.name, &marker.signature)
        });
        if let Some(marker) = marker {
            self.filter.counts.marked_folders.add(1);
            names.keep_only(&marker.name);
        }
        if self.filter.gitignore == Gitignore::Honoured
            && names.find(b".gitignore").is_some()
            && let Ok(text) = read_small(&whole.place, b".gitignore", limits::IGNORE_FILE_BYTES_MAX)
        {
            whole.ignores = Ignores::below(whole.ignores.take(), &whole.place.absolute(), &text);
        }
        Some((Listed { folder: whole, names, is_whole: true }, folder))
    }
}

fn begins_with(folder: &Place, name: &[u8], signature: &[u8]) -> bool {
    signature.is_empty() || read_small(folder, name, signature.len()).is_ok_and(|start| start == signature)
}

/// The first bytes of a regular file.
fn read_small(folder: &Place, name: &[u8], bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let file = std::fs::File::from(folder.open_file(name)?);
    if !file.metadata()?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(bytes_max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Looks at the entries of one part, with buffers that they share.
struct PartReader<'a> {
    walk: &'a Arc<Walk>,
    listed: &'a Arc<Listed>,
    folder: &'a OwnedFd,
    /// The absolute path of the folder with a slash, and after it the name at hand.
    path: Vec<u8>,
    path_folder_bytes: usize,
    /// The same through the open folder, however long the path is.
    fd_path: Vec<u8>,
    fd_path_folder_bytes: usize,
}

impl<'a> PartReader<'a> {
    fn new(walk: &'a Arc<Walk>, listed: &'a Arc<Listed>, folder: &'a OwnedFd) -> Self {
        let mut path = listed.folder.place.absolute();
        path.push(b'/');
        let fd_path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
        let (path_folder_bytes, fd_path_folder_bytes) = (path.len(), fd_path.len());
        Self { walk, listed, folder, path, path_folder_bytes, fd_path, fd_path_folder_bytes }
    }

    fn look_at(&mut self, index: usize, found: &mut Vec<Found>) {
        let (name, listed_kind) = self.listed.names.get(index);
        self.path.truncate(self.path_folder_bytes);
        self.path.extend_from_slice(name);
        let plan = self.listed.folder.plan.as_ref().and_then(|plan| plan.children.get(name));
        let is_source = plan.is_some_and(|plan| plan.is_source);

        let mut known = None;
        let kind = match listed_kind {
            FileType::Unknown => match self.stat(name, plan) {
                Ok(stat) => FileType::from_raw_mode(known.insert(stat).stx_mode.into()),
                Err(error) => return found.push(self.failure("look at", error, plan)),
            },
            kind => kind,
        };
        let left_out = if is_source || !self.listed.is_whole { None } else { self.left_out_by(kind) };
        if let Some(count) = left_out {
            if plan.is_none() {
                return count.add(1);
            }
        }
        let stat = match known.map_or_else(|| self.stat(name, plan), Ok) {
            Ok(stat) => stat,
            Err(error) => return found.push(self.failure("look at", error, plan)),
        };
        let is_on_the_way = plan.is_some() && !is_source && (left_out.is_some() || !self.listed.is_whole);
        self.take(name, &stat, plan, is_on_the_way, found);
    }

    /// A folder on the way to a source may be reached through a link, as the person who named the source meant it.
    /// Everything else is what it is.
    fn stat(&self, name: &[u8], plan: Option<&Arc<Plan>>) -> Result<Statx, Errno> {
        let follow = !self.listed.is_whole && plan.is_some_and(|plan| !plan.is_source);
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        statx(self.folder, name, flags, FIELDS)
    }

    fn left_out_by(&self, kind: FileType) -> Option<&'a Count> {
        let filter = &self.walk.filter;
        if !filter.excludes.is_empty() && filter.excludes.leaves_out(&self.path) {
            return Some(&filter.counts.by_pattern);
        }
        match &self.listed.folder.ignores {
            Some(ignores) if ignores.ignores(&self.path, kind == FileType::Directory) => {
                Some(&filter.counts.by_gitignore)
            }
            _ => None,
        }
    }

    fn take(
        &mut self,
        name: &[u8],
        stat: &Statx,
        plan: Option<&Arc<Plan>>,
        is_on_the_way: bool,
        found: &mut Vec<Found>,
    ) {
        let folder = &self.listed.folder;
        let filter = &self.walk.filter;
        let is_source = plan.is_some_and(|plan| plan.is_source);
        let device = device_of(stat);
        let is_elsewhere = !is_source && !is_on_the_way && folder.device.is_some_and(|expected| expected != device);
        let mut content = None;
        let mut is_folder = false;
        let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::Directory => {
                is_folder = true;
                NodeKind::Dir { subtree: None }
            }
            _ if is_elsewhere => return filter.counts.other_file_systems.add(1),
            FileType::RegularFile => {
                if stat.stx_size > filter.file_bytes_max && !is_source {
                    filter.counts.large_files.add(1);
                    return filter.counts.large_files_bytes.add(stat.stx_size);
                }
                content = Some(FileContent::new(Arc::clone(self.walk), folder.place.clone(), name));
                NodeKind::File { size: stat.stx_size, content: Vec::new() }
            }
            FileType::Symlink => match readlinkat(self.folder, name, Vec::new()) {
                Ok(target) => NodeKind::Symlink { target: target.into_bytes() },
                Err(error) => return found.push(self.failure("read link", error, plan)),
            },
            FileType::BlockDevice => NodeKind::BlockDevice { device: device_number_of(stat) },
            FileType::CharacterDevice => NodeKind::CharDevice { device: device_number_of(stat) },
            FileType::Fifo => NodeKind::Fifo,
            FileType::Socket => return filter.counts.sockets.add(1),
            FileType::Unknown => {
                let reason = "it is of a kind that cannot be stored".to_owned();
                let (path, action) = (SnapshotPath::parse(&self.path), "store");
                return found.push(Found::Problem(Problem { path, action, reason, severity: Severity::Loss }));
            }
        };
        if let Some(plan) = plan
            && !is_folder
            && !plan.children.is_empty()
        {
            let reason = "it is not a folder itself, so what was asked for below it is left out".to_owned();
            let path = SnapshotPath::parse(&self.path);
            found.push(Found::Problem(Problem { path, action: "enter", reason, severity: Severity::Loss }));
        }
        let xattrs = self.xattrs(name, device, found);
        let slot = if is_folder { self.slot(name, plan, device, is_on_the_way, is_elsewhere, found) } else { None };
        let node = self.walk.nodes.node(name, kind, stat, xattrs);
        found.push(Found::Node(
            node,
            match content {
                Some(content) => What::File(content),
                None if is_folder => What::Folder(slot),
                None => What::Plain,
            },
        ));
    }

    fn slot(
        &self,
        name: &[u8],
        plan: Option<&Arc<Plan>>,
        device: u64,
        is_on_the_way: bool,
        is_elsewhere: bool,
        found: &mut Vec<Found>,
    ) -> Option<Arc<Slot>> {
        let folder = &self.listed.folder;
        let depth = folder.depth + 1;
        if is_on_the_way && let Some(plan) = plan {
            return Some(Slot::new(Part::Planned { path: self.path.clone(), plan: Arc::clone(plan), depth }));
        }
        if is_elsewhere {
            self.walk.filter.counts.other_file_systems.add(1);
            // A source of its own may lie on the other file system.
            let plan = Arc::clone(plan?);
            return Some(Slot::new(Part::Planned { path: self.path.clone(), plan, depth }));
        }
        if depth >= limits::TREE_DEPTH_MAX {
            let reason = format!("it is {depth} levels deep, and what is in it is left out");
            let path = SnapshotPath::parse(&self.path);
            found.push(Found::Problem(Problem { path, action: "enter", reason, severity: Severity::Loss }));
            return None;
        }
        let is_source = plan.is_some_and(|plan| plan.is_source);
        let one = self.walk.filter.file_systems == FileSystems::One;
        Some(Slot::new(Part::Whole(Whole {
            place: folder.place.join(name),
            plan: plan.filter(|plan| !plan.children.is_empty()).cloned(),
            depth,
            device: if is_source { one.then_some(device) } else { folder.device },
            ignores: if is_source { None } else { folder.ignores.clone() },
        })))
    }

    fn xattrs(&mut self, name: &[u8], device: u64, found: &mut Vec<Found>) -> Vec<Xattr> {
        // The system takes no folder for these calls. The way through `/proc` costs as much again as the call, and is
        // needed only where a path is longer than the system takes.
        let path = if self.path.len() < PATH_BYTES_END {
            &self.path
        } else {
            self.fd_path.truncate(self.fd_path_folder_bytes);
            self.fd_path.extend_from_slice(name);
            &self.fd_path
        };
        match self.walk.xattrs(device, || xattrs::read(path)) {
            Ok(xattrs) => xattrs,
            Err(error) => {
                let path = SnapshotPath::parse(&self.path);
                found.push(Found::Problem(problem("read extended attributes of", path, error)));
                Vec::new()
            }
        }
    }

    fn failure(&self, action: &'static str, error: Errno, plan: Option<&Arc<Plan>>) -> Found {
        let path = SnapshotPath::parse(&self.path);
        match plan {
            Some(_) => Found::Failed(SourceError::of_io(action, path, &error.into())),
            None => Found::Problem(problem(action, path, error)),
        }
    }
}
